//! When a discarded instance is made again, and when not any more. Pure: what happened and when, to what to do.
//!
//! ```text
//! Ready ──failed──▶ Discarded ──due──▶ (rebuild) ──worked──▶ Ready
//!                     ▲    │               │
//!                     └────┼────failed─────┘
//!                          │ failed, as often as is tolerated
//!                          ▼
//!                     Quarantined ──released──▶ Discarded, due at once, its failures forgotten
//! ```
//! What releases: an operator's word, another file in the place of the component's, a restart of the gateway. Time does
//! not: what failed so often fails again, and somebody should know why first.

use std::collections::VecDeque;

use crate::sample::{Nanos, SECOND};

/// First pause. A component that fails on one rare reading is back before anybody misses it.
const PAUSE_MIN: Nanos = SECOND;

/// Longest pause: a component that fails always costs one instance and one call a minute, until it is quarantined.
const PAUSE_MAX: Nanos = 60 * SECOND;

/// So long in Ready, and the next pause is the first again. As long as the longest pause, so that a component which fails
/// soon after every restart stays at the longest pause.
const SOUND_AFTER: Nanos = 60 * SECOND;

/// How an instance stands, and what it has done to deserve that.
#[derive(Debug)]
pub(crate) struct Life {
    stand: Stand,
    tolerance: Tolerance,
    /// When it failed, the last times; as many as are tolerated.
    failed_at: VecDeque<Nanos>,
}

/// How an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    /// It works.
    Ready {
        /// Since when.
        since: Nanos,
        /// Failures before that are not forgotten yet.
        failures: u32,
    },
    /// There is none.
    Discarded {
        /// When the next is made.
        until: Nanos,
        /// Failures in a row.
        failures: u32,
    },
    /// There is none, and none is made.
    Quarantined,
}

/// So many failures within so much time are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tolerance {
    /// 0 tolerates everything.
    pub failures: usize,
    /// Between the first and the last of them.
    pub within: Nanos,
}

// === impl Life ===

impl Life {
    /// A first instance has been made.
    pub(crate) fn new(tolerance: Tolerance) -> Life {
        let stand = Stand::Ready { since: Nanos::MIN, failures: 0 };
        Life { stand, tolerance, failed_at: VecDeque::new() }
    }

    /// How it stands.
    pub(crate) fn stand(&self) -> Stand {
        self.stand
    }

    /// The instance, or the attempt to make one, failed.
    pub(crate) fn failed(&mut self, now: Nanos) {
        let too_much = self.is_too_much(now);
        self.stand = match self.stand {
            Stand::Quarantined => Stand::Quarantined,
            _ if too_much => Stand::Quarantined,
            stand => stand.failed(now),
        };
    }

    /// A new instance works.
    pub(crate) fn worked(&mut self, now: Nanos) {
        self.stand = self.stand.worked(now);
    }

    /// Whether a new instance is to be made.
    pub(crate) fn is_due(&self, now: Nanos) -> bool {
        matches!(self.stand, Stand::Discarded { until, .. } if now >= until)
    }

    /// Ends the quarantine. Tells whether there was one.
    pub(crate) fn release(&mut self) -> bool {
        let quarantined = self.stand == Stand::Quarantined;
        if quarantined {
            self.stand = Stand::Discarded { until: Nanos::MIN, failures: 0 };
            self.failed_at.clear();
        }
        quarantined
    }

    /// Notes a failure. Tells whether it is one too many.
    fn is_too_much(&mut self, now: Nanos) -> bool {
        let Tolerance { failures, within } = self.tolerance;
        if failures == 0 {
            return false;
        }
        self.failed_at.push_back(now);
        if self.failed_at.len() > failures {
            self.failed_at.pop_front();
        }
        let first = self.failed_at.front().copied().unwrap_or(now);
        self.failed_at.len() == failures && now.saturating_sub(first) <= within
    }
}

// === impl Stand ===

impl Stand {
    fn failed(self, now: Nanos) -> Stand {
        let failures = match self {
            Stand::Ready { since, .. } if now.saturating_sub(since) >= SOUND_AFTER => 0,
            Stand::Quarantined => 0,
            Stand::Ready { failures, .. } | Stand::Discarded { failures, .. } => failures,
        };
        Stand::Discarded { until: now.saturating_add(pause(failures)), failures: failures.saturating_add(1) }
    }

