//! Tasks that come and go at run time, on behalf of one essential task that owns them.
//!
//! What for: components that a lattice starts and stops need workers of their own, so that one that computes without end
//! takes its share of a worker and nobody else's. Their owner stops them, one or all; dropping the crew ends all of them at
//! once.
//! Bounds: as many as the owner allows; ended ones leave nothing behind.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::task_span;

/// The tasks.
#[derive(Debug, Default)]
pub struct Crew {
    tasks: JoinSet<()>,
}

/// One of them.
#[derive(Debug)]
pub struct Member {
    stop: CancellationToken,
    /// Never sent: its end is the task's.
    ended: oneshot::Receiver<()>,
    task: AbortHandle,
}

// === impl Crew ===

impl Crew {
    /// None yet.
    pub fn new() -> Crew {
        Crew::default()
    }

    /// Starts one.
    pub fn start<F>(&mut self, name: &str, task: impl FnOnce(CancellationToken) -> F) -> Member
    where
        F: Future<Output = ()> + Send + 'static,
    {
        while self.tasks.try_join_next().is_some() {}
        let stop = CancellationToken::new();
        let (running, ended) = oneshot::channel::<()>();
        let task = task(stop.clone());
        let body = async move {
            let _running = running;
            task.await;
        };
        let task = self.tasks.spawn(body.instrument(task_span(name)));
        Member { stop, ended, task }
    }
}

// === impl Member ===

impl Member {
    /// Asks it to stop and waits for its end; one that does not end in time is cut off.
    pub async fn stop(self, grace: Duration) {
        self.stop.cancel();
        if timeout(grace, self.ended).await.is_err() {
            self.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_member_stops_when_asked_or_is_cut_off_and_all_end_with_the_crew() {
        // Goal: stopping waits for the end, not for ever, and nothing outlives the owner. Method: one that stops, one that
        // does not listen, one that nobody asks.
        let alive = Arc::new(AtomicU32::new(0));
        struct Life(Arc<AtomicU32>);
        impl Drop for Life {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let life = || {
            alive.fetch_add(1, Ordering::SeqCst);
            Life(Arc::clone(&alive))
        };
        let mut crew = Crew::new();
        let (first, second, third) = (life(), life(), life());
        let willing = crew.start("willing", |stop| async move {
            stop.cancelled().await;
            drop(first);
        });
        let deaf = crew.start("deaf", |_stop| async move {
            std::future::pending::<()>().await;
            drop(second);
        });
        let _left = crew.start("left", |_stop| async move {
            std::future::pending::<()>().await;
            drop(third);
        });
        willing.stop(Duration::from_secs(1)).await;
        assert_eq!(alive.load(Ordering::SeqCst), 2);
        deaf.stop(Duration::from_secs(1)).await;
        drop(crew);
        while alive.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    }
}
