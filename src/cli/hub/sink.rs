//! Where `frond hub` puts what it receives, together with the account of what it has received.
//!
//! Rows and account reach the disk together, so that a message that is delivered again after a crash is recognised: in
//! SQLite in one transaction; with JSON lines by a state file beside them that says how long the lines were when it was
//! written, and the lines are cut back to that at the next start. JetStream is told only afterwards. A named thread does
//! the writing, behind a channel of one batch.

mod lines;
mod sqlite;

use std::io;
use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot};

use crate::cli::receipts::{Receipt, StoredAccount};

use lines::Lines;
use sqlite::Sqlite;

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// Nowhere: only the account is kept, in memory.
    Nowhere,
    /// Standard output, as JSON lines; the account is kept in memory.
    Output,
    /// A file of JSON lines.
    Lines(PathBuf),
    /// An SQLite database.
    Sqlite(PathBuf),
}

impl Destination {
    /// Where rows go, for whoever has started the command.
    pub(super) fn sentence(&self) -> String {
        match self {
            Destination::Nowhere => {
                "rows are checked, acknowledged and kept nowhere: give --sqlite or --jsonl to keep them"
                    .to_owned()
            }
            Destination::Output => "rows go to standard output".to_owned(),
            Destination::Lines(path) | Destination::Sqlite(path) => format!("rows go to {}", path.display()),
        }
    }
}

/// What is written at a time.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// New messages.
    pub receipts: Vec<Receipt>,
    /// The accounts they belong to, as they are after them.
    pub accounts: Vec<StoredAccount>,
}

/// Why nothing could be written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A file.
    #[error("{path} cannot be written or read")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The state beside a file of lines.
    #[error("{path} is not the state of a file of lines; move both away to begin anew")]
    State {
        /// Which.
        path: PathBuf,
    },
    /// A file of lines without its state, or shorter than that says.
    #[error("{path} does not match its state file; move both away to begin anew")]
    Mismatch {
        /// Which.
        path: PathBuf,
    },
    /// The database.
    #[error("the database {path} cannot be used")]
    Database {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// Standard output is gone.
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
    /// The thread could not be started, or has died.
    #[error("the writing thread is gone")]
    Gone,
}

enum Sink {
    Nowhere,
    Lines(Lines),
    Sqlite(Box<Sqlite>),
}

/// The writing thread.
pub(super) struct SinkThread {
    batches: mpsc::Sender<(Batch, oneshot::Sender<Result<(), SinkError>>)>,
    closed: oneshot::Receiver<()>,
}

// === impl SinkThread ===

impl SinkThread {
    /// Opens the destination and starts the thread. Returns what was received before.
    pub async fn start(destination: Destination) -> Result<(SinkThread, Vec<StoredAccount>), SinkError> {
        let (opened, answer) = oneshot::channel();
        let (gone, closed) = oneshot::channel();
        let (batches, mut inbox) = mpsc::channel::<(Batch, oneshot::Sender<Result<(), SinkError>>)>(1);
        let body = move || {
            let mut sink = match Sink::open(destination) {
                Ok((sink, accounts)) => {
                    let _ = opened.send(Ok(accounts));
                    sink
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                    return;
                }
            };
            while let Some((batch, reply)) = inbox.blocking_recv() {
                let _ = reply.send(sink.write(&batch));
            }
            drop(sink);
            let _ = gone.send(());
        };
        std::thread::Builder::new().name("hub-sink".to_owned()).spawn(body).map_err(|_| SinkError::Gone)?;
        let accounts = answer.await.map_err(|_| SinkError::Gone)??;
        Ok((SinkThread { batches, closed }, accounts))
    }

    /// Writes a batch; durable when it returns.
    pub async fn write(&self, batch: Batch) -> Result<(), SinkError> {
        let (reply, answer) = oneshot::channel();
        self.batches.send((batch, reply)).await.map_err(|_| SinkError::Gone)?;
        answer.await.map_err(|_| SinkError::Gone)?
    }

    /// Closes the destination, so that a database is one file again for whoever copies it.
    pub async fn close(self) {
        drop(self.batches);
        // It is gone either way.
        let _ = self.closed.await;
    }
}

// === impl Sink ===

impl Sink {
    fn open(destination: Destination) -> Result<(Sink, Vec<StoredAccount>), SinkError> {
        Ok(match destination {
            Destination::Nowhere => (Sink::Nowhere, Vec::new()),
            Destination::Output => (Sink::Lines(Lines::to_output()), Vec::new()),
            Destination::Lines(path) => {
                let (lines, accounts) = Lines::open(path)?;
                (Sink::Lines(lines), accounts)
            }
            Destination::Sqlite(path) => {
                let (sqlite, accounts) = Sqlite::open(path)?;
                (Sink::Sqlite(Box::new(sqlite)), accounts)
            }
        })
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        match self {
            Sink::Nowhere => Ok(()),
            Sink::Lines(lines) => lines.write(batch),
            Sink::Sqlite(sqlite) => sqlite.write(batch),
        }
    }
}
