//! What a component asks of hosts: each request judged, then carried by a task of its own.
//!
//! Owns nothing but the way there. What bounds a component's requests is in [`Outside`], which outlives its instances. A
//! request is given up after three quarters of the component's deadline: one that a host does not answer leaves it time
//! to say so.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper::{Request, Response, Uri};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::HEAD_BYTES_MAX;
use super::dial::{Dial, LOOKUPS_MAX, Wire};
use super::gate;
use super::taken::{Taken, broken};
use crate::config::{HttpTarget, LinkEnd, Workload};
use crate::platform::roots::Roots;
use crate::runtime::voice::Level;
use crate::workload::account::count;
use crate::workload::room::Tools;

/// What a component may write of a body before it is taken away: with the 1,024 handles that it may hold, 16 MiB.
const CHUNK_BYTES_MAX: usize = 16 << 10;

/// What all instances of a workload share of the way out.
#[derive(Debug)]
pub struct Outside {
    connections: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    /// By name of the link.
    trust: HashMap<String, Arc<Roots>>,
    /// Nothing that it has asked goes on for longer.
    time_max: Duration,
}

/// The way out of one instance.
pub struct Courier {
    tools: Arc<Tools>,
    /// Name of the link that the component has chosen.
    link: String,
}

/// How long a step may take, by the component's wish and never longer than the whole may.
struct Patience {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

/// One request on its way.
struct Errand {
    dial: Dial,
    connections: Arc<Semaphore>,
    answer_bytes_max: u64,
    patience: Patience,
    /// When it is given up, wherever it is.
    ends: Instant,
}

type Carried = Result<(Response<WasiBody>, Io), Error>;
type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

// === impl Outside ===

impl Outside {
    /// For all instances of a workload.
    pub fn new(workload: &Workload) -> Outside {
        let trust = |link: &crate::config::Link| match &link.end {
            LinkEnd::HttpTarget(target) => Some((link.name.clone(), Arc::new(Roots::new(target.ca.clone())))),
            _ => None,
        };
        Outside {
            connections: Arc::new(Semaphore::new(workload.connections_out_max)),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            trust: workload.links.iter().filter_map(trust).collect(),
            time_max: workload.component.deadline * 3 / 4,
        }
    }
}

// === impl Courier ===

impl Courier {
    /// Of a new instance.
    pub fn new(tools: Arc<Tools>) -> Courier {
        Courier { tools, link: String::new() }
    }

    /// By which link the next request goes.
    pub fn choose(&mut self, link: &str) {
        if self.link != link {
            link.clone_into(&mut self.link);
        }
    }

    fn target(&self) -> Option<&HttpTarget> {
        self.tools.links.iter().find_map(|link| match &link.end {
            LinkEnd::HttpTarget(target) if link.name == self.link => Some(target),
            _ => None,
        })
    }

