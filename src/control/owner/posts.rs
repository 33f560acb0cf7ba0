//! Components of the lattice as tasks: what can run of what is desired, started and stopped until it does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::copy::Copy;
use super::{Control, Place, Post, Search, Undo};
use crate::artifact::obtain::Obtained;
use crate::config;
use crate::control::bounds::COMPONENTS_MAX;
use crate::control::desired::{Change, Key};
use crate::control::plan::{Plan, plan};
use crate::control::reconcile::{Step, reconcile};
use crate::control::shown::{Running, Shown};
use crate::platform::log::chain;
use crate::workload::Workload;

/// Time that a component has to end. It gives way every 10 ms; what lasts is a call into the keeper.
const GRACE: Duration = Duration::from_secs(2);
/// First and longest pause before artifacts are looked for again: somebody has to mend something.
pub(super) const PAUSE_MIN: Duration = Duration::from_secs(30);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(600);
/// How long it is remembered that a configuration was there: wadm asks for it again within a second.
const GONE: Duration = Duration::from_secs(60);
/// Configurations that are remembered so: an application's, at 256 B.
const GONE_MAX: usize = 32;

impl Control {
    /// Goes from what runs to what is desired, if there is anything to do.
    pub(super) async fn bring_about(&mut self) {
        if !std::mem::take(&mut self.is_due) {
            return;
        }
        let (wanted, mut found) = self.wanted();
        let actual = self.posts.iter().map(|(id, post)| (id.clone(), post.plan.clone())).collect();
        for step in reconcile(&wanted, &actual) {
            match step {
                Step::Stop(id) => self.stop(&id).await,
                Step::Start(id, plan) => {
                    // What goes on as it was is not started: whatever is has just been found.
                    if let Some(artifact) = found.remove(&id) {
                        self.start(id, plan, artifact);
                    }
                }
            }
        }
        self.bury();
        self.publish();
    }

    /// What can run of what is desired. What cannot, for want of its artifact or its configuration, goes on as it was.
    fn wanted(&mut self) -> (BTreeMap<String, Plan>, BTreeMap<String, Arc<Obtained>>) {
        let room = COMPONENTS_MAX.saturating_sub(self.file.workloads);
        let ours = self.desired.components.iter().filter(|(id, _)| !self.file.components.contains_key(*id));
        let (mut wanted, mut found) = (BTreeMap::new(), BTreeMap::new());
        if self.is_behind() {
            let is_desired = |id: &String| self.desired.components.contains_key(id);
            let posts = self.posts.iter().filter(|(id, _)| is_desired(id));
            let as_it_is = posts.map(|(id, post)| (id.clone(), post.plan.clone())).collect();
            return (as_it_is, found);
        }
        self.unplanned.clear();
        for (id, item) in ours.take(room) {
            let reference = &item.spec.reference;
            let planned = match self.places.get(reference) {
                Some(Place::Found(artifact)) => {
                    let planned = plan(&self.desired, &self.setup.surroundings, id, &item.spec, artifact);
                    planned.map(|plan| (plan, Arc::clone(artifact)))
                }
                Some(Place::Missing(why)) => Err(why.clone()),
                Some(Place::Searched { .. }) => {
                    wanted.extend(self.posts.get(id).map(|post| (id.clone(), post.plan.clone())));
                    continue;
                }
                None => {
                    let stop = CancellationToken::new();
                    self.searches.push(self.search(id.clone(), reference.clone(), stop.clone()));
                    self.places.insert(reference.clone(), Place::Searched { _stop: stop.drop_guard() });
                    wanted.extend(self.posts.get(id).map(|post| (id.clone(), post.plan.clone())));
                    continue;
                }
            };
            match planned {
                Ok((plan, artifact)) => {
                    found.insert(id.clone(), artifact);
                    wanted.insert(id.clone(), plan);
                }
                Err(why) => {
                    self.unplanned.insert(id.clone(), why);
                    wanted.extend(self.posts.get(id).map(|post| (id.clone(), post.plan.clone())));
                }
            }
        }
        let desired = &self.desired.components;
        self.places.retain(|reference, _| desired.values().any(|item| item.spec.reference == *reference));
        (wanted, found)
    }

