//! Signs of life. A task that is alive but stuck is found because it does not touch its beat.
//!
//! A beat is one atomic: touching it costs a clock reading and a store. A task that waits for work wakes up often enough to
//! touch it; a beat from a timer of its own would prove nothing.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::platform::notify;

/// Looks at the beats this often where there is no watchdog to feed; then an overdue task is only logged.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// A critical task's side. Clones touch the same beat.
#[derive(Debug, Clone)]
pub struct Beat {
    pulse: Arc<Pulse>,
    started: Instant,
}

/// A critical task that is overdue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    /// Its name.
    pub name: &'static str,
    /// How long it has been silent.
    pub silent: Duration,
}

/// What the watchdog sees, for others to judge by.
#[derive(Debug, Clone)]
pub struct Vitals {
    pulses: Vec<Arc<Pulse>>,
    started: Instant,
}

/// Feeds the service manager's watchdog while no task is overdue.
pub struct Watchdog {
    pulses: Vec<Arc<Pulse>>,
    started: Instant,
    /// Once the stop has begun tasks fall silent, and the stop has deadlines of its own.
    stopping: CancellationToken,
    look: Duration,
    feed: Box<dyn FnMut() + Send>,
}

#[derive(Debug)]
pub(super) struct Pulse {
    name: &'static str,
    limit: Duration,
    /// Milliseconds since the start.
    touched: AtomicU64,
}

pub(super) fn pair(name: &'static str, limit: Duration, started: Instant) -> (Beat, Arc<Pulse>) {
    let pulse = Arc::new(Pulse { name, limit, touched: AtomicU64::new(since(started)) });
    (Beat { pulse: Arc::clone(&pulse), started }, pulse)
}

pub(super) fn overdue(pulses: &[Arc<Pulse>], started: Instant) -> Vec<Overdue> {
    let now = since(started);
    let silent =
        |pulse: &Pulse| Duration::from_millis(now.saturating_sub(pulse.touched.load(Ordering::Relaxed)));
    pulses
        .iter()
        .map(|pulse| (pulse, silent(pulse)))
        .filter(|(pulse, silent)| *silent > pulse.limit)
        .map(|(pulse, silent)| Overdue { name: pulse.name, silent })
        .collect()
}

fn since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).expect("a process runs for less than 500 million years")
}

// === impl Beat ===

impl Beat {
    /// The task is alive.
    pub fn touch(&self) {
        self.pulse.touched.store(since(self.started), Ordering::Relaxed);
    }
}

// === impl Vitals ===

impl Vitals {
    pub(super) fn new(pulses: Vec<Arc<Pulse>>, started: Instant) -> Self {
        Self { pulses, started }
    }

    /// Critical tasks that are overdue at this moment.
    pub fn overdue(&self) -> Vec<Overdue> {
        overdue(&self.pulses, self.started)
    }
}

// === impl Watchdog ===

impl Watchdog {
    pub(super) fn new(pulses: Vec<Arc<Pulse>>, started: Instant, stopping: CancellationToken) -> Self {
        let look = notify::watchdog_interval().unwrap_or(LOOK_INTERVAL);
        Self { pulses, started, stopping, look, feed: Box::new(notify::alive) }
    }

    #[cfg(test)]
    pub(super) fn feeding(mut self, look: Duration, feed: impl FnMut() + Send + 'static) -> Self {
        self.look = look;
        self.feed = Box::new(feed);
        self
    }

    /// Feeds until stopped.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut looks = interval(self.look);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Cancel-safe: a tick that is not taken is only a look that is not made.
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            let overdue = overdue(&self.pulses, self.started);
            for Overdue { name, silent } in &overdue {
                error!(task = name, silent_s = silent.as_secs(), "no sign of life, the watchdog is not fed");
            }
            if overdue.is_empty() || self.stopping.is_cancelled() {
                (self.feed)();
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog")
            .field("pulses", &self.pulses)
            .field("look", &self.look)
            .finish_non_exhaustive()
    }
}
