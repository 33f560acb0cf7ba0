//! How the process gives memory back.

/// Allocations of this size and more are mapped on their own: 1 MiB, far above anything that is allocated often.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES: libc::c_int = 1 << 20;

/// Has large allocations returned to the system when they are freed. Without it glibc learns from the first of them to
/// keep the next ones, and aligned ones, as the check of a password needs, are then never used again: twenty checks of
/// 7 MiB left 140 MiB behind. To be called once, before there are threads.
pub fn return_large_allocations() {
    #[cfg(target_env = "gnu")]
    {
        // JUSTIFICATION: the C library has no other way to say it, short of the environment of the process.
        // SAFETY: mallopt reads its two numbers and sets a parameter of the allocator; no other thread allocates yet.
        let taken = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES) };
        debug_assert_eq!(taken, 1, "a megabyte is within the bounds that mallopt(3) names");
    }
}
