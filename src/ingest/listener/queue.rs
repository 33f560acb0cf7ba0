//! What waits for one subscriber: messages not yet sent, and messages sent and not yet acknowledged.
//!
//! ```text
//!            push                 take                     acknowledge
//!  routed ─────────▶ waiting ─────────────▶ in flight ─────────────────▶ gone
//!     │                 │  ▲                    │ QoS 0: gone at once
//!     │                 │  └──── reconnected ───┘ (again, in the old order, before anything that waits)
//!     │ QoS 0, absent   │ older than its expiry, or the queue is full
//!     └──▶ dropped      └──▶ dropped, counted
//! ```
//! What for: a subscriber that reads slowly, or is away, costs a bounded amount of memory and holds nobody up. Pure; the
//! listener's desk owns one for each session, `M` is whatever it sends.
//! Power loss: nothing is kept. A message to a subscriber on site is not a reading on its way to the cloud.
//! When full (messages or bytes): the oldest waiting message of the lowest quality of service goes, and is counted; a
//! message that is alone larger than the queue is not taken. What is in flight is never dropped, but counts.
//!
//! Order: messages of one quality of service leave in the order in which they came, and so do all of them as long as
//! nothing is dropped.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use tokio::time::Instant;

/// Bytes that an entry costs beside its message: the two deques' slots.
pub const ENTRY_BYTES: u64 = 64;

/// The bounds of one queue.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Messages, those in flight among them.
    pub messages: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Quality of service of a delivery. QoS 2 is not sent: subscribers that ask for it are granted QoS 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce,
}

/// Whether the subscriber is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Here,
    /// Its session is kept without it. QoS 0 messages are not kept for it (MQTT 5, 4.3.1 leaves that open).
    Away,
}

/// A message for one subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<M> {
    /// Topic, payload and properties, in bytes.
    pub bytes: u64,
    /// How it is sent.
    pub quality: Quality,
    /// When it is no longer worth sending.
    pub expires: Option<Instant>,
    /// The message.
    pub message: M,
}

/// Messages that were not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Because the queue was full.
    pub full: u64,
    /// Because they were too old when their turn came.
    pub expired: u64,
    /// QoS 0, while the subscriber was away.
    pub away: u64,
}

/// The queue of one subscriber.
#[derive(Debug)]
pub struct Queue<M> {
    bounds: Bounds,
    /// By quality, each with the number that gives their common order.
    waiting: [VecDeque<(u64, Entry<M>)>; 2],
    /// By packet identifier, in the order they were sent.
    flying: VecDeque<(u16, Entry<M>)>,
    flying_bytes: u64,
    next: u64,
    bytes: u64,
    dropped: Dropped,
}

// === impl Queue ===

impl<M: Clone> Queue<M> {
    /// An empty queue.
    pub fn new(bounds: Bounds) -> Queue<M> {
        Queue {
            bounds,
            waiting: [VecDeque::new(), VecDeque::new()],
            flying: VecDeque::new(),
            flying_bytes: 0,
            next: 0,
            bytes: 0,
            dropped: Dropped::default(),
        }
    }

    /// Messages waiting to be sent.
    pub fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// Messages sent and not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.flying.len()
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What was dropped so far.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Puts a message at the end, making room if need be.
    pub fn push(&mut self, entry: Entry<M>, presence: Presence) {
        if presence == Presence::Away && entry.quality == Quality::AtMostOnce {
            self.dropped.away += 1;
            return;
        }
        let cost = cost(&entry);
        // Nothing is dropped for a message that would not fit even so.
        if self.flying.len() >= self.bounds.messages || self.flying_bytes + cost > self.bounds.bytes {
            self.dropped.full += 1;
            return;
        }
        while !self.has_room(cost) {
            // A message of low quality does not push out one of higher quality.
            let lowest = self.waiting.iter().position(|queue| !queue.is_empty());
            match lowest.filter(|lowest| *lowest <= index(entry.quality)) {
                Some(lowest) => self.drop_first(lowest),
                None => {
                    self.dropped.full += 1;
                    return;
                }
            }
        }
        self.bytes += cost;
        self.waiting[index(entry.quality)].push_back((self.next, entry));
        self.next += 1;
    }

