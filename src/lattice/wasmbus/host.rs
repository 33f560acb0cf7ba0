//! The task that serves the protocol on the link's connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Message};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval_at, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::answer::{Answer, Desk};
use super::envelope::failure;
use super::event::{Health, Notice, Stamp};
use super::groups::Groups;
use super::subject::Auctions;
use super::{linkdef, missing};
use crate::control::{ControlHandle, Event, Shown};
use crate::lattice::LinkHandle;
use crate::platform::clock::{self, WallClock};
use crate::workload::rate::Rate;

/// Requests under way at a time, each with its payload: 8 MiB of the largest.
pub const REQUESTS_MAX: usize = 32;
/// Requests taken in a second, and as many at once. wadm asks some dozens for an application.
pub const RATE: u32 = 500;
/// Largest request: a configuration of 64 KiB, and what JSON makes of it.
pub const REQUEST_BYTES_MAX: usize = 256 << 10;
/// Events and answers that wait for the connection to take them.
const OUTGOING_MAX: usize = 64;
/// Between two attempts to subscribe on a connection that refuses it.
pub(super) const AGAIN: Duration = Duration::from_secs(5);
/// Longest that a farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// How the host presents itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// First tokens of control subjects.
    pub prefix: String,
    /// Name of the lattice.
    pub lattice: String,
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// Whether it bids.
    pub auctions: Auctions,
    /// For people.
    pub friendly_name: String,
    /// Frond's version.
    pub version: &'static str,
    /// Where its connection goes.
    pub url: Option<String>,
    /// The hub's JetStream domain.
    pub js_domain: Option<String>,
}

/// Why the task ended.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum HostError {
    #[error("asked over the lattice to stop; the service manager starts frond again")]
    Stopped,
}

/// What happened since the start.
#[derive(Debug, Default)]
pub struct Account {
    /// Requests taken.
    pub requests: AtomicU64,
    /// Requests dropped because there were too many.
    pub dropped: AtomicU64,
    /// Events and heartbeats sent.
    pub events: AtomicU64,
    /// Those that were not, for want of a connection or because too many waited.
    pub events_dropped: AtomicU64,
}

/// How the host stands, for the status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its public key.
    pub host: String,
    /// The lattice.
    pub lattice: String,
    /// Requests taken.
    pub requests: u64,
    /// Requests dropped because there were too many.
    pub dropped: u64,
    /// Events and heartbeats sent.
    pub events: u64,
    /// Those that were not, for want of a connection or because too many waited.
    pub events_dropped: u64,
}

/// The task.
#[derive(Debug)]
pub struct Host {
    pub(super) desk: Arc<Desk>,
    link: LinkHandle,
    events: mpsc::Receiver<Event>,
    clock: WallClock,
    account: Arc<Account>,
    random: SystemRandom,
    rate: Rate,
    /// Whether it answers for the lattice.
    pub(super) joined: watch::Receiver<bool>,
}

/// Why a connection is no longer served.
#[derive(Debug, PartialEq, Eq)]
enum Over {
    /// There is another, or none.
    Gone,
    /// The process ends.
    Stopping,
    /// Somebody asked for it.
    Asked,
}

/// How long there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Until there is another connection.
    Endless,
    /// Until then, or until the same one is tried again.
    Short,
}

/// What a request leaves to be done.
#[derive(Debug, PartialEq, Eq)]
enum Served {
    Done,
    Stop,
}

/// Work of one connection; it goes with it.
struct Session {
    client: Client,
    under_way: FuturesUnordered<BoxFuture<'static, Served>>,
    outgoing: FuturesUnordered<BoxFuture<'static, ()>>,
}

// === impl Host ===

impl Host {
    /// The task, and what it counts.
    pub fn new(
        (settings, groups): (Settings, Groups),
        id: String,
        control: ControlHandle,
        link: LinkHandle,
        events: mpsc::Receiver<Event>,
        clock: WallClock,
    ) -> (Host, Arc<Account>) {
        let account = Arc::new(Account::default());
        let (joined, reader) = match groups {
            Groups::Own => (watch::channel(true).1, None),
            Groups::Shared { joined, reader } => (joined, Some(reader)),
        };
        let desk = Desk { settings, id, control, started: clock::boottime(), reader };
        let host = Host {
            desk: Arc::new(desk),
            link,
            events,
            clock,
            account: Arc::clone(&account),
            random: SystemRandom::new(),
            rate: Rate::new(RATE, clock::boottime()),
            joined,
        };
        (host, account)
    }

