//! The desk: the one place where messages, sessions and subscriptions meet. Everything in it belongs to the listener's
//! thread; connections call it between their waits, nothing in it waits.
//!
//! ```text
//!  PUBLISH ─▶ copy? ─▶ intake ─▶ ticket ─▶ pending ──Batch──▶ journal
//!                                   │                            │ durable (by class)
//!                  owed, held ◀─────┘                            ▼
//!                     └──────────────────────── settle: PUBACK, PUBREC, SUBACK; deliveries to subscribers
//! ```
//! Power loss: sessions that are kept and retained messages are in the journal's transaction; queues are not kept.
//! Bounds: a client has at most `receive_max` messages unacknowledged; pending messages end reading when they are
//! [`PENDING_MAX`], messages held for subscribers when they are [`HELD_MAX`] bytes. Nothing is dropped here but what the
//! queues' policy drops.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::codec::Publish;
use super::conn::End;
use super::delivery::{Delivery, Message};
use super::reason::Reason;
use super::retained::{self, Kept, Retained};
use super::session::{Answer, Owed, Recall, Session};
use super::tree::{self, Hit, Tree};
use crate::config::Clients;
use crate::ingest::account::{Counters, add};
use crate::ingest::decode::Moment;
use crate::ingest::intake::{Arrival, Intake, Taken, Unnamed};
use crate::ingest::seen::{Delivery as Sent, Sight};
use crate::journal::{RetainedRow, SessionChange};
use crate::platform::clock::WallClock;
use crate::platform::fault;
use crate::sample::{self, DoorId, Durability, Identity, SessionId, StreamId};
use crate::store::{Batch, Durable, Inbound};

/// Messages and readings that wait for room in the journal's channel before nothing more is read: twice what one read of
/// 64 KiB brings.
const PENDING_MAX: usize = 4_096;
/// Messages and readings under way to the journal: 32,768 x about 60 B are 2 MB, a fifth of a second at 80,000 a second.
pub const PASSED_MAX: usize = 32_768;
/// Bytes of messages held until they are durable and may go to subscribers: a second of 8 MB/s.
const HELD_MAX: usize = 8 << 20;
/// A group somebody waits for who has sent all he may: time for others to join it.
const URGENT: Duration = Duration::from_millis(5);
/// Sessions that change and whose client waits for it: a subscription is answered within a tenth of a second.
const SESSION_SOON: Duration = Duration::from_millis(100);
/// As seldom is a group committed early for that.
const HURRY_EVERY: Duration = Duration::from_secs(1);

/// Rounds of 64 KiB sent to one client at a go: two milliseconds, then others have their turn.
const PUMP_ROUNDS: usize = 16;

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
    pub(super) turns: u64,
    inbound: mpsc::Sender<Inbound>,
    passed: Arc<Semaphore>,
    pub(super) pending: Batch,
    pending_weight: usize,
    hurried: Option<Instant>,
    pub(super) sessions: Vec<Option<Session>>,
    pub(super) free: Vec<Key>,
    pub(super) by_client: HashMap<(Arc<str>, Arc<str>), Key>,
    pub(super) last_session: u32,
    /// Sessions that are owed something.
    waiting: Vec<Key>,
    pub(super) answers: VecDeque<Reply>,
    pub tree: Tree<Key>,
    pub(super) retained: Retained,
    pub(super) wills: Vec<DueWill>,
    /// Messages of the gateway's own: wills that are due.
    pub(super) own: VecDeque<Publish>,
    pub(super) bounds: Clients,
    /// Messages for subscribers that are not durable yet, by class.
    held: [VecDeque<Held>; 3],
    held_bytes: usize,
    hits: Vec<Hit<Key>>,
    /// Sessions that have something new in their queue.
    pub(super) dirty: Vec<Key>,
    out: Vec<u8>,
    /// Identities remembered of a session: twice what its client may leave unacknowledged, because one of version 3 is
    /// not told how many that are.
    pub(super) window: usize,
}

/// The answer to SUBSCRIBE or UNSUBSCRIBE, given when the change is durable.
pub(super) struct Reply {
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
}

/// A will that waits.
pub(super) struct DueWill {
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

