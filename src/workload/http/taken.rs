//! The body of an answer, as much of it and as slowly as is allowed.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use wasmtime_wasi_http::Error;

/// The body. It ends with an error where it is longer than the bound, and where nothing comes for too long.
pub(super) struct Taken {
    body: Incoming,
    bytes_max: u64,
    left: u64,
    patience: Duration,
    patient: Pin<Box<Sleep>>,
}

// === impl Taken ===

impl Taken {
    /// At most `bytes_max`, with at most `patience` between two pieces.
    pub fn new(body: Incoming, bytes_max: u64, patience: Duration) -> Result<Taken, Error> {
        // Better no answer than the first part of one.
        if body.size_hint().lower() > bytes_max {
            return Err(Error::HttpResponseBodySize(Some(body.size_hint().lower())));
        }
        Ok(Taken { body, bytes_max, left: bytes_max, patience, patient: Box::pin(sleep(patience)) })
    }
}

impl Body for Taken {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => {
                ready!(self.patient.as_mut().poll(cx));
                return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(broken(&error)))),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(left) = self.left.checked_sub(bytes) else {
            return Poll::Ready(Some(Err(Error::HttpResponseBodySize(Some(self.bytes_max)))));
        };
        self.left = left;
        let until = Instant::now() + self.patience;
        self.patient.as_mut().reset(until);
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What was wrong with a connection, in the words of `wasi:http`.
pub(super) fn broken(error: &hyper::Error) -> Error {
    if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(None)
    } else if error.is_parse() {
        Error::HttpProtocolError
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        Error::ConnectionTerminated
    } else if error.is_timeout() {
        Error::HttpResponseTimeout
    } else if error.is_user() {
        Error::HttpRequestBodySize(None)
    } else {
        Error::ConnectionTerminated
    }
}
