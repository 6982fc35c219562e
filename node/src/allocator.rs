//! The programs' allocator, with the feature `mimalloc`: imports of digests take 0.7 of the CPU time that they take with glibc's, and freeing a flush of a
//! million series holds others up for some 10 ms (now and then 40). glibc's as it comes, to join small blocks again, locks out every thread of an arena for
//! 100 ms and more. See `docs/adr/0004-the-programs-bring-their-allocator.md`.

// A fuzzer's sanitizer brings its own.
#[cfg(all(feature = "mimalloc", not(fuzzing)))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the allocator has of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Committed {
    /// Bytes that there is memory behind: handed out to the program, or kept for its next use.
    pub(crate) committed: u64,
    /// The most that there was.
    pub(crate) peak_committed: u64,
}

/// Asks it; `None` where the allocator is the system's.
#[cfg(all(feature = "mimalloc", not(fuzzing)))]
#[allow(
    unsafe_code,
    reason = "the allocator has these numbers, and no safe crate asks it for them"
)]
pub(crate) fn committed() -> Option<Committed> {
    let (mut elapsed, mut user, mut system) = (0, 0, 0);
    let (mut resident, mut peak_resident) = (0, 0);
    let (mut committed, mut peak_committed, mut faults) = (0, 0, 0);
    // SAFETY: each points to a number of the right type that lives long enough, and it may be called by any thread at any time.
    unsafe {
        libmimalloc_sys::mi_process_info(
            &raw mut elapsed,
            &raw mut user,
            &raw mut system,
            &raw mut resident,
            &raw mut peak_resident,
            &raw mut committed,
            &raw mut peak_committed,
            &raw mut faults,
        );
    }
    Some(Committed {
        committed: committed as u64,
        peak_committed: peak_committed as u64,
    })
}

/// Gives what this thread has freed back to the system now, rather than when there is time. It costs some 100 µs and more.
pub fn give_back() {
    #[cfg(all(feature = "mimalloc", not(fuzzing)))]
    #[allow(unsafe_code, reason = "no safe crate tells the allocator")]
    // SAFETY: takes a plain value, and may be called by any thread at any time.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}

/// Asks it; `None` where the allocator is the system's.
#[cfg(not(all(feature = "mimalloc", not(fuzzing))))]
pub(crate) fn committed() -> Option<Committed> {
    None
}
