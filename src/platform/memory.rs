//! How the process takes memory and gives it back.

#[cfg(target_env = "gnu")]
use crate::platform::limits;

/// Allocations of this size and more are mapped on their own: 1 MiB, far above anything that is allocated often.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES: libc::c_int = 1 << 20;

/// Parts that the allocator may have where address space is scarce. It reserves 64 MiB for each, and would have eight for each
/// processor: all of a GiB on two.
#[cfg(target_env = "gnu")]
const ARENAS_MAX: libc::c_int = 2;

/// Sets the allocator up: has large allocations returned to the system when they are freed. Without it glibc learns from the first of them to
/// keep the next ones, and aligned ones, as the check of a password needs, are then never used again: twenty checks of
/// 7 MiB left 140 MiB behind. And leaves address space for components where that is limited. To be called once, before there
/// are threads.
pub fn set_up() {
    #[cfg(target_env = "gnu")]
    {
        // JUSTIFICATION: the C library has no other way to say it, short of the environment of the process.
        // SAFETY: mallopt reads its two numbers and sets a parameter of the allocator; no other thread allocates yet.
        let set = |parameter, value| unsafe { libc::mallopt(parameter, value) };
        let taken = set(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
        debug_assert_eq!(taken, 1, "a megabyte is within the bounds that mallopt(3) names");
        if limits::is_address_space_limited() {
            let taken = set(libc::M_ARENA_MAX, ARENAS_MAX);
            debug_assert_eq!(taken, 1, "any number of arenas is within the bounds that mallopt(3) names");
        }
    }
}
