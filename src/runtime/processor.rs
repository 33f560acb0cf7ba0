//! A component with its life: opened once, called with batches, discarded and made again when it fails.

use std::path::Path;
use std::sync::Arc;

use crate::block::{self, SeriesEntry};
use crate::config;
use crate::runtime::bindings::frond::telemetry::types::{Batch, Readings, Series};
use crate::runtime::code::{self, OpenError};
use crate::runtime::counters::{Counters, add, bump};
use crate::runtime::exchange::{self, BATCH_ROWS_MAX, Given};
use crate::runtime::host::Host;
use crate::runtime::instance::{Exports, Fault, Grant, Instance, Register};
use crate::runtime::lifecycle::Stand;
use crate::runtime::voice::Voice;
use crate::sample::{Nanos, Reading, SeriesId};

/// Largest snapshot: one is written with each checkpoint, and 1 MiB a minute is 1.5 GB a day, all of the wear budget.
const SNAPSHOT_BYTES_MAX: usize = 1 << 20;

/// A component at work.
pub struct Processor {
    name: String,
    exports: Exports,
    grant: Grant,
    options: Vec<(String, String)>,
    instance: Option<Instance>,
    stand: Stand,
    /// The clock as the last batch saw it.
    now: Nanos,
    snapshot: Option<Vec<u8>>,
    /// Columns, kept for their capacity.
    batch: Batch,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Processed {
    /// The readings that go on.
    pub readings: Vec<Reading>,
    /// Alarms, oldest first.
    pub alarms: Vec<block::Alarm>,
    /// Whether the component had its say.
    pub outcome: Outcome,
}

/// Whether the component had its say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It worked on the whole batch.
    Processed,
    /// The batch, or its end, passed through as it came.
    PassedThrough(Reason),
}

/// Why readings passed through.
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
}

/// What became of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// The component goes on from it.
    Taken,
    /// The component did not take it, and starts without state.
    SetAside(String),
}

/// Why no instance was made.
enum Unmade {
    Fault(Fault),
    Refused(String),
}

// === impl Processor ===

impl Processor {
    /// Loads a component, compiling it with the binary `compiler` when the cache below `cache_dir` does not have it, and
    /// makes its first instance. May take as long as compiling takes.
    pub fn open(
        host: &Host,
        component: &config::Component,
        compiler: &Path,
        cache_dir: &Path,
    ) -> Result<Processor, OpenError> {
        let name = || component.name.clone();
        let counters = Arc::new(Counters::default());
        let code = code::load(host, component, compiler, cache_dir, &counters)?;
        if let Some(import) = code::ungranted(host, &code) {
            return Err(OpenError::Import { component: name(), import });
        }
        let exports =
            Exports::find(host, &code).map_err(|source| OpenError::Contract { component: name(), source })?;
        let grant = Grant {
            memory_bytes_max: usize::try_from(component.memory_bytes_max).unwrap_or(usize::MAX),
            deadline: component.deadline,
            voice: Voice::new(&component.name, counters.clone()),
            counters,
        };
        let options: Vec<(String, String)> = component.config.clone().into_iter().collect();
        let instance = match make(&exports, &grant, &options) {
            Ok(instance) => instance,
            Err(Unmade::Fault(source)) => return Err(OpenError::Start { component: name(), source }),
            Err(Unmade::Refused(reason)) => return Err(OpenError::Options { component: name(), reason }),
        };
        Ok(Processor {
            name: name(),
            exports,
            grant,
            options,
            instance: Some(instance),
            stand: Stand::Ready { since: i64::MIN, failures: 0 },
            now: i64::MIN,
            snapshot: None,
            batch: Batch {
                series: Vec::new(),
                times: Vec::new(),
                values: Vec::new(),
                integer_rows: Vec::new(),
                integers: Vec::new(),
            },
        })
    }

    /// Readings that passed by before it was opened.
    pub(super) fn missed(&self, readings: u64) {
        add(&self.grant.counters.passed_by, readings as usize);
    }

