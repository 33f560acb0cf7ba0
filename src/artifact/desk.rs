//! The thread `artifacts`, which alone touches the folder of artifacts.
//!
//! Jobs are worked off one by one. A piece is a job of its own, so that whoever asks for a file does not wait for a fetch
//! but for one sync of it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::PathBuf;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::examine::{ExamineError, Examined};
use super::store::{Kept, Plan, Progress, Store, StoreError};

/// Jobs on their way: one from each of those who ask, a handful.
const JOBS_MAX: usize = 16;

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum DeskError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the gateway is stopping")]
    Stopping,
}

/// How others ask.
#[derive(Debug, Clone)]
pub struct DeskHandle {
    jobs: mpsc::Sender<Job>,
}

/// The thread.
#[derive(Debug)]
pub struct Desk {
    store: Store,
    jobs: mpsc::Receiver<Job>,
}

struct Job(Box<dyn FnOnce(&mut Store) + Send>);

// === impl Desk ===

impl Desk {
    /// The thread, and how to ask it.
    pub fn new(store: Store) -> (Desk, DeskHandle) {
        let (sender, jobs) = mpsc::channel(JOBS_MAX);
        (Desk { store, jobs }, DeskHandle { jobs: sender })
    }

    /// Runs until stopped, or until nobody can ask any more.
    pub fn run(mut self, stop: &CancellationToken) -> Result<(), Infallible> {
        while let Some(Job(job)) = self.jobs.blocking_recv() {
            if stop.is_cancelled() {
                break;
            }
            job(&mut self.store);
        }
        Ok(())
    }
}

// === impl DeskHandle ===

impl DeskHandle {
    /// The file that a reference led to, which was read just now and is as it was kept; `None` when it is not kept. What is
    /// damaged is thrown away, which is the error.
    pub async fn find(&self, reference: String) -> Result<Option<(Kept, PathBuf)>, DeskError> {
        self.ask(move |store| {
            let Some(kept) = store.find(&reference).cloned() else { return Ok(None) };
            let path = store.check(&kept.digest)?;
            Ok(Some((kept, path)))
        })
        .await
    }

    /// [`Store::begin`]; what the references in `needed` led to stays.
    pub async fn begin(&self, plan: Plan, needed: BTreeSet<String>) -> Result<Progress, DeskError> {
        self.ask(move |store| {
            let needed = store.digests(&needed);
            store.begin(plan, &needed)
        })
        .await
    }

    /// [`Store::sweep`]; what the references in `needed` led to stays.
    pub async fn sweep(&self, needed: BTreeSet<String>) -> Result<(), DeskError> {
        self.ask(move |store| {
            let needed = store.digests(&needed);
            store.sweep(&needed)
        })
        .await
    }

    /// Reads an artifact and what it says of itself. One at a time, so that one is in memory at a time.
    pub async fn examine(&self, path: PathBuf) -> Result<Result<Examined, ExamineError>, DeskError> {
        self.ask(move |_| Ok(Examined::of(&path))).await
    }

    /// [`Store::under_way`].
    pub async fn under_way(&self) -> Result<u64, DeskError> {
        self.ask(|store| Ok(store.under_way())).await
    }

    /// [`Store::append`], and how far it is then.
    pub async fn append(&self, piece: Bytes, mark: u64) -> Result<Progress, DeskError> {
        self.ask(move |store| store.append(&piece, mark)).await
    }

    /// [`Store::finish`].
    pub async fn finish(&self) -> Result<Kept, DeskError> {
        self.ask(Store::finish).await
    }

    /// [`Store::forget`].
    pub async fn forget(&self, reference: String) -> Result<(), DeskError> {
        self.ask(move |store| store.forget(&reference)).await
    }

    /// [`Store::give_up`].
    pub async fn give_up(&self, reference: String) -> Result<bool, DeskError> {
        self.ask(move |store| store.give_up(&reference)).await
    }

    /// Everything kept.
    pub async fn all(&self) -> Result<Vec<Kept>, DeskError> {
        self.ask(|store| Ok(store.all().cloned().collect())).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, DeskError> {
        let (reply, answer) = oneshot::channel();
        // Whoever asked may have gone.
        let job = Job(Box::new(move |store| drop(reply.send(work(store)))));
        self.jobs.send(job).await.map_err(|_| DeskError::Stopping)?;
        Ok(answer.await.map_err(|_| DeskError::Stopping)??)
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}
