//! Objects that components keep: one file each, in folders that the thread `blobs` owns.
//!
//! ```text
//!  workload ──Job──▶ Blobs ──▶ <data_dir>/blobs/<component>/<link>/<container>/<object>
//!      ▲               │                                    └── ~7   being written
//!      └──── answer ───┘       begin ─▶ append … ─▶ finish: sync, rename, sync of the folder
//!                                 └─ dropped ─▶ removed
//! ```
//! The thread alone touches the folders; a job is a function that it runs, one after the other, and a piece of a stream is
//! a job of its own, so that a large object does not keep others waiting for longer than one sync takes. Names are encoded
//! ([`name`]); the index of what is there, by component and link, is made by looking at the start ([`shelf`]).
//!
//! Power loss: an object is whole, the old or the new one; once `finish` has returned it is the new one, and likewise for
//! moving, copying and removing. What was being written is removed at the next start.
//! When full: a link's quota counts files in blocks, what is being written and what is still being read included, so that
//! the folder never takes more than it allows; beyond it, or when the disk is full, the component gets an error.

mod guest;
mod name;
mod shelf;
mod stream;
mod value;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::shelf::Shelf;

pub use self::guest::{Container, ObjectNames};
pub use self::name::NAME_BYTES_MAX;
pub use self::shelf::{BLOCK_BYTES, OPEN_MAX, Object, Usage};
pub use self::value::{IncomingValue, OutgoingValue};

/// Jobs on their way: one from each workload, which waits for its answer, and as many streams that are let go of.
const JOBS_MAX: usize = 32;

/// Whose objects, and how many there may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The component.
    pub component: String,
    /// The link it keeps them by.
    pub link: String,
    /// Bytes that may be kept by the link, in blocks.
    pub bytes_max: u64,
    /// Objects and containers that may be.
    pub objects_max: u64,
}

/// An object's name, with its container's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    /// The container.
    pub container: String,
    /// The object.
    pub object: String,
}

/// Why something was not done. Its text is what a component is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum BlobError {
    #[error("more than the {bytes_max} bytes that the link allows (bytes_max)")]
    Bytes { bytes_max: u64 },
    #[error("more than the {objects_max} objects that the link allows (objects_max)")]
    Objects { objects_max: u64 },
    #[error("names of containers and objects have 1 to {NAME_BYTES_MAX} bytes")]
    Name,
    #[error("there is no such container")]
    NoContainer,
    #[error("there is no such object")]
    NoObject,
    #[error("more than {OPEN_MAX} objects are open")]
    Busy,
    #[error("the range ends before it begins")]
    Range,
    #[error("more than {bytes_max} bytes at once; consume it as a stream")]
    Large { bytes_max: u64 },
    #[error("the object is damaged: its file is not what it was")]
    Damaged,
    #[error("the gateway's disk is full")]
    Full,
    #[error("the gateway's disk cannot be used: {0}")]
    Disk(String),
    #[error("not all of the value was written")]
    Incomplete,
    #[error("the value has been given to an object before")]
    Given,
    #[error("no link of this name keeps objects")]
    Denied,
    #[error("the gateway is stopping")]
    Gone,
}

/// Why the thread does not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the thread for objects")]
pub struct BlobsError(#[source] io::Error);

type Job = Box<dyn FnOnce(&mut Blobs) + Send>;
type Owner = (String, String);

/// How workloads ask. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BlobsHandle {
    jobs: mpsc::Sender<Job>,
}

/// Where one component asks for what it keeps by one link. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Desk {
    jobs: mpsc::Sender<Job>,
    place: Place,
}

/// The right to go on writing something. What was written is removed when it is dropped.
#[derive(Debug)]
pub struct Ticket {
    id: u64,
    owner: Owner,
    jobs: mpsc::Sender<Job>,
}

/// An object that is being read, as it was when it was opened.
#[derive(Debug)]
pub struct Held {
    /// One for everybody who reads it; `None` once it is let go of.
    file: Option<Arc<File>>,
    bytes: u64,
    owner: Owner,
    jobs: mpsc::Sender<Job>,
}

