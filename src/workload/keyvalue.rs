//! Values that components keep, and what is desired of this gateway: `state.db`, owned by the thread `keeper`.
//!
//! ```text
//!  workload ──Request──▶ Keeper ──▶ open transaction ──at most one commit interval──▶ synced
//!      ▲                  │  ▲                                                          ▲
//!      └───── answer ─────┘  └─Save── control      at once, answered when it is ────────┘
//!        (reads see what was written before)
//! ```
//! Rows of [`records`] are control's: what they mean is in `crate::control`.
//! A place is (component, link, bucket): components do not see each other's values. Power loss: a write is on flash within
//! a commit interval of its return; a cut before that takes back the newest writes, whole and in their order, never one
//! from the middle. They are not synced one by one because each sync costs the flash some 8 KiB, and a component that
//! counts messages would write a gigabyte a day.
//! When full: a link's quota of bytes and keys refuses further writes, with an error that the component sees. When the disk
//! refuses, what was not committed is taken back, and writes fail with the reason until it takes them again.

mod open;
mod records;
mod table;
mod wal;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::sample::Nanos;

pub use self::records::{Line, Row, Save, Write};
use self::table::Usage;

/// Requests on their way: one from each workload and from control, which wait for their answers.
const REQUESTS_MAX: usize = 20;
/// Longest name of a bucket or key.
const NAME_BYTES_MAX: usize = 512;
/// Keys in one batch.
const BATCH_MAX: usize = 1_024;

/// A bucket that a component has opened.
#[derive(Debug)]
pub struct Bucket {
    pub(super) name: String,
}

/// Whose values, and how many there may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The component.
    pub component: String,
    /// The link it keeps them by.
    pub link: String,
    /// The bucket.
    pub bucket: String,
    /// Bytes that may be kept by the link.
    pub bytes_max: u64,
    /// Keys that may be.
    pub keys_max: u64,
}

/// What is asked.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Ask {
    /// The values of keys.
    Get { keys: Vec<String> },
    /// Keys get these values, all of them or none.
    Set { pairs: Vec<(String, Vec<u8>)> },
    /// Keys are removed.
    Delete { keys: Vec<String> },
    /// A page of keys behind a cursor.
    List { after: u64 },
    /// A number is added to.
    Increment { key: String, delta: u64 },
}

/// What comes back.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// By key, in the order asked.
    Values(Vec<Option<Vec<u8>>>),
    /// It is done.
    Done,
    /// Keys, and the cursor of the next page.
    Keys(Vec<String>, Option<u64>),
    /// The number afterwards.
    Sum(u64),
}

/// Why something was not done. Its text is what a component is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum KeepError {
    #[error("more than the {bytes_max} bytes that the link allows (bytes_max)")]
    Bytes { bytes_max: u64 },
    #[error("more than the {keys_max} keys that the link allows (keys_max)")]
    Keys { keys_max: u64 },
    #[error("names of buckets and keys have 1 to {NAME_BYTES_MAX} bytes")]
    Name,
    #[error("more than {BATCH_MAX} keys in one call")]
    Batch,
    #[error("the value is not a number that can be added to")]
    NotANumber,
    #[error("the database cannot be used: {0}")]
    Database(String),
    #[error("the gateway is stopping")]
    Gone,
}

/// Why `state.db` cannot be opened.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum KeeperError {
    #[error("cannot open {path}")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("{path} was written by a newer frond; start that version, or move the file away")]
    Newer { path: PathBuf },
    #[error("cannot move the unusable {path} aside")]
    SetAside { path: PathBuf, source: std::io::Error },
    #[error("cannot set up the keeper's thread")]
    Thread(#[source] std::io::Error),
}

type Reply<T> = oneshot::Sender<Result<T, KeepError>>;

#[derive(Debug)]
enum Request {
    /// Of a component.
    Values {
        place: Place,
        ask: Ask,
        reply: Reply<Answer>,
    },
    /// Of control.
    Save {
        save: Save,
        reply: Reply<()>,
    },
    Rows {
        reply: Reply<Vec<Row>>,
    },
    Lines {
        newest: u32,
        reply: Reply<Vec<Line>>,
    },
}

