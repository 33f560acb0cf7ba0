//! From a topic and a payload to the readings of a message, whatever door it came in by.
//!
//! Owned by one door, which gives it every message and passes on what comes out. Nothing here knows of packet
//! identifiers or acknowledgements. What is remembered is cache: the topics seen, with their stream and the series of
//! their fields, at most [`TOPICS_MAX`] and [`FIELDS_MAX`]; on overflow it is cleared, which is counted. Series numbers come
//! from the store, once per series.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use crate::block::SeriesEntry;
use crate::config;
use crate::ingest::account::{Counters, Specimen, Specimens};
use crate::ingest::decode::{Batch, Decoder, Moment};
use crate::ingest::naming::{Template, TemplateError};
use crate::ingest::reason::{Reason, Tally};
use crate::ingest::series::{self, Book, Fields, Slot};
use crate::ingest::topic::{self, Routes};
use crate::sample::{Reading, SeriesId, StreamId, Timeline};
use crate::store::{Handle, SeriesDenied, StoreGone};

/// Topics remembered: 65,536 x about 150 B = 10 MiB, reached only by a plant that has as many.
pub const TOPICS_MAX: usize = 65_536;

/// Fields remembered over all topics: 131,072 x about 60 B = 8 MiB.
pub const FIELDS_MAX: usize = 131_072;

/// Longest topic that is remembered, so that the two bounds above bound bytes.
const TOPIC_BYTES_KEPT: usize = 1_024;

/// A stream cannot be set up. The configuration is checked before, so this is a fault of the program.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Its naming template.
    #[error("stream {stream}: series template is not valid")]
    Series {
        /// Name of the stream.
        stream: String,
        /// Why.
        #[source]
        cause: TemplateError,
    },
    /// The template of one of its labels.
    #[error("stream {stream}: template of label {label} is not valid")]
    Label {
        /// Name of the stream.
        stream: String,
        /// Name of the label.
        label: String,
        /// Why.
        #[source]
        cause: TemplateError,
    },
}

/// What a message held.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    /// It belongs to a stream of this door. Without readings if all of it was rejected.
    Content {
        /// The stream.
        stream: StreamId,
        /// Where its times come from.
        timeline: Timeline,
        /// What it held.
        readings: Vec<Reading>,
    },
    /// It belongs to none: there is nothing to keep, it only wants its acknowledgement.
    Unrouted,
}

/// Series that have no number yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Unnamed {
    /// Position of their stream.
    at: usize,
    /// Their stream.
    pub stream: StreamId,
    /// What to ask the store for.
    pub wanted: Vec<SeriesEntry>,
}

/// When a message arrived.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// The stamp, and what the clock is good for.
    pub moment: Moment,
    /// The timeline the stamp is on.
    pub timeline: Timeline,
}

/// The intake of one door.
#[derive(Debug)]
pub struct Intake {
    routes: Routes,
    /// By position in the configuration; `None` for streams that are another door's.
    streams: Vec<Option<Stream>>,
    topics: Topics,
    batch: Batch,
    slots: Vec<Option<Slot>>,
    /// Position of the stream of the message taken last, and how many readings it had.
    last: Option<(usize, usize)>,
    store: Handle,
    counters: Arc<Counters>,
    specimens: watch::Sender<Specimens>,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    decoder: Decoder,
    series: Template,
    labels: Vec<(String, Template)>,
    unit: String,
    book: Book,
}

/// What is remembered of topics.
#[derive(Debug, Default)]
struct Topics {
    known: HashMap<Box<str>, Topic>,
    fields: usize,
    cleared: u64,
}

#[derive(Debug, Default)]
struct Topic {
    /// Position of its stream.
    stream: Option<usize>,
    fields: Fields,
}

// === impl Intake ===

impl Intake {
    /// An intake for those of `streams` that `is_ours` picks. All streams are needed, in the order of the file, because a
    /// topic that an earlier stream takes is not ours, whoever serves that stream.
    pub fn new(
        streams: &[(StreamId, config::Stream)],
        is_ours: impl Fn(&config::Stream) -> bool,
        store: Handle,
    ) -> Result<Intake, SetupError> {
        let counters = Arc::new(Counters::new(streams.iter().map(|(_, stream)| stream.name.as_str())));
        let specimens = watch::Sender::new(Specimens::new(streams.len()));
        let routes = Routes::new(streams.iter().map(|(_, stream)| stream.topics.as_slice()));
        let streams = streams
            .iter()
            .map(|(id, stream)| is_ours(stream).then(|| Stream::new(*id, stream)).transpose())
            .collect::<Result<_, _>>()?;
        Ok(Intake {
            routes,
            streams,
            topics: Topics::default(),
            batch: Batch::default(),
            slots: Vec::new(),
            last: None,
            store,
            counters,
            specimens,
        })
    }

