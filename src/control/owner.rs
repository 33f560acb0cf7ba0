//! The task that owns the desired state: it works commands off one by one, keeps them, and makes them come true.

mod asked;
mod copy;
mod posts;
mod probation;
mod shared;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, interval, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info, warn};

use super::apply::apply;
use super::artifact::Artifacts;
use super::bounds::{self, HISTORY_ROWS_MAX};
use super::budget::Budget;
use super::command::{Command, Event, Origin, Refusal, Scaled};
use super::desired::{Change, Component, Desired, Item, Link, OfTheFile};
use super::grants::Surroundings;
use super::plan::{Plan, troubles};
use super::probation::{LOOK_EVERY, former};
use super::shown::{Shown, Told};
use super::{pending, record};
use crate::artifact::obtain::Obtained;
use crate::artifact::registry;
use crate::platform::clock::{self, WallClock};
use crate::platform::log::chain;
use crate::supervise::{Crew, Member};
use crate::workload::{Damage, KeepError, KeeperHandle, Kit, Line, Save, View, Write};
use copy::Copy;

pub use copy::{Errand, Ways, Word};

/// Commands waiting: the lattice has so many under way at a time, the local socket one.
const REQUESTS_MAX: usize = 40;

/// What the task is made from.
#[derive(Debug)]
pub struct Setup {
    /// What the file says.
    pub file: OfTheFile,
    /// Views of its components for wasmCloud.
    pub filed: Vec<Arc<View>>,
    /// Where links may lead.
    pub surroundings: Surroundings,
    /// Where artifacts are.
    pub artifacts: Artifacts,
    /// Credentials of registries that the lattice tells.
    pub told: watch::Sender<registry::Told>,
    /// Where it is kept.
    pub keeper: KeeperHandle,
    /// What components are made with.
    pub kit: Kit,
    /// How long another version of a component is on probation.
    pub probation: Duration,
    /// For the history.
    pub clock: WallClock,
    /// Where events go; what does not fit is dropped.
    pub events: mpsc::Sender<Event>,
    /// The way to the hub's buckets, if the lattice is shared.
    pub shared: Option<Ways>,
}

#[derive(Debug)]
struct Request {
    command: Command,
    by: Origin,
    reply: oneshot::Sender<Result<String, Refusal>>,
}

/// How others command, and what they see. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ControlHandle {
    requests: mpsc::Sender<Request>,
    keeper: KeeperHandle,
    told: watch::Sender<registry::Told>,
    /// The present state.
    pub shown: watch::Receiver<Arc<Shown>>,
}

/// The task.
pub struct Control {
    setup: Setup,
    requests: mpsc::Receiver<Request>,
    shown: watch::Sender<Arc<Shown>>,
    file: Arc<OfTheFile>,
    filed: Arc<Vec<Arc<View>>>,
    desired: Arc<Desired>,
    /// Of what is desired.
    troubles: Arc<Vec<(Link, String)>>,
    /// Whether what runs may not be what is desired.
    is_due: bool,
    budget: Budget,
    /// Artifacts of what is desired, by reference.
    places: BTreeMap<String, Place>,
    crew: Crew,
    posts: BTreeMap<String, Post>,
    /// Of components whose task has ended and that are desired: what waits for them.
    ended: BTreeMap<String, Arc<View>>,
    /// Components that somebody waits for.
    asked: BTreeMap<String, Asked>,
    /// Components on probation: which of their tasks, and since when it works.
    probations: BTreeMap<String, (u64, Instant)>,
    /// Configurations that were taken away, and when.
    gone: VecDeque<(String, Instant)>,
    /// Components that cannot be made from what is desired.
    unplanned: BTreeMap<String, String>,
    searches: FuturesUnordered<BoxFuture<'static, Search>>,
    trials: FuturesUnordered<BoxFuture<'static, Trial>>,
    generation: u64,
    look_again: Option<Instant>,
    pause: Duration,
    /// Of the hub's word, if the lattice is shared.
    copy: Option<Copy>,
}

