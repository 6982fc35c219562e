//! How the C library's allocator is set up, so that a flush which gives back a million series holds nobody else up.
//!
//! - glibc keeps small blocks that are given back in lists of their own ("fast bins"), and puts them together with their neighbours only when a larger block
//!   is asked for: all at once, under the lock of the arena. Whoever asks next waits for that, and everybody else of the same arena with it: 100 ms and more.
//!   Without these lists each block is put together as it is given back.
//! - Where the free memory at the end of an arena exceeds a threshold, it goes back to the system, again under the arena's lock, only to be asked for again,
//!   page by page, in the next interval. So an arena may keep as much as an interval of a million series takes.

/// Settles it; to be called before there are threads.
pub(crate) fn settle() {
    glibc::settle();
}

#[cfg(target_env = "gnu")]
mod glibc {
    use nix::libc::{M_MMAP_THRESHOLD, M_MXFAST, M_TRIM_THRESHOLD, mallopt};

    /// Free memory at the end of an arena that is kept, in bytes.
    const KEPT: i32 = 256 << 20;

    /// From this size on, in bytes, a block is memory of its own and goes back to the system at once. The largest value that there is: bodies of requests, and the
    /// maps of shards, are to be reused.
    const OF_ITS_OWN: i32 = 32 << 20;

    #[allow(
        unsafe_code,
        reason = "the C library takes this from the environment or from here, and no safe crate says it"
    )]
    pub(super) fn settle() {
        for (setting, value) in [
            (M_MXFAST, 0),
            (M_TRIM_THRESHOLD, KEPT),
            (M_MMAP_THRESHOLD, OF_ITS_OWN),
        ] {
            // SAFETY: takes and returns plain numbers, and concerns only blocks that are asked for or given back later.
            let settled = unsafe { mallopt(setting, value) };
            debug_assert_eq!(settled, 1, "{setting}");
        }
    }
}

#[cfg(not(target_env = "gnu"))]
mod glibc {
    pub(super) fn settle() {}
}