    /// References whose artifacts must stay: of what is desired, of what would be desired again, of what runs.
    pub(super) fn needed(&self) -> BTreeSet<String> {
        let desired = self.desired.components.values().map(|item| &item.spec.reference);
        let before = self.asked.values().filter_map(|asked| match &asked.undo {
            Undo::To(Some(item)) => Some(&item.spec.reference),
            Undo::To(None) | Undo::Nothing => None,
        });
        let running = self.posts.values().map(|post| &post.plan.reference);
        let former = self.desired.formers.values().map(|item| &item.spec.reference);
        desired.chain(before).chain(former).chain(running).cloned().collect()
    }

    /// Looks for artifacts again: those that were not to be had, and those of components that cannot be opened, which may
    /// have been damaged or replaced since.
    pub(super) fn look_again(&mut self) {
        self.look_again = Some(Instant::now() + PAUSE_MAX);
        self.is_due = true;
        let posts = &self.posts;
        let absent = |reference: &String| {
            let mut posts = posts.values().filter(|post| post.plan.reference == *reference);
            posts.any(|post| !post.view.is_present())
        };
        self.places.retain(|reference, place| match place {
            Place::Missing(_) => false,
            Place::Found(_) => !absent(reference),
            Place::Searched { .. } => true,
        });
    }

    fn start(&mut self, id: String, plan: Plan, artifact: Arc<Obtained>) {
        let (workload, view) = Workload::new(plan.workload.clone(), self.setup.kit.clone());
        let view = Arc::new(view);
        if let Some(former) = self.ended.remove(&id) {
            view.inherit(&former);
        }
        self.generation += 1;
        let generation = self.generation;
        let member = self.crew.start(&format!("component {id}"), |stop| async move {
            // Its error is the one that cannot be.
            let Ok(()) = workload.run(stop).await;
        });
        let (settled, name) = (view.settled(), id.clone());
        self.trials.push(Box::pin(async move { (name, generation, settled.await) }));
        self.posts.insert(id, Post { plan, member, view, artifact, generation, first: None });
    }

    pub(super) async fn stop(&mut self, id: &str) {
        if let Some(post) = self.posts.remove(id) {
            post.member.stop(GRACE).await;
            self.ended.insert(id.to_owned(), post.view);
        }
    }

    /// Lets go of what waits for components that nobody wants any more.
    fn bury(&mut self) {
        let desired = &self.desired.components;
        for (component, view) in self.ended.extract_if(.., |id, _| !desired.contains_key(id)) {
            if view.waiting() > 0 {
                warn!(
                    component,
                    messages = view.waiting(),
                    "a component is gone, and messages that waited for it with it"
                );
            }
        }
    }

    /// Ends all of them.
    pub(super) async fn stop_all(&mut self) {
        let posts = std::mem::take(&mut self.posts);
        join_all(posts.into_values().map(|post| post.member.stop(GRACE))).await;
    }

