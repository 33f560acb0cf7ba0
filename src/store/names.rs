//! Numbers for streams, series and boots.
//!
//! The maps in memory are what everybody asks; what is new in them is written with the next commit, before the first
//! row that uses the number. A crash in between loses a number nobody has used on flash.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rusqlite::{Connection, Transaction, params};

use crate::block::SeriesEntry;
use crate::sample::{BootId, SeriesId, StreamId};

use super::SeriesDenied;

/// All names of the gateway.
#[derive(Debug, Default)]
pub struct Names {
    streams: BTreeMap<StreamId, String>,
    series: BTreeMap<SeriesId, Known>,
    by_name: HashMap<(StreamId, Arc<str>), SeriesId>,
    counts: HashMap<StreamId, usize>,
    boots: BTreeMap<BootId, Boot>,
    fresh: Fresh,
}

/// One series as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Its name, unit and labels.
    pub entry: SeriesEntry,
}

/// One boot whose clock was not trusted at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The kernel's identifier.
    pub boot: String,
    /// The offset its untrusted times are made with: one per boot, whatever the number of processes.
    pub estimate: Option<i64>,
    /// Nanoseconds to add to its estimated times, once known.
    pub correction: Option<i64>,
}

/// What is not on flash yet.
#[derive(Debug, Default)]
struct Fresh {
    streams: Vec<StreamId>,
    series: Vec<SeriesId>,
    boots: Vec<BootId>,
}

// === impl Names ===

