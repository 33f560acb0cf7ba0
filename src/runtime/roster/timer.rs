//! Components that act of their own accord: who is due, and where goes what they give.
//!
//! Nothing of this is repeated after a crash: the instance goes on from its last snapshot, and the next tick comes by the
//! clock. What a tick gave since that snapshot has left no trace outside, as with everything that is in no checkpoint.

use std::time::Duration;

use super::{Roster, Sink, Worked};
use crate::runtime::Processor;
use crate::runtime::desk::Desk;
use crate::sample::Nanos;

/// The times at which a timer is due, from when it was looked at first, on the monotonic clock.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Grid {
    due: Option<Nanos>,
}

// === impl Grid ===

impl Grid {
    /// If the timer is due, how many were due before this one and passed over.
    pub(in crate::runtime) fn pass(&mut self, every: Duration, now: Nanos) -> Option<u64> {
        let every = Nanos::try_from(every.as_nanos()).unwrap_or(Nanos::MAX).max(1);
        let due = *self.due.get_or_insert(now.saturating_add(every));
        let late = now.saturating_sub(due);
        if late < 0 {
            return None;
        }
        let missed = late / every;
        self.due = Some(due.saturating_add((missed + 1).saturating_mul(every)));
        Some(missed.unsigned_abs())
    }
}

// === impl Roster ===

impl Roster {
    /// Calls those whose timer is due. To be called a few times a second, once everything that was on flash at the start has
    /// been worked on. Tells whether the state of any may have changed by it.
    pub(in crate::runtime) fn call_due(&mut self, desk: &mut Desk<'_>, sink: Sink<'_>) -> bool {
        let now = desk.now;
        let mut has_changed = false;
        let due = self.seats.iter_mut().filter_map(|(name, seat)| seat.is_due(now).then(|| name.clone()));
        for name in due.collect::<Vec<_>>() {
            let (at, timeline) = desk.clock.stamp();
            let Some(seat) = self.seats.get_mut(&name) else { continue };
            let mut given = seat.tick(at, desk);
            desk.let_go(given.iter_mut().flat_map(|given| std::mem::take(&mut given.commands)).collect());
            has_changed |= seat.processor.as_ref().is_some_and(Processor::has_state);
            for (stream, (readings, alarms)) in given.map(|given| desk.by_stream(given)).unwrap_or_default() {
                sink(stream, timeline, Worked { readings: &readings, alarms });
            }
            // It may fail for good without a reading that would tell the hub.
            let stream = desk.streams_of(&name).next();
            if let Some(stream) = stream
                && let Some(alarm) = self.alarm(&name, stream, at, desk)
            {
                sink(stream, timeline, Worked { readings: &[], alarms: vec![alarm] });
            }
        }
        has_changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_keeps_to_its_grid_and_counts_what_it_passes_over() {
        // Goal: late calls do not shift later ones, and nothing is made up for. Method: a timer of ten looked at in time, late,
        // and a hundred later; then at the end of time.
        let mut grid = Grid::default();
        let mut pass = |now| grid.pass(Duration::from_nanos(10), now);
        let passed = [0, 9, 10, 11, 24, 29, 30, 130, 139, 140].map(&mut pass);
        assert_eq!(passed, [None, None, Some(0), None, Some(0), None, Some(0), Some(9), None, Some(0)]);
        assert!(pass(Nanos::MAX).is_some() && pass(Nanos::MAX).is_some());
        assert_eq!(Grid::default().pass(Duration::MAX, 0), None);
    }
}
