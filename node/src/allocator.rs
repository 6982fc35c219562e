//! How the C library's allocator is set up.
//!
//! glibc keeps small blocks that are given back in lists of their own ("fast bins"), and puts them together with their neighbours only when a larger block is
//! asked for: all at once, under the lock of the arena. After a flush has given back a million series, whoever asks next waits for that, and everybody else
//! of the same arena with it: 100 ms and more. Without these lists each block is put together as it is given back.

/// Settles it; to be called before there are threads.
pub(crate) fn settle() {
    glibc::without_fast_bins();
}

#[cfg(target_env = "gnu")]
mod glibc {
    #[allow(
        unsafe_code,
        reason = "the C library takes this from the environment or from here, and no safe crate says it"
    )]
    pub(super) fn without_fast_bins() {
        // SAFETY: takes and returns plain numbers, and concerns only blocks that are given back later.
        let settled = unsafe { nix::libc::mallopt(nix::libc::M_MXFAST, 0) };
        debug_assert_eq!(settled, 1);
    }
}

#[cfg(not(target_env = "gnu"))]
mod glibc {
    pub(super) fn without_fast_bins() {}
}
