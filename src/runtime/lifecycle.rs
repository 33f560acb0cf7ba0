//! When a discarded instance is made again. Pure: what happened and when, to what to do.
//!
//! ```text
//! Ready ──failed──▶ Discarded ──due──▶ (rebuild) ──worked──▶ Ready
//!                       ▲                  │
//!                       └──────failed──────┘
//! ```

use crate::sample::{Nanos, SECOND};

/// First pause. A component that fails on one rare reading is back before anybody misses it.
const PAUSE_MIN: Nanos = SECOND;

/// Longest pause: a component that fails always costs one instance and one call a minute.
const PAUSE_MAX: Nanos = 60 * SECOND;

/// So long in Ready, and earlier failures are forgotten. As long as the longest pause, so that a component which fails
/// soon after every restart stays at the longest pause.
const SOUND_AFTER: Nanos = 60 * SECOND;

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
}

// === impl Stand ===

impl Stand {
    /// The instance, or the attempt to make one, failed.
    pub(crate) fn failed(self, now: Nanos) -> Stand {
        let failures = match self {
            Stand::Ready { since, .. } if now.saturating_sub(since) >= SOUND_AFTER => 0,
            Stand::Ready { failures, .. } | Stand::Discarded { failures, .. } => failures,
        };
        Stand::Discarded { until: now.saturating_add(pause(failures)), failures: failures.saturating_add(1) }
    }

    /// A new instance works.
    pub(crate) fn worked(self, now: Nanos) -> Stand {
        let (Stand::Ready { failures, .. } | Stand::Discarded { failures, .. }) = self;
        Stand::Ready { since: now, failures }
    }

    /// Whether a new instance is to be made.
    pub(crate) fn due(self, now: Nanos) -> bool {
        matches!(self, Stand::Discarded { until, .. } if now >= until)
    }
}

fn pause(failures: u32) -> Nanos {
    // 2^6 s is beyond the maximum already.
    (PAUSE_MIN << failures.min(6)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_failed_discarded_doubles_the_pause_up_to_a_minute() {
        // Goal: pauses of 1, 2, 4 … 60 s for failures in a row. Method: fail each time when due.
        let mut stand = Stand::Ready { since: 0, failures: 0 };
        let mut now = 0;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            stand = stand.failed(now);
            assert!(!stand.due(now + seconds * SECOND - 1));
            assert!(stand.due(now + seconds * SECOND));
            now += seconds * SECOND;
        }
    }

    #[test]
    fn discarded_worked_ready_remembers_failures_until_it_is_sound() {
        // Goal: failing soon after a restart goes on doubling; failing later starts at one second again.
        let stand = Stand::Ready { since: 0, failures: 0 }.failed(0).worked(SECOND);
        assert_eq!(stand.failed(2 * SECOND), Stand::Discarded { until: 4 * SECOND, failures: 2 });
        assert_eq!(stand.failed(61 * SECOND), Stand::Discarded { until: 62 * SECOND, failures: 1 });
        assert!(!stand.due(i64::MAX));
    }

    #[test]
    fn a_clock_at_its_ends_does_no_harm() {
        // Goal: no overflow, whatever the clock says. Method: both ends.
        assert!(Stand::Ready { since: i64::MIN, failures: u32::MAX }.failed(i64::MAX).due(i64::MAX));
        assert!(!Stand::Discarded { until: 0, failures: u32::MAX }.failed(i64::MIN).due(i64::MIN));
    }
}