    /// Serves whatever connection there is, until `stop`. Ends by itself only when it is asked to over the lattice.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), HostError> {
        let Desk { settings, id, .. } = &*self.desk;
        info!(host = id, lattice = settings.lattice, "host of a lattice");
        if stop.run_until_cancelled(self.desk.control.restored()).await.is_none() {
            return Ok(());
        }
        loop {
            let client = self.link.client.borrow_and_update().clone();
            let over = match client {
                Some(client) => self.serve(client, &stop).await,
                None => self.idle(&stop, Patience::Endless).await,
            };
            match over {
                Over::Gone => {}
                Over::Stopping => return Ok(()),
                Over::Asked => return Err(HostError::Stopped),
            }
        }
    }

    /// Without a connection, or with one that is of no use: what is told is told to nobody, and not kept for later.
    async fn idle(&mut self, stop: &CancellationToken, patience: Patience) -> Over {
        let until = Instant::now() + AGAIN;
        loop {
            // Cancel-safe: an event that was received is counted before anything else is looked at.
            tokio::select! {
                biased;
                () = stop.cancelled() => return Over::Stopping,
                changed = self.link.client.changed() => return match changed {
                    Ok(()) => Over::Gone,
                    Err(_) => stopped(stop).await,
                },
                () = sleep_until(until), if patience == Patience::Short => return Over::Gone,
                event = self.events.recv() => match event {
                    Some(_) => count(&self.account.events_dropped),
                    None => return stopped(stop).await,
                },
            }
        }
    }

    async fn serve(&mut self, client: Client, stop: &CancellationToken) -> Over {
        let is_joined = *self.joined.borrow_and_update();
        let address = self.desk.address();
        let grouped = if is_joined { address.grouped() } else { Vec::new() };
        let subscribed = async {
            let requests = self.subscribe(&client, address.plain(self.desk.settings.auctions)).await?;
            Ok::<_, async_nats::Error>((requests, self.subscribe(&client, grouped).await?))
        };
        let (mut requests, mut grouped) = match subscribed.await {
            Ok(subscribed) => subscribed,
            Err(error) => {
                warn!(%error, "control subjects cannot be subscribed to; trying again");
                return self.idle(stop, Patience::Short).await;
            }
        };
        let mut session =
            Session { client, under_way: FuturesUnordered::new(), outgoing: FuturesUnordered::new() };
        self.link.connections.borrow_and_update();
        let mut reached = self.link.state.borrow_and_update().reaches_hub();
        self.announce(&session);
        let period = self.desk.settings.heartbeat;
        let mut beat = interval_at(Instant::now() + period, period);
        loop {
            // Cancel-safe: what an arm received is dealt with before anything else is looked at. Requests come last, so that
            // a flood of them keeps nothing else waiting.
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.farewell(&session.client).await;
                    return Over::Stopping;
                }
                changed = self.link.client.changed() => return match changed {
                    Ok(()) => Over::Gone,
                    Err(_) => stopped(stop).await,
                },
                Ok(()) = self.link.connections.changed() => self.announce(&session),
                Ok(()) = self.link.state.changed() => {
                    // The hub is back behind a leaf node that never went: what was told meanwhile did not get there.
                    let reaches = self.link.state.borrow_and_update().reaches_hub();
                    if reaches && !reached {
                        self.announce(&session);
                    }
                    reached = reaches;
                }
                Some(()) = session.outgoing.next() => {}
                Some(served) = session.under_way.next() => if served == Served::Stop {
                    self.farewell(&session.client).await;
                    return Over::Asked;
                },
                _ = beat.tick() => self.heartbeat(&session),
                event = self.events.recv() => match event {
                    Some(event) => self.pass_on(&session, &event),
                    None => return stopped(stop).await,
                },
                Ok(()) = self.joined.changed() => {
                    if !self.join_or_leave(&session.client, &mut grouped).await {
                        return self.idle(stop, Patience::Short).await;
                    }
                }
                Some(request) = grouped.next() => self.take(&session, request),
                request = requests.next() => match request {
                    Some(request) => self.take(&session, request),
                    // The connection has ended, and the link has not said so yet.
                    None => return self.idle(stop, Patience::Short).await,
                },
            }
        }
    }

    /// Takes a request, or drops it: the loop never waits for one.
    fn take(&mut self, session: &Session, request: Message) {
        if session.under_way.len() >= REQUESTS_MAX || !self.rate.take(clock::boottime()) {
            return count(&self.account.dropped);
        }
        count(&self.account.requests);
        let (desk, client) = (Arc::clone(&self.desk), session.client.clone());
        session.under_way.push(Box::pin(async move {
            let (reply, served) = match desk.answer(&request.subject, &request.payload).await {
                Answer::Silence => return Served::Done,
                Answer::Reply(reply) => (reply, Served::Done),
                Answer::Stop(reply) => (reply, Served::Stop),
            };
            if let Some(inbox) = request.reply {
                let bytes_max = client.server_info().max_payload;
                let reply = match reply.len() <= bytes_max {
                    true => reply,
                    false => failure(&format!("the answer has more than the {bytes_max} bytes of a message")),
                };
                // Somebody who has gone is no reason to stop.
                let _ = client.publish(inbox, reply.into()).await;
            }
            served
        }));
    }

    /// Says that the host is there, and what runs on it: controllers begin with an empty host.
    fn announce(&self, session: &Session) {
        let settings = &self.desk.settings;
        let labels = self.desk.control.shown.borrow().labels();
        self.tell(session, &Notice::host_started(&settings.friendly_name, &labels, settings.version));
        self.heartbeat(session);
    }

    fn heartbeat(&self, session: &Session) {
        let shown = self.desk.control.shown.borrow().clone();
        self.tell_missing(session, &shown);
        self.tell(session, &Notice::heartbeat(self.desk.inventory(&shown)));
        for provider in shown.desired.providers.keys() {
            self.tell(session, &Notice::health(Health::Still, &self.desk.id, provider));
        }
    }

    /// Tells what control tells.
    fn pass_on(&self, session: &Session, event: &Event) {
        let shown = self.desk.control.shown.borrow().clone();
        self.tell(session, &Notice::of(event, &self.desk.id, &shown.labels()));
        for told in linkdef::told(event, &self.desk.settings.lattice, &shown.desired) {
            if session.outgoing.len() < OUTGOING_MAX {
                let client = session.client.clone();
                session.outgoing.push(Box::pin(async move {
                    // Whoever missed it asks for the links.
                    let _ = client.publish(told.subject, told.body.into()).await;
                }));
            }
        }
        match event {
            Event::ProviderStarted { id, .. } => {
                self.tell(session, &Notice::health(Health::Passed, &self.desk.id, id));
            }
            Event::ComponentScaled(_) => self.tell_missing(session, &shown),
            _ => {}
        }
    }

    fn tell_missing(&self, session: &Session, shown: &Shown) {
        missing::notices(&shown.desired).iter().for_each(|notice| self.tell(session, notice));
    }

    /// Sends an event, unless there is no connection or too many wait for it: none is ever sent late.
    fn tell(&self, session: &Session, notice: &Notice) {
        let is_connected = session.client.connection_state() == State::Connected;
        if !is_connected || session.outgoing.len() >= OUTGOING_MAX {
            return count(&self.account.events_dropped);
        }
        count(&self.account.events);
        session.outgoing.push(self.publish(&session.client, notice));
    }

    fn publish(&self, client: &Client, notice: &Notice) -> BoxFuture<'static, ()> {
        let mut id = [0; 16];
        // Without random bytes it is an event like others, only not told apart from them.
        let _ = self.random.fill(&mut id);
        let body = notice.encode(Stamp { host: &self.desk.id, id, time: self.clock.stamp().0 });
        let subject = notice.subject(&self.desk.settings.lattice);
        let client = client.clone();
        Box::pin(async move {
            // The heartbeat says it again.
            let _ = client.publish(subject, body.into()).await;
        })
    }

    /// The last word on this connection.
    async fn farewell(&self, client: &Client) {
        if client.connection_state() != State::Connected {
            return;
        }
        let labels = self.desk.control.shown.borrow().labels();
        let last = self.publish(client, &Notice::host_stopped(&labels));
        let said = async {
            last.await;
            client.flush().await
        };
        // Cancel-safe: the process ends.
        let _ = timeout(FAREWELL, said).await;
    }
}

// === impl Account ===

impl Account {
    /// For the status.
    pub fn standing(&self, host: &str, lattice: &str) -> Standing {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Standing {
            host: host.to_owned(),
            lattice: lattice.to_owned(),
            requests: read(&self.requests),
            dropped: read(&self.dropped),
            events: read(&self.events),
            events_dropped: read(&self.events_dropped),
        }
    }
}

async fn stopped(stop: &CancellationToken) -> Over {
    stop.cancelled().await;
    Over::Stopping
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