    /// The counters.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// The rejected payloads kept.
    pub fn specimens(&self) -> watch::Receiver<Specimens> {
        self.specimens.subscribe()
    }

    /// Takes a message. Waits only for the store, and only when it holds a series that is new. It is counted by
    /// [`Intake::count`], once the door knows that it is no copy.
    pub async fn take(&mut self, topic: &str, payload: &[u8], arrival: Arrival) -> Result<Taken, StoreGone> {
        loop {
            let unnamed = match self.try_take(topic, payload, arrival) {
                Ok(taken) => return Ok(taken),
                Err(unnamed) => unnamed,
            };
            for entry in &unnamed.wanted {
                let answer = self.store.intern(unnamed.stream, entry.clone()).await?;
                self.learn(&unnamed, &entry.name, answer);
            }
        }
    }

    /// As [`Intake::take`], for a door that cannot wait here: when there are new series, it asks the store for their
    /// numbers, gives every answer to [`Intake::learn`], and tries again.
    pub fn try_take(&mut self, topic: &str, payload: &[u8], arrival: Arrival) -> Result<Taken, Unnamed> {
        let Some(at) = self.route(topic) else {
            let reason =
                if topic::validate_topic(topic).is_err() { Reason::InvalidTopic } else { Reason::Unrouted };
            self.refuse(topic.as_bytes(), payload, payload.len(), reason, arrival);
            return Ok(Taken::Unrouted);
        };
        let Some(stream) = &mut self.streams[at] else { return Ok(Taken::Unrouted) };
        // An error is in the tally too, and leaves a batch without rows.
        let _ = stream.decoder.decode(payload, arrival.moment, &mut self.batch);
        let known = self.topics.known.get(topic);
        let batch = &self.batch;
        self.slots.clear();
        self.slots.extend((0..batch.field_count()).map(|n| known?.fields.find(n, batch.field(n))));
        if self.slots.contains(&None) {
            self.name_series(at, topic)?;
        }
        Ok(self.finish(at, arrival.timeline))
    }

    /// Whether a stream takes what comes to this topic.
    pub fn is_wanted(&mut self, topic: &str) -> bool {
        self.route(topic).is_some()
    }

    /// The store's answer to what [`Intake::try_take`] wanted to know.
    pub fn learn(&mut self, unnamed: &Unnamed, name: &str, answer: Result<SeriesId, SeriesDenied>) {
        if let Some(stream) = &mut self.streams[unnamed.at] {
            // What it leads to is looked up at the next try.
            let _slot = stream.book.enter(name, answer);
        }
    }

    /// Counts a message that is not taken, and keeps its beginning for the operator.
    pub fn refuse(
        &mut self,
        topic: &[u8],
        payload: &[u8],
        payload_bytes: usize,
        reason: Reason,
        arrival: Arrival,
    ) {
        let at = std::str::from_utf8(topic).ok().and_then(|topic| self.route(topic));
        let mut tally = Tally::default();
        tally.add(reason, 1);
        let counters = self.counters.of(at);
        counters.message(payload_bytes, 0);
        counters.reject(&tally);
        if reason.is_noteworthy() {
            let specimen = Specimen::new(topic, reason, arrival.moment.arrival, payload, payload_bytes);
            self.specimens.send_modify(|kept| kept.keep(at, specimen));
        }
    }

    /// Position of the stream a topic belongs to.
    fn route(&mut self, topic: &str) -> Option<usize> {
        if let Some(known) = self.topics.known.get(topic) {
            return known.stream;
        }
        let stream = topic::validate_topic(topic).ok().and_then(|()| self.routes.first(topic));
        self.topics.add(topic, stream);
        self.counters.topics_cleared.store(self.topics.cleared, Ordering::Relaxed);
        stream
    }

    /// Finds the series of fields that this topic has not had before.
    fn name_series(&mut self, at: usize, topic: &str) -> Result<(), Unnamed> {
        let Some(stream) = &mut self.streams[at] else { return Ok(()) };
        let mut unnamed = Unnamed { at, stream: stream.id, wanted: Vec::new() };
        for n in 0..self.slots.len() {
            if self.slots[n].is_some() {
                continue;
            }
            let field = self.batch.field(n);
            // A batch may have a field twice: the first one's series is the second one's.
            let known = self.topics.known.get(topic).and_then(|known| known.fields.find(n, field));
            match known.map_or_else(|| stream.slot(topic, field), Ok) {
                Ok(slot) => {
                    if known.is_none() {
                        self.topics.add_field(topic, field, slot);
                    }
                    self.slots[n] = Some(slot);
                }
                Err(entry) if unnamed.wanted.iter().any(|wanted| wanted.name == entry.name) => {}
                Err(entry) => unnamed.wanted.push(entry),
            }
        }
        if unnamed.wanted.is_empty() { Ok(()) } else { Err(unnamed) }
    }

