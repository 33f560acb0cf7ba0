//! Rows out, answers in: the part of the uplink's loop that touches single rows.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::answer::{Answer, Refusal, Stored};
use super::drain::Drain;
use super::feed::size;
use super::flight::{Timing, Turn};
use super::floors::Standing;
use super::lanes::Class;
use super::message::{Origin, Stamp};
use super::window::Urgency;
use crate::outbox::{OutRow, SubjectKey};
use crate::platform::fault;

/// Rows sent before acknowledgements are looked at again.
const ROWS_PER_TURN: usize = 64;

/// First pause after a refusal …
const HOLD_FIRST: Duration = Duration::from_secs(1);

/// … doubled up to this: a hub that has been given room is used again within half a minute.
const HOLD_MAX: Duration = Duration::from_secs(30);

/// A subject whose rows the hub does not take at present. One row at a time is tried.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    until: Instant,
    pause: Duration,
    /// A row is out to see.
    pub(super) trying: bool,
}

// === impl Hold ===

impl Hold {
    /// When to look again, if that is in the future.
    pub(super) fn wakes_after(&self, now: Instant) -> Option<Instant> {
        (!self.trying && self.until > now).then_some(self.until)
    }

    fn bars(&self, now: Instant) -> bool {
        self.trying || self.until > now
    }
}

// === impl Drain ===

impl Drain {
    /// Sends as many rows as lanes, window and bounds allow, up to a turn's worth.
    pub(super) async fn pump(&mut self) {
        for _ in 0..ROWS_PER_TURN {
            let now = Instant::now();
            let mut unread = false;
            let heads = self.feeds.heads(|_, row| {
                let read = self.floors.standing(row.subject) == Standing::Read;
                unread |= !read;
                let held = self.holds.get(&row.subject).is_some_and(|hold| hold.bars(now));
                read && !held && self.flight.has_room(row.subject)
            });
            self.unread_head |= unread;
            let Some(class) = self.lanes.next(heads) else { return };
            let urgency = if class == Class::Alarm { Urgency::Alarm } else { Urgency::Ordinary };
            let head = self.feeds.head(class).map_or(0, size);
            if !self.window.allows(head, urgency) {
                return;
            }
            let Some((row, turn)) = self.feeds.take(class) else { return };
            match self.publish(row, class, turn, now).await {
                Published::Sent => self.lanes.sent(class, head, heads),
                Published::Skipped => {}
                Published::Failed => return,
            }
        }
        // More may be possible at once, but acknowledgements are looked at first.
        self.more = true;
    }

    async fn publish(&mut self, row: OutRow, class: Class, turn: Turn, now: Instant) -> Published {
        let (Some(session), Some(named)) = (&self.session, self.names.get(&row.subject)) else {
            self.feeds.again(class, row);
            return Published::Failed;
        };
        let origin = Origin {
            gateway: self.settings.gateway.clone(),
            lane: row.subject.lane,
            stream: named.stream.clone(),
            epoch: self.store.epoch,
        };
        let stamp =
            Stamp { origin, seq: row.seq, dropped: row.dropped, clock_correction: row.clock_correction };
        let weight = size(&row);
        let limit = session.client.max_payload() as u64;
        if weight > limit {
            let refusal = Refusal::TooLarge(format!("{weight} bytes, the server takes {limit}"));
            self.skip(row.subject, row.id, refusal);
            return Published::Skipped;
        }
        let reply = format!("{}.{}", session.inbox, row.id);
        fault::point("uplink.before_publish");
        let sent = session.client.publish_with_reply_and_headers(
            named.subject.clone(),
            reply,
            stamp.headers(),
            row.body.clone(),
        );
        // It only queues; the queue has room for everything that may be in flight.
        if let Err(error) = sent.await {
            debug!(%error, "not published");
            self.link.doubt();
            self.feeds.again(class, row);
            return Published::Failed;
        }
        fault::point("uplink.after_publish");
        self.floors.sending(row.subject, row.id);
        if let Some(hold) = self.holds.get_mut(&row.subject) {
            hold.trying = true;
        }
        if turn == Turn::Again {
            self.status.resent_rows += 1;
        }
        let sending = self.window.sent(weight, now);
        self.flight.sent(row, class, sending);
        Published::Sent
    }