/// What was found wrong with `state.db` at the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// One that lies aside.
    pub aside: Option<Aside>,
    /// The newest changes could not be read, though they were on flash.
    pub has_lost_newest: bool,
}

/// A damaged `state.db` that was set aside, and that nobody has taken away since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// Where it lies.
    pub path: PathBuf,
    /// Since when, by the system's clock.
    pub since: Nanos,
}

/// How workloads ask. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KeeperHandle {
    requests: mpsc::Sender<Request>,
    damage: Damage,
}

/// The thread that owns `state.db`.
#[derive(Debug)]
pub struct Keeper {
    db: Connection,
    requests: mpsc::Receiver<Request>,
    commit_interval: Duration,
    /// When what was written is to be committed; `None` when nothing was.
    due: Option<Instant>,
    usage: HashMap<(String, String), Usage>,
}

// === impl KeeperHandle ===

impl KeeperHandle {
    /// What was wrong at the start.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&self, place: Place, ask: Ask) -> Result<Answer, KeepError> {
        self.request(|reply| Request::Values { place, ask, reply }).await
    }

    /// Writes rows and a line of the history, all or nothing. They are on flash when this returns.
    pub async fn save(&self, save: Save) -> Result<(), KeepError> {
        self.request(|reply| Request::Save { save, reply }).await
    }

    /// All rows.
    pub async fn rows(&self) -> Result<Vec<Row>, KeepError> {
        self.request(|reply| Request::Rows { reply }).await
    }

    /// The newest lines of the history, the newest first.
    pub async fn lines(&self, newest: u32) -> Result<Vec<Line>, KeepError> {
        self.request(|reply| Request::Lines { newest, reply }).await
    }

    async fn request<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, KeepError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| KeepError::Gone)?;
        answer.await.map_err(|_| KeepError::Gone)?
    }
}

// === impl Keeper ===

impl Keeper {
    /// Opens `state.db`, making it when it is not there; a damaged one is renamed to `state.db.aside`.
    pub fn open(data_dir: &Path, commit_interval: Duration) -> Result<(Keeper, KeeperHandle), KeeperError> {
        let (db, damage) = open::open(&data_dir.join("state.db"))?;
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let keeper = Keeper { db, requests, commit_interval, due: None, usage: HashMap::new() };
        Ok((keeper, KeeperHandle { requests: sender, damage }))
    }