    fn worked(self, now: Nanos) -> Stand {
        match self {
            Stand::Ready { failures, .. } | Stand::Discarded { failures, .. } => {
                Stand::Ready { since: now, failures }
            }
            Stand::Quarantined => self,
        }
    }
}

fn pause(failures: u32) -> Nanos {
    // 2^6 s is beyond the maximum already.
    (PAUSE_MIN << failures.min(6)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Tolerance = Tolerance { failures: 0, within: 0 };
    const TEN_IN_TEN_MINUTES: Tolerance = Tolerance { failures: 10, within: 600 * SECOND };

    /// Fails whenever it may, and tells when it was quarantined.
    fn fails_always(tolerance: Tolerance) -> Nanos {
        let mut life = Life::new(tolerance);
        let mut now = 0;
        loop {
            life.failed(now);
            match life.stand() {
                Stand::Discarded { until, .. } => now = until,
                Stand::Quarantined => return now,
                stand @ Stand::Ready { .. } => panic!("{stand:?} after a failure"),
            }
            life.worked(now);
        }
    }

    #[test]
    fn ready_failed_discarded_doubles_the_pause_up_to_a_minute() {
        // Goal: pauses of 1, 2, 4 … 60 s for failures in a row. Method: fail each time when due.
        let mut life = Life::new(NEVER);
        let mut now = 0;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            life.failed(now);
            assert!(!life.is_due(now + seconds * SECOND - 1));
            assert!(life.is_due(now + seconds * SECOND));
            now += seconds * SECOND;
        }
    }

    #[test]
    fn discarded_worked_ready_remembers_failures_until_it_is_sound() {
        // Goal: failing soon after a restart goes on doubling; failing later starts at one second again.
        let restarted = || {
            let mut life = Life::new(NEVER);
            life.failed(0);
            life.worked(SECOND);
            life
        };
        let (mut soon, mut late) = (restarted(), restarted());
        soon.failed(2 * SECOND);
        assert_eq!(soon.stand(), Stand::Discarded { until: 4 * SECOND, failures: 2 });
        late.failed(61 * SECOND);
        assert_eq!(late.stand(), Stand::Discarded { until: 62 * SECOND, failures: 1 });
        assert!(!restarted().is_due(i64::MAX));
    }

    #[test]
    fn discarded_failed_as_often_as_is_tolerated_is_quarantined() {
        // Goal: the times that the documentation gives for the default. Method: one that fails whenever it is started, one
        // that fails each minute, one that fails every other minute.
        assert_eq!(fails_always(TEN_IN_TEN_MINUTES), (1 + 2 + 4 + 8 + 16 + 32 + 3 * 60) * SECOND);
        let every = |seconds: i64| {
            let mut life = Life::new(TEN_IN_TEN_MINUTES);
            let quarantined = (0..100).find(|n| {
                life.failed(n * seconds * SECOND);
                let quarantined = life.stand() == Stand::Quarantined;
                life.worked(n * seconds * SECOND + 1);
                quarantined
            });
            quarantined.map(|n| n * seconds)
        };
        assert_eq!(every(60), Some(540));
        assert_eq!(every(120), None);
    }

    #[test]
    fn quarantined_released_is_due_at_once_with_a_clean_record() {
        // Goal: an operator's word starts it anew, and nothing else does. Method: quarantine, time, a release, failures.
        let mut life = Life::new(Tolerance { failures: 2, within: SECOND });
        life.failed(0);
        assert!(!life.release(), "it was not in quarantine");
        life.failed(SECOND);
        assert_eq!(life.stand(), Stand::Quarantined);
        life.worked(2 * SECOND);
        life.failed(3 * SECOND);
        assert!(!life.is_due(i64::MAX));
        assert!(life.release());
        assert!(life.is_due(i64::MIN));
        life.worked(4 * SECOND);
        life.failed(4 * SECOND);
        assert_eq!(life.stand(), Stand::Discarded { until: 5 * SECOND, failures: 1 });
        life.failed(4 * SECOND);
        assert_eq!(life.stand(), Stand::Quarantined);
    }

    #[test]
    fn a_clock_at_its_ends_does_no_harm() {
        // Goal: no overflow, whatever the clock says. Method: both ends.
        for tolerance in [NEVER, TEN_IN_TEN_MINUTES] {
            let mut life = Life::new(tolerance);
            life.failed(i64::MAX);
            assert!(life.is_due(i64::MAX));
            life.failed(i64::MIN);
            assert!(life.is_due(i64::MAX));
        }
    }
}
