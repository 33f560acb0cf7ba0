//! The components of the gateway: which of them work, which do not, and what becomes of their readings meanwhile.
//!
//! ```text
//!            ┌─ works ──────────────────────▶ its outputs go on
//!  readings ─┤                 ┌─ pass ─────▶ as they came
//!            └─ does not work ─┼─ drop        (the raw ring has them)
//!                              └─ hold ─▶ Hold ─ works again ─▶ its outputs go on
//! ```
//! Owned by the pipeline thread. Into every checkpoint go the snapshots, the readings held back, and which streams' alarms
//! about a quarantine are raised; whether a component is quarantined does not: a restart gives it another chance. Bounds:
//! readings held for each component; [`DRAIN_READINGS_MAX`] of them at a time, so that others get their turn.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::block::{self, Alarm};
use crate::config::{self, Fallback};
use crate::platform::log;
use crate::sample::{Nanos, Reading, SECOND, StreamId, Timeline};

use super::absent::Absent;
use super::desk::Desk;
use super::hold::Piece;
use super::opener::{FileMark, Opened, Opener};
use super::order::{Answer, Order};
use super::outcome::{Processed, Restored};
use super::seat::Seat;
use super::state::Held;
use super::stats::ComponentStats;
use super::{Host, Processor};

/// Readings given out of a hold at a time: eight calls, less than a commit interval's worth of work.
const DRAIN_READINGS_MAX: usize = 65_536;

/// Longest the start waits for components to be compiled. Nine of ten are done in a second or two; one that takes longer
/// must not keep the others' readings waiting, nor the watchdog.
const START_MAX: Duration = Duration::from_secs(60);

/// How often the files of quarantined components are looked at.
const LOOK: Nanos = 2 * SECOND;

/// Name of the alarm that tells the hub of a quarantine, in a series of its own for each component.
const ALARM: &str = "quarantined";

/// All components.
pub(super) struct Roster {
    opener: Option<Opener>,
    seats: BTreeMap<String, Seat>,
    absent: Absent,
    /// Streams whose alarm about a quarantine has not been cleared.
    raised: BTreeSet<(StreamId, String)>,
    looked_at: Nanos,
}

/// What becomes of readings.
#[derive(Debug, Default)]
pub(super) struct Worked {
    pub(super) readings: Vec<Reading>,
    pub(super) alarms: Vec<Alarm>,
}

/// Where outputs go: stream, timeline, outputs.
pub(super) type Sink<'a> = &'a mut dyn FnMut(StreamId, Timeline, Worked);

// === impl Roster ===

impl Roster {
    /// No components at all.
    pub(super) fn empty() -> Roster {
        Roster {
            opener: None,
            seats: BTreeMap::new(),
            absent: Absent::default(),
            raised: BTreeSet::new(),
            looked_at: 0,
        }
    }

    /// Opens every component, waiting for those that are compiled soon.
    pub(super) fn open(
        components: &[config::Component],
        compiler: PathBuf,
        cache_dir: PathBuf,
        now: Nanos,
    ) -> Roster {
        let seat = |component: &config::Component| (component.name.clone(), Seat::of(component.clone()));
        let mut roster = Roster { seats: components.iter().map(seat).collect(), ..Roster::empty() };
        if components.is_empty() {
            return roster;
        }
        let host = Host::new().map(Arc::new).map_err(|err| log::chain(&err).to_string());
        let opener = host.and_then(|host| {
            Opener::start(host, compiler, cache_dir).map_err(|err| log::chain(&err).to_string())
        });
        let mut opener = match opener {
            Ok(opener) => opener,
            Err(why) => {
                error!(error = why, "no component can run; their fallbacks take their readings");
                components.iter().for_each(|component| roster.absent.note(&component.name, why.clone(), now));
                return roster;
            }
        };
        components.iter().for_each(|component| opener.open(component, Arc::default()));
        let deadline = Instant::now() + START_MAX;
        while let Some(opened) = opener.next(deadline) {
            roster.install(opened, now);
        }
        for component in components.iter().filter(|component| opener.is_opening(&component.name)) {
            warn!(
                component = component.name,
                "component takes long to compile; the start does not wait for it"
            );
            roster.absent.note(&component.name, "it is still being compiled".to_owned(), now);
        }
        roster.opener = Some(opener);
        roster
    }

    /// Takes up what the last checkpoint has: snapshots, readings held back, alarms raised. Readings of components that
    /// are no longer configured go on as they are.
    pub(super) fn restore(
        &mut self,
        snapshots: Vec<(String, Vec<u8>)>,
        held: Vec<Held>,
        raised: Vec<(StreamId, String)>,
    ) {
        for (name, snapshot) in snapshots {
            let Some(snapshot) = self.absent.keep(&name, snapshot) else { continue };
            if let Some(processor) = self.seats.get_mut(&name).and_then(|seat| seat.processor.as_mut()) {
                restore_one(&name, processor, snapshot);
            }
        }
        for Held { component, stream, timeline, block } in held {
            let readings = match block::decode_readings(&block) {
                Ok(readings) => readings,
                Err(err) => {
                    error!(component, error = %log::chain(&err), "readings held back cannot be read and are lost");
                    continue;
                }
            };
            let seat = self.seats.entry(component).or_insert_with(Seat::retired);
            seat.hold.push(stream, timeline, &readings);
        }
        self.raised.extend(raised);
    }

