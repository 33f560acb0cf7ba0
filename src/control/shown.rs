//! What everybody may see of the desired state and what runs: a snapshot, and what commands of an operator print of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::command::{Origin, Pairs};
use super::desired::{Desired, Filed, Item, Key, Link, OfTheFile};
use crate::artifact::claims::Claims;
use crate::artifact::obtain::Obtained;
use crate::artifact::trust::Trust;
use crate::runtime::neighbour::Look;
use crate::workload::View;

/// The snapshot.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// Whether what is on flash has been read; before that there is nothing to see.
    pub is_restored: bool,
    /// What is desired beside the file.
    pub desired: Arc<Desired>,
    /// What the file says.
    pub file: Arc<OfTheFile>,
    /// Components of the lattice that have a task.
    pub running: BTreeMap<String, Running>,
    /// Views of the file's components for wasmCloud.
    pub filed: Arc<Vec<Arc<View>>>,
    /// Components that have no task, and why.
    pub missing: BTreeMap<String, String>,
    /// Those of them that wait for nothing but a configuration: the lattice is told that they are here.
    pub waiting: BTreeSet<String>,
    /// Links that lead nowhere or say something in vain, and why.
    pub troubles: Arc<Vec<(Link, String)>>,
    /// How the copy of a shared lattice stands; of a lattice of the gateway's own there is none.
    pub copy: Option<Shared>,
}

/// How the copy of a shared lattice stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// Whether it is the hub's word of now; otherwise of when the hub was last there.
    pub is_held: bool,
    /// Changed on site, and not at the hub yet.
    pub pending: Vec<Key>,
    /// Entries that say nothing here, and why.
    pub passed_over: Vec<(String, String)>,
}

/// A component of the lattice that has a task.
#[derive(Debug, Clone)]
pub struct Running {
    /// The artifact it runs from.
    pub reference: String,
    /// How it fares.
    pub view: Arc<View>,
    /// What it was made from.
    pub artifact: Arc<Obtained>,
    /// Whether something else is desired of it, which is looked for or cannot be.
    pub is_behind: bool,
}

/// A component, as the lattice and operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// Its identifier.
    pub id: String,
    /// The artifact it runs from or, if it does not, is to run from.
    pub reference: String,
    /// Calls at a time.
    pub limit: u32,
    /// Names of its configurations; none of one of the file.
    #[serde(default)]
    pub config: Vec<String>,
    /// Of whoever asked for it.
    pub annotations: Pairs,
    /// What it may take.
    pub limits: Option<Pairs>,
    /// Who said so.
    pub origin: Origin,
    /// Of the change that it rests on; 0 of the file's.
    pub revision: u64,
    /// As in the status: `ready`, `opening`, `absent` and so on.
    pub state: String,
    /// Why, unless it is ready.
    pub reason: Option<String>,
    /// What it was before, while it is on probation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<String>,
    /// Whether the lattice is told that it is here.
    pub is_here: bool,
    /// Whether what runs is not what is desired, yet or for the reason told.
    #[serde(default)]
    pub is_behind: bool,
    /// What its code is and who vouches for it; not known of the file's, and of one that does not run.
    #[serde(default)]
    pub provenance: Option<Provenance>,
}

/// What a component's code is, and who vouches for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// SHA-256.
    pub digest: String,
    /// Name of the signer that the gateway trusts; `None` when nobody has signed it and that is allowed.
    pub signer: Option<String>,
    /// What embedded claims say, whoever made them.
    pub claims: Option<Claims>,
}

/// All of it, for the commands of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// What is desired beside the file.
    pub desired: Desired,
    /// All labels.
    pub labels: Pairs,
    /// All components.
    pub components: Vec<Present>,
    /// What is wrong with links.
    pub troubles: Vec<(Link, String)>,
    /// How the copy of a shared lattice stands.
    #[serde(default)]
    pub copy: Option<Shared>,
}

/// A line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The change that it tells of.
    pub revision: u64,
    /// When, nanoseconds since the epoch, as the gateway's clock had it.
    pub at: i64,
    /// Who made it.
    pub origin: Option<Origin>,
    /// What.
    pub text: String,
}

// === impl Provenance ===

impl Provenance {
    fn of(artifact: &Obtained) -> Provenance {
        Provenance {
            digest: artifact.digest.to_string(),
            signer: match &artifact.trust {
                Trust::Trusted(name) => Some(name.clone()),
                Trust::Unsigned => None,
            },
            claims: artifact.claims.clone(),
        }
    }
}

// === impl Shown ===

impl Shown {
    /// All components, those of the file first.
    pub fn components(&self) -> Vec<Present> {
        let filed = self.file.components.iter().map(|(id, Filed { path, origin })| {
            let view = self.filed.iter().find(|view| view.name() == id);
            let status = view.map(|view| view.status());
            Present {
                id: id.clone(),
                reference: format!("file://{path}"),
                limit: 1,
                config: Vec::new(),
                annotations: Pairs::from([("origin".to_owned(), origin.word().to_owned())]),
                limits: None,
                origin: *origin,
                revision: 0,
                // Telemetry processors are in the pipeline's status.
                state: status.as_ref().map_or("telemetry".to_owned(), |status| status.state.clone()),
                reason: status.and_then(|status| status.reason),
                former: None,
                is_here: view.is_none_or(|view| view.is_present()),
                is_behind: false,
                provenance: None,
            }
        });
        let desired =
            self.desired.components.iter().filter(|(id, _)| !self.file.components.contains_key(*id));
        let commanded = desired.map(|(id, item)| {
            let running = self.running.get(id);
            let status = running.map(|running| running.view.status());
            let why = self.missing.get(id);
            let state = match (&status, why) {
                (Some(status), _) => status.state.clone(),
                (None, Some(_)) => "absent".to_owned(),
                (None, None) => "fetching".to_owned(),
            };
            Present {
                id: id.clone(),
                reference: running.map_or(&item.spec.reference, |running| &running.reference).clone(),
                limit: item.spec.limit,
                config: item.spec.config.clone(),
                annotations: item.spec.annotations.clone(),
                limits: item.spec.limits.clone(),
                origin: item.origin,
                revision: item.revision,
                state,
                reason: why.cloned().or_else(|| status.and_then(|status| status.reason)),
                former: self.desired.formers.get(id).map(|item| item.spec.reference.clone()),
                is_here: self.waiting.contains(id)
                    || running.is_some_and(|running| running.view.is_present()),
                is_behind: running.is_some_and(|running| running.is_behind),
                provenance: running.map(|running| Provenance::of(&running.artifact)),
            }
        });
        filed.chain(commanded).collect()
    }

