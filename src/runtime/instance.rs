//! One instance: a wasmtime store, what it may take, and calls into it that end by their deadline.
//!
//! Calls are plain ones on the pipeline's thread. What an import needs of the pipeline (the number of a series) is lent to
//! the store for the length of the call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::{Component, InstancePre, ResourceTable};
use wasmtime::{Store, Trap};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::block::SeriesEntry;
use crate::runtime::Cause;
use crate::runtime::bindings::exports::frond::telemetry::{processor, state, timer};
use crate::runtime::bindings::frond::telemetry::types::{Batch, Output, Series};
use crate::runtime::bindings::frond::telemetry::{commands, log, registry, types};
use crate::runtime::command::{Command, Given};
use crate::runtime::counters::Counters;
use crate::runtime::desk::Registrar;
use crate::runtime::exchange::Known;
use crate::runtime::host::{EPOCH_TICK, Host};
use crate::runtime::meter::Meter;
use crate::runtime::voice::{Level, Voice};
use crate::runtime::wasi;
use crate::sample::{Nanos, Reading, SeriesId};

/// Most series one instance may register, as `wit/` says.
const REGISTERED_MAX: u32 = 4096;

/// Most series announced in one call to one that is told of all there are: as many as a batch could bring.
const ANNOUNCED_MAX: usize = 8192;

/// Longest name of a series a component may register; MQTT topics of plants are a quarter of that.
const SERIES_NAME_BYTES_MAX: usize = 256;

/// Longest unit.
const UNIT_BYTES_MAX: usize = 64;

/// Most bytes taken over from a component in one call: the 1 MiB of a snapshot, or the 3.4 MiB of the largest result
/// allowed, twice over. Beyond, the call is a fault.
const TAKEN_BYTES_MAX: usize = 8 << 20;

/// Longest reason of a trap that is logged.
const REASON_BYTES_MAX: usize = 512;

/// Why an instance is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It trapped, or broke the rules of a call.
    #[error("trap: {0}")]
    Trap(String),
    /// The call took longer than it may.
    #[error("a call took longer than its deadline")]
    Deadline,
    /// It was refused memory, and did not get over it.
    #[error("it needs more memory than memory_bytes_max grants")]
    Memory,
}

/// Why no instance was made.
pub(super) enum Unmade {
    Fault(Fault),
    Refused(String),
}

/// What the exports of a component are, looked up once.
pub(super) struct Exports {
    pre: InstancePre<Room>,
    processor: processor::GuestIndices,
    state: Option<state::GuestIndices>,
    timer: Option<timer::GuestIndices>,
    gives_commands: bool,
}

/// What every instance of a component is given.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) memory_bytes_max: usize,
    pub(super) deadline: Duration,
    pub(super) voice: Voice,
    pub(super) counters: Arc<Counters>,
    /// Topics of commands.
    pub(super) commands: Arc<[String]>,
}

/// One instance.
pub(super) struct Instance {
    store: Store<Room>,
    processor: processor::Guest,
    state: Option<state::Guest>,
    timer: Option<timer::Guest>,
    /// All series that there are have been announced to it.
    has_met_all: bool,
    deadline_ticks: u64,
}

/// What the imports see: the store's own state.
pub(super) struct Room {
    pub(super) known: Known,
    /// Zero of the clock the component sees.
    pub(super) started: Instant,
    context: WasiCtx,
    table: ResourceTable,
    meter: Meter,
    voice: Voice,
    given: Given,
    registered: u32,
    /// Who numbers series: in `process` the pipeline's, which is lent to it, and otherwise one that refuses.
    registrar: Registrar,
}

// === impl Exports ===

impl Exports {
    /// Checks that the component exports what it should. The imports must have been checked before.
    pub(super) fn find(host: &Host, component: &Component) -> Result<Exports, Cause> {
        let pre = host.linker.instantiate_pre(component)?;
        let processor = processor::GuestIndices::new(&pre)?;
        let exports = |interface| component.get_export_index(None, interface).is_some();
        let has_state = exports("frond:telemetry/state@0.1.1");
        let state = has_state.then(|| state::GuestIndices::new(&pre)).transpose()?;
        let has_timer = exports("frond:telemetry/timer@0.1.1");
        let timer = has_timer.then(|| timer::GuestIndices::new(&pre)).transpose()?;
        let ty = component.component_type();
        let is_commands = |name: &str| name.split_once('@').is_some_and(|(name, _)| name == wasi::COMMANDS);
        let gives_commands = ty.imports(&host.engine).any(|(name, _)| is_commands(name));
        Ok(Exports { pre, processor, state, timer, gives_commands })
    }

    pub(super) fn gives_commands(&self) -> bool {
        self.gives_commands
    }

    pub(super) fn has_timer(&self) -> bool {
        self.timer.is_some()
    }

    pub(super) fn has_state(&self) -> bool {
        self.state.is_some()
    }
}

// === impl Instance ===