    /// Lets the component work on `readings`, all of one stream, in the order they came. `now` is monotonic. `describe` is
    /// asked once an instance for each series, `register` when the component makes a series of its own.
    ///
    /// Blocks for at most the component's deadline for each 8,192 readings, and once more for each announcement of new
    /// series and for a restart.
    pub fn process(
        &mut self,
        now: Nanos,
        readings: &[Reading],
        mut describe: impl FnMut(SeriesId) -> SeriesEntry,
        mut register: impl FnMut(&str, &str) -> Result<SeriesId, String>,
    ) -> Processed {
        self.now = now;
        self.grant.voice.refill(now);
        let mut processed = Processed {
            readings: Vec::with_capacity(readings.len()),
            alarms: Vec::new(),
            outcome: Outcome::Processed,
        };
        for rows in readings.chunks(BATCH_ROWS_MAX) {
            if let Err(reason) = self.work(rows, &mut describe, &mut register, &mut processed) {
                add(&self.grant.counters.passed_by, rows.len());
                processed.readings.extend_from_slice(rows);
                // The first reason counts: those after it are its consequences.
                if processed.outcome == Outcome::Processed {
                    processed.outcome = Outcome::PassedThrough(reason);
                }
            }
        }
        processed
    }

    /// The state to store with a checkpoint: that of the instance, or, while there is none, the one that the next will be
    /// given. `None` when the component has no state.
    pub fn snapshot(&mut self) -> Option<Vec<u8>> {
        let taken = self.instance.as_mut().map(Instance::snapshot);
        match taken {
            Some(Ok(Some(snapshot))) if snapshot.len() <= SNAPSHOT_BYTES_MAX => {
                bump(&self.grant.counters.snapshots);
                self.snapshot = Some(snapshot);
            }
            Some(Ok(Some(snapshot))) => {
                bump(&self.grant.counters.snapshots_rejected);
                tracing::warn!(
                    component = self.name,
                    bytes = snapshot.len(),
                    bytes_max = SNAPSHOT_BYTES_MAX,
                    "snapshot is too large, the one before is kept"
                );
            }
            Some(Err(fault)) => drop(self.discard(&fault)),
            Some(Ok(None)) | None => {}
        }
        self.snapshot.clone()
    }

    /// Begins anew from a stored state. To be called before the first batch.
    pub fn restore_from(&mut self, snapshot: Vec<u8>) -> Restored {
        self.snapshot = Some(snapshot);
        self.instance = None;
        match self.rebuild() {
            Ok(restored) => {
                self.stand = self.stand.worked(self.now);
                restored
            }
            Err(fault) => {
                let _ = self.discard(&fault);
                Restored::SetAside(fault.to_string())
            }
        }
    }

