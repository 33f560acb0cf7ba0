//! A request that waits for a component, and what becomes of it.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HOST, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use tokio::sync::oneshot;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::spool::{Pages, spool};

/// What a component gives, as wasmtime-wasi-http passes it on.
pub type Given = Result<Response<HyperOutgoingBody>, ErrorCode>;

/// The request. Dropped without an answer, it is answered with [`Refusal::Busy`].
#[derive(Debug)]
pub struct Visit {
    pub(in crate::workload) request: Request<Full<Bytes>>,
    pub(in crate::workload) bytes: usize,
    pub(in crate::workload) answer_bytes_max: usize,
    pub(in crate::workload) reply: Reply,
}

/// Where the answer goes, once.
#[derive(Debug)]
pub struct Reply(Option<oneshot::Sender<Result<Response<Pages>, Refusal>>>);

/// Why a request has no answer of the component's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It cannot be understood, or does not say for whom it is.
    Bad,
    /// It did not come in time.
    Slow,
    /// Its body is too long.
    Large,
    /// Too much waits already, or the component does not run.
    Busy,
    /// The component was ended by it, or gave no answer.
    Failed,
    /// It took too long.
    Late,
}

// === impl Visit ===

impl Visit {
    /// A request that is here altogether, and where to wait for the answer.
    pub(in crate::workload) fn new(
        request: Request<Full<Bytes>>,
        body_bytes: usize,
        answer_bytes_max: usize,
    ) -> (Visit, oneshot::Receiver<Result<Response<Pages>, Refusal>>) {
        let head: usize =
            request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let asked = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
        let bytes = body_bytes + head + asked;
        let (sender, answer) = oneshot::channel();
        (Visit { request, bytes, answer_bytes_max, reply: Reply(Some(sender)) }, answer)
    }

    /// Whether nobody waits for the answer any more.
    pub(in crate::workload) fn is_gone(&self) -> bool {
        self.reply.0.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

// === impl Reply ===

impl Reply {
    /// Answers, unless that has been done; who asked may be gone.
    pub(in crate::workload) fn give(&mut self, answer: Result<Response<Pages>, Refusal>) {
        if let Some(reply) = self.0.take() {
            let _ = reply.send(answer);
        }
    }
}

/// Passes on what a component gives; an error says why there was nothing, or not all of it. Ends when the answer does, or
/// when the component has let go of it; one that keeps it beyond its call has left it unfinished.
///
/// Cancel-safe: what is not there by then does not come.
pub async fn deliver(
    given: oneshot::Receiver<Given>,
    reply: &mut Reply,
    bytes_max: usize,
) -> Result<(), String> {
    match given.await {
        Ok(Ok(answer)) => {
            let (head, body) = answer.into_parts();
            let (spool, pages) = spool(bytes_max);
            reply.give(Ok(Response::from_parts(head, pages)));
            spool.fill(body).await.map_err(str::to_owned)
        }
        Ok(Err(code)) => {
            reply.give(Err(Refusal::Failed));
            Err(format!("it answered a request with an error: {code:?}"))
        }
        Err(_) => Err("it left a request without an answer".to_owned()),
    }
}

/// Whether a component can be told for whom a request is.
pub(super) fn says_host<B>(request: &Request<B>) -> bool {
    let host = request.headers().get(HOST);
    request.uri().authority().is_some() || host.is_some_and(|host| host.to_str().is_ok())
}

// === impl Refusal ===

impl Refusal {
    /// What the client is told.
    pub(super) fn response(self) -> Response<Pages> {
        let (status, text) = match self {
            Refusal::Bad => (StatusCode::BAD_REQUEST, "the request cannot be understood\n"),
            Refusal::Slow => (StatusCode::REQUEST_TIMEOUT, "the request did not come in time\n"),
            Refusal::Large => (StatusCode::PAYLOAD_TOO_LARGE, "the request is too large\n"),
            Refusal::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "the component has no time, or does not run\n")
            }
            Refusal::Failed => (StatusCode::BAD_GATEWAY, "the component failed\n"),
            Refusal::Late => (StatusCode::GATEWAY_TIMEOUT, "the component took too long\n"),
        };
        let mut response = Response::new(Pages::of(text));
        *response.status_mut() = status;
        if self == Refusal::Busy {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
