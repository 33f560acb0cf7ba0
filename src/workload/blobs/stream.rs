//! Bytes of objects on their way: `wasi:io` streams in front of the thread that owns the files.
//!
//! A piece at a time: the next one is asked for, or taken, when the one before has been dealt with. So a stream holds
//! [`PIECE_BYTES`] at most, whatever the size of the object, and a component that does not read or write keeps nothing
//! busy. Nothing here waits for the disk but futures.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::{BlobError, Desk, Held, ObjectName, Ticket};
use crate::workload::account::Account;

/// One piece. A link has at most `OPEN_MAX` streams, and so 2 MiB of them; a component that copies has one.
pub(super) const PIECE_BYTES: usize = 64 << 10;

type Pending<T> = Pin<Box<dyn Future<Output = Result<T, BlobError>> + Send>>;

/// What is written to an outgoing value: shared by the value and its stream, which take turns.
#[derive(Clone)]
pub(super) struct Body(Arc<Mutex<Writing>>);

struct Writing {
    account: Arc<Account>,
    desk: Desk,
    ticket: Arc<Ticket>,
    pending: Option<Pending<()>>,
    failed: Option<BlobError>,
}

/// The stream of a body.
pub(super) struct BodyStream(pub Body);

/// The stream of an incoming value.
pub(super) struct Reader {
    account: Arc<Account>,
    desk: Desk,
    held: Arc<Held>,
    /// Of the next piece, and of the end.
    offset: u64,
    end: u64,
    pending: Option<Pending<Bytes>>,
    /// What was read and not yet taken.
    piece: Bytes,
    failed: Option<BlobError>,
}

// === impl Body ===

impl Body {
    pub fn new(account: Arc<Account>, desk: Desk, ticket: Arc<Ticket>) -> Body {
        Body(Arc::new(Mutex::new(Writing { account, desk, ticket, pending: None, failed: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until everything that was written is taken.
    async fn settle(&self) {
        poll_fn(|context| self.lock().poll(context)).await;
    }

    /// What went wrong with it, once everything that was written is taken.
    pub async fn trouble(&self) -> Option<BlobError> {
        self.settle().await;
        self.lock().failed.clone()
    }

    /// Makes what was written an object of a link.
    pub async fn finish(&self, desk: &Desk, name: ObjectName) -> Result<(), BlobError> {
        let ticket = {
            let writing = self.lock();
            // Another link was chosen meanwhile: what is on one shelf is not an object of another.
            if writing.desk.place() != desk.place() {
                return Err(BlobError::Denied);
            }
            Arc::clone(&writing.ticket)
        };
        desk.finish(ticket, name).await
    }
}

// === impl Writing ===

impl Writing {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(pending) = &mut self.pending else { return Poll::Ready(()) };
        let Poll::Ready(written) = pending.as_mut().poll(context) else { return Poll::Pending };
        self.pending = None;
        if let Err(error) = written {
            self.account.count_blob_error(&error);
            self.failed = Some(error);
        }
        Poll::Ready(())
    }

    fn check(&self) -> StreamResult<()> {
        match &self.failed {
            Some(error) => Err(StreamError::LastOperationFailed(wasmtime::format_err!("{error}"))),
            None => Ok(()),
        }
    }
}

// === impl BodyStream ===

impl OutputStream for BodyStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut writing = self.0.lock();
        writing.check()?;
        if writing.pending.is_some() || bytes.len() > PIECE_BYTES {
            return Err(StreamError::trap("more was written than check-write allowed"));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let (desk, ticket) = (writing.desk.clone(), Arc::clone(&writing.ticket));
        writing.pending = Some(Box::pin(async move { desk.append(ticket, bytes).await }));
        Ok(())
    }

    /// Every piece is on its way as soon as it is written; until it has arrived nothing more may be.
    fn flush(&mut self) -> StreamResult<()> {
        self.0.lock().check()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let mut writing = self.0.lock();
        let polled = writing.poll(&mut Context::from_waker(Waker::noop()));
        writing.check()?;
        Ok(if polled.is_ready() { PIECE_BYTES } else { 0 })
    }
}

impl Pollable for BodyStream {
    /// Written out, since the attribute that makes it is not among our dependencies.
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.0.settle())
    }
}

// === impl Reader ===

impl Reader {
    pub fn new(account: Arc<Account>, desk: Desk, held: Arc<Held>, (offset, end): (u64, u64)) -> Reader {
        Reader { account, desk, held, offset, end, pending: None, piece: Bytes::new(), failed: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.piece.is_empty() || self.offset == self.end || self.failed.is_some() {
            return Poll::Ready(());
        }
        let (offset, held) = (self.offset, &self.held);
        // At most PIECE_BYTES, so it fits.
        let bytes = (self.end - offset).min(PIECE_BYTES as u64) as usize;
        let pending = self.pending.get_or_insert_with(|| {
            let (desk, held) = (self.desk.clone(), Arc::clone(held));
            Box::pin(async move { desk.read(held, offset, bytes).await })
        });
        let Poll::Ready(read) = pending.as_mut().poll(context) else { return Poll::Pending };
        self.pending = None;
        match read {
            Ok(piece) => (self.offset, self.piece) = (offset + piece.len() as u64, piece),
            Err(error) => {
                self.account.count_blob_error(&error);
                self.failed = Some(error);
            }
        }
        Poll::Ready(())
    }
}

impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            return Ok(Bytes::new());
        }
        match &self.failed {
            Some(error) => Err(StreamError::LastOperationFailed(wasmtime::format_err!("{error}"))),
            None if self.piece.is_empty() => Err(StreamError::Closed),
            None => Ok(self.piece.split_to(size.min(self.piece.len()))),
        }
    }
}

impl Pollable for Reader {
    /// Written out, as above.
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(poll_fn(|context| self.poll(context)))
    }
}
