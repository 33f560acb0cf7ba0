//! The desk: the one place where messages, sessions and subscriptions meet. Everything in it belongs to the listener's
//! thread; connections call it between their waits, nothing in it waits.
//!
//! ```text
//!  PUBLISH ─▶ copy? ─▶ intake ─▶ ticket ─▶ pending ──Batch──▶ journal
//!  (messages)                       │      (passage)             │ durable (by class)
//!                  owed, held ◀─────┘                            ▼
//!                     └────────────── settlement: PUBACK, PUBREC, SUBACK; deliveries to subscribers
//!  CONNECT, DISCONNECT, time ─▶ clients         SUBSCRIBE, UNSUBSCRIBE ─▶ subscriptions
//! ```
//! Power loss: sessions that are kept and retained messages are in the journal's transaction; queues are not kept.
//! Bounds: a client has at most `receive_max` messages unacknowledged; pending messages end reading when they are
//! [`PENDING_MAX`], messages held for subscribers when they are [`HELD_MAX`] bytes. Nothing is dropped here but what the
//! queues' policy drops.

mod clients;
mod messages;
mod passage;
mod settlement;
mod subscriptions;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

pub use self::clients::{Entrant, Leave, Opened};
pub use self::settlement::LOOK_EVERY;
use super::codec::Publish;
use super::conn::End;
use super::delivery::Message;
use super::reason::Reason;
use super::retained::{self, Retained};
use super::session::{Recall, Session};
use super::tree::{self, Hit, Tree};
use crate::config::Clients;
use crate::ingest::account::Counters;
use crate::ingest::decode::Moment;
use crate::ingest::intake::{Arrival, Intake, Unnamed};
use crate::journal::RetainedRow;
use crate::platform::clock::WallClock;
use crate::sample::{DoorId, Durability, StreamId};
use crate::store::{Batch, Durable, Inbound};

/// Messages and readings that wait for room in the journal's channel before nothing more is read: twice what one read of
/// 64 KiB brings.
const PENDING_MAX: usize = 4_096;
/// Messages and readings under way to the journal: 32,768 x about 60 B are 2 MB, a fifth of a second at 80,000 a second.
pub const PASSED_MAX: usize = 32_768;
/// Bytes of messages held until they are durable and may go to subscribers: a second of 8 MB/s.
const HELD_MAX: usize = 8 << 20;

/// A session's place at the desk. Given again when the session has ended.
pub type Key = usize;

/// What durability classes are numbered by: in the lowest bits of a ticket.
const CLASSES: [Durability; 3] = [Durability::Reading, Durability::Window, Durability::None];
const CLASS_BITS: u32 = 2;

/// Why a message is not through yet.
pub enum Halt {
    /// Its series need numbers first; then it is to be given again.
    Name(Publish, Unnamed),
    /// The connection must end.
    End(Reason),
}

/// The desk.
pub struct Desk {
    pub intake: Intake,
    pub counters: Arc<Counters>,
    pub clock: WallClock,
    /// By stream number.
    classes: Vec<u8>,
    durable: [Durable; 3],
    count: u64,
    /// Connections so far.
    turns: u64,
    inbound: mpsc::Sender<Inbound>,
    passed: Arc<Semaphore>,
    pending: Batch,
    pending_weight: usize,
    hurried: Option<Instant>,
    sessions: Vec<Option<Session>>,
    free: Vec<Key>,
    by_client: HashMap<(Arc<str>, Arc<str>), Key>,
    last_session: u32,
    /// Sessions that are owed something.
    waiting: Vec<Key>,
    answers: VecDeque<Reply>,
    pub tree: Tree<Key>,
    retained: Retained,
    wills: Vec<DueWill>,
    /// Messages of the gateway's own: wills that are due.
    own: VecDeque<Publish>,
    bounds: Clients,
    /// Messages for subscribers that are not durable yet, by class.
    held: [VecDeque<Held>; 3],
    held_bytes: usize,
    /// By topic, how many of them are retained, or behind one that is.
    held_topics: HashMap<Arc<str>, usize>,
    /// Since when durable ones of them wait for subscribers to read.
    held_back: Option<Instant>,
    /// Sessions whose queue is full.
    crowded: Vec<Key>,
    hits: Vec<Hit<Key>>,
    /// Sessions that have something new in their queue.
    dirty: Vec<Key>,
    out: Vec<u8>,
    /// Identities remembered of a session: twice what its client may leave unacknowledged, because one of version 3 is
    /// not told how many that are.
    window: usize,
}

