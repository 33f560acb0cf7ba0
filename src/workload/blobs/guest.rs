//! `wasi:blobstore` as a component sees it. Which link counts is decided when something is used, as on the lattice.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::name::is_name;
use super::stream::PIECE_BYTES;
use super::value::{IncomingValue, OutgoingValue};
use super::{BlobError, Desk, ObjectName};
use crate::workload::account::count;
use crate::workload::bindings::wasi::blobstore::types::{ContainerMetadata, ObjectId, ObjectMetadata};
use crate::workload::bindings::wasi::blobstore::{blobstore, container};
use crate::workload::room::Room;

/// Most names given to a component at once: 150 KiB at the longest.
const NAMES_MAX: usize = 1_024;

const BLOBSTORE: &str = "wasi:blobstore/blobstore";
pub(super) const CONTAINER: &str = "wasi:blobstore/container";

/// A container that a component has opened.
#[derive(Debug)]
pub struct Container {
    name: String,
}

/// Names on their way.
#[derive(Debug)]
pub struct ObjectNames {
    desk: Desk,
    container: String,
    after: Option<String>,
}

/// Whether an answer counts as a change.
pub(super) enum Deed {
    Looks,
    Changes,
}

pub(super) type Answer<T> = wasmtime::Result<Result<T, String>>;

// === impl Room ===

impl Room {
    /// The answer for the component, counted.
    pub(super) fn tell<T>(&self, deed: Deed, answer: Result<T, BlobError>) -> Answer<T> {
        match (&answer, deed) {
            (Ok(_), Deed::Changes) => count(&self.tools.account.blob_writes),
            (Ok(_), Deed::Looks) => {}
            (Err(error), _) => self.tools.account.count_blob_error(error),
        }
        Ok(answer.map_err(|error| error.to_string()))
    }

    pub(super) fn desk(&self, interface: &str) -> Result<Desk, BlobError> {
        self.blob_place(interface).map(|place| self.tools.blobs.at(place)).ok_or(BlobError::Denied)
    }

    /// A container's object, and where to ask for it.
    fn named(
        &self,
        container: &Resource<Container>,
        object: String,
    ) -> wasmtime::Result<Result<(Desk, ObjectName), BlobError>> {
        let container = self.table.get(container)?.name.clone();
        Ok(self.desk(CONTAINER).map(|desk| (desk, ObjectName { container, object })))
    }
}

async fn copy(desk: Desk, from: ObjectName, to: ObjectName) -> Result<(), BlobError> {
    desk.container(&to.container).await?;
    let held = desk.open(from).await?;
    let ticket = desk.begin().await?;
    let mut offset = 0;
    while offset < held.bytes() {
        let bytes = (held.bytes() - offset).min(PIECE_BYTES as u64);
        let piece = desk.read(Arc::clone(&held), offset, bytes as usize).await?;
        desk.append(Arc::clone(&ticket), piece).await?;
        offset += bytes;
    }
    desk.finish(ticket, to).await
}

fn object_name(id: ObjectId) -> ObjectName {
    ObjectName { container: id.container, object: id.object }
}

impl blobstore::Host for Room {
    async fn create_container(&mut self, name: String) -> Answer<Resource<Container>> {
        let desk = self.desk(BLOBSTORE);
        let made = async { desk?.create_container(&name).await }.await;
        match self.tell(Deed::Changes, made)? {
            Ok(()) => Ok(Ok(self.table.push(Container { name })?)),
            Err(why) => Ok(Err(why)),
        }
    }

    async fn get_container(&mut self, name: String) -> Answer<Resource<Container>> {
        let desk = self.desk(BLOBSTORE);
        let there = async { desk?.container(&name).await }.await;
        match self.tell(Deed::Looks, there)? {
            Ok(_) => Ok(Ok(self.table.push(Container { name })?)),
            Err(why) => Ok(Err(why)),
        }
    }

    async fn delete_container(&mut self, name: String) -> Answer<()> {
        let desk = self.desk(BLOBSTORE);
        let deleted = async { desk?.delete_container(&name).await }.await;
        self.tell(Deed::Changes, deleted)
    }

    async fn container_exists(&mut self, name: String) -> Answer<bool> {
        let desk = self.desk(BLOBSTORE);
        let there = async { desk?.container(&name).await }.await;
        self.tell(Deed::Looks, exists(there))
    }

    async fn copy_object(&mut self, src: ObjectId, dest: ObjectId) -> Answer<()> {
        let desk = self.desk(BLOBSTORE);
        let copied = async { copy(desk?, object_name(src), object_name(dest)).await }.await;
        self.tell(Deed::Changes, copied)
    }

    async fn move_object(&mut self, src: ObjectId, dest: ObjectId) -> Answer<()> {
        let desk = self.desk(BLOBSTORE);
        let moved = async { desk?.rename(object_name(src), object_name(dest)).await }.await;
        self.tell(Deed::Changes, moved)
    }
}

/// Whether something is there.
fn exists<T>(answer: Result<T, BlobError>) -> Result<bool, BlobError> {
    match answer {
        Ok(_) => Ok(true),
        Err(BlobError::NoContainer | BlobError::NoObject) => Ok(false),
        Err(error) => Err(error),
    }
}

impl container::Host for Room {}