/// The thread that owns the folders.
pub struct Blobs {
    folder: PathBuf,
    shelves: HashMap<Owner, Shelf>,
    jobs: mpsc::Receiver<Job>,
}

// === impl Place ===

impl Place {
    fn owner(&self) -> Owner {
        (self.component.clone(), self.link.clone())
    }
}

// === impl BlobError ===

impl From<io::Error> for BlobError {
    fn from(error: io::Error) -> BlobError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BlobError::Full,
            _ => BlobError::Disk(error.to_string()),
        }
    }
}

// === impl BlobsHandle ===

impl BlobsHandle {
    /// Where a component asks for its objects.
    pub fn at(&self, place: Place) -> Desk {
        Desk { jobs: self.jobs.clone(), place }
    }
}

// === impl Desk ===

impl Desk {
    /// Whose objects.
    pub fn place(&self) -> &Place {
        &self.place
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Shelf, &Place) -> Result<T, BlobError> + Send + 'static,
    ) -> Result<T, BlobError> {
        let (reply, answer) = oneshot::channel();
        let place = self.place.clone();
        let job: Job = Box::new(move |blobs| {
            let done = blobs.shelf(&place.owner()).and_then(|shelf| work(shelf, &place));
            // Whoever asked may have been ended meanwhile; what the answer holds is let go of with it.
            let _ = reply.send(done);
        });
        self.jobs.send(job).await.map_err(|_| BlobError::Gone)?;
        answer.await.map_err(|_| BlobError::Gone)?
    }

    /// Makes a container; one that is there stays as it is.
    pub async fn create_container(&self, name: &str) -> Result<(), BlobError> {
        let name = name.to_owned();
        self.ask(move |shelf, place| shelf.create_container(place, name)).await
    }

    /// When a container was made, in seconds since 1970.
    pub async fn container(&self, name: &str) -> Result<u64, BlobError> {
        let name = name.to_owned();
        self.ask(move |shelf, _| shelf.container(&name).map(|container| container.created)).await
    }

    /// Removes a container with everything in it.
    pub async fn delete_container(&self, name: &str) -> Result<(), BlobError> {
        let name = name.to_owned();
        self.ask(move |shelf, _| shelf.delete_container(&name)).await
    }

    /// Removes every object of a container.
    pub async fn clear(&self, container: &str) -> Result<(), BlobError> {
        let name = container.to_owned();
        self.ask(move |shelf, _| shelf.clear(&name)).await
    }

    /// Removes objects; those that are not there are no error.
    pub async fn delete(&self, container: &str, objects: Vec<String>) -> Result<(), BlobError> {
        let name = container.to_owned();
        self.ask(move |shelf, _| shelf.delete(&name, &objects)).await
    }

    /// What is known of an object.
    pub async fn object(&self, name: ObjectName) -> Result<Object, BlobError> {
        self.ask(move |shelf, _| shelf.object(&name)).await
    }

    /// Up to `count` names behind `after`, in order, and whether they are the last.
    pub async fn list(
        &self,
        container: &str,
        after: Option<String>,
        count: usize,
    ) -> Result<(Vec<String>, bool), BlobError> {
        let name = container.to_owned();
        self.ask(move |shelf, _| shelf.list(&name, after.as_deref(), count)).await
    }

    /// Gives an object another name, and replaces what has that.
    pub async fn rename(&self, from: ObjectName, to: ObjectName) -> Result<(), BlobError> {
        self.ask(move |shelf, _| shelf.rename(&from, &to)).await
    }

    /// Opens an object; what is read stays the same until it is let go of.
    pub async fn open(&self, name: ObjectName) -> Result<Arc<Held>, BlobError> {
        let (jobs, owner) = (self.jobs.clone(), self.place.owner());
        let held = move |file, bytes| Held { file: Some(file), bytes, owner, jobs };
        self.ask(move |shelf, _| shelf.open(&name, held)).await
    }

    /// Reads a piece of an open object.
    pub async fn read(&self, held: Arc<Held>, offset: u64, bytes: usize) -> Result<Bytes, BlobError> {
        self.ask(move |_, _| held.read(offset, bytes)).await
    }

    /// Begins to write something that will be an object.
    pub async fn begin(&self) -> Result<Arc<Ticket>, BlobError> {
        let (jobs, owner) = (self.jobs.clone(), self.place.owner());
        let ticket = move |id| Ticket { id, owner, jobs };
        self.ask(move |shelf, place| shelf.begin(place, ticket)).await
    }

    /// Writes the next piece.
    pub async fn append(&self, ticket: Arc<Ticket>, bytes: Bytes) -> Result<(), BlobError> {
        self.ask(move |shelf, place| shelf.append(place, ticket.id, &bytes)).await
    }

    /// Makes what was written the object of this name. When it returns, it is on the disk.
    pub async fn finish(&self, ticket: Arc<Ticket>, name: ObjectName) -> Result<(), BlobError> {
        self.ask(move |shelf, place| shelf.finish(place, ticket.id, &name)).await
    }

    /// What the link keeps.
    pub async fn usage(&self) -> Result<Usage, BlobError> {
        self.ask(|shelf, _| Ok(shelf.usage())).await
    }
}

