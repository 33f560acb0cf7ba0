//! Readings kept back for a component that does not work at present. Pure.
//!
//! Oldest first, in pieces of one stream and timeline, none larger than one call takes. All of it goes into every
//! checkpoint, so that power loss costs nothing. Beyond the bound the oldest readings are dropped, counted; the raw ring has
//! them.
//!
//! A piece on which the component fails is halved, and each half has its turn, so that one reading which no instance can
//! bear is found, dropped and counted, and costs nobody else's readings:
//! ```text
//! piece ── failed, one reading ──▶ dropped
//!   └───── failed ──▶ probe, rest ──▶ probe worked: the rest holds the culprit, and is halved untried
//!                                └──▶ probe failed: it is halved, and the rest is a piece like any other
//! ```

use std::collections::VecDeque;

use crate::runtime::exchange::BATCH_ROWS_MAX;
use crate::sample::{Reading, StreamId, Timeline};

/// What waits for one component.
#[derive(Debug)]
pub(super) struct Hold {
    pieces: VecDeque<Piece>,
    readings: usize,
    readings_max: usize,
    dropped: u64,
}

/// Readings of one stream and timeline.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) stream: StreamId,
    pub(super) timeline: Timeline,
    pub(super) readings: Vec<Reading>,
    doubt: Doubt,
}

/// What is known of a piece. Not kept across a restart, which costs one more failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    None,
    /// The first half of a piece that failed.
    Probe,
    /// The second, right behind it.
    Rest,
}

// === impl Hold ===

impl Hold {
    pub(super) fn new(readings_max: usize) -> Hold {
        Hold { pieces: VecDeque::new(), readings: 0, readings_max, dropped: 0 }
    }

    /// Appends readings. Tells how many of the oldest were dropped to make room.
    pub(super) fn push(&mut self, stream: StreamId, timeline: Timeline, mut readings: &[Reading]) -> usize {
        self.readings += readings.len();
        // What waits in small pieces is joined, so that pieces cost little beside their readings. Of one stream the order is
        // kept, that of streams among each other means nothing.
        let last = self.pieces.iter_mut().rfind(|piece| piece.stream == stream);
        if let Some(last) = last.filter(|piece| piece.timeline == timeline && piece.doubt == Doubt::None) {
            let room = BATCH_ROWS_MAX.saturating_sub(last.readings.len()).min(readings.len());
            last.readings.extend_from_slice(&readings[..room]);
            readings = &readings[room..];
        }
        for rows in readings.chunks(BATCH_ROWS_MAX) {
            self.pieces.push_back(Piece { stream, timeline, readings: rows.to_vec(), doubt: Doubt::None });
        }
        self.make_room()
    }

    /// Takes the oldest piece out.
    pub(super) fn next(&mut self) -> Option<Piece> {
        let piece = self.pieces.pop_front()?;
        self.readings -= piece.readings.len();
        Some(piece)
    }

    /// The component had no time for the piece that was taken last: it is the oldest again.
    pub(super) fn put_back(&mut self, piece: Piece) {
        self.readings += piece.readings.len();
        self.pieces.push_front(piece);
        self.make_room();
    }

    /// The component worked on the piece that was taken last.
    pub(super) fn worked(&mut self, piece: Piece) {
        let rest = self.pieces.front().filter(|next| next.doubt == Doubt::Rest);
        if piece.doubt == Doubt::Probe
            && rest.is_some()
            && let Some(rest) = self.pieces.pop_front()
        {
            self.halve(rest);
        }
    }

    /// The component failed on the piece that was taken last. Tells how many readings were dropped for good.
    pub(super) fn failed(&mut self, piece: Piece) -> usize {
        if piece.doubt == Doubt::Probe
            && let Some(rest) = self.pieces.front_mut().filter(|next| next.doubt == Doubt::Rest)
        {
            rest.doubt = Doubt::None;
        }
        if piece.readings.len() == 1 {
            self.dropped += 1;
            return 1;
        }
        self.readings += piece.readings.len();
        self.halve(piece);
        self.make_room();
        0
    }

    /// Another component, or the same after somebody has looked: nothing is suspect any more.
    pub(super) fn forgive(&mut self) {
        self.pieces.iter_mut().for_each(|piece| piece.doubt = Doubt::None);
    }

    /// Whether readings of a stream wait.
    pub(super) fn holds(&self, stream: StreamId) -> bool {
        self.pieces.iter().any(|piece| piece.stream == stream)
    }

    /// Readings that wait.
    pub(super) fn len(&self) -> usize {
        self.readings
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Readings dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Everything that waits, oldest first.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter()
    }

    /// Puts the halves of a piece in front. One reading cannot be halved: it has its turn.
    fn halve(&mut self, mut piece: Piece) {
        if piece.readings.len() == 1 {
            return self.pieces.push_front(Piece { doubt: Doubt::None, ..piece });
        }
        let rest = piece.readings.split_off(piece.readings.len() / 2);
        let (stream, timeline) = (piece.stream, piece.timeline);
        self.pieces.push_front(Piece { stream, timeline, readings: rest, doubt: Doubt::Rest });
        self.pieces.push_front(Piece { doubt: Doubt::Probe, ..piece });
    }

