//! What the pipeline and its components tell about themselves. Counted since the process started; nothing outlives it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Counters;

/// What the pipeline tells about itself.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PipelineStats {
    /// Readings taken since the start.
    pub readings: u64,
    /// Windows closed.
    pub windows: u64,
    /// Readings that came after their window had closed.
    pub late: u64,
    /// Readings that repeated a time already taken.
    pub duplicates: u64,
    /// Alarms raised or cleared.
    pub alarms: u64,
    /// Checkpoints taken.
    pub checkpoints: u64,
    /// Bytes of outputs made.
    pub output_bytes: u64,
    /// Position of the last group taken.
    pub position: u64,
    /// Components, by name.
    pub components: BTreeMap<String, ComponentStats>,
}

/// What one component has done since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ComponentStats {
    /// Why it is not there at all; tried again by itself.
    #[serde(default)]
    pub absent: Option<String>,
    /// Batches given to it.
    pub calls: u64,
    /// Readings given to it.
    pub readings_in: u64,
    /// Readings it gave back.
    pub readings_out: u64,
    /// Readings that passed by it because it failed or was being restarted.
    pub passed_by: u64,
    /// Calls that ended in a trap.
    pub traps: u64,
    /// Calls that took too long.
    pub deadlines: u64,
    /// Calls that wanted too much memory.
    pub memory_faults: u64,
    /// Instances made after the first.
    pub restarts: u64,
    /// Rows it gave back that did not hold.
    pub rows_rejected: u64,
}

// === impl ComponentStats ===

impl ComponentStats {
    pub(super) fn of(counters: &Counters) -> ComponentStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ComponentStats {
            absent: None,
            calls: read(&counters.calls),
            readings_in: read(&counters.readings_in),
            readings_out: read(&counters.readings_out),
            passed_by: read(&counters.passed_by),
            traps: read(&counters.traps),
            deadlines: read(&counters.deadlines),
            memory_faults: read(&counters.memory_faults),
            restarts: read(&counters.restarts),
            rows_rejected: read(&counters.rows_rejected),
        }
    }
}