    /// Takes the answer to the row with this id.
    pub(super) fn take_answer(&mut self, id: u64, answer: Answer) {
        match answer {
            Answer::Stored(stored) => self.take_stored(id, &stored),
            Answer::Refused(refusal) => self.take_refused(id, refusal),
            Answer::Nobody => {
                self.link.doubt();
                let subject = self.flight.get(id).map(|flown| flown.row.subject);
                let name = subject.and_then(|key| self.names.get(&key)).map(|named| named.subject.clone());
                self.take_refused(id, Refusal::NoStream(name.unwrap_or_default()));
            }
            Answer::Garbled => self.status.garbled_answers += 1,
        }
    }

    fn take_stored(&mut self, id: u64, stored: &Stored) {
        let now = Instant::now();
        let row = match self.flight.acked(id) {
            Some(flown) => {
                match flown.timing {
                    Timing::Fresh => self.window.acked(flown.sending, now),
                    Timing::Stale => self.window.forget(flown.sending),
                }
                flown.row
            }
            // It was given up and waits to go again: no need.
            None => match self.feeds.take_again(id) {
                Some(row) => row,
                None => return,
            },
        };
        self.floors.acked(row.subject, id, stored);
        self.settle(row.subject, id);
        self.status.acked_rows += 1;
        self.status.acked_bytes += row.body.len() as u64;
        self.status.last_ack = Some(now);
        if self.holds.remove(&row.subject).is_some() && self.holds.is_empty() {
            self.status.refusal = None;
            info!("the hub takes rows again");
        }
    }

    fn take_refused(&mut self, id: u64, refusal: Refusal) {
        let Some(flown) = self.flight.take(id) else { return };
        self.window.forget(flown.sending);
        let subject = flown.row.subject;
        if matches!(refusal, Refusal::TooLarge(_)) {
            self.skip(subject, id, refusal);
            return;
        }
        self.feeds.again(flown.class, flown.row);
        let now = Instant::now();
        let pause = match self.holds.get(&subject) {
            // Rows that were sent together are refused together: that is one refusal.
            Some(hold) if !hold.trying => hold.pause,
            Some(hold) => (hold.pause * 2).min(HOLD_MAX),
            None => HOLD_FIRST,
        };
        let hold = Hold { until: now + pause, pause, trying: false };
        self.holds.insert(subject, hold);
        // That nobody takes a row most often means that the link has just gone, which the link says itself.
        if pause > HOLD_FIRST || !matches!(refusal, Refusal::NoStream(_)) {
            self.show_refusal(refusal);
        }
    }

    /// Says once why the hub does not take rows.
    pub(super) fn show_refusal(&mut self, refusal: Refusal) {
        if self.status.refusal.as_ref() != Some(&refusal) {
            warn!(what = %refusal, todo = refusal.advice(), "rows are kept");
            self.status.refusal = Some(refusal);
        }
    }

    /// Leaves a row in the outbox that can never be sent as things are; it is tried again after the next start.
    fn skip(&mut self, subject: SubjectKey, id: u64, refusal: Refusal) {
        error!(id, what = %refusal, todo = refusal.advice(), "a row stays in the outbox");
        self.status.oversized_rows += 1;
        self.floors.settled(subject, id);
        self.holds.remove(&subject);
    }

    pub(super) fn settle(&mut self, subject: SubjectKey, id: u64) {
        self.settled.0.push(id);
        self.settled.1.insert(subject);
    }
}

enum Published {
    Sent,
    Skipped,
    Failed,
}
