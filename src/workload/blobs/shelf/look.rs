//! What is there: the index of a link's objects, made by looking at its folder, and the end of what was being written.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::super::name::decode;
use super::{BEGUN, Container, Object, Shelf, Usage};
use crate::platform::files;

/// Names of the folders in a folder.
pub(in crate::workload::blobs) fn folders(folder: &Path) -> Vec<String> {
    let is_folder = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(is_folder).filter_map(|entry| decode(entry.file_name().to_str()?)).collect()
}

// === impl Shelf ===

impl Shelf {
    /// Looks at what is there and removes what was being written.
    pub fn look(folder: PathBuf) -> io::Result<Shelf> {
        let (containers, usage) = (BTreeMap::new(), Usage::default());
        let writings = HashMap::new();
        let mut shelf = Shelf { folder, containers, usage, writings, readings: Vec::new(), next: 0 };
        for entry in entries(&shelf.folder)? {
            let (entry, kind) = (&entry, entry.file_type()?);
            let file = entry.file_name().to_string_lossy().into_owned();
            match decode(&file) {
                _ if kind.is_file() && file.starts_with(BEGUN) => files::remove(&entry.path())?,
                Some(name) if kind.is_dir() => {
                    let container = shelf.look_into(entry)?;
                    shelf.containers.insert(name, container);
                }
                _ => shelf.count_stranger(entry)?,
            }
        }
        Ok(shelf)
    }

    fn look_into(&mut self, folder: &DirEntry) -> io::Result<Container> {
        let since = created(&folder.metadata()?);
        let mut container = Container { folder: folder.path(), created: since, objects: BTreeMap::new() };
        self.add(0);
        for entry in entries(&folder.path())? {
            let about = entry.metadata()?;
            match entry.file_name().to_str().and_then(decode).filter(|_| about.is_file()) {
                Some(name) => {
                    let object = Object { bytes: about.len(), created: created(&about) };
                    self.add(object.bytes);
                    container.objects.insert(name, object);
                }
                None => self.count_stranger(&entry)?,
            }
        }
        Ok(container)
    }

    /// Something that frond did not put there: left alone, and counted, since it takes room.
    fn count_stranger(&mut self, entry: &DirEntry) -> io::Result<()> {
        self.add(entry.metadata()?.len());
        tracing::warn!(path = %entry.path().display(), "not an object: left alone, and counted to the quota of its link");
        Ok(())
    }
}

fn entries(folder: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read?.collect(),
    }
}

/// File systems without a time of birth have that of the last change.
pub(super) fn created(about: &Metadata) -> u64 {
    let time = about.created().or_else(|_| about.modified()).ok();
    time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs())
}
