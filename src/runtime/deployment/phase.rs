//! The phases of a deployment. Pure: what happened and when, to what is to be done.
//!
//! ```text
//!            Ordered ┌─────────┐ Opened ┌───────┐ Elapsed, Switched ┌───────────┐ Elapsed
//!  Current ─────────▶│ Opening │───────▶│ Trial │──────────────────▶│ Probation │─────────▶ Current, with the new version
//!     ▲              └─────────┘        └───────┘                   └───────────┘
//!     │                   │ Failed,         │ Failed,                    │ Failed,
//!     └───────────────────┴─ Recalled ──────┴─ Recalled ─────────────────┴─ Recalled
//! ```
//! Everything that leads back to the left ends with the old version. The version at work changes at `Switched` and nowhere
//! else, and back at `Failed` or `Recalled` in Probation. What an arrow does not name changes nothing.

use crate::sample::Nanos;

/// Where a deployment is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::runtime) enum Phase {
    /// There is none.
    #[default]
    Current,
    /// The new version is being compiled and opened.
    Opening,
    /// It gets a copy of every batch, and nothing comes of that.
    Trial {
        /// Since when.
        since: Nanos,
        /// Batches it has worked on.
        batches: u32,
    },
    /// It is at work, and the old one works on beside it, so that it can be back at any moment.
    Probation {
        /// When it is over.
        until: Nanos,
        /// Batches the new one has worked on.
        batches: u32,
    },
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::runtime) enum Event {
    /// Somebody wants a new version.
    Ordered,
    /// It is open.
    Opened,
    /// It has worked on a batch.
    Worked,
    /// Time has passed.
    Elapsed,
    /// It has taken the place of the old one.
    Switched,
    /// It has failed, whatever it was about to do.
    Failed,
    /// Somebody wants the old one back.
    Recalled,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::runtime) enum Effect {
    /// Nothing.
    Nothing,
    /// Open the new version.
    Open,
    /// Give it a copy of every batch from now on.
    Rehearse,
    /// Put it in the place of the old one; then [`Event::Switched`] or [`Event::Failed`].
    Switch,
    /// Let it go.
    Abandon,
    /// Let the old one go.
    Confirm,
    /// Put the old one back in its place, and let the new one go.
    RollBack,
}

/// How long things take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::runtime) struct Terms {
    /// Longest trial.
    pub(in crate::runtime) trial: Nanos,
    /// Batches after which it is over sooner.
    pub(in crate::runtime) trial_batches: u32,
    /// Shortest probation. It lasts until the new version has worked on something: a silent stream proves nothing.
    pub(in crate::runtime) probation: Nanos,
}

// === impl Phase ===