    /// The errand, if it may be run.
    fn errand(&self, request: &Request<WasiBody>, options: Option<RequestOptions>) -> Result<Errand, Error> {
        let target = self.target();
        let judged = gate::judge(target, request.method(), request.uri());
        let (host, target) = match (judged, target) {
            (Ok(host), Some(target)) => (host, target),
            (Err(denied), _) => {
                self.tools.voice.say(Level::Warn, &format!("a request by HTTP is denied: {denied}"));
                return Err(Error::HttpRequestDenied);
            }
            (Ok(_), None) => return Err(Error::HttpRequestDenied),
        };
        if !self.tools.may_send() {
            let why = "more messages a second than messages_out_per_second";
            return Err(Error::InternalError(Some(why.to_owned())));
        }
        let outside = &self.tools.outside;
        let Some(trust) = outside.trust.get(&self.link).map(Arc::clone) else {
            return Err(Error::HttpRequestDenied);
        };
        Ok(Errand {
            dial: Dial { host, trust, lookups: Arc::clone(&outside.lookups) },
            connections: Arc::clone(&outside.connections),
            answer_bytes_max: target.answer_bytes_max,
            patience: Patience::new(options.unwrap_or_default(), outside.time_max),
            ends: Instant::now() + outside.time_max,
        })
    }
}

impl WasiHttpHooks for Courier {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Carried> + Send> {
        let errand = match self.errand(&request, options) {
            Ok(errand) => errand,
            Err(refusal) => {
                count(&self.tools.account.refused);
                return Box::new(std::future::ready(Err(refusal)));
            }
        };
        count(&self.tools.account.requests);
        let tools = Arc::clone(&self.tools);
        Box::new(async move {
            let host = errand.dial.host.to_string();
            let carried = errand.run(request).await;
            if let Err(error) = &carried {
                count(&tools.account.unanswered);
                if let Some(why) = for_the_operator(error) {
                    tools.voice.say(Level::Warn, &format!("a request by HTTP to {host} is not made: {why}"));
                }
            }
            carried
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }

    // What these are told comes from `broken` before it gets here; the usual ones write to the log.
    fn p2_error_from_hyper(&mut self, _error: &hyper::Error) -> ErrorCode {
        ErrorCode::HttpProtocolError
    }

    fn p2_error_from_connect(&mut self, _error: &std::io::Error) -> ErrorCode {
        ErrorCode::ConnectionRefused
    }

    fn p2_error_from_tls(&mut self, _error: &std::io::Error) -> ErrorCode {
        ErrorCode::TlsProtocolError
    }
}

// === impl Patience ===

impl Patience {
    fn new(wish: RequestOptions, time_max: Duration) -> Patience {
        let within = |wish: Option<Duration>| wish.unwrap_or(time_max).min(time_max);
        Patience {
            connect: within(wish.connect_timeout),
            first_byte: within(wish.first_byte_timeout),
            between_bytes: within(wish.between_bytes_timeout),
        }
    }
}

// === impl Errand ===

impl Errand {
    /// Cancel-safe: a request that is dropped ends its connection.
    async fn run(self, request: Request<WasiBody>) -> Carried {
        let ends = self.ends;
        timeout_at(ends, self.carry(request)).await.unwrap_or(Err(Error::HttpResponseTimeout))
    }

    async fn carry(self, mut request: Request<WasiBody>) -> Carried {
        let connect = self.patience.connect;
        // A component that has just let go of an answer gets its place, though not at once.
        let place = timeout(connect, Arc::clone(&self.connections).acquire_owned()).await;
        let Ok(Ok(permit)) = place else { return Err(Error::ConnectionLimitReached) };
        let wire = self.dial.connect(connect).await?;
        *request.uri_mut() = path(request.uri());
        self.exchange(wire, permit, request).await
    }

    async fn exchange(
        self,
        wire: Box<dyn Wire>,
        permit: OwnedSemaphorePermit,
        request: Request<WasiBody>,
    ) -> Carried {
        let made = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(wire)).await;
        let (mut sender, connection) = made.map_err(|error| broken(&error))?;
        let mut connection = Some(Box::pin(connection));
        let mut sent = Box::pin(timeout(self.patience.first_byte, sender.send_request(request)));
        let answer = match connection.as_mut() {
            // The connection moves only while it is polled.
            Some(open) => tokio::select! {
                biased;
                answer = &mut sent => answer,
                ended = open => {
                    connection = None;
                    ended.map_err(|error| broken(&error))?;
                    sent.await
                }
            },
            None => sent.await,
        };
        let answer = answer.map_err(|_| Error::ConnectionReadTimeout)?.map_err(|error| broken(&error))?;
        let (head, body) = answer.into_parts();
        let body = Taken::new(body, self.answer_bytes_max, self.patience.between_bytes)?;
        let ends = self.ends;
        let io = async move {
            // The place is taken for as long as the connection is there: until the body is read, the component lets go
            // of it, or its time is over.
            let _held = permit;
            if let Some(connection) = connection {
                // What goes wrong from here on shows in the body.
                let _ = timeout_at(ends, connection).await;
            }
            Ok(())
        };
        Ok((Response::from_parts(head, body.boxed_unsync()), Box::new(io)))
    }
}

/// What the component cannot mend.
fn for_the_operator(error: &Error) -> Option<&str> {
    match error {
        Error::InternalError(Some(why)) => Some(why),
        Error::DestinationIpProhibited => Some("its name leads to this machine or to no machine's address"),
        _ => None,
    }
}

/// What stands in the first line of a request to a host itself, not to a proxy.
fn path(uri: &Uri) -> Uri {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    path.parse().unwrap_or_else(|_| Uri::from_static("/"))
}
