//! Another version of a component at work, without losing a reading: tried beside the old one first, on probation after.
//!
//! ```text
//!                    Opening              Trial                        Probation                Current
//!  old version   ─── at work ─────────── at work ──────────┐ state  ┌─ in the background ──▶ let go
//!                                          │ a copy of     │ of the │    │ the same batches, nothing comes of it
//!  new version       compiled, opened,    on every batch,  ▼ moment ▼    │
//!                    given the state      nothing comes of it ───▶ at work ────────────────▶ at work
//! ```
//! [`phase`] says what follows what. The switch is a snapshot of the old version and its restoring by the new one, between
//! two batches: each reading is worked on by one of them for good. The old one goes on in the background through the
//! probation, so that it can be back at any moment with the state that it would have without the deployment: a batch on
//! which the new one fails is given to the old one as a whole, and counts once. That costs the time of both; replaying the
//! journal instead would cost nothing until it is needed, and then hold up every stream.
//!
//! A new version can harm nothing: it is compiled and given the state on another thread, its first failure ends it, and what
//! it registers while on trial is not kept. Its time on trial is bounded by its deadline, once, and its share.
//!
//! Each [`Seat`](super::seat::Seat) owns its deployment; [`acts`] does what the phases ask for, the roster passes on
//! orders and what was opened. Across power loss: phase, versions and both states are in the checkpoint ([`record`]), the
//! files on the [`shelf`] are there before any checkpoint refers to them. A checkpoint is taken at once when a phase
//! changes. A trial begins anew, a probation goes on; what was not open yet has to be ordered again, which the status says.
//! The configuration counts more than a deployment: if it names a file with another content, that one is used.
//!
//! Bounds: one deployment at a time for each component; a file of 32 MiB; two files of each component on the shelf.

mod acts;
pub(super) mod phase;
pub(super) mod record;
pub(super) mod shelf;
pub(super) mod tally;

use std::sync::Arc;

use crate::config;
use crate::sample::{Nanos, SECOND};

use super::desk::Registrar;
use super::order::Inheritance;
use super::stats::{DeploymentStats, Stage};
use super::{Counters, Processor};
use phase::{Effect, Event, Phase, Terms};
use record::{Digest, History, How, Record, Saved, Version};
use tally::Tally;

/// The deployments of one component: what is under way, and what was.
#[derive(Debug)]
pub(super) struct Deployment {
    terms: Terms,
    phase: Phase,
    cast: Cast,
    /// What is at work.
    version: Version,
    /// The file that the configuration names, as far as it could be read.
    configured: Option<Digest>,
    history: History,
    /// How long the last switch held up the pipeline.
    switched_in: Option<Nanos>,
    /// There is something that a checkpoint should keep.
    news: bool,
}

/// Who is there beside the version at work, as the phase has it.
#[derive(Debug)]
enum Cast {
    /// Nobody.
    Alone,
    /// A version that is being opened; its digest is known once it is on the shelf.
    Opening { digest: Option<Digest>, inheritance: Inheritance },
    /// The new version.
    Trial(Box<Trial>),
    /// The old version.
    Probation(Box<Probation>),
}

#[derive(Debug)]
struct Trial {
    digest: Digest,
    inheritance: Inheritance,
    candidate: Processor,
    /// Numbers the series that it makes, once it has worked.
    pretender: Option<Registrar>,
    /// What was counted of the version at work before.
    before: Tally,
}

#[derive(Debug)]
struct Probation {
    before: Version,
    /// `None` until it is opened after a restart, and when there was none that worked.
    predecessor: Option<Processor>,
    /// Its state as of the last checkpoint.
    state: Option<Vec<u8>>,
    /// What the component counts; the new version adds to it batch by batch.
    counters: Arc<Counters>,
    /// What was counted of the new version.
    tally: Tally,
}

// === impl Deployment ===

