//! Who waits for a component, and what becomes of it when it does not work: told, and taken back.

use tracing::warn;

use super::{Asked, Control, Place, Undo, posts};
use crate::control::command::{Event, Origin, Scaled};
use crate::control::desired::{Change, Component, Item, Key, Spec};
use crate::control::probation::former;
use crate::control::record;

/// Commands about one component that wait for it to run. Whoever sends more has stopped listening to the first.
const TELL_MAX: usize = 8;

impl Control {
    /// What is desired of a component now, unless it is known not to work.
    pub(super) fn sound(&self, id: &str) -> Option<Item<Component>> {
        let works = self.posts.get(id).is_some_and(|post| !matches!(post.outcome(), Some(Err(_))));
        self.desired.components.get(id).filter(|_| works).cloned()
    }

    /// Notes who is to be told of a component.
    pub(super) async fn expect(&mut self, work: Scaled, undo: Undo, by: Origin) {
        if work.limit == 0 {
            self.asked.remove(&work.id);
            self.bring_about().await;
            return self.send(Event::ComponentScaled(work));
        }
        // Asked for again is tried again: neither a file that was missing nor a failure is held against it.
        self.pause = posts::PAUSE_MIN;
        if let Some(Place::Missing(_)) = self.places.get(&work.reference) {
            self.places.remove(&work.reference);
            self.is_due = true;
        }
        if let Some(post) = self.posts.get(&work.id)
            && matches!(post.outcome(), Some(Err(_)))
        {
            self.stop(&work.id).await;
            // Its file may have been replaced since.
            self.places.remove(&work.reference);
            self.is_due = true;
        }
        let asked =
            self.asked.entry(work.id.clone()).or_insert(Asked { undo: Undo::Nothing, by, tell: Vec::new() });
        if matches!(asked.undo, Undo::Nothing) {
            asked.undo = undo;
        }
        if asked.tell.len() == TELL_MAX {
            asked.tell.remove(0);
        }
        asked.tell.push(work);
    }

    /// Tells those who wait for components that have shown whether they work; what does not is taken back.
    pub(super) async fn tell(&mut self) {
        let waiting: Vec<String> = self.asked.keys().cloned().collect();
        for id in waiting {
            let Some(verdict) = self.verdict(&id) else { continue };
            let Some(asked) = self.asked.remove(&id) else { continue };
            match verdict {
                Ok(()) => {
                    let claims = self.posts.get(&id).and_then(|post| post.artifact.claims.clone());
                    asked.tell.into_iter().for_each(|scaled| {
                        self.send(Event::ComponentScaled(Scaled { claims: claims.clone(), ..scaled }));
                    });
                }
                Err(why) => {
                    if let Undo::To(before) = asked.undo {
                        self.take_back(&id, before, asked.by, &why).await;
                    }
                    for scaled in asked.tell {
                        self.send(Event::ComponentScaleFailed { scaled, error: why.clone() });
                    }
                }
            }
        }
    }

    /// Whether a component works as it is desired, if that is known.
    pub(super) fn verdict(&self, id: &str) -> Option<Result<(), String>> {
        if self.is_behind() {
            return None;
        }
        if let Some(why) = self.unplanned.get(id) {
            return Some(if self.may_wait(id) { Ok(()) } else { Err(why.clone()) });
        }
        self.posts.get(id).filter(|_| self.is_found(id))?.outcome()
    }

    /// A component does not work as asked: what was before is desired again.
    pub(super) async fn take_back(
        &mut self,
        id: &str,
        before: Option<Item<Component>>,
        by: Origin,
        why: &str,
    ) {
        warn!(
            component = id,
            why, "a component does not work as asked; what was before, if anything, is desired again"
        );
        let key = Key::Component(id.to_owned());
        let (change, by) = match before {
            Some(item) => (Change::Put(key, Spec::Component(item.spec)), item.origin),
            None => (Change::Remove(key), by),
        };
        let text = record::cut(format!("component {id} is taken back: {why}"));
        let mut changes = vec![change];
        changes.extend(former(&self.desired, &changes, None));
        // If it cannot be kept, what is desired stays, and is tried again for ever.
        if self.keep(&changes, by, text).await.is_ok() {
            self.bring_about().await;
        }
    }
}
