//! `[[stream]]`, with the defaults of its keys: no layer lies below it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Judge;
use crate::block::ROWS_MAX;
use crate::config::diagnose::nearest;
use crate::config::fault::{Doubt, Fault};
use crate::config::names::{self, FieldPlaceholder};
use crate::config::raw::{self, Span};
use crate::config::tree::KeyPath;
use crate::config::{
    Caps, Component, Decode, Fields, FullPolicy, Packed, PackedType, Reduce, Stream, TimeFormat, TimeSource,
};
use crate::sample::{Durability, Lane};

/// Most streams: each has windows, counters and a line in every report. A machine has a handful.
const STREAMS_MAX: usize = 256;
/// Most filters of a stream; wildcards do the rest.
const TOPICS_MAX: usize = 64;
/// Most filters of all streams: every pair of them is compared, 2 million comparisons of about 100 ns.
const FILTERS_MAX: usize = 2048;
/// Most fields picked out of a payload.
const FIELDS_MAX: usize = 4096;
/// Most labels of a stream.
const LABELS_MAX: usize = 32;

/// Longest unit, and path of a field.
const UNIT_CHARS_MAX: usize = 64;
const FIELD_CHARS_MAX: usize = 1024;

const SERIES_TEMPLATE: &str = "{topic}/{field}";
const WINDOW: Duration = Duration::from_secs(60);
const LATENESS: Duration = Duration::from_secs(5);
const DAY: Duration = Duration::from_secs(86_400);

/// 256 KiB: 65,536 samples of 4 bytes, what `SAMPLES` takes.
pub(super) const PAYLOAD_BYTES: usize = 256 << 10;
/// 64 MiB: a payload is held in memory together with what is decoded from it.
const PAYLOAD_BYTES_MAX: u64 = 64 << 20;
const DEPTH: usize = 16;
/// The decoders' own recursion is safe to 128; a payload nested deeper than 64 is not telemetry.
const DEPTH_MAX: usize = 64;
const SAMPLES: usize = 65_536;
const SERIES: usize = 10_000;
/// A million series are a million windows of about 200 bytes: the most a gateway's memory holds.
const SERIES_MAX: usize = 1_000_000;
const OUTBOX_BYTES_LEAST: u64 = 64 << 10;
const OUTBOX_BYTES_MAX: u64 = 1 << 44;

/// Two samples less than a nanosecond apart would have the same time.
const RATE_MAX: f64 = 1e9;

