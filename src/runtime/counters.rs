//! What happened to one component since it was opened.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one component. Written by its processor, read by the heartbeat.
#[derive(Debug, Default)]
pub struct Counters {
    /// Batches given to the component.
    pub calls: AtomicU64,
    /// Readings given to it.
    pub readings_in: AtomicU64,
    /// Readings it gave back, after checking.
    pub readings_out: AtomicU64,
    /// Alarms it gave, after checking.
    pub alarms: AtomicU64,
    /// Readings that passed by it because it failed or was being restarted.
    pub passed_by: AtomicU64,
    /// Readings that were dropped because it failed or was being restarted, and its fallback is `drop`.
    pub dropped: AtomicU64,
    /// Times it was quarantined.
    pub quarantines: AtomicU64,
    /// Calls that ended in a trap, or in anything else that is not named below.
    pub traps: AtomicU64,
    /// Calls that took too long.
    pub deadlines: AtomicU64,
    /// Calls that ended because memory was refused.
    pub memory_faults: AtomicU64,
    /// Requests for memory that were refused, whether the component lived on or not.
    pub memory_refusals: AtomicU64,
    /// Instances made after the first.
    pub restarts: AtomicU64,
    /// Restarts that failed.
    pub restart_failures: AtomicU64,
    /// Rows, or entries of the integer columns, that did not hold.
    pub rows_rejected: AtomicU64,
    /// Alarms that did not hold.
    pub alarms_rejected: AtomicU64,
    /// Snapshots taken.
    pub snapshots: AtomicU64,
    /// Snapshots that were too large; the one before was kept.
    pub snapshots_rejected: AtomicU64,
    /// Snapshots that the component did not take back; it started without state.
    pub restores_failed: AtomicU64,
    /// Nanoseconds spent in calls.
    pub call_ns: AtomicU64,
    /// Calls by its timer.
    pub ticks: AtomicU64,
    /// Those that were due and not made: it was not there, its share was used up, or the machine was held up.
    pub ticks_missed: AtomicU64,
    /// Readings that fell back because its share of the time was used up.
    pub over_share: AtomicU64,
    /// Readings that fell back because there were more than it may be given.
    pub over_rate: AtomicU64,
    /// Readings it gave back beyond what it may, dropped.
    pub readings_over: AtomicU64,
    /// Alarms beyond what it may raise, dropped.
    pub alarms_over: AtomicU64,
    /// Commands it gave.
    pub commands: AtomicU64,
    /// Commands it was refused, with the reason.
    pub commands_refused: AtomicU64,
    /// Log lines written.
    pub log_lines: AtomicU64,
    /// Log lines dropped because there were too many.
    pub log_lines_dropped: AtomicU64,
    /// Times the component was compiled.
    pub compilations: AtomicU64,
    /// Cached files that were damaged or unfit, and were made again.
    pub cache_rejected: AtomicU64,
}

// === impl Counters ===

impl Counters {
    /// Adds what another version of the component has counted, which begins anew.
    pub(super) fn absorb(&self, other: &Counters) {
        for (counter, more) in self.all().into_iter().zip(other.all()) {
            add(counter, more.swap(0, Ordering::Relaxed) as usize);
        }
    }

    /// Adds the failures of another version, and nothing else of it.
    pub(super) fn absorb_faults(&self, other: &Counters) {
        for (counter, more) in [
            (&self.traps, &other.traps),
            (&self.deadlines, &other.deadlines),
            (&self.memory_faults, &other.memory_faults),
        ] {
            add(counter, more.load(Ordering::Relaxed) as usize);
        }
    }

    fn all(&self) -> [&AtomicU64; 31] {
        let Counters {
            calls,
            readings_in,
            readings_out,
            alarms,
            passed_by,
            dropped,
            quarantines,
            traps,
            deadlines,
            memory_faults,
            memory_refusals,
            restarts,
            restart_failures,
            rows_rejected,
            alarms_rejected,
            snapshots,
            snapshots_rejected,
            restores_failed,
            call_ns,
            ticks,
            ticks_missed,
            over_share,
            over_rate,
            readings_over,
            alarms_over,
            commands,
            commands_refused,
            log_lines,
            log_lines_dropped,
            compilations,
            cache_rejected,
        } = self;
        [
            calls,
            readings_in,
            readings_out,
            alarms,
            passed_by,
            dropped,
            quarantines,
            traps,
            deadlines,
            memory_faults,
            memory_refusals,
            restarts,
            restart_failures,
            rows_rejected,
            alarms_rejected,
            snapshots,
            snapshots_rejected,
            restores_failed,
            call_ns,
            ticks,
            ticks_missed,
            over_share,
            over_rate,
            readings_over,
            alarms_over,
            commands,
            commands_refused,
            log_lines,
            log_lines_dropped,
            compilations,
            cache_rejected,
        ]
    }
}

/// Adds `n`. Each counter has one writer, the thread its processor is on, so that a load and a store will do: with five
/// counters a call the locked instruction would show.
pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n as u64), Ordering::Relaxed);
}

/// Adds one.
pub(crate) fn bump(counter: &AtomicU64) {
    add(counter, 1);
}