    /// Lets a component work on readings of one stream and timeline, oldest first.
    pub(super) fn work(
        &mut self,
        name: &str,
        (stream, timeline): (StreamId, Timeline),
        readings: Vec<Reading>,
        desk: &mut Desk<'_>,
        sink: Sink<'_>,
    ) {
        let Some(seat) = self.seats.get_mut(name) else {
            return sink(stream, timeline, Worked { readings, alarms: Vec::new() });
        };
        let time = readings.last().map_or(0, |reading| reading.time);
        if seat.fallback() == Fallback::Hold || !seat.hold.is_empty() {
            seat.keep((stream, timeline), &readings, desk.now);
            self.drain(name, desk, sink);
        } else if let Some(processor) = &mut seat.processor {
            let Processed { readings, alarms, .. } = desk.give(processor, stream, &readings);
            sink(stream, timeline, Worked { readings, alarms });
        } else {
            self.go_past(name, (stream, timeline), readings, sink);
        }
        if let Some(alarm) = self.alarm(name, stream, time, desk) {
            sink(stream, timeline, Worked { readings: Vec::new(), alarms: vec![alarm] });
        }
    }

    /// Whether readings of a stream are held back: its windows must not close meanwhile.
    pub(super) fn holds(&self, stream: StreamId) -> bool {
        self.seats.values().any(|seat| seat.hold.holds(stream))
    }