impl Deployment {
    /// Of a component that nothing was deployed of.
    pub(super) fn none(component: Option<&config::Component>) -> Deployment {
        Deployment {
            terms: component.map_or(Terms::default(), terms),
            phase: Phase::Current,
            cast: Cast::Alone,
            version: None,
            configured: None,
            history: History::default(),
            switched_in: None,
            news: false,
        }
    }

    /// As it was at the checkpoint.
    pub(super) fn resume(&mut self, record: Record, now: Nanos) {
        let Record { configured, version, saved, history, .. } = record;
        (self.configured, self.version, self.history) = (configured, version, history);
        (self.phase, self.cast) = match saved {
            Saved::Current => {
                if self.history.open {
                    let why = "frond ended before it was open; deploy it again".to_owned();
                    self.end(How::Refused, None, why);
                }
                (Phase::Current, Cast::Alone)
            }
            Saved::Begun { digest, inheritance } => {
                (Phase::Opening, Cast::Opening { digest: Some(digest), inheritance })
            }
            Saved::Probation { before, left, batches, snapshot } => {
                let until = now.saturating_add(i64::try_from(left).unwrap_or(i64::MAX));
                let probation = Probation {
                    before,
                    predecessor: None,
                    state: snapshot,
                    counters: Arc::default(),
                    tally: Tally::default(),
                };
                (Phase::Probation { until, batches }, Cast::Probation(Box::new(probation)))
            }
        };
    }

    /// The configuration names another file than when the version was deployed: that one is the newer word. Tells whether
    /// anything was deployed.
    pub(super) fn supersede(&mut self) -> bool {
        if self.version.is_none() && matches!(self.cast, Cast::Alone) {
            return false;
        }
        let digest = self.other().cloned().or_else(|| self.version.clone());
        let why = "the file that the configuration names has changed".to_owned();
        (self.phase, self.cast, self.version) = (Phase::Current, Cast::Alone, None);
        self.end(How::Superseded, digest, why);
        true
    }

    /// What a checkpoint keeps, after the seat's snapshot was taken; nothing of a component that nothing was ever deployed of.
    pub(super) fn record(&self, component: &str, now: Nanos) -> Option<Record> {
        if self.history == History::default() {
            return None;
        }
        let saved = match (&self.cast, self.phase) {
            (Cast::Probation(probation), Phase::Probation { until, batches }) => Saved::Probation {
                before: probation.before.clone(),
                left: u64::try_from(until.saturating_sub(now)).unwrap_or(0),
                batches,
                snapshot: probation.state.clone(),
            },
            (Cast::Opening { digest: Some(digest), inheritance }, _) => {
                Saved::Begun { digest: digest.clone(), inheritance: *inheritance }
            }
            (Cast::Trial(trial), _) => {
                Saved::Begun { digest: trial.digest.clone(), inheritance: trial.inheritance }
            }
            _ => Saved::Current,
        };
        Some(Record {
            component: component.to_owned(),
            configured: self.configured.clone(),
            version: self.version.clone(),
            saved,
            history: self.history.clone(),
        })
    }

    /// Which version is at work, or should be.
    pub(super) fn version(&self) -> &Version {
        &self.version
    }

    /// Whether the version at work is on probation.
    pub(super) fn is_on_probation(&self) -> bool {
        matches!(self.cast, Cast::Probation(_))
    }

    /// The version before, while the one at work is on probation.
    pub(super) fn predecessor(&self) -> Option<&Processor> {
        match &self.cast {
            Cast::Probation(probation) => probation.predecessor.as_ref(),
            _ => None,
        }
    }

    /// Whether another version is on its way in.
    pub(super) fn is_under_way(&self) -> bool {
        self.phase != Phase::Current
    }

    /// The content of the configuration's file is known.
    pub(super) fn names(&mut self, configured: Option<Digest>) {
        if configured.is_some() && self.version.is_none() {
            self.configured = configured;
        }
    }

