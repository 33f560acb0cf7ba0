//! A SQLite VFS named `frond`: the unix VFS, with every written byte counted and, in tests, seen and made to fail.
//!
//! ```text
//! SQLite ──▶ frond: count, ask the tap ──▶ unix ──▶ kernel
//!                        └▶ tests: record the change, or fail it
//! ```
//! What for: flash wear is a budget, and only the VFS sees what SQLite really writes: pages, WAL frames and checkpoints,
//! not rows. The file system's own metadata comes on top and is measured, not counted.
//! State: counters, per database and in total, as atomics; the list of taps. A file that was opened without a tap never
//! looks for one again, so that the cost is one branch and two additions per write.
//! Power loss: nothing is kept; counters begin at zero with the process.
//! Bounds: one set of counters per database path ever opened in the process, which is two in a gateway.
//!
//! The wrapping is the one that SQLite's manual describes for shims: the memory that SQLite gives for a file holds our part
//! first and the unix VFS's part behind it. Methods that the unix VFS lacks for a file are lacking in ours, so that SQLite
//! draws the same conclusions (no shared memory: no WAL without exclusive locking; no fetch: no memory mapping). Rejected:
//! replacing the unix VFS's system calls, which is process-wide and does not say which kind of file a descriptor is.

mod count;
#[expect(unsafe_code, reason = "SQLite calls a VFS through C function pointers; see the module")]
mod file;
#[expect(unsafe_code, reason = "SQLite calls a VFS through C function pointers; see the module")]
mod shim;
mod tap;
#[cfg(test)]
mod tests;

use std::ffi::CStr;

pub use count::{Counts, FileCounters, FileKind, WriteCounters, counters, counters_of};
pub use shim::register;
pub(in crate::platform) use tap::tell;
pub use tap::{Change, DirectorySync, Event, Failure, Fault, Installed, LASTING, Step, Tap, install};

/// The name to open databases with.
pub const NAME: &CStr = c"frond";

/// Why the VFS cannot be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VfsError {
    /// SQLite was built without a VFS for this system.
    #[error("sqlite has no default vfs to wrap")]
    NoDefault,
    /// SQLite did not take it.
    #[error("sqlite refused the vfs with code {code}")]
    Refused {
        /// SQLite's result code.
        code: i32,
    },
}
