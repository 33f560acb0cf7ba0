//! The socket's side of the gateway.

use std::io::ErrorKind;
use std::path::PathBuf;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::block;
use crate::cli::rows::{Block, Form};
use crate::control::{Origin, Refusal};
use crate::runtime::{Answer, Artifact, Order, OrderSender, WASM_BYTES_MAX};
use crate::sample::Lane;
use crate::store;

use super::{PATIENCE, REQUEST_BYTES_MAX, Request, Sources};

/// Most outputs in one peek.
const PEEK_MAX: usize = 100;
/// Bytes of encoded outputs in one peek.
const PEEK_BYTES_MAX: usize = 1 << 20;

/// The task that answers.
#[derive(Debug)]
pub struct Console {
    listener: UnixListener,
    path: PathBuf,
    sources: Sources,
    store: store::Handle,
    orders: OrderSender,
}

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ConsoleError {
    #[error("cannot create the folder of the local socket {path}")]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("cannot listen on the local socket {path}")]
    Listen { path: PathBuf, source: std::io::Error },
    #[error("another frond answers on the local socket {path}; give this one a gateway.run_dir of its own")]
    InUse { path: PathBuf },
}

// === impl Console ===

impl Console {
    /// Listens on the socket, replacing what a predecessor left. A socket behind which somebody listens is another
    /// gateway's, with another data folder and the same run folder.
    pub fn bind(
        path: PathBuf,
        sources: Sources,
        store: store::Handle,
        orders: OrderSender,
    ) -> Result<Console, ConsoleError> {
        let listen = |source| ConsoleError::Listen { path: path.clone(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|source| ConsoleError::Folder { path: path.clone(), source })?;
        }
        // Connecting to a local socket never waits: nobody behind it is refused at once, a full queue is EAGAIN.
        match std::os::unix::net::UnixStream::connect(&path) {
            Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
            Err(err) if err.kind() != ErrorKind::WouldBlock => return Err(listen(err)),
            Ok(_) | Err(_) => return Err(ConsoleError::InUse { path }),
        }
        match std::fs::remove_file(&path) {
            Err(err) if err.kind() != ErrorKind::NotFound => return Err(listen(err)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(listen)?;
        Ok(Console { listener, path, sources, store, orders })
    }

    /// Answers until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while let Some(accepted) = stop.run_until_cancelled(self.listener.accept()).await {
            let Ok((stream, _)) = accepted else { continue };
            if tokio::time::timeout(PATIENCE, self.serve(stream)).await.is_err() {
                debug!("a client of the local socket was too slow");
            }
        }
        let _ = std::fs::remove_file(&self.path);
    }

    /// Cancel-safe: a request changes nothing, so it may be dropped half answered; an order is obeyed or not by the
    /// pipeline, whether anybody hears the answer or not.
    async fn serve(&self, stream: UnixStream) {
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        let mut line = String::new();
        if (&mut read).take(REQUEST_BYTES_MAX).read_line(&mut line).await.is_err() {
            return;
        }
        let answer = match serde_json::from_str(&line) {
            Ok(Request::Status) => serde_json::to_vec(&self.sources.status()),
            Ok(Request::Peek { count }) => serde_json::to_vec(&self.peek(count.min(PEEK_MAX)).await),
            Ok(Request::Component { order }) => {
                let answer = match complete(order, &mut read).await {
                    Ok(order) => self.order(order).await,
                    Err(refused) => refused,
                };
                serde_json::to_vec(&answer)
            }
            Ok(Request::Control { command }) => {
                let answer = self.sources.control.command(command, Origin::Site).await;
                let refused = |refusal: Refusal| Answer::Refused(refusal.to_string());
                serde_json::to_vec(&answer.map_or_else(refused, Answer::Done))
            }
            Ok(Request::Overview) => {
                self.sources.control.restored().await;
                let shown = self.sources.control.shown.borrow().clone();
                serde_json::to_vec(&shown.overview())
            }
            Ok(Request::History { newest }) => {
                // A database that cannot be read has nothing to tell; the status complains of it.
                serde_json::to_vec(&self.sources.control.history(newest).await.unwrap_or_default())
            }
            Err(err) => serde_json::to_vec(&serde_json::json!({ "error": err.to_string() })),
        };
        let mut answer = answer.expect("status and blocks serialize");
        answer.push(b'\n');
        let _ = write.write_all(&answer).await;
    }

    async fn order(&self, order: Order) -> Answer {
        let component = order.component();
        let shown = self.sources.control.shown.borrow().clone();
        if let Some(workload) = shown.views().find(|workload| workload.name() == component) {
            return match order {
                Order::Release { .. } => workload.release(),
                Order::Deploy { .. } | Order::Rollback { .. } => {
                    let remedy = match shown.desired.components.contains_key(component) {
                        true => format!(
                            "`frond component put {component} REFERENCE` gives it another version, on probation"
                        ),
                        false => "put the new file at its path and restart frond".to_owned(),
                    };
                    Answer::Refused(format!(
                        "component {component} is of kind \"wasmcloud\", and deployments are for those of kind \"telemetry\"; {remedy}"
                    ))
                }
            };
        }
        let (reply, answer) = oneshot::channel();
        let stopping = || Answer::Refused("the gateway is stopping".to_owned());
        if self.orders.send((order, reply)).await.is_err() {
            return stopping();
        }
        answer.await.unwrap_or_else(|_| stopping())
    }

    async fn peek(&self, count: usize) -> Vec<serde_json::Value> {
        let mut peeked = Vec::new();
        for lane in [Lane::Alarm, Lane::Data] {
            let mut after = 0;
            while peeked.len() < count {
                let Ok(rows) = self.store.outputs(lane, after, PEEK_BYTES_MAX).await else { return peeked };
                let Some(last) = rows.last() else { break };
                after = last.id;
                peeked.extend(rows.iter().take(count - peeked.len()).map(describe));
            }
        }
        peeked
    }
}

/// Reads what follows an order.
async fn complete(order: Order, read: &mut (impl AsyncBufRead + Unpin)) -> Result<Order, Answer> {
    let Order::Deploy { component, state, bytes, .. } = order else { return Ok(order) };
    if bytes > WASM_BYTES_MAX {
        return Err(Answer::Refused(format!(
            "the file has {bytes} bytes, more than the {WASM_BYTES_MAX} a component may have"
        )));
    }
    let mut artifact = Vec::new();
    let came = read.take(bytes).read_to_end(&mut artifact).await;
    if came.is_err() || artifact.len() as u64 != bytes {
        return Err(Answer::Refused("the file did not come whole".to_owned()));
    }
    Ok(Order::Deploy { component, state, bytes, artifact: Artifact(artifact) })
}

fn describe(row: &crate::outbox::OutRow) -> serde_json::Value {
    let (stream, rows) = match block::decode_envelope(&row.body) {
        Ok(envelope) => {
            let block = Block { envelope: &envelope, clock_correction: row.clock_correction };
            let lines = block.lines(Form::Json, &serde_json::Map::new());
            let rows = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
            (envelope.stream.clone(), serde_json::Value::Array(rows))
        }
        Err(err) => (String::new(), serde_json::json!({ "error": err.to_string() })),
    };
    serde_json::json!({
        "lane": row.subject.lane.token(), "seq": row.seq, "bytes": row.body.len(), "stream": stream, "rows": rows,
    })
}