    pub(super) fn ticket(&mut self, class: usize) -> u64 {
        self.count += 1;
        self.count << CLASS_BITS | class as u64
    }

    fn is_durable(&self, ticket: u64) -> bool {
        *self.durable[class(ticket)].borrow() >= ticket
    }

    /// Takes a message of a client.
    pub fn publish(&mut self, key: Key, publish: Publish, arrival: Arrival) -> Result<(), Halt> {
        let Some(session) = self.sessions[key].as_mut() else { return Err(Halt::End(Reason::TakenOver)) };
        if publish.qos == 2
            && let Some(ticket) = session.second.get(&publish.pkid).copied()
        {
            // Between PUBLISH and PUBREL an identifier is one message, whatever is sent with it.
            add(&self.counters.redelivered, 1);
            self.owe(key, Owed { ticket, pkid: publish.pkid, answer: Answer::Rec });
            return Ok(());
        }
        if publish.topic.starts_with('$') || !session.permissions.may_publish(&publish.topic) {
            return self.deny(key, &publish);
        }
        let taken = match self.intake.try_take(&publish.topic, &publish.payload, arrival) {
            Ok(taken) => taken,
            Err(unnamed) => return Err(Halt::Name(publish, unnamed)),
        };
        let ticket = match taken {
            // A retained message is on flash, too, when it is acknowledged.
            Taken::Unrouted if publish.retain && publish.qos > 0 => self.note_written(),
            Taken::Unrouted => 0,
            Taken::Content { stream, timeline, readings } => {
                let session = &self.sessions[key].as_ref().expect("it was there above").id;
                let is_kept = *session != SessionId::NONE && publish.pkid != 0;
                let message = sample::Message {
                    door: DoorId(super::DOOR_FIRST),
                    ticket: 0,
                    session: if is_kept { *session } else { SessionId::NONE },
                    pkid: if is_kept { publish.pkid } else { 0 },
                    stream,
                    timeline,
                    readings,
                };
                match self.pass(key, &publish, message, arrival) {
                    Ok(ticket) => ticket,
                    Err(known) => {
                        add(&self.counters.redelivered, 1);
                        self.answer(key, &publish, known);
                        return Ok(());
                    }
                }
            }
        };
        self.answer(key, &publish, ticket);
        self.hold(Some(key), publish, ticket);
        Ok(())
    }

    /// Passes a message on, or says with which ticket it was passed on before.
    fn pass(
        &mut self,
        key: Key,
        publish: &Publish,
        mut message: sample::Message,
        arrival: Arrival,
    ) -> Result<u64, u64> {
        let class = usize::from(self.classes.get(message.stream.0 as usize).copied().unwrap_or(0));
        let identity = message.identity();
        if let Some(identity) = identity
            && let Some(ticket) = self.known(key, publish.dup, identity)
        {
            return Err(ticket);
        }
        let ticket = self.ticket(class);
        message.ticket = ticket;
        message.door = DoorId(super::DOOR_FIRST + class as u8);
        if let Some(identity) = identity {
            let durable = self.durable.each_ref().map(|durable| *durable.borrow());
            if let Some(session) = self.sessions[key].as_mut() {
                session.seen.enter(identity, ticket, |ticket| durable[self::class(ticket)] >= ticket);
            }
        }
        self.intake.count(&publish.topic, &publish.payload, arrival);
        fault::point("ingest.before_journal");
        self.push(message);
        Ok(ticket)
    }

    fn push(&mut self, message: sample::Message) {
        self.pending_weight += 1 + message.readings.len();
        self.pending.messages.push(message);
    }

    fn known(&self, key: Key, dup: bool, identity: Identity) -> Option<u64> {
        let session = self.sessions[key].as_ref()?;
        let sent = if dup { Sent::Repeated } else { Sent::First };
        match session.seen.judge(sent, identity, |ticket| self.is_durable(ticket)) {
            Sight::Fresh => None,
            Sight::Pending(ticket) => Some(ticket),
            Sight::Durable => Some(0),
        }
    }