impl Instance {
    /// Makes an instance. Nothing but its start functions has run.
    fn start(exports: &Exports, grant: &Grant) -> Result<Instance, Fault> {
        let mut store = Store::new(exports.pre.engine(), Room::new(grant));
        store.limiter(|room| &mut room.meter);
        store.set_hostcall_fuel(TAKEN_BYTES_MAX);
        let deadline_ticks = ticks(grant.deadline);
        store.set_epoch_deadline(deadline_ticks);
        let linked = exports.pre.instantiate(&mut store).and_then(|instance| {
            let processor = exports.processor.load(&mut store, &instance)?;
            let state = exports.state.as_ref().map(|state| state.load(&mut store, &instance)).transpose()?;
            let timer = exports.timer.as_ref().map(|timer| timer.load(&mut store, &instance)).transpose()?;
            Ok((processor, state, timer))
        });
        match linked {
            Ok((processor, state, timer)) => {
                Ok(Instance { store, processor, state, timer, has_met_all: false, deadline_ticks })
            }
            Err(error) => Err(fault(&error, &store)),
        }
    }

    /// Makes one and gives it its options.
    pub(super) fn make(
        exports: &Exports,
        grant: &Grant,
        options: &[(String, String)],
    ) -> Result<Instance, Unmade> {
        let mut instance = Instance::start(exports, grant).map_err(Unmade::Fault)?;
        match instance.configure(options) {
            Ok(Ok(())) => Ok(instance),
            Ok(Err(reason)) => Err(Unmade::Refused(reason)),
            Err(fault) => Err(Unmade::Fault(fault)),
        }
    }

    /// Announces the series among the rows that it has not seen yet.
    pub(super) fn introduce(
        &mut self,
        rows: &[Reading],
        describe: &mut dyn FnMut(SeriesId) -> SeriesEntry,
    ) -> Result<(), Fault> {
        let known = self.known();
        if rows.iter().all(|reading| known.contains(reading.series.0)) {
            return Ok(());
        }
        let new = rows.iter().filter(|reading| known.insert(reading.series.0));
        let new: Vec<Series> = new.map(|reading| series(reading.series, describe(reading.series))).collect();
        self.announce(&new)
    }

    /// Announces `everyone` of whom it has not heard yet. Nobody is asked for twice.
    pub(super) fn introduce_all(
        &mut self,
        everyone: impl FnOnce() -> Vec<(SeriesId, SeriesEntry)>,
    ) -> Result<(), Fault> {
        if std::mem::replace(&mut self.has_met_all, true) {
            return Ok(());
        }
        let known = self.known();
        let new = everyone().into_iter().filter(|(id, _)| known.insert(id.0));
        let new: Vec<Series> = new.map(|(id, entry)| series(id, entry)).collect();
        new.chunks(ANNOUNCED_MAX).try_for_each(|some| self.announce(some))
    }

    /// The series it may name.
    pub(super) fn known(&mut self) -> &mut Known {
        &mut self.store.data_mut().known
    }

    fn configure(&mut self, options: &[(String, String)]) -> Result<Result<(), String>, Fault> {
        self.begin();
        let result = self.processor.call_configure(&mut self.store, options);
        result.map_err(|error| fault(&error, &self.store))
    }

    fn announce(&mut self, series: &[Series]) -> Result<(), Fault> {
        self.begin();
        let result = self.processor.call_announce(&mut self.store, series);
        result.map_err(|error| fault(&error, &self.store))
    }

    /// Lets it work on a batch, and give so many commands.
    pub(super) fn process(
        &mut self,
        batch: &Batch,
        registrar: &mut Registrar,
        commands: usize,
    ) -> Result<Output, Fault> {
        self.begin();
        self.store.data_mut().given.begin(Some(commands));
        std::mem::swap(&mut self.store.data_mut().registrar, registrar);
        let result = self.processor.call_process(&mut self.store, batch);
        std::mem::swap(&mut self.store.data_mut().registrar, registrar);
        result.map_err(|error| fault(&error, &self.store))
    }

    /// What it gave in the last call.
    pub(super) fn take_commands(&mut self) -> Vec<Command> {
        self.store.data_mut().given.take()
    }

    /// How many commands it was refused since this was asked last, and why the last of them.
    pub(super) fn take_refused(&mut self) -> (usize, Option<String>) {
        self.store.data_mut().given.take_refused()
    }

    /// What no other instance is called.
    pub(super) fn number(&self) -> u64 {
        self.store.data().given.number()
    }

    /// Lets it act of its own accord, and give so many commands. `None` when it has no timer.
    pub(super) fn tick(&mut self, at: Nanos, commands: usize) -> Result<Option<Output>, Fault> {
        self.begin();
        self.store.data_mut().given.begin(Some(commands));
        let Some(timer) = &self.timer else { return Ok(None) };
        let result = timer.call_tick(&mut self.store, at);
        result.map(Some).map_err(|error| fault(&error, &self.store))
    }

