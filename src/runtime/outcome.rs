//! What came of a batch, and of a snapshot.

use crate::block;
use crate::sample::Reading;

/// What became of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Processed {
    /// The readings that go on.
    pub readings: Vec<Reading>,
    /// Alarms, oldest first.
    pub alarms: Vec<block::Alarm>,
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