    /// A message of the gateway's own, a will.
    pub fn publish_own(&mut self, publish: Publish, arrival: Arrival) -> Result<(), Halt> {
        let taken = match self.intake.try_take(&publish.topic, &publish.payload, arrival) {
            Ok(taken) => taken,
            Err(unnamed) => return Err(Halt::Name(publish, unnamed)),
        };
        let mut ticket = 0;
        if let Taken::Content { stream, timeline, readings } = taken {
            let class = self.classes.get(stream.0 as usize).copied().unwrap_or(0);
            ticket = self.ticket(class.into());
            self.intake.count(&publish.topic, &publish.payload, arrival);
            self.push(sample::Message {
                door: DoorId(super::DOOR_FIRST + class),
                ticket,
                session: SessionId::NONE,
                pkid: 0,
                stream,
                timeline,
                readings,
            });
        }
        self.hold(None, publish, ticket);
        Ok(())
    }

    fn deny(&mut self, key: Key, publish: &Publish) -> Result<(), Halt> {
        add(&self.counters.denied, 1);
        let session = self.sessions[key].as_ref();
        let is_v5 =
            session.and_then(|s| s.conn.as_ref()).is_some_and(|c| c.version == super::codec::Version::V5);
        let answer = match publish.qos {
            // A message that nobody promised to keep.
            0 => return Ok(()),
            // Version 3 knows no refusal, and an acknowledgement would be a lie.
            _ if !is_v5 => return Err(Halt::End(Reason::NotAuthorized)),
            1 => Answer::Denied,
            _ => Answer::DeniedRec,
        };
        self.owe(key, Owed { ticket: 0, pkid: publish.pkid, answer });
        Ok(())
    }

    fn answer(&mut self, key: Key, publish: &Publish, ticket: u64) {
        let answer = match publish.qos {
            0 => return,
            1 => Answer::Ack,
            _ => Answer::Rec,
        };
        if answer == Answer::Rec
            && let Some(session) = self.sessions[key].as_mut()
        {
            session.second.insert(publish.pkid, ticket);
        }
        self.owe(key, Owed { ticket, pkid: publish.pkid, answer });
    }

    fn owe(&mut self, key: Key, owed: Owed) {
        let Some(session) = self.sessions[key].as_mut() else { return };
        if owed.answer == Answer::Ack {
            session.first += 1;
        }
        session.owed.push_back(owed);
        // Who has sent nearly all he may should not wait for the interval.
        if owed.ticket > 0 && class(owed.ticket) == 0 {
            session.note_message();
            if session.hurried {
                self.pending.within = Some(URGENT);
            }
        }
        if !session.is_waiting {
            session.is_waiting = true;
            self.waiting.push(key);
        }
    }

    /// A message goes to subscribers once it is durable; without a subscriber it is not kept.
    fn hold(&mut self, from: Option<Key>, publish: Publish, ticket: u64) {
        if publish.retain {
            self.retain(&publish);
        }
        if self.tree.is_empty() {
            return;
        }
        let message = Rc::new(Message::of(publish, Instant::now()));
        if self.is_durable(ticket) {
            self.deliver(from, &message);
            return;
        }
        self.held_bytes += message.bytes();
        self.held[class(ticket)].push_back(Held { ticket, from, message });
    }

    /// The message is the last of its topic; that is written with the group it is in.
    fn retain(&mut self, publish: &Publish) {
        let expiry = publish.properties.as_ref().and_then(|properties| properties.message_expiry_interval);
        let expires = expiry.and_then(|seconds| {
            Some(self.clock.trusted_now()?.saturating_add(i64::from(seconds).saturating_mul(sample::SECOND)))
        });
        let kept = Kept {
            qos: publish.qos,
            expires,
            payload: publish.payload.clone(),
            properties: super::delivery::pack(publish.properties.as_deref()),
        };
        if let Some(change) = self.retained.publish(&publish.topic, kept) {
            self.pending_weight += 1;
            self.pending.retained.push(change);
        }
    }

    /// Gives a message to the queues of its subscribers.
    fn deliver(&mut self, from: Option<Key>, message: &Rc<Message>) {
        let Desk { tree, sessions, hits, .. } = self;
        let bytes = message.bytes() as u64;
        let can_take = |key: Key| {
            sessions
                .get(key)
                .and_then(Option::as_ref)
                .is_some_and(|session| session.conn.is_some() && session.queue.can_take(bytes))
        };
        tree.route(&message.topic, from, can_take, hits);
        for hit in std::mem::take(&mut self.hits) {
            let retain = hit.retain_as_published && message.retain;
            let delivery = Delivery { message: Rc::clone(message), retain, identifiers: hit.identifiers };
            self.enqueue(hit.client, delivery, hit.qos);
        }
    }

