//! The desk's part that knows clients: they come, subscribe, leave, and are forgotten.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mqtt_proto::{Pid, v3, v5};
use tokio::time::Instant;

use super::codec::{Connect, Publish, Subscribe, Version};
use super::conn::{Conn, End};
use super::delivery::{Delivery, Message, put_length, unpack};
use super::desk::{Desk, DueWill, Key, Reply};
use super::queue::{self, Queue};
use super::reason::Reason;
use super::session::{Recall, Session, filters_of};
use super::tree::{self, Options, Refused, Subscribed};
use super::users::{Pass, Permissions};
use crate::ingest::account::add;
use crate::ingest::seen::Seen;
use crate::journal::{SessionChange, SessionRow};
use crate::sample::{Identity, SECOND, SessionId};

/// Retained messages put into a client's queue at a time.
const RECALLED_MAX: usize = 32;
/// Retained messages ended for their age at one look.
const RETAINED_EXPIRED_MAX: usize = 64;

/// A client that is let in.
pub struct Entrant<'a> {
    pub connect: &'a Connect,
    /// Its identifier, given if it came without.
    pub client: Arc<str>,
    pub pass: Pass,
    pub conn: Rc<Conn>,
    /// Seconds its session is kept.
    pub expiry_s: u32,
    /// Messages it may be sent before it has acknowledged any.
    pub window: usize,
}

/// A client at the desk.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    pub key: Key,
    pub turn: u64,
    pub session_present: bool,
}

/// How a connection has ended, for its will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// The client said farewell, and wants no will.
    Quiet,
    /// Anything else.
    Loud,
}

// === impl Desk ===

impl Desk {
    /// Sessions that an earlier process kept.
    pub fn restore(&mut self, sessions: Vec<(SessionRow, Vec<Identity>)>, now: Instant) {
        for (row, seen) in sessions {
            let away = row.left.zip(self.clock.trusted_now()).map_or(0, |(left, now)| (now - left).max(0));
            let away = Duration::from_nanos(away.unsigned_abs());
            let expired = away >= Duration::from_secs(row.expiry_s.into());
            let Some(filters) = filters_of(&row.state).filter(|_| !expired) else {
                self.note_session(SessionChange::End(row.id));
                continue;
            };
            let (user, client): (Arc<str>, Arc<str>) = (row.user.into(), row.client.into());
            let mut session = self.blank(row.id, user, client);
            session.expiry_s = row.expiry_s;
            session.left = Some(now.checked_sub(away).unwrap_or(now));
            session.seen = Seen::new(self.window, seen);
            let key = self.seat(session);
            for (filter, options) in filters {
                // Bounds may be narrower than when it was granted.
                if self.tree.subscribe(key, &filter, options).is_ok()
                    && let Some(session) = self.session(key)
                {
                    session.filters.insert(filter.into(), options);
                }
            }
        }
    }

    fn blank(&self, id: SessionId, user: Arc<str>, client: Arc<str>) -> Session {
        let bounds =
            queue::Bounds { messages: self.bounds.queue_messages_max, bytes: self.bounds.queue_bytes_max };
        Session {
            id,
            client,
            user,
            expiry_s: 0,
            permissions: Permissions::default(),
            conn: None,
            left: None,
            owed: Default::default(),
            is_waiting: false,
            second: Default::default(),
            first: 0,
            seen: Seen::new(self.window, []),
            queue: Queue::new(bounds),
            window: 0,
            next_pkid: 0,
            filters: Default::default(),
            recalls: Default::default(),
            will: None,
            habit: Default::default(),
            newest: Instant::now(),
            settled: None,
            hurried: false,
            turn: 0,
        }
    }

    fn seat(&mut self, session: Session) -> Key {
        let name = (session.user.clone(), session.client.clone());
        let key = match self.free.pop() {
            Some(key) => {
                self.sessions[key] = Some(session);
                key
            }
            None => {
                self.sessions.push(Some(session));
                self.sessions.len() - 1
            }
        };
        self.by_client.insert(name, key);
        key
    }

