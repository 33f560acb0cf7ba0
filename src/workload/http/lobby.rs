//! Where requests come in: one address of one component, its connections, and how long each may take.
//!
//! ```text
//!  accept ──▶ head ≤ 10 s ──▶ body ≤ 10 s ─▶ inbox, component ≤ 2 deadlines ──▶ answer ──▶ closed
//!                             └────────────── 40 s and 2 deadlines altogether ───────┘
//!     └─ too many: 503 at once, a hundred a second; the others wait where the kernel keeps them
//! ```
//! Polled by the workload's task. A connection is for one request: what it may cost is known when it is let in. An address
//! that cannot be had is told in the status and tried again every five seconds.

use std::convert::Infallible;
use std::io::{self, Read as _, Write as _};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use wasmtime_wasi_http::io::TokioIo;

use super::HEAD_BYTES_MAX;
use super::spool::Pages;
use super::visit::{Refusal, Visit, says_host};
use crate::config::HttpSource;
use crate::workload::account::{Account, Standing, count};
use crate::workload::inbox::Inbox;

/// From the connection to the end of the head. A browser that opens one in advance comes again.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// For the body of a request: 256 KiB in 10 s are 26 KB/s.
const BODY_TIME: Duration = Duration::from_secs(10);
/// What a client has at least to read the answer: 1 MiB in 30 s are 35 KB/s. Time that it did not take before is added.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Of a body that is too long, what is heard before that is said: most bodies to their end.
const REST_BYTES_MAX: usize = 1 << 20;
/// Most headers of a request; browsers send some twenty.
const HEADERS_MAX: usize = 64;
/// Between two attempts to listen.
const AGAIN: Duration = Duration::from_secs(5);
/// Between two connections that are turned away, and after one that could not be accepted.
const PAUSE: Duration = Duration::from_millis(10);

/// For a connection beyond the bound: it is not worth more.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";

/// One address.
pub struct Lobby {
    source: HttpSource,
    deadline: Duration,
    inbox: Arc<Inbox>,
    standing: watch::Receiver<Standing>,
    account: Arc<Account>,
    shut: watch::Sender<Option<String>>,
}

// === impl Lobby ===

impl Lobby {
    /// The lobby, and where it is told why it is shut, if it is.
    pub fn new(
        source: HttpSource,
        deadline: Duration,
        inbox: Arc<Inbox>,
        standing: watch::Receiver<Standing>,
        account: Arc<Account>,
    ) -> (Lobby, watch::Receiver<Option<String>>) {
        let (shut, told) = watch::channel(None);
        (Lobby { source, deadline, inbox, standing, account, shut }, told)
    }

    /// Receives until it is dropped.
    pub async fn receive(self) {
        let address = self.source.address;
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    self.shut.send_replace(None);
                    self.serve(&listener).await;
                }
                Err(error) => {
                    if self.shut.borrow().is_none() {
                        tracing::error!(%address, %error, "a component's HTTP address cannot be had, trying again");
                    }
                    self.shut.send_replace(Some(format!("{address} cannot be listened on: {error}")));
                }
            }
            sleep(AGAIN).await;
        }
    }

    async fn serve(&self, listener: &TcpListener) {
        let mut connections = FuturesUnordered::new();
        let mut next = Instant::now();
        loop {
            // Cancel-safe: nothing is accepted before the pause is over, and what is accepted is returned.
            tokio::select! {
                accepted = accept(listener, next) => match accepted {
                    Ok(stream) if connections.len() < self.source.connections_max => {
                        // It only makes small answers faster.
                        let _ = stream.set_nodelay(true);
                        connections.push(self.connection(stream));
                    }
                    Ok(stream) => {
                        count(&self.account.turned_away);
                        turn_away(stream);
                        next = Instant::now() + PAUSE;
                    }
                    // No descriptor, no memory, or the client has gone already: none of these is the listener's end.
                    Err(_) => next = Instant::now() + PAUSE,
                },
                Some(()) = connections.next() => {}
            }
        }
    }

    /// One connection, with one request.
    async fn connection(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let arrived = Notify::new();
        let service = service_fn(|request| {
            arrived.notify_one();
            self.answer(request)
        });
        let mut serving = pin!(
            http1::Builder::new()
                .keep_alive(false)
                .max_buf_size(HEAD_BYTES_MAX)
                .max_headers(HEADERS_MAX)
                .serve_connection(TokioIo::new(stream), service)
        );
        let head = async {
            // Cancel-safe: what is left of the connection goes on below.
            tokio::select! {
                biased;
                served = &mut serving => Some(served),
                () = arrived.notified() => None,
            }
        };
        let served = match timeout(HEAD_TIME, head).await {
            Err(_) => return count(&self.account.turned_away),
            Ok(Some(served)) => Ok(served),
            Ok(None) => timeout(BODY_TIME + 2 * self.deadline + ANSWER_TIME, serving).await,
        };
        // A head that is too large, a client that goes away or reads too slowly, an answer that was cut.
        if !matches!(served, Ok(Ok(()))) {
            count(&self.account.turned_away);
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Pages>, Infallible> {
        Ok(self.visit(request).await.unwrap_or_else(|refusal| {
            if refusal != Refusal::Failed {
                count(&self.account.turned_away);
            }
            refusal.response()
        }))
    }

    async fn visit(&self, request: Request<Incoming>) -> Result<Response<Pages>, Refusal> {
        if !says_host(&request) {
            return Err(Refusal::Bad);
        }
        let mut standing = self.standing.clone();
        if is_shut(&standing.borrow_and_update()) {
            return Err(Refusal::Busy);
        }
        let (head, body) = request.into_parts();
        let body = self.body(body).await?;
        let bytes = body.len();
        let request = Request::from_parts(head, Full::new(body));
        let (visit, answer) = Visit::new(request, bytes, self.source.answer_bytes_max);
        let mut chair = Chair { inbox: &self.inbox, is_empty: false };
        self.inbox.receive(visit);
        // Cancel-safe: who hangs up is not waited for, and the component is not given what nobody waits for.
        tokio::select! {
            biased;
            answer = answer => {
                chair.is_empty = true;
                answer.unwrap_or(Err(Refusal::Busy))
            }
            // What waits for a component that has just been quarantined would wait for long.
            _ = standing.wait_for(is_shut) => Err(Refusal::Busy),
            () = sleep(2 * self.deadline) => Err(Refusal::Late),
        }
    }

    async fn body(&self, mut body: Incoming) -> Result<Bytes, Refusal> {
        match timeout(BODY_TIME, Limited::new(&mut body, self.source.body_bytes_max).collect()).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                // Who still sends when the connection ends does not hear why.
                let rest = Limited::new(body, REST_BYTES_MAX).collect();
                let _ = timeout(BODY_TIME, rest).await;
                Err(Refusal::Large)
            }
            Ok(Err(_)) => Err(Refusal::Bad),
            Err(_) => Err(Refusal::Slow),
        }
    }
}

