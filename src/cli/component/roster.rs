//! The series of a recording and those that a component makes: names to numbers, as the gateway's store gives them.

use std::collections::{BTreeMap, HashMap};

use crate::block::SeriesEntry;
use crate::sample::SeriesId;

/// Most series: what a stream of a gateway may have at most.
const SERIES_MAX: usize = 100_000;

/// All series, numbered from 1 in the order in which they appear.
#[derive(Debug, Clone, Default)]
pub(super) struct Roster {
    entries: Vec<SeriesEntry>,
    numbers: HashMap<String, SeriesId>,
}

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

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
