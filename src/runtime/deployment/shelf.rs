//! The files of deployed versions, named after what is in them.
//!
//! ```text
//! <data>/components/<SHA-256 of the .wasm>.wasm
//! ```
//! A file appears whole or not at all: it is written under another name, synced and renamed, and the folder is synced
//! before anything refers to it. Whoever opens one compares its digest first ([`crate::runtime::code`]). Owned by the
//! thread that opens components, which also removes what no checkpoint refers to any more.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::record::Digest;
use crate::platform::files;
use crate::runtime::artifact::WASM_BYTES_MAX;

/// Name of a file in the making. There is one writer.
const SCRATCH: &str = "new.tmp";

/// Why a version could not be kept.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ShelfError {
    /// It is larger than any component should be.
    #[error("it has {bytes} bytes, more than the {WASM_BYTES_MAX} a component may have")]
    TooLarge { bytes: usize },
    /// The folder cannot be written to.
    #[error("cannot write to {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The folder.
#[derive(Debug, Clone)]
pub(in crate::runtime) struct Shelf {
    dir: PathBuf,
}

// === impl Shelf ===

impl Shelf {
    /// Below the data folder. It is made with the first file.
    pub(in crate::runtime) fn below(data_dir: &Path) -> Shelf {
        Shelf { dir: data_dir.join("components") }
    }

    /// Where a version's file is, if it is there.
    pub(in crate::runtime) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{digest}.wasm"))
    }

    /// Keeps a version.
    pub(in crate::runtime) fn put(&self, bytes: &[u8]) -> Result<Digest, ShelfError> {
        if bytes.len() as u64 > WASM_BYTES_MAX {
            return Err(ShelfError::TooLarge { bytes: bytes.len() });
        }
        let digest = Digest::of(bytes);
        let write = |source| ShelfError::Write { path: self.dir.clone(), source };
        files::make_folder(&self.dir).map_err(write)?;
        files::write_whole(&self.dir.join(SCRATCH), &self.path(&digest), bytes).map_err(write)?;
        Ok(digest)
    }

    /// Removes everything else. What cannot be removed is tried again the next time.
    pub(in crate::runtime) fn sweep(&self, keep: &BTreeSet<Digest>) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).and_then(Digest::parse);
            let kept = stem.is_some_and(|digest| keep.contains(&digest) && path == self.path(&digest));
            if !kept {
                tracing::debug!(file = %path.display(), "nothing refers to this version any more, removing it");
                let _ = files::remove(&path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_kept_whole_under_its_digest_until_nothing_refers_to_it() {
        // Goal: what is put can be found, twice is once, and only what is not referred to goes. Method: two versions and
        // what a crash left; a sweep.
        let data = tempfile::tempdir().unwrap();
        let shelf = Shelf::below(data.path());
        shelf.sweep(&BTreeSet::new());
        let one = shelf.put(b"one").unwrap();
        let two = shelf.put(b"two").unwrap();
        assert_eq!(shelf.put(b"one").unwrap(), one);
        assert_eq!(one.as_str(), "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed");
        assert_eq!(fs::read(shelf.path(&two)).unwrap(), b"two");
        fs::write(data.path().join("components").join(SCRATCH), b"half").unwrap();
        shelf.sweep(&BTreeSet::from([two.clone()]));
        let left: Vec<_> = fs::read_dir(data.path().join("components")).unwrap().flatten().collect();
        assert_eq!(left.iter().map(|file| file.path()).collect::<Vec<_>>(), [shelf.path(&two)]);
    }

    #[test]
    fn what_is_too_large_or_cannot_be_written_is_refused() {
        // Goal: the reason is told and nothing is left. Method: a byte too many; a file where the folder should be.
        let data = tempfile::tempdir().unwrap();
        let shelf = Shelf::below(data.path());
        let large = vec![0; WASM_BYTES_MAX as usize + 1];
        assert!(matches!(shelf.put(&large), Err(ShelfError::TooLarge { .. })));
        assert!(!data.path().join("components").exists());
        fs::write(data.path().join("components"), b"").unwrap();
        assert!(matches!(shelf.put(b"one"), Err(ShelfError::Write { .. })));
    }
}
