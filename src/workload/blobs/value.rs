//! Values on their way into an object and out of one, as a component sees them.

use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use super::guest::{Answer, CONTAINER, Deed};
use super::stream::{Body, BodyStream, PIECE_BYTES, Reader};
use super::{BlobError, Desk, Held, ObjectName};
use crate::workload::bindings::wasi::blobstore::types;
use crate::workload::room::Room;

/// Most bytes given to a component at once, where it asks for all of an object. Streams have no such bound.
const AT_ONCE_BYTES_MAX: u64 = 16 << 20;

/// What is to become an object.
#[derive(Default)]
pub struct OutgoingValue {
    body: Option<Body>,
    /// Why there is no body.
    refused: Option<BlobError>,
    becomes: Option<(Desk, ObjectName)>,
}

/// An object, or a part of one.
#[derive(Debug)]
pub struct IncomingValue {
    desk: Desk,
    held: Arc<Held>,
    /// Its first byte, and the one behind its last.
    range: (u64, u64),
}

// === impl OutgoingValue ===

impl OutgoingValue {
    /// Why it has no body.
    pub(super) fn refused(&self) -> Option<&BlobError> {
        self.refused.as_ref()
    }

    /// Says which object it becomes.
    pub(super) fn becomes(&mut self, desk: Desk, name: ObjectName) -> Result<(), BlobError> {
        if self.becomes.is_some() {
            return Err(BlobError::Given);
        }
        self.becomes = Some((desk, name));
        Ok(())
    }

    /// What went wrong with it so far.
    async fn trouble(&self) -> Option<BlobError> {
        match (&self.refused, &self.body) {
            (Some(refused), _) => Some(refused.clone()),
            (None, Some(body)) => body.trouble().await,
            (None, None) => None,
        }
    }

    /// What a finished value comes to.
    async fn keep(self) -> Result<(), BlobError> {
        // Given to no object: nothing is kept of it.
        let Some((desk, name)) = self.becomes else { return Ok(()) };
        match self.body {
            Some(body) => body.finish(&desk, name).await,
            None => {
                let ticket = desk.begin().await?;
                desk.finish(ticket, name).await
            }
        }
    }
}

// === impl IncomingValue ===

impl IncomingValue {
    /// From one byte to another, both included.
    pub(super) async fn open(
        desk: Desk,
        name: ObjectName,
        (start, end): (u64, u64),
    ) -> Result<IncomingValue, BlobError> {
        if start > end {
            return Err(BlobError::Range);
        }
        let held = desk.open(name).await?;
        let range = (start.min(held.bytes()), end.saturating_add(1).min(held.bytes()));
        Ok(IncomingValue { desk, held, range })
    }

    async fn read_whole(&self, bytes_max: u64) -> Result<Vec<u8>, BlobError> {
        let (mut offset, end) = self.range;
        if end - offset > bytes_max {
            return Err(BlobError::Large { bytes_max });
        }
        let mut whole = Vec::with_capacity((end - offset) as usize);
        while offset < end {
            let bytes = (end - offset).min(PIECE_BYTES as u64) as usize;
            whole.extend_from_slice(&self.desk.read(Arc::clone(&self.held), offset, bytes).await?);
            offset += bytes as u64;
        }
        Ok(whole)
    }
}

// === impl Room ===

impl types::Host for Room {}

impl types::HostOutgoingValue for Room {
    async fn new_outgoing_value(&mut self) -> wasmtime::Result<Resource<OutgoingValue>> {
        Ok(self.table.push(OutgoingValue::default())?)
    }

    async fn outgoing_value_write_body(
        &mut self,
        this: Resource<OutgoingValue>,
    ) -> wasmtime::Result<Result<Resource<DynOutputStream>, ()>> {
        let value = self.table.get(&this)?;
        if value.body.is_some() || value.refused.is_some() {
            return Ok(Err(()));
        }
        let desk = self.desk(CONTAINER);
        let begun = async {
            let desk = desk?;
            desk.begin().await.map(|ticket| (desk, ticket))
        };
        match begun.await {
            Ok((desk, ticket)) => {
                let body = Body::new(Arc::clone(&self.tools.account), desk, ticket);
                self.table.get_mut(&this)?.body = Some(body.clone());
                let stream: DynOutputStream = Box::new(BodyStream(body));
                Ok(Ok(self.table.push_child(stream, &this)?))
            }
            Err(error) => {
                // The signature has no room for the reason; who gives the value to an object, or finishes it, is told.
                self.tools.account.count_blob_error(&error);
                self.table.get_mut(&this)?.refused = Some(error);
                Ok(Err(()))
            }
        }
    }

    async fn finish(&mut self, this: Resource<OutgoingValue>) -> Answer<()> {
        let value = self.table.delete(this)?;
        // What was counted when it happened.
        if let Some(trouble) = value.trouble().await {
            return Ok(Err(trouble.to_string()));
        }
        let deed = if value.becomes.is_some() { Deed::Changes } else { Deed::Looks };
        let kept = value.keep().await;
        self.tell(deed, kept)
    }

    async fn drop(&mut self, this: Resource<OutgoingValue>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl types::HostIncomingValue for Room {
    async fn incoming_value_consume_sync(&mut self, this: Resource<IncomingValue>) -> Answer<Vec<u8>> {
        let value = self.table.delete(this)?;
        let bytes_max = AT_ONCE_BYTES_MAX.min(self.tools.memory_bytes_max as u64);
        let whole = value.read_whole(bytes_max).await;
        self.tell(Deed::Looks, whole)
    }

    async fn incoming_value_consume_async(
        &mut self,
        this: Resource<IncomingValue>,
    ) -> Answer<Resource<DynInputStream>> {
        let IncomingValue { desk, held, range } = self.table.delete(this)?;
        let account = Arc::clone(&self.tools.account);
        let stream: DynInputStream = Box::new(Reader::new(account, desk, held, range));
        Ok(Ok(self.table.push(stream)?))
    }

    async fn size(&mut self, this: Resource<IncomingValue>) -> wasmtime::Result<u64> {
        let (start, end) = self.table.get(&this)?.range;
        Ok(end - start)
    }

    async fn drop(&mut self, this: Resource<IncomingValue>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
