//! Looks at components that are on probation, and ends it either way.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Control, Place, Undo};
use crate::control::command::{Event, Scaled};
use crate::control::desired::{Change, Item, Key, Spec};
use crate::control::probation::{Verdict, judge};
use crate::control::record;

/// Until what could not be kept is tried again: a database that takes nothing is told of once in a while.
const AGAIN: Duration = Duration::from_secs(30);

impl Control {
    /// Ends what can be ended. Returns how long there is nothing to look at, if longer than usual.
    pub(super) async fn look_at_probations(&mut self) -> Option<Duration> {
        let ids: Vec<String> = self.desired.formers.keys().cloned().collect();
        self.probations.retain(|id, _| self.desired.formers.contains_key(id));
        for id in ids {
            let is_kept = match self.probation_verdict(&id) {
                Verdict::Wait => true,
                Verdict::Passed => {
                    info!(component = id, "the new version of a component has passed its probation");
                    self.pass(&id).await
                }
                Verdict::Failed(why) => self.bring_back(&id, &why).await,
            };
            if !is_kept {
                return Some(AGAIN);
            }
        }
        None
    }

    fn probation_verdict(&mut self, id: &str) -> Verdict {
        let is_wanted = |reference: &String| {
            self.desired.components.get(id).is_some_and(|item| item.spec.reference == *reference)
        };
        // Whoever asked for it is told first; and what runs may still be the version before.
        let post = self.posts.get(id).filter(|post| is_wanted(&post.plan.reference));
        if self.asked.contains_key(id) {
            return Verdict::Wait;
        }
        let Some(post) = post else { return self.is_lost(id).map_or(Verdict::Wait, Verdict::Failed) };
        match post.outcome() {
            None => Verdict::Wait,
            Some(Err(why)) => Verdict::Failed(why),
            Some(Ok(())) => {
                let now = Instant::now();
                let (generation, since) =
                    self.probations.entry(id.to_owned()).or_insert((post.generation, now));
                if *generation != post.generation {
                    (*generation, *since) = (post.generation, now);
                }
                judge(&post.view.status(), since.elapsed(), self.setup.probation)
            }
        }
    }

    /// Why the artifact of a component that has no task is not to be had: after a restart nothing else would run meanwhile.
    fn is_lost(&self, id: &str) -> Option<String> {
        let item = self.desired.components.get(id).filter(|_| !self.posts.contains_key(id))?;
        match self.places.get(&item.spec.reference) {
            Some(Place::Missing(why)) => Some(why.clone()),
            _ => None,
        }
    }

    async fn pass(&mut self, id: &str) -> bool {
        let Some(item) = self.desired.components.get(id) else { return true };
        let (by, text) = (item.origin, format!("component {id} has passed its probation"));
        self.keep(&[Change::Remove(Key::Former(id.to_owned()))], by, text).await.is_ok()
    }

    async fn bring_back(&mut self, id: &str, why: &str) -> bool {
        let Some(Item { spec: former, origin, .. }) = self.desired.formers.get(id).cloned() else {
            return true;
        };
        let Some(failed) = self.desired.components.get(id).map(|item| item.spec.clone()) else { return true };
        warn!(
            component = id,
            why, "the new version of a component has failed its probation; the one before is back"
        );
        let changes = [
            Change::Put(Key::Component(id.to_owned()), Spec::Component(former.clone())),
            Change::Remove(Key::Former(id.to_owned())),
        ];
        let text = record::cut(format!("component {id} has failed its probation and is taken back: {why}"));
        let is_kept = self.keep(&changes, origin, text).await.is_ok();
        if is_kept {
            self.bring_about().await;
            self.send(Event::ComponentScaleFailed { scaled: Scaled::of(id, &failed), error: why.to_owned() });
            self.expect(Scaled::of(id, &former), Undo::Nothing, origin).await;
        }
        is_kept
    }
}
