//! One frond per data directory: a lock on a file in it, held as long as the process lives.
//!
//! The kernel gives the lock back however the process ends, so that there is nothing to clean up after a power cut. The
//! file's content, the process that has it, is for people; only the lock counts. Children do not inherit it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::log::chain;

const FILE: &str = "frond.lock";

/// Enough for a process number and a line end.
const PID_BYTES_MAX: u64 = 16;

/// The right to use a data directory, until dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
}

impl Drop for DirectoryLock {
    /// A child between fork and exec has a copy of the file, and with it the lock: closing ours would not give it back.
    fn drop(&mut self) {
        // Without effect only where locks are not supported at all.
        let _ = self.file.unlock();
    }
}

/// Why the data directory may not be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The directory is missing or not ours to write.
    #[error("{path} cannot be opened for writing")]
    Open {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("data directory {directory} is in use by another frond{}", process(.pid))]
    Held {
        /// Which directory.
        directory: PathBuf,
        /// Who, if the file says so.
        pid: Option<u32>,
    },
    /// The file system has no locks, or the like.
    #[error("{path} cannot be locked")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Takes a data directory, at once or not at all.
pub fn lock(directory: &Path) -> Result<DirectoryLock, LockError> {
    let path = directory.join(FILE);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.map_err(|source| LockError::Open { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(LockError::Held { directory: directory.to_owned(), pid: holder(&mut file) });
        }
        Err(TryLockError::Error(source)) => return Err(LockError::Lock { path, source }),
    }
    // On a full disk the number is missing, and the lock still good.
    let noted =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = noted {
        tracing::debug!(error = %chain(&error), "the lock file does not name this process");
    }
    Ok(DirectoryLock { file })
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn process(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(", process {pid}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_taken_once_until_it_is_given_back() {
        // Goal: two frond cannot share a directory, and the error says who has it. Method: lock twice, drop, lock again.
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        let error = lock(folder.path()).unwrap_err();
        let expected = format!(
            "data directory {} is in use by another frond, process {}",
            folder.path().display(),
            std::process::id()
        );
        assert_eq!(error.to_string(), expected);
        drop(held);
        lock(folder.path()).unwrap();
    }

    #[test]
    fn a_lock_file_left_behind_is_no_lock() {
        // Goal: a power cut leaves nothing to clean up. Method: a file with a longer number than ours, and nobody at it.
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "4294967295\n").unwrap();
        let _held = lock(folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_missing_directory_is_not_made() {
        // Goal: a mistyped path is an error, not a new data directory. Method: lock one that is not there.
        let folder = tempfile::tempdir().unwrap();
        let error = lock(&folder.path().join("missing")).unwrap_err();
        assert!(
            matches!(error, LockError::Open { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
        );
    }
}