    fn finish(&mut self, at: usize, arrival: Timeline) -> Taken {
        let Some(stream) = &self.streams[at] else { return Taken::Unrouted };
        let mut readings = Vec::with_capacity(self.batch.rows().len());
        let mut refused = Tally::default();
        for row in self.batch.rows() {
            match self.slots[row.field as usize] {
                Some(Ok(series)) => readings.push(Reading { series, time: row.time, value: row.value }),
                Some(Err(reason)) => refused.add(reason, 1),
                None => unreachable!("every field was named"),
            }
        }
        for (reason, count) in refused.iter() {
            self.batch.tally_mut().add(reason, count as usize);
        }
        self.last = Some((at, readings.len()));
        let timeline = if stream.decoder.has_sensor_time() { Timeline::Sensor } else { arrival };
        Taken::Content { stream: stream.id, timeline, readings }
    }

    /// Counts the message taken last, which was this one, and keeps its beginning for the operator if something of it was
    /// rejected.
    pub fn count(&mut self, topic: &str, payload: &[u8], arrival: Arrival) {
        let Some((at, readings)) = self.last.take() else { return };
        let (counters, tally) = (&self.counters.streams[at], self.batch.tally());
        counters.message(payload.len(), readings);
        if tally.is_clean() {
            return;
        }
        counters.reject(tally);
        if let Some((reason, _)) = tally.iter().find(|(reason, _)| reason.is_noteworthy()) {
            let specimen =
                Specimen::new(topic.as_bytes(), reason, arrival.moment.arrival, payload, payload.len());
            self.specimens.send_modify(|kept| kept.keep(Some(at), specimen));
        }
    }
}

// === impl Topics ===

impl Topics {
    fn add(&mut self, topic: &str, stream: Option<usize>) {
        if topic.len() > TOPIC_BYTES_KEPT {
            return;
        }
        if self.known.len() >= TOPICS_MAX {
            self.clear();
        }
        self.known.insert(topic.into(), Topic { stream, fields: Fields::default() });
    }

    fn add_field(&mut self, topic: &str, field: &str, slot: Slot) {
        if self.fields >= FIELDS_MAX {
            self.clear();
        }
        if let Some(known) = self.known.get_mut(topic) {
            known.fields.add(field, slot);
            self.fields += 1;
        }
    }

    fn clear(&mut self) {
        self.known.clear();
        self.fields = 0;
        self.cleared += 1;
    }
}

// === impl Stream ===

impl Stream {
    fn new(id: StreamId, stream: &config::Stream) -> Result<Stream, SetupError> {
        let series = Template::parse(&stream.series)
            .map_err(|cause| SetupError::Series { stream: stream.name.clone(), cause })?;
        let label = |(name, text): (&String, &String)| match Template::parse_label(text) {
            Ok(template) => Ok((name.clone(), template)),
            Err(cause) => Err(SetupError::Label { stream: stream.name.clone(), label: name.clone(), cause }),
        };
        Ok(Stream {
            id,
            decoder: Decoder::new(&stream.decode, &stream.time, &stream.caps),
            series,
            labels: stream.labels.iter().map(label).collect::<Result<_, _>>()?,
            unit: stream.unit.clone(),
            book: Book::new(stream.caps.series_max),
        })
    }

    /// The series of a field under a topic: known or refused; or what to ask the store for.
    fn slot(&mut self, topic: &str, field: &str) -> Result<Slot, SeriesEntry> {
        let mut name = String::new();
        if self.series.render(topic, field, &mut name).is_err() {
            return Ok(Err(Reason::SeriesName));
        }
        match self.book.look_up(&name) {
            series::Entry::Known(id) => Ok(Ok(id)),
            series::Entry::Refused => Ok(Err(Reason::TooManySeries)),
            series::Entry::Unknown => {
                Err(SeriesEntry { name, unit: self.unit.clone(), labels: self.labels(topic) })
            }
        }
    }

    /// The labels of a topic. One that cannot be rendered, because the topic lacks a level, is left out.
    fn labels(&self, topic: &str) -> BTreeMap<String, String> {
        let render = |(name, template): &(String, Template)| {
            let mut value = String::new();
            template.render(topic, "", &mut value).ok().map(|()| (name.clone(), value))
        };
        self.labels.iter().filter_map(render).collect()
    }
}

#[cfg(test)]
mod tests;
