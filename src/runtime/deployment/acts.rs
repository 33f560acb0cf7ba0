//! What the phases of a deployment ask for, done at a component's seat: who gets a batch, and who is let go.

use std::sync::Arc;
use std::time::Instant;

use tracing::{error, info, warn};

use super::phase::{Effect, Event, Terms};
use super::record::{Digest, How};
use super::tally::Tally;
use super::{Cast, Probation, Trial, terms};
use crate::platform::log;
use crate::runtime::desk::Desk;
use crate::runtime::opener::Opened;
use crate::runtime::order::Inheritance;
use crate::runtime::outcome::{Processed, Restored};
use crate::runtime::processor::Part;
use crate::runtime::seat::Seat;
use crate::runtime::{Counters, Processor};
use crate::sample::{Nanos, Reading, StreamId};

/// Who ends a deployment before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The new version, by a failure.
    Itself,
    /// Somebody who wants the old one back.
    Operator,
}

/// The reason that goes with [`By::Operator`].
const TAKEN_BACK: &str = "an operator has taken it back";

// === impl Seat ===

impl Seat {
    /// Lets the component work on readings of one stream, and whoever is there beside it. `None` when nobody is at work.
    pub(in crate::runtime) fn give<'a>(
        &mut self,
        stream: StreamId,
        readings: &'a [Reading],
        desk: &mut Desk<'_>,
    ) -> Option<Processed<'a>> {
        let processed = desk.give(self.processor.as_mut()?, stream, readings);
        match &self.deployment.cast {
            Cast::Alone | Cast::Opening { .. } => Some(processed),
            Cast::Trial(_) => {
                self.rehearse(stream, readings, desk);
                Some(processed)
            }
            Cast::Probation(_) => match self.failing() {
                Some(why) => {
                    // What the new version made of this batch is thrown away; the old one has not seen it yet.
                    self.fail(&why, desk.now);
                    self.give(stream, readings, desk)
                }
                None => {
                    self.accompany(stream, readings, desk);
                    Some(processed)
                }
            },
        }
    }

    /// Lets the component act of its own accord, and whoever is there beside it; what those give counts for nothing.
    pub(in crate::runtime) fn tick(&mut self, at: Nanos, desk: &Desk<'_>) -> Option<Processed<'static>> {
        let name = self.name().to_owned();
        let processed = desk.tick(&name, self.processor.as_mut()?, at);
        match &mut self.deployment.cast {
            Cast::Alone | Cast::Opening { .. } => {}
            // Should it fail, it is found out with the next batch.
            Cast::Trial(trial) => drop(desk.tick(&name, &mut trial.candidate, at)),
            Cast::Probation(_) => {
                if let Some(why) = self.failing() {
                    self.fail(&why, desk.now);
                    return self.tick(at, desk);
                }
                self.count();
                if let Cast::Probation(probation) = &mut self.deployment.cast
                    && let Some(predecessor) = &mut probation.predecessor
                {
                    drop(desk.tick(&name, predecessor, at));
                }
            }
        }
        processed
    }

    /// The state to store with a checkpoint; that of the old version in the background is taken along.
    pub(in crate::runtime) fn snapshot(&mut self, now: Nanos) -> Option<Vec<u8>> {
        if let Cast::Probation(probation) = &mut self.deployment.cast
            && let Some(predecessor) = &mut probation.predecessor
        {
            probation.state = predecessor.snapshot();
        }
        let snapshot = self.processor.as_mut()?.snapshot();
        match self.failing() {
            Some(why) => {
                self.fail(&why, now);
                self.processor.as_mut()?.snapshot()
            }
            None => snapshot,
        }
    }

    /// Begins a deployment. Tells whether there was none.
    pub(in crate::runtime) fn order(&mut self, inheritance: Inheritance, now: Nanos) -> bool {
        if self.deployment.happens(Event::Ordered, now) != Effect::Open {
            return false;
        }
        self.deployment.cast = Cast::Opening { digest: None, inheritance };
        self.deployment.history.begin();
        true
    }

    /// Somebody wants the old version back. Tells what that came to, or that there is nothing to be taken back.
    pub(in crate::runtime) fn recall(&mut self, now: Nanos) -> Option<&'static str> {
        match self.deployment.happens(Event::Recalled, now) {
            Effect::Abandon => {
                self.abandon(By::Operator, TAKEN_BACK);
                Some("the new version is let go before it was at work")
            }
            Effect::RollBack => {
                self.roll_back(By::Operator, TAKEN_BACK);
                Some("the version before is back at work, with its state")
            }
            _ => None,
        }
    }

    /// The new version was opened, or could not be.
    pub(in crate::runtime) fn try_out(&mut self, opened: Opened, now: Nanos) {
        let Opened { version, outcome, .. } = opened;
        let Cast::Opening { digest, inheritance } = &mut self.deployment.cast else { return };
        (*digest, self.deployment.news) = (version.clone(), true);
        let inheritance = *inheritance;
        let current = self.deployment.version.clone().or_else(|| self.deployment.configured.clone());
        let candidate = match (outcome, version) {
            (Ok(_), digest) if digest == current && self.processor.is_some() => {
                return self.fail("it is the version that is at work already", now);
            }
            (Ok(candidate), Some(digest)) => (candidate, digest),
            (Ok(_), None) => return self.fail("it has no digest", now),
            (Err(err), _) => return self.fail(&log::chain(&err).to_string(), now),
        };
        if self.deployment.happens(Event::Opened, now) != Effect::Rehearse {
            return;
        }
        let (candidate, digest) = candidate;
        info!(
            component = self.name(),
            version = digest.short(),
            "new version of a component is open, its trial begins"
        );
        let before = self.processor.as_ref().map(|lead| Tally::of(lead.counters())).unwrap_or_default();
        let trial = Trial { digest, inheritance, candidate, pretender: None, before };
        self.deployment.cast = Cast::Trial(Box::new(trial));
        if self.processor.is_none() {
            // Nobody is at work whom it could harm, or be compared with.
            self.deployment.terms.trial_batches = 0;
        }
    }

    /// The old version was opened after a restart, or could not be.
    pub(in crate::runtime) fn stand_by(&mut self, opened: Opened) {
        let name = self.name().to_owned();
        let Cast::Probation(probation) = &mut self.deployment.cast else { return };
        if probation.predecessor.is_some() || opened.version != probation.before {
            return;
        }
        match opened.outcome {
            Ok(mut predecessor) => {
                predecessor.play(Part::Background, &name, Arc::default());
                if let Restored::SetAside(reason) = predecessor.begin_with(probation.state.clone()) {
                    warn!(
                        component = name,
                        reason, "former version of a component does not take its state back"
                    );
                }
                probation.predecessor = Some(predecessor);
            }
            Err(err) => warn!(
                component = name,
                error = %log::chain(&err),
                "former version of a component cannot be opened; should the new one fail, it is tried again"
            ),
        }
    }

    /// Time has passed. `absent` is the state of a component that is not there.
    pub(in crate::runtime) fn advance(&mut self, absent: Option<&Vec<u8>>, now: Nanos) {
        if self.deployment.is_on_probation() && self.processor.is_none() {
            // It is still being opened after a restart.
            return;
        }
        match self.deployment.happens(Event::Elapsed, now) {
            Effect::Switch => self.switch(absent, now),
            Effect::Confirm => self.confirm(),
            _ => {}
        }
    }

    /// The new version has failed, wherever it was.
    pub(in crate::runtime) fn fail(&mut self, why: &str, now: Nanos) {
        match self.deployment.happens(Event::Failed, now) {
            Effect::Abandon => self.abandon(By::Itself, why),
            Effect::RollBack => self.roll_back(By::Itself, why),
            _ => {}
        }
    }

    /// What is wrong with the new version, if it is on probation.
    fn failing(&mut self) -> Option<String> {
        let Cast::Probation(probation) = &mut self.deployment.cast else { return None };
        let lead = self.processor.as_ref()?;
        let mut tally = probation.tally;
        tally += Tally::of(lead.counters());
        let old = probation.predecessor.as_ref().map(|old| Tally::of(old.counters()));
        tally.judge(old).map(|wrong| wrong.told(lead.last_fault()))
    }

    /// Gives the version on trial a copy.
    fn rehearse(&mut self, stream: StreamId, readings: &[Reading], desk: &mut Desk<'_>) {
        let Cast::Trial(trial) = &mut self.deployment.cast else { return };
        let Trial { candidate, pretender, before, .. } = &mut **trial;
        drop(desk.pretend(candidate, stream, readings, pretender));
        let old = self.processor.as_ref().map(|lead| Tally::of(lead.counters()) - *before);
        let wrong = Tally::of(candidate.counters()).judge(old);
        match wrong.map(|wrong| wrong.told(candidate.last_fault())) {
            Some(why) => self.fail(&why, desk.now),
            None => drop(self.deployment.happens(Event::Worked, desk.now)),
        }
    }

    /// The new version on probation has worked on a batch: so does the old one, and the batch counts.
    fn accompany(&mut self, stream: StreamId, readings: &[Reading], desk: &mut Desk<'_>) {
        self.count();
        let Cast::Probation(probation) = &mut self.deployment.cast else { return };
        if let Some(predecessor) = &mut probation.predecessor {
            drop(desk.give(predecessor, stream, readings));
        }
        self.deployment.happens(Event::Worked, desk.now);
    }

    /// What the new version on probation has done well counts.
    fn count(&mut self) {
        if let (Cast::Probation(probation), Some(lead)) = (&mut self.deployment.cast, &self.processor) {
            probation.tally += Tally::of(lead.counters());
            probation.counters.absorb(lead.counters());
        }
    }

    /// Puts the new version in the place of the old one, with the state of this moment.
    fn switch(&mut self, absent: Option<&Vec<u8>>, now: Nanos) {
        let begun = Instant::now();
        let Cast::Trial(trial) = std::mem::replace(&mut self.deployment.cast, Cast::Alone) else { return };
        let Trial { digest, inheritance, mut candidate, before, .. } = *trial;
        let name = self.name().to_owned();
        // Whatever it says, its state is thrown away; but one that cannot tell it must not come this far.
        let _ = candidate.snapshot();
        let old = self.processor.as_ref().map(|lead| Tally::of(lead.counters()) - before);
        let wrong = Tally::of(candidate.counters()).judge(old);
        if let Some(why) = wrong.map(|wrong| wrong.told(candidate.last_fault())) {
            return self.refuse(digest, inheritance, &why, now);
        }
        let state = match inheritance {
            Inheritance::Fresh => None,
            Inheritance::Carried => match &mut self.processor {
                Some(lead) => lead.snapshot(),
                None => absent.cloned(),
            },
        };
        candidate.play(Part::Probation, &name, Arc::default());
        if let Restored::SetAside(reason) = candidate.begin_with(state) {
            return self.refuse(digest, inheritance, &format!("it does not take the state: {reason}"), now);
        }
        let mut predecessor = self.processor.take();
        let counters = predecessor.as_ref().map(|old| old.counters().clone()).unwrap_or_default();
        if let Some(old) = &mut predecessor {
            old.play(Part::Background, &name, Arc::default());
        }
        let version = digest.short().to_owned();
        let before = self.deployment.version.replace(digest);
        // One that is not there cannot tell its state.
        let state = absent.cloned().filter(|_| predecessor.is_none());
        let tally = Tally::default();
        self.deployment.cast =
            Cast::Probation(Box::new(Probation { before, predecessor, state, counters, tally }));
        self.deployment.happens(Event::Switched, now);
        self.processor = Some(candidate);
        self.hold.forgive();
        let took = begun.elapsed();
        self.deployment.switched_in = Some(Nanos::try_from(took.as_nanos()).unwrap_or(Nanos::MAX));
        info!(
            component = name,
            version,
            us = took.as_micros() as u64,
            "new version of a component is at work, on probation; the old one goes on in the background"
        );
    }

    /// It came as far as the switch.
    fn refuse(&mut self, digest: Digest, inheritance: Inheritance, why: &str, now: Nanos) {
        self.deployment.cast = Cast::Opening { digest: Some(digest), inheritance };
        self.fail(why, now);
    }

    /// Lets the new version go, which was not at work.
    fn abandon(&mut self, by: By, why: &str) {
        let digest = self.deployment.other().cloned();
        let (component, version) = (self.name(), digest.as_ref().map(Digest::short));
        let how = match by {
            By::Itself => {
                warn!(
                    component,
                    version,
                    reason = why,
                    "new version of a component is not taken, no reading is lost: the old one is at work as before; mend the new one and deploy it again"
                );
                How::Refused
            }
            By::Operator => {
                info!(
                    component,
                    version, "new version of a component is let go, the old one is at work as before"
                );
                How::RolledBack
            }
        };
        self.settle(how, digest, why);
    }

    /// Lets the old version go.
    fn confirm(&mut self) {
        let name = self.name().to_owned();
        let cast = std::mem::replace(&mut self.deployment.cast, Cast::Alone);
        let (Cast::Probation(probation), Some(lead)) = (cast, &mut self.processor) else { return };
        let counters = lead.counters().clone();
        counters.absorb(&probation.counters);
        lead.play(Part::Lead, &name, counters);
        let digest = self.deployment.version.clone();
        info!(
            component = name,
            version = digest.as_ref().map(Digest::short),
            "new version of a component has passed its probation and stays"
        );
        self.settle(How::Confirmed, digest, "it has passed its probation");
    }

    /// Puts the old version back in its place. Without it, its state waits for it to be opened.
    fn roll_back(&mut self, by: By, why: &str) {
        let name = self.name().to_owned();
        let cast = std::mem::replace(&mut self.deployment.cast, Cast::Alone);
        let Cast::Probation(probation) = cast else { return };
        let Probation { before, predecessor, state, counters, .. } = *probation;
        if let Some(failed) = self.processor.take() {
            counters.absorb_faults(failed.counters());
        }
        let digest = std::mem::replace(&mut self.deployment.version, before);
        let version = digest.as_ref().map(Digest::short);
        match by {
            By::Itself => error!(
                component = name,
                version,
                reason = why,
                "new version of a component has failed on probation, no reading is lost: the old one is at work again, with its state; mend the new one and deploy it again"
            ),
            By::Operator => info!(
                component = name,
                version, "old version of a component is at work again, with its state"
            ),
        }
        self.settle(How::RolledBack, digest, why);
        match predecessor {
            Some(mut predecessor) => {
                predecessor.play(Part::Lead, &name, counters);
                self.processor = Some(predecessor);
            }
            None => self.state = Some(state),
        }
        self.hold.forgive();
    }

    fn settle(&mut self, how: How, digest: Option<Digest>, why: &str) {
        self.deployment.cast = Cast::Alone;
        self.deployment.end(how, digest, why.to_owned());
        self.deployment.terms = self.component.as_ref().map_or(Terms::default(), terms);
    }

    fn name(&self) -> &str {
        self.component.as_ref().map_or("", |component| &component.name)
    }

    /// What the component has counted since the process started.
    pub(in crate::runtime) fn counters(&self) -> Option<&Arc<Counters>> {
        match &self.deployment.cast {
            Cast::Probation(probation) => Some(&probation.counters),
            _ => self.processor.as_ref().map(Processor::counters),
        }
    }

    /// The part that an opened version plays which is to be at work.
    pub(in crate::runtime) fn part(&self) -> Part {
        match self.deployment.cast {
            Cast::Probation(_) => Part::Probation,
            _ => Part::Lead,
        }
    }
}
