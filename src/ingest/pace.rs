//! How soon a lost connection is tried again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// First pause.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Longest pause: after an hour without a broker, half a minute more is not noticed.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Doubling pauses, from one second to thirty.
#[derive(Debug, Default)]
pub(super) struct Pace {
    attempt: u32,
}

// === impl Pace ===

impl Pace {
    /// The pause before the next attempt. Between three quarters and all of it is waited, at random, so that the
    /// gateways of a plant do not all come at once.
    pub(super) fn next(&mut self) -> Duration {
        let pause = PAUSE_MIN.saturating_mul(1 << self.attempt.min(5)).min(PAUSE_MAX);
        self.attempt = self.attempt.saturating_add(1);
        // A new state hashes nothing to a random number.
        let random = RandomState::new().hash_one(0u8) as f64 / u64::MAX as f64;
        pause.mul_f64(0.75 + 0.25 * random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        // Goal: the bounds of each pause, and no overflow later.
        let mut pace = Pace::default();
        for bound in [1, 2, 4, 8, 16, 30, 30, 30] {
            let pause = pace.next().as_secs_f64();
            assert!(pause <= f64::from(bound) && pause >= 0.75 * f64::from(bound), "{pause} for {bound}");
        }
        for _ in 0..100 {
            assert!(pace.next() <= PAUSE_MAX);
        }
    }
}
