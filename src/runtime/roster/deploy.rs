//! Orders about versions, and what the roster does for the deployments of its seats.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::{info, warn};

use super::{Roster, Sweep};
use crate::runtime::deployment::record::Record;
use crate::runtime::opener::{Places, Role, Source};
use crate::runtime::order::{Answer, Artifact, Inheritance};
use crate::sample::Nanos;

// === impl Roster ===

impl Roster {
    /// Begins to put another version of a component to work.
    pub(super) fn deploy(
        &mut self,
        name: &str,
        inheritance: Inheritance,
        artifact: Artifact,
        now: Nanos,
    ) -> Answer {
        let Some(seat) = self.seats.get_mut(name).filter(|seat| seat.is_current()) else {
            return Answer::Refused(format!("there is no component {name}"));
        };
        let (Some(opener), Some(component)) = (&mut self.opener, &seat.component) else {
            return Answer::Refused("no component can run on this gateway; its log says why".to_owned());
        };
        if opener.is_opening(name, Role::Candidate) || opener.is_opening(name, Role::Lead) {
            return Answer::Refused(format!("component {name} is being opened; try again when that is done"));
        }
        let component = component.clone();
        if !seat.order(inheritance, now) {
            return Answer::Refused(format!(
                "a deployment of component {name} is under way, see frond status; wait for its end, or end it with frond component rollback {name}"
            ));
        }
        let bytes = artifact.0.len();
        info!(
            component = name,
            bytes, "new version of a component is ordered; it is compiled and opened first"
        );
        let state = state_for(inheritance, || {
            seat.snapshot(now).or_else(|| self.absent.get(name).and_then(|absence| absence.snapshot.clone()))
        });
        opener.try_out(&component, Source::Bytes(artifact.0), state);
        Answer::Done(format!(
            "a new version of component {name} is being opened; frond status says how it fares"
        ))
    }

    /// Takes a version back.
    pub(super) fn roll_back(&mut self, name: &str, now: Nanos) -> Answer {
        let Some(seat) = self.seats.get_mut(name).filter(|seat| seat.is_current()) else {
            return Answer::Refused(format!("there is no component {name}"));
        };
        let Some(what) = seat.recall(now) else {
            return Answer::Refused(format!(
                "no deployment of component {name} is under way; to go back to an earlier version, deploy that one"
            ));
        };
        self.miss(now);
        Answer::Done(format!("component {name}: {what}"))
    }

    /// Takes up what was deployed, and what was under way. The configuration counts more, if it names another file than it
    /// did then.
    pub(super) fn resume(&mut self, deployments: Vec<Record>, places: &Places, now: Nanos) {
        for record in deployments {
            let name = record.component.clone();
            let Some(seat) = self.seats.get_mut(&name) else {
                info!(
                    component = name,
                    "component is no longer configured, what was deployed of it is forgotten"
                );
                continue;
            };
            let named = seat.component.as_ref().and_then(|component| places.digest(&component.path));
            let (active, known) = (record.is_active(), record.configured.clone());
            seat.deployment.resume(record, now);
            if !active {
                continue;
            }
            if named.is_none() {
                warn!(
                    component = name,
                    "the file that the configuration names cannot be read; the version that was deployed goes on"
                );
            } else if named != known {
                seat.deployment.supersede();
                warn!(
                    component = name,
                    "the configuration names another file than when a version was deployed: it counts more, the deployment is forgotten"
                );
            }
        }
    }

    /// Opens again what was to be tried when the last process ended; its trial begins anew.
    pub(super) fn try_again(&mut self, now: Nanos) {
        let Some(opener) = &mut self.opener else { return };
        for (name, seat) in &mut self.seats {
            let Some((digest, inheritance)) = seat.deployment.to_open_again() else { continue };
            let absent = self.absent.get(name).and_then(|absence| absence.snapshot.clone());
            let state = state_for(inheritance, || seat.snapshot(now).or(absent));
            if let Some(component) = &seat.component {
                opener.try_out(component, Source::Shelf(digest), state);
            }
        }
    }

    /// Time has passed for every deployment.
    pub(super) fn advance(&mut self, now: Nanos) {
        for (name, seat) in &mut self.seats {
            let nobody = seat.processor.is_none();
            seat.advance(self.absent.get(name).and_then(|absence| absence.snapshot.as_ref()), now);
            if nobody && let Some(processor) = &seat.processor {
                // The new version is the first one that works.
                if let Some(absence) = self.absent.found(name) {
                    processor.missed(absence.passed_by, absence.dropped);
                }
            }
        }
        self.miss(now);
    }

    /// Components whose new version was taken back, and that have no other: what was before is opened again.
    pub(super) fn miss(&mut self, now: Nanos) {
        for (name, seat) in &mut self.seats {
            let Some(state) = seat.state.take() else { continue };
            let why = "the version before is being opened again".to_owned();
            self.absent.note(name, why, now);
            if let Some(state) = state {
                self.absent.keep(name, state);
            }
            if let (Some(opener), Some(component)) = (&mut self.opener, &seat.component) {
                opener.open(component, Role::Lead, seat.deployment.version().clone(), Arc::default());
            }
        }
    }

    /// A version on probation could not be opened after a restart.
    pub(super) fn take_back(&mut self, name: &str, why: &str, now: Nanos) {
        if let Some(seat) = self.seats.get_mut(name) {
            seat.fail(why, now);
            self.absent.found(name);
            self.taken_back.insert(name.to_owned());
        }
        self.miss(now);
    }

    /// Whether something has changed that a checkpoint should keep at once; asked once.
    pub(in crate::runtime) fn has_news(&mut self) -> bool {
        let mut news = false;
        for seat in self.seats.values_mut() {
            news |= seat.deployment.take_news();
        }
        if news {
            self.sweep = Sweep::Wanted;
        }
        news
    }

    /// The last checkpoint is on flash: what it does not refer to can go, unless something new is on its way to the shelf.
    pub(in crate::runtime) fn checkpointed(&mut self, now: Nanos) {
        let Some(opener) = self.opener.as_mut().filter(|opener| !opener.is_trying()) else { return };
        if self.sweep == Sweep::Soon {
            let records = self.seats.iter().filter_map(|(name, seat)| seat.deployment.record(name, now));
            let kept: BTreeSet<_> =
                records.flat_map(|record| record.files().cloned().collect::<Vec<_>>()).collect();
            opener.sweep(kept);
            self.sweep = Sweep::No;
        }
    }
}

fn state_for(inheritance: Inheritance, state: impl FnOnce() -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    match inheritance {
        Inheritance::Carried => state(),
        Inheritance::Fresh => None,
    }
}
