//! The objects of one link: an index of what is there, and every change of it. Used by the thread `blobs` alone.

mod look;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use self::look::created;
use super::name::{encode, is_name};
use super::{BlobError, Held, ObjectName, Place, Ticket};
use crate::platform::files;

/// What a file takes of the disk is a multiple of this, and once at least: for its own block or its entry in the folder.
pub const BLOCK_BYTES: u64 = 4096;

/// Objects that one link has open, to read or to write. Each is a file descriptor of the gateway, of which its unit allows
/// 16,384, and may have a piece of 64 KiB in memory: 2 MiB for a link that has as many.
pub const OPEN_MAX: usize = 32;

/// Files that are being written begin with it; no name does.
const BEGUN: char = '~';

pub(super) use self::look::folders;

/// What is known of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    /// Its size.
    pub bytes: u64,
    /// When it was written, in seconds since 1970, by the clock of the system.
    pub created: u64,
}

/// What a link keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in blocks, of objects, containers, and what is being written.
    pub bytes: u64,
    /// Objects and containers.
    pub objects: u64,
}

/// The objects of one link.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    containers: BTreeMap<String, Container>,
    usage: Usage,
    writings: HashMap<u64, Writing>,
    readings: Vec<Reading>,
    next: u64,
}

/// A container.
#[derive(Debug)]
pub(super) struct Container {
    folder: PathBuf,
    pub created: u64,
    objects: BTreeMap<String, Object>,
}

/// A file that is being written.
#[derive(Debug)]
struct Writing {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// Something of it could not be written.
    is_broken: bool,
    ticket: Weak<Ticket>,
}

/// An object that is being read.
#[derive(Debug)]
struct Reading {
    name: ObjectName,
    file: Weak<File>,
    bytes: u64,
    /// Removed or replaced since: its blocks are still taken, and nobody else counts them.
    is_gone: bool,
}

// === impl Shelf ===

impl Shelf {
    fn add(&mut self, bytes: u64) {
        self.usage = Usage { bytes: self.usage.bytes + blocks(bytes), objects: self.usage.objects + 1 };
    }

    fn take(&mut self, bytes: u64) {
        self.usage.bytes = self.usage.bytes.saturating_sub(blocks(bytes));
        self.usage.objects = self.usage.objects.saturating_sub(1);
    }

    pub fn usage(&self) -> Usage {
        let held = self.readings.iter().filter(|reading| reading.is_gone && reading.file.strong_count() > 0);
        let held: u64 = held.map(|reading| blocks(reading.bytes)).sum();
        Usage { bytes: self.usage.bytes + held, objects: self.usage.objects }
    }

    /// Forgets what is not read any more, and removes what is not written any more.
    pub fn let_go(&mut self) {
        self.readings.retain(|reading| reading.file.strong_count() > 0);
        let usage = &mut self.usage;
        self.writings.retain(|_, writing| {
            // What cannot be removed now still takes its room, and is tried again.
            let stays = writing.ticket.strong_count() > 0 || files::remove(&writing.path).is_err();
            if !stays {
                usage.bytes = usage.bytes.saturating_sub(blocks(writing.bytes));
            }
            stays
        });
    }

    fn room_for(&self, place: &Place, bytes: u64) -> Result<(), BlobError> {
        match self.usage().bytes + bytes <= place.bytes_max {
            true => Ok(()),
            false => Err(BlobError::Bytes { bytes_max: place.bytes_max }),
        }
    }

    fn room_for_one(&self, place: &Place) -> Result<(), BlobError> {
        match self.usage.objects < place.objects_max {
            true => Ok(()),
            false => Err(BlobError::Objects { objects_max: place.objects_max }),
        }
    }

    fn may_open(&self) -> Result<(), BlobError> {
        // Everybody who reads has a handle of his own to the file.
        let read: usize = self.readings.iter().map(|reading| reading.file.strong_count()).sum();
        match read + self.writings.len() < OPEN_MAX {
            true => Ok(()),
            false => Err(BlobError::Busy),
        }
    }