impl container::HostContainer for Room {
    async fn name(&mut self, this: Resource<Container>) -> Answer<String> {
        Ok(Ok(self.table.get(&this)?.name.clone()))
    }

    async fn info(&mut self, this: Resource<Container>) -> Answer<ContainerMetadata> {
        let name = self.table.get(&this)?.name.clone();
        let desk = self.desk(CONTAINER);
        let made = async { desk?.container(&name).await }.await;
        self.tell(Deed::Looks, made.map(|created_at| ContainerMetadata { name, created_at }))
    }

    async fn get_data(
        &mut self,
        this: Resource<Container>,
        name: String,
        start: u64,
        end: u64,
    ) -> Answer<Resource<IncomingValue>> {
        let named = self.named(&this, name)?;
        let opened = async {
            let (desk, name) = named?;
            IncomingValue::open(desk, name, (start, end)).await
        };
        let opened = opened.await;
        match self.tell(Deed::Looks, opened)? {
            Ok(value) => Ok(Ok(self.table.push(value)?)),
            Err(why) => Ok(Err(why)),
        }
    }

    async fn write_data(
        &mut self,
        this: Resource<Container>,
        name: String,
        data: Resource<OutgoingValue>,
    ) -> Answer<()> {
        let named = self.named(&this, name)?;
        let checked = async {
            let (desk, name) = named?;
            if !is_name(&name.object) {
                return Err(BlobError::Name);
            }
            desk.container(&name.container).await?;
            Ok((desk, name))
        };
        let checked = checked.await;
        let value: &mut OutgoingValue = self.table.get_mut(&data)?;
        if let Some(refused) = value.refused() {
            return Ok(Err(refused.to_string()));
        }
        let given = checked.and_then(|(desk, name)| value.becomes(desk, name));
        self.tell(Deed::Looks, given)
    }

    async fn list_objects(&mut self, this: Resource<Container>) -> Answer<Resource<ObjectNames>> {
        let container = self.table.get(&this)?.name.clone();
        let desk = self.desk(CONTAINER);
        let there = async {
            let desk = desk?;
            desk.container(&container).await.map(|_| desk)
        };
        let there = there.await;
        match self.tell(Deed::Looks, there)? {
            Ok(desk) => Ok(Ok(self.table.push(ObjectNames { desk, container, after: None })?)),
            Err(why) => Ok(Err(why)),
        }
    }

    async fn delete_object(&mut self, this: Resource<Container>, name: String) -> Answer<()> {
        self.delete_objects(this, vec![name]).await
    }

    async fn delete_objects(&mut self, this: Resource<Container>, names: Vec<String>) -> Answer<()> {
        let container = self.table.get(&this)?.name.clone();
        let desk = self.desk(CONTAINER);
        let deleted = async { desk?.delete(&container, names).await }.await;
        self.tell(Deed::Changes, deleted)
    }

    async fn has_object(&mut self, this: Resource<Container>, name: String) -> Answer<bool> {
        let named = self.named(&this, name)?;
        let there = async {
            let (desk, name) = named?;
            desk.object(name).await
        };
        let there = there.await;
        self.tell(Deed::Looks, exists(there))
    }

    async fn object_info(&mut self, this: Resource<Container>, name: String) -> Answer<ObjectMetadata> {
        let named = self.named(&this, name)?;
        let about = async {
            let (desk, name) = named?;
            let about = desk.object(name.clone()).await?;
            let ObjectName { container, object } = name;
            Ok(ObjectMetadata { name: object, container, created_at: about.created, size: about.bytes })
        };
        let about = about.await;
        self.tell(Deed::Looks, about)
    }

    async fn clear(&mut self, this: Resource<Container>) -> Answer<()> {
        let container = self.table.get(&this)?.name.clone();
        let desk = self.desk(CONTAINER);
        let cleared = async { desk?.clear(&container).await }.await;
        self.tell(Deed::Changes, cleared)
    }

    async fn drop(&mut self, this: Resource<Container>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl container::HostStreamObjectNames for Room {
    async fn read_stream_object_names(
        &mut self,
        this: Resource<ObjectNames>,
        len: u64,
    ) -> Answer<(Vec<String>, bool)> {
        let ObjectNames { desk, container, after } = self.table.get(&this)?;
        let (desk, container, after) = (desk.clone(), container.clone(), after.clone());
        let count = usize::try_from(len).unwrap_or(usize::MAX).min(NAMES_MAX);
        let read = desk.list(&container, after, count).await;
        if let Ok((names, _)) = &read
            && let Some(last) = names.last()
        {
            self.table.get_mut(&this)?.after = Some(last.clone());
        }
        self.tell(Deed::Looks, read)
    }

    async fn skip_stream_object_names(
        &mut self,
        this: Resource<ObjectNames>,
        num: u64,
    ) -> Answer<(u64, bool)> {
        let mut skipped = 0;
        loop {
            match self.read_stream_object_names(Resource::new_borrow(this.rep()), num - skipped).await? {
                Ok((names, is_end)) => {
                    skipped += names.len() as u64;
                    if is_end || skipped == num {
                        return Ok(Ok((skipped, is_end)));
                    }
                }
                Err(why) => return Ok(Err(why)),
            }
        }
    }

    async fn drop(&mut self, this: Resource<ObjectNames>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