    /// Whether a message that is pushed now pushes none out.
    pub fn can_take(&self, bytes: u64) -> bool {
        self.has_room(bytes + ENTRY_BYTES)
    }

    fn has_room(&self, cost: u64) -> bool {
        self.waiting() + self.flying.len() < self.bounds.messages && self.bytes + cost <= self.bounds.bytes
    }

    fn drop_first(&mut self, queue: usize) {
        if let Some((_, entry)) = self.waiting[queue].pop_front() {
            self.bytes -= cost(&entry);
            self.dropped.full += 1;
        }
    }

    /// The quality of the message that [`Queue::take`] would return, expired ones apart: a QoS 1 message needs a packet
    /// identifier, and may have to wait for one.
    pub fn next_quality(&mut self, now: Instant) -> Option<Quality> {
        self.drop_expired(now);
        self.first().map(|queue| if queue == 0 { Quality::AtMostOnce } else { Quality::AtLeastOnce })
    }

    /// Takes the next QoS 0 message, passing QoS 1 messages that cannot be sent yet.
    pub fn take_at_most_once(&mut self, now: Instant) -> Option<Entry<M>> {
        self.drop_expired(now);
        let (_, entry) = self.waiting[0].pop_front()?;
        self.bytes -= cost(&entry);
        Some(entry)
    }

    /// Takes the next message. One of QoS 1 is kept in flight under `packet` until it is acknowledged.
    pub fn take(&mut self, now: Instant, packet: u16) -> Option<Entry<M>> {
        self.drop_expired(now);
        let (_, entry) = self.waiting[self.first()?].pop_front()?;
        match entry.quality {
            Quality::AtMostOnce => self.bytes -= cost(&entry),
            Quality::AtLeastOnce => {
                self.flying_bytes += cost(&entry);
                self.flying.push_back((packet, entry.clone()));
            }
        }
        Some(entry)
    }

    /// The subscriber has a message. Returns whether it was in flight.
    pub fn acknowledge(&mut self, packet: u16) -> bool {
        let Some(at) = self.flying.iter().position(|(flying, _)| *flying == packet) else { return false };
        if let Some((_, entry)) = self.flying.remove(at) {
            self.bytes -= cost(&entry);
            self.flying_bytes -= cost(&entry);
        }
        true
    }

    /// What is in flight, in the order it was sent: to be sent again when the subscriber is back (MQTT 5, 4.4).
    pub fn flying(&self) -> impl Iterator<Item = (u16, &Entry<M>)> {
        self.flying.iter().map(|(packet, entry)| (*packet, entry))
    }

    fn first(&self) -> Option<usize> {
        let number = |queue: usize| self.waiting[queue].front().map(|(number, _)| *number);
        match (number(0), number(1)) {
            (Some(low), Some(high)) => Some(usize::from(high < low)),
            (Some(_), None) => Some(0),
            (None, Some(_)) => Some(1),
            (None, None) => None,
        }
    }

    fn drop_expired(&mut self, now: Instant) {
        for queue in &mut self.waiting {
            while let Some((_, entry)) = queue.front() {
                if entry.expires.is_none_or(|expires| expires > now) {
                    break;
                }
                self.bytes -= cost(entry);
                self.dropped.expired += 1;
                queue.pop_front();
            }
        }
    }
}

fn cost<M>(entry: &Entry<M>) -> u64 {
    entry.bytes + ENTRY_BYTES
}

fn index(quality: Quality) -> usize {
    match quality {
        Quality::AtMostOnce => 0,
        Quality::AtLeastOnce => 1,
    }
}
