//! From where on the hub's stream must be read to find every row that may be there without our knowing it.
//!
//! A JetStream stream numbers its messages 1, 2, 3 …, whoever sends them. When a row is sent, every number the gateway
//! has seen by then is taken, so the row can only land above the highest of them: its *floor*. Nothing of a subject that
//! is not settled lies at or below the lowest floor of its rows that may be under way; if none may be, then not at or
//! below the highest number seen. That floor is stored with each settlement, in the same transaction, so after any
//! crash it still holds for everything unsettled:
//!
//! ```text
//!   hub's stream   …  96   97   98   99  100  101  102  103        acked so far: up to 100
//!                      a    x    y    b    c    ?    ?    ?        sent since:   d, e   (floor 100)
//!                                           ▲                      stored floor: 100 ─ read back from 101 on
//! ```
//! A stream that is deleted and made anew starts over from 1. That is noticed by its date of birth, by a last number
//! below one already seen, and by a new row's number at or below its floor; then the floors of its subjects are stored
//! anew, at once. A floor of 0 means "unknown, read from the start". (Not noticed: a stream made anew that has grown beyond
//! the old one's numbers while the gateway was without power.)
//!
//! Pure; owned by the uplink's task; what survives is `SubjectState::hub_floor`. Bounded by the number of subjects and of
//! rows that may be under way.

use std::collections::{BTreeMap, HashMap};

use super::answer::Stored;
use super::seqset::SeqSet;
use crate::outbox::SubjectKey;
use crate::sample::Lane;

/// What reading one subject back has brought to light.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBack {
    /// The subject.
    pub key: SubjectKey,
    /// The stream that takes it, if there is one.
    pub stream: Option<Birth>,
    /// Every message of the subject up to this number has been looked at.
    pub upto: u64,
    /// Sequences of our epoch that are there, above the floor it was read from.
    pub found: SeqSet,
}

/// A stream, not to be confused with a later one of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Birth {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: String,
}

/// Whether a subject has been read back by this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Never: each of its unsettled rows may be at the hub.
    Unread,
    /// Yes: only rows sent by this process can be there without its knowing.
    Read,
}

/// The floors of all subjects.
#[derive(Debug, Default)]
pub struct Floors {
    streams: HashMap<String, Stream>,
    subjects: BTreeMap<SubjectKey, Subject>,
}

#[derive(Debug, Default)]
struct Stream {
    created: Option<String>,
    highest: u64,
}

#[derive(Debug, Default)]
struct Subject {
    stream: Option<String>,
    read: bool,
    /// Floor of each row that may be under way, by id.
    possible: BTreeMap<u64, u64>,
    /// Rows of an earlier process that the hub was found to hold, not met in the outbox yet …
    found: SeqSet,
    /// … and the floor they were found above.
    found_floor: u64,
    stored: Option<u64>,
}

// === impl Floors ===

impl Floors {
    /// Whether the subject has been read back.
    pub fn standing(&self, key: SubjectKey) -> Standing {
        match self.subjects.get(&key) {
            Some(subject) if subject.read => Standing::Read,
            _ => Standing::Unread,
        }
    }

    /// Where to read from: above this. `stored` is the store's floor.
    pub fn read_from(&self, key: SubjectKey, stored: u64) -> u64 {
        match self.subjects.get(&key) {
            Some(subject) if subject.read => {
                subject.possible.values().copied().min().unwrap_or_else(|| self.highest(subject))
            }
            _ => stored,
        }
    }

    /// Takes over what was read back. For a subject that had not been read by this process the found sequences are kept
    /// until their rows are met in the outbox; otherwise the caller has the rows and settles them.
    pub fn read_back(&mut self, from: u64, back: &ReadBack) {
        if let Some(stream) = &back.stream {
            self.observe(stream, back.upto);
        }
        let subject = self.subjects.entry(back.key).or_default();
        let moved =
            subject.stream.is_some() && subject.stream != back.stream.as_ref().map(|s| s.name.clone());
        subject.stream = back.stream.as_ref().map(|stream| stream.name.clone());
        if moved {
            subject.possible.values_mut().for_each(|floor| *floor = 0);
        }
        for floor in subject.possible.values_mut() {
            // All up to there has been looked at: a copy still on its way can only land above.
            *floor = (*floor).max(back.upto);
        }
        if !subject.read {
            subject.read = true;
            subject.found = back.found.clone();
            subject.found_floor = if from > back.upto { 0 } else { from };
        }
    }

