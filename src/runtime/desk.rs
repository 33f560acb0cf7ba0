//! What a component at work needs of the pipeline: names of series, numbers for new ones, the time.

use std::collections::BTreeMap;

use crate::block::SeriesEntry;
use crate::sample::{Nanos, Reading, SeriesId, StreamId};
use crate::store;

use super::Processor;
use super::deployment::Pretended;
use super::outcome::Processed;

/// It, for one batch.
pub(super) struct Desk<'a> {
    pub(super) series: &'a mut BTreeMap<SeriesId, SeriesEntry>,
    pub(super) store: &'a store::Handle,
    pub(super) runtime: &'a tokio::runtime::Runtime,
    pub(super) now: Nanos,
}

// === impl Desk ===

impl Desk<'_> {
    /// Lets a component work on readings of one stream.
    pub(super) fn give(
        &mut self,
        processor: &mut Processor,
        stream: StreamId,
        readings: &[Reading],
    ) -> Processed {
        let (series, store, runtime) = (&*self.series, self.store, self.runtime);
        let mut registered = Vec::new();
        let describe = |id: SeriesId| series.get(&id).cloned().unwrap_or_else(|| nameless(id));
        let register = |name: &str, unit: &str| {
            let (id, entry) = intern(runtime, store, stream, name, unit)?;
            registered.push((id, entry));
            Ok(id)
        };
        let processed = processor.process(self.now, readings, describe, register);
        self.series.extend(registered);
        processed
    }

    /// As [`Desk::give`], to a version on trial: series that nobody has yet are numbered for it alone. Of what it would have
    /// made there must be nothing left; the numbers count down from the highest, where no store gets to.
    pub(super) fn pretend(
        &mut self,
        processor: &mut Processor,
        stream: StreamId,
        readings: &[Reading],
        pretended: &mut Pretended,
    ) -> Processed {
        let (series, store, runtime) = (&*self.series, self.store, self.runtime);
        let describe = |id: SeriesId| series.get(&id).cloned().unwrap_or_else(|| nameless(id));
        let register = |name: &str, _unit: &str| {
            let next = SeriesId(u32::MAX - u32::try_from(pretended.len()).unwrap_or(0));
            let key = (stream, name.to_owned());
            if let Some(id) = pretended.get(&key) {
                return Ok(*id);
            }
            let known = runtime.block_on(store.find(stream, name)).map_err(|err| err.to_string())?;
            let id = known.unwrap_or(next);
            pretended.insert(key, id);
            Ok(id)
        };
        processor.process(self.now, readings, describe, register)
    }

    /// The number of a series, new or known.
    pub(super) fn register(&mut self, stream: StreamId, name: &str, unit: &str) -> Result<SeriesId, String> {
        let (id, entry) = intern(self.runtime, self.store, stream, name, unit)?;
        self.series.insert(id, entry);
        Ok(id)
    }
}

fn intern(
    runtime: &tokio::runtime::Runtime,
    store: &store::Handle,
    stream: StreamId,
    name: &str,
    unit: &str,
) -> Result<(SeriesId, SeriesEntry), String> {
    let entry = SeriesEntry { name: name.to_owned(), unit: unit.to_owned(), labels: BTreeMap::new() };
    let outcome = runtime.block_on(store.intern(stream, entry.clone()));
    let id = outcome.map_err(|err| err.to_string())?.map_err(|err| err.to_string())?;
    Ok((id, entry))
}

/// What a series is called that nobody has named.
pub(super) fn nameless(id: SeriesId) -> SeriesEntry {
    SeriesEntry { name: format!("series-{}", id.0), unit: String::new(), labels: BTreeMap::new() }
}