    /// Seats a client: its old session, or a new one. An older connection of the same client ends.
    pub fn open(&mut self, entrant: Entrant<'_>, now: Instant) -> Result<Opened, Reason> {
        let Entrant { connect, client, pass, conn, expiry_s, window } = entrant;
        if let Some(will) = &connect.will
            && (will.message.topic.starts_with('$') || !pass.permissions.may_publish(&will.message.topic))
        {
            return Err(Reason::NotAuthorized);
        }
        let user: Arc<str> = pass.user.unwrap_or_else(|| "".into());
        let mut known = self.by_client.get(&(user.clone(), client.clone())).copied();
        if let Some(key) = known {
            self.take_over(key, now);
            if connect.clean || self.session(key).is_some_and(|session| !session.is_kept()) {
                self.end_session(key);
                known = None;
            }
        }
        let session_present = known.is_some();
        let key = match known {
            Some(key) => key,
            None => {
                self.make_room()?;
                let session = self.blank(SessionId::NONE, user, client);
                self.seat(session)
            }
        };
        self.turns += 1;
        let (turn, next_id) = (self.turns, SessionId(self.last_session + 1));
        let Some(session) = self.sessions[key].as_mut() else { return Err(Reason::Unspecified) };
        session.permissions = pass.permissions;
        session.conn = Some(conn);
        session.left = None;
        session.expiry_s = expiry_s;
        session.window = window;
        session.will = connect.will.clone();
        session.turn = turn;
        if expiry_s > 0 && session.id == SessionId::NONE {
            session.id = next_id;
            self.last_session += 1;
        }
        if session.id != SessionId::NONE {
            let row = session.row(None);
            self.note_session(SessionChange::Keep(row));
        }
        Ok(Opened { key, turn, session_present })
    }

    /// After CONNACK: what the client had not acknowledged, then what has gathered.
    pub fn resume(&mut self, key: Key, now: Instant) {
        self.resend(key, now);
        self.pump(key, now);
    }

    fn make_room(&mut self) -> Result<(), Reason> {
        if self.by_client.len() < self.bounds.sessions_max {
            return Ok(());
        }
        // The one that has been away for longest is the one least likely to come back.
        let away = |(key, session): (Key, &Option<Session>)| {
            let session = session.as_ref()?;
            session.conn.is_none().then_some((session.left?, key))
        };
        let oldest = self.sessions.iter().enumerate().filter_map(away).min();
        let Some((_, key)) = oldest else { return Err(Reason::QuotaExceeded) };
        add(&self.counters.sessions_lost, 1);
        self.end_session(key);
        Ok(())
    }

    fn take_over(&mut self, key: Key, now: Instant) {
        let Some(session) = self.session(key) else { return };
        if let Some(old) = session.conn.clone() {
            old.end(End::Told(Reason::TakenOver));
            self.detach(key, Leave::Loud, now);
        }
    }

    /// A connection has ended. `expiry_s` is what the client has changed its session's expiry to with its farewell.
    pub fn lost(&mut self, opened: Opened, leave: Leave, expiry_s: Option<u32>, now: Instant) {
        let Opened { key, turn, .. } = opened;
        let Some(session) =
            self.session(key).filter(|session| session.turn == turn && session.conn.is_some())
        else {
            return;
        };
        // Version 5: what was 0 at CONNECT stays 0.
        if let Some(expiry_s) = expiry_s.filter(|_| session.is_kept()) {
            session.expiry_s = expiry_s;
        }
        self.detach(key, leave, now);
        let left = self.clock.trusted_now();
        let Some(session) = self.session(key) else { return };
        if session.is_kept() {
            let row = session.row(left);
            self.note_session(SessionChange::Keep(row));
        } else {
            self.end_session(key);
        }
    }

    fn detach(&mut self, key: Key, leave: Leave, now: Instant) {
        let Some(session) = self.session(key) else { return };
        session.conn = None;
        session.left = Some(now);
        session.owed.clear();
        session.first = 0;
        let (turn, expiry_s) = (session.turn, session.expiry_s);
        let Some(will) = session.will.take().filter(|_| leave == Leave::Loud) else { return };
        match will.delay_s.min(expiry_s) {
            0 => self.own.push_back(will.message),
            delay_s => {
                let at = now + Duration::from_secs(delay_s.into());
                self.wills.push(DueWill { at, key, turn, message: will.message });
            }
        }
    }

    /// A session is over: nothing of it is left.
    fn end_session(&mut self, key: Key) {
        let Some(session) = self.sessions[key].take() else { return };
        self.tree.forget(key);
        self.by_client.remove(&(session.user, session.client));
        if session.id != SessionId::NONE {
            self.note_session(SessionChange::End(session.id));
        }
        let (due, rest) = std::mem::take(&mut self.wills).into_iter().partition(|will| will.key == key);
        self.wills = rest;
        self.own.extend(due.into_iter().map(|will| will.message));
        self.free.push(key);
    }