    /// Finds an artifact and prepares it, while whatever it will replace goes on.
    fn search(&self, id: String, reference: String, stop: CancellationToken) -> BoxFuture<'static, Search> {
        let (searcher, opener) =
            (self.setup.artifacts.searcher(self.needed()), self.setup.kit.opener.clone());
        Box::pin(async move {
            let find = async {
                let artifact = searcher.find(&reference).await?;
                let mut component = config::Component::of(id, artifact.path.clone());
                component.digest = Some(artifact.digest.to_string());
                opener.prepare(component).await.map_err(|error| chain(&error).to_string())?;
                Ok(artifact)
            };
            // Cancel-safe: what was fetched is on flash, what was compiled in the cache.
            let found = stop.run_until_cancelled(find).await;
            (reference, found)
        })
    }

    pub(super) fn found(&mut self, reference: String, found: Option<Result<Obtained, String>>) {
        // It may not be wanted any more.
        let Some(found) = found.filter(|_| self.places.contains_key(&reference)) else { return };
        self.is_due = true;
        let place = match found {
            Ok(artifact) => Place::Found(Arc::new(artifact)),
            Err(why) => {
                warn!(why, "a component's artifact is of no use");
                self.look_again_within(self.pause);
                self.pause = (2 * self.pause).min(PAUSE_MAX);
                Place::Missing(why)
            }
        };
        self.places.insert(reference, place);
    }

    /// Looks for artifacts again after this time, or sooner if that was said before.
    pub(super) fn look_again_within(&mut self, pause: Duration) {
        let then = Instant::now() + pause;
        self.look_again = Some(self.look_again.map_or(then, |before| before.min(then)));
    }

    pub(super) fn settled(&mut self, id: &str, generation: u64, outcome: Result<(), String>) {
        if let Some(post) = self.posts.get_mut(id).filter(|post| post.generation == generation) {
            let failed = outcome.is_err();
            post.first = Some(outcome);
            if failed {
                self.look_again_within(PAUSE_MIN);
            }
        }
    }

    /// Remembers for a while which configurations were there.
    pub(super) fn note_gone(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Remove(Key::Config(name)) = change {
                self.gone.truncate(GONE_MAX - 1);
                self.gone.push_front((name.clone(), Instant::now()));
            }
        }
    }

    /// Whether the artifact that is desired of a component is here.
    pub(super) fn is_found(&self, id: &str) -> bool {
        let place = self.desired.components.get(id).and_then(|item| self.places.get(&item.spec.reference));
        matches!(place, Some(Place::Found(_)))
    }

    /// Whether nothing but configuration is missing for a component to begin.
    fn waits(&self, id: &str) -> bool {
        let item = self.desired.components.get(id);
        let is_incomplete = item.is_some_and(|item| self.desired.merged(&item.spec.config).is_err());
        is_incomplete && self.is_found(id) && !self.posts.contains_key(id)
    }

    /// Whether that is as it was, or no mistake of whoever asks: wadm takes a configuration away with what an application was
    /// before, asks for the component with the same name, and gives it back when it is told. A name that never was is a slip.
    pub(super) fn may_wait(&self, id: &str) -> bool {
        let was_there = |name: &String| {
            let is_it = |(gone, at): &(String, Instant)| gone == name && at.elapsed() < GONE;
            self.desired.configs.contains_key(name) || self.gone.iter().any(is_it)
        };
        let Some(item) = self.desired.components.get(id) else { return false };
        let is_as_before = self.asked.get(id).is_some_and(|asked| matches!(asked.undo, Undo::Nothing));
        self.waits(id) && (is_as_before || item.spec.config.iter().all(was_there))
    }

    pub(super) fn publish(&self) {
        let running = self.posts.iter().map(|(id, post)| {
            let (view, artifact) = (Arc::clone(&post.view), Arc::clone(&post.artifact));
            let is_behind = self.is_due || self.unplanned.contains_key(id) || !self.is_found(id);
            (id.clone(), Running { reference: post.plan.reference.clone(), view, artifact, is_behind })
        });
        let waiting = self.unplanned.keys().filter(|id| self.waits(id)).cloned().collect();
        self.shown.send_replace(Arc::new(Shown {
            is_restored: true,
            waiting,
            desired: Arc::clone(&self.desired),
            file: Arc::clone(&self.file),
            running: running.collect(),
            filed: Arc::clone(&self.filed),
            missing: self.unplanned.clone(),
            troubles: Arc::clone(&self.troubles),
            copy: self.copy.as_ref().map(Copy::shown),
        }));
    }
}
