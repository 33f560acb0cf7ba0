//! The second door: clients connect to the gateway itself, and an acknowledgement means flash.
//!
//! ```text
//!  sensors ──TCP, TLS──▶ accept ─▶ connection, talk ─▶ desk ─▶ intake ─▶ (journal)
//!  panels ──WebSocket──▶   │
//!                          │            │  ▲             │ ▲                │
//!                     entrance, users   │  └─ conn ◀─────┘ └── durable ◀────┘
//!                     (who may enter)   │   (PUBACK, PUBREC, deliveries)
//!                                       └ codec: bytes and packets
//!            tree, queue, retained, session: what the desk knows of subscribers
//! ```
//! One thread owns all of it ([`Listener::run`]): sockets, sessions, subscriptions. Nothing in it is shared or locked, a
//! read of 64 KiB is worked off in one go, and acknowledgements of a whole group commit leave in one write a client.
//! Checking passwords, SQLite and the pipeline are other threads' work.
//!
//! The protocol: mqtt-proto's codecs, sessions of our own. Compared in November 2026 (CPU to decode a QoS 1 PUBLISH of 56
//! bytes and to encode its PUBACK, MQTT 3.1.1 / 5): mqtt-proto 0.4 by its slice decoder 0.08 / 0.13 µs, rmqtt-codec 0.3
//! 0.10 / 0.15, rumqttc's mqttbytes 0.08 / 0.10, mqtt-protocol-core 0.7 0.38 / 0.43. mqtt-proto is kept (April 2026),
//! fuzzed, strict about lengths and flags, decodes from a slice and brings 6 new crates; the
//! others are unmaintained (rumqttc), bring chrono and serde for a codec (rmqtt-codec, 47 crates), want a timer set for
//! every packet (mqtt-protocol-core, 51) or a runtime of their own (ntex-mqtt, 148).
//!
//! Power loss: readings, the identities of their messages, sessions with their subscriptions and retained messages are in
//! the journal's transaction, and nothing is acknowledged before it is synced. What waits for subscribers is not kept.
//! When the disk is slow or refuses, acknowledgements are withheld and sockets are not read: clients wait, memory does
//! not grow. Bounds: connections and packets by configuration, half-open connections by [`site::HALF_OPEN_MAX`], what is
//! under way to the journal by [`desk::PASSED_MAX`]; counted in [`site::Account`].

mod admission;
mod codec;
mod conn;
mod connection;
mod delivery;
mod desk;
pub mod entrance;
pub mod inside;
pub mod limiter;
pub mod password;
pub mod queue;
mod reason;
pub mod retained;
mod session;
mod site;
mod talk;
pub mod tls;
pub mod tree;
pub mod users;
mod ws;

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::conn::End;
use self::desk::{Desk, Halt, LOOK_EVERY, Tools};
use self::entrance::EntranceHandle;
use self::inside::Inside;
use self::reason::Reason;
pub use self::site::{Account, ListenerStats};
use self::site::{Port, Site};
use self::tls::Current;
use crate::config;
use crate::ingest::broker::DoorError;
use crate::ingest::intake::{Intake, SetupError};
use crate::ingest::state::{DoorState, DoorView};
use crate::journal::{RetainedRow, SessionRow};
use crate::platform::clock::WallClock;
use crate::sample::{DoorId, Durability, Identity, StreamId};
use crate::store::{Durable, Handle, Inbound, StoreGone};

/// The listener's doors begin with this number; one for each durability class.
pub const DOOR_FIRST: u8 = 3;

/// Connections that the kernel holds until they are accepted: a second of a plant that comes back at once.
const BACKLOG: u32 = 1_024;
/// Connections accepted in a second. Each costs some 100 µs, with TLS a millisecond or two: the rest of the second is for
/// clients that are connected. Further ones wait in the backlog.
const ACCEPTS_PER_SECOND: u32 = 500;
/// After an error of accept(2), such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often keep-alives, expiries and wills are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long a listener that is stopped waits for the journal, to acknowledge what it has passed on: two commits at the
/// default interval. What is not acknowledged by then is recognised when it is sent again.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// For farewells.
const FAREWELL: Duration = Duration::from_millis(300);

