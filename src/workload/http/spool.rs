//! An answer between the component that makes it and the client that reads it: as much as is allowed, taken at once.
//!
//! The component never waits for the client. What is not read yet is in memory, at most as much as an answer may have
//! altogether.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::{Body, Frame};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// Why a client does not get all of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer was cut")]
pub struct Cut;

/// Where the component's answer goes in. Dropped before the end, it cuts the answer.
pub(super) struct Spool {
    shared: Arc<Mutex<Shared>>,
    left: usize,
}

/// Where the client's connection takes it out.
#[derive(Debug)]
pub struct Pages {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    unread: BytesMut,
    end: Option<End>,
    reader: Option<Waker>,
    is_abandoned: bool,
}

#[derive(Debug)]
enum End {
    Whole(Option<HeaderMap>),
    Cut,
    Told,
}

/// Both ends of an answer of at most `bytes_max`.
pub(super) fn spool(bytes_max: usize) -> (Spool, Pages) {
    let shared = Arc::new(Mutex::new(Shared::default()));
    (Spool { shared: Arc::clone(&shared), left: bytes_max }, Pages { shared })
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Spool ===

impl Spool {
    /// Takes the body in until its end; an error says why not. That a client has gone is no error of the component's: what
    /// it still makes is let go of.
    ///
    /// Cancel-safe: an answer that is left off is cut.
    pub async fn fill(mut self, mut body: HyperOutgoingBody) -> Result<(), &'static str> {
        let mut trailers = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| "its answer was left unfinished")?;
            match frame.into_data() {
                Ok(data) => self.put(&data)?,
                Err(last) => trailers = last.into_trailers().ok(),
            }
        }
        self.end(End::Whole(trailers));
        Ok(())
    }

    fn put(&mut self, data: &Bytes) -> Result<(), &'static str> {
        self.left = self.left.checked_sub(data.len()).ok_or("its answer is longer than answer_bytes_max")?;
        let mut shared = lock(&self.shared);
        if !shared.is_abandoned {
            shared.unread.extend_from_slice(data);
        }
        if let Some(reader) = shared.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    fn end(&self, end: End) {
        let mut shared = lock(&self.shared);
        if shared.end.is_none() {
            shared.end = Some(end);
        }
        if let Some(reader) = shared.reader.take() {
            reader.wake();
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.end(End::Cut);
    }
}

// === impl Pages ===

impl Pages {
    /// All there is.
    pub(super) fn of(text: &'static str) -> Pages {
        let unread = BytesMut::from(text);
        let shared = Shared { unread, end: Some(End::Whole(None)), ..Shared::default() };
        Pages { shared: Arc::new(Mutex::new(shared)) }
    }
}

impl Body for Pages {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let mut shared = lock(&self.shared);
        if !shared.unread.is_empty() {
            let data = shared.unread.split().freeze();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match shared.end.replace(End::Told) {
            None => {
                shared.end = None;
                shared.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(End::Whole(Some(trailers))) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Some(End::Whole(None) | End::Told) => Poll::Ready(None),
            Some(End::Cut) => Poll::Ready(Some(Err(Cut))),
        }
    }

    fn is_end_stream(&self) -> bool {
        let shared = lock(&self.shared);
        shared.unread.is_empty() && matches!(shared.end, Some(End::Whole(None) | End::Told))
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.is_abandoned = true;
        shared.unread = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    fn body(text: &str) -> HyperOutgoingBody {
        Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(Into::into).boxed_unsync()
    }

    #[tokio::test]
    async fn an_answer_within_the_bound_comes_out_whole_and_a_longer_one_is_cut() {
        // Goal: nobody takes half an answer for a whole one. Method: one that just fits, one byte more, and one whose
        // maker went away.
        let (spool_in, pages) = spool(5);
        assert_eq!(spool_in.fill(body("hello")).await, Ok(()));
        assert_eq!(pages.collect().await.unwrap().to_bytes(), "hello");
        let (spool_in, pages) = spool(4);
        assert!(spool_in.fill(body("hello")).await.is_err());
        assert_eq!(pages.collect().await.map(|all| all.to_bytes()), Err(Cut));
        let (spool_in, pages) = spool(4);
        drop(spool_in);
        assert_eq!(pages.collect().await.map(|all| all.to_bytes()), Err(Cut));
    }

    #[tokio::test]
    async fn what_nobody_reads_is_not_kept() {
        // Goal: a client that went away costs no memory. Method: an answer whose reader is dropped.
        let (spool_in, pages) = spool(5);
        let shared = Arc::clone(&pages.shared);
        drop(pages);
        assert_eq!(spool_in.fill(body("hello")).await, Ok(()));
        assert!(lock(&shared).unread.is_empty());
    }
}