/// The answer to SUBSCRIBE or UNSUBSCRIBE, given when the change is durable.
struct Reply {
    pub ticket: u64,
    pub key: Key,
    pub turn: u64,
    pub packet: Vec<u8>,
    /// Retained messages that follow it.
    pub recalls: Vec<Recall>,
}

/// A message for subscribers that is not durable yet.
struct Held {
    ticket: u64,
    /// Who has published it.
    from: Option<Key>,
    message: Rc<Message>,
    /// Whether it is among [`Desk::held_topics`].
    is_counted: bool,
}

/// A will that waits.
struct DueWill {
    pub at: Instant,
    pub key: Key,
    pub turn: u64,
    pub message: Publish,
}

/// The class of a ticket.
fn class(ticket: u64) -> usize {
    (ticket & ((1 << CLASS_BITS) - 1)) as usize
}

/// The door of a durability class of the listener.
pub fn door(durability: Durability) -> DoorId {
    let class = CLASSES.iter().position(|known| *known == durability);
    DoorId(super::DOOR_FIRST + class.expect("all classes are listed") as u8)
}

/// What the desk is made from.
pub struct Tools {
    pub intake: Intake,
    pub streams: Vec<(StreamId, Durability)>,
    pub durable: [Durable; 3],
    pub inbound: mpsc::Sender<Inbound>,
    pub clock: WallClock,
    pub bounds: Clients,
    pub retained: Vec<RetainedRow>,
    pub last_session: u32,
    pub window: usize,
}

// === impl Desk ===

impl Desk {
    pub fn new(tools: Tools) -> Desk {
        let last = tools.streams.iter().map(|(stream, _)| stream.0 as usize).max().unwrap_or(0);
        let mut classes = vec![0; last + 1];
        for (stream, durability) in &tools.streams {
            let class = CLASSES.iter().position(|known| known == durability);
            classes[stream.0 as usize] = class.expect("all classes are listed") as u8;
        }
        Desk {
            counters: tools.intake.counters(),
            intake: tools.intake,
            clock: tools.clock,
            classes,
            durable: tools.durable,
            count: 0,
            turns: 0,
            inbound: tools.inbound,
            passed: Arc::new(Semaphore::new(PASSED_MAX)),
            pending: Batch::default(),
            pending_weight: 0,
            hurried: None,
            sessions: Vec::new(),
            free: Vec::new(),
            by_client: HashMap::new(),
            last_session: tools.last_session,
            waiting: Vec::new(),
            answers: VecDeque::new(),
            tree: Tree::new(tree::Bounds {
                per_client: tools.bounds.subscriptions_max,
                total: tools.bounds.subscriptions_max.saturating_mul(tools.bounds.sessions_max),
            }),
            retained: Retained::new(
                retained::Bounds {
                    topics: tools.bounds.retained_max,
                    bytes: tools.bounds.retained_bytes_max,
                },
                tools.retained,
            ),
            wills: Vec::new(),
            own: VecDeque::new(),
            bounds: tools.bounds,
            held: Default::default(),
            held_bytes: 0,
            held_topics: HashMap::new(),
            held_back: None,
            crowded: Vec::new(),
            hits: Vec::new(),
            dirty: Vec::new(),
            out: Vec::new(),
            window: tools.window,
        }
    }

    /// The arrival of everything that was read at once.
    pub fn arrival(&self) -> Arrival {
        let (stamp, timeline) = self.clock.stamp();
        let moment = Moment { arrival: stamp, trusted: self.clock.trusted_now() };
        Arrival { moment, timeline }
    }

    /// Whether more may be read from clients.
    pub fn has_room(&self) -> bool {
        self.pending_weight < PENDING_MAX && self.held_bytes < HELD_MAX
    }

    pub fn session(&mut self, key: Key) -> Option<&mut Session> {
        self.sessions.get_mut(key)?.as_mut()
    }

    fn ticket(&mut self, class: usize) -> u64 {
        self.count += 1;
        self.count << CLASS_BITS | class as u64
    }

    fn is_durable(&self, ticket: u64) -> bool {
        *self.durable[class(ticket)].borrow() >= ticket
    }

    /// Ends every connection.
    pub fn end_all(&self, end: End) {
        for session in self.sessions.iter().flatten() {
            if let Some(conn) = &session.conn {
                conn.end(end);
            }
        }
    }
}