// === impl Ticket ===

impl Drop for Ticket {
    fn drop(&mut self) {
        let owner = std::mem::take(&mut self.owner);
        // With no place in the queue it is noticed by the next job of the same link.
        let _ = self.jobs.try_send(Box::new(move |blobs| blobs.let_go(&owner)));
    }
}

// === impl Held ===

impl Held {
    /// Its size when it was opened.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&self, offset: u64, bytes: usize) -> Result<Bytes, BlobError> {
        let file = self.file.as_ref().expect("it is taken out when this is dropped");
        let mut piece = vec![0; bytes];
        match file.read_exact_at(&mut piece, offset) {
            Ok(()) => Ok(piece.into()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(BlobError::Damaged),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (file, owner) = (self.file.take(), std::mem::take(&mut self.owner));
        // Closing a file that was removed frees its blocks, which takes its time: not here, if it can be helped.
        let _ = self.jobs.try_send(Box::new(move |blobs| {
            drop(file);
            blobs.let_go(&owner);
        }));
    }
}

// === impl Blobs ===

impl Blobs {
    /// Nothing is looked at yet.
    pub fn new(data_dir: &Path) -> (Blobs, BlobsHandle) {
        let (sender, jobs) = mpsc::channel(JOBS_MAX);
        let folder = data_dir.join("blobs");
        (Blobs { folder, shelves: HashMap::new(), jobs }, BlobsHandle { jobs: sender })
    }

    /// Works off jobs until stopped. Runs on a thread of its own.
    pub fn run(mut self, stop: CancellationToken) -> Result<(), BlobsError> {
        self.look_around();
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(BlobsError)?;
        runtime.block_on(async {
            // Cancel-safe: a job that was taken is done before anything else is looked at.
            while let Some(Some(job)) = stop.run_until_cancelled(self.jobs.recv()).await {
                job(&mut self);
            }
        });
        Ok(())
    }

    /// At the start, so that leftovers go and the first request does not wait. What cannot be looked at is looked at again
    /// when it is needed.
    fn look_around(&mut self) {
        for component in shelf::folders(&self.folder) {
            for link in shelf::folders(&self.folder.join(name::encode(&component))) {
                if let Err(error) = self.shelf(&(component.clone(), link.clone())) {
                    tracing::warn!(component, link, %error, "a component's objects cannot be looked at");
                }
            }
        }
    }

    fn shelf(&mut self, owner: &Owner) -> Result<&mut Shelf, BlobError> {
        if !self.shelves.contains_key(owner) {
            let (component, link) = owner;
            let folder = self.folder.join(name::encode(component)).join(name::encode(link));
            let shelf = Shelf::look(folder)?;
            self.shelves.insert(owner.clone(), shelf);
        }
        let shelf = self.shelves.get_mut(owner).expect("it was put there just now, or before");
        shelf.let_go();
        Ok(shelf)
    }

    fn let_go(&mut self, owner: &Owner) {
        if let Some(shelf) = self.shelves.get_mut(owner) {
            shelf.let_go();
        }
    }
}

impl std::fmt::Debug for Blobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blobs").field("folder", &self.folder).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
