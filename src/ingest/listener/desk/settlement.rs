//! What becomes durable: acknowledgements leave, messages go to their subscribers' queues, and queues to their clients.
//!
//! Owns nothing: what it changes is the [`Desk`]'s. Acknowledgements come first, of one client in one write; then answers
//! to subscriptions; then deliveries, as far as each client takes them. A group is more at once than a queue may hold, so
//! what would push messages out of the queue of a client that is reading waits, for [`SPREAD`] at most:
//! ```text
//!  held ── durable ──▶ queue, sent ──▶ queue full, its client reads ──▶ held back ── acknowledged, written, SPREAD over ─┐
//!              ▲                                                                                                        │
//!              └────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! Power loss: what is acknowledged is on flash. What waits for subscribers is not kept.
//! When full: a queue drops by its policy ([`crate::ingest::listener::queue`]); of a client that does not read, what is
//! ready to be written is bounded by [`OUT_FULL`] and one packet.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Desk, HELD_MAX, Held, Key, class};
use crate::ingest::account::add;
use crate::ingest::listener::conn::OUT_FULL;
use crate::ingest::listener::delivery::{Delivery, Message};
use crate::ingest::listener::reason::Reason;
use crate::ingest::listener::session::Answer;
use crate::platform::fault;

/// Longest time that durable messages wait for clients that read: the default commit interval, so that they are gone when
/// the next group comes.
const SPREAD: Duration = Duration::from_secs(1);
/// A client that was sent nothing for so long, with messages waiting for it, does not read: a round trip of a bad link.
const READS_WITHIN: Duration = Duration::from_millis(250);
/// How often those who are waited for are looked at, if they say nothing.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);
/// With so many bytes held nobody is waited for, so that sensors are read from whatever subscribers do.
const HELD_BACK_MAX: usize = HELD_MAX / 2;
/// Rounds of 64 KiB sent to one client at a go: two milliseconds, then others have their turn.
const PUMP_ROUNDS: usize = 16;
/// Places for answers that an idle session keeps.
const OWED_KEPT: usize = 64;

// === impl Desk ===

impl Desk {
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
        self.deliver_durable(now);
        self.pump_dirty();
    }

    /// Whether durable messages wait for a client that is reading; then [`Desk::settle`] is due again after [`LOOK_EVERY`].
    pub fn holds_back(&self) -> bool {
        self.held_back.is_some()
    }

    fn deliver_durable(&mut self, now: Instant) {
        let durable = self.durable.each_ref().map(|durable| *durable.borrow());
        for (class, durable) in durable.into_iter().enumerate() {
            while self.held[class].front().is_some_and(|held| durable >= held.ticket) {
                if self.must_hold_back(now) {
                    return;
                }
                let Some(Held { from, message, is_counted, .. }) = self.held[class].pop_front() else {
                    break;
                };
                self.held_bytes -= message.bytes();
                if is_counted && let Some(count) = self.held_topics.get_mut(&message.topic) {
                    *count -= 1;
                    if *count == 0 {
                        self.held_topics.remove(&message.topic);
                    }
                }
                let before = self.dirty.len();
                self.deliver(from, &message);
                let is_crowded =
                    |key: &Key| self.sessions[*key].as_ref().is_some_and(|session| session.is_crowded());
                self.crowded.extend(self.dirty[before..].iter().copied().filter(is_crowded));
            }
        }
        self.held_back = None;
        self.crowded.clear();
    }

    /// Sends what full queues have. Whether one is still full, and its client worth waiting for.
    fn must_hold_back(&mut self, now: Instant) -> bool {
        while let Some(key) = self.crowded.last().copied() {
            self.pump(key, now);
            let reads = self.sessions[key].as_ref().is_some_and(|session| {
                session.is_crowded()
                    && session.conn.is_some()
                    && now.saturating_duration_since(session.sent) < READS_WITHIN
            });
            let has_room = self.held_bytes < HELD_BACK_MAX;
            if reads && has_room && now.saturating_duration_since(*self.held_back.get_or_insert(now)) < SPREAD
            {
                return true;
            }
            self.crowded.pop();
        }
        false
    }

    /// What a client is owed and need not wait for, after something of it was read.
    pub fn settle_now(&mut self, key: Key) {
        let durable = self.durable.each_ref().map(|durable| *durable.borrow());
        if self.sessions[key].as_ref().is_some_and(|session| !session.owed.is_empty()) {
            self.settle_session(key, Instant::now(), |ticket: u64| durable[class(ticket)] >= ticket);
        }
        self.resume_deliveries(Instant::now());
        self.pump_dirty();
    }

    /// Goes on with what was held back, if there is room for it now.
    pub fn resume_deliveries(&mut self, now: Instant) {
        if self.held_back.is_some() {
            self.deliver_durable(now);
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

    /// Gives a message to the queues of its subscribers.
    pub(super) fn deliver(&mut self, from: Option<Key>, message: &Rc<Message>) {
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

    fn enqueue(&mut self, key: Key, delivery: Delivery, qos: u8) {
        let Some(session) = self.sessions[key].as_mut() else { return };
        let presence = session.presence();
        session.queue.push(delivery.entry(qos), presence);
        if session.conn.is_some() {
            self.dirty.push(key);
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
                session.next_delivery(now, self.out.len() >= OUT_FULL || conn.is_clogged())
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
                session.sent = now;
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
}
