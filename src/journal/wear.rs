//! Flash wear as a budget: bytes written are measured, and near the budget the commit interval stretches. Pure.
//!
//! The rate is an average that forgets with a time constant of ten minutes, so that a burst does not stretch the interval
//! but an hour of it does. The interval doubles while the projected day is above 90 % of the budget, up to the configured
//! bound, and halves back below 60 %: senders then wait longer for acknowledgements, nothing is lost.

use std::time::Duration;

/// Time constant of the average.
const MEMORY_SECONDS: f64 = 600.0;
/// Least time between two decisions, so that the effect of one is seen before the next.
const DECISION_SECONDS: f64 = 60.0;
const DAY_SECONDS: f64 = 86_400.0;

/// The measured wear and what follows from it.
#[derive(Debug, Clone)]
pub struct Wear {
    budget_bytes_per_day: u64,
    interval: Duration,
    interval_min: Duration,
    interval_max: Duration,
    seconds: f64,
    bytes_per_second: f64,
    since_decision: f64,
}

// === impl Wear ===

impl Wear {
    /// Starts with the configured interval and no history. A budget of 0 never stretches.
    pub fn new(budget_bytes_per_day: u64, interval: Duration, interval_max: Duration) -> Wear {
        Wear {
            budget_bytes_per_day,
            interval,
            interval_min: interval,
            interval_max: interval_max.max(interval),
            seconds: 0.0,
            bytes_per_second: 0.0,
            since_decision: 0.0,
        }
    }

    /// Takes note of `bytes` written in the last `elapsed`, and returns the new interval if it changes.
    pub fn note(&mut self, bytes: u64, elapsed: Duration) -> Option<Duration> {
        let elapsed = elapsed.as_secs_f64();
        if elapsed <= 0.0 {
            return None;
        }
        self.seconds += elapsed;
        self.since_decision += elapsed;
        // While there is less history than the time constant, the plain average is the better estimate.
        let weight = (elapsed / self.seconds.min(MEMORY_SECONDS)).min(1.0);
        self.bytes_per_second += weight * (bytes as f64 / elapsed - self.bytes_per_second);
        if self.budget_bytes_per_day == 0 || self.since_decision < DECISION_SECONDS {
            return None;
        }
        self.since_decision = 0.0;
        let spent = self.bytes_per_day() / self.budget_bytes_per_day as f64;
        let next = if spent > 0.9 {
            (self.interval * 2).min(self.interval_max)
        } else if spent < 0.6 {
            (self.interval / 2).max(self.interval_min)
        } else {
            self.interval
        };
        let changed = next != self.interval;
        self.interval = next;
        changed.then_some(next)
    }

    /// Bytes a day at the present rate.
    pub fn bytes_per_day(&self) -> f64 {
        self.bytes_per_second * DAY_SECONDS
    }

    /// The commit interval in force.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// The budget, 0 for none.
    pub fn budget_bytes_per_day(&self) -> u64 {
        self.budget_bytes_per_day
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_interval_stretches_near_the_budget_and_comes_back() {
        // Goal: an hour above the budget reaches the bound and not more; hours of quiet bring the interval back.
        let mut wear = Wear::new(86_400_000, SECOND, 10 * SECOND);
        for _ in 0..3_600 {
            wear.note(2_000, SECOND);
        }
        assert_eq!(wear.interval(), 10 * SECOND);
        for _ in 0..7_200 {
            wear.note(10, SECOND);
        }
        assert_eq!(wear.interval(), SECOND);
    }

    #[test]
    fn without_a_budget_nothing_stretches() {
        // Goal: budget 0 means none, while the rate is still reported.
        let mut wear = Wear::new(0, SECOND, 10 * SECOND);
        for _ in 0..600 {
            assert_eq!(wear.note(1_000_000, SECOND), None);
        }
        assert!((wear.bytes_per_day() - 86_400_000_000.0).abs() < 1e6);
    }
}