impl Names {
    /// Reads all names. The cost is that of the number of series, which the configuration bounds.
    pub fn load(db: &Connection) -> rusqlite::Result<Names> {
        let mut names = Names::default();
        let mut statement = db.prepare("SELECT id, name FROM stream")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            names.streams.insert(StreamId(row.get(0)?), row.get(1)?);
        }
        let mut statement = db.prepare("SELECT id, stream, name, unit, labels FROM series")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let labels: String = row.get(4)?;
            let entry = SeriesEntry {
                name: row.get(2)?,
                unit: row.get(3)?,
                labels: serde_json::from_str(&labels).unwrap_or_default(),
            };
            names.insert(SeriesId(row.get(0)?), StreamId(row.get(1)?), entry);
        }
        let mut statement = db.prepare("SELECT id, boot, estimate, correction FROM boot")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let boot = Boot { boot: row.get(1)?, estimate: row.get(2)?, correction: row.get(3)? };
            names.boots.insert(BootId(row.get(0)?), boot);
        }
        Ok(names)
    }

    /// The number of a stream, new or known.
    pub fn stream(&mut self, name: &str) -> StreamId {
        if let Some((id, _)) = self.streams.iter().find(|(_, known)| known.as_str() == name) {
            return *id;
        }
        let id = StreamId(self.streams.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        self.streams.insert(id, name.to_owned());
        self.fresh.streams.push(id);
        id
    }

    /// Every stream there ever was.
    pub fn all_streams(&self) -> impl Iterator<Item = (StreamId, &str)> {
        self.streams.iter().map(|(id, name)| (*id, name.as_str()))
    }

    /// The number of a stream that must be known already.
    pub fn find_stream(&self, name: &str) -> Option<StreamId> {
        self.streams.iter().find(|(_, known)| known.as_str() == name).map(|(id, _)| *id)
    }

    /// Name of a stream.
    pub fn stream_name(&self, id: StreamId) -> &str {
        self.streams.get(&id).map_or("?", String::as_str)
    }

    /// The number of a series, new or known. Unit and labels of a known one follow the configuration.
    pub fn series(
        &mut self,
        stream: StreamId,
        entry: SeriesEntry,
        series_max: usize,
    ) -> Result<SeriesId, SeriesDenied> {
        if let Some(id) = self.find_series(stream, &entry.name) {
            if self.series.get(&id).is_some_and(|known| known.entry != entry) {
                self.series.insert(id, Known { stream, entry });
                self.fresh.series.push(id);
            }
            return Ok(id);
        }
        if self.counts.get(&stream).copied().unwrap_or(0) >= series_max {
            return Err(SeriesDenied { series_max });
        }
        let id = SeriesId(self.series.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        self.insert(id, stream, entry);
        self.fresh.series.push(id);
        Ok(id)
    }

    /// The number of a series that must be known already.
    pub fn find_series(&self, stream: StreamId, name: &str) -> Option<SeriesId> {
        self.by_name.get(&(stream, Arc::from(name))).copied()
    }

    /// What is known of a series.
    pub fn entry(&self, id: SeriesId) -> Option<&Known> {
        self.series.get(&id)
    }

    /// Every series, for the pipeline's start.
    pub fn all_series(&self) -> impl Iterator<Item = (SeriesId, &Known)> {
        self.series.iter().map(|(id, known)| (*id, known))
    }

    /// The number of a boot, new or known.
    pub fn boot(&mut self, boot: &str) -> BootId {
        if let Some((id, _)) = self.boots.iter().find(|(_, known)| known.boot == boot) {
            return *id;
        }
        let id = BootId(self.boots.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        self.boots.insert(id, Boot { boot: boot.to_owned(), estimate: None, correction: None });
        self.fresh.boots.push(id);
        id
    }

    /// Every boot known to have begun without a trusted clock.
    pub fn all_boots(&self) -> impl Iterator<Item = (BootId, &Boot)> {
        self.boots.iter().map(|(id, boot)| (*id, boot))
    }

    /// What is known of a boot.
    pub fn boot_entry(&self, id: BootId) -> Option<&Boot> {
        self.boots.get(&id)
    }

    /// Records what the untrusted times of a boot are made with.
    pub fn estimate(&mut self, id: BootId, estimate: i64) {
        if let Some(boot) = self.boots.get_mut(&id)
            && boot.estimate != Some(estimate)
        {
            boot.estimate = Some(estimate);
            self.fresh.boots.push(id);
        }
    }

    /// Records what to add to the times of a boot.
    pub fn correct(&mut self, id: BootId, correction: i64) {
        if let Some(boot) = self.boots.get_mut(&id) {
            boot.correction = Some(correction);
            self.fresh.boots.push(id);
        }
    }

    /// Whether a commit has names to write.
    pub fn is_dirty(&self) -> bool {
        !(self.fresh.streams.is_empty() && self.fresh.series.is_empty() && self.fresh.boots.is_empty())
    }

    /// Writes what is new. [`Names::written`] follows once the transaction has committed.
    pub fn write(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        for id in &self.fresh.streams {
            tx.prepare_cached("INSERT OR IGNORE INTO stream (id, name) VALUES (?1, ?2)")?
                .execute(params![id.0, self.stream_name(*id)])?;
        }
        for id in &self.fresh.series {
            let Some(known) = self.series.get(id) else { continue };
            let labels = serde_json::to_string(&known.entry.labels).unwrap_or_else(|_| "{}".to_owned());
            tx.prepare_cached(
                "INSERT OR REPLACE INTO series (id, stream, name, unit, labels) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                id.0,
                known.stream.0,
                known.entry.name,
                known.entry.unit,
                labels
            ])?;
        }
        for id in &self.fresh.boots {
            let Some(boot) = self.boots.get(id) else { continue };
            tx.prepare_cached(
                "INSERT OR REPLACE INTO boot (id, boot, estimate, correction) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![id.0, boot.boot, boot.estimate, boot.correction])?;
        }
        Ok(())
    }

    /// The names written last are on flash.
    pub fn written(&mut self) {
        self.fresh = Fresh::default();
    }

    fn insert(&mut self, id: SeriesId, stream: StreamId, entry: SeriesEntry) {
        self.by_name.insert((stream, Arc::from(entry.name.as_str())), id);
        *self.counts.entry(stream).or_default() += 1;
        self.series.insert(id, Known { stream, entry });
    }
}
