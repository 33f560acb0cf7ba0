//! The uplink's loop: what happened, what it means, what is done about it. The decisions are in the pure modules beside.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::doubt::{Doubt, Named, RIPE_AFTER};
use super::feed::{Feeds, Fetch};
use super::flight::Flight;
use super::floors::{Floors, ReadBack};
use super::lanes::{Class, Lanes};
use super::mode::{Facts, Lag, LinkFact, Mode, SLOW_ADVICE};
use super::status::Status;
use super::traffic::Hold;
use super::window::Window;
use super::{Answer, Settings, UplinkError};
use crate::lattice::{ApiError, LinkHandle};
use crate::outbox::{OutRow, Settled, SubjectKey, SubjectState};
use crate::platform::fault;
use crate::store::{Handle, Newest, StoreGone};

/// At the end, acknowledgements on their way are waited for this long: each one saves the next start a question.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// Acknowledgements taken in one turn of the loop.
const ACKS_PER_TURN: usize = 256;

/// How often the mode is looked at while rows are in flight.
const TICK: Duration = Duration::from_millis(500);

/// A connection and where its acknowledgements come in.
pub(super) struct Session {
    pub client: Client,
    pub inbox: String,
    began: Instant,
    acks: Subscriber,
}

/// What the loop waits for beside channels and time.
pub(super) enum Done {
    Page(Fetch, Result<Vec<OutRow>, StoreGone>),
    Settled(Result<(), StoreGone>),
    Subjects(Result<Vec<SubjectState>, StoreGone>),
    ReadBack(u64, Result<Vec<(u64, ReadBack)>, ApiError>),
}

pub(super) struct Drain {
    pub store: Handle,
    pub link: LinkHandle,
    pub settings: Settings,
    pub names: HashMap<SubjectKey, Named>,
    pub feeds: Feeds,
    pub lanes: Lanes,
    pub window: Window,
    pub flight: Flight,
    pub floors: Floors,
    pub holds: HashMap<SubjectKey, Hold>,
    pub status: Status,
    pub session: Option<Session>,
    /// Rows to settle with the next settlement, and their subjects.
    pub settled: (Vec<u64>, BTreeSet<SubjectKey>),
    /// A head belongs to a subject that has not been read back.
    pub unread_head: bool,
    /// The turn's bound ended the sending, nothing else.
    pub more: bool,
    settling: bool,
    pub naming: bool,
    pub name_again_at: Instant,
    pub up: Option<Instant>,
    pub doubt: Doubt,
    /// The rows in flight may be lost, or their acknowledgements.
    pub flight_in_doubt: bool,
    /// The newest rows when the subjects were first read back: up to there, found rows may be met.
    pub meeting: Option<Newest>,
    lag: Lag,
    pub jobs: FuturesUnordered<BoxFuture<'static, Done>>,
    shown: watch::Sender<Status>,
    busy: watch::Sender<bool>,
}

// === impl Drain ===

impl Drain {
    pub(super) fn new(
        store: Handle,
        link: LinkHandle,
        settings: Settings,
        shown: watch::Sender<Status>,
        busy: watch::Sender<bool>,
    ) -> Drain {
        let now = Instant::now();
        Drain {
            lanes: Lanes::new(settings.backlog_share_percent),
            window: Window::new(settings.inflight_bytes_max, now),
            store,
            link,
            settings,
            names: HashMap::new(),
            feeds: Feeds::default(),
            flight: Flight::default(),
            floors: Floors::default(),
            holds: HashMap::new(),
            status: Status::default(),
            session: None,
            settled: (Vec::new(), BTreeSet::new()),
            unread_head: false,
            more: false,
            settling: false,
            naming: false,
            name_again_at: now,
            up: None,
            doubt: Doubt::None,
            flight_in_doubt: false,
            meeting: None,
            lag: Lag::default(),
            jobs: FuturesUnordered::new(),
            shown,
            busy,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), UplinkError> {
        self.link.state.mark_changed();
        self.link.client.mark_changed();
        while !stop.is_cancelled() {
            self.turn(&stop).await?;
            self.send_what_may().await;
            self.start_jobs();
            self.show();
        }
        self.close().await
    }

    /// Waits for the next thing that happens and takes it in. Everything awaited here is cancel-safe: channels, time, and
    /// jobs that are kept.
    async fn turn(&mut self, stop: &CancellationToken) -> Result<(), UplinkError> {
        let wake = self.wake_at();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            changed = self.link.client.changed() => {
                changed.map_err(|_| UplinkError::LinkGone)?;
                self.take_client().await;
            }
            changed = self.link.state.changed() => {
                changed.map_err(|_| UplinkError::LinkGone)?;
                self.take_state();
            }
            Some(message) = next_ack(&mut self.session) => self.take_acks(message),
            Some(done) = self.jobs.next() => self.take_done(done)?,
            changed = self.store.newest.changed() => changed.map_err(|_| UplinkError::Store(StoreGone))?,
            () = sleep_until(wake) => self.take_time(),
        }
        Ok(())
    }