    pub fn container(&self, name: &str) -> Result<&Container, BlobError> {
        self.containers.get(name).ok_or(BlobError::NoContainer)
    }

    pub fn create_container(&mut self, place: &Place, name: String) -> Result<(), BlobError> {
        if !is_name(&name) {
            return Err(BlobError::Name);
        }
        if self.containers.contains_key(&name) {
            return Ok(());
        }
        self.room_for_one(place)?;
        self.room_for(place, BLOCK_BYTES)?;
        let folder = self.folder.join(encode(&name));
        files::make_folder(&folder)?;
        let created = created(&fs::metadata(&folder)?);
        self.add(0);
        self.containers.insert(name, Container { folder, created, objects: BTreeMap::new() });
        Ok(())
    }

    pub fn delete_container(&mut self, name: &str) -> Result<(), BlobError> {
        self.clear(name)?;
        files::remove_folder(&self.container(name)?.folder)?;
        self.containers.remove(name);
        self.take(0);
        Ok(())
    }

    pub fn clear(&mut self, name: &str) -> Result<(), BlobError> {
        let objects: Vec<String> = self.container(name)?.objects.keys().cloned().collect();
        self.delete(name, &objects)
    }

    /// Up to the first that cannot be removed.
    pub fn delete(&mut self, container: &str, objects: &[String]) -> Result<(), BlobError> {
        let folder = self.container(container)?.folder.clone();
        let mut outcome = Ok(());
        let mut has_removed = false;
        for object in objects {
            let name = ObjectName { container: container.to_owned(), object: object.clone() };
            if self.object(&name).is_err() {
                continue;
            }
            outcome = files::remove(&folder.join(encode(object)));
            if outcome.is_err() {
                break;
            }
            has_removed = true;
            self.forget(&name);
        }
        if has_removed {
            files::sync_folder(&folder)?;
        }
        Ok(outcome?)
    }

    pub fn object(&self, name: &ObjectName) -> Result<Object, BlobError> {
        self.container(&name.container)?.objects.get(&name.object).copied().ok_or(BlobError::NoObject)
    }

    pub fn list(
        &self,
        container: &str,
        after: Option<&str>,
        count: usize,
    ) -> Result<(Vec<String>, bool), BlobError> {
        let objects = &self.container(container)?.objects;
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut left = objects.range::<str, _>((begin, Bound::Unbounded)).map(|(name, _)| name.clone());
        let names = left.by_ref().take(count).collect();
        Ok((names, left.next().is_none()))
    }

