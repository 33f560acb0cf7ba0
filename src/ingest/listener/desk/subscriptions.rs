//! What clients ask for: subscriptions made and ended, retained messages that follow them, and what clients acknowledge.
//!
//! Owns nothing: what it changes is the [`Desk`]'s. Power loss: the answer to a SUBSCRIBE or UNSUBSCRIBE of a session that
//! is kept waits until the change is durable.
//! When full: filters beyond the tree's bounds are refused. Retained messages are put into a client's queue a page at a
//! time and only when it is empty, so that none pushes another out.

use std::rc::Rc;
use std::time::Duration;

use mqtt_proto::v5;
use tokio::time::Instant;

use super::{Desk, Key, Reply};
use crate::ingest::account::add;
use crate::ingest::listener::codec::{Subscribe, Version, suback, unsuback};
use crate::ingest::listener::delivery::{Delivery, Message, unpack};
use crate::ingest::listener::reason::Reason;
use crate::ingest::listener::session::Recall;
use crate::ingest::listener::tree::{self, Options, Refused, Subscribed};
use crate::journal::SessionChange;
use crate::sample::{SECOND, SessionId};

/// Retained messages put into a client's queue at a time.
const RECALLED_MAX: usize = 32;

// === impl Desk ===

impl Desk {
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
