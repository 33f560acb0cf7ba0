//! The pipeline thread: committed groups in, checkpoints out. It owns the components ([`super::roster`]) and the reducers.
//!
//! ```text
//! group ─▶ component ─▶ reducer ─▶ closed windows ┐
//!   │         └──────────────────▶ alarms ────────┼─▶ checkpoint: position, state, raw blocks, outputs
//!   └──────────────▶ raw readings, sorted ────────┘        one at a time, one transaction each
//! ```
//! Windows of a stream whose readings are held back for its component do not close by silence: what is held belongs into
//! them.
//! A checkpoint is taken when windows have closed (`checkpoint_interval_min` after the first), when an alarm was raised or a
//! command given (at once; commands leave when it is on flash), when enough raw readings have gathered, when senders of window streams wait, and every `checkpoint_interval`.
//! Nothing here survives a power cut by itself: the next start gets the last checkpoint's state and the groups after it.
//! What is not yet in a checkpoint has left no trace outside, so every reading counts exactly once. Bound: readings since
//! the last checkpoint; at [`RAW_READINGS_MAX`] with a checkpoint under way nothing more is taken, the store waits.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::journal::{Checkpoint, Committed};
use crate::platform::{clock, fault};
use crate::sample::{Durability, Reading, SeriesId, StreamId, Timeline};
use crate::store::Known;
use crate::supervise::Beat;

use super::command::{self, Gate};
use super::deployment::shelf::Shelf;
use super::desk::{Clerk, Desk};
use super::neighbour::Neighbourhood;
use super::opener::Places;
use super::order::{Answer, Order};
use super::outputs::Line;
use super::roster::{Roster, Sink, Worked};
use super::setup::Setup;
use super::state::State;
use super::stats::PipelineStats;

/// Readings between two checkpoints: 65,536 × 32 B = 2 MiB in memory, and as much to replay after a crash.
const RAW_READINGS_MAX: usize = 65_536;
/// How often idle series are looked for.
const TICK: Duration = Duration::from_millis(250);

/// Orders of an operator.
pub type Orders = mpsc::Receiver<(Order, oneshot::Sender<Answer>)>;

/// The pipeline.
pub struct Pipeline {
    setup: Setup,
    lines: BTreeMap<StreamId, Line>,
    series: BTreeMap<SeriesId, Known>,
    roster: Roster,
    gate: Gate,
    around: Option<Neighbourhood>,
    raw: BTreeMap<(StreamId, Timeline), Vec<Reading>>,
    raw_readings: usize,
    position: u64,
    /// Something has happened since the last checkpoint.
    dirty: bool,
    hurry: bool,
    urgent: bool,
    /// The store knows that the outstanding checkpoint is waited for.
    has_urged: bool,
    checkpointed_at: Instant,
    /// When the first of the outputs that wait for a checkpoint was made.
    outputs_since: Option<Instant>,
    stats: PipelineStats,
    stats_out: watch::Sender<PipelineStats>,
}

enum Event {
    Stop,
    Group(Committed),
    Order(Order, oneshot::Sender<Answer>),
    Checkpointed,
    Tick,
    StoreGone,
}

// === impl Pipeline ===