    /// A version that was to be tried when the last process ended, and has to be opened again.
    pub(super) fn to_open_again(&self) -> Option<(Digest, Inheritance)> {
        match &self.cast {
            Cast::Opening { digest: Some(digest), inheritance } => Some((digest.clone(), *inheritance)),
            _ => None,
        }
    }

    /// The old version, if it has to be opened to be in the background.
    pub(super) fn to_stand_by(&self) -> Option<Version> {
        match &self.cast {
            Cast::Probation(probation) if probation.predecessor.is_none() => Some(probation.before.clone()),
            _ => None,
        }
    }

    /// Readings are kept back that the version at work has no time for; nor may the old one have.
    pub(super) fn count_excess(&mut self, now: Nanos, readings: usize) {
        if let Cast::Probation(probation) = &mut self.cast
            && let Some(predecessor) = &mut probation.predecessor
        {
            predecessor.count_excess(now, readings);
        }
    }

    /// Whether something has changed that a checkpoint should keep; asked once.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// How the deployment is, for people.
    pub(super) fn stats(&self, now: Nanos) -> Option<DeploymentStats> {
        if self.history == History::default() {
            return None;
        }
        let left =
            |until: Nanos| Some(u64::try_from((until.saturating_sub(now)).max(0) / SECOND).unwrap_or(0));
        let (stage, batches, left_s) = match self.phase {
            Phase::Current => (Stage::Current, 0, None),
            Phase::Opening => (Stage::Opening, 0, None),
            Phase::Trial { since, batches } => {
                (Stage::Trial, batches, left(since.saturating_add(self.terms.trial)))
            }
            Phase::Probation { until, batches } => (Stage::Probation, batches, left(until)),
        };
        let digest = |digest: Option<&Digest>| digest.map(|digest| digest.as_str().to_owned());
        let configured = |version: &Version| version.clone().or_else(|| self.configured.clone());
        let other = match &self.cast {
            Cast::Probation(probation) => configured(&probation.before),
            _ => self.other().cloned(),
        };
        let last = self.history.last.as_ref();
        Some(DeploymentStats {
            stage,
            at_work: digest(configured(&self.version).as_ref()),
            beside: digest(other.as_ref()),
            deployed: self.version.is_some(),
            batches: batches.into(),
            left_s,
            begun: self.history.begun,
            confirmed: self.history.confirmed,
            refused: self.history.refused,
            rolled_back: self.history.rolled_back,
            last: last.map(|last| last.how),
            last_digest: digest(last.and_then(|last| last.digest.as_ref())),
            last_why: last.map(|last| last.why.clone()),
            switch_us: self.switched_in.map(|nanos| nanos.unsigned_abs() / 1_000),
        })
    }

    /// The version beside the one at work, as far as it is from the shelf.
    fn other(&self) -> Option<&Digest> {
        match &self.cast {
            Cast::Alone => None,
            Cast::Opening { digest, .. } => digest.as_ref(),
            Cast::Trial(trial) => Some(&trial.digest),
            Cast::Probation(probation) => probation.before.as_ref(),
        }
    }

    /// Something happened: the next phase, and what is to be done.
    fn happens(&mut self, event: Event, now: Nanos) -> Effect {
        let (phase, effect) = self.phase.next(event, now, self.terms);
        let changes = std::mem::discriminant(&phase) != std::mem::discriminant(&self.phase);
        self.news |= changes;
        self.phase = phase;
        effect
    }

    fn end(&mut self, how: How, digest: Option<Digest>, why: String) {
        self.history.end(how, digest, why);
        self.news = true;
    }
}

fn terms(component: &config::Component) -> Terms {
    let config::Component { trial, trial_batches, probation, .. } = component;
    Terms { trial: nanos(*trial), trial_batches: *trial_batches, probation: nanos(*probation) }
}

fn nanos(duration: std::time::Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}