    pub(super) fn enqueue(&mut self, key: Key, delivery: Delivery, qos: u8) {
        let Some(session) = self.sessions[key].as_mut() else { return };
        let presence = session.presence();
        session.queue.push(delivery.entry(qos), presence);
        if session.conn.is_some() {
            self.dirty.push(key);
        }
    }

    /// Everything that has become durable is acknowledged, and goes to subscribers.
    pub fn settle(&mut self) {
        let now = Instant::now();
        let durable = self.durable.each_mut().map(|durable| *durable.borrow_and_update());
        let is_durable = |ticket: u64| durable[class(ticket)] >= ticket;
        for key in std::mem::take(&mut self.waiting) {
            if let Some(session) = self.sessions[key].as_mut() {
                session.is_waiting = false;
            }
            self.settle_session(key, now, is_durable);
        }
        while self.answers.front().is_some_and(|reply| is_durable(reply.ticket)) {
            let Some(reply) = self.answers.pop_front() else { break };
            self.reply(reply);
        }
        for class in 0..CLASSES.len() {
            while self.held[class].front().is_some_and(|held| is_durable(held.ticket)) {
                let Some(Held { from, message, .. }) = self.held[class].pop_front() else { break };
                self.held_bytes -= message.bytes();
                self.deliver(from, &message);
            }
        }
        self.pump_dirty();
    }

    /// What a client is owed and need not wait for, after something of it was read.
    pub fn settle_now(&mut self, key: Key) {
        let durable = self.durable.each_ref().map(|durable| *durable.borrow());
        if self.sessions[key].as_ref().is_some_and(|session| !session.owed.is_empty()) {
            self.settle_session(key, Instant::now(), |ticket: u64| durable[class(ticket)] >= ticket);
        }
        self.pump_dirty();
    }

    /// Ends every connection.
    pub fn end_all(&self, end: End) {
        for session in self.sessions.iter().flatten() {
            if let Some(conn) = &session.conn {
                conn.end(end);
            }
        }
    }

