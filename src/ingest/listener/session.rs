//! One client's session: what it has sent and what it is owed, what it is sent and has not acknowledged.
//!
//! ```text
//!                  CONNECT                     connection lost, DISCONNECT
//!     (none) ─────────────────▶ Here ─────────────────────────────────────▶ Away ── expiry over ──▶ (ended)
//!        ▲                       │ ▲                  expiry > 0              │
//!        └── expiry 0 ───────────┘ └───────────── CONNECT, not clean ◀────────┘
//! ```
//! Pure; the desk owns all of them. Sessions with an expiry have a number, are in the database, and recognise messages
//! that come again ([`crate::ingest::seen`]), across connections and crashes. The others end with their connection.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::codec::Will;
use super::conn::Conn;
use super::delivery::Delivery;
use super::queue::{Entry, Presence, Quality, Queue};
use super::tree::Options;
use super::users::Permissions;
use crate::ingest::seen::Seen;
use crate::journal::SessionRow;
use crate::journal::peer::{Interval, PeerWindow};
use crate::sample::{Nanos, SessionId};

/// Longest time between two acknowledgements that tells something about a client's window: beyond, it had nothing to say.
const LENGTH_MAX: Duration = Duration::from_secs(10);

/// A queue without room for a message of that size counts as full: a reading with its topic is less.
const CROWD_BYTES: u64 = 1 << 10;

/// The format of what is kept of a session.
const STATE_VERSION: u8 = 1;

/// A packet on its way to the client once a ticket is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    /// 0 when it waits only for those before it.
    pub ticket: u64,
    pub pkid: u16,
    pub answer: Answer,
}

/// How a PUBLISH is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// PUBACK.
    Ack,
    /// PUBREC.
    Rec,
    /// PUBACK with "not authorized", MQTT 5.
    Denied,
    /// PUBREC with it.
    DeniedRec,
}

/// The session.
pub struct Session {
    /// [`SessionId::NONE`] if it ends with its connection.
    pub id: SessionId,
    pub client: Arc<str>,
    pub user: Arc<str>,
    pub expiry_s: u32,
    pub permissions: Permissions,
    /// The connection, while there is one.
    pub conn: Option<Rc<Conn>>,
    /// When the last one was lost.
    pub left: Option<Instant>,
    /// Answers to messages, in the order of receipt.
    pub owed: VecDeque<Owed>,
    /// Whether the desk has it among those that wait for durability.
    pub is_waiting: bool,
    /// QoS 2 messages between PUBLISH and PUBREL, with their tickets.
    pub second: HashMap<u16, u64>,
    /// QoS 1 messages among `owed`.
    pub first: usize,
    pub seen: Seen,
    /// Messages on their way to the client.
    pub queue: Queue<Rc<Delivery>>,
    /// As many of them may be in flight.
    pub window: usize,
    pub next_pkid: u16,
    /// When it was last sent something of the queue.
    pub sent: Instant,
    /// What it has subscribed to; the tree has it too, this is what is kept.
    pub filters: BTreeMap<Box<str>, Options>,
    /// Retained messages it is still to be sent, one for each filter it has subscribed to lately.
    pub recalls: VecDeque<Recall>,
    /// What is published when the connection is lost.
    pub will: Option<Will>,
    /// How many messages it sends before it waits, as far as that is known.
    pub habit: PeerWindow,
    /// When its last message came.
    pub newest: Instant,
    /// When it was last acknowledged something, and how long after the time before.
    pub settled: Option<(Instant, Duration)>,
    /// A commit was asked for on its account.
    pub hurried: bool,
    /// Counts connections: what an earlier one began is not done to a later one.
    pub turn: u64,
}

/// How far the retained messages of a subscription have been sent.
#[derive(Debug)]
pub struct Recall {
    pub filter: Box<str>,
    pub options: Options,
    /// The last topic that was looked at.
    pub after: Option<Box<str>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    filters: Vec<(String, u8, u8, Option<u32>)>,
}

const NO_LOCAL: u8 = 1;
const RETAIN_AS_PUBLISHED: u8 = 2;

// === impl Session ===

impl Session {
    /// Messages of the client that it has not seen through: what the receive maximum bounds.
    pub fn unacknowledged(&self) -> usize {
        self.first + self.second.len()
    }

    /// Whether the client has sent nearly all that it may, or all that it ever does, before it gets an acknowledgement.
    pub fn is_nearly_full(&self) -> bool {
        let receive_max = self.conn.as_ref().map_or(usize::MAX, |conn| conn.receive_max);
        let waiting = self.unacknowledged();
        waiting >= receive_max - receive_max / 4
            || self.habit.learnt().is_some_and(|learnt| waiting >= learnt)
    }