    /// What happened so far.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.grant.counters
    }

    /// The component's name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn work(
        &mut self,
        rows: &[Reading],
        describe: &mut dyn FnMut(SeriesId) -> SeriesEntry,
        register: Register<'_>,
        processed: &mut Processed,
    ) -> Result<(), Reason> {
        if self.instance.is_none() {
            self.restart()?;
        }
        let instance = self.instance.as_mut().expect("there is one after a restart");
        bump(&self.grant.counters.calls);
        add(&self.grant.counters.readings_in, rows.len());
        exchange::fill(&mut self.batch, rows);
        let called =
            announce(instance, rows, describe).and_then(|()| instance.process(&self.batch, register));
        let output = match called {
            Ok(output) => output,
            Err(fault) => return Err(self.discard(&fault)),
        };

        let (given, known, counters) = (Given(rows.len()), instance.known(), &self.grant.counters);
        let before = processed.readings.len();
        match output.readings {
            Readings::Unchanged => processed.readings.extend_from_slice(rows),
            Readings::Replaced(batch) => {
                add(&counters.rows_rejected, exchange::take(&batch, given, known, &mut processed.readings));
            }
        }
        add(&counters.readings_out, processed.readings.len() - before);
        let before = processed.alarms.len();
        let rejected = exchange::take_alarms(output.alarms, given, known, &mut processed.alarms);
        add(&counters.alarms_rejected, rejected);
        add(&counters.alarms, processed.alarms.len() - before);
        Ok(())
    }

    /// Makes a new instance when it is time.
    fn restart(&mut self) -> Result<(), Reason> {
        if !self.stand.due(self.now) {
            return Err(Reason::BackingOff);
        }
        match self.rebuild() {
            Ok(_) => {
                bump(&self.grant.counters.restarts);
                self.stand = self.stand.worked(self.now);
                tracing::info!(component = self.name, "component restarted");
                Ok(())
            }
            Err(fault) => {
                bump(&self.grant.counters.restart_failures);
                Err(self.discard(&fault))
            }
        }
    }

    /// Makes an instance from the snapshot, or, when it does not take that, without state.
    fn rebuild(&mut self) -> Result<Restored, Fault> {
        let make = |this: &Self| match make(&this.exports, &this.grant, &this.options) {
            Ok(instance) => Ok(instance),
            Err(Unmade::Fault(fault)) => Err(fault),
            // It took the same options before.
            Err(Unmade::Refused(reason)) => Err(Fault::Trap(reason)),
        };
        let mut instance = make(self)?;
        let mut restored = Restored::Taken;
        if let Some(snapshot) = &self.snapshot {
            let refused = match instance.restore(snapshot) {
                Ok(Ok(())) => None,
                Ok(Err(reason)) => Some(reason),
                Err(fault) => Some(fault.to_string()),
            };
            if let Some(reason) = refused {
                bump(&self.grant.counters.restores_failed);
                tracing::error!(
                    component = self.name,
                    reason,
                    "component does not take its state and starts without"
                );
                // A snapshot that was refused once is not tried again, and an instance that refused one not used.
                self.snapshot = None;
                instance = make(self)?;
                restored = Restored::SetAside(reason);
            }
        }
        self.instance = Some(instance);
        Ok(restored)
    }

    fn discard(&mut self, fault: &Fault) -> Reason {
        self.instance = None;
        self.stand = self.stand.failed(self.now);
        let counters = &self.grant.counters;
        let (counter, reason) = match fault {
            Fault::Trap(_) => (&counters.traps, Reason::Trap),
            Fault::Deadline => (&counters.deadlines, Reason::Deadline),
            Fault::Memory => (&counters.memory_faults, Reason::Memory),
        };
        bump(counter);
        tracing::warn!(component = self.name, reason = %fault, "component discarded, its readings pass through");
        reason
    }
}

impl std::fmt::Debug for Processor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processor")
            .field("name", &self.name)
            .field("stand", &self.stand)
            .finish_non_exhaustive()
    }
}

/// An instance, configured.
fn make(exports: &Exports, grant: &Grant, options: &[(String, String)]) -> Result<Instance, Unmade> {
    let mut instance = Instance::start(exports, grant).map_err(Unmade::Fault)?;
    match instance.configure(options) {
        Ok(Ok(())) => Ok(instance),
        Ok(Err(reason)) => Err(Unmade::Refused(reason)),
        Err(fault) => Err(Unmade::Fault(fault)),
    }
}

/// Tells the instance of the series it has not seen yet.
fn announce(
    instance: &mut Instance,
    rows: &[Reading],
    describe: &mut dyn FnMut(SeriesId) -> SeriesEntry,
) -> Result<(), Fault> {
    let known = instance.known();
    let mut new = Vec::new();
    for reading in rows {
        if known.insert(reading.series.0) {
            let SeriesEntry { name, unit, labels } = describe(reading.series);
            new.push(Series { id: reading.series.0, name, unit, labels: labels.into_iter().collect() });
        }
    }
    if new.is_empty() { Ok(()) } else { instance.announce(&new) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_may_be_opened_on_one_thread_and_used_on_another() {
        // Goal: the pipeline thread may be given processors that were opened before it started. Method: it compiles.
        fn sendable<T: Send>() {}
        sendable::<Processor>();
    }
}