    /// Whether no client is owed anything.
    pub fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.is_idle()
    }

    fn settle_session(&mut self, key: Key, now: Instant, is_durable: impl Fn(u64) -> bool) {
        let Some(session) = self.sessions[key].as_mut() else { return };
        self.out.clear();
        let (mut acknowledged, mut committed) = (0, 0);
        while session.owed.front().is_some_and(|owed| is_durable(owed.ticket)) {
            let Some(owed) = session.owed.pop_front() else { break };
            committed += usize::from(owed.ticket > 0);
            let pkid = owed.pkid.to_be_bytes();
            match owed.answer {
                Answer::Ack => {
                    fault::point("ingest.before_ack");
                    session.first -= 1;
                    self.out.extend_from_slice(&[0x40, 2, pkid[0], pkid[1]]);
                }
                Answer::Rec => self.out.extend_from_slice(&[0x50, 2, pkid[0], pkid[1]]),
                Answer::Denied => {
                    self.out.extend_from_slice(&[0x40, 3, pkid[0], pkid[1], Reason::NotAuthorized as u8]);
                }
                Answer::DeniedRec => {
                    self.out.extend_from_slice(&[0x50, 3, pkid[0], pkid[1], Reason::NotAuthorized as u8]);
                }
            }
            acknowledged += 1;
        }
        let waits = !session.owed.is_empty();
        if committed > 0 {
            session.note_settled(committed, !waits, now);
        }
        if waits && !session.is_waiting {
            self.waiting.push(key);
        }
        session.is_waiting = waits;
        if !waits && session.owed.capacity() > OWED_KEPT {
            session.owed = VecDeque::new();
        }
        if acknowledged > 0
            && let Some(conn) = &session.conn
        {
            conn.send(&self.out);
            // It may have been kept from sending by what it was owed.
            conn.wake.notify_one();
            add(&self.counters.acknowledged, acknowledged);
        }
    }

    /// Sends what the changed queues have.
    pub fn pump_dirty(&mut self) {
        let now = Instant::now();
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        for key in dirty {
            self.pump(key, now);
        }
    }

    /// Sends what a client's queue has, and then what it is to be sent of the retained messages, as far as the client
    /// takes it.
    pub fn pump(&mut self, key: Key, now: Instant) {
        for _ in 0..PUMP_ROUNDS {
            let Some(session) = self.sessions[key].as_mut() else { return };
            let Some(conn) = session.conn.clone() else { return };
            self.out.clear();
            while let Some((pkid, entry)) =
                session.next_delivery(now, self.out.len() >= super::conn::OUT_FULL || conn.is_clogged())
            {
                let before = self.out.len();
                entry.message.encode(conn.version, pkid, false, now, &mut self.out);
                if self.out.len() - before > conn.packet_max {
                    // Version 5: a packet the client cannot take is as good as delivered.
                    self.out.truncate(before);
                    session.queue.acknowledge(pkid);
                }
            }
            if !self.out.is_empty() {
                conn.send(&self.out);
            }
            // What is not written yet brings the client back here when it is.
            if conn.has_out() || session.queue.waiting() == 0 && !self.recall(key, now) {
                return;
            }
            if self.sessions[key].as_ref().is_some_and(|session| session.is_held_up()) {
                return;
            }
        }
        // Others first.
        if let Some(conn) = self.sessions[key].as_ref().and_then(|session| session.conn.as_ref()) {
            conn.wake.notify_one();
        }
    }

    /// Sends again what the client had not acknowledged when it left.
    pub(super) fn resend(&mut self, key: Key, now: Instant) {
        let Some(session) = self.sessions[key].as_mut() else { return };
        let Some(conn) = session.conn.clone() else { return };
        self.out.clear();
        for (pkid, entry) in session.queue.flying() {
            entry.message.encode(conn.version, pkid, true, now, &mut self.out);
        }
        conn.send(&self.out);
    }

    /// Hands what is pending to the journal, if there is room on the way. Returns whether nothing is left.
    pub fn pass_on(&mut self) -> bool {
        if self.is_idle() {
            return true;
        }
        let Ok(room) = Arc::clone(&self.passed).try_acquire_many_owned(self.pending_permits()) else {
            return false;
        };
        // A store that has gone ends the listener elsewhere.
        let Ok(permit) = self.inbound.try_reserve() else { return false };
        self.pending_weight = 0;
        permit.send(Inbound::Batch(Batch { room: Some(room), ..std::mem::take(&mut self.pending) }));
        true
    }

    fn pending_permits(&self) -> u32 {
        self.pending_weight.min(PASSED_MAX) as u32
    }

    /// What to wait for until [`Desk::pass_on`] may succeed.
    pub fn way(&self) -> (Arc<Semaphore>, u32, mpsc::Sender<Inbound>) {
        (Arc::clone(&self.passed), self.pending_permits(), self.inbound.clone())
    }

    /// Whether nothing waits to be passed on.
    pub fn is_idle(&self) -> bool {
        self.pending.messages.is_empty()
            && self.pending.sessions.is_empty()
            && self.pending.retained.is_empty()
            && self.pending.sessions_ticket.is_none()
    }

    /// What is to be written of a session; the ticket that says when it is.
    pub(super) fn note_session(&mut self, change: SessionChange) -> u64 {
        self.pending.sessions.push(change);
        self.note_written()
    }

    /// A ticket for what is written without a message.
    fn note_written(&mut self) -> u64 {
        let ticket = self.ticket(0);
        self.pending.sessions_ticket = Some((DoorId(super::DOOR_FIRST), ticket));
        ticket
    }

    /// Somebody waits for a session to be written. Not for everyone, though: a client that changes its mind all the time
    /// would wear the flash.
    pub(super) fn hurry_session(&mut self, now: Instant) {
        if self.hurried.is_none_or(|at| now.duration_since(at) >= HURRY_EVERY) {
            self.hurried = Some(now);
            let within = self.pending.within.unwrap_or(SESSION_SOON);
            self.pending.within = Some(within.min(SESSION_SOON));
        }
    }
}

/// Places for answers that an idle session keeps.
const OWED_KEPT: usize = 64;
