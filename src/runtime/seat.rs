//! One component's place among the others: its code at work, or none, a version beside it, and the readings that wait.

use tracing::error;

use crate::config::{self, Fallback};
use crate::sample::{Nanos, Reading, StreamId, Timeline};

use super::Processor;
use super::absent::Absence;
use super::deployment::Deployment;
use super::hold::Hold;
use super::opener::FileMark;
use super::roster::timer::Grid;
use super::stats::{ComponentStats, Standing};

/// The place.
pub(super) struct Seat {
    /// `None` for a component that is no longer configured and has readings left.
    pub(super) component: Option<config::Component>,
    /// `None` for one that could not be opened.
    pub(super) processor: Option<Processor>,
    /// The file that the processor was made of, or that could not be opened.
    pub(super) mark: Option<FileMark>,
    /// Readings that wait.
    pub(super) hold: Hold,
    /// What was deployed in the place of the configuration's file, and what is being deployed.
    pub(super) deployment: Deployment,
    /// When its timer is due.
    pub(super) timer: Grid,
    /// The state for whatever is opened next, when a version without a predecessor was taken back.
    pub(super) state: Option<Option<Vec<u8>>>,
}

// === impl Seat ===

impl Seat {
    /// Of a configured component.
    pub(super) fn of(component: config::Component) -> Seat {
        let hold = Hold::new(component.hold_readings_max);
        Seat::with(Some(component), hold)
    }

    /// Of one that is no longer configured; what waits for it was bounded when it was held back.
    pub(super) fn retired() -> Seat {
        Seat::with(None, Hold::new(usize::MAX))
    }

    fn with(component: Option<config::Component>, hold: Hold) -> Seat {
        let deployment = Deployment::none(component.as_ref());
        let timer = Grid::default();
        Seat { component, processor: None, mark: None, hold, deployment, timer, state: None }
    }

    /// What becomes of readings that the component does not work on.
    pub(super) fn fallback(&self) -> Fallback {
        self.component.as_ref().map_or(Fallback::Pass, |component| component.fallback)
    }

    /// Whether the component is configured.
    pub(super) fn is_current(&self) -> bool {
        self.component.is_some()
    }

    /// Keeps readings for the component, and says so when that begins to cost older ones; the counter says how many.
    pub(super) fn keep(
        &mut self,
        (stream, timeline): (StreamId, Timeline),
        readings: &[Reading],
        now: Nanos,
    ) {
        if let Some(processor) = &mut self.processor {
            processor.count_excess(now, readings.len());
        }
        self.deployment.count_excess(now, readings.len());
        let dropped = self.hold.push(stream, timeline, readings);
        if dropped > 0 && self.hold.dropped() == dropped as u64 {
            error!(
                component = self.component.as_ref().map(|component| component.name.as_str()),
                advice = "mend the component, or raise hold_readings_max",
                "too many readings wait for the component; the oldest are dropped and counted, the raw ring has them"
            );
        }
    }

    /// Whether the next batch would be given to an instance.
    pub(super) fn would_work(&mut self, now: Nanos) -> bool {
        self.processor.as_mut().is_some_and(|processor| processor.would_work(now))
    }

    /// Whether it is to be called by its timer. Ticks that nobody could look at in time, because the machine was held up, and
    /// those that are due while readings wait for it, are missed.
    pub(super) fn is_due(&mut self, now: Nanos) -> bool {
        let timed = self.processor.as_ref().filter(|processor| processor.has_timer());
        let (Some(component), Some(processor)) = (&self.component, timed) else {
            self.timer = Grid::default();
            return false;
        };
        let Some(missed) = self.timer.pass(component.timer, now) else { return false };
        // Of what has not been worked on yet it would know nothing.
        let waits = !self.hold.is_empty();
        processor.miss_ticks(missed + u64::from(waits));
        !waits
    }

    /// How the component is.
    pub(super) fn stats(&self, absence: Option<&Absence>, now: Nanos) -> ComponentStats {
        let mut stats = match (&self.processor, absence) {
            (Some(processor), _) => ComponentStats {
                standing: standing(processor),
                state_bytes: processor.state_bytes() as u64,
                last_fault: Some(processor.last_fault().to_owned()).filter(|fault| !fault.is_empty()),
                last_refusal: processor.last_refusal().map(str::to_owned),
                ..ComponentStats::of(self.counters().unwrap_or(processor.counters()))
            },
            (None, Some(absence)) => ComponentStats {
                absent: Some(absence.why.clone()),
                passed_by: absence.passed_by,
                dropped: absence.dropped,
                ..ComponentStats::absent()
            },
            (None, None) => ComponentStats::absent(),
        };
        stats.held = self.hold.len() as u64;
        stats.hold_dropped = self.hold.dropped();
        stats.fallback = self.fallback();
        stats.deployment = self.deployment.stats(now);
        stats
    }
}

fn standing(processor: &Processor) -> Standing {
    match (processor.is_running(), processor.is_quarantined()) {
        (true, _) => Standing::Running,
        (false, true) => Standing::Quarantined,
        (false, false) => Standing::Restarting,
    }
}
