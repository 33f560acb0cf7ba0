//! Components of the lattice as tasks: what can run of what is desired, started and stopped until it does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tokio::time::Instant;
use tracing::warn;

use super::copy::Copy;
use super::{Control, Place, Post, Search};
use crate::config;
use crate::control::bounds::COMPONENTS_MAX;
use crate::control::plan::{Plan, plan};
use crate::control::reconcile::{Step, reconcile};
use crate::control::shown::{Running, Shown};
use crate::platform::log::chain;
use crate::workload::Workload;

/// Time that a component has to end. It gives way every 10 ms; what lasts is a call into the keeper.
const GRACE: Duration = Duration::from_secs(2);
/// First and longest pause before artifacts are looked for again: somebody has to mend something.
pub(super) const PAUSE_MIN: Duration = Duration::from_secs(30);
const PAUSE_MAX: Duration = Duration::from_secs(600);

impl Control {
    /// Goes from what runs to what is desired, if there is anything to do.
    pub(super) async fn bring_about(&mut self) {
        if !std::mem::take(&mut self.is_due) {
            return;
        }
        let wanted = self.wanted();
        let actual = self.posts.iter().map(|(id, post)| (id.clone(), post.plan.clone())).collect();
        for step in reconcile(&wanted, &actual) {
            match step {
                Step::Stop(id) => self.stop(&id).await,
                Step::Start(id, plan) => self.start(id, plan),
            }
        }
        self.publish();
    }

    /// What can run of what is desired. What cannot, for want of its artifact or its configuration, goes on as it was.
    fn wanted(&mut self) -> BTreeMap<String, Plan> {
        let room = COMPONENTS_MAX.saturating_sub(self.file.workloads);
        let ours = self.desired.components.iter().filter(|(id, _)| !self.file.components.contains_key(*id));
        let mut wanted = BTreeMap::new();
        if self.is_behind() {
            let is_desired = |id: &String| self.desired.components.contains_key(id);
            let posts = self.posts.iter().filter(|(id, _)| is_desired(id));
            return posts.map(|(id, post)| (id.clone(), post.plan.clone())).collect();
        }
        self.unplanned.clear();
        for (id, item) in ours.take(room) {
            let reference = &item.spec.reference;
            let planned = match self.places.get(reference) {
                Some(Place::Found(path)) => {
                    plan(&self.desired, &self.setup.surroundings, id, &item.spec, path.clone())
                }
                Some(Place::Missing(why)) => Err(why.clone()),
                Some(Place::Searched) => {
                    wanted.extend(self.posts.get(id).map(|post| (id.clone(), post.plan.clone())));
                    continue;
                }
                None => {
                    self.places.insert(reference.clone(), Place::Searched);
                    self.searches.push(self.search(id.clone(), reference.clone()));
                    wanted.extend(self.posts.get(id).map(|post| (id.clone(), post.plan.clone())));
                    continue;
                }
            };
            match planned {
                Ok(plan) => drop(wanted.insert(id.clone(), plan)),
                Err(why) => {
                    self.unplanned.insert(id.clone(), why);
                    wanted.extend(self.posts.get(id).map(|post| (id.clone(), post.plan.clone())));
                }
            }
        }
        let desired = &self.desired.components;
        self.places.retain(|reference, _| desired.values().any(|item| item.spec.reference == *reference));
        wanted
    }

    fn start(&mut self, id: String, plan: Plan) {
        let (workload, view) = Workload::new(plan.workload.clone(), self.setup.kit.clone());
        let view = Arc::new(view);
        self.generation += 1;
        let generation = self.generation;
        let member = self.crew.start(&format!("component {id}"), |stop| async move {
            // Its error is the one that cannot be.
            let Ok(()) = workload.run(stop).await;
        });
        let (settled, name) = (view.settled(), id.clone());
        self.trials.push(Box::pin(async move { (name, generation, settled.await) }));
        self.posts.insert(id, Post { plan, member, view, generation, outcome: None });
    }

    pub(super) async fn stop(&mut self, id: &str) {
        if let Some(post) = self.posts.remove(id) {
            post.member.stop(GRACE).await;
        }
    }

    /// Ends all of them.
    pub(super) async fn stop_all(&mut self) {
        let posts = std::mem::take(&mut self.posts);
        join_all(posts.into_values().map(|post| post.member.stop(GRACE))).await;
    }

    /// Finds an artifact and prepares it, while whatever it will replace goes on.
    fn search(&self, id: String, reference: String) -> BoxFuture<'static, Search> {
        let (artifacts, opener) = (self.setup.artifacts.clone(), self.setup.kit.opener.clone());
        Box::pin(async move {
            let found = async {
                let path = artifacts.find(&reference).await.map_err(|error| error.to_string())?;
                let component = config::Component::of(id, path.clone());
                opener.prepare(component).await.map_err(|error| chain(&error).to_string())?;
                Ok(path)
            };
            let found = found.await;
            (reference, found)
        })
    }

    pub(super) fn found(&mut self, reference: String, found: Result<PathBuf, String>) {
        // It may not be wanted any more.
        let Some(place) = self.places.get_mut(&reference) else { return };
        self.is_due = true;
        *place = match found {
            Ok(path) => Place::Found(path),
            Err(why) => {
                warn!(why, "a component's artifact is of no use");
                self.look_again.get_or_insert(Instant::now() + self.pause);
                self.pause = (2 * self.pause).min(PAUSE_MAX);
                Place::Missing(why)
            }
        };
    }

    pub(super) fn settled(&mut self, id: &str, generation: u64, outcome: Result<(), String>) {
        if let Some(post) = self.posts.get_mut(id).filter(|post| post.generation == generation) {
            post.outcome = Some(outcome);
        }
    }

    pub(super) fn publish(&self) {
        let running = self.posts.iter().map(|(id, post)| {
            (id.clone(), Running { reference: post.plan.reference.clone(), view: Arc::clone(&post.view) })
        });
        let mut missing = self.unplanned.clone();
        missing.retain(|id, _| !self.posts.contains_key(id));
        self.shown.send_replace(Arc::new(Shown {
            is_restored: true,
            desired: Arc::clone(&self.desired),
            file: Arc::clone(&self.file),
            running: running.collect(),
            filed: Arc::clone(&self.filed),
            missing,
            troubles: Arc::clone(&self.troubles),
            copy: self.copy.as_ref().map(Copy::shown),
        }));
    }
}