/// Why the listener cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// An address cannot be listened on.
    #[error("listener {name} cannot listen on {bind}")]
    Bind {
        /// The listener.
        name: String,
        /// Its address.
        bind: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A stream cannot be served.
    #[error("a stream cannot be served")]
    Stream(#[from] SetupError),
}

/// What the listener starts from.
pub struct Beginnings {
    /// Durable tickets of its three doors, in the order of [`doors`].
    pub durable: [Durable; 3],
    /// Sessions that were kept, with the messages acknowledged by an earlier process.
    pub sessions: Vec<(SessionRow, Vec<Identity>)>,
    /// The highest session number ever given.
    pub last_session: u32,
    /// Retained messages.
    pub retained: Vec<RetainedRow>,
    /// What each listener accepts with, in the order of the configuration.
    pub tls: Vec<Option<Current>>,
    /// Who may enter.
    pub entrance: EntranceHandle,
    /// The port for components of this gateway, if any wants it.
    pub inside: Option<Inside>,
}

/// The listener door.
pub struct Listener {
    ports: Vec<(config::Listener, Option<Current>, TcpListener)>,
    inside: Option<(config::Listener, Inside)>,
    tools: Tools,
    sessions: Vec<(SessionRow, Vec<Identity>)>,
    entrance: EntranceHandle,
    store: Handle,
    clients: config::Clients,
    account: Arc<Account>,
    state: watch::Sender<DoorState>,
}

/// The doors of the listener, with the durability class of each.
pub fn doors() -> [(DoorId, Durability); 3] {
    [Durability::Reading, Durability::Window, Durability::None].map(|class| (desk::door(class), class))
}

/// Identities to be remembered of a session: see [`desk::Desk`].
pub fn window(site: &config::Site) -> usize {
    2 * site.listeners.iter().map(|listener| usize::from(listener.receive_max)).max().unwrap_or(0)
}

// === impl Listener ===

impl Listener {
    /// Binds every address. Nothing is accepted before [`Listener::run`].
    pub fn new(
        config: &config::Site,
        streams: &[(StreamId, config::Stream)],
        store: Handle,
        inbound: mpsc::Sender<Inbound>,
        begin: Beginnings,
        clock: WallClock,
    ) -> Result<(Listener, DoorView, Arc<Account>), ListenerError> {
        let intake = Intake::new(streams, |_| true, store.clone())?;
        let (state, watched) = watch::channel(DoorState::Connecting);
        let view = DoorView {
            door: DoorId(DOOR_FIRST),
            state: watched,
            counters: intake.counters(),
            specimens: intake.specimens(),
        };
        let mut ports = Vec::new();
        for (listener, tls) in config.listeners.iter().zip(begin.tls) {
            let socket = bind(listener.bind).map_err(|source| ListenerError::Bind {
                name: listener.name.clone(),
                bind: listener.bind,
                source,
            })?;
            let at = socket.local_addr().unwrap_or(listener.bind);
            info!(listener = listener.name, %at, tls = tls.is_some(), "listening");
            ports.push((listener.clone(), tls, socket));
        }
        let inside = begin.inside.map(|inside| (inside.port(config), inside));
        let account = Arc::new(Account::default());
        let listener = Listener {
            ports,
            inside,
            tools: Tools {
                intake,
                streams: streams.iter().map(|(id, stream)| (*id, stream.durability)).collect(),
                durable: begin.durable,
                inbound,
                clock,
                bounds: config.clients.clone(),
                retained: begin.retained,
                last_session: begin.last_session,
                window: window(config),
            },
            sessions: begin.sessions,
            entrance: begin.entrance,
            store,
            clients: config.clients.clone(),
            account: Arc::clone(&account),
            state,
        };
        Ok((listener, view, account))
    }

    /// Serves clients until it is stopped, or the store is gone. Runs on a thread of its own.
    pub fn run(self, stop: CancellationToken) -> Result<(), DoorError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("epoll and an eventfd are all it needs");
        LocalSet::new().block_on(&runtime, self.serve(stop))
    }

    async fn serve(self, stop: CancellationToken) -> Result<(), DoorError> {
        let durable = self.tools.durable.clone();
        let mut desk = Desk::new(self.tools);
        desk.restore(self.sessions, Instant::now());
        let site = Rc::new(Site::new(desk, self.entrance, self.store, self.clients, self.account));
        let mut work = JoinSet::new();
        for (config, tls, socket) in self.ports {
            let port = Rc::new(Port { config, tls, secret: None, open: Default::default() });
            work.spawn_local(accept(Rc::clone(&site), port, socket, stop.clone()));
        }
        if let Some((config, Inside { socket, secret })) = self.inside {
            let port = Rc::new(Port { config, tls: None, secret: Some(secret), open: Default::default() });
            work.spawn_local(accept(Rc::clone(&site), port, socket, stop.clone()));
        }
        work.spawn_local(pass_on(Rc::clone(&site)));
        work.spawn_local(sweep(Rc::clone(&site)));
        self.state.send_replace(DoorState::Open);
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            gone = settle(&site, durable.clone()) => Err(DoorError::Store(gone)),
        };
        site.stops.set(true);
        if ended.is_ok() {
            let mut durable = durable;
            let last = async {
                while !site.desk.borrow().is_settled() {
                    site.pass_on();
                    if wait(&mut durable).await.is_err() {
                        break;
                    }
                    site.desk.borrow_mut().settle();
                }
            };
            let _ = timeout(STOP_PATIENCE, last).await;
            site.desk.borrow().end_all(End::Told(Reason::ShuttingDown));
            sleep(FAREWELL).await;
            site.pass_on();
        }
        work.abort_all();
        ended
    }
}

