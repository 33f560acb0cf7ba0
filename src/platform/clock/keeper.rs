//! The task that looks at the system clock every second and moves the offset.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::policy::{Effect, Evidence, Observation, Rules, State, step};
use super::{Shared, WallClock, sources};
use crate::config;
use crate::sample::{BootId, Nanos, SECOND};

/// Between two looks. A step is noticed within this time, and a look costs a few microseconds.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a clock may take to be trusted before it is said: a time server answers within seconds of the link.
pub const PATIENCE: Nanos = 120 * SECOND;

/// What somebody should do about a clock that is not trusted.
pub const ADVICE: &str = "not trusted yet, so arrival times are estimates that may be far off; give the machine a time \
     server, or set clock.trust = \"always\" if its clock is kept right by other means";

/// What the store knows at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// The number of this boot.
    pub boot: BootId,
    /// The newest time in the database that is not a sensor's.
    pub newest: Option<Nanos>,
    /// What an earlier process of the same boot made its estimates with ([`WallClock::estimate`]). There is one correction
    /// per boot, so there must be one offset.
    pub estimate: Option<Nanos>,
}

/// Owns the offset.
pub struct ClockKeeper {
    state: State,
    rules: Rules,
    look: Look,
    shared: Arc<Shared>,
    correction: watch::Sender<Option<Nanos>>,
    /// When to say that the clock is still not trusted; `None` once it was said.
    complain_at: Option<Nanos>,
}

/// Looks at the clocks; evidence is only asked for until the clock is trusted.
type Look = Box<dyn FnMut(Wanted) -> Observation + Send>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    ClocksAndEvidence,
    Clocks,
}

// === impl ClockKeeper ===

impl ClockKeeper {
    /// Looks once, so that stamps are right from the first on, and gives the clock and the correction of this boot's
    /// estimates: nanoseconds to add to them, once it is known.
    pub fn new(
        config: &config::Clock,
        beginning: Beginning,
    ) -> (Self, WallClock, watch::Receiver<Option<Nanos>>) {
        let file = config.synchronized_file.clone();
        let look = Box::new(move |wanted| {
            let (boottime, realtime) = sources::both();
            let evidence = match wanted {
                Wanted::ClocksAndEvidence => sources::evidence(&file),
                Wanted::Clocks => Evidence::default(),
            };
            Observation { boottime, realtime, evidence }
        });
        let rules = Rules { trust: config.trust, floor: sources::floor(beginning.newest) };
        Self::looking(rules, beginning, look)
    }

    pub(super) fn looking(
        rules: Rules,
        beginning: Beginning,
        mut look: Look,
    ) -> (Self, WallClock, watch::Receiver<Option<Nanos>>) {
        let first = look(Wanted::ClocksAndEvidence);
        let estimate = beginning.estimate.unwrap_or(rules.floor - first.boottime);
        let shared = Arc::new(Shared::new(beginning.boot, estimate));
        let (correction, corrections) = watch::channel(None);
        let state = State::Estimating { offset: estimate };
        let complain_at = Some(first.boottime + PATIENCE);
        let mut keeper = Self { state, rules, look, shared: Arc::clone(&shared), correction, complain_at };
        keeper.take(&first);
        (keeper, WallClock { shared }, corrections)
    }

    /// Looks every second until stopped.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Cancel-safe: a tick that is not taken is only a look that is not made.
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let wanted = match self.state {
                State::Estimating { .. } => Wanted::ClocksAndEvidence,
                State::Trusted { .. } => Wanted::Clocks,
            };
            let observation = (self.look)(wanted);
            self.take(&observation);
        }
        Ok(())
    }

    fn take(&mut self, observation: &Observation) {
        let (state, effect) = step(self.state, observation, &self.rules);
        self.state = state;
        if matches!(state, State::Estimating { .. })
            && self.complain_at.is_some_and(|at| observation.boottime >= at)
        {
            self.complain_at = None;
            warn!(advice = ADVICE, "clock is not trusted");
        }
        match effect {
            None => {}
            Some(Effect::Trust { offset, correction }) => {
                self.set(offset);
                self.correction.send_replace(Some(correction));
                info!(correction_ns = correction, "clock trusted");
            }
            Some(Effect::Follow { offset }) => self.set(offset),
            Some(Effect::Wait { offset, behind }) => {
                self.set(offset);
                warn!(
                    behind_ns = behind,
                    "system clock was set back, stamps run slow until it has caught up"
                );
            }
            Some(Effect::StepForward { offset, by }) => {
                self.set(offset);
                self.shared.steps_forward.fetch_add(1, Ordering::Relaxed);
                warn!(by_ns = by, "system clock was set forward, stamps follow");
            }
            Some(Effect::StepBack { offset, by }) => {
                self.set(offset);
                self.shared.steps_back.fetch_add(1, Ordering::Relaxed);
                warn!(by_ns = by, "system clock was set far back, stamps follow and repeat times");
            }
        }
    }

    fn set(&self, offset: Nanos) {
        self.shared.trusted.store(offset, Ordering::Release);
    }
}

impl fmt::Debug for ClockKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClockKeeper")
            .field("state", &self.state)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}