impl Judge<'_> {
    pub(super) fn streams(&mut self, raw: &[raw::Stream], components: &[Component]) -> Vec<Stream> {
        let table = KeyPath::of("stream");
        self.count(&table, raw.len(), STREAMS_MAX);
        let streams: Vec<Stream> =
            raw.iter().enumerate().map(|(n, raw)| self.stream(&table.item(n), raw, components)).collect();
        let filters = streams.iter().map(|stream| stream.topics.len()).sum();
        self.count(&table, filters, FILTERS_MAX);
        if filters <= FILTERS_MAX {
            self.shadowed(&table, &streams);
        }
        streams
    }

    fn stream(&mut self, table: &KeyPath, raw: &raw::Stream, components: &[Component]) -> Stream {
        let decode = self.decode(table, raw);
        let stream = Stream {
            name: self.element_name(table, raw.name.as_deref()),
            topics: self.topics(table, &raw.topics),
            qos: self.whole_number(&table.key("qos"), raw.qos.unwrap_or(1), 0, 1),
            time: self.time(table, raw),
            decode,
            series: self.series(table, raw),
            unit: match raw.unit.as_deref() {
                None | Some("") => String::new(),
                Some(unit) => self.text(&table.key("unit"), unit, UNIT_CHARS_MAX),
            },
            labels: self.labels(table, raw),
            component: self.component_of(table, raw, components),
            reduce: self.reduce(table, raw.reduce.as_ref()),
            durability: raw.durability.unwrap_or(Durability::Reading),
            lane: raw.lane.unwrap_or(Lane::Data),
            full: match raw.full {
                None | Some(raw::Full::DropOldest) => FullPolicy::DropOldest,
                Some(raw::Full::Reject) => FullPolicy::Reject,
            },
            caps: self.caps(table, raw),
            expect_readings_per_second: self.expected_rate(table, raw),
            expect_series: raw.expect_series.map(|count| {
                let path = table.key("expect_series");
                self.whole_number(&path, count, 1, SERIES_MAX)
            }),
        };
        self.withholding(table, &stream);
        stream
    }

    fn topics(&mut self, table: &KeyPath, topics: &[String]) -> Vec<String> {
        let path = table.key("topics");
        if topics.is_empty() && !self.taken_out.contains(&path) {
            self.refuse(table, Fault::NoTopics);
        }
        self.count(&path, topics.len(), TOPICS_MAX);
        for (n, filter) in topics.iter().enumerate() {
            if let Err(fault) = names::topic_filter(filter) {
                self.refuse(&path.item(n), Fault::Filter { filter: filter.clone(), fault });
            }
        }
        topics.to_vec()
    }

    fn decode(&mut self, table: &KeyPath, raw: &raw::Stream) -> Decode {
        let decode = raw.decode.unwrap_or(raw::Decode::Json);
        let instead = "remove it, or use decode = \"json\" or \"cbor\"";
        if matches!(decode, raw::Decode::Number | raw::Decode::Packed) {
            for (key, set) in [("fields", raw.fields.is_some()), ("samples", raw.samples.is_some())] {
                if set {
                    self.refuse(
                        &table.key(key),
                        Fault::NotWithDecode { decode: decode_word(decode), instead },
                    );
                }
            }
        }
        if raw.packed.is_some() && decode != raw::Decode::Packed {
            let instead = "remove it, or use decode = \"packed\"";
            self.refuse(&table.key("packed"), Fault::NotWithDecode { decode: decode_word(decode), instead });
        }
        match decode {
            raw::Decode::Json => Decode::Json(self.fields(table, raw)),
            raw::Decode::Cbor => Decode::Cbor(self.fields(table, raw)),
            raw::Decode::Number => Decode::Number,
            raw::Decode::Packed => Decode::Packed(self.packed(table, raw.packed.as_ref())),
        }
    }

    fn fields(&mut self, table: &KeyPath, raw: &raw::Stream) -> Fields {
        let path = table.key("fields");
        let only = raw.fields.clone().unwrap_or_default();
        self.count(&path, only.len(), FIELDS_MAX);
        for (n, field) in only.iter().enumerate() {
            self.text(&path.item(n), field, FIELD_CHARS_MAX);
        }
        let samples =
            raw.samples.as_ref().map(|field| self.text(&table.key("samples"), field, FIELD_CHARS_MAX));
        Fields { only, samples }
    }

    fn packed(&mut self, table: &KeyPath, raw: Option<&raw::Packed>) -> Packed {
        let path = table.key("packed");
        let Some(raw) = raw else {
            if !self.taken_out.contains(&path) {
                self.refuse(table, Fault::PackedMissing);
            }
            return Packed { sample: PackedType::F32, rate: 1.0, scale: 1.0 };
        };
        for (key, set) in [("sample", raw.sample.is_some()), ("rate", raw.rate.is_some())] {
            if !set {
                self.missing(&path, key);
            }
        }
        let rate = raw.rate.unwrap_or(1.0);
        if !(rate > 0.0 && rate <= RATE_MAX) {
            let (value, least, most) = (rate.to_string(), "more than 0".to_owned(), RATE_MAX.to_string());
            self.refuse(&path.key("rate"), Fault::Range { value, least, most });
        }
        let scale = raw.scale.unwrap_or(1.0);
        if !scale.is_finite() || scale == 0.0 {
            let (found, expected) = (scale.to_string(), "a factor: a finite number other than 0".to_owned());
            self.refuse(&path.key("scale"), Fault::WrongValue { found, expected });
        }
        Packed { sample: raw.sample.map_or(PackedType::F32, packed_type), rate, scale }
    }

    fn time(&mut self, table: &KeyPath, raw: &raw::Stream) -> TimeSource {
        let Some(raw::Time::Field(time)) = &raw.time else { return TimeSource::Arrival };
        let path = table.key("time");
        let decode = raw.decode.unwrap_or(raw::Decode::Json);
        if matches!(decode, raw::Decode::Number | raw::Decode::Packed) {
            let instead = "use time = \"arrival\"";
            self.refuse(&path, Fault::NotWithDecode { decode: decode_word(decode), instead });
        }
        for (key, set) in [("field", time.field.is_some()), ("format", time.format.is_some())] {
            if !set {
                self.missing(&path, key);
            }
        }
        let field = time.field.as_ref().map(|field| self.text(&path.key("field"), field, FIELD_CHARS_MAX));
        let format = match time.format {
            None | Some(raw::TimeFormat::Rfc3339) => TimeFormat::Rfc3339,
            Some(raw::TimeFormat::S) => TimeFormat::Seconds,
            Some(raw::TimeFormat::Ms) => TimeFormat::Milliseconds,
            Some(raw::TimeFormat::Ns) => TimeFormat::Nanoseconds,
        };
        TimeSource::Field { field: field.unwrap_or_default(), format }
    }

    fn series(&mut self, table: &KeyPath, raw: &raw::Stream) -> String {
        let template = raw.series.as_deref().unwrap_or(SERIES_TEMPLATE);
        let path = table.key("series");
        if let Err(fault) = names::template(template, FieldPlaceholder::Allowed, &raw.topics) {
            self.refuse(&path, Fault::Template { template: template.to_owned(), fault });
        }
        let fields = match raw.decode.unwrap_or(raw::Decode::Json) {
            raw::Decode::Json | raw::Decode::Cbor => raw.fields.as_ref().map_or(0, Vec::len),
            raw::Decode::Number | raw::Decode::Packed => 1,
        };
        if fields != 1 && !template.contains("{field}") {
            self.doubt(&path, Doubt::FieldsMixed);
        }
        template.to_owned()
    }

    fn labels(&mut self, table: &KeyPath, raw: &raw::Stream) -> BTreeMap<String, String> {
        let path = table.key("labels");
        self.count(&path, raw.labels.len(), LABELS_MAX);
        for (name, template) in &raw.labels {
            if !names::is_label(name) {
                self.refuse(&path.key(name), Fault::LabelName { name: name.clone() });
            }
            if let Err(fault) = names::template(template, FieldPlaceholder::Refused, &raw.topics) {
                self.refuse(&path.key(name), Fault::Template { template: template.clone(), fault });
            }
        }
        raw.labels.clone()
    }

    fn component_of(
        &mut self,
        table: &KeyPath,
        raw: &raw::Stream,
        components: &[Component],
    ) -> Option<String> {
        let name = raw.component.clone()?;
        if !components.iter().any(|component| component.name == name) {
            let nearest = nearest(&name, components.iter().map(|component| component.name.as_str()));
            let nearest = nearest.map(str::to_owned);
            self.refuse(&table.key("component"), Fault::NoComponent { name: name.clone(), nearest });
        }
        Some(name)
    }

    fn reduce(&mut self, table: &KeyPath, raw: Option<&raw::Reduce>) -> Reduce {
        let (window, lateness) = match raw {
            Some(raw::Reduce::None) => return Reduce::None,
            Some(raw::Reduce::Window(raw)) => (raw.window, raw.lateness),
            None => (None, None),
        };
        let path = table.key("reduce");
        let (window, lateness) = (window.unwrap_or(Span(WINDOW)), lateness.unwrap_or(Span(LATENESS)));
        Reduce::Window {
            length: self.duration(&path.key("window"), window, Duration::from_millis(100), DAY),
            lateness: self.duration(&path.key("lateness"), lateness, Duration::ZERO, DAY),
        }
    }

    fn caps(&mut self, table: &KeyPath, raw: &raw::Stream) -> Caps {
        let key = |key: &str| table.key(key);
        let number = |raw: Option<i64>, default: usize| raw.unwrap_or(default as i64);
        let payload = raw.payload_bytes_max.map_or(PAYLOAD_BYTES as u64, |bytes| bytes.0);
        let payload = self.bytes(&key("payload_bytes_max"), payload, 1, PAYLOAD_BYTES_MAX);
        Caps {
            // Saturates only where a bound has been overstepped, and been refused.
            payload_bytes_max: usize::try_from(payload).unwrap_or(usize::MAX),
            depth_max: self.whole_number(&key("depth_max"), number(raw.depth_max, DEPTH), 1, DEPTH_MAX),
            samples_max: self.whole_number(
                &key("samples_max"),
                number(raw.samples_max, SAMPLES),
                1,
                ROWS_MAX,
            ),
            series_max: self.whole_number(&key("series_max"), number(raw.series_max, SERIES), 1, SERIES_MAX),
            outbox_bytes_max: raw.outbox_bytes_max.map(|bytes| {
                self.bytes(&key("outbox_bytes_max"), bytes.0, OUTBOX_BYTES_LEAST, OUTBOX_BYTES_MAX)
            }),
        }
    }

    fn expected_rate(&mut self, table: &KeyPath, raw: &raw::Stream) -> Option<f64> {
        raw.expect_per_second.map(|rate| self.within(&table.key("expect_per_second"), rate, 0.0, RATE_MAX))
    }

    /// Senders are held back by not acknowledging; that must be possible.
    fn withholding(&mut self, table: &KeyPath, stream: &Stream) {
        let because = match (stream.full, stream.durability, stream.qos) {
            (FullPolicy::DropOldest, ..) => return,
            (_, Durability::None, _) => "durability = \"none\"",
            (_, _, 0) => "qos = 0",
            _ => return,
        };
        self.refuse(&table.key("full"), Fault::NothingToWithhold { because });
    }

    /// The first stream that matches takes a message: what is covered by an earlier one never gets anything.
    fn shadowed(&mut self, table: &KeyPath, streams: &[Stream]) {
        for (n, stream) in streams.iter().enumerate() {
            for (t, filter) in stream.topics.iter().enumerate() {
                let cover = streams[..n].iter().find_map(|earlier| {
                    let by = earlier.topics.iter().find(|by| names::covers(by, filter))?;
                    Some((earlier.name.clone(), by.clone()))
                });
                if let Some((stream, by)) = cover {
                    let path = table.item(n).key("topics").item(t);
                    self.doubt(&path, Doubt::Shadowed { filter: filter.clone(), stream, by });
                }
            }
        }
    }
}

fn decode_word(decode: raw::Decode) -> &'static str {
    match decode {
        raw::Decode::Json => "json",
        raw::Decode::Cbor => "cbor",
        raw::Decode::Number => "number",
        raw::Decode::Packed => "packed",
    }
}

fn packed_type(raw: raw::Sample) -> PackedType {
    match raw {
        raw::Sample::I16 => PackedType::I16,
        raw::Sample::I32 => PackedType::I32,
        raw::Sample::F32 => PackedType::F32,
        raw::Sample::F64 => PackedType::F64,
    }
}