    /// A message has come that waits for a commit. Clients have windows of their own that no protocol tells: 20 messages
    /// are common, and would then be all that it sends in an interval.
    pub fn note_message(&mut self) {
        let heard = self.conn.as_ref().map_or_else(Instant::now, |conn| conn.heard.get());
        if let Some((settled, length)) = self.settled {
            self.habit.message(heard.duration_since(settled), length);
        }
        self.newest = heard;
        self.hurried = self.is_nearly_full();
    }

    /// Messages were acknowledged, and whether those were all.
    pub fn note_settled(&mut self, messages: usize, were_all: bool, now: Instant) {
        if std::mem::take(&mut self.hurried) {
            self.habit.committed_full();
        } else if were_all {
            let length = self.settled.map_or(Duration::ZERO, |(settled, _)| now.duration_since(settled));
            let length = length.min(LENGTH_MAX);
            self.habit.interval_over(Interval { messages, silence: now.duration_since(self.newest), length });
        }
        let length =
            self.settled.map_or(LENGTH_MAX, |(settled, _)| now.duration_since(settled).min(LENGTH_MAX));
        self.settled = Some((now, length));
    }

    /// Whether what waits for its client needs acknowledgements first.
    pub fn is_held_up(&self) -> bool {
        self.queue.in_flight() >= self.window
    }

    /// Whether another message would push one out of its queue.
    pub fn is_crowded(&self) -> bool {
        self.queue.bytes() > 0 && !self.queue.can_take(CROWD_BYTES)
    }

    /// Whether it outlives its connection.
    pub fn is_kept(&self) -> bool {
        self.expiry_s > 0
    }

    /// What the database keeps.
    pub fn row(&self, left: Option<Nanos>) -> SessionRow {
        let filter = |filter: &str, options: &Options| {
            let flags = if options.no_local { NO_LOCAL } else { 0 }
                | if options.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 };
            (filter.to_owned(), options.qos, flags, options.identifier)
        };
        let kept =
            Kept { filters: self.filters.iter().map(|(name, options)| filter(name, options)).collect() };
        let mut state = vec![STATE_VERSION];
        state.extend(postcard::to_stdvec(&kept).expect("strings and numbers have an encoding"));
        SessionRow {
            id: self.id,
            user: self.user.to_string(),
            client: self.client.to_string(),
            expiry_s: self.expiry_s,
            left,
            state,
        }
    }

    /// Whether its client is connected.
    pub fn presence(&self) -> Presence {
        if self.conn.is_some() { Presence::Here } else { Presence::Away }
    }

    /// The next message to be sent now, with its packet identifier, 0 at QoS 0. Nothing when `is_clogged`.
    pub fn next_delivery(&mut self, now: Instant, is_clogged: bool) -> Option<(u16, Entry<Rc<Delivery>>)> {
        if is_clogged {
            return None;
        }
        match self.queue.next_quality(now)? {
            Quality::AtMostOnce => Some((0, self.queue.take(now, 0)?)),
            // What needs no acknowledgement may pass what cannot have one yet.
            Quality::AtLeastOnce if self.queue.in_flight() >= self.window => {
                Some((0, self.queue.take_at_most_once(now)?))
            }
            Quality::AtLeastOnce => {
                let pkid = self.take_pkid()?;
                Some((pkid, self.queue.take(now, pkid)?))
            }
        }
    }

    /// The next free packet identifier for a message to the client.
    pub fn take_pkid(&mut self) -> Option<u16> {
        for _ in 0..=self.queue.in_flight() {
            self.next_pkid = self.next_pkid % u16::MAX + 1;
            let pkid = self.next_pkid;
            if !self.queue.flying().any(|(flying, _)| flying == pkid) {
                return Some(pkid);
            }
        }
        None
    }
}

/// The filters of a session that was kept. What cannot be read counts as none: the client subscribes again when it is
/// told that there is no session.
pub fn filters_of(state: &[u8]) -> Option<Vec<(String, Options)>> {
    let (&version, body) = state.split_first()?;
    if version != STATE_VERSION {
        return None;
    }
    let kept: Kept = postcard::from_bytes(body).ok()?;
    let filter = |(filter, qos, flags, identifier): (String, u8, u8, Option<u32>)| {
        let options = Options {
            qos,
            no_local: flags & NO_LOCAL != 0,
            retain_as_published: flags & RETAIN_AS_PUBLISHED != 0,
            identifier,
        };
        (filter, options)
    };
    Some(kept.filters.into_iter().map(filter).collect())
}
