//! Keeping a daemon small: there is one for every pod of a node, and it does nothing most of its life.

/// Sets the allocator up, before anything else runs. Threads of the blocking pool come and go; with arenas of their own
/// each would leave some pages behind, and large buffers would be kept.
pub fn frugal() {
    // SAFETY: called first thing in the process, before there is a second thread; mallopt(3) only sets parameters.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 * 1024);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 * 1024);
    }
}

/// Gives back what the allocator keeps, for a daemon that has become idle.
pub fn trim() {
    // SAFETY: malloc_trim(3) may be called at any time, by any thread.
    unsafe { libc::malloc_trim(0) };
}
