//! Where clients are let in: the task that owns users, limiter and proofs, and the thread that checks passwords.
//!
//! ```text
//!  connection tasks ──attempts──▶ Entrance (users.rs decides) ──checks──▶ Verifier, a thread of its own
//!         ▲                          │        ▲                              │
//!         └────── Pass or Refusal ───┘        └────────── right, wrong ──────┘
//! ```
//! What for: a password takes some tens of milliseconds and 7 MiB to check. One is checked at a time, on a thread that
//! nothing else waits for; [`CHECKS_MAX`] wait, further ones are refused as busy and cost nobody a failure. Everything else
//! (certificates, anonymous clients, passwords proven before) is answered at once, whatever the queue.
//! State: [`Entrance`] alone owns [`Users`]. Files with hashes are looked at every [`LOOK_EVERY`] and read again when they
//! change; one that cannot be used leaves the hashes read before.
//! Power loss: nothing is kept. Refused logins are counted, and told to the log at most once a minute.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::password::{Hash, HashError};
use super::tls::{LOOK_EVERY, read_bounded, stamp};
use super::users::{Account, Admission, Check, Credentials, HASHES_MAX, Pass, Refusal, Users};
use crate::config::{Site, User};
use crate::platform::log::chain;

/// Attempts on their way to the task: it answers within microseconds.
const ATTEMPTS_MAX: usize = 256;
/// Passwords waiting to be checked: 64 × 150 ms on a small board are 10 s, which is as long as a client waits.
pub const CHECKS_MAX: usize = 64;
/// Largest file of hashes: two lines of a hundred characters, and a comment or two.
const FILE_BYTES_MAX: u64 = 4096;
/// Between two lines of the log about refused logins.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Why a file with a password's hash cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HashFileError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not text, has no line or more than it may.
    #[error("{path} must have one line, or two while a password is being changed")]
    Lines {
        /// Which.
        path: PathBuf,
    },
    /// A line is not a hash.
    #[error("a line of {path} cannot be used")]
    Hash {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: HashError,
    },
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    granted: AtomicU64,
    anonymous: AtomicU64,
    checked: AtomicU64,
    failed: AtomicU64,
    limited: AtomicU64,
    busy: AtomicU64,
    turned_away: AtomicU64,
}

/// A snapshot of [`Counters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Logins {
    /// Users let in.
    pub granted: u64,
    /// Anonymous clients let in.
    pub anonymous: u64,
    /// Passwords checked the slow way.
    pub checked: u64,
    /// Wrong passwords, unknown names, certificates of others.
    pub failed: u64,
    /// Refused unseen, because too many had failed.
    pub limited: u64,
    /// Refused because too many waited.
    pub busy: u64,
    /// Anonymous clients not let in.
    pub turned_away: u64,
}

/// How connections ask. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EntranceHandle {
    attempts: mpsc::Sender<Attempt>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Attempt {
    credentials: Credentials,
    reply: oneshot::Sender<Result<Pass, Refusal>>,
}

#[derive(Debug)]
struct Job {
    check: Check,
    reply: oneshot::Sender<Result<Pass, Refusal>>,
}

/// The task.
#[derive(Debug)]
pub struct Entrance {
    users: Users,
    files: Vec<HashFile>,
    attempts: mpsc::Receiver<Attempt>,
    jobs: mpsc::Sender<Job>,
    done: mpsc::Receiver<(Job, bool)>,
    counters: Arc<Counters>,
    told: Option<(Instant, u64)>,
}

/// The thread that checks passwords, one at a time.
#[derive(Debug)]
pub struct Verifier {
    jobs: mpsc::Receiver<Job>,
    done: mpsc::Sender<(Job, bool)>,
}

#[derive(Debug)]
struct HashFile {
    user: String,
    path: PathBuf,
    seen: Option<(u64, u64, i64, i64)>,
}

/// Reads the hashes of one user.
pub fn read_hashes(path: &std::path::Path) -> Result<Vec<Hash>, HashFileError> {
    let read = |source| HashFileError::Read { path: path.to_owned(), source };
    let bytes = read_bounded(path, FILE_BYTES_MAX).map_err(read)?;
    let text = String::from_utf8(bytes).map_err(|_| HashFileError::Lines { path: path.to_owned() })?;
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("# ")).collect();
    if !(1..=HASHES_MAX).contains(&lines.len()) {
        return Err(HashFileError::Lines { path: path.to_owned() });
    }
    let hash = |line: &&str| Hash::parse(line);
    let hashes: Result<Vec<Hash>, HashError> = lines.iter().map(hash).collect();
    hashes.map_err(|source| HashFileError::Hash { path: path.to_owned(), source })
}

// === impl Entrance ===