/// A reference, and what was found, unless nobody wanted it any more.
type Search = (String, Option<Result<Obtained, String>>);
/// A component, which of its tasks, and whether that works.
type Trial = (String, u64, Result<(), String>);

enum Place {
    /// The search ends with it.
    Searched {
        _stop: DropGuard,
    },
    Found(Arc<Obtained>),
    Missing(String),
}

/// A component that has a task.
struct Post {
    plan: Plan,
    member: Member,
    view: Arc<View>,
    artifact: Arc<Obtained>,
    generation: u64,
    /// Whether it worked when that was first known.
    first: Option<Result<(), String>>,
}

/// Who waits for a component, and what becomes of it if it does not work.
struct Asked {
    undo: Undo,
    by: Origin,
    tell: Vec<Scaled>,
}

enum Undo {
    /// It was desired like this before: it stays, and is tried for ever.
    Nothing,
    /// What was before is desired again.
    To(Option<Item<Component>>),
}

// === impl Post ===

impl Post {
    /// Whether it works, once that is known. What could not be opened may have been since.
    fn outcome(&self) -> Option<Result<(), String>> {
        match &self.first {
            Some(Err(_)) if self.view.works() => Some(Ok(())),
            first => first.clone(),
        }
    }
}

// === impl ControlHandle ===

impl ControlHandle {
    /// Gives a command. When it is answered with yes it is on flash, and [`ControlHandle::shown`] shows it.
    pub async fn command(&self, command: Command, by: Origin) -> Result<String, Refusal> {
        let (reply, answer) = oneshot::channel();
        let request = Request { command, by, reply };
        self.requests.send(request).await.map_err(|_| Refusal::Stopping)?;
        answer.await.map_err(|_| Refusal::Stopping)?
    }

    /// Takes credentials of registries, until the process ends; they are never written down.
    pub fn tell_credentials(&self, told: registry::Told) -> Result<(), Refusal> {
        let mut all = self.told.borrow().clone();
        all.extend(told);
        bounds::registries(&all)?;
        self.told.send_replace(all);
        Ok(())
    }

    /// Waits until what is on flash can be seen: whoever tells of it before tells of a gateway without anything.
    ///
    /// Cancel-safe: it only looks.
    pub async fn restored(&self) {
        let mut shown = self.shown.clone();
        // Without a task to restore it there is nothing to wait for.
        let _ = shown.wait_for(|shown| shown.is_restored).await;
    }

    /// What was wrong with `state.db` at the start.
    pub fn damage(&self) -> &Damage {
        self.keeper.damage()
    }

    /// The newest lines of the history, the newest first.
    pub async fn history(&self, newest: u32) -> Result<Vec<Told>, KeepError> {
        let lines = self.keeper.lines(newest.min(HISTORY_ROWS_MAX)).await?;
        let told = |line: Line| Told {
            revision: line.revision,
            at: line.at,
            origin: Origin::of_number(line.origin),
            text: line.text,
        };
        Ok(lines.into_iter().map(told).collect())
    }
}

// === impl Control ===

impl Control {
    /// The task, and what others have of it.
    pub fn new(mut setup: Setup) -> (Control, ControlHandle) {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let file = Arc::new(std::mem::take(&mut setup.file));
        let filed = Arc::new(std::mem::take(&mut setup.filed));
        let first = Shown { file: Arc::clone(&file), filed: Arc::clone(&filed), ..Shown::default() };
        let (shown, seen) = watch::channel(Arc::new(first));
        let handle = ControlHandle {
            requests: sender,
            keeper: setup.keeper.clone(),
            told: setup.told.clone(),
            shown: seen,
        };
        let copy = setup.shared.take().map(Copy::new);
        let control = Control {
            setup,
            requests,
            shown,
            file,
            filed,
            desired: Arc::default(),
            troubles: Arc::default(),
            is_due: true,
            budget: Budget::new(clock::boottime()),
            places: BTreeMap::new(),
            crew: Crew::new(),
            posts: BTreeMap::new(),
            ended: BTreeMap::new(),
            asked: BTreeMap::new(),
            probations: BTreeMap::new(),
            gone: VecDeque::new(),
            unplanned: BTreeMap::new(),
            searches: FuturesUnordered::new(),
            trials: FuturesUnordered::new(),
            generation: 0,
            look_again: None,
            pause: posts::PAUSE_MIN,
            copy,
        };
        (control, handle)
    }

