//! What the store tells about itself.

use serde::{Deserialize, Serialize};

/// A snapshot after each commit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreStats {
    /// Position of the last group.
    pub position: u64,
    /// Position of the last checkpoint.
    pub checkpoint_position: u64,
    /// Group commits since the start.
    pub commits: u64,
    /// Readings committed since the start.
    pub readings: u64,
    /// Milliseconds the last commit took, sync included.
    pub commit_ms: f64,
    /// Milliseconds the slowest commit took.
    pub commit_ms_max: f64,
    /// Commit interval in force, milliseconds; longer than configured when the wear budget is nearly spent.
    pub commit_interval_ms: u64,
    /// Bytes in the ring of raw readings.
    pub ring_bytes: u64,
    /// Readings in it.
    pub ring_readings: u64,
    /// Readings dropped from it to make room, since the start.
    pub ring_dropped: u64,
    /// Outputs waiting for the hub.
    pub outbox_rows: u64,
    /// Their bytes.
    pub outbox_bytes: u64,
    /// Outputs dropped by caps, in the life of the database.
    pub outbox_dropped: u64,
    /// Bytes written to the databases since the start, as SQLite wrote them.
    pub written_bytes: u64,
    /// Bytes a day at the present rate.
    pub written_per_day: f64,
    /// Budget of bytes a day, 0 for none.
    pub wear_budget_per_day: u64,
    /// Hot rows or ring blocks that could not be decoded, since the start: each is a loss, reported when it was met.
    pub damaged: u64,
    /// Messages are not taken because a stream that rejects when full is full.
    pub rejecting: bool,
    /// The database cannot be written.
    pub stalled: Option<Stalled>,
    /// A predecessor that was set aside at the start.
    pub set_aside: Option<String>,
}

/// Why nothing is acknowledged at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalled {
    /// What the database said.
    pub reason: String,
    /// What to do.
    pub advice: String,
    /// Attempts so far.
    pub attempts: u64,
}
