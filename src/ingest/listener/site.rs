//! What all connections of the listener share: the desk, the way to the store, one buffer, counters.
//!
//! All of it lives on the listener's thread. Nothing here is kept across power loss.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::connection::READ_BYTES;
use super::desk::Desk;
use super::entrance::{EntranceHandle, Logins};
use super::inside::Secret;
use super::reason::Reason;
use super::tls::Current;
use crate::config::{Clients, Listener};
use crate::ingest::intake::Unnamed;
use crate::store::{Handle, StoreGone};

/// Connections that have not said CONNECT, or wait for their login; the oldest ends when there are more. A plant of a
/// thousand sensors that comes back at once is let in faster than that.
pub const HALF_OPEN_MAX: usize = 512;

/// What the listener counts beside what every door does.
#[derive(Debug, Default)]
pub struct Account {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Closed at once because there were as many as may be.
    pub turned_away: AtomicU64,
    /// Ended before the client was let in.
    pub unseated: AtomicU64,
    /// Clients not let in.
    pub refused: AtomicU64,
    /// Clients let in.
    pub connects: AtomicU64,
    /// Connections of clients that have ended.
    pub closed: AtomicU64,
    /// Clients told to go, by reason: see [`ended_as`].
    pub ended: [AtomicU64; ENDED.len()],
}

/// A snapshot of [`Account`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStats {
    /// Clients connected now.
    pub connected: u64,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Closed at once because there were as many as may be.
    pub turned_away: u64,
    /// Ended before the client was let in.
    pub unseated: u64,
    /// Clients not let in.
    pub refused: u64,
    /// Clients told to go, by reason; reasons that never occurred are left out.
    pub ended: BTreeMap<String, u64>,
    /// Who was let in, and who was not.
    pub logins: Logins,
}

/// Reasons counted apart.
const ENDED: [Reason; 6] = [
    Reason::KeepAlive,
    Reason::TakenOver,
    Reason::NotAuthorized,
    Reason::PacketTooLarge,
    Reason::ReceiveMaximum,
    Reason::ProtocolError,
];

/// Where a reason is counted; what is not listed counts as a protocol error.
pub fn ended_as(reason: Reason) -> usize {
    ENDED.iter().position(|known| *known == reason).unwrap_or(ENDED.len() - 1)
}

// === impl Account ===

impl Account {
    /// A snapshot.
    pub fn stats(&self, logins: Logins) -> ListenerStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let ended = ENDED.iter().zip(&self.ended).map(|(reason, count)| (reason.to_string(), read(count)));
        ListenerStats {
            connected: read(&self.connects).saturating_sub(read(&self.closed)),
            accepted: read(&self.accepted),
            turned_away: read(&self.turned_away),
            unseated: read(&self.unseated),
            refused: read(&self.refused),
            ended: ended.filter(|(_, count)| *count > 0).collect(),
            logins,
        }
    }
}

/// One `[[listener]]`, or the port for components.
pub struct Port {
    pub config: Listener,
    pub tls: Option<Current>,
    /// What this gateway's own components show; nobody else gets in where there is one.
    pub secret: Option<Secret>,
    pub open: Cell<usize>,
}

/// What connections share.
pub struct Site {
    pub desk: RefCell<Desk>,
    pub entrance: EntranceHandle,
    pub store: Handle,
    pub clients: Clients,
    pub counters: Arc<Account>,
    /// There may be room to read again.
    pub room: Notify,
    /// Something waits to be passed on to the journal.
    pub wants_way: Notify,
    /// Wills are due.
    pub wants_own: Notify,
    pub stops: Cell<bool>,
    buffers: RefCell<Vec<Vec<u8>>>,
    half_open: RefCell<VecDeque<Rc<Notify>>>,
}

/// A connection's place among those that are not let in yet.
pub struct Place<'a> {
    site: &'a Site,
    evicted: Rc<Notify>,
}

// === impl Site ===

impl Site {
    pub fn new(
        desk: Desk,
        entrance: EntranceHandle,
        store: Handle,
        clients: Clients,
        counters: Arc<Account>,
    ) -> Site {
        Site {
            desk: RefCell::new(desk),
            entrance,
            store,
            clients,
            counters,
            room: Notify::new(),
            wants_way: Notify::new(),
            wants_own: Notify::new(),
            stops: Cell::new(false),
            buffers: RefCell::default(),
            half_open: RefCell::default(),
        }
    }

    /// Whether anything may be read from clients.
    pub fn may_read(&self) -> bool {
        !self.stops.get() && self.desk.borrow().has_room()
    }

    /// Hands over to the journal what is pending, now or as soon as there is room.
    pub fn pass_on(&self) {
        let mut desk = self.desk.borrow_mut();
        if !desk.pass_on() {
            self.wants_way.notify_one();
        }
        if desk.has_own() {
            self.wants_own.notify_one();
        }
    }

    /// Asks the store for the numbers of new series.
    pub async fn name(&self, unnamed: &Unnamed) -> Result<(), StoreGone> {
        for entry in &unnamed.wanted {
            let answer = self.store.intern(unnamed.stream, entry.clone()).await?;
            self.desk.borrow_mut().intake.learn(unnamed, &entry.name, answer);
        }
        Ok(())
    }

    /// The buffer that is read into, empty. There are two only while a connection waits for the store.
    pub fn take_buffer(&self) -> Vec<u8> {
        self.buffers.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(READ_BYTES))
    }

    /// For the next one who reads.
    pub fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut buffers = self.buffers.borrow_mut();
        if buffers.is_empty() {
            buffers.push(buffer);
        }
    }

    /// A place for a connection that has not said who it is.
    pub fn half_open(&self) -> Place<'_> {
        let mut places = self.half_open.borrow_mut();
        if places.len() >= HALF_OPEN_MAX
            && let Some(oldest) = places.pop_front()
        {
            oldest.notify_one();
        }
        let evicted = Rc::new(Notify::new());
        places.push_back(Rc::clone(&evicted));
        Place { site: self, evicted }
    }
}

// === impl Place ===

impl Place<'_> {
    /// Waits until the place is given to another.
    ///
    /// Cancel-safe: a wait for a notice.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.site.half_open.borrow_mut().retain(|place| !Rc::ptr_eq(place, &self.evicted));
    }
}

/// An identifier for a client without one: not that of another.
pub fn fresh_client() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // A new state hashes nothing to a random number.
    let random = RandomState::new().hash_one(0u8);
    format!("auto-{random:016x}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}