/// Listens on an address.
fn bind(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Accepts connections, and keeps those it has accepted.
async fn accept(site: Rc<Site>, port: Rc<Port>, socket: TcpListener, stop: CancellationToken) {
    let Ok(socket) = tokio::net::TcpListener::from_std(socket) else { return };
    let mut connections: JoinSet<()> = JoinSet::new();
    let mut second = (Instant::now(), 0);
    loop {
        let accepted = tokio::select! {
            biased;
            Some(_) = connections.join_next() => {
                port.open.set(connections.len());
                continue;
            }
            () = stop.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(listener = port.config.name, %error, advice = "raise the limit of open files", "cannot accept");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        crate::ingest::account::add(&site.counters.accepted, 1);
        if connections.len() >= port.config.connections_max {
            crate::ingest::account::add(&site.counters.turned_away, 1);
            continue;
        }
        connections.spawn_local(connection::serve(Rc::clone(&site), Rc::clone(&port), stream, peer));
        port.open.set(connections.len());
        let now = Instant::now();
        if now.duration_since(second.0) >= Duration::from_secs(1) {
            second = (now, 0);
        }
        second.1 += 1;
        if second.1 >= ACCEPTS_PER_SECOND {
            sleep(Duration::from_secs(1).saturating_sub(now.duration_since(second.0))).await;
        }
    }
    drop(socket);
    // Those that are connected end by themselves, or are ended with this task.
    while connections.join_next().await.is_some() {}
}

/// Acknowledges and delivers what becomes durable.
async fn settle(site: &Site, mut durable: [Durable; 3]) -> StoreGone {
    loop {
        let holds_back = site.desk.borrow().holds_back();
        let waited = match holds_back {
            false => wait(&mut durable).await,
            true => timeout(LOOK_EVERY, wait(&mut durable)).await.unwrap_or(Ok(())),
        };
        if waited.is_err() {
            return StoreGone;
        }
        site.desk.borrow_mut().settle();
        site.room.notify_waiters();
    }
}

/// Waits until something has become durable.
///
/// Cancel-safe: the desk looks at the numbers themselves.
async fn wait([reading, window, none]: &mut [Durable; 3]) -> Result<(), watch::error::RecvError> {
    tokio::select! {
        changed = reading.changed() => changed,
        changed = window.changed() => changed,
        changed = none.changed() => changed,
    }
}

/// Waits for room on the way to the journal when there was none.
async fn pass_on(site: Rc<Site>) {
    loop {
        site.wants_way.notified().await;
        loop {
            let (room, permits, inbound) = site.desk.borrow().way();
            let (Ok(room), Ok(place)) = (room.acquire_many_owned(permits).await, inbound.reserve().await)
            else {
                return std::future::pending().await;
            };
            drop((room, place));
            if site.desk.borrow_mut().pass_on() {
                break;
            }
        }
        site.room.notify_waiters();
    }
}

/// Looks after what time brings.
async fn sweep(site: Rc<Site>) {
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => site.desk.borrow_mut().sweep(Instant::now()),
            () = site.wants_own.notified() => {}
        }
        publish_own(&site).await;
        site.pass_on();
    }
}

/// Publishes the wills that are due.
async fn publish_own(site: &Site) {
    loop {
        let halt = {
            let mut desk = site.desk.borrow_mut();
            let arrival = desk.arrival();
            let Some(publish) = desk.next_own() else { break };
            desk.publish_own(publish, arrival)
        };
        if let Err(Halt::Name(publish, unnamed)) = halt {
            if site.name(&unnamed).await.is_err() {
                return;
            }
            site.desk.borrow_mut().put_back(publish);
        }
    }
    site.desk.borrow_mut().pump_dirty();
}
