//! A component with its life: opened once, called with batches, discarded and made again when it fails.

mod recovery;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::block::SeriesEntry;
use crate::config::{self, Fallback};
use crate::runtime::bindings::frond::telemetry::types::{Batch, Output, Readings};
use crate::runtime::code::{self, OpenError};
use crate::runtime::counters::{Counters, add, bump};
use crate::runtime::deployment::record::Digest;
use crate::runtime::desk::Registrar;
use crate::runtime::exchange::{self, BATCH_ROWS_MAX, Given};
use crate::runtime::host::Host;
use crate::runtime::instance::{Exports, Grant, Instance, Unmade};
use crate::runtime::lifecycle::{Life, Stand, Tolerance};
use crate::runtime::outcome::{Outcome, Processed, Reason};
use crate::runtime::quota::{Excess, Quota, Rates};
use crate::runtime::voice::Voice;
use crate::sample::{Nanos, Reading, SECOND, SeriesId};

/// Between two lines of the log that say that a component is beyond its limits: six an hour, however it wavers.
const TELL_LIMITS_EVERY: Nanos = 600 * SECOND;

/// What a version of a component is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// It is at work, and there is no other.
    Lead,
    /// It gets copies.
    Trial,
    /// It is at work, and the one before is there still.
    Probation,
    /// It is the one before.
    Background,
}