    /// Once a second: silent clients, expired sessions, wills that are due.
    pub fn sweep(&mut self, now: Instant) {
        for key in 0..self.sessions.len() {
            let Some(session) = self.sessions[key].as_ref() else { continue };
            match (&session.conn, session.left) {
                (Some(conn), _) => {
                    let silent = now.duration_since(conn.heard.get());
                    if conn.patience.is_some_and(|patience| silent > patience) {
                        conn.end(End::Told(Reason::KeepAlive));
                    }
                }
                (None, Some(left)) => {
                    if now.duration_since(left) >= Duration::from_secs(session.expiry_s.into()) {
                        self.end_session(key);
                    }
                }
                (None, None) => {}
            }
        }
        let (due, rest) = std::mem::take(&mut self.wills).into_iter().partition(|will| will.at <= now);
        self.wills = rest;
        for DueWill { key, turn, message, .. } in due {
            // A client that has come back in time is not dead.
            if self.session(key).is_none_or(|session| session.turn == turn) {
                self.own.push_back(message);
            }
        }
        if let Some(now) = self.clock.trusted_now() {
            self.pending.retained.extend(self.retained.expire(now, RETAINED_EXPIRED_MAX));
        }
    }

    /// Whether a will is due.
    pub fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// The next will that is due.
    pub fn next_own(&mut self) -> Option<Publish> {
        self.own.pop_front()
    }

    /// A will that could not be published yet.
    pub fn put_back(&mut self, publish: Publish) {
        self.own.push_front(publish);
    }

    pub fn subscribe(
        &mut self,
        key: Key,
        subscribe: Subscribe,
        version: Version,
        now: Instant,
    ) -> Result<(), Reason> {
        let (mut codes, mut recalls) = (Vec::new(), Vec::new());
        let mut has_changed = false;
        for (filter, asked) in &subscribe.filters {
            if asked.no_local && filter.starts_with("$share/") {
                return Err(Reason::ProtocolError);
            }
            // QoS 2 is granted as QoS 1.
            let options = Options {
                qos: (asked.max_qos as u8).min(1),
                no_local: asked.no_local,
                retain_as_published: asked.retain_as_published,
                identifier: subscribe.id,
            };
            let outcome = self.subscribe_one(key, filter, options);
            codes.push(match &outcome {
                Ok(_) => options.qos,
                Err(_) if version == Version::V3 => 0x80,
                Err(reason) => *reason as u8,
            });
            let Ok(subscribed) = outcome else { continue };
            add(&self.counters.subscribed, 1);
            let Some(session) = self.session(key) else { return Err(Reason::TakenOver) };
            has_changed |= session.filters.insert(filter.as_str().into(), options) != Some(options);
            let wants_retained = match asked.retain_handling {
                v5::RetainHandling::SendAtSubscribe => true,
                v5::RetainHandling::SendAtSubscribeIfNotExist => subscribed == Subscribed::New,
                v5::RetainHandling::DoNotSend => false,
            };
            if wants_retained && !filter.starts_with("$share/") {
                recalls.push(Recall { filter: filter.as_str().into(), options, after: None });
            }
        }
        let packet = suback(version, subscribe.pkid, &codes);
        self.reply_when_kept(key, has_changed, packet, recalls, now);
        Ok(())
    }

    fn subscribe_one(&mut self, key: Key, filter: &str, options: Options) -> Result<Subscribed, Reason> {
        let asked = tree::parse(filter).map_err(|refused| reason_of(&refused))?;
        let session = self.session(key).ok_or(Reason::TakenOver)?;
        if !session.permissions.may_subscribe(asked.filter) {
            return Err(Reason::NotAuthorized);
        }
        self.tree.subscribe(key, filter, options).map_err(|refused| reason_of(&refused))
    }

    /// Puts the next retained messages that a client is to be sent into its queue, once that is empty: however many
    /// there are, none pushes another out. Returns whether there are more to look at.
    pub(super) fn recall(&mut self, key: Key, now: Instant) -> bool {
        let wall = self.clock.trusted_now();
        let Some(session) = self.sessions[key].as_mut() else { return false };
        if session.queue.waiting() > 0 || session.queue.in_flight() >= session.window {
            return false;
        }
        let Some(mut recall) = session.recalls.pop_front() else { return false };
        let page = self.retained.page(&recall.filter, recall.after.as_deref(), wall, RECALLED_MAX);
        for (topic, kept) in page.found {
            let left = kept
                .expires
                .zip(wall)
                .map(|(at, wall)| Duration::from_secs(((at - wall).max(0) / SECOND) as u64));
            let message = Message {
                topic: topic.into(),
                payload: kept.payload.clone(),
                qos: kept.qos,
                retain: true,
                properties: unpack(&kept.properties),
                expires: left.map(|left| now + left),
            };
            let identifiers = recall.options.identifier.into_iter().collect();
            let delivery = Delivery { message: Rc::new(message), retain: true, identifiers };
            session.queue.push(delivery.entry(recall.options.qos), session.presence());
        }
        if let Some(after) = page.next {
            recall.after = Some(after);
            session.recalls.push_front(recall);
        }
        true
    }

