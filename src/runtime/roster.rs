//! The components of the gateway: which of them work, which do not, and what becomes of their readings meanwhile.
//!
//! ```text
//!            ┌─ works ──────────────────────▶ its outputs go on
//!  readings ─┤                 ┌─ pass ─────▶ as they came
//!            └─ does not work ─┼─ drop        (the raw ring has them)
//!                              └─ hold ─▶ Hold ─ works again ─▶ its outputs go on
//! ```
//! Owned by the pipeline thread. Into every checkpoint go the snapshots, the readings held back, what was deployed, and
//! which streams' alarms about a quarantine are raised; whether a component is quarantined does not: a restart gives it
//! another chance. Bounds: readings held for each component; [`DRAIN_READINGS_MAX`] of them at a time, so that others
//! get their turn.

mod alarm;
mod checkpoint;
mod deploy;
pub(super) mod timer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::block::Alarm;
use crate::config::{self, Fallback};
use crate::platform::log;
use crate::sample::{Nanos, Reading, SECOND, StreamId, Timeline};

use super::absent::Absent;
use super::deployment::record::{Digest, Record};
use super::desk::Desk;
use super::opener::{FileMark, Opened, Opener, Places, Role};
use super::order::{Answer, Order};
use super::outcome::Processed;
use super::seat::Seat;
use super::stats::ComponentStats;
use super::{Host, Processor};
use checkpoint::restore_one;

/// Readings given out of a hold at a time: eight calls, less than a commit interval's worth of work.
const DRAIN_READINGS_MAX: usize = 65_536;

/// Longest the start waits for components to be compiled. Nine of ten are done in a second or two; one that takes longer
/// must not keep the others' readings waiting, nor the watchdog.
const START_MAX: Duration = Duration::from_secs(60);

/// How often the files of quarantined components are looked at.
const LOOK: Nanos = 2 * SECOND;

/// All components.
pub(super) struct Roster {
    opener: Option<Opener>,
    seats: BTreeMap<String, Seat>,
    absent: Absent,
    /// Streams whose alarm about a quarantine has not been cleared.
    raised: BTreeSet<(StreamId, String)>,
    looked_at: Nanos,
    /// Components whose new version was taken back before the last checkpoint's state could be given to it.
    taken_back: BTreeSet<String>,
    sweep: Sweep,
}

/// When files of deployed versions that nobody needs are removed: once the checkpoint is on flash that refers to them no
/// more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sweep {
    /// There are none.
    No,
    /// With the next checkpoint.
    Wanted,
    /// With the checkpoint that is on its way to flash.
    Soon,
}

/// What becomes of readings.
#[derive(Debug, Default)]
pub(super) struct Worked<'a> {
    pub(super) readings: &'a [Reading],
    pub(super) alarms: Vec<Alarm>,
}