    /// `None` when it has no state.
    pub(super) fn snapshot(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        self.begin();
        let Some(state) = &self.state else { return Ok(None) };
        let result = state.call_snapshot(&mut self.store);
        result.map(Some).map_err(|error| fault(&error, &self.store))
    }

    pub(super) fn restore(&mut self, snapshot: &[u8]) -> Result<Result<(), String>, Fault> {
        self.begin();
        let Some(state) = &self.state else { return Ok(Err("the component has no state".into())) };
        let result = state.call_restore(&mut self.store, snapshot);
        result.map_err(|error| fault(&error, &self.store))
    }

    /// Every call starts with its whole time and a clean slate.
    fn begin(&mut self) {
        self.store.set_epoch_deadline(self.deadline_ticks);
        let room = self.store.data_mut();
        room.meter.begin_call();
        room.given.begin(None);
    }
}

fn series(SeriesId(id): SeriesId, entry: SeriesEntry) -> Series {
    let SeriesEntry { name, unit, labels } = entry;
    Series { id, name, unit, labels: labels.into_iter().collect() }
}

fn fault(error: &wasmtime::Error, store: &Store<Room>) -> Fault {
    if matches!(error.downcast_ref::<Trap>(), Some(Trap::Interrupt)) {
        return Fault::Deadline;
    }
    if store.data().meter.has_refused() {
        return Fault::Memory;
    }
    Fault::Trap(reason(error))
}

/// Why a call failed, on one line of bounded length: the cause, and then where in the code, which is what may be cut off.
pub(crate) fn reason(error: &wasmtime::Error) -> String {
    let mut causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.reverse();
    let mut reason = causes.join("; ").replace(char::is_control, " ");
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    reason
}

/// The clock ticks at any time, so one tick more than fit into the deadline.
fn ticks(deadline: Duration) -> u64 {
    let ticks = deadline.as_nanos().div_ceil(EPOCH_TICK.as_nanos());
    u64::from(u32::try_from(ticks).unwrap_or(u32::MAX)) + 1
}

// === impl Room ===

impl Room {
    fn new(grant: &Grant) -> Room {
        Room {
            known: Known::default(),
            started: Instant::now(),
            context: wasi::context(&grant.voice),
            table: wasi::table(),
            meter: Meter::new(grant.memory_bytes_max, grant.counters.clone()),
            voice: grant.voice.clone(),
            given: Given::by(grant.voice.component(), grant.commands.clone()),
            registered: 0,
            registrar: Registrar::refusing("series are registered in process only"),
        }
    }
}

impl WasiView for Room {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.context, table: &mut self.table }
    }
}

impl types::Host for Room {}

impl log::Host for Room {
    fn write(&mut self, level: log::Level, line: String) {
        let level = match level {
            log::Level::Error => Level::Error,
            log::Level::Warn => Level::Warn,
            log::Level::Info => Level::Info,
            log::Level::Debug => Level::Debug,
        };
        self.voice.say(level, &line);
    }
}

impl commands::Host for Room {
    fn give(&mut self, topic: String, payload: Vec<u8>) -> Result<(), String> {
        self.given.give(topic, payload)
    }
}

impl registry::Host for Room {
    fn register(&mut self, name: String, unit: String) -> Result<u32, String> {
        if name.is_empty() || name.len() > SERIES_NAME_BYTES_MAX || unit.len() > UNIT_BYTES_MAX {
            return Err(format!(
                "a name has 1 to {SERIES_NAME_BYTES_MAX} bytes, a unit up to {UNIT_BYTES_MAX}"
            ));
        }
        if self.registered == REGISTERED_MAX {
            return Err(format!("the instance has registered {REGISTERED_MAX} series, the most it may"));
        }
        let SeriesId(id) = self.registrar.register(&name, &unit)?;
        if self.known.insert(id) {
            self.registered += 1;
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_begins_with_the_cause() {
        // Goal: what is cut off is the backtrace. Method: one longer than a reason may be.
        let trap = wasmtime::Error::from(Trap::UnreachableCodeReached);
        let told = reason(&trap.context(format!("error while executing at\n{}", "frame ".repeat(1000))));
        assert!(
            told.starts_with(&format!("{}; error while executing at frame", Trap::UnreachableCodeReached))
        );
        assert_eq!(told.len(), REASON_BYTES_MAX);
    }

    #[test]
    fn a_deadline_is_never_shorter_than_asked() {
        // Goal: ticks cover the whole deadline wherever in a tick it begins. Method: around whole ticks.
        assert_eq!(ticks(Duration::from_millis(1)), 2);
        assert_eq!(ticks(Duration::from_millis(10)), 2);
        assert_eq!(ticks(Duration::from_millis(11)), 3);
        assert_eq!(ticks(Duration::from_secs(60)), 6001);
        assert_eq!(ticks(Duration::MAX), 1 << 32);
    }
}