    /// Serves requests until stopped, and commits what it has. Runs on a thread of its own.
    pub fn run(mut self, stop: CancellationToken) -> Result<(), KeeperError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(KeeperError::Thread)?;
        runtime.block_on(async {
            loop {
                // Cancel-safe: a request that was received is answered before anything else is looked at.
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = sleep_until(self.due.unwrap_or_else(Instant::now)), if self.due.is_some() => self.commit(),
                    request = self.requests.recv() => match request {
                        Some(request) => self.serve(request),
                        None => break,
                    },
                }
            }
        });
        self.commit();
        Ok(())
    }

    fn serve(&mut self, request: Request) {
        // Whoever asked may have been ended meanwhile.
        match request {
            Request::Values { place, ask, reply } => drop(reply.send(self.answer(&place, ask))),
            Request::Save { save, reply } => drop(reply.send(self.save(&save))),
            Request::Rows { reply } => drop(reply.send(records::rows(&self.db).map_err(database))),
            Request::Lines { newest, reply } => {
                drop(reply.send(records::lines(&self.db, newest).map_err(database)))
            }
        }
    }

    /// In one transaction with the values that wait for theirs: one sync for all.
    fn save(&mut self, save: &Save) -> Result<(), KeepError> {
        if self.due.is_none() {
            self.db.execute_batch("BEGIN").map_err(database)?;
            self.due = Some(Instant::now());
        }
        self.db.execute_batch("SAVEPOINT change").map_err(database)?;
        let saved = records::save(&self.db, save);
        let end = if saved.is_ok() { "RELEASE change" } else { "ROLLBACK TO change; RELEASE change" };
        if let Err(error) = self.db.execute_batch(end) {
            self.give_up(&error);
            return Err(database(error));
        }
        saved.map_err(database)?;
        self.due = None;
        self.db.execute_batch("COMMIT").map_err(|error| {
            self.give_up(&error);
            database(error)
        })
    }

    fn answer(&mut self, place: &Place, ask: Ask) -> Result<Answer, KeepError> {
        let is_name = |name: &str| (1..=NAME_BYTES_MAX).contains(&name.len());
        let keys: Vec<&str> = match &ask {
            Ask::Get { keys } | Ask::Delete { keys } => keys.iter().map(String::as_str).collect(),
            Ask::Set { pairs } => pairs.iter().map(|(key, _)| key.as_str()).collect(),
            Ask::Increment { key, .. } => vec![key],
            Ask::List { .. } => Vec::new(),
        };
        if !is_name(&place.bucket) || !keys.iter().all(|key| is_name(key)) {
            return Err(KeepError::Name);
        }
        if keys.len() > BATCH_MAX {
            return Err(KeepError::Batch);
        }
        match ask {
            Ask::Get { keys } => {
                let values: rusqlite::Result<_> =
                    keys.iter().map(|key| table::get(&self.db, place, key)).collect();
                Ok(Answer::Values(values.map_err(database)?))
            }
            Ask::List { after } => table::list(&self.db, place, after).map_err(database),
            Ask::Set { pairs } => self.write(place, |db, usage| {
                pairs.iter().try_for_each(|(key, value)| table::set(db, place, key, value, usage))?;
                Ok(Answer::Done)
            }),
            Ask::Delete { keys } => self.write(place, |db, usage| {
                keys.iter().try_for_each(|key| table::delete(db, place, key, usage))?;
                Ok(Answer::Done)
            }),
            Ask::Increment { key, delta } => self.write(place, |db, usage| {
                let before = match table::get(db, place, &key).map_err(database)? {
                    None => 0,
                    Some(value) => std::str::from_utf8(&value)
                        .ok()
                        .and_then(|text| text.parse::<u64>().ok())
                        .ok_or(KeepError::NotANumber)?,
                };
                let sum = before.checked_add(delta).ok_or(KeepError::NotANumber)?;
                table::set(db, place, &key, sum.to_string().as_bytes(), usage)?;
                Ok(Answer::Sum(sum))
            }),
        }
    }

    /// A change, whole or not at all, in the transaction that is committed next.
    fn write(
        &mut self,
        place: &Place,
        change: impl FnOnce(&Connection, &mut Usage) -> Result<Answer, KeepError>,
    ) -> Result<Answer, KeepError> {
        let owner = (place.component.clone(), place.link.clone());
        let mut usage = match self.usage.get(&owner) {
            Some(usage) => *usage,
            None => table::usage_of(&self.db, place).map_err(database)?,
        };
        if self.due.is_none() {
            self.db.execute_batch("BEGIN").map_err(database)?;
            self.due = Some(Instant::now() + self.commit_interval);
        }
        self.db.execute_batch("SAVEPOINT change").map_err(database)?;
        let changed = change(&self.db, &mut usage);
        let end = if changed.is_ok() { "RELEASE change" } else { "ROLLBACK TO change; RELEASE change" };
        if let Err(error) = self.db.execute_batch(end) {
            // A full disk may have ended the whole transaction.
            self.give_up(&error);
            return Err(database(error));
        }
        if changed.is_ok() {
            self.usage.insert(owner, usage);
        }
        changed
    }

    fn commit(&mut self) {
        if self.due.take().is_some()
            && let Err(error) = self.db.execute_batch("COMMIT")
        {
            self.give_up(&error);
        }
    }

    fn give_up(&mut self, error: &rusqlite::Error) {
        tracing::error!(%error, "state.db cannot be written; the newest values of components are taken back");
        if !self.db.is_autocommit() {
            // It fails only if the transaction has ended already.
            let _ = self.db.execute_batch("ROLLBACK");
        }
        self.due = None;
        self.usage.clear();
    }
}

fn database(error: rusqlite::Error) -> KeepError {
    KeepError::Database(error.to_string())
}

#[cfg(test)]
mod tests;