    /// To be called a few times a second: takes what was opened, tries again what could not be, and gives out what was held
    /// back for components that work again.
    pub(super) fn tick(&mut self, desk: &mut Desk<'_>, sink: Sink<'_>) {
        let now = desk.now;
        while let Some(opened) = self.opener.as_mut().and_then(|opener| opener.next(Instant::now())) {
            self.install(opened, now);
        }
        self.open_again(now);
        let waiting = self.seats.iter().filter(|(_, seat)| !seat.hold.is_empty());
        for name in waiting.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.drain(&name, desk, sink);
        }
    }

    /// Does what an operator says.
    pub(super) fn obey(&mut self, order: &Order) -> Answer {
        match order {
            Order::Release { component: name } => {
                let Some(seat) = self.seats.get_mut(name).filter(|seat| seat.is_current()) else {
                    return Answer::Refused(format!("there is no component {name}"));
                };
                if !seat.processor.as_mut().is_some_and(Processor::release) {
                    return Answer::Refused(format!("component {name} is not quarantined"));
                }
                seat.hold.forgive();
                info!(component = name, "component released from quarantine by an operator");
                Answer::Done(format!("component {name} is released; it starts with the next readings"))
            }
        }
    }

    /// The states to store with a checkpoint.
    pub(super) fn snapshots(&mut self) -> Vec<(String, Vec<u8>)> {
        let running =
            self.seats.iter_mut().filter_map(|(name, seat)| Some((name.clone(), seat.processor.as_mut()?)));
        let running = running.filter_map(|(name, processor)| Some((name, processor.snapshot()?)));
        running.collect::<Vec<_>>().into_iter().chain(self.absent.snapshots()).collect()
    }

    /// The readings held back, to store with a checkpoint.
    pub(super) fn held(&self) -> Vec<Held> {
        let held = |name: &String, piece: &Piece| Held {
            component: name.clone(),
            stream: piece.stream,
            timeline: piece.timeline,
            block: block::encode_readings(&piece.readings),
        };
        let pieces =
            self.seats.iter().flat_map(|(name, seat)| seat.hold.pieces().map(move |piece| (name, piece)));
        pieces.map(|(name, piece)| held(name, piece)).collect()
    }

    /// The alarms raised, to store with a checkpoint.
    pub(super) fn raised(&self) -> Vec<(StreamId, String)> {
        self.raised.iter().cloned().collect()
    }

    /// How each component is.
    pub(super) fn stats(&self) -> BTreeMap<String, ComponentStats> {
        let current = self.seats.iter().filter(|(_, seat)| seat.is_current());
        current.map(|(name, seat)| (name.clone(), seat.stats(self.absent.get(name)))).collect()
    }

    /// Takes a component that was opened, with the state of its predecessor; or notes that it could not be.
    fn install(&mut self, opened: Opened, now: Nanos) {
        let Opened { name, mark, outcome } = opened;
        let Some(seat) = self.seats.get_mut(&name) else { return };
        seat.mark = mark;
        let mut processor = match outcome {
            Ok(processor) => processor,
            Err(err) => {
                let why = log::chain(&err).to_string();
                error!(
                    component = name,
                    error = why,
                    "component cannot be opened; readings pass it by, unless its fallback is another"
                );
                if seat.processor.is_none() {
                    self.absent.note(&name, why, now);
                }
                return;
            }
        };
        let mut snapshot = seat.processor.as_mut().and_then(Processor::snapshot);
        if let Some(absence) = self.absent.found(&name) {
            let (passed_by, dropped) = (absence.passed_by, absence.dropped);
            warn!(component = name, passed_by, dropped, held = seat.hold.len(), "component is there again");
            processor.missed(passed_by, dropped);
            snapshot = snapshot.or(absence.snapshot);
        }
        if let Some(snapshot) = snapshot {
            restore_one(&name, &mut processor, snapshot);
        }
        info!(component = name, "component ready");
        seat.hold.forgive();
        seat.processor = Some(processor);
    }

    /// Tries again to open one that could not be, or whose file was changed while it is quarantined.
    fn open_again(&mut self, now: Nanos) {
        let Some(opener) = &mut self.opener else { return };
        if let Some(seat) = self.absent.due(now).and_then(|name| self.seats.get(&name))
            && let Some(component) = &seat.component
        {
            opener.open(component, Arc::default());
        }
        if now.saturating_sub(self.looked_at) < LOOK {
            return;
        }
        self.looked_at = now;
        for (name, seat) in &mut self.seats {
            let (Some(component), Some(processor)) = (&seat.component, &seat.processor) else { continue };
            if !processor.is_quarantined() || opener.is_opening(name) {
                continue;
            }
            let mark = FileMark::of(&component.path);
            if mark.is_some() && mark != seat.mark {
                seat.mark = mark;
                info!(component = name, "the file of a quarantined component has changed, opening it");
                opener.open(component, processor.counters().clone());
            }
        }
    }

    /// Gives out what was held back, as long as the component works and others need not wait.
    fn drain(&mut self, name: &str, desk: &mut Desk<'_>, sink: Sink<'_>) {
        let Some(seat) = self.seats.get_mut(name) else { return };
        let waits = seat.fallback() == Fallback::Hold;
        let Some(processor) = &mut seat.processor else {
            // The fallback was another when these were held back, or the component is no longer configured.
            while !waits && let Some(piece) = self.seats.get_mut(name).and_then(|seat| seat.hold.next()) {
                self.go_past(name, (piece.stream, piece.timeline), piece.readings, sink);
            }
            return;
        };
        let mut room = DRAIN_READINGS_MAX;
        while room > 0 && (!waits || processor.would_work(desk.now)) {
            let Some(piece) = seat.hold.next() else { break };
            room = room.saturating_sub(piece.readings.len());
            let processed = desk.give(processor, piece.stream, &piece.readings);
            let Processed { readings, alarms, held, failed_on, .. } = processed;
            sink(piece.stream, piece.timeline, Worked { readings, alarms });
            // A piece is one call's, so all of it is held or nothing.
            if held.is_empty() {
                seat.hold.worked(piece);
                continue;
            }
            if failed_on == 0 {
                seat.hold.put_back(piece);
            } else if seat.hold.failed(piece) > 0 {
                error!(
                    component = name,
                    "component fails on one reading alone; it is dropped, the raw ring has it"
                );
            }
            break;
        }
    }

    /// Readings of a component that is not there.
    fn go_past(
        &mut self,
        name: &str,
        (stream, timeline): (StreamId, Timeline),
        readings: Vec<Reading>,
        sink: Sink<'_>,
    ) {
        let fallback = self.seats.get(name).map_or(Fallback::Pass, Seat::fallback);
        if fallback == Fallback::Drop {
            return self.absent.drop(name, readings.len());
        }
        self.absent.pass_by(name, readings.len());
        sink(stream, timeline, Worked { readings, alarms: Vec::new() });
    }

    /// Tells the hub, once for each stream, that a component is quarantined, and that it works again. `time` is that of
    /// the readings at hand.
    fn alarm(&mut self, name: &str, stream: StreamId, time: Nanos, desk: &mut Desk<'_>) -> Option<Alarm> {
        let processor = self.seats.get(name)?.processor.as_ref()?;
        let active = processor.is_quarantined();
        let key = (stream, name.to_owned());
        let message = match (active, self.raised.contains(&key)) {
            (true, false) => {
                self.raised.insert(key);
                format!(
                    "component {name} has failed too often and is not started again: {}",
                    processor.last_fault()
                )
            }
            (false, true) if processor.is_running() => {
                self.raised.remove(&key);
                format!("component {name} works again")
            }
            _ => return None,
        };
        match desk.register(stream, &format!("frond/component/{name}"), "") {
            Ok(series) => Some(Alarm { series, time, active, name: ALARM.to_owned(), message, value: 0.0 }),
            Err(why) => {
                warn!(component = name, why, "the hub is not told of the component's quarantine");
                None
            }
        }
    }
}

fn restore_one(name: &str, processor: &mut Processor, snapshot: Vec<u8>) {
    if let Restored::SetAside(reason) = processor.restore_from(snapshot) {
        error!(component = name, reason, "component does not take its state back; it starts without");
    }
}
