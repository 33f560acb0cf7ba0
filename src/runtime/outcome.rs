//! What came of a batch, and of a snapshot.

use std::borrow::Cow;

use crate::block;
use crate::runtime::command::Command;
use crate::sample::Reading;

/// What became of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Processed<'a> {
    /// The readings that go on: the batch's own where they go on as they came.
    pub readings: Cow<'a, [Reading]>,
    /// Alarms, oldest first.
    pub alarms: Vec<block::Alarm>,
    /// Commands, oldest first. They are to leave once the rest is on flash.
    pub commands: Vec<Command>,
    /// The end of the batch, when the component had not its say and its fallback is to hold.
    pub held: Vec<Reading>,
    /// So many rows at the beginning of `held` are those that it failed on.
    pub failed_on: usize,
    /// Whether the component had its say.
    pub outcome: Outcome,
}

/// Whether the component had its say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It worked on the whole batch.
    Processed,
    /// The batch, or its end, went past it: through as it came, unless the fallback is another.
    PassedThrough(Reason),
}

/// Why readings went past it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The component trapped.
    Trap,
    /// It took too long.
    Deadline,
    /// It needed more memory than it may have.
    Memory,
    /// It failed before, and its pause is not over.
    BackingOff,
    /// It failed too often.
    Quarantined,
    /// Its share of the time is used up.
    OverShare,
    /// It was given as many readings as it may be.
    OverRate,
}

/// What became of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// The component goes on from it.
    Taken,
    /// The component did not take it, and starts without state.
    SetAside(String),
}

// === impl Processed ===

impl<'a> Processed<'a> {
    /// What became of no readings.
    pub(super) fn nothing() -> Processed<'a> {
        Processed {
            readings: Cow::Borrowed(&[]),
            alarms: Vec::new(),
            commands: Vec::new(),
            held: Vec::new(),
            failed_on: 0,
            outcome: Outcome::Processed,
        }
    }

    /// These rows of the batch go on as they came.
    pub(super) fn pass(&mut self, rows: &'a [Reading]) {
        if self.readings.is_empty() {
            // Nearly always the whole batch.
            self.readings = Cow::Borrowed(rows);
        } else {
            self.readings.to_mut().extend_from_slice(rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{SeriesId, Value};

    #[test]
    fn a_batch_that_goes_on_as_it_came_is_not_copied_and_keeps_its_order_in_parts() {
        // Goal: no reading is copied without need, and none is lost where it is. Method: a whole batch; then one of two calls,
        // and one whose first call gave other readings.
        let row = |time| Reading { series: SeriesId(1), time, value: Value::Int(time) };
        let rows: Vec<Reading> = (0..4).map(row).collect();
        let mut whole = Processed::nothing();
        whole.pass(&rows);
        assert!(matches!(whole.readings, Cow::Borrowed(_)));
        assert_eq!(whole.readings, rows);
        let mut parts = Processed::nothing();
        parts.pass(&rows[..3]);
        parts.pass(&rows[3..]);
        assert_eq!(parts.readings, rows);
        let mut changed = Processed::nothing();
        changed.readings.to_mut().push(row(9));
        changed.pass(&rows[2..]);
        assert_eq!(changed.readings.as_ref(), [row(9), row(2), row(3)]);
    }
}
