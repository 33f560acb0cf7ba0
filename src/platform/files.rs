//! Changes of the files that SQLite does not make: one function for each kind.
//!
//! Each is told to the taps of tests ([`super::vfs::install`]) as SQLite's are, so that one tape holds everything that is
//! done to a gateway's data folder, in order, and what a power cut could leave of it can be worked out. Whoever keeps
//! something on flash that must be there after a cut changes its files by these and by nothing else.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::vfs::{Change, DirectorySync, tell};

/// A new file, empty.
pub fn create(file: &Path) -> io::Result<File> {
    let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(file)?;
    tell(file, Change::Create);
    Ok(made)
}

/// A new file, empty; one that has its name goes.
pub fn replace(file: &Path) -> io::Result<File> {
    remove(file)?;
    create(file)
}

/// Writes all of these bytes.
pub fn write(opened: &File, file: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    opened.write_all_at(bytes, offset)?;
    tell(file, Change::Write { offset, bytes });
    Ok(())
}

/// Cuts or extends a file.
pub fn truncate(opened: &File, file: &Path, size: u64) -> io::Result<()> {
    opened.set_len(size)?;
    tell(file, Change::Truncate { size });
    Ok(())
}

/// What was written is on the device afterwards.
pub fn sync(opened: &File, file: &Path) -> io::Result<()> {
    opened.sync_all()?;
    tell(file, Change::Sync { directory: DirectorySync::Omitted });
    Ok(())
}

/// Gives a file another name, and replaces what has it.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    tell(from, Change::Rename { to });
    Ok(())
}

/// Removes a file; one that is not there is no error.
pub fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            tell(file, Change::Delete { directory: DirectorySync::Omitted });
            Ok(())
        }
    }
}

/// What was done to names in a folder is on the device afterwards.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()?;
    tell(folder, Change::SyncFolder);
    Ok(())
}

/// Makes a folder for nobody else, and those above it, each synced into the one above.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().ok_or(io::ErrorKind::NotFound)?;
    make_folder(above)?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_folder(above),
    }
}

/// Removes an empty folder.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    fs::remove_dir(folder)?;
    folder.parent().map_or(Ok(()), sync_folder)
}

/// A file appears with all of these bytes, or not at all; `scratch` is the name it has until then.
pub fn write_whole(scratch: &Path, file: &Path, bytes: &[u8]) -> io::Result<()> {
    let opened = replace(scratch)?;
    write(&opened, scratch, 0, bytes)?;
    sync(&opened, scratch)?;
    rename(scratch, file)?;
    file.parent().map_or(Ok(()), sync_folder)
}
