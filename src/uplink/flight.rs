//! Rows that are on their way: sent, and not yet answered.
//!
//! ```text
//!  sent ──▶ in flight ──▶ acknowledged, refused, or in doubt: silent for too long, or overtaken by later rows
//! ```
//! NATS keeps the order of one connection and JetStream acknowledges in order, so a row whose successors have been
//! acknowledged is most likely lost; being asked about it early costs one read-back and changes nothing else. Pure; owned by
//! the uplink's task, which bounds it by the window's bytes, [`ROWS_MAX`] and [`SUBJECT_ROWS_MAX`]. After a restart
//! nothing is known of it: then every row counts as perhaps sent.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::lanes::Class;
use super::window::Sending;
use crate::outbox::{OutRow, SubjectKey};

/// Rows of one subject in flight: this many headers must be read back after a crash, 100 KB of 200 bytes each, and
/// rows of 500 bytes still fill 10 Mbit/s at a round trip of 200 ms.
pub const SUBJECT_ROWS_MAX: usize = 512;

/// Rows in flight in all: half of what the connection's command queue and the acknowledgements' subscription hold.
pub const ROWS_MAX: usize = 2048;

/// So many later rows must have been acknowledged …
const OVERTAKEN_BY: u64 = 3;

/// … and the row be this old (and four round trips) to count as lost.
const OVERTAKEN_AGE: Duration = Duration::from_secs(1);

/// A row in flight.
#[derive(Debug, Clone)]
pub struct Flown {
    /// The row.
    pub row: OutRow,
    /// What it was sent as.
    pub class: Class,
    /// For the window.
    pub sending: Sending,
    /// Whether the time its answer takes means anything.
    pub timing: Timing,
    index: u64,
}

/// Whether the time an answer takes says something about the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// It does.
    Fresh,
    /// The link was away since the row was sent.
    Stale,
}

/// Whether a row was sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Not by this process.
    First,
    /// Yes; the hub has refused it, or was found not to hold it.
    Again,
}

/// The rows in flight, by id.
#[derive(Debug, Default)]
pub struct Flight {
    rows: BTreeMap<u64, Flown>,
    order: BTreeMap<u64, u64>,
    by_subject: HashMap<SubjectKey, usize>,
    sent: u64,
    acked_index: u64,
}

// === impl Flight ===

impl Flight {
    /// Whether a row of `subject` may join.
    pub fn has_room(&self, subject: SubjectKey) -> bool {
        self.rows.len() < ROWS_MAX
            && self.by_subject.get(&subject).is_none_or(|&rows| rows < SUBJECT_ROWS_MAX)
    }

    /// Books a row that was sent.
    pub fn sent(&mut self, row: OutRow, class: Class, sending: Sending) {
        self.sent += 1;
        *self.by_subject.entry(row.subject).or_default() += 1;
        self.order.insert(self.sent, row.id);
        let flown = Flown { class, sending, timing: Timing::Fresh, index: self.sent, row };
        let before = self.rows.insert(flown.row.id, flown);
        assert!(before.is_none(), "a row is in flight once");
    }

    /// Takes out a row that was acknowledged.
    pub fn acked(&mut self, id: u64) -> Option<Flown> {
        let flown = self.take(id)?;
        self.acked_index = self.acked_index.max(flown.index);
        Some(flown)
    }

    /// Takes out a row for any other reason.
    pub fn take(&mut self, id: u64) -> Option<Flown> {
        let flown = self.rows.remove(&id)?;
        self.order.remove(&flown.index);
        if let Some(rows) = self.by_subject.get_mut(&flown.row.subject) {
            *rows -= 1;
            if *rows == 0 {
                self.by_subject.remove(&flown.row.subject);
            }
        }
        Some(flown)
    }

    /// The row with this id.
    pub fn get(&self, id: u64) -> Option<&Flown> {
        self.rows.get(&id)
    }

    /// When the longest waiting row was sent.
    pub fn oldest_at(&self) -> Option<Instant> {
        self.oldest().map(|flown| flown.sending.at)
    }

    /// When the longest waiting row will count as lost, as things stand.
    pub fn doubt_at(&self, ack_timeout: Duration, rtt: Option<Duration>) -> Option<Instant> {
        let oldest = self.oldest()?;
        let patience = if oldest.index + OVERTAKEN_BY <= self.acked_index {
            OVERTAKEN_AGE.max(4 * rtt.unwrap_or_default()).min(ack_timeout)
        } else {
            ack_timeout
        };
        Some(oldest.sending.at + patience)
    }

    /// The link was away: how long answers take says nothing any more.
    pub fn stale(&mut self) {
        self.rows.values_mut().for_each(|flown| flown.timing = Timing::Stale);
    }

    /// Whether any row of this class is in flight.
    pub fn has_class(&self, class: Class) -> bool {
        self.rows.values().any(|flown| flown.class == class)
    }

    /// The rows, oldest output first.
    pub fn rows(&self) -> impl Iterator<Item = &Flown> {
        self.rows.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn oldest(&self) -> Option<&Flown> {
        self.order.first_key_value().and_then(|(_, id)| self.rows.get(id))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::sample::{Lane, StreamId};
    use crate::uplink::window::Window;

    const SUBJECT: SubjectKey = SubjectKey { stream: StreamId(1), lane: Lane::Data };
    const TIMEOUT: Duration = Duration::from_secs(30);

    fn fly(flight: &mut Flight, window: &mut Window, id: u64, now: Instant) {
        let row =
            OutRow { id, subject: SUBJECT, seq: id, dropped: 0, clock_correction: None, body: Bytes::new() };
        flight.sent(row, Class::Live, window.sent(1, now));
    }

    // Goal: a row that later ones have overtaken is doubted within seconds, another only after the timeout. Method: two
    // and then three later acknowledgements.
    #[test]
    fn an_overtaken_row_is_doubted_early() {
        let start = Instant::now();
        let (mut flight, mut window) = (Flight::default(), Window::new(1 << 20, start));
        for id in 1..=4 {
            fly(&mut flight, &mut window, id, start);
        }
        assert_eq!(flight.doubt_at(TIMEOUT, None), Some(start + TIMEOUT));
        flight.acked(2);
        flight.acked(3);
        assert_eq!(flight.doubt_at(TIMEOUT, None), Some(start + TIMEOUT));
        flight.acked(4);
        assert_eq!(flight.doubt_at(TIMEOUT, None), Some(start + OVERTAKEN_AGE));
        let slow = Some(Duration::from_secs(2));
        assert_eq!(flight.doubt_at(TIMEOUT, slow), Some(start + Duration::from_secs(8)));
        assert!(flight.acked(1).is_some() && flight.is_empty());
        assert_eq!(flight.doubt_at(TIMEOUT, None), None);
    }

    // Goal: no subject floods the flight. Method: fill one up to its bound and ask for another.
    #[test]
    fn a_subject_has_a_bound_of_its_own() {
        let start = Instant::now();
        let (mut flight, mut window) = (Flight::default(), Window::new(1 << 20, start));
        for id in 0..SUBJECT_ROWS_MAX as u64 {
            assert!(flight.has_room(SUBJECT));
            fly(&mut flight, &mut window, id, start);
        }
        assert!(!flight.has_room(SUBJECT));
        assert!(flight.has_room(SubjectKey { lane: Lane::Alarm, ..SUBJECT }));
        flight.take(7);
        assert!(flight.has_room(SUBJECT));
    }
}