    fn make_room(&mut self) -> usize {
        let mut dropped = 0;
        while self.readings > self.readings_max {
            let Some(oldest) = self.pieces.front_mut() else { break };
            let excess = (self.readings - self.readings_max).min(oldest.readings.len());
            oldest.readings.drain(..excess);
            if oldest.readings.is_empty() {
                self.pieces.pop_front();
            }
            self.readings -= excess;
            dropped += excess;
        }
        self.dropped += dropped as u64;
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{SeriesId, Value};

    const A: StreamId = StreamId(1);
    const B: StreamId = StreamId(2);

    fn rows(times: std::ops::Range<i64>) -> Vec<Reading> {
        times.map(|time| Reading { series: SeriesId(1), time, value: Value::Int(time) }).collect()
    }

    fn take(hold: &mut Hold) -> Vec<(StreamId, i64, i64)> {
        std::iter::from_fn(|| hold.next())
            .map(|piece| (piece.stream, piece.readings[0].time, piece.readings.len() as i64))
            .collect()
    }

    /// Gives out everything to a component that fails on these times; returns what it worked on, and how often it failed.
    fn drain(hold: &mut Hold, culprits: &[i64]) -> (Vec<i64>, u32) {
        let (mut worked, mut failures) = (Vec::new(), 0);
        while let Some(piece) = hold.next() {
            if piece.readings.iter().any(|reading| culprits.contains(&reading.time)) {
                failures += 1;
                hold.failed(piece);
            } else {
                worked.extend(piece.readings.iter().map(|reading| reading.time));
                hold.worked(piece);
            }
        }
        (worked, failures)
    }

    #[test]
    fn what_waits_is_joined_in_order_in_pieces_that_one_call_takes() {
        // Goal: each stream's order, few pieces, none too large. Method: two streams in turn, a timeline of its own between,
        // and more than a call takes.
        let mut hold = Hold::new(1 << 20);
        for n in 0..10 {
            hold.push(A, Timeline::Sensor, &rows(n..n + 1));
            hold.push(B, Timeline::Sensor, &rows(n..n + 1));
        }
        hold.push(A, Timeline::Arrival, &rows(10..11));
        hold.push(A, Timeline::Sensor, &rows(11..11 + 20_000));
        assert!(hold.holds(B));
        assert_eq!(hold.len(), 20_021);
        let expected = [
            (A, 0, 10),
            (B, 0, 10),
            (A, 10, 1),
            (A, 11, 8_192),
            (A, 11 + 8_192, 8_192),
            (A, 11 + 16_384, 20_000 - 16_384),
        ];
        assert_eq!(take(&mut hold), expected);
        assert_eq!((hold.len(), hold.is_empty(), hold.holds(B)), (0, true, false));
    }

    #[test]
    fn beyond_the_bound_the_oldest_are_dropped_and_counted() {
        // Goal: never more than the bound, whichever way readings come in. Method: push, and put back.
        let mut hold = Hold::new(100);
        assert_eq!(hold.push(A, Timeline::Sensor, &rows(0..90)), 0);
        assert_eq!(hold.push(B, Timeline::Sensor, &rows(0..30)), 20);
        assert_eq!(hold.pieces().next().unwrap().readings[0].time, 20);
        let oldest = hold.next().unwrap();
        assert_eq!(hold.push(B, Timeline::Sensor, &rows(30..60)), 0);
        hold.put_back(oldest);
        assert_eq!((hold.len(), hold.dropped()), (100, 20 + 30));
        assert_eq!(hold.push(A, Timeline::Arrival, &rows(0..150)), 150);
        assert_eq!((take(&mut hold), hold.dropped()), (vec![(A, 50, 100)], 50 + 150));
    }

    #[test]
    fn one_reading_that_nobody_can_bear_is_found_and_costs_no_other() {
        // Goal: only the culprit is dropped, the order is kept, and it costs few failures. Method: every place in pieces of
        // many lengths; then two culprits, and a whole piece of them.
        for length in [1, 2, 3, 7, 100, 8_192] {
            for culprit in (0..length).step_by(usize::try_from(length).unwrap().div_ceil(50)) {
                let mut hold = Hold::new(1 << 20);
                hold.push(A, Timeline::Sensor, &rows(0..length));
                let (worked, failures) = drain(&mut hold, &[culprit]);
                let others: Vec<i64> = (0..length).filter(|time| *time != culprit).collect();
                assert_eq!(worked, others, "{culprit} of {length}");
                assert!(failures <= 2 + length.ilog2(), "{failures} failures for {culprit} of {length}");
                assert_eq!((hold.dropped(), hold.len()), (1, 0));
            }
        }
        let mut hold = Hold::new(1 << 20);
        hold.push(A, Timeline::Sensor, &rows(0..100));
        assert_eq!(drain(&mut hold, &[17, 80]).0.len(), 98);
        hold.push(A, Timeline::Sensor, &rows(0..4));
        assert_eq!(drain(&mut hold, &[0, 1, 2, 3]).0, [0; 0]);
        assert_eq!(hold.dropped(), 2 + 4);
    }

    #[test]
    fn what_is_known_of_a_piece_is_forgotten_when_the_component_is_another() {
        // Goal: a new version gets whole pieces. Method: fail, forgive, and give out.
        let mut hold = Hold::new(100);
        hold.push(A, Timeline::Sensor, &rows(0..10));
        let piece = hold.next().unwrap();
        hold.failed(piece);
        hold.push(A, Timeline::Sensor, &rows(10..20));
        hold.forgive();
        assert_eq!(drain(&mut hold, &[]), ((0..20).collect(), 0));
    }
}
