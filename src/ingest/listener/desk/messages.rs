//! Messages that come in: copies recognised, rights asked, readings made of them, and what their senders are owed.
//!
//! Owns nothing: what it changes is the [`Desk`]'s. A message gets a ticket here, its sender an entry in what it is owed,
//! and its subscribers a place among what is held; the rest of its way is [`super::passage`] and [`super::settlement`].
//! Power loss: nothing is acknowledged here. What is on its way to the journal is lost, and sent again by its client.
//! When full: clients are not read from ([`Desk::has_room`]), so nothing is dropped. A message of QoS 0 to a forbidden
//! topic is, counted.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Desk, Halt, Held, Key, class};
use crate::ingest::account::add;
use crate::ingest::intake::{Arrival, Taken};
use crate::ingest::listener::DOOR_FIRST;
use crate::ingest::listener::codec::{Publish, Version};
use crate::ingest::listener::delivery::{self, Message};
use crate::ingest::listener::inside;
use crate::ingest::listener::reason::Reason;
use crate::ingest::listener::retained::Kept;
use crate::ingest::listener::session::{Answer, Owed};
use crate::ingest::seen::{Delivery as Sent, Sight};
use crate::platform::fault;
use crate::sample::{self, DoorId, Identity, SessionId};

/// A group somebody waits for who has sent all he may: time for others to join it.
const URGENT: Duration = Duration::from_millis(5);

// === impl Desk ===

impl Desk {
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
        // A stream that takes commands, too, makes readings of them; an actuator waits for no commit of these.
        let is_command = inside::is_commander(&session.user);
        // What a component says is for whoever listens: there is nothing strange in no stream taking it.
        let is_stray = inside::is_component(&session.user) && !self.intake.is_wanted(&publish.topic);
        let taken = if is_stray {
            Ok(Taken::Unrouted)
        } else {
            self.intake.try_take(&publish.topic, &publish.payload, arrival)
        };
        let taken = match taken {
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
                    door: DoorId(DOOR_FIRST),
                    ticket: 0,
                    session: if is_kept { *session } else { SessionId::NONE },
                    pkid: if is_kept { publish.pkid } else { 0 },
                    stream,
                    timeline,
                    readings,
                };
                match self.pass(key, &publish, message, arrival) {
                    Ok(_) if is_command => 0,
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
        message.door = DoorId(DOOR_FIRST + class as u8);
        if let Some(identity) = identity {
            let durable = self.durable.each_ref().map(|durable| *durable.borrow());
            if let Some(session) = self.sessions[key].as_mut() {
                session.seen.enter(identity, ticket, |ticket| durable[super::class(ticket)] >= ticket);
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
                door: DoorId(DOOR_FIRST + class),
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
        let is_v5 = session.and_then(|s| s.conn.as_ref()).is_some_and(|c| c.version == Version::V5);
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
        let retain = publish.retain;
        let message = Rc::new(Message::of(publish, Instant::now()));
        let waits = !self.is_durable(ticket);
        // A message that need not wait does all the same behind a retained one of its topic that does: an actuator must not
        // be told the older of two commands last.
        let is_behind = !waits && self.held_topics.contains_key(&message.topic);
        if !waits && !is_behind {
            self.deliver(from, &message);
            return;
        }
        let is_counted = retain || is_behind;
        if is_counted {
            *self.held_topics.entry(Arc::clone(&message.topic)).or_default() += 1;
        }
        self.held_bytes += message.bytes();
        let ticket = if waits { ticket } else { self.held[0].back().map_or(0, |last| last.ticket) };
        self.held[class(ticket)].push_back(Held { ticket, from, message, is_counted });
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
            properties: delivery::pack(publish.properties.as_deref()),
        };
        if let Some(change) = self.retained.publish(&publish.topic, kept) {
            self.pending_weight += 1;
            self.pending.retained.push(change);
        }
    }
}
