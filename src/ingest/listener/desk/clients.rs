//! Clients come, leave and are forgotten: their sessions, their wills, and what time does to both.
//!
//! ```text
//!  CONNECT ─▶ open ──▶ seated ──▶ lost ─▶ away ──▶ end_session
//!               │ (takes over an older connection)   ▲
//!  restore ─────┴──────────────▶ away ── sweep ──────┘
//! ```
//! Owns nothing: what it changes is the [`Desk`]'s. Power loss: a session that is to be kept is in the database before its
//! client is acknowledged anything in it; wills are not kept, as no connection outlives the process.
//! When full: with `sessions_max` sessions the one that has been away for longest goes, counted; with none away, the new
//! client is refused.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Desk, DueWill, Key};
use crate::ingest::account::add;
use crate::ingest::listener::codec::{Connect, Publish};
use crate::ingest::listener::conn::{Conn, End};
use crate::ingest::listener::queue::{self, Queue};
use crate::ingest::listener::reason::Reason;
use crate::ingest::listener::session::{Session, filters_of};
use crate::ingest::listener::users::{Pass, Permissions};
use crate::ingest::seen::Seen;
use crate::journal::{SessionChange, SessionRow};
use crate::sample::{Identity, SessionId};

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
            sent: Instant::now(),
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
}
