//! Every task and thread of the process: started here with a name, watched, stopped in order.
//!
//! ```text
//!   started ─▶ running ──▶ stopping: its stage's turn ──▶ ended
//!                │ ▲                    └─ grace over ──▶ overran (reported, left behind)
//!       ends     │ └── pause (Restart)
//!                └──▶ essential: `ended` returns, the process stops
//! ```
//! What for: a gateway whose uplink has died silently is worse than one that restarts. A task that is essential ends the
//! process when it ends, however it ends; others are made anew after a pause. A task that hangs is found by its beat: the
//! service manager's watchdog is fed only while no beat is overdue.
//! State: [`Tasks`] owns the list; tasks own nothing but their stop token and beat.
//! Power loss: nothing is kept.
//! Bounds: [`TASKS_MAX`]; every stop has a deadline, see [`Stage::grace`]; nothing is dropped.
//!
//! Stop order follows the data: sources first, so that what they have handed over is worked off behind them.

mod backoff;
mod beat;
mod crew;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{Instrument as _, Span, error, info, info_span, warn};

use crate::platform::log::chain;
pub use backoff::Backoff;
pub use beat::{Beat, Overdue, Vitals, Watchdog};
pub use crew::{Crew, Member};

/// Tasks and threads of one process. A gateway has about twenty; what comes and goes (one request, one connection) lives
/// inside a task of its own.
pub const TASKS_MAX: usize = 64;

/// Longest name of a thread: what Linux keeps of it.
const THREAD_NAME_MAX: usize = 15;

/// When a task is stopped: stage by stage, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Doors, and whatever else brings in work.
    Source,
    /// Components and reducers.
    Pipeline,
    /// The link to the hub and everything on it.
    Uplink,
    /// Journal and outbox.
    Store,
    /// What the others lean on to the end: clock, watchdog, status, signals.
    Support,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Without an error.
    Done,
    /// With this error, sources included.
    Failed(String),
    /// With a panic, in builds that unwind.
    Panicked(String),
}

/// A task that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its name.
    pub name: &'static str,
    /// How.
    pub how: End,
}

/// What came of stopping.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stopped {
    /// Tasks that had not ended when their grace was over.
    pub overran: Vec<&'static str>,
    /// Tasks that ended with an error or a panic.
    pub failed: Vec<Ended>,
}

/// Why a thread does not run.
#[derive(Debug, thiserror::Error)]
#[error("thread {name} cannot be started")]
pub struct ThreadError {
    /// Its name.
    pub name: &'static str,
    /// Why not.
    #[source]
    pub source: std::io::Error,
}

/// All tasks and threads. Dropping it asks all of them to stop, without order or waiting.
#[derive(Debug)]
pub struct Tasks {
    entries: Vec<Entry>,
    stages: [CancellationToken; Stage::ORDER.len()],
    ends: mpsc::Receiver<(usize, End)>,
    report: mpsc::Sender<(usize, End)>,
    pulses: Vec<Arc<beat::Pulse>>,
    started: Instant,
    restarts: Arc<AtomicU64>,
    _all: DropGuard,
}

#[derive(Debug)]
struct Entry {
    name: &'static str,
    stage: Stage,
    ended: bool,
}

// === impl Stage ===

impl Stage {
    /// The stop order.
    pub const ORDER: [Stage; 5] =
        [Stage::Source, Stage::Pipeline, Stage::Uplink, Stage::Store, Stage::Support];

    /// How long the tasks of this stage may take to stop, together. The sum, 24 s, stays well below the 90 s after which
    /// systemd kills.
    pub fn grace(self) -> Duration {
        Duration::from_secs(match self {
            // A door gives up its connection.
            Stage::Source => 3,
            // A component call ends by its deadline, 500 ms unless configured otherwise.
            Stage::Pipeline => 5,
            // Acknowledgements under way are waited for; what comes later comes again.
            Stage::Uplink => 5,
            // A last checkpoint: some MiB at the 1 MiB/s of a worn card.
            Stage::Store => 10,
            Stage::Support => 1,
        })
    }
}

// === impl Tasks ===

impl Tasks {
    /// None yet.
    pub fn new() -> Self {
        let all = CancellationToken::new();
        // Every task reports one end, so that the channel is never full.
        let (report, ends) = mpsc::channel(TASKS_MAX);
        Self {
            entries: Vec::new(),
            stages: Stage::ORDER.map(|_| all.child_token()),
            ends,
            report,
            pulses: Vec::new(),
            started: Instant::now(),
            restarts: Arc::default(),
            _all: all.drop_guard(),
        }
    }