    async fn take_client(&mut self) {
        let client = self.link.client.borrow_and_update().clone();
        self.session = None;
        self.up = None;
        let Some(client) = client else { return };
        let inbox = client.new_inbox();
        match client.subscribe(format!("{inbox}.*")).await {
            Ok(acks) => self.session = Some(Session { client, inbox, acks, began: Instant::now() }),
            Err(error) => {
                debug!(%error, "no subscription for acknowledgements; waiting for a new connection")
            }
        }
        self.link.state.mark_changed();
    }

    fn take_state(&mut self) {
        let since = self.link.state.borrow_and_update().up_since();
        let Some(began) = self.session.as_ref().map(|session| session.began) else { return };
        if since == self.up {
            return;
        }
        self.up = since;
        if since.is_none() {
            return;
        }
        let now = Instant::now();
        self.window.restart(now);
        self.flight.stale();
        self.holds.clear();
        self.status.refusal = None;
        self.feeds.split(self.store.newest.borrow().data);
        // Names may be new, and what is in flight has to be asked for.
        let ripe = if self.flight.is_empty() { began } else { now } + RIPE_AFTER;
        self.ask_at(ripe.max(now));
        self.start_naming();
    }

    /// Takes an acknowledgement, and those that wait behind it.
    fn take_acks(&mut self, first: Message) {
        let mut next = Some(first);
        for taken in 1..=ACKS_PER_TURN {
            let Some(message) = next.take() else { return };
            let answer = Answer::read(&message);
            match message.subject.rsplit('.').next().and_then(|id| id.parse().ok()) {
                Some(id) => self.take_answer(id, answer),
                None => self.status.garbled_answers += 1,
            }
            if taken < ACKS_PER_TURN {
                next = next_ack(&mut self.session).now_or_never().flatten();
            }
        }
    }

    fn take_done(&mut self, done: Done) -> Result<(), UplinkError> {
        match done {
            Done::Page(fetch, rows) => self.take_page(fetch, rows?),
            Done::Settled(result) => {
                result?;
                self.settling = false;
            }
            Done::Subjects(subjects) => {
                self.naming = false;
                self.take_subjects(subjects?);
            }
            Done::ReadBack(time, result) => self.take_read_back(time, result),
        }
        Ok(())
    }

    fn may_send(&self) -> bool {
        self.up.is_some() && self.session.is_some() && self.doubt == Doubt::None
    }

    async fn send_what_may(&mut self) {
        self.unread_head = false;
        self.more = false;
        if self.may_send() {
            self.pump().await;
        }
        let waiting = self.feeds.head(Class::Alarm).is_some() || self.feeds.head(Class::Live).is_some();
        self.busy.send_if_modified(|busy| std::mem::replace(busy, waiting) != waiting);
    }

