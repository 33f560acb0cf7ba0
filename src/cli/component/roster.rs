//! The series of a recording and those that a component makes: names to numbers, as the gateway's store gives them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::block::SeriesEntry;
use crate::runtime::Registrar;
use crate::sample::SeriesId;

/// Most series: what a stream of a gateway may have at most.
const SERIES_MAX: usize = 100_000;

/// All series, numbered from 1 in the order in which they appear.
#[derive(Debug, Clone, Default)]
pub(super) struct Roster {
    entries: Vec<SeriesEntry>,
    numbers: HashMap<String, SeriesId>,
}

/// A roster to which the component at work adds.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Roster>>);

// === impl Roster ===

impl Roster {
    /// The number of a series; a name that is known keeps its unit.
    pub(super) fn number(&mut self, name: &str, unit: &str) -> Result<SeriesId, String> {
        if let Some(id) = self.numbers.get(name) {
            return Ok(*id);
        }
        if self.entries.len() == SERIES_MAX {
            return Err(format!("there are {SERIES_MAX} series, the most a stream may have"));
        }
        let entry = SeriesEntry { name: name.to_owned(), unit: unit.to_owned(), labels: BTreeMap::new() };
        self.entries.push(entry);
        let id = SeriesId(self.entries.len() as u32);
        self.numbers.insert(name.to_owned(), id);
        Ok(id)
    }

    /// What is known of a series.
    pub(super) fn entry(&self, id: SeriesId) -> Option<&SeriesEntry> {
        self.entries.get((id.0 as usize).checked_sub(1)?)
    }

    /// Name and unit.
    pub(super) fn named(&self, id: SeriesId) -> (&str, &str) {
        self.entry(id).map_or(("?", ""), |entry| (&entry.name, &entry.unit))
    }

    /// All of them.
    pub(super) fn everyone(&self) -> Vec<(SeriesId, SeriesEntry)> {
        (1..).map(SeriesId).zip(self.entries.iter().cloned()).collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(roster: Roster) -> Shared {
        Shared(Arc::new(Mutex::new(roster)))
    }

    pub(super) fn get(&self) -> MutexGuard<'_, Roster> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers series of the component's making by it.
    pub(super) fn registrar(&self) -> Registrar {
        let shared = self.clone();
        Registrar::new(move |_stream, name, unit| shared.get().number(name, unit))
    }
}