impl Pipeline {
    /// Makes the pipeline from the last checkpoint. Components are opened in [`Pipeline::run`].
    pub fn new(mut setup: Setup) -> (Pipeline, watch::Receiver<PipelineStats>) {
        let (stats_out, stats) = watch::channel(PipelineStats::default());
        let series = std::mem::take(&mut setup.series).into_iter().collect();
        let lines = setup.streams.iter().map(|(id, stream)| (*id, Line::new(stream.clone()))).collect();
        let pipeline = Pipeline {
            lines,
            series,
            roster: Roster::empty(),
            gate: Gate::before(setup.commands.clone()),
            around: setup.around.take(),
            raw: BTreeMap::new(),
            raw_readings: 0,
            position: setup.position,
            dirty: false,
            hurry: false,
            urgent: false,
            has_urged: false,
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
        (mut committed, mut orders): (mpsc::Receiver<Committed>, Orders),
        checkpoints: mpsc::Sender<(Checkpoint, oneshot::Sender<()>)>,
        beat: &Beat,
        stop: &CancellationToken,
    ) -> Result<(), Infallible> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime without I/O needs nothing from the system");
        let mut clerk = Clerk::new(runtime.handle().clone(), self.setup.store.clone());
        self.restore();
        let mut outstanding: Option<oneshot::Receiver<()>> = None;
        let mut next_tick = Instant::now();
        loop {
            beat.touch();
            let full = self.raw_readings >= RAW_READINGS_MAX && outstanding.is_some();
            let group = async { if full { std::future::pending().await } else { committed.recv().await } };
            let event = next_event(group, orders.recv(), &mut outstanding, next_tick, stop);
            let event = runtime.block_on(event);
            match event {
                Event::Stop | Event::StoreGone => break,
                Event::Group(group) => self.take(group, &mut clerk),
                Event::Order(order, reply) => {
                    // Nobody may be waiting any more.
                    let _ = reply.send(self.roster.obey(order, clock::boottime()));
                }
                Event::Checkpointed => {
                    fault::point("pipeline.after_checkpoint");
                    self.roster.checkpointed(clock::boottime());
                    self.gate.stored();
                }
                Event::Tick => {
                    next_tick = Instant::now() + TICK;
                    self.tick(&mut clerk);
                }
            }
            if self.roster.has_news() {
                (self.dirty, self.urgent) = (true, true);
            }
            if outstanding.is_none() && self.is_due() {
                outstanding = self.send_checkpoint(&runtime, &checkpoints);
            } else if outstanding.is_some() && !self.has_urged && (self.urgent || self.gate.is_waiting()) {
                // The next one waits for it.
                self.has_urged = self.setup.store.urge();
            }
        }
        while let Ok(group) = committed.try_recv() {
            self.take(group, &mut clerk);
        }
        if let Some(previous) = outstanding
            && runtime.block_on(previous).is_ok()
        {
            self.gate.stored();
        }
        if self.dirty
            && let Some(last) = self.send_checkpoint(&runtime, &checkpoints)
            && runtime.block_on(last).is_ok()
        {
            self.gate.stored();
        }
        self.gate.close();
        Ok(())
    }

    /// Takes up the last checkpoint, and opens the components.
    fn restore(&mut self) {
        let state = State::decode(&self.setup.state).unwrap_or_else(|err| {
            error!(
                error = %crate::platform::log::chain(&err),
                "state of the last checkpoint cannot be read; windows that were open lose what came before it"
            );
            State::default()
        });
        let now = clock::boottime();
        let Setup { components, compiler, cache_dir, data_dir, .. } = &self.setup;
        let (compiler, cache_dir, shelf) = (compiler.clone(), cache_dir.clone(), Shelf::below(data_dir));
        let places = Places { compiler, cache_dir, shelf };
        self.roster = Roster::open(components, state.deployments, places, now);
        for (stream, snapshot) in state.reducers {
            let line = self.lines.entry(stream).or_insert_with(|| retired(stream, &self.setup.stream_names));
            if let Err(err) = line.restore(&snapshot, now) {
                error!(stream = stream.0, error = %crate::platform::log::chain(&err), "open windows cannot be read");
            }
        }
        self.roster.restore(state.components, state.held, state.raised, now);
    }

    fn take(&mut self, group: Committed, clerk: &mut Clerk) {
        debug_assert!(group.pos > self.position, "groups come in order");
        self.position = group.pos;
        self.hurry |= group.hurry;
        self.dirty = true;
        for (id, stream, entry) in group.series {
            self.series.insert(id, Known { stream, entry });
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
            let Some(name) = line.component().map(str::to_owned) else {
                line.push(timeline, &readings, now);
                continue;
            };
            self.through(clerk, group.since, |roster, desk, sink| {
                roster.work(&name, (stream, timeline), &readings, desk, sink);
            });
        }
    }

