//! The pipeline thread: committed groups in, checkpoints out. It owns the component instances and the reducers.
//!
//! ```text
//! group ─▶ component ─▶ reducer ─▶ closed windows ┐
//!   │         └──────────────────▶ alarms ────────┼─▶ checkpoint: position, state, raw blocks, outputs
//!   └──────────────▶ raw readings, sorted ────────┘        one at a time, one transaction each
//! ```
//! A checkpoint is taken when windows have closed (`checkpoint_interval_min` after the first), when an alarm was raised (at
//! once), when enough raw readings have gathered, when senders of window streams wait, and every `checkpoint_interval`.
//! Nothing here survives a power cut by itself: the next start gets the last checkpoint's state and the groups after it.
//! What is not yet in a checkpoint has left no trace outside, so every reading counts exactly once. Bound: readings since
//! the last checkpoint; at [`RAW_READINGS_MAX`] with a checkpoint under way nothing more is taken, the store waits.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::block::SeriesEntry;
use crate::config;
use crate::journal::{Checkpoint, Committed};
use crate::platform::{clock, fault};
use crate::sample::{BootId, Durability, Reading, SeriesId, StreamId, Timeline};
use crate::store;
use crate::supervise::Beat;

use super::absent::{Absence, Absent};
use super::outputs::Line;
use super::state::State;
use super::stats::{ComponentStats, PipelineStats};
use super::{Host, Processor, Restored};

/// Readings between two checkpoints: 65,536 × 32 B = 2 MiB in memory, and as much to replay after a crash.
const RAW_READINGS_MAX: usize = 65_536;
/// How often idle series are looked for.
const TICK: Duration = Duration::from_millis(250);

/// What the pipeline is made from.
#[derive(Debug)]
pub struct Setup {
    /// Streams with their numbers.
    pub streams: Vec<(StreamId, config::Stream)>,
    /// Components.
    pub components: Vec<config::Component>,
    /// The journal's settings.
    pub journal: config::Journal,
    /// State of the last checkpoint.
    pub state: Vec<u8>,
    /// Known series.
    pub series: Vec<(SeriesId, store::Known)>,
    /// Names of all streams, those no longer configured among them.
    pub stream_names: BTreeMap<StreamId, String>,
    /// Known boots.
    pub boots: BTreeMap<BootId, String>,
    /// For series that components register.
    pub store: store::Handle,
    /// The program that compiles components: frond itself.
    pub compiler: PathBuf,
    /// Where compiled components are cached.
    pub cache_dir: PathBuf,
}

/// The pipeline.
pub struct Pipeline {
    setup: Setup,
    lines: BTreeMap<StreamId, Line>,
    series: BTreeMap<SeriesId, SeriesEntry>,
    processors: BTreeMap<String, Processor>,
    /// What components run in; `None` when none can.
    host: Option<Host>,
    absent: Absent,
    raw: BTreeMap<(StreamId, Timeline), Vec<Reading>>,
    raw_readings: usize,
    position: u64,
    /// Something has happened since the last checkpoint.
    dirty: bool,
    hurry: bool,
    urgent: bool,
    checkpointed_at: Instant,
    /// When the first of the outputs that wait for a checkpoint was made.
    outputs_since: Option<Instant>,
    stats: PipelineStats,
    stats_out: watch::Sender<PipelineStats>,
}

enum Event {
    Stop,
    Group(Committed),
    Checkpointed,
    Tick,
    StoreGone,
}

// === impl Pipeline ===

impl Pipeline {
    /// Makes the pipeline from the last checkpoint. Components are opened in [`Pipeline::run`].
    pub fn new(setup: Setup) -> (Pipeline, watch::Receiver<PipelineStats>) {
        let (stats_out, stats) = watch::channel(PipelineStats::default());
        let series = setup.series.iter().map(|(id, known)| (*id, known.entry.clone())).collect();
        let lines = setup.streams.iter().map(|(id, stream)| (*id, Line::new(stream.clone()))).collect();
        let pipeline = Pipeline {
            lines,
            series,
            processors: BTreeMap::new(),
            host: None,
            absent: Absent::default(),
            raw: BTreeMap::new(),
            raw_readings: 0,
            position: 0,
            dirty: false,
            hurry: false,
            urgent: false,
            checkpointed_at: Instant::now(),
            outputs_since: None,
            stats: PipelineStats::default(),
            stats_out,
            setup,
        };
        (pipeline, stats)
    }

