//! Room on a file system. Owns nothing, keeps nothing.

use std::path::{Path, PathBuf};

/// Why the room is not known.
#[derive(Debug, thiserror::Error)]
#[error("the file system of {path} cannot be asked")]
pub struct DiskError {
    path: PathBuf,
    #[source]
    source: nix::Error,
}

/// Bytes that this user may still write to the file system of `path`.
pub fn free_bytes(path: &Path) -> Result<u64, DiskError> {
    match nix::sys::statvfs::statvfs(path) {
        Ok(room) => Ok(room.blocks_available() * room.fragment_size()),
        Err(source) => Err(DiskError { path: path.to_owned(), source }),
    }
}

/// Whether nobody can write to the file system of `path` as it is mounted: the root of an image.
pub fn is_read_only(path: &Path) -> Result<bool, DiskError> {
    match nix::sys::statvfs::statvfs(path) {
        Ok(system) => Ok(system.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY)),
        Err(source) => Err(DiskError { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_room_and_a_missing_one_is_an_error() {
        // Goal: bytes, not blocks. Method: a temporary folder has more than a megabyte and less than an exabyte.
        let folder = tempfile::tempdir().unwrap();
        let free = free_bytes(folder.path()).unwrap();
        assert!((1 << 20..1 << 60).contains(&free), "{free}");
        let error = free_bytes(&folder.path().join("missing")).unwrap_err();
        assert_eq!(error.source, nix::Error::ENOENT);
    }

    #[test]
    fn what_can_be_written_to_is_not_read_only() {
        // Goal: a folder of somebody's is not taken for an image. Method: a temporary folder, and one that is not there; the
        // other side is the image's, where a scenario looks at it.
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_read_only(folder.path()).unwrap());
        assert!(is_read_only(&folder.path().join("missing")).is_err());
    }
}
