//! What the pipeline and its components tell about themselves. Counted since the process started; nothing outlives it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Counters;
use super::deployment::record::How;
use crate::config::Fallback;

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
    /// Commands of components that left by MQTT, and were acknowledged.
    #[serde(default)]
    pub commands_left: u64,
    /// Those that were dropped because too many waited, or their instance ended before its state was stored.
    #[serde(default)]
    pub commands_dropped: u64,
    /// Those that were dropped because what they were given on was ten seconds old, or had waited.
    #[serde(default)]
    pub commands_late: u64,
    /// Those that the broker refused.
    #[serde(default)]
    pub commands_refused: u64,
    /// Those that were sent before the connection broke, and never acknowledged.
    #[serde(default)]
    pub commands_unsure: u64,
    /// Checkpoints taken.
    pub checkpoints: u64,
    /// Bytes of outputs made.
    pub output_bytes: u64,
    /// Position of the last group taken.
    pub position: u64,
    /// Components, by name.
    pub components: BTreeMap<String, ComponentStats>,
}

/// How a component is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It works.
    #[default]
    Running,
    /// It has failed, and is started again after a pause.
    Restarting,
    /// It has failed too often, and is not started again by itself.
    Quarantined,
    /// It cannot be opened; tried again by itself.
    Absent,
}

/// What one component has done since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ComponentStats {
    /// How it is.
    #[serde(default)]
    pub standing: Standing,
    /// What becomes of readings that it does not work on.
    #[serde(default)]
    pub fallback: Fallback,
    /// Why it is not there at all; tried again by itself.
    #[serde(default)]
    pub absent: Option<String>,
    /// Why it failed, the last time.
    #[serde(default)]
    pub last_fault: Option<String>,
    /// Why it was refused a command, the last time.
    #[serde(default)]
    pub last_refusal: Option<String>,
    /// Batches given to it.
    pub calls: u64,
    /// Readings given to it.
    pub readings_in: u64,
    /// Readings it gave back.
    pub readings_out: u64,
    /// Readings that passed by it because it failed or was being restarted.
    pub passed_by: u64,
    /// Readings that were dropped because it failed or was being restarted.
    #[serde(default)]
    pub dropped: u64,
    /// Readings that wait for it at present.
    #[serde(default)]
    pub held: u64,
    /// Readings dropped because too many waited, or because it failed on them twice.
    #[serde(default)]
    pub hold_dropped: u64,
    /// Times it was quarantined.
    #[serde(default)]
    pub quarantines: u64,
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
    /// Alarms that did not hold.
    #[serde(default)]
    pub alarms_rejected: u64,
    /// Milliseconds spent in calls.
    #[serde(default)]
    pub call_ms: u64,
    /// Calls by its timer.
    #[serde(default)]
    pub ticks: u64,
    /// Those that were due and not made.
    #[serde(default)]
    pub ticks_missed: u64,
    /// Readings that fell back because its share of the time was used up.
    #[serde(default)]
    pub over_share: u64,
    /// Readings that fell back because there were more than it may be given.
    #[serde(default)]
    pub over_rate: u64,
    /// Readings it gave back beyond what it may, dropped.
    #[serde(default)]
    pub readings_over: u64,
    /// Alarms beyond what it may raise, dropped.
    #[serde(default)]
    pub alarms_over: u64,
    /// Commands it gave.
    #[serde(default)]
    pub commands: u64,
    /// Commands it was refused.
    #[serde(default)]
    pub commands_refused: u64,
    /// Bytes of its last snapshot.
    #[serde(default)]
    pub state_bytes: u64,
    /// Snapshots that were too large.
    #[serde(default)]
    pub snapshots_rejected: u64,
    /// Snapshots that it did not take back.
    #[serde(default)]
    pub restores_failed: u64,
    /// Log lines dropped.
    #[serde(default)]
    pub log_lines_dropped: u64,
    /// Its deployments, if there ever was one.
    #[serde(default)]
    pub deployment: Option<DeploymentStats>,
}

/// Where a deployment is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// None is under way.
    #[default]
    Current,
    /// A new version is being compiled and opened.
    Opening,
    /// It gets a copy of every batch.
    Trial,
    /// It is at work, and the old one goes on in the background.
    Probation,
}

/// The deployments of one component. Its counters outlive the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeploymentStats {
    /// Where the present one is.
    pub stage: Stage,
    /// SHA-256 of the file at work.
    pub at_work: Option<String>,
    /// That of the version on trial, or of the old one during a probation.
    pub beside: Option<String>,
    /// What is at work was deployed, and is not the file that the configuration names.
    pub deployed: bool,
    /// Batches that the new version has worked on in this phase.
    pub batches: u64,
    /// Seconds of the trial or probation that are left.
    pub left_s: Option<u64>,
    /// Deployments begun.
    pub begun: u32,
    /// Those whose version stayed.
    pub confirmed: u32,
    /// Those whose version never was at work.
    pub refused: u32,
    /// Those that were taken back.
    pub rolled_back: u32,
    /// How the last one ended.
    pub last: Option<How>,
    /// The version it was about.
    pub last_digest: Option<String>,
    /// Why it ended.
    pub last_why: Option<String>,
    /// Microseconds for which the last switch since the start held up the pipeline.
    pub switch_us: Option<u64>,
}

// === impl ComponentStats ===

impl ComponentStats {
    /// Of one that is not there.
    pub(super) fn absent() -> ComponentStats {
        ComponentStats { standing: Standing::Absent, ..ComponentStats::default() }
    }

    pub(super) fn of(counters: &Counters) -> ComponentStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ComponentStats {
            calls: read(&counters.calls),
            readings_in: read(&counters.readings_in),
            readings_out: read(&counters.readings_out),
            passed_by: read(&counters.passed_by),
            dropped: read(&counters.dropped),
            quarantines: read(&counters.quarantines),
            traps: read(&counters.traps),
            deadlines: read(&counters.deadlines),
            memory_faults: read(&counters.memory_faults),
            restarts: read(&counters.restarts),
            rows_rejected: read(&counters.rows_rejected),
            alarms_rejected: read(&counters.alarms_rejected),
            call_ms: read(&counters.call_ns) / 1_000_000,
            ticks: read(&counters.ticks),
            ticks_missed: read(&counters.ticks_missed),
            over_share: read(&counters.over_share),
            over_rate: read(&counters.over_rate),
            readings_over: read(&counters.readings_over),
            alarms_over: read(&counters.alarms_over),
            commands: read(&counters.commands),
            commands_refused: read(&counters.commands_refused),
            snapshots_rejected: read(&counters.snapshots_rejected),
            restores_failed: read(&counters.restores_failed),
            log_lines_dropped: read(&counters.log_lines_dropped),
            ..ComponentStats::default()
        }
    }
}