    /// Lets components work on what was stored at `since`, and takes what they give.
    fn through(
        &mut self,
        clerk: &mut Clerk,
        since: Option<std::time::Instant>,
        work: impl FnOnce(&mut Roster, &mut Desk<'_>, Sink<'_>),
    ) {
        let now = clock::boottime();
        let Pipeline { roster, lines, series, setup, gate, stats, urgent, dirty, .. } = self;
        let Setup { streams, clock, .. } = setup;
        let mut desk = Desk { series, streams, clerk, clock, gate, since, now };
        let mut sink = |stream, timeline, Worked { readings, alarms }: Worked<'_>| {
            let line = lines.entry(stream).or_insert_with(|| retired(stream, &setup.stream_names));
            *dirty = true;
            if !alarms.is_empty() {
                stats.alarms += alarms.len() as u64;
                *urgent = true;
                line.push_alarms(timeline, alarms);
            }
            if !readings.is_empty() {
                line.push(timeline, readings, now);
            }
        };
        work(roster, &mut desk, &mut sink);
        self.dirty |= self.gate.is_waiting();
    }

    fn tick(&mut self, clerk: &mut Clerk) {
        let now = clock::boottime();
        // First what was held back, which belongs into windows that are open still.
        self.through(clerk, None, |roster, desk, sink| roster.tick(desk, sink));
        // In the middle of what is worked on again, timers would look at the past.
        if self.position >= self.setup.replay {
            let mut has_changed = false;
            let since = Some(std::time::Instant::now());
            self.through(clerk, since, |roster, desk, sink| has_changed = roster.call_due(desk, sink));
            self.dirty |= has_changed;
        }
        if let Some(around) = self.around.take() {
            self.through(clerk, None, |roster, desk, sink| roster.look_around(&around, desk, sink));
            self.around = Some(around);
        }
        for (stream, line) in &mut self.lines {
            if !self.roster.holds(*stream) && line.advance(now) {
                self.dirty = true;
            }
        }
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
                || (self.gate.is_waiting() && self.checkpointed_at.elapsed() >= command::APART)
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
        let now = clock::boottime();
        let mut outputs = Vec::new();
        for (stream, line) in &mut self.lines {
            outputs.extend(line.take_outputs(*stream, &self.series, &self.setup.boots));
        }
        let raw = std::mem::take(&mut self.raw);
        let raw =
            raw.into_iter().flat_map(|(key, readings)| super::outputs::raw_blocks(key, readings)).collect();
        let state = State {
            reducers: self.lines.iter().filter_map(|(id, line)| Some((*id, line.snapshot()?))).collect(),
            components: self.roster.snapshots(now),
            held: self.roster.held(),
            raised: self.roster.raised(),
            deployments: self.roster.deployments(now),
        };
        self.stats.checkpoints += 1;
        self.stats.output_bytes += outputs.iter().map(|output| output.body.len() as u64).sum::<u64>();
        let urgent = self.urgent || self.hurry || self.gate.is_waiting();
        self.gate.checkpoint(&self.roster.stored());
        self.has_urged = urgent;
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
        let account = self.gate.account();
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        self.stats.commands_left = read(&account.left);
        self.stats.commands_dropped = read(&account.dropped);
        self.stats.commands_late = read(&account.late);
        self.stats.commands_refused = read(&account.refused);
        self.stats.commands_unsure = read(&account.unsure);
        self.stats.position = self.position;
        self.stats.components = self.roster.stats(clock::boottime());
        self.stats_out.send_replace(self.stats.clone());
    }
}

/// The next thing to do. What it does not return is not lost: receiving from a channel is cancel-safe.
async fn next_event(
    group: impl Future<Output = Option<Committed>>,
    order: impl Future<Output = Option<(Order, oneshot::Sender<Answer>)>>,
    outstanding: &mut Option<oneshot::Receiver<()>>,
    next_tick: Instant,
    stop: &CancellationToken,
) -> Event {
    tokio::select! {
        biased;
        () = stop.cancelled() => Event::Stop,
        is_stored = answered(outstanding) => if is_stored { Event::Checkpointed } else { Event::StoreGone },
        () = tokio::time::sleep_until(next_tick) => Event::Tick,
        Some((order, reply)) = order => Event::Order(order, reply),
        group = group => group.map_or(Event::StoreGone, Event::Group),
    }
}

/// Whether the outstanding checkpoint is on flash. Cancel-safe: the receiver stays where it is until it has its answer.
async fn answered(outstanding: &mut Option<oneshot::Receiver<()>>) -> bool {
    let Some(reply) = outstanding else { return std::future::pending().await };
    let is_stored = reply.await.is_ok();
    *outstanding = None;
    if !is_stored {
        warn!("the store ended before a checkpoint was durable; it is made again at the next start");
    }
    is_stored
}

fn retired(stream: StreamId, names: &BTreeMap<StreamId, String>) -> Line {
    Line::retired(names.get(&stream).cloned().unwrap_or_default())
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("position", &self.position).finish_non_exhaustive()
    }
}
