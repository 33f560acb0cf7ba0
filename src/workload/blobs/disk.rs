//! What is done to files: one function for each kind of change, so that a test can write down all of them in order and
//! work out what a power cut could leave. Nothing else in `blobs` changes a file.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// A change, before the next one.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub enum Step<'a> {
    /// A file was made, empty.
    Create { file: &'a Path },
    /// Bytes were written.
    Write { file: &'a Path, offset: u64, bytes: &'a [u8] },
    /// A file was synced.
    Sync { file: &'a Path },
    /// A file got another name, and replaced what had it.
    Rename { from: &'a Path, to: &'a Path },
    /// A file was removed.
    Remove { file: &'a Path },
    /// What was done to names in a folder was synced.
    SyncFolder { folder: &'a Path },
}

/// Whoever wants to know.
pub type Tap = Box<dyn FnMut(Step<'_>) + Send>;

/// The disk.
#[derive(Default)]
pub(super) struct Disk {
    pub tap: Option<Tap>,
}

// === impl Disk ===

impl Disk {
    fn did(&mut self, step: Step<'_>) {
        if let Some(tap) = &mut self.tap {
            tap(step);
        }
    }

    /// A new file.
    pub fn create(&mut self, file: &Path) -> io::Result<File> {
        let made = File::options().write(true).create_new(true).open(file)?;
        self.did(Step::Create { file });
        Ok(made)
    }

    pub fn write(&mut self, opened: &File, file: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        opened.write_all_at(bytes, offset)?;
        self.did(Step::Write { file, offset, bytes });
        Ok(())
    }

    pub fn sync(&mut self, opened: &File, file: &Path) -> io::Result<()> {
        opened.sync_all()?;
        self.did(Step::Sync { file });
        Ok(())
    }

    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        self.did(Step::Rename { from, to });
        Ok(())
    }

    /// Removes a file; one that is not there is no error.
    pub fn remove(&mut self, file: &Path) -> io::Result<()> {
        match fs::remove_file(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.did(Step::Remove { file });
                Ok(())
            }
        }
    }

    pub fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()?;
        self.did(Step::SyncFolder { folder });
        Ok(())
    }

    /// Makes a folder and those above it, each synced into the one above.
    pub fn make_folder(&mut self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let above = folder.parent().ok_or(io::ErrorKind::NotFound)?;
        self.make_folder(above)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => self.sync_folder(above),
        }
    }

    /// Removes an empty folder.
    pub fn remove_folder(&mut self, folder: &Path) -> io::Result<()> {
        fs::remove_dir(folder)?;
        match folder.parent() {
            Some(above) => self.sync_folder(above),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}