/// Where outputs go: stream, timeline, outputs.
pub(super) type Sink<'a> = &'a mut dyn FnMut(StreamId, Timeline, Worked<'_>);

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
            taken_back: BTreeSet::new(),
            sweep: Sweep::Wanted,
        }
    }

    /// Opens every component, waiting for those that are compiled soon; of those that something was deployed of, that.
    pub(super) fn open(
        components: &[config::Component],
        deployments: Vec<Record>,
        places: Places,
        now: Nanos,
    ) -> Roster {
        let seat = |component: &config::Component| (component.name.clone(), Seat::of(component.clone()));
        let mut roster = Roster { seats: components.iter().map(seat).collect(), ..Roster::empty() };
        let kept: BTreeSet<Digest> = deployments.iter().flat_map(Record::files).cloned().collect();
        roster.resume(deployments, &places, now);
        if components.is_empty() {
            return roster;
        }
        let host = Host::new().map(Arc::new).map_err(|err| log::chain(&err).to_string());
        let opener =
            host.and_then(|host| Opener::start(host, places).map_err(|err| log::chain(&err).to_string()));
        let mut opener = match opener {
            Ok(opener) => opener,
            Err(why) => {
                error!(error = why, "no component can run; their fallbacks take their readings");
                components.iter().for_each(|component| roster.absent.note(&component.name, why.clone(), now));
                return roster;
            }
        };
        // What the last checkpoint refers to stays until the next one is on flash.
        opener.sweep(kept);
        for (component, seat) in components.iter().filter_map(|one| Some((one, roster.seats.get(&one.name)?)))
        {
            // First what is needed should the other not open.
            if let Some(version) = seat.deployment.to_stand_by() {
                opener.open(component, Role::Predecessor, version, Arc::default());
            }
            opener.open(component, Role::Lead, seat.deployment.version().clone(), Arc::default());
        }
        let deadline = Instant::now() + START_MAX;
        while let Some(opened) = opener.next(deadline) {
            roster.install(opened, now);
        }
        for component in components.iter().filter(|one| opener.is_opening(&one.name, Role::Lead)) {
            warn!(
                component = component.name,
                "component takes long to compile; the start does not wait for it"
            );
            roster.absent.note(&component.name, "it is still being compiled".to_owned(), now);
        }
        roster.opener = Some(opener);
        roster
    }

    /// Lets a component work on readings of one stream and timeline, oldest first.
    pub(super) fn work(
        &mut self,
        name: &str,
        (stream, timeline): (StreamId, Timeline),
        readings: &[Reading],
        desk: &mut Desk<'_>,
        sink: Sink<'_>,
    ) {
        let Some(seat) = self.seats.get_mut(name) else {
            return sink(stream, timeline, Worked { readings, alarms: Vec::new() });
        };
        let time = readings.last().map_or(0, |reading| reading.time);
        if seat.fallback() == Fallback::Hold || !seat.hold.is_empty() {
            let since = desk.since;
            // What is given on readings that have waited comes late.
            desk.since = since.filter(|_| seat.hold.is_empty());
            seat.keep((stream, timeline), readings, desk.now);
            self.drain(name, desk, sink);
            desk.since = since;
        } else if let Some(Processed { readings, alarms, commands, .. }) = seat.give(stream, readings, desk) {
            desk.let_go(commands);
            sink(stream, timeline, Worked { readings: &readings, alarms });
        } else {
            self.miss(desk.now);
            self.go_past(name, (stream, timeline), readings, sink);
        }
        if let Some(alarm) = self.alarm(name, stream, time, desk) {
            sink(stream, timeline, Worked { readings: &[], alarms: vec![alarm] });
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
        self.advance(now);
        self.open_again(now);
        let waiting = self.seats.iter().filter(|(_, seat)| !seat.hold.is_empty());
        for name in waiting.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.drain(&name, desk, sink);
        }
    }

    /// Does what an operator says.
    pub(super) fn obey(&mut self, order: Order, now: Nanos) -> Answer {
        match order {
            Order::Deploy { component, state, artifact, .. } => self.deploy(&component, state, artifact, now),
            Order::Rollback { component } => self.roll_back(&component, now),
            Order::Release { component: name } => {
                let Some(seat) = self.seats.get_mut(&name).filter(|seat| seat.is_current()) else {
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

    /// How each component is.
    pub(super) fn stats(&self, now: Nanos) -> BTreeMap<String, ComponentStats> {
        let current = self.seats.iter().filter(|(_, seat)| seat.is_current());
        current.map(|(name, seat)| (name.clone(), seat.stats(self.absent.get(name), now))).collect()
    }

    /// Takes a component that was opened, with the state of its predecessor; or notes that it could not be.
    fn install(&mut self, opened: Opened, now: Nanos) {
        let Some(seat) = self.seats.get_mut(&opened.name) else { return };
        match opened.role {
            Role::Candidate => return seat.try_out(opened, now),
            Role::Predecessor => return seat.stand_by(opened),
            // Another version has taken its place meanwhile.
            Role::Lead if opened.version != *seat.deployment.version() => return,
            Role::Lead => {}
        }
        let Opened { name, mark, configured, outcome, .. } = opened;
        seat.mark = mark;
        seat.deployment.names(configured);
        let mut processor = match outcome {
            Ok(processor) => processor,
            Err(err) => {
                let why = log::chain(&err).to_string();
                if seat.processor.is_none() && seat.deployment.is_on_probation() {
                    return self.take_back(&name, &why, now);
                }
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
        processor.play(seat.part(), &name, processor.counters().clone());
        seat.processor = Some(processor);
    }

    /// Tries again to open one that could not be, or whose file was changed while it is quarantined.
    fn open_again(&mut self, now: Nanos) {
        let Some(opener) = &mut self.opener else { return };
        if let Some(seat) = self.absent.due(now).and_then(|name| self.seats.get(&name))
            && let Some(component) = &seat.component
        {
            opener.open(component, Role::Lead, seat.deployment.version().clone(), Arc::default());
        }
        if now.saturating_sub(self.looked_at) < LOOK {
            return;
        }
        self.looked_at = now;
        for (name, seat) in &mut self.seats {
            let (Some(component), Some(processor)) = (&seat.component, &seat.processor) else { continue };
            if !processor.is_quarantined()
                || seat.deployment.is_under_way()
                || opener.is_opening(name, Role::Lead)
            {
                continue;
            }
            let mark = FileMark::of(&component.path);
            if mark.is_some() && mark != seat.mark {
                seat.mark = mark;
                info!(component = name, "the file of a quarantined component has changed, opening it");
                seat.deployment.supersede();
                opener.open(component, Role::Lead, None, processor.counters().clone());
            }
        }
    }

    /// Gives out what was held back, as long as the component works and others need not wait.
    fn drain(&mut self, name: &str, desk: &mut Desk<'_>, sink: Sink<'_>) {
        let Some(seat) = self.seats.get_mut(name) else { return };
        let waits = seat.fallback() == Fallback::Hold;
        if seat.processor.is_none() {
            // The fallback was another when these were held back, or the component is no longer configured.
            while !waits && let Some(piece) = self.seats.get_mut(name).and_then(|seat| seat.hold.next()) {
                self.go_past(name, (piece.stream, piece.timeline), &piece.readings, sink);
            }
            return;
        }
        let mut room = DRAIN_READINGS_MAX;
        while room > 0 && (!waits || seat.would_work(desk.now)) {
            let Some(piece) = seat.hold.next() else { break };
            room = room.saturating_sub(piece.readings.len());
            let Some(processed) = seat.give(piece.stream, &piece.readings, desk) else {
                // A version was taken back that had no predecessor.
                seat.hold.put_back(piece);
                break;
            };
            let Processed { readings, alarms, commands, held, failed_on, .. } = processed;
            desk.let_go(commands);
            sink(piece.stream, piece.timeline, Worked { readings: &readings, alarms });
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
        readings: &[Reading],
        sink: Sink<'_>,
    ) {
        let fallback = self.seats.get(name).map_or(Fallback::Pass, Seat::fallback);
        if fallback == Fallback::Drop {
            return self.absent.drop(name, readings.len());
        }
        self.absent.pass_by(name, readings.len());
        sink(stream, timeline, Worked { readings, alarms: Vec::new() });
    }
}
