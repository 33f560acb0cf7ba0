//! So many a second: a bucket that refills with time. Pure.

use crate::sample::{Nanos, SECOND};

/// The bucket. It holds a second's worth, so that a burst of that size passes.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: u32,
    /// Billionths of a message.
    level: i128,
    seen: Nanos,
}

// === impl Rate ===

impl Rate {
    /// Full, at `now`.
    pub fn new(per_second: u32, now: Nanos) -> Rate {
        Rate { per_second, level: full(per_second), seen: now }
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, now: Nanos) -> bool {
        let earned = i128::from(now.saturating_sub(self.seen).max(0)) * i128::from(self.per_second);
        self.level = (self.level + earned).min(full(self.per_second));
        self.seen = self.seen.max(now);
        let has_one = self.level >= i128::from(SECOND);
        if has_one {
            self.level -= i128::from(SECOND);
        }
        has_one
    }
}

fn full(per_second: u32) -> i128 {
    i128::from(per_second) * i128::from(SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_a_second_passes_and_then_the_rate() {
        // Goal: never more than asked for over any longer time. Method: a burst, then one in ten milliseconds for 10 s.
        let mut rate = Rate::new(10, 0);
        assert_eq!((0..100).filter(|_| rate.take(0)).count(), 10);
        let taken = (1..=1000).filter(|n| rate.take(n * SECOND / 100)).count();
        assert_eq!(taken, 100);
        assert_eq!((0..100).filter(|_| rate.take(i64::MAX)).count(), 10, "a long pause earns one burst");
        assert!(!rate.take(0), "a clock that goes back earns nothing");
    }
}