    /// All labels.
    pub fn labels(&self) -> Pairs {
        self.desired.all_labels(&self.file)
    }

    /// How the hub is to see the components for wasmCloud; `None` while those of the lattice are not known yet.
    pub fn looks(&self) -> Option<BTreeMap<String, Look>> {
        let looks = self.views().map(|view| (view.name().to_owned(), view.look()));
        self.is_restored.then(|| looks.collect())
    }

    /// The views of all components for wasmCloud.
    pub fn views(&self) -> impl Iterator<Item = &Arc<View>> {
        self.filed.iter().chain(self.running.values().map(|running| &running.view))
    }

    /// Components that are to run and have no task, and what somebody should do about each.
    pub fn absences(&self) -> impl Iterator<Item = String> {
        let absent = self.missing.iter().filter(|(id, _)| !self.running.contains_key(*id));
        absent.map(|(id, why)| {
            let remedy = if self.waiting.contains(id) { "put that" } else { "mend that" };
            format!("component {id} does not run: {why}; {remedy}, it is tried again by itself")
        })
    }

    /// What somebody should do about a shared lattice.
    pub fn complaint(&self) -> Option<String> {
        let passed_over = &self.copy.as_ref()?.passed_over;
        let (entry, why) = passed_over.first()?;
        Some(format!(
            "{} entries of the shared lattice are passed over, {entry} because {why}; what was held of them stays until \
             somebody writes them anew",
            passed_over.len()
        ))
    }

    /// Links to components that are not the lattice's or not there.
    fn idle_links(&self) -> impl Iterator<Item = (Link, String)> {
        let Desired { components, providers, links, .. } = &*self.desired;
        links.values().filter_map(|Item { spec: link, .. }| {
            let id = match [&link.source_id, &link.target].map(|end| providers.contains_key(end)) {
                [true, false] => &link.target,
                [false, true] => &link.source_id,
                // Of these it is said elsewhere.
                _ => return None,
            };
            let why = match (self.file.components.contains_key(id), components.contains_key(id)) {
                (true, _) => {
                    format!("component {id} is the gateway's own: its links are in its [[component]]")
                }
                (false, false) => format!("there is no component {id} here"),
                (false, true) => return None,
            };
            Some((link.clone(), why))
        })
    }

    /// Everything, for an operator. Values of configurations included: who may use the local socket may read them.
    pub fn overview(&self) -> Overview {
        Overview {
            desired: Desired::clone(&self.desired),
            labels: self.labels(),
            components: self.components(),
            troubles: self.troubles.iter().cloned().chain(self.idle_links()).collect(),
            copy: self.copy.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::desired::{Change, Component, Provider, Spec};

    #[test]
    fn a_component_is_shown_with_its_configurations() {
        // Goal: what somebody gave a component can be read back. Method: one with two configurations.
        let spec = Component { config: vec!["small".into(), "SECRET_key".into()], ..Component::default() };
        let mut desired = Desired::default();
        desired.make(&Change::Put(Key::Component("press".into()), Spec::Component(spec)), 1, Origin::Site);
        let shown = Shown { desired: Arc::new(desired), ..Shown::default() };
        assert_eq!(shown.components()[0].config, ["small", "SECRET_key"]);
    }

    #[test]
    fn a_link_is_shown_with_why_its_component_does_not_use_it() {
        // Goal: a link that does nothing is seen. Method: links of a component of the lattice, of one of the file, of none, and
        // one without a provider.
        let link = |target: &str| Link { source_id: "mqtt".into(), target: target.into(), ..Link::default() };
        let links = ["press", "filed", "none"].map(link);
        let astray = Link { source_id: "press".into(), target: "filed".into(), ..Link::default() };
        let mut desired = Desired::default();
        let put = |link: &Link| Change::Put(Key::Link(link.key()), Spec::Link(link.clone()));
        let ends = [
            Change::Put(Key::Provider("mqtt".into()), Spec::Provider(Provider::default())),
            Change::Put(Key::Component("press".into()), Spec::Component(Component::default())),
        ];
        for change in links.iter().chain([&astray]).map(put).chain(ends) {
            desired.make(&change, 1, Origin::Lattice);
        }
        let filed = Filed { path: "/filed.wasm".into(), origin: Origin::LocalFile };
        let file =
            OfTheFile { components: BTreeMap::from([("filed".into(), filed)]), ..OfTheFile::default() };
        let shown = Shown { desired: Arc::new(desired), file: Arc::new(file), ..Shown::default() };
        let why = "component filed is the gateway's own: its links are in its [[component]]";
        assert_eq!(
            shown.overview().troubles,
            [(link("filed"), why.to_owned()), (link("none"), "there is no component none here".to_owned())]
        );
    }
}