impl Phase {
    /// What follows.
    pub(in crate::runtime) fn next(self, event: Event, now: Nanos, terms: Terms) -> (Phase, Effect) {
        match (self, event) {
            (Phase::Current, Event::Ordered) => (Phase::Opening, Effect::Open),
            (Phase::Opening, Event::Opened) => (Phase::Trial { since: now, batches: 0 }, Effect::Rehearse),
            (Phase::Trial { since, batches }, Event::Worked) => {
                (Phase::Trial { since, batches: batches.saturating_add(1) }, Effect::Nothing)
            }
            (Phase::Trial { since, batches }, Event::Elapsed)
                if batches >= terms.trial_batches || now.saturating_sub(since) >= terms.trial =>
            {
                (self, Effect::Switch)
            }
            (Phase::Trial { .. }, Event::Switched) => {
                (Phase::Probation { until: now.saturating_add(terms.probation), batches: 0 }, Effect::Nothing)
            }
            (Phase::Probation { until, batches }, Event::Worked) => {
                (Phase::Probation { until, batches: batches.saturating_add(1) }, Effect::Nothing)
            }
            (Phase::Probation { until, batches }, Event::Elapsed) if now >= until && batches > 0 => {
                (Phase::Current, Effect::Confirm)
            }
            (Phase::Opening | Phase::Trial { .. }, Event::Failed | Event::Recalled) => {
                (Phase::Current, Effect::Abandon)
            }
            (Phase::Probation { .. }, Event::Failed | Event::Recalled) => (Phase::Current, Effect::RollBack),
            (phase, _) => (phase, Effect::Nothing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { trial: 30, trial_batches: 3, probation: 100 };
    const TRIAL: Phase = Phase::Trial { since: 10, batches: 0 };
    const PROBATION: Phase = Phase::Probation { until: 140, batches: 0 };

    /// Lets things happen at their times; returns where that leads and what was to be done last.
    fn after(mut phase: Phase, events: &[(Event, Nanos)]) -> (Phase, Effect) {
        let mut effect = Effect::Nothing;
        for (event, now) in events {
            (phase, effect) = phase.next(*event, *now, TERMS);
        }
        (phase, effect)
    }

    #[test]
    fn current_ordered_opening_opened_trial() {
        // Goal: an order opens, and what is open is tried. Method: the two events.
        assert_eq!(after(Phase::Current, &[(Event::Ordered, 5)]), (Phase::Opening, Effect::Open));
        assert_eq!(after(Phase::Opening, &[(Event::Opened, 10)]), (TRIAL, Effect::Rehearse));
    }

    #[test]
    fn trial_elapsed_switches_after_enough_batches_or_enough_time() {
        // Goal: whichever comes first, and not before. Method: one batch fewer, one moment sooner; then each in turn.
        let worked = |batches: usize| vec![(Event::Worked, 11); batches];
        let elapsed = |batches, now| {
            let mut events = worked(batches);
            events.push((Event::Elapsed, now));
            after(TRIAL, &events).1
        };
        assert_eq!(
            (elapsed(2, 39), elapsed(3, 11), elapsed(0, 40)),
            (Effect::Nothing, Effect::Switch, Effect::Switch)
        );
        assert_eq!(
            after(TRIAL, &[(Event::Elapsed, 40), (Event::Switched, 40)]),
            (PROBATION, Effect::Nothing)
        );
    }

    #[test]
    fn probation_elapsed_confirms_once_the_new_version_has_worked_on_something() {
        // Goal: time alone proves nothing. Method: the time without a batch, a batch without the time, both.
        assert_eq!(after(PROBATION, &[(Event::Elapsed, 140)]), (PROBATION, Effect::Nothing));
        assert_eq!(after(PROBATION, &[(Event::Worked, 50), (Event::Elapsed, 139)]).1, Effect::Nothing);
        let proved = [(Event::Worked, 50), (Event::Elapsed, 140)];
        assert_eq!(after(PROBATION, &proved), (Phase::Current, Effect::Confirm));
    }

    #[test]
    fn failed_or_recalled_leads_back_to_the_old_version_from_everywhere() {
        // Goal: there is no phase that a failure or a word does not end. Method: both, in every phase.
        for event in [Event::Failed, Event::Recalled] {
            let next = |phase: Phase| phase.next(event, 50, TERMS);
            assert_eq!(next(Phase::Current), (Phase::Current, Effect::Nothing));
            assert_eq!(next(Phase::Opening), (Phase::Current, Effect::Abandon));
            assert_eq!(next(TRIAL), (Phase::Current, Effect::Abandon));
            assert_eq!(next(PROBATION), (Phase::Current, Effect::RollBack));
        }
    }

    #[test]
    fn what_no_arrow_names_changes_nothing() {
        // Goal: a second order, or an event that comes late, does no harm. Method: every pair that the picture lacks.
        for (phase, events) in [
            (Phase::Current, vec![Event::Opened, Event::Worked, Event::Elapsed, Event::Switched]),
            (Phase::Opening, vec![Event::Ordered, Event::Worked, Event::Elapsed, Event::Switched]),
            (TRIAL, vec![Event::Ordered, Event::Opened]),
            (PROBATION, vec![Event::Ordered, Event::Opened, Event::Switched]),
        ] {
            for event in events {
                assert_eq!(
                    phase.next(event, i64::MAX, TERMS),
                    (phase, Effect::Nothing),
                    "{phase:?} {event:?}"
                );
            }
        }
    }

    #[test]
    fn a_clock_at_its_ends_does_no_harm() {
        // Goal: no overflow, whatever the clock says. Method: both ends.
        for now in [Nanos::MIN, Nanos::MAX] {
            let (phase, _) = TRIAL.next(Event::Switched, now, TERMS);
            let (phase, _) = phase.next(Event::Worked, now, TERMS);
            assert_eq!(phase.next(Event::Elapsed, Nanos::MAX, TERMS).1, Effect::Confirm);
            let _ = TRIAL.next(Event::Elapsed, now, TERMS);
        }
    }
}