    /// Restores what is on flash, and works until stopped. Components are ended with it.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        if let Err(error) = self.restore().await {
            // Readings do not wait for it. What is commanded from now on is kept if the database takes it.
            error!(reason = %chain(&error), "the desired state cannot be read; nothing of it runs until frond is started again");
        }
        self.setup.artifacts.sweep(self.needed()).await;
        self.look_again_within(posts::PAUSE_MAX);
        self.bring_about().await;
        let mut looks = interval(LOOK_EVERY);
        loop {
            let settle_at = self.settle_at();
            // Cancel-safe: what an arm received is worked off before anything else is looked at.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some((id, generation, outcome)) = self.trials.next() => self.settled(&id, generation, outcome),
                Some((reference, found)) = self.searches.next() => self.found(reference, found),
                () = sleep_until(self.look_again.unwrap_or_else(Instant::now)), if self.look_again.is_some() => {
                    self.look_again();
                }
                _ = looks.tick(), if !self.desired.formers.is_empty() => {
                    if let Some(pause) = self.look_at_probations().await {
                        looks.reset_after(pause);
                    }
                }
                () = self.setup.artifacts.reached() => self.look_again(),
                word = Copy::word(&mut self.copy) => self.hear(word).await,
                () = sleep_until(settle_at.unwrap_or_else(Instant::now)), if settle_at.is_some() => {
                    self.settle_soon().await;
                }
                request = self.requests.recv() => match request {
                    Some(request) => self.obey(request).await,
                    None => break,
                },
            }
            self.bring_about().await;
            self.tell().await;
        }
        self.stop_all().await;
        Ok(())
    }

    async fn restore(&mut self) -> Result<(), KeepError> {
        let rows = self.setup.keeper.rows().await?;
        let newest = self.setup.keeper.lines(1).await?.first().map_or(0, |line| line.revision);
        let kept = pending::sort(rows);
        let (desired, unread) = record::read(&kept.items, newest);
        if unread > 0 {
            warn!(
                rows = unread,
                "part of the desired state cannot be read: damaged, or of another version of frond"
            );
        }
        if !kept.items.is_empty() {
            info!(items = kept.items.len() - unread, revision = desired.revision, "desired state restored");
        }
        self.desired = Arc::new(desired);
        self.restore_copy(kept).await;
        self.troubles = Arc::new(troubles(&self.desired, &self.setup.surroundings));
        self.tell_of_damage(newest).await;
        Ok(())
    }

    /// The history says where it lacks something. One that begins after damage begins with that.
    async fn tell_of_damage(&mut self, newest: u64) {
        let text = match self.setup.keeper.damage() {
            Damage { aside: Some(aside), .. } if newest == 0 => format!(
                "state.db was damaged and is set aside as {}; what was put here, and what components kept, is lost",
                aside.path.display()
            ),
            Damage { has_lost_newest: true, .. } => {
                "state.db was damaged; changes between the line before and this one, and newest values of components, are lost"
                    .to_owned()
            }
            Damage { .. } => return,
        };
        // The status says it all the same.
        let _ = self.keep(&[], Origin::LocalFile, record::cut(text)).await;
    }

    async fn obey(&mut self, request: Request) {
        if self.copy.is_some() && request.command.entry().is_some() {
            return self.obey_shared(request).await;
        }
        let Request { command, by, reply } = request;
        let mut decision = apply(&self.desired, &self.file, &command);
        let sound = decision.work.as_ref().and_then(|work| self.sound(&work.id));
        let undo = match &decision.work {
            Some(work) if !decision.changes.is_empty() => {
                // Whatever it lacks at present: it was asked for, and not by mistake.
                Undo::To(self.desired.components.get(&work.id).cloned())
            }
            _ => Undo::Nothing,
        };
        decision.changes.extend(former(&self.desired, &decision.changes, sound.as_ref()));
        if !decision.changes.is_empty() {
            let kept = match self.budget.take(clock::boottime()) {
                true => self.keep(&decision.changes, by, record::line(&command)).await,
                false => Err(Refusal::TooFast),
            };
            if let Err(refusal) = kept {
                decision.answer = Err(refusal);
                decision.events.clear();
                decision.work = None;
            }
        }
        if self.is_due {
            self.publish();
        }
        // Whoever asked may have gone; it is on flash all the same.
        let _ = reply.send(decision.answer);
        decision.events.into_iter().for_each(|event| self.send(event));
        if let Some(work) = decision.work {
            if by == Origin::Site && work.limit > 0 && self.is_configured(&work.id) {
                self.take_anew(&work.reference).await;
            }
            self.expect(work, undo, by).await;
        }
    }

    /// Whether no configuration is missing that a component names: one that would be taken back for that is no wish.
    fn is_configured(&self, id: &str) -> bool {
        self.desired.components.get(id).is_some_and(|item| self.desired.merged(&item.spec.config).is_ok())
    }

    /// Whoever puts a component on site whose artifact was damaged takes what its source has now. A controller of the
    /// lattice asks again by itself, which is nobody's wish.
    async fn take_anew(&mut self, reference: &str) {
        let is_missing = matches!(self.places.get(reference), Some(Place::Missing(_)));
        if is_missing && self.setup.artifacts.give_up(reference).await {
            let text = format!("{reference} was damaged, and may have another content from now on");
            // If the history does not take it, the log has it.
            warn!(reference, "an artifact was damaged, and is taken anew from its source");
            let _ = self.keep(&[], Origin::Site, record::cut(text)).await;
        }
    }

    /// Writes changes, and what the history says of them; they count from then on.
    async fn keep(&mut self, changes: &[Change], by: Origin, text: String) -> Result<(), Refusal> {
        self.keep_with(changes, by, text, Vec::new()).await
    }

    /// As [`Control::keep`], with further rows in the same transaction.
    async fn keep_with(
        &mut self,
        changes: &[Change],
        by: Origin,
        text: String,
        further: Vec<Write>,
    ) -> Result<(), Refusal> {
        let revision = self.desired.revision + 1;
        let line = Line { revision, at: self.setup.clock.stamp().0, origin: by as u8, text };
        let writes =
            changes.iter().map(|change| record::write(change, revision, by)).chain(further).collect();
        let save = Save { writes, line, lines_max: HISTORY_ROWS_MAX };
        self.setup.keeper.save(save).await.map_err(|error| {
            error!(reason = %chain(&error), "a change of the desired state cannot be kept, and is refused");
            Refusal::NotKept(error.to_string())
        })?;
        let desired = Arc::make_mut(&mut self.desired);
        desired.revision = revision;
        changes.iter().for_each(|change| desired.make(change, revision, by));
        self.note_gone(changes);
        self.troubles = Arc::new(troubles(&self.desired, &self.setup.surroundings));
        self.is_due = true;
        Ok(())
    }

    fn send(&self, event: Event) {
        // Nobody is connected, or the lattice is flooded: the heartbeat says the same.
        let _ = self.setup.events.try_send(event);
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("desired", &self.desired).finish_non_exhaustive()
    }
}