    pub fn open(
        &mut self,
        name: &ObjectName,
        held: impl FnOnce(Arc<File>, u64) -> Held,
    ) -> Result<Arc<Held>, BlobError> {
        let object = self.object(name)?;
        self.may_open()?;
        let mut read = self.readings.iter().filter(|reading| !reading.is_gone && reading.name == *name);
        if let Some(file) = read.find_map(|reading| reading.file.upgrade()) {
            return Ok(Arc::new(held(file, object.bytes)));
        }
        let file = match File::open(self.container(&name.container)?.folder.join(encode(&name.object))) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget(name);
                return Err(BlobError::Damaged);
            }
            Err(error) => return Err(error.into()),
        };
        let about = file.metadata()?;
        if !about.is_file() || about.len() != object.bytes {
            return Err(BlobError::Damaged);
        }
        let (file, bytes) = (Arc::new(file), object.bytes);
        let reading = Reading { name: name.clone(), file: Arc::downgrade(&file), bytes, is_gone: false };
        self.readings.push(reading);
        Ok(Arc::new(held(file, bytes)))
    }

    pub fn begin(
        &mut self,
        place: &Place,
        ticket: impl FnOnce(u64) -> Ticket,
    ) -> Result<Arc<Ticket>, BlobError> {
        self.may_open()?;
        self.room_for(place, BLOCK_BYTES)?;
        files::make_folder(&self.folder)?;
        let id = self.next;
        self.next += 1;
        let path = self.folder.join(format!("{BEGUN}{id}"));
        let file = files::create(&path)?;
        let ticket = Arc::new(ticket(id));
        let writing = Writing { file, path, bytes: 0, is_broken: false, ticket: Arc::downgrade(&ticket) };
        self.usage.bytes += BLOCK_BYTES;
        self.writings.insert(id, writing);
        Ok(ticket)
    }

    pub fn append(&mut self, place: &Place, id: u64, bytes: &[u8]) -> Result<(), BlobError> {
        let (before, has_failed) = self
            .writings
            .get(&id)
            .map(|writing| (writing.bytes, writing.is_broken))
            .ok_or(BlobError::Gone)?;
        if has_failed {
            return Err(BlobError::Incomplete);
        }
        let after = before + bytes.len() as u64;
        let more = blocks(after) - blocks(before);
        let room = self.room_for(place, more);
        let writing = self.writings.get_mut(&id).ok_or(BlobError::Gone)?;
        let written = room.and_then(|()| Ok(files::write(&writing.file, &writing.path, before, bytes)?));
        writing.is_broken = written.is_err();
        // Also when it failed: some of it may have got to the disk.
        if !matches!(written, Err(BlobError::Bytes { .. })) {
            writing.bytes = after;
            self.usage.bytes += more;
        }
        written
    }

    pub fn finish(&mut self, place: &Place, id: u64, name: &ObjectName) -> Result<(), BlobError> {
        // What is refused here goes with its ticket.
        if !is_name(&name.object) {
            return Err(BlobError::Name);
        }
        let folder = self.container(&name.container)?.folder.clone();
        if self.object(name).is_err() {
            self.room_for_one(place)?;
        }
        let writing = self.writings.get(&id).ok_or(BlobError::Gone)?;
        if writing.is_broken {
            return Err(BlobError::Incomplete);
        }
        files::sync(&writing.file, &writing.path)?;
        let object = Object { bytes: writing.bytes, created: created(&writing.file.metadata()?) };
        files::rename(&writing.path, &folder.join(encode(&name.object)))?;
        // From here on it is the object, whether or not that is on the disk yet.
        self.writings.remove(&id);
        self.usage.bytes = self.usage.bytes.saturating_sub(blocks(object.bytes));
        self.forget(name);
        self.remember(name, object);
        Ok(files::sync_folder(&folder)?)
    }

    pub fn rename(&mut self, from: &ObjectName, to: &ObjectName) -> Result<(), BlobError> {
        if !is_name(&to.object) {
            return Err(BlobError::Name);
        }
        let object = self.object(from)?;
        let (old, new) = (self.container(&from.container)?, self.container(&to.container)?);
        let (old, new) = (old.folder.clone(), new.folder.clone());
        if from == to {
            return Ok(());
        }
        files::rename(&old.join(encode(&from.object)), &new.join(encode(&to.object)))?;
        self.forget(to);
        if let Some(container) = self.containers.get_mut(&from.container) {
            container.objects.remove(&from.object);
        }
        self.take(object.bytes);
        self.remember(to, object);
        let moved = self.readings.iter_mut().filter(|reading| !reading.is_gone && reading.name == *from);
        moved.for_each(|reading| reading.name = to.clone());
        files::sync_folder(&new)?;
        match old == new {
            true => Ok(()),
            false => Ok(files::sync_folder(&old)?),
        }
    }

    fn remember(&mut self, name: &ObjectName, object: Object) {
        let container = self.containers.get_mut(&name.container).expect("it was looked up before");
        container.objects.insert(name.object.clone(), object);
        self.add(object.bytes);
    }

    /// The object is not there any more, though somebody may still read it.
    fn forget(&mut self, name: &ObjectName) {
        let container = self.containers.get_mut(&name.container);
        let Some(object) = container.and_then(|container| container.objects.remove(&name.object)) else {
            return;
        };
        self.take(object.bytes);
        let read = self.readings.iter_mut().filter(|reading| reading.name == *name);
        read.for_each(|reading| reading.is_gone = true);
    }
}

/// What a file of this size takes of the disk.
fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES).max(1) * BLOCK_BYTES
}