/// A component at work.
pub struct Processor {
    name: String,
    part: Part,
    exports: Exports,
    grant: Grant,
    options: Vec<(String, String)>,
    instance: Option<Instance>,
    life: Life,
    quota: Quota,
    state_bytes_max: usize,
    /// When it was last told that it is beyond its limits.
    told_at: Option<Nanos>,
    /// When the log was last told of a command that is refused, and why the last one was.
    refused_at: Option<Nanos>,
    last_refusal: Option<String>,
    fallback: Fallback,
    /// Why it failed, the last time.
    last_fault: String,
    /// The clock as the last batch saw it.
    now: Nanos,
    snapshot: Option<Vec<u8>>,
    /// The instance whose state that is, or that has none.
    stored: Option<u64>,
    /// Columns, kept for their capacity.
    batch: Batch,
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
        Processor::open_as(host, component, None, compiler, cache_dir, Arc::default())
    }

    /// As [`Processor::open`], for a component that has counted before, and whose file must be `version`, if one is given.
    pub(super) fn open_as(
        host: &Host,
        component: &config::Component,
        version: Option<&Digest>,
        compiler: &Path,
        cache_dir: &Path,
        counters: Arc<Counters>,
    ) -> Result<Processor, OpenError> {
        let name = || component.name.clone();
        let code = code::load_version(host, component, version, compiler, cache_dir, &counters)?;
        if let Some((import, advice)) = code::ungranted(host, component, &code) {
            return Err(OpenError::Import { component: name(), import, advice });
        }
        let exports =
            Exports::find(host, &code).map_err(|source| OpenError::Contract { component: name(), source })?;
        let grant = Grant {
            memory_bytes_max: usize::try_from(component.memory_bytes_max).unwrap_or(usize::MAX),
            deadline: component.deadline,
            voice: Voice::new(&component.name, component.log_lines_per_second, counters.clone()),
            counters,
            commands: component.commands.clone().into(),
        };
        let options: Vec<(String, String)> = component.config.clone().into_iter().collect();
        let instance = match Instance::make(&exports, &grant, &options) {
            Ok(instance) => instance,
            Err(Unmade::Fault(source)) => return Err(OpenError::Start { component: name(), source }),
            Err(Unmade::Refused(reason)) => return Err(OpenError::Options { component: name(), reason }),
        };
        let processor = Processor {
            name: name(),
            part: Part::Lead,
            exports,
            grant,
            options,
            instance: Some(instance),
            life: Life::new(Tolerance {
                failures: component.quarantine_failures,
                within: Nanos::try_from(component.quarantine_within.as_nanos()).unwrap_or(Nanos::MAX),
            }),
            quota: Quota::new(Rates {
                share_percent: component.cpu_share_percent,
                readings_in: component.readings_in_per_second,
                readings_out: component.readings_out_per_second,
                alarms: component.alarms_per_second,
                commands: component.commands_per_second,
            }),
            state_bytes_max: component.state_bytes_max,
            told_at: None,
            refused_at: None,
            last_refusal: None,
            fallback: component.fallback,
            last_fault: String::new(),
            now: i64::MIN,
            snapshot: None,
            stored: None,
            batch: Batch {
                series: Vec::new(),
                times: Vec::new(),
                values: Vec::new(),
                integer_rows: Vec::new(),
                integers: Vec::new(),
            },
        };
        for told in processor.unused(component) {
            tracing::warn!(component = processor.name, "a key of the component is of no use: {told}");
        }
        Ok(processor)
    }

    /// What became of readings before it was opened.
    pub(super) fn missed(&self, passed_by: u64, dropped: u64) {
        add(&self.grant.counters.passed_by, passed_by as usize);
        add(&self.grant.counters.dropped, dropped as usize);
    }

    /// Lets the component work on `readings`, all of one stream, in the order they came. `now` is monotonic. `describe` is
    /// asked once an instance for each series, `registrar` when the component makes a series of its own.
    ///
    /// Blocks for at most the component's deadline for each 8,192 readings, and once more for each announcement of new
    /// series and for a restart.
    pub fn process<'a>(
        &mut self,
        now: Nanos,
        readings: &'a [Reading],
        mut describe: impl FnMut(SeriesId) -> SeriesEntry,
        registrar: &mut Registrar,
    ) -> Processed<'a> {
        self.now = now;
        self.grant.voice.refill(now);
        self.quota.refill(now);
        let mut processed = Processed::nothing();
        for rows in readings.chunks(BATCH_ROWS_MAX) {
            let outcome = match self.quota.admits() {
                Ok(()) => {
                    // Waiting for the number of a series counts too: others wait meanwhile.
                    let begun = Instant::now();
                    let outcome = self.work(rows, &mut describe, registrar, &mut processed);
                    self.spend(begun.elapsed());
                    outcome
                }
                Err(excess) => Err(self.exceeds(excess, rows.len())),
            };
            if let Err(reason) = outcome {
                self.fall_back(rows, &mut processed);
                // The first reason counts: those after it are its consequences.
                if processed.outcome == Outcome::Processed {
                    processed.outcome = Outcome::PassedThrough(reason);
                }
            }
        }
        processed
    }

    /// Lets a component that has a timer act of its own accord, at `at` of the day. `everyone`, the series of its streams, is
    /// asked for once an instance. What it gives are no rows of a batch: its fallback has nothing to do with it. `None` when
    /// it has no timer, or did not have its say.
    ///
    /// Blocks as [`Processor::process`] does for one batch.
    pub fn tick(
        &mut self,
        now: Nanos,
        at: Nanos,
        everyone: impl FnOnce() -> Vec<(SeriesId, SeriesEntry)>,
    ) -> Option<Processed<'static>> {
        if !self.has_timer() {
            return None;
        }
        self.now = now;
        self.grant.voice.refill(now);
        self.quota.refill(now);
        if let Err(excess) = self.quota.admits() {
            let _ = self.exceeds(excess, 0);
            self.miss_ticks(1);
            return None;
        }
        let begun = Instant::now();
        let acted = self.act(at, everyone);
        self.spend(begun.elapsed());
        acted.ok()
    }

    /// Whether it is to be called every so often.
    pub fn has_timer(&self) -> bool {
        self.exports.has_timer()
    }

    /// Whether it has a state to be stored.
    pub(super) fn has_state(&self) -> bool {
        self.exports.has_state()
    }

    /// Ticks that were due and nobody could call it for.
    pub(super) fn miss_ticks(&self, ticks: u64) {
        add(&self.grant.counters.ticks_missed, ticks as usize);
    }

    /// Ends its quarantine: an instance is made with the next batch. Tells whether it was in quarantine.
    pub fn release(&mut self) -> bool {
        self.life.release()
    }

    /// From now on it is there for this, and counts here. In the background nothing that it says is logged. Its next
    /// instance speaks under `name`.
    pub(super) fn play(&mut self, part: Part, name: &str, counters: Arc<Counters>) {
        if self.name != name {
            self.name = name.to_owned();
            self.grant.voice = self.grant.voice.of(name, counters.clone());
        }
        self.grant.voice.hush(part == Part::Background);
        self.grant.counters = counters;
        self.part = part;
    }

    /// Whether it has failed too often to be started again.
    pub fn is_quarantined(&self) -> bool {
        self.life.stand() == Stand::Quarantined
    }

    /// Whether there is an instance.
    pub fn is_running(&self) -> bool {
        self.instance.is_some()
    }

    /// Whether the next batch would be given to an instance.
    pub(super) fn would_work(&mut self, now: Nanos) -> bool {
        self.quota.refill(now);
        self.quota.admits().is_ok() && (self.is_running() || self.life.is_due(now))
    }

    /// The number of the instance whose state the last [`Processor::snapshot`] has. `None`: of one that is no more.
    pub(super) fn stored(&self) -> Option<u64> {
        self.stored
    }

    /// Bytes of its last snapshot.
    pub(super) fn state_bytes(&self) -> usize {
        self.snapshot.as_ref().map_or(0, Vec::len)
    }

    /// Has used up what `before` has used up of its share and rates.
    pub fn go_on_from(&mut self, before: &Processor) {
        self.quota = before.quota.clone();
    }

    /// Why it was refused a command, the last time.
    pub fn last_refusal(&self) -> Option<&str> {
        self.last_refusal.as_deref()
    }

    /// Keys of its `[[component]]` that say something to which it has nothing.
    pub fn unused(&self, component: &config::Component) -> impl Iterator<Item = &'static str> + use<> {
        let usual = config::Component::of(String::new(), Default::default());
        let timer = component.timer != usual.timer && !self.has_timer();
        let commands = !component.commands.is_empty() && !self.exports.gives_commands();
        [
            (timer, "timer: it exports no frond:telemetry/timer"),
            (commands, "commands: it does not import frond:telemetry/commands"),
        ]
        .into_iter()
        .filter_map(|(is_unused, told)| is_unused.then_some(told))
    }

    /// Why it failed, the last time.
    pub fn last_fault(&self) -> &str {
        &self.last_fault
    }

    /// What happened so far.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.grant.counters
    }

    /// The component's name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn spend(&mut self, time: Duration) {
        self.quota.spend(time);
        add(&self.grant.counters.call_ns, usize::try_from(time.as_nanos()).unwrap_or(usize::MAX));
    }

    /// Counts readings that it may not be given now, for whoever keeps them for it.
    pub(super) fn count_excess(&mut self, now: Nanos, readings: usize) {
        self.now = now;
        self.quota.refill(now);
        if let Err(excess) = self.quota.admits() {
            let _ = self.exceeds(excess, readings);
        }
    }

    /// It may not be called now.
    fn exceeds(&mut self, excess: Excess, rows: usize) -> Reason {
        let counters = &self.grant.counters;
        let (counter, reason, key) = match excess {
            Excess::Share => (&counters.over_share, Reason::OverShare, "cpu_share_percent"),
            Excess::Rate => (&counters.over_rate, Reason::OverRate, "readings_in_per_second"),
        };
        add(counter, rows);
        if self.told_at.is_none_or(|told_at| self.now.saturating_sub(told_at) >= TELL_LIMITS_EVERY) {
            self.told_at = Some(self.now);
            tracing::warn!(
                component = self.name,
                limit = key,
                "component is beyond its limit, its fallback takes what is more"
            );
        }
        reason
    }

    fn work<'a>(
        &mut self,
        rows: &'a [Reading],
        describe: &mut dyn FnMut(SeriesId) -> SeriesEntry,
        registrar: &mut Registrar,
        processed: &mut Processed<'a>,
    ) -> Result<(), Reason> {
        if self.instance.is_none() {
            self.restart()?;
        }
        let instance = self.instance.as_mut().expect("there is one after a restart");
        bump(&self.grant.counters.calls);
        add(&self.grant.counters.readings_in, rows.len());
        self.quota.give(rows.len());
        exchange::fill(&mut self.batch, rows);
        let room = self.quota.commands();
        let called =
            instance.introduce(rows, describe).and_then(|()| instance.process(&self.batch, registrar, room));
        let refused = instance.take_refused();
        self.tell_refused(refused);
        let output = match called {
            Ok(output) => output,
            Err(fault) => {
                processed.failed_on = rows.len();
                return Err(self.discard(&fault));
            }
        };
        self.accept(output, rows, processed);
        Ok(())
    }

    fn act(
        &mut self,
        at: Nanos,
        everyone: impl FnOnce() -> Vec<(SeriesId, SeriesEntry)>,
    ) -> Result<Processed<'static>, Reason> {
        if self.instance.is_none() {
            self.restart().inspect_err(|_| self.miss_ticks(1))?;
        }
        let instance = self.instance.as_mut().expect("there is one after a restart");
        bump(&self.grant.counters.ticks);
        let mut processed = Processed::nothing();
        let called = instance.introduce_all(everyone).and_then(|()| instance.tick(at, self.quota.commands()));
        let refused = instance.take_refused();
        self.tell_refused(refused);
        match called {
            Ok(output) => {
                if let Some(output) = output {
                    self.accept(output, &[], &mut processed);
                }
                Ok(processed)
            }
            Err(fault) => Err(self.discard(&fault)),
        }
    }

    fn tell_refused(&mut self, (count, why): (usize, Option<String>)) {
        let Some(why) = why else { return };
        add(&self.grant.counters.commands_refused, count);
        let is_time = self.refused_at.is_none_or(|at| self.now.saturating_sub(at) >= TELL_LIMITS_EVERY);
        if is_time && self.part != Part::Background {
            self.refused_at = Some(self.now);
            tracing::warn!(component = self.name, count, why, "commands of a component are refused");
        }
        self.last_refusal = Some(why);
    }

    /// Takes what holds of what it gave for `rows`.
    fn accept<'a>(&mut self, output: Output, rows: &'a [Reading], processed: &mut Processed<'a>) {
        let instance = self.instance.as_mut().expect("it was called");
        let commands = instance.take_commands();
        if !commands.is_empty() {
            self.quota.take_commands(commands.len());
            add(&self.grant.counters.commands, commands.len());
            // Of two versions one moves things.
            if matches!(self.part, Part::Lead | Part::Probation) {
                processed.commands.extend(commands);
            }
        }
        let (given, known, counters) = (Given(rows.len()), instance.known(), &self.grant.counters);
        let before = processed.readings.len();
        match output.readings {
            Readings::Unchanged => processed.pass(rows),
            Readings::Replaced(batch) => {
                let readings = processed.readings.to_mut();
                add(&counters.rows_rejected, exchange::take(&batch, given, known, readings));
                let whole = readings.len() - before;
                let taken = self.quota.take_readings(whole);
                add(&counters.readings_over, whole - taken);
                readings.truncate(before + taken);
            }
        }
        add(&counters.readings_out, processed.readings.len() - before);
        let before = processed.alarms.len();
        let rejected = exchange::take_alarms(output.alarms, given, known, &mut processed.alarms);
        add(&counters.alarms_rejected, rejected);
        let whole = processed.alarms.len() - before;
        let taken = self.quota.take_alarms(whole);
        add(&counters.alarms_over, whole - taken);
        processed.alarms.truncate(before + taken);
        add(&counters.alarms, processed.alarms.len() - before);
    }

    /// What becomes of rows that it did not work on.
    fn fall_back<'a>(&self, rows: &'a [Reading], processed: &mut Processed<'a>) {
        match self.fallback {
            Fallback::Pass => {
                add(&self.grant.counters.passed_by, rows.len());
                processed.pass(rows);
            }
            Fallback::Drop => add(&self.grant.counters.dropped, rows.len()),
            Fallback::Hold => processed.held.extend_from_slice(rows),
        }
    }
}

impl std::fmt::Debug for Processor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processor")
            .field("name", &self.name)
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
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