    /// Takes groups and gives checkpoints until `stop`, then takes what is left and gives a last checkpoint. Runs on a
    /// thread of its own: component calls and encoding happen between its awaits.
    pub fn run(
        mut self,
        mut committed: mpsc::Receiver<Committed>,
        checkpoints: mpsc::Sender<(Checkpoint, oneshot::Sender<()>)>,
        beat: &Beat,
        stop: &CancellationToken,
    ) -> Result<(), Infallible> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime without I/O needs nothing from the system");
        self.open_components();
        self.restore();
        let mut outstanding: Option<oneshot::Receiver<()>> = None;
        let mut next_tick = Instant::now();
        loop {
            beat.touch();
            let full = self.raw_readings >= RAW_READINGS_MAX && outstanding.is_some();
            let event = runtime.block_on(next_event(&mut committed, &mut outstanding, full, next_tick, stop));
            match event {
                Event::Stop | Event::StoreGone => break,
                Event::Group(group) => self.take(group, &runtime),
                Event::Checkpointed => {
                    fault::point("pipeline.after_checkpoint");
                    outstanding = None;
                }
                Event::Tick => {
                    next_tick = Instant::now() + TICK;
                    self.tick();
                }
            }
            if outstanding.is_none() && self.is_due() {
                outstanding = self.send_checkpoint(&runtime, &checkpoints);
            }
        }
        while let Ok(group) = committed.try_recv() {
            self.take(group, &runtime);
        }
        if let Some(previous) = outstanding {
            let _ = runtime.block_on(previous);
        }
        if self.dirty
            && let Some(last) = self.send_checkpoint(&runtime, &checkpoints)
        {
            let _ = runtime.block_on(last);
        }
        Ok(())
    }

    fn open_components(&mut self) {
        let now = clock::boottime();
        if self.setup.components.is_empty() {
            return;
        }
        match Host::new() {
            Ok(host) => self.host = Some(host),
            Err(err) => {
                let why = crate::platform::log::chain(&err).to_string();
                error!(error = why, "no component can run; readings pass them by");
                self.setup
                    .components
                    .iter()
                    .for_each(|component| self.absent.note(&component.name, why.clone(), now));
            }
        }
        for component in self.setup.components.clone() {
            self.open(&component, now);
        }
    }

    fn open(&mut self, component: &config::Component, now: i64) {
        let Some(host) = &self.host else { return };
        match Processor::open(host, component, &self.setup.compiler, &self.setup.cache_dir) {
            Ok(processor) => {
                info!(component = component.name, "component ready");
                self.processors.insert(component.name.clone(), processor);
            }
            Err(err) => {
                let why = crate::platform::log::chain(&err).to_string();
                error!(
                    component = component.name,
                    error = why,
                    "component cannot be opened; readings pass it by"
                );
                self.absent.note(&component.name, why, now);
            }
        }
    }

    /// Tries again to open one that could not be.
    fn open_again(&mut self, now: i64) {
        let Some(name) = self.absent.due(now) else { return };
        let Some(component) = self.setup.components.iter().find(|component| component.name == name).cloned()
        else {
            return;
        };
        self.open(&component, now);
        let Some(processor) = self.processors.get_mut(&name) else { return };
        let (snapshot, passed_by) = self.absent.found(&name);
        warn!(component = name, passed_by, "component is there again");
        processor.missed(passed_by);
        if let Some(snapshot) = snapshot {
            restore_one(&name, processor, snapshot);
        }
    }

    fn restore(&mut self) {
        let state = match State::decode(&self.setup.state) {
            Ok(state) => state,
            Err(err) => {
                error!(
                    error = %crate::platform::log::chain(&err),
                    "state of the last checkpoint cannot be read; windows that were open lose what came before it"
                );
                return;
            }
        };
        let now = clock::boottime();
        for (stream, snapshot) in state.reducers {
            let line = self.lines.entry(stream).or_insert_with(|| retired(stream, &self.setup.stream_names));
            if let Err(err) = line.restore(&snapshot, now) {
                error!(stream = stream.0, error = %crate::platform::log::chain(&err), "open windows cannot be read");
            }
        }
        for (name, snapshot) in state.components {
            let Some(snapshot) = self.absent.keep(&name, snapshot) else { continue };
            if let Some(processor) = self.processors.get_mut(&name) {
                restore_one(&name, processor, snapshot);
            }
        }
    }

    fn take(&mut self, group: Committed, runtime: &tokio::runtime::Runtime) {
        debug_assert!(group.pos > self.position, "groups come in order");
        self.position = group.pos;
        self.hurry |= group.hurry;
        self.dirty = true;
        for (id, _, entry) in group.series {
            self.series.insert(id, entry);
        }
        let mut batches: BTreeMap<(StreamId, Timeline), Vec<Reading>> = BTreeMap::new();
        for message in group.messages {
            batches.entry((message.stream, message.timeline)).or_default().extend(message.readings);
        }
        let now = clock::boottime();
        for ((stream, timeline), readings) in batches {
            if readings.is_empty() {
                continue;
            }
            self.stats.readings += readings.len() as u64;
            self.raw_readings += readings.len();
            let line = self.lines.entry(stream).or_insert_with(|| retired(stream, &self.setup.stream_names));
            if line.durability() == Durability::Reading {
                self.raw.entry((stream, timeline)).or_default().extend_from_slice(&readings);
            }
            let readings = self.process(stream, timeline, readings, now, runtime);
            if let Some(line) = self.lines.get_mut(&stream) {
                line.push(timeline, &readings, now);
            }
        }
    }

    /// Sends a batch through the stream's component, if it has one that works.
    fn process(
        &mut self,
        stream: StreamId,
        timeline: Timeline,
        readings: Vec<Reading>,
        now: i64,
        runtime: &tokio::runtime::Runtime,
    ) -> Vec<Reading> {
        let Some(line) = self.lines.get_mut(&stream) else { return readings };
        let Some(name) = line.component() else { return readings };
        let Some(processor) = self.processors.get_mut(name) else {
            self.absent.pass_by(name, readings.len());
            return readings;
        };
        let (series, store) = (&self.series, &self.setup.store);
        let mut registered = Vec::new();
        let describe = |id: SeriesId| series.get(&id).cloned().unwrap_or_else(|| nameless(id));
        let register = |name: &str, unit: &str| {
            let entry = SeriesEntry { name: name.to_owned(), unit: unit.to_owned(), labels: BTreeMap::new() };
            let outcome = runtime.block_on(store.intern(stream, entry.clone()));
            let id = outcome.map_err(|err| err.to_string())?.map_err(|err| err.to_string())?;
            registered.push((id, entry));
            Ok(id)
        };
        let processed = processor.process(now, &readings, describe, register);
        self.series.extend(registered);
        if !processed.alarms.is_empty() {
            self.stats.alarms += processed.alarms.len() as u64;
            self.urgent = true;
            line.push_alarms(timeline, processed.alarms);
        }
        processed.readings
    }

    fn tick(&mut self) {
        let now = clock::boottime();
        for line in self.lines.values_mut() {
            if line.advance(now) {
                self.dirty = true;
            }
        }
        self.open_again(now);
        self.publish_stats();
    }

    /// Windows of many series close within seconds of each other; one checkpoint gathers them.
    fn is_due(&mut self) -> bool {
        if self.outputs_since.is_none() && self.lines.values().any(Line::has_outputs) {
            self.outputs_since = Some(Instant::now());
        }
        let journal = &self.setup.journal;
        let gathered = |since: Instant| since.elapsed() >= journal.checkpoint_interval_min;
        self.dirty
            && (self.urgent
                || self.hurry
                || self.raw_readings >= RAW_READINGS_MAX
                || self.checkpointed_at.elapsed() >= journal.checkpoint_interval
                || self.outputs_since.is_some_and(gathered))
    }

    fn send_checkpoint(
        &mut self,
        runtime: &tokio::runtime::Runtime,
        checkpoints: &mpsc::Sender<(Checkpoint, oneshot::Sender<()>)>,
    ) -> Option<oneshot::Receiver<()>> {
        fault::point("pipeline.before_checkpoint");
        let checkpoint = self.checkpoint();
        let (reply, done) = oneshot::channel();
        runtime.block_on(checkpoints.send((checkpoint, reply))).ok()?;
        Some(done)
    }

    /// Everything up to the present position, as one checkpoint. Afterwards the pipeline starts gathering anew.
    fn checkpoint(&mut self) -> Checkpoint {
        let mut outputs = Vec::new();
        for (stream, line) in &mut self.lines {
            outputs.extend(line.take_outputs(*stream, &self.series, &self.setup.boots));
        }
        let raw = std::mem::take(&mut self.raw);
        let raw =
            raw.into_iter().flat_map(|(key, readings)| super::outputs::raw_blocks(key, readings)).collect();
        let state = State {
            reducers: self.lines.iter().filter_map(|(id, line)| Some((*id, line.snapshot()?))).collect(),
            components: self
                .processors
                .iter_mut()
                .filter_map(|(name, processor)| Some((name.clone(), processor.snapshot()?)))
                .chain(self.absent.snapshots())
                .collect(),
        };
        self.stats.checkpoints += 1;
        self.stats.output_bytes += outputs.iter().map(|output| output.body.len() as u64).sum::<u64>();
        let urgent = self.urgent || self.hurry;
        self.raw_readings = 0;
        (self.dirty, self.hurry, self.urgent) = (false, false, false);
        self.outputs_since = None;
        self.checkpointed_at = Instant::now();
        self.publish_stats();
        Checkpoint { pos: self.position, state: state.encode(), raw, outputs, urgent }
    }

    fn publish_stats(&mut self) {
        let (mut windows, mut late, mut duplicates) = (0, 0, 0);
        for line in self.lines.values() {
            let counts = line.counts();
            windows += counts.windows;
            late += counts.late;
            duplicates += counts.duplicates;
        }
        self.stats.windows = windows;
        self.stats.late = late;
        self.stats.duplicates = duplicates;
        self.stats.position = self.position;
        let opened =
            self.processors.iter().map(|(name, processor)| (name, ComponentStats::of(processor.counters())));
        let absent = self.absent.iter().map(|(name, Absence { passed_by, why, .. })| {
            let (passed_by, absent) = (*passed_by, Some(why.clone()));
            (name, ComponentStats { passed_by, absent, ..ComponentStats::default() })
        });
        self.stats.components = opened.chain(absent).map(|(name, stats)| (name.clone(), stats)).collect();
        self.stats_out.send_replace(self.stats.clone());
    }
}