    /// Starts a task that the gateway cannot do without.
    pub fn essential<F, E>(
        &mut self,
        name: &'static str,
        stage: Stage,
        task: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Error + 'static,
    {
        let (index, stop) = self.enter(name, stage);
        let report = self.report.clone();
        let running = task(stop);
        spawn(name, async move {
            let how = outcome(running).await;
            // Nobody listens any more when the process is ending without order.
            let _ = report.try_send((index, how));
        });
    }

    /// Starts a task that is made anew after a pause whenever it ends.
    pub fn restarted<F, E>(
        &mut self,
        name: &'static str,
        stage: Stage,
        backoff: Backoff,
        mut make: impl FnMut(CancellationToken) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Error + 'static,
    {
        let (index, stop) = self.enter(name, stage);
        let report = self.report.clone();
        let restarts = Arc::clone(&self.restarts);
        spawn(name, async move {
            let mut pauses = backoff.pauses();
            let how = loop {
                let since = Instant::now();
                // Inside, so that a panic while it is being made counts as well.
                let how = outcome(async { make(stop.clone()).await }).await;
                if stop.is_cancelled() {
                    break how;
                }
                let pause = pauses.after(since.elapsed());
                warn!(%how, pause_ms = pause.as_millis(), "task ended, will be started again");
                // Cancel-safe: a pause.
                if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                    break End::Done;
                }
                restarts.fetch_add(1, Ordering::Relaxed);
            };
            let _ = report.try_send((index, how));
        });
    }

    /// Starts a thread that the gateway cannot do without, for work that blocks.
    pub fn thread<E: Error + 'static>(
        &mut self,
        name: &'static str,
        stage: Stage,
        run: impl FnOnce(CancellationToken) -> Result<(), E> + Send + 'static,
    ) -> Result<(), ThreadError> {
        assert!(name.len() <= THREAD_NAME_MAX, "thread names are cut at {THREAD_NAME_MAX} bytes: {name}");
        let (index, stop) = self.enter(name, stage);
        let report = self.report.clone();
        let body = move || {
            let ended = task_span(name).in_scope(|| catch_unwind(AssertUnwindSafe(|| run(stop))));
            let _ = report.try_send((index, end(ended)));
        };
        match std::thread::Builder::new().name(name.to_owned()).spawn(body) {
            Ok(_detached) => Ok(()),
            Err(source) => {
                self.entries[index].ended = true;
                Err(ThreadError { name, source })
            }
        }
    }

    /// A beat for a critical task, that it must touch at least every `limit`. The time begins now.
    pub fn beat(&mut self, name: &'static str, limit: Duration) -> Beat {
        let (beat, pulse) = beat::pair(name, limit, self.started);
        self.pulses.push(pulse);
        beat
    }

    /// Critical tasks that have not shown a sign of life within their limit.
    pub fn overdue(&self) -> Vec<Overdue> {
        beat::overdue(&self.pulses, self.started)
    }

    /// The task that feeds the service manager's watchdog, over all beats given out so far.
    pub fn watchdog(&self) -> Watchdog {
        Watchdog::new(self.pulses.clone(), self.started, self.stages[0].clone())
    }

    /// A look at all beats given out so far, for whoever judges the gateway's health.
    pub fn vitals(&self) -> Vitals {
        Vitals::new(self.pulses.clone(), self.started)
    }

    /// How often tasks were started again, over all tasks.
    pub fn restarts(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.restarts)
    }

    /// Waits until an essential task has ended, which none should.
    ///
    /// Cancel-safe: an end is noted as soon as it is received.
    pub async fn ended(&mut self) -> Ended {
        let (index, how) = self.ends.recv().await.expect("a sender is kept beside it");
        self.entries[index].ended = true;
        Ended { name: self.entries[index].name, how }
    }

    /// Stops everything, stage by stage; the next stage is asked when the one before has ended or its grace is over.
    pub async fn stop(mut self) -> Stopped {
        let mut stopped = Stopped::default();
        for (stage, token) in Stage::ORDER.into_iter().zip(self.stages.clone()) {
            token.cancel();
            let deadline = Instant::now() + stage.grace();
            while self.running(stage).next().is_some() {
                // Cancel-safe: see `ended`.
                let Ok(ended) = timeout_at(deadline, self.ended()).await else {
                    break;
                };
                if ended.how != End::Done {
                    warn!(task = ended.name, how = %ended.how, "task did not stop cleanly");
                    stopped.failed.push(ended);
                }
            }
            for name in self.running(stage) {
                error!(
                    task = name,
                    grace_s = stage.grace().as_secs(),
                    "task did not stop in time, left behind"
                );
                stopped.overran.push(name);
            }
        }
        info!(overran = stopped.overran.len(), failed = stopped.failed.len(), "stopped");
        stopped
    }

    fn running(&self, stage: Stage) -> impl Iterator<Item = &'static str> {
        self.entries.iter().filter(move |entry| entry.stage == stage && !entry.ended).map(|entry| entry.name)
    }

    fn enter(&mut self, name: &'static str, stage: Stage) -> (usize, CancellationToken) {
        assert!(self.entries.len() < TASKS_MAX, "more than {TASKS_MAX} tasks");
        assert!(self.entries.iter().all(|entry| entry.name != name), "two tasks are named {name}");
        self.entries.push(Entry { name, stage, ended: false });
        (self.entries.len() - 1, self.stages[stage as usize].child_token())
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where tasks are started")]
fn spawn(name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task.instrument(task_span(name)));
}

fn task_span(name: &str) -> Span {
    info_span!("task", name)
}

async fn outcome<E: Error + 'static>(task: impl Future<Output = Result<(), E>>) -> End {
    end(AssertUnwindSafe(task).catch_unwind().await)
}

fn end<E: Error + 'static>(result: Result<Result<(), E>, Box<dyn Any + Send>>) -> End {
    match result {
        Ok(Ok(())) => End::Done,
        Ok(Err(error)) => End::Failed(chain(&error).to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            End::Panicked(text.unwrap_or_else(|| "without a message".to_owned()))
        }
    }
}

// === impl End ===

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Done => f.write_str("ended"),
            End::Failed(error) => write!(f, "failed: {error}"),
            End::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}