impl Entrance {
    /// Reads the users' hashes. A user whose file cannot be read cannot log in until it can; that does not stop the
    /// others.
    pub fn new(site: &Site) -> (Entrance, Verifier, EntranceHandle) {
        let (attempts_in, attempts) = mpsc::channel(ATTEMPTS_MAX);
        let (jobs, jobs_out) = mpsc::channel(CHECKS_MAX);
        let (done_in, done) = mpsc::channel(1);
        let counters = Arc::new(Counters::default());
        let account = |user: &User| Account {
            name: user.name.as_str().into(),
            hashes: Vec::new(),
            certificate: user.certificate.clone(),
            rules: user.rules.clone(),
        };
        let file = |user: &User| {
            Some(HashFile { user: user.name.clone(), path: user.password_hash_file.clone()?, seen: None })
        };
        let mut entrance = Entrance {
            users: Users::new(site.users.iter().map(account).collect(), site.anonymous.clone(), secret()),
            files: site.users.iter().filter_map(file).collect(),
            attempts,
            jobs,
            done,
            counters: counters.clone(),
            told: None,
        };
        for n in 0..entrance.files.len() {
            entrance.files[n].seen = stamp(&entrance.files[n].path);
            entrance.read(n);
        }
        let verifier = Verifier { jobs: jobs_out, done: done_in };
        (entrance, verifier, EntranceHandle { attempts: attempts_in, counters })
    }

    /// Lets clients in until stopped.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut look = tokio::time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        loop {
            // Cancel-safe: every branch gives up nothing it has taken.
            tokio::select! {
                Some(attempt) = self.attempts.recv() => self.attempt(attempt),
                Some((job, right)) = self.done.recv() => self.finish(job, right),
                _ = look.tick() => self.look(),
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    fn attempt(&mut self, attempt: Attempt) {
        let Attempt { credentials, reply } = attempt;
        let now = Instant::now();
        match self.users.admit(credentials, now) {
            Admission::Granted(pass) => self.answer(reply, Ok(pass)),
            Admission::Refused(refusal) => self.answer(reply, Err(refusal)),
            Admission::Check(check) => match self.jobs.try_send(Job { check, reply }) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) => {
                    self.users.unchecked(&job.check, now);
                    self.answer(job.reply, Err(Refusal::Busy));
                }
            },
        }
    }

    fn finish(&mut self, job: Job, right: bool) {
        add(&self.counters.checked);
        let outcome = self.users.checked(job.check, right, Instant::now());
        self.answer(job.reply, outcome);
    }

    fn answer(&self, reply: oneshot::Sender<Result<Pass, Refusal>>, outcome: Result<Pass, Refusal>) {
        let counters = &self.counters;
        add(match &outcome {
            Ok(Pass { user: Some(_), .. }) => &counters.granted,
            Ok(Pass { user: None, .. }) => &counters.anonymous,
            Err(Refusal::Proof | Refusal::OtherUser) => &counters.failed,
            Err(Refusal::Limited) => &counters.limited,
            Err(Refusal::Busy) => &counters.busy,
            Err(Refusal::Anonymous) => &counters.turned_away,
        });
        // A client that has gone needs no answer.
        let _ = reply.send(outcome);
    }

    /// Reads files that have changed, and tells of refused logins.
    fn look(&mut self) {
        for n in 0..self.files.len() {
            let seen = stamp(&self.files[n].path);
            if seen != self.files[n].seen {
                self.files[n].seen = seen;
                self.read(n);
            }
        }
        let refused =
            self.counters.failed.load(Ordering::Relaxed) + self.counters.limited.load(Ordering::Relaxed);
        let (since, before) = self.told.map_or((None, 0), |(at, count)| (Some(at), count));
        if refused > before && since.is_none_or(|at: Instant| at.elapsed() >= TELL_EVERY) {
            warn!(refused = refused - before, "logins are refused: wrong passwords or unknown users");
            self.told = Some((Instant::now(), refused));
        }
    }

    fn read(&mut self, n: usize) {
        let HashFile { user, path, .. } = &self.files[n];
        match read_hashes(path) {
            Ok(hashes) => {
                self.users.set_hashes(user, hashes);
                info!(user, "password hash is read");
            }
            Err(err) => error!(
                user,
                error = %chain(&err),
                advice = "mend the file; what was read of it before stays in use until then",
                "password hash cannot be used"
            ),
        }
    }
}

// === impl Verifier ===

impl Verifier {
    /// Checks passwords until the entrance has ended. Runs on a thread of its own.
    pub fn run(mut self) -> Result<(), Infallible> {
        while let Some(job) = self.jobs.blocking_recv() {
            // Nobody waits any more: the time is better spent on the next.
            let right = !job.reply.is_closed() && job.check.run();
            if self.done.blocking_send((job, right)).is_err() {
                break;
            }
        }
        Ok(())
    }
}

// === impl EntranceHandle ===

impl EntranceHandle {
    /// Asks whether a client may enter, and what it may do then.
    pub async fn enter(&self, credentials: Credentials) -> Result<Pass, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.attempts.send(Attempt { credentials, reply }).await.map_err(|_| Refusal::Busy)?;
        answer.await.unwrap_or(Err(Refusal::Busy))
    }

    /// What was counted.
    pub fn logins(&self) -> Logins {
        let Counters { granted, anonymous, checked, failed, limited, busy, turned_away } = &*self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Logins {
            granted: read(granted),
            anonymous: read(anonymous),
            checked: read(checked),
            failed: read(failed),
            limited: read(limited),
            busy: read(busy),
            turned_away: read(turned_away),
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What digests of proven passwords are keyed with.
fn secret() -> [u8; 32] {
    let mut secret = [0; 32];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut secret).expect("a kernel that runs this has random numbers");
    secret
}

#[cfg(test)]
mod tests;