    fn start_jobs(&mut self) {
        if self.unread_head && self.doubt == Doubt::None && self.name_again_at <= Instant::now() {
            self.start_naming();
        }
        if self.may_send() {
            let newest = *self.store.newest.borrow_and_update();
            for class in Class::ALL {
                if let Some(fetch) = self.feeds.want(class, newest) {
                    let store = self.store.clone();
                    let rows =
                        async move { store.outputs(fetch.lane, fetch.after, super::feed::FETCH_BYTES).await };
                    self.jobs.push(rows.map(move |rows| Done::Page(fetch, rows)).boxed());
                }
            }
        }
        if !self.settling && (!self.settled.0.is_empty() || self.floors.are_due()) {
            let (ids, keys) = std::mem::take(&mut self.settled);
            let floors = self.floors.to_store(&Vec::from_iter(keys));
            let (store, settled) = (self.store.clone(), Settled { ids, floors });
            self.settling = true;
            let handed = async move {
                fault::point("uplink.before_settle");
                let outcome = store.settle(settled).await;
                fault::point("uplink.after_settle");
                Done::Settled(outcome)
            };
            self.jobs.push(handed.boxed());
        }
    }

    fn start_naming(&mut self) {
        if !self.naming {
            self.naming = true;
            let store = self.store.clone();
            self.jobs.push(async move { Done::Subjects(store.subjects().await) }.boxed());
        }
    }

    /// The next moment at which something may be due without anything happening.
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let asking = match self.doubt {
            Doubt::AskAt(at) if self.up.is_some() && !self.naming => Some(at),
            _ => None,
        };
        let doubting = match self.doubt {
            Doubt::None => self.flight.doubt_at(self.settings.ack_timeout, self.window.rtt()),
            _ => None,
        };
        let held = self.holds.values().filter_map(|hold| hold.wakes_after(now)).min();
        let tick = (!self.flight.is_empty()).then(|| now + TICK);
        let naming = (self.unread_head && !self.naming).then_some(self.name_again_at);
        let more = self.more.then_some(now);
        let wakes = [asking, doubting.filter(|_| self.up.is_some()), held, naming, more, tick];
        wakes.into_iter().flatten().min().unwrap_or_else(|| now + Duration::from_secs(60))
    }

    fn show(&mut self) {
        let now = Instant::now();
        let newest = *self.store.newest.borrow();
        // While rows are in doubt their age says nothing of the link as it is now.
        let oldest = self.flight.oldest_at().filter(|_| self.doubt == Doubt::None);
        let waiting = oldest.map(|at| now.duration_since(at));
        let facts = Facts {
            link: if self.up.is_some() { LinkFact::Up } else { LinkFact::Down },
            doubt: self.doubt != Doubt::None,
            refused: !self.holds.is_empty(),
            backlog: !self.feeds.is_exhausted(Class::Backlog, newest)
                || self.flight.has_class(Class::Backlog),
            latency: waiting.max(waiting.and(self.window.latency())),
        };
        let mode = Mode::of(facts, &mut self.lag, now);
        if mode != self.status.mode {
            let advice = (mode == Mode::Slow).then_some(SLOW_ADVICE);
            info!(from = %self.status.mode, to = %mode, advice, "uplink");
        }
        self.status.mode = mode;
        self.status.window_bytes = self.window.bytes();
        self.status.inflight_bytes = self.window.in_flight();
        self.status.inflight_rows = self.flight.len() as u64;
        self.status.ack_latency = self.window.latency();
        let status = &self.status;
        self.shown.send_if_modified(|shown| {
            let changed = shown != status;
            if changed {
                shown.clone_from(status);
            }
            changed
        });
    }

    /// Takes what is still coming, and hands over what is acknowledged.
    async fn close(mut self) -> Result<(), UplinkError> {
        let deadline = Instant::now() + CLOSE_PATIENCE;
        while self.up.is_some() && !self.flight.is_empty() {
            tokio::select! {
                biased;
                Some(message) = next_ack(&mut self.session) => self.take_acks(message),
                () = sleep_until(deadline) => break,
            }
        }
        // The floors of a settlement take the ones before it for granted.
        while self.settling {
            match self.jobs.next().await {
                Some(done) => self.take_done(done)?,
                None => break,
            }
        }
        let (ids, keys) = std::mem::take(&mut self.settled);
        let floors = self.floors.to_store(&Vec::from_iter(keys));
        self.store.settle(Settled { ids, floors }).await?;
        Ok(())
    }
}

/// The next acknowledgement; never, when there is no connection. Cancel-safe: a subscription gives what it has received.
async fn next_ack(session: &mut Option<Session>) -> Option<Message> {
    match session {
        Some(session) => session.acks.next().await,
        None => std::future::pending().await,
    }
}