fn restore_one(name: &str, processor: &mut Processor, snapshot: Vec<u8>) {
    if let Restored::SetAside(reason) = processor.restore_from(snapshot) {
        error!(component = name, reason, "component does not take its state back; it starts without");
    }
}

async fn next_event(
    committed: &mut mpsc::Receiver<Committed>,
    outstanding: &mut Option<oneshot::Receiver<()>>,
    full: bool,
    next_tick: Instant,
    stop: &CancellationToken,
) -> Event {
    tokio::select! {
        biased;
        () = stop.cancelled() => Event::Stop,
        () = answered(outstanding) => Event::Checkpointed,
        () = tokio::time::sleep_until(next_tick) => Event::Tick,
        group = committed.recv(), if !full => group.map_or(Event::StoreGone, Event::Group),
    }
}

/// Cancel-safe: the receiver stays where it is until it has its answer.
async fn answered(outstanding: &mut Option<oneshot::Receiver<()>>) {
    match outstanding {
        Some(reply) => {
            if reply.await.is_err() {
                warn!("the store ended before a checkpoint was durable; it is made again at the next start");
            }
        }
        None => std::future::pending().await,
    }
}

fn retired(stream: StreamId, names: &BTreeMap<StreamId, String>) -> Line {
    Line::retired(names.get(&stream).cloned().unwrap_or_default())
}

fn nameless(id: SeriesId) -> SeriesEntry {
    SeriesEntry { name: format!("series-{}", id.0), unit: String::new(), labels: BTreeMap::new() }
}

/// Shared by the outputs: an entry for every series in `rows`.
pub(super) fn dictionary(
    rows: impl Iterator<Item = SeriesId>,
    series: &BTreeMap<SeriesId, SeriesEntry>,
) -> BTreeMap<SeriesId, SeriesEntry> {
    let mut entries = BTreeMap::new();
    for id in rows {
        entries.entry(id).or_insert_with(|| series.get(&id).cloned().unwrap_or_else(|| nameless(id)));
    }
    entries
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("position", &self.position).finish_non_exhaustive()
    }
}