/// Where somebody waits, whose request is cleared away when he goes.
struct Chair<'a> {
    inbox: &'a Inbox,
    is_empty: bool,
}

impl Drop for Chair<'_> {
    fn drop(&mut self) {
        if !self.is_empty {
            self.inbox.clear_gone();
        }
    }
}

/// Says that there is no room, without waiting for anything.
fn turn_away(stream: TcpStream) {
    // Not by tokio, which would have to wait to learn that there is room for these bytes. The buffer is empty, so it takes
    // them or the client has gone; what the client has said already is heard, or the kernel would take the answer back.
    let Ok(mut stream) = stream.into_std() else { return };
    let _ = stream.read(&mut [0; 4096]);
    let _ = stream.write(FULL);
}

/// Whether a component takes no requests for the time being. One that was ended is there again soon, or quarantined.
fn is_shut(standing: &Standing) -> bool {
    matches!(standing, Standing::Absent(_) | Standing::Quarantined(_))
}

async fn accept(listener: &TcpListener, not_before: Instant) -> io::Result<TcpStream> {
    sleep_until(not_before).await;
    listener.accept().await.map(|(stream, _)| stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Overflow};
    use crate::workload::inbox::Post;
    use std::sync::atomic::Ordering;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    const DEADLINE: Duration = Duration::from_secs(3);
    const WHOLE: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    fn lobby() -> (Lobby, watch::Sender<Standing>) {
        let account = Arc::new(Account::default());
        let bounds = config::Inbox { messages_max: 8, bytes_max: 1 << 20, overflow: Overflow::DropNewest };
        let inbox = Arc::new(Inbox::new(bounds, Arc::clone(&account)));
        let source = HttpSource {
            address: ([127, 0, 0, 1], 1).into(),
            connections_max: 1,
            body_bytes_max: 1 << 10,
            answer_bytes_max: 1 << 10,
        };
        let (kept, standing) = watch::channel(Standing::Ready);
        (Lobby::new(source, DEADLINE, inbox, standing, account).0, kept)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_slow_in_anything_loses_its_place_in_time() {
        // Goal: no client has a place for longer than is written above, and each that is given up is counted. Method: one
        // that stops within the head, the body, or has to wait for a component that does not come, on a paused clock.
        for (said, heard, seconds) in [
            ("", "", 10),
            ("GET / HTTP/1.1\r\nho", "", 10),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nx", "HTTP/1.1 408 ", 10),
            (WHOLE, "HTTP/1.1 504 ", 6),
        ] {
            let ((lobby, _standing), begun) = (lobby(), Instant::now());
            let (mut client, server) = duplex(1 << 10);
            client.write_all(said.as_bytes()).await.unwrap();
            let mut text = String::new();
            let (read, ()) = tokio::join!(client.read_to_string(&mut text), lobby.connection(server));
            read.unwrap();
            assert!(text.starts_with(heard) && text.is_empty() == heard.is_empty(), "{said:?}: {text}");
            assert_eq!(begun.elapsed().as_secs(), seconds, "{said:?}");
            assert_eq!(lobby.account.turned_away.load(Ordering::Relaxed), 1, "{said:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_its_answer_loses_its_place_in_time() {
        // Goal: as above, for the answer. Method: an answer that the way to the client has no room for.
        let ((lobby, _standing), begun) = (lobby(), Instant::now());
        let (mut client, server) = duplex(64);
        client.write_all(WHOLE.as_bytes()).await.unwrap();
        let give = async {
            let Post::Visit(mut visit) = lobby.inbox.next().await else { panic!("a message") };
            visit.reply.give(Ok(Response::new(Pages::of("more than there is room for"))));
        };
        tokio::join!(give, lobby.connection(server));
        assert_eq!(begun.elapsed(), BODY_TIME + 2 * DEADLINE + ANSWER_TIME);
        assert_eq!(lobby.account.turned_away.load(Ordering::Relaxed), 1);
    }
}
