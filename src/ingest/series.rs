//! Which series a field of a topic is: what a door remembers, so that the store is asked once per series.
//!
//! Two levels. [`Book`], one per stream, holds every series the store has numbered for this door, at most `series_max`.
//! [`Fields`], one per topic, leads from the field to the number without building a name; it may be thrown away at any
//! time. A stream that has all its series refuses further ones here; the store is not asked again.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use crate::ingest::reason::Reason;
use crate::sample::SeriesId;
use crate::store::SeriesDenied;

/// Refused names remembered per stream, as 8-byte hashes: 65,536 x 16 B = 1 MiB. When full it is cleared, and the store is
/// asked again.
pub const REFUSED_MAX: usize = 65_536;

/// Fields of one topic that are searched one by one; more are indexed.
const FIELDS_LINEAR_MAX: usize = 16;

/// What a field leads to.
pub(super) type Slot = Result<SeriesId, Reason>;

/// The series of one stream.
#[derive(Debug)]
pub(super) struct Book {
    known: HashMap<Box<str>, SeriesId>,
    refused: HashSet<u64>,
    hasher: RandomState,
    series_max: usize,
}

/// What a book says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Known(SeriesId),
    Refused,
    Unknown,
}

/// The fields of one topic.
#[derive(Debug, Default)]
pub(super) struct Fields {
    slots: Vec<(Box<str>, Slot)>,
    index: HashMap<Box<str>, usize>,
}

// === impl Book ===

impl Book {
    pub(super) fn new(series_max: usize) -> Book {
        Book { known: HashMap::new(), refused: HashSet::new(), hasher: RandomState::new(), series_max }
    }

    pub(super) fn look_up(&self, name: &str) -> Entry {
        if let Some(id) = self.known.get(name) {
            return Entry::Known(*id);
        }
        // All the series the stream may have are known here, so this is another; or the store has said so before.
        if self.known.len() >= self.series_max || self.refused.contains(&self.hasher.hash_one(name)) {
            return Entry::Refused;
        }
        Entry::Unknown
    }

    pub(super) fn enter(&mut self, name: &str, answer: Result<SeriesId, SeriesDenied>) -> Slot {
        match answer {
            Ok(id) => {
                self.known.insert(name.into(), id);
                Ok(id)
            }
            Err(SeriesDenied { .. }) => {
                if self.refused.len() >= REFUSED_MAX {
                    self.refused.clear();
                }
                self.refused.insert(self.hasher.hash_one(name));
                Err(Reason::TooManySeries)
            }
        }
    }
}

// === impl Fields ===

impl Fields {
    /// What a field leads to. Payloads of one topic mostly have the same fields in the same order: `guess` is where it
    /// was the last time.
    pub(super) fn find(&self, guess: usize, field: &str) -> Option<Slot> {
        if let Some((name, slot)) = self.slots.get(guess)
            && **name == *field
        {
            return Some(*slot);
        }
        if self.index.is_empty() {
            return self.slots.iter().find(|(name, _)| **name == *field).map(|(_, slot)| *slot);
        }
        self.index.get(field).map(|at| self.slots[*at].1)
    }

    pub(super) fn add(&mut self, field: &str, slot: Slot) {
        self.slots.push((field.into(), slot));
        if self.slots.len() > FIELDS_LINEAR_MAX {
            let from = self.index.len();
            for (at, (name, _)) in self.slots.iter().enumerate().skip(from) {
                self.index.insert(name.clone(), at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_stream_knows_its_series_and_refuses_others() {
        // Goal: known names are served for ever, others refused without asking: once the store has said so, or once
        // all are known.
        let mut book = Book::new(2);
        assert_eq!(book.look_up("a"), Entry::Unknown);
        assert_eq!(book.enter("a", Ok(SeriesId(1))), Ok(SeriesId(1)));
        assert_eq!(book.enter("x", Err(SeriesDenied { series_max: 2 })), Err(Reason::TooManySeries));
        assert_eq!(book.look_up("x"), Entry::Refused);
        assert_eq!(book.look_up("b"), Entry::Unknown, "it may be one that the store knows from before");
        book.enter("b", Ok(SeriesId(2))).unwrap();
        assert_eq!(book.look_up("y"), Entry::Refused);
        assert_eq!(book.look_up("a"), Entry::Known(SeriesId(1)));
    }

    #[test]
    fn a_refused_name_is_remembered_within_a_bound() {
        // Goal: a flood of names does not grow the book.
        let mut book = Book::new(1);
        for n in 0..REFUSED_MAX + 10 {
            let _ = book.enter(&n.to_string(), Err(SeriesDenied { series_max: 1 }));
        }
        assert!(book.refused.len() <= REFUSED_MAX);
    }

    #[test]
    fn a_field_is_found_wherever_it_is() {
        // Goal: with and without a right guess, below and above the size that is indexed.
        let mut fields = Fields::default();
        for n in 0..50u32 {
            fields.add(&format!("f{n}"), Ok(SeriesId(n)));
            for m in 0..=n {
                for guess in [0, m as usize, 99] {
                    assert_eq!(fields.find(guess, &format!("f{m}")), Some(Ok(SeriesId(m))));
                }
            }
            assert_eq!(fields.find(0, "none"), None);
        }
    }
}
