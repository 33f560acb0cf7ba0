//! What a component at work needs of the pipeline: names of series, numbers for new ones, the time.
//!
//! A component asks for a number from inside a call, which goes on with the answer. Whoever answers is lent to the instance
//! for the length of the call ([`Registrar`]), so that it owns what it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::block::{Alarm, SeriesEntry};
use crate::config;
use crate::platform::clock::WallClock;
use crate::sample::{Nanos, Reading, SeriesId, StreamId};
use crate::store::{self, Known};

use super::Processor;
use super::command::{Command, Gate};
use super::outcome::Processed;

/// It, for one batch.
pub(super) struct Desk<'a> {
    pub(super) series: &'a mut BTreeMap<SeriesId, Known>,
    pub(super) streams: &'a [(StreamId, config::Stream)],
    pub(super) clerk: &'a mut Clerk,
    pub(super) clock: &'a WallClock,
    /// Where commands go.
    pub(super) gate: &'a mut Gate,
    /// When that was stored on which they are given; `None`: longer ago than anybody knows.
    pub(super) since: Option<Instant>,
    pub(super) now: Nanos,
}

/// Who numbers series for the pipeline.
pub(super) struct Clerk {
    book: Book,
    registrar: Registrar,
}

/// Where series have their numbers: the store.
#[derive(Clone)]
struct Book {
    runtime: tokio::runtime::Handle,
    store: store::Handle,
}

type Ask = dyn FnMut(StreamId, &str, &str) -> Result<SeriesId, String> + Send;

/// Numbers the series that components make, for the stream whose readings are at hand.
pub struct Registrar {
    stream: StreamId,
    ask: Box<Ask>,
    /// What was answered in this batch.
    numbered: Vec<(SeriesId, SeriesEntry)>,
}

// === impl Desk ===

impl Desk<'_> {
    /// Lets a component work on readings of one stream.
    pub(super) fn give<'a>(
        &mut self,
        processor: &mut Processor,
        stream: StreamId,
        readings: &'a [Reading],
    ) -> Processed<'a> {
        let registrar = &mut self.clerk.registrar;
        registrar.begin(stream);
        let processed = processor.process(self.now, readings, describe(self.series), registrar);
        self.series.extend(registrar.numbered.drain(..).map(|(id, entry)| (id, Known { stream, entry })));
        processed
    }

    /// As [`Desk::give`], to a version on trial: series that nobody has yet are numbered for it alone, by the registrar that
    /// is made for it the first time. Of what it would have made there must be nothing left.
    pub(super) fn pretend<'a>(
        &mut self,
        processor: &mut Processor,
        stream: StreamId,
        readings: &'a [Reading],
        pretender: &mut Option<Registrar>,
    ) -> Processed<'a> {
        let registrar = pretender.get_or_insert_with(|| self.clerk.book.pretender());
        registrar.begin(stream);
        processor.process(self.now, readings, describe(self.series), registrar)
    }

    /// Lets a version of `component` act of its own accord, at `at` of the day.
    pub(super) fn tick(
        &self,
        component: &str,
        processor: &mut Processor,
        at: Nanos,
    ) -> Option<Processed<'static>> {
        let everyone = || {
            let streams: BTreeSet<StreamId> = self.streams_of(component).collect();
            let theirs = self.series.iter().filter(|(_, known)| streams.contains(&known.stream));
            theirs.map(|(id, known)| (*id, known.entry.clone())).collect()
        };
        processor.tick(self.now, at, everyone)
    }

    /// Lets commands go as far as the next checkpoint.
    pub(super) fn let_go(&mut self, commands: Vec<Command>) {
        self.gate.take(commands, self.since);
    }

    /// The streams whose readings pass through a component.
    pub(super) fn streams_of(&self, component: &str) -> impl Iterator<Item = StreamId> {
        let theirs =
            self.streams.iter().filter(move |(_, stream)| stream.component.as_deref() == Some(component));
        theirs.map(|(id, _)| *id)
    }

    /// What a component gave by itself, by the stream that its series belong to.
    pub(super) fn by_stream(&self, given: Processed<'_>) -> BTreeMap<StreamId, (Vec<Reading>, Vec<Alarm>)> {
        let mut sorted: BTreeMap<StreamId, (Vec<Reading>, Vec<Alarm>)> = BTreeMap::new();
        let stream = |id: SeriesId| self.series.get(&id).map(|known| known.stream);
        for reading in given.readings.iter() {
            if let Some(stream) = stream(reading.series) {
                sorted.entry(stream).or_default().0.push(*reading);
            }
        }
        for alarm in given.alarms {
            if let Some(stream) = stream(alarm.series) {
                sorted.entry(stream).or_default().1.push(alarm);
            }
        }
        sorted
    }

    /// The number of a series, new or known.
    pub(super) fn register(&mut self, stream: StreamId, name: &str, unit: &str) -> Result<SeriesId, String> {
        let id = self.clerk.book.intern(stream, name, unit)?;
        self.series.insert(id, Known { stream, entry: entry(name, unit) });
        Ok(id)
    }
}

