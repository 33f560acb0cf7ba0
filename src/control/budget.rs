//! How often the desired state may change. Pure.
//!
//! A change is a transaction of some 8 KiB on flash. One every two seconds for ever is 350 MB a day, a fifth of the usual
//! budget; an application of wadm's with ten components is forty changes at once.

use crate::sample::{Nanos, SECOND};

/// Changes that may follow each other at once.
const BURST: i64 = 256;
/// Between two of those that go on for ever.
const EVERY: Nanos = 2 * SECOND;

/// What is left.
#[derive(Debug)]
pub(super) struct Budget {
    /// In time: a change costs [`EVERY`].
    left: Nanos,
    seen: Nanos,
}

// === impl Budget ===

impl Budget {
    /// Full, at `now`.
    pub fn new(now: Nanos) -> Budget {
        Budget { left: BURST * EVERY, seen: now }
    }

    /// Takes a change, if there is one left.
    pub fn take(&mut self, now: Nanos) -> bool {
        let passed = now.saturating_sub(self.seen).max(0);
        self.left = self.left.saturating_add(passed).min(BURST * EVERY);
        self.seen = self.seen.max(now);
        let has_one = self.left >= EVERY;
        if has_one {
            self.left -= EVERY;
        }
        has_one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_passes_at_once_and_a_flood_does_not_wear_the_flash_out() {
        // Goal: the sum above. Method: a thousand changes at once, then a thousand a second for a day.
        let mut budget = Budget::new(0);
        assert_eq!((0..1_000).filter(|_| budget.take(0)).count() as i64, BURST);
        let day = 86_400;
        let taken = (0..day * 10).filter(|n| budget.take(n * SECOND / 10)).count() as i64;
        assert_eq!(taken, day / 2 - 1);
        assert!(!budget.take(0), "a clock that goes back earns nothing");
    }
}