    pub fn unsubscribe(&mut self, key: Key, pkid: u16, filters: &[String], version: Version, now: Instant) {
        let mut codes = Vec::new();
        for filter in filters {
            let had = self.tree.unsubscribe(key, filter);
            codes.push(if had { 0x00 } else { 0x11 });
            if let Some(session) = self.session(key) {
                session.filters.remove(filter.as_str());
            }
        }
        let has_changed = codes.contains(&0x00);
        let packet = unsuback(version, pkid, &codes);
        self.reply_when_kept(key, has_changed, packet, Vec::new(), now);
    }

    /// Answers at once, or, if the database keeps the session and something has changed, once that is written.
    fn reply_when_kept(
        &mut self,
        key: Key,
        has_changed: bool,
        packet: Vec<u8>,
        recalls: Vec<Recall>,
        now: Instant,
    ) {
        let Some(session) = self.session(key) else { return };
        let (turn, is_kept) = (session.turn, session.id != SessionId::NONE);
        let mut reply = Reply { ticket: 0, key, turn, packet, recalls };
        if is_kept && has_changed {
            let row = session.row(None);
            reply.ticket = self.note_session(SessionChange::Keep(row));
            self.hurry_session(now);
            self.answers.push_back(reply);
        } else if self.answers.iter().any(|before| before.key == key) {
            // Not before an earlier one of the same client.
            self.answers.push_back(reply);
        } else {
            // What it is sent of retained messages begins when all that was read is worked off.
            self.reply(reply);
        }
    }

    pub(super) fn reply(&mut self, reply: Reply) {
        let Reply { key, turn, packet, recalls, .. } = reply;
        let Some(session) = self.sessions[key].as_mut().filter(|session| session.turn == turn) else {
            return;
        };
        let Some(conn) = &session.conn else { return };
        conn.send(&packet);
        if recalls.is_empty() {
            return;
        }
        for recall in recalls {
            // Asked for again, it begins again.
            session.recalls.retain(|other| other.filter != recall.filter);
            session.recalls.push_back(recall);
        }
        while session.recalls.len() > self.bounds.subscriptions_max {
            session.recalls.pop_front();
        }
        self.dirty.push(key);
    }

    /// The client has a message.
    pub fn acknowledged(&mut self, key: Key, pkid: u16, now: Instant) {
        if let Some(session) = self.session(key)
            && session.queue.acknowledge(pkid)
        {
            self.pump(key, now);
        }
    }

    /// The client knows that a QoS 2 message has arrived. Returns whether it was known.
    pub fn released(&mut self, key: Key, pkid: u16) -> bool {
        self.session(key).is_some_and(|session| session.second.remove(&pkid).is_some())
    }
}

fn reason_of(refused: &Refused) -> Reason {
    match refused {
        Refused::Filter(_) | Refused::Share => Reason::TopicFilterInvalid,
        Refused::Size | Refused::Client(_) | Refused::Total => Reason::QuotaExceeded,
    }
}

fn pid(pkid: u16) -> Pid {
    Pid::try_from(pkid).expect("the codec refuses packets without one")
}

/// SUBACK. The library's codec for version 3 writes another byte for a refusal than the standard has.
fn suback(version: Version, pkid: u16, codes: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    let mut packet = vec![0x90];
    put_length(2 + properties.len() + codes.len(), &mut packet);
    packet.extend_from_slice(&pkid.to_be_bytes());
    packet.extend_from_slice(properties);
    packet.extend_from_slice(codes);
    packet
}

fn unsuback(version: Version, pkid: u16, codes: &[u8]) -> Vec<u8> {
    let encoded = match version {
        Version::V3 => v3::Packet::Unsuback(pid(pkid)).encode(),
        Version::V5 => {
            let code = |code: &u8| {
                v5::UnsubscribeReasonCode::from_u8(*code)
                    .unwrap_or(v5::UnsubscribeReasonCode::UnspecifiedError)
            };
            v5::Packet::Unsuback(v5::Unsuback::new(pid(pkid), codes.iter().map(code).collect())).encode()
        }
    };
    encoded.map(|packet| packet.as_ref().to_vec()).unwrap_or_default()
}
