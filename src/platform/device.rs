//! Device files.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::unistd::{AccessFlags, access};
use tokio::io::unix::AsyncFd;

/// Whether this process may read and write a device file, without opening it.
pub fn may_use(path: &Path) -> io::Result<()> {
    access(path, AccessFlags::R_OK | AccessFlags::W_OK).map_err(io::Error::from)
}

/// A file that can be waited for.
pub fn watch(file: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // JUSTIFICATION: the runtime cannot know that the type keeps its file open under one number; there is no safe way.
    // SAFETY: an `OwnedFd` owns its open file, gives the same number always, and is closed when it is dropped, not before.
    #[expect(unsafe_code, reason = "registering a file with the runtime")]
    let watched = unsafe { AsyncFd::register(file) };
    watched.map_err(io::Error::from)
}
