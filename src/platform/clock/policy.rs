//! When the system clock is trusted, and what becomes of the offset. Pure: no clock is read here.

use crate::config::Trust;
use crate::sample::{Nanos, SECOND};

/// A larger difference between the system clock and ours is a step, not drift: what NTP daemons slew stays below half a
/// second, and a leap second is one.
pub(super) const STEP_MIN: Nanos = SECOND;

/// From here on, a clock that is behind is believed rather than waited for: at 500 ppm, 10 s take five and a half hours.
pub(super) const RELEARN_MIN: Nanos = 10 * SECOND;

/// 500 parts per million, the most by which the kernel itself slews: one part in 2,000.
const SLEW_PART: Nanos = 2_000;

/// Time between two looks that counts for slewing. Looks are a second apart; after a longer pause the offset moves by no
/// more than 60 s / 2,000 = 30 ms.
const SLEW_SPAN_MAX: Nanos = 60 * SECOND;

/// What decides about trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// As configured.
    pub(super) trust: Trust,
    /// A time that is certainly over.
    pub(super) floor: Nanos,
}

/// One look at the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Observation {
    /// Time since boot.
    pub(super) boottime: Nanos,
    /// The system clock at that moment.
    pub(super) realtime: Nanos,
    /// What speaks for the system clock.
    pub(super) evidence: Evidence,
}

/// What speaks for the system clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Evidence {
    /// The time daemon's file exists.
    pub(super) synchronized_file: bool,
    /// The kernel says that its clock is disciplined.
    pub(super) kernel_synchronised: bool,
    /// What the clock says that runs while the machine is off, if there is one.
    pub(super) hardware_clock: Option<Nanos>,
}

/// Where the offset comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// From the floor.
    Estimating {
        /// Nanoseconds to add to the time since boot.
        offset: Nanos,
    },
    /// From the system clock.
    Trusted {
        /// Nanoseconds to add to the time since boot.
        offset: Nanos,
        /// Time since boot at the last look.
        seen: Nanos,
        /// How the offset moves.
        pace: Pace,
    },
}

/// How a trusted offset moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// After small differences.
    Following,
    /// Towards a system clock that was set back by more than a second.
    Waiting,
}

/// What the keeper has to do and say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The clock is trusted from now on.
    Trust {
        /// The offset.
        offset: Nanos,
        /// What to add to every estimate of this boot.
        correction: Nanos,
    },
    /// The offset has moved a little.
    Follow {
        /// The offset.
        offset: Nanos,
    },
    /// The system clock is behind; stamps will run slow until it has caught up.
    Wait {
        /// The offset.
        offset: Nanos,
        /// By how much it is behind.
        behind: Nanos,
    },
    /// The system clock was set forward.
    StepForward {
        /// The offset.
        offset: Nanos,
        /// By how much.
        by: Nanos,
    },
    /// The system clock was set back, too far to wait for it.
    StepBack {
        /// The offset.
        offset: Nanos,
        /// By how much.
        by: Nanos,
    },
}

/// One look further.
pub(super) fn step(state: State, observation: &Observation, rules: &Rules) -> (State, Option<Effect>) {
    match state {
        State::Estimating { offset: estimate } => {
            if !rules.allow(observation) {
                return (state, None);
            }
            let offset = observation.offset();
            let trusted = State::Trusted { offset, seen: observation.boottime, pace: Pace::Following };
            (trusted, Some(Effect::Trust { offset, correction: offset - estimate }))
        }
        State::Trusted { offset, seen, pace } => follow(offset, seen, pace, observation),
    }
}

fn follow(offset: Nanos, seen: Nanos, pace: Pace, observation: &Observation) -> (State, Option<Effect>) {
    let difference = observation.offset() - offset;
    let span = (observation.boottime - seen).clamp(0, SLEW_SPAN_MAX);
    let slewed = offset + difference.clamp(-span / SLEW_PART, span / SLEW_PART);
    let trusted = |offset, pace| State::Trusted { offset, seen: observation.boottime, pace };
    if difference > STEP_MIN {
        let offset = offset + difference;
        return (trusted(offset, Pace::Following), Some(Effect::StepForward { offset, by: difference }));
    }
    if difference <= -RELEARN_MIN {
        let offset = offset + difference;
        return (trusted(offset, Pace::Following), Some(Effect::StepBack { offset, by: -difference }));
    }
    if difference < -STEP_MIN {
        let effect = match pace {
            Pace::Following => Effect::Wait { offset: slewed, behind: -difference },
            Pace::Waiting => Effect::Follow { offset: slewed },
        };
        return (trusted(slewed, Pace::Waiting), Some(effect));
    }
    let effect = (slewed != offset).then_some(Effect::Follow { offset: slewed });
    (trusted(slewed, Pace::Following), effect)
}

// === impl Rules ===

impl Rules {
    fn allow(&self, observation: &Observation) -> bool {
        let Evidence { synchronized_file, kernel_synchronised, hardware_clock } = observation.evidence;
        match self.trust {
            Trust::Always => true,
            Trust::Synchronized => synchronized_file,
            Trust::Auto => {
                // A hardware clock whose battery is flat counts too, from some year long past. It is asked itself: by then
                // the system clock may have been put to the last time that was kept, which says nothing of the time now.
                let kept_time =
                    hardware_clock.is_some_and(|time| time.min(observation.realtime) > self.floor);
                synchronized_file || kernel_synchronised || kept_time
            }
        }
    }
}

// === impl Observation ===

impl Observation {
    fn offset(&self) -> Nanos {
        self.realtime - self.boottime
    }
}
