//! The copy of a shared lattice, as control holds it, and the words between it and the task that speaks with the hub.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::warn;

use crate::control::apply::Decision;
use crate::control::command::{Command, Origin, Refusal};
use crate::control::merge::{Content, Entry, EntryKey, Offer, Pending, Scope};
use crate::control::shown::Shared;

/// Bytes of entries that were told and are not kept yet: twice what may be kept.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// The way to the task that speaks with the hub.
#[derive(Debug)]
pub struct Ways {
    /// The lattice.
    pub lattice: String,
    /// What it tells.
    pub words: mpsc::Receiver<Word>,
    /// What it is asked to write.
    pub errands: mpsc::Sender<Errand>,
}

/// A change for the hub's buckets, and who waits for it.
#[derive(Debug)]
pub struct Errand {
    /// What is asked for.
    pub command: Command,
    /// By whom.
    pub by: Origin,
    /// Until then whoever asked waits.
    pub deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<String, Refusal>>,
}

/// What the task that speaks with the hub tells.
#[derive(Debug)]
pub enum Word {
    /// The hub's buckets are open; entries follow.
    Begin,
    /// What entries are now. Older than what was told of one before it says nothing.
    Entries(Vec<Entry>),
    /// Every entry of this scope has been told.
    Complete {
        /// Which.
        scope: Scope,
        /// Gets what is to be written.
        offers: oneshot::Sender<Vec<Offer>>,
    },
    /// The hub is away.
    Away,
    /// The buckets have what an errand asked for, or had it already, or it is refused by what they hold.
    Done {
        /// Which.
        errand: Errand,
        /// What is answered, changed and told.
        decision: Box<Decision>,
        /// The number of the write, if there was one.
        revision: Option<u64>,
    },
    /// An errand was not run.
    Failed {
        /// Which.
        errand: Errand,
        /// Why.
        refusal: Refusal,
    },
}

/// Where the hub is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Away,
    Reading,
    Held,
}

/// The copy.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) lattice: String,
    pub(super) words: Option<mpsc::Receiver<Word>>,
    pub(super) errands: mpsc::Sender<Errand>,
    pub(super) stage: Stage,
    pub(super) pending: Pending,
    /// Numbers of the newest that was told of an entry since the hub came.
    pub(super) known: BTreeMap<EntryKey, u64>,
    /// Told, and not kept yet.
    pub(super) waiting: BTreeMap<EntryKey, Entry>,
    pub(super) again: Option<Instant>,
    /// What was read.
    pub(super) read: Option<Scope>,
    /// Passed over, and why.
    pub(super) passed_over: BTreeMap<EntryKey, String>,
}

// === impl Copy ===

impl Copy {
    pub(super) fn new(ways: Ways) -> Copy {
        let Ways { lattice, words, errands } = ways;
        Copy {
            lattice,
            words: Some(words),
            errands,
            stage: Stage::Away,
            pending: Pending::new(),
            known: BTreeMap::new(),
            waiting: BTreeMap::new(),
            again: None,
            read: None,
            passed_over: BTreeMap::new(),
        }
    }

    pub(super) fn shown(&self) -> Shared {
        Shared {
            is_held: self.stage == Stage::Held,
            pending: self.pending.keys().cloned().collect(),
            passed_over: self.passed_over.iter().map(|(key, why)| (key.to_string(), why.clone())).collect(),
        }
    }

    /// The next word.
    ///
    /// Cancel-safe: so is the channel.
    pub(super) async fn word(copy: &mut Option<Copy>) -> Word {
        if let Some(copy) = copy
            && let Some(words) = &mut copy.words
        {
            match words.recv().await {
                Some(word) => return word,
                // The link is off, or the process ends.
                None => copy.words = None,
            }
            return Word::Away;
        }
        std::future::pending().await
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.waiting.values().cloned().collect()
    }

    pub(super) fn put_aside(&mut self, mut entry: Entry) {
        if !self.know(&entry.key, entry.revision) {
            return;
        }
        self.waiting.remove(&entry.key);
        let bytes = self.waiting.values().map(|entry| entry.content.weight()).sum::<usize>();
        if bytes + entry.content.weight() > WAITING_BYTES_MAX {
            entry.content = Content::Unreadable("the lattice has more for this gateway than it takes");
        }
        self.waiting.insert(entry.key.clone(), entry);
    }

    /// Whether this is not older than what is known of an entry. What waits and is older says nothing any more.
    pub(super) fn know(&mut self, key: &EntryKey, revision: u64) -> bool {
        let known = self.known.entry(key.clone()).or_insert(revision);
        let is_newest = *known <= revision;
        *known = revision.max(*known);
        self.waiting.retain(|other, entry| other != key || entry.revision >= revision);
        is_newest
    }

    /// Said once, not with every word.
    pub(super) fn pass_over(&mut self, key: EntryKey, why: Option<String>) {
        match why {
            None => drop(self.passed_over.remove(&key)),
            Some(why) => {
                if self.passed_over.get(&key) != Some(&why) {
                    warn!(entry = %key, why, "an entry of the lattice is passed over; what was held of it stays");
                    self.passed_over.insert(key, why);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_gives_way_to_a_newer_write_from_here() {
        // Goal: what was written from here is not overwritten with what the hub had before. Method: a word waits for the budget,
        // a write from here is acknowledged; then a word that is newer than both, and one that is not.
        let (_words, words) = mpsc::channel(1);
        let (errands, _errands) = mpsc::channel(1);
        let mut copy = Copy::new(Ways { lattice: "default".into(), words, errands });
        let key = EntryKey::Config("c".into());
        let told = |revision| Entry { key: key.clone(), revision, content: Content::Nothing };
        copy.put_aside(told(10));
        assert!(copy.know(&EntryKey::Config("d".into()), 11));
        assert_eq!(copy.entries(), [told(10)]);
        assert!(copy.know(&key, 11));
        assert!(copy.entries().is_empty());
        copy.put_aside(told(12));
        copy.put_aside(told(11));
        assert!(!copy.know(&key, 11) && copy.know(&key, 12));
        assert_eq!(copy.entries(), [told(12)]);
    }
}