    /// Books that a row is sent now.
    pub fn sending(&mut self, key: SubjectKey, id: u64) {
        let subject = self.subjects.entry(key).or_default();
        let floor = match &subject.stream {
            Some(stream) => self.streams.get(stream).map_or(0, |stream| stream.highest),
            None => 0,
        };
        // A row that was sent before keeps the floor of that time, or the one its read-back gave it.
        subject.possible.entry(id).or_insert(floor);
    }

    /// Books an acknowledgement.
    pub fn acked(&mut self, key: SubjectKey, id: u64, stored: &Stored) {
        let subject = self.subjects.entry(key).or_default();
        let floor = subject.possible.remove(&id);
        if subject.stream.as_ref() != Some(&stored.stream) {
            subject.stream = Some(stored.stream.clone());
            subject.possible.values_mut().for_each(|floor| *floor = 0);
            subject.found_floor = 0;
        }
        let reborn = !stored.duplicate && floor.is_some_and(|floor| stored.seq <= floor);
        if reborn {
            self.forget(&stored.stream);
        }
        let stream = self.streams.entry(stored.stream.clone()).or_default();
        stream.highest = stream.highest.max(stored.seq);
    }

    /// Books that a row is settled for another reason: it was found.
    pub fn settled(&mut self, key: SubjectKey, id: u64) {
        if let Some(subject) = self.subjects.get_mut(&key) {
            subject.possible.remove(&id);
        }
    }

    /// Whether the hub was found to hold this row of an earlier process. Asked once for each row of the outbox.
    pub fn take_found(&mut self, key: SubjectKey, seq: u64) -> bool {
        self.subjects.get_mut(&key).is_some_and(|subject| subject.found.remove(seq))
    }

    /// Every row of the lane that existed when its subjects were read back has been met: what was found and not met has
    /// been dropped by the store.
    pub fn all_met(&mut self, lane: Lane) {
        for (key, subject) in &mut self.subjects {
            if key.lane == lane {
                subject.found = SeqSet::new();
            }
        }
    }

    /// The floor of a subject, with everything booked so far.
    pub fn floor(&self, key: SubjectKey) -> u64 {
        let Some(subject) = self.subjects.get(&key).filter(|subject| subject.read) else { return 0 };
        let possible = subject.possible.values().copied().min();
        let found = (!subject.found.is_empty()).then_some(subject.found_floor);
        match (possible, found) {
            (None, None) => self.highest(subject),
            (possible, found) => possible.unwrap_or(u64::MAX).min(found.unwrap_or(u64::MAX)),
        }
    }

    /// The floors to store with a settlement of rows of `keys`, of subjects that have been read back: those of `keys`, and
    /// any that has not been stored by this process yet.
    pub fn to_store(&mut self, keys: &[SubjectKey]) -> Vec<(SubjectKey, u64)> {
        let due: Vec<_> = self
            .subjects
            .iter()
            .filter(|(key, subject)| subject.read && (subject.stored.is_none() || keys.contains(key)))
            .map(|(key, _)| (*key, self.floor(*key)))
            .collect();
        due.into_iter()
            .filter(|(key, floor)| {
                let subject = self.subjects.get_mut(key).expect("it was read from this map");
                subject.stored.replace(*floor) != Some(*floor)
            })
            .collect()
    }

    /// Whether a subject that was read back has no floor stored by this process, or one that does not hold any more:
    /// worth a settlement of its own.
    pub fn are_due(&self) -> bool {
        self.subjects.values().any(|subject| subject.read && subject.stored.is_none())
    }

    fn highest(&self, subject: &Subject) -> u64 {
        let stream = subject.stream.as_ref().and_then(|stream| self.streams.get(stream));
        stream.map_or(0, |stream| stream.highest)
    }

    fn observe(&mut self, birth: &Birth, last: u64) {
        let known = self.streams.entry(birth.name.clone()).or_default();
        let reborn = known.created.as_ref().is_some_and(|created| *created != birth.created);
        if reborn || last < known.highest {
            self.forget(&birth.name);
        }
        let known = self.streams.entry(birth.name.clone()).or_default();
        known.created = Some(birth.created.clone());
        known.highest = known.highest.max(last);
    }

    /// The stream is another one now: nothing known of its numbers holds.
    fn forget(&mut self, stream: &str) {
        self.streams.insert(stream.to_owned(), Stream::default());
        for subject in self.subjects.values_mut().filter(|subject| subject.stream.as_deref() == Some(stream))
        {
            subject.possible.values_mut().for_each(|floor| *floor = 0);
            subject.found_floor = 0;
            subject.stored = None;
        }
    }
}

#[cfg(test)]
mod tests;