fn describe(series: &BTreeMap<SeriesId, Known>) -> impl FnMut(SeriesId) -> SeriesEntry {
    |id| described(series, id)
}

/// What is known of a series.
pub(super) fn described(series: &BTreeMap<SeriesId, Known>, id: SeriesId) -> SeriesEntry {
    series.get(&id).map_or_else(|| nameless(id), |known| known.entry.clone())
}

// === impl Clerk ===

impl Clerk {
    /// For the thread that `runtime` belongs to, and where none of its futures run meanwhile.
    pub(super) fn new(runtime: tokio::runtime::Handle, store: store::Handle) -> Clerk {
        let book = Book { runtime, store };
        Clerk { registrar: book.registrar(), book }
    }
}

// === impl Book ===

impl Book {
    fn intern(&self, stream: StreamId, name: &str, unit: &str) -> Result<SeriesId, String> {
        let outcome = self.runtime.block_on(self.store.intern(stream, entry(name, unit)));
        outcome.map_err(|err| err.to_string())?.map_err(|err| err.to_string())
    }

    fn registrar(&self) -> Registrar {
        let book = self.clone();
        Registrar::new(move |stream, name, unit| book.intern(stream, name, unit))
    }

    /// Of new series it remembers what it called them; the numbers count down from the highest, where no store gets to.
    fn pretender(&self) -> Registrar {
        let Book { runtime, store } = self.clone();
        let mut pretended: BTreeMap<(StreamId, String), SeriesId> = BTreeMap::new();
        Registrar::new(move |stream, name, _unit| {
            let next = SeriesId(u32::MAX - u32::try_from(pretended.len()).unwrap_or(0));
            let key = (stream, name.to_owned());
            if let Some(id) = pretended.get(&key) {
                return Ok(*id);
            }
            let known = runtime.block_on(store.find(stream, name)).map_err(|err| err.to_string())?;
            let id = known.unwrap_or(next);
            pretended.insert(key, id);
            Ok(id)
        })
    }
}

// === impl Registrar ===

impl Registrar {
    /// Asks `ask` for the number of each series, by stream, name and unit; an error is for the component.
    pub fn new(
        ask: impl FnMut(StreamId, &str, &str) -> Result<SeriesId, String> + Send + 'static,
    ) -> Registrar {
        Registrar { stream: StreamId(0), ask: Box::new(ask), numbered: Vec::new() }
    }

    /// Numbers nothing, and says `why`.
    pub fn refusing(why: &'static str) -> Registrar {
        Registrar::new(move |_, _, _| Err(why.to_owned()))
    }

    /// Another batch.
    fn begin(&mut self, stream: StreamId) {
        self.stream = stream;
        self.numbered.clear();
    }

    pub(super) fn register(&mut self, name: &str, unit: &str) -> Result<SeriesId, String> {
        let id = (self.ask)(self.stream, name, unit)?;
        self.numbered.push((id, entry(name, unit)));
        Ok(id)
    }
}

impl std::fmt::Debug for Registrar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registrar").field("stream", &self.stream).finish_non_exhaustive()
    }
}

fn entry(name: &str, unit: &str) -> SeriesEntry {
    SeriesEntry { name: name.to_owned(), unit: unit.to_owned(), labels: BTreeMap::new() }
}

/// What a series is called that nobody has named.
fn nameless(id: SeriesId) -> SeriesEntry {
    SeriesEntry { name: format!("series-{}", id.0), unit: String::new(), labels: BTreeMap::new() }
}
