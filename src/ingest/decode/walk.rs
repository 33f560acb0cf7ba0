//! What the structured formats have in common: from a sequence of events to rows.
//!
//! A scanner says what it meets (`open`, `key`, `item`, `close`, `value`); the walk keeps the path, knows where samples
//! begin and end, finds times and applies the bounds. It keeps its own stack, so that nesting costs no call stack.
//!
//! ```text
//!                    array of samples opens                 item
//! outer ────────────────────────────────────▶ samples ─────────────▶ sample n ─┐ item: sample n+1
//!   ▲  values count only when no path of         │ close ◀──────────────────────┘
//!   └──samples is configured  ◀──────────────────┘
//! ```
//! A sample's time is that found within it; else, once the payload has been read, that found around it.

use super::{Batch, DEPTH_MAX, FIELD_BYTES_MAX, Moment, Row, time};
use crate::config::{Caps, Fields, TimeFormat, TimeSource};
use crate::ingest::reason::Reason;
use crate::sample::{Nanos, Value};

/// Stands for "no time yet" in rows under construction; no valid time is negative.
const UNSET: Nanos = Nanos::MIN;

/// How far ahead in the list of fields a field is looked for, when samples leave out some of them.
const FIELDS_AHEAD: usize = 8;

/// What of a payload counts.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    only: Vec<String>,
    samples: Option<String>,
    time: Option<(String, TimeFormat)>,
    depth_max: usize,
    samples_max: usize,
}

/// Buffers of a walk, kept between payloads.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    path: String,
    frames: Vec<Frame>,
}

/// A value, as its format has it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scalar<'a> {
    /// A number in JSON's own notation, or one of the three names for what is not finite.
    Digits(&'a str),
    Int(i64),
    Float(f64),
    /// An integer beyond 64 bits.
    HugeInt,
    Text(&'a str),
    /// Bytes, and whatever else a format may have.
    Opaque,
    Null,
}

/// A container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: Kind,
    is_samples: bool,
    /// Length of the path at the container itself.
    base: usize,
    /// Entries so far.
    entries: usize,
    /// Entries to come, where the format says how many.
    left: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Stamp(Option<Result<Nanos, Reason>>);

pub(super) struct Walk<'a> {
    shape: &'a Shape,
    moment: Moment,
    batch: &'a mut Batch,
    path: String,
    frames: Vec<Frame>,
    /// Where the path of the present sample begins; 0 outside of samples.
    root: usize,
    /// First row of the present sample, if in one, and its time.
    sample: Option<(usize, Stamp)>,
    outer: Stamp,
    /// Position after the field met last.
    cursor: usize,
}

// === impl Shape ===

impl Shape {
    pub(super) fn new(fields: Option<&Fields>, time: &TimeSource, caps: &Caps) -> Shape {
        let mut only = fields.map(|f| f.only.clone()).unwrap_or_default();
        only.sort_unstable();
        Shape {
            only,
            samples: fields.and_then(|f| f.samples.clone()),
            time: match time {
                TimeSource::Arrival => None,
                TimeSource::Field { field, format } => Some((field.clone(), *format)),
            },
            depth_max: caps.depth_max.min(DEPTH_MAX),
            samples_max: caps.samples_max,
        }
    }

    pub(super) fn has_time(&self) -> bool {
        self.time.is_some()
    }

    pub(super) fn samples_max(&self) -> usize {
        self.samples_max
    }

    fn wants(&self, field: &str) -> bool {
        self.only.is_empty() || self.only.binary_search_by(|wanted| wanted.as_str().cmp(field)).is_ok()
    }
}

// === impl Walk ===

impl<'a> Walk<'a> {
    pub(super) fn new(shape: &'a Shape, moment: Moment, batch: &'a mut Batch) -> Walk<'a> {
        let Scratch { mut path, mut frames } = std::mem::take(&mut batch.scratch);
        path.clear();
        frames.clear();
        let outer = Stamp(None);
        Walk { shape, moment, batch, path, frames, root: 0, sample: None, outer, cursor: 0 }
    }

    /// The innermost open container, how many entries it has had, and how many are to come.
    pub(super) fn inside(&self) -> Option<(Kind, usize, Option<u64>)> {
        self.frames.last().map(|frame| (frame.kind, frame.entries, frame.left))
    }

    /// A container begins, with a number of entries if the format has said it.
    pub(super) fn open(&mut self, kind: Kind, left: Option<u64>) -> Result<(), Reason> {
        if self.frames.len() >= self.shape.depth_max {
            return Err(Reason::TooDeep);
        }
        let is_samples = kind == Kind::Array
            && self.sample.is_none()
            && match &self.shape.samples {
                Some(path) => *path == self.path && !self.frames.is_empty(),
                None => self.frames.is_empty(),
            };
        self.frames.push(Frame { kind, is_samples, base: self.path.len(), entries: 0, left });
        Ok(())
    }

    /// The key of the next value of an object.
    pub(super) fn key(&mut self, key: &str) {
        let base = self.enter();
        self.path.truncate(base);
        if base > self.root {
            self.path.push('.');
        }
        self.path.push_str(key);
    }

    /// The next value of an array begins.
    pub(super) fn item(&mut self) {
        let entries = self.frames.last().map_or(0, |frame| frame.entries);
        let base = self.enter();
        self.path.truncate(base);
        if self.frames.last().is_some_and(|frame| frame.is_samples) {
            self.end_sample();
            self.root = base;
            self.cursor = 0;
            self.sample = Some((self.batch.rows.len(), Stamp(None)));
            return;
        }
        if base > self.root {
            self.path.push('.');
        }
        push_decimal(&mut self.path, entries);
    }

    /// Counts an entry of the innermost container, and gives the length of that container's path.
    fn enter(&mut self) -> usize {
        let frame = self.frames.last_mut().expect("keys and items come within a container");
        frame.entries += 1;
        frame.left = frame.left.map(|left| left.saturating_sub(1));
        frame.base
    }

    /// The innermost container ends.
    pub(super) fn close(&mut self) {
        let frame = self.frames.pop().expect("only what was opened is closed");
        self.path.truncate(frame.base);
        if frame.is_samples {
            self.end_sample();
            self.root = 0;
        }
    }

    /// A value that is not a container.
    pub(super) fn value(&mut self, scalar: Scalar<'_>) -> Result<(), Reason> {
        let field = &self.path[self.root..];
        if let Some((name, format)) = &self.shape.time
            && name == field
        {
            let found = Stamp(Some(stamp(scalar, *format, self.moment)));
            match &mut self.sample {
                Some((_, time)) => *time = found,
                None => self.outer = found,
            }
            return Ok(());
        }
        if (self.shape.samples.is_some() && self.sample.is_none()) || !self.shape.wants(field) {
            return Ok(());
        }
        match number(scalar) {
            Ok(Some(value)) => self.row(value),
            Ok(None) => Ok(()),
            Err(reason) => {
                self.batch.tally.add(reason, 1);
                Ok(())
            }
        }
    }

    fn row(&mut self, value: Value) -> Result<(), Reason> {
        if self.batch.rows.len() >= self.shape.samples_max {
            return Err(Reason::TooManySamples);
        }
        if self.path.len() - self.root > FIELD_BYTES_MAX {
            self.batch.tally.add(Reason::SeriesName, 1);
            return Ok(());
        }
        let field = self.field();
        let time = if self.shape.has_time() { UNSET } else { self.moment.arrival };
        self.batch.rows.push(Row { field, time, value });
        Ok(())
    }

    /// The number of the present field. Samples mostly have the same fields in the same order, so the next one in the
    /// list is tried, then a few more; else it is added, even if it is there already further off.
    fn field(&mut self) -> u32 {
        let name = &self.path[self.root..];
        let end = self.batch.field_count().min(self.cursor + FIELDS_AHEAD);
        if let Some(at) = (self.cursor..end).find(|at| self.batch.field(*at) == name) {
            self.cursor = at + 1;
            return at as u32;
        }
        let at = self.batch.add_field(name);
        if self.sample.is_none() {
            self.cursor = at as usize + 1;
        }
        at
    }

    /// Gives the rows of the present sample their time, or drops them if it is wrong.
    fn end_sample(&mut self) {
        match self.sample.take() {
            Some((first, Stamp(Some(Ok(time))))) => {
                for row in &mut self.batch.rows[first..] {
                    row.time = time;
                }
            }
            Some((first, Stamp(Some(Err(reason))))) => {
                let dropped = self.batch.rows.len() - first;
                self.batch.rows.truncate(first);
                self.batch.tally.add(reason, dropped.max(1));
            }
            Some((_, Stamp(None))) | None => {}
        }
    }

    /// The payload has been read: rows without a time get that of the payload.
    pub(super) fn finish(self) -> Result<(), Reason> {
        let Walk { shape, batch, path, frames, outer, .. } = self;
        batch.scratch = Scratch { path, frames };
        if shape.has_time() {
            let found = outer.0.unwrap_or(Err(Reason::TimeMissing));
            let before = batch.rows.len();
            match found {
                Ok(time) => {
                    for row in batch.rows.iter_mut().filter(|row| row.time == UNSET) {
                        row.time = time;
                    }
                }
                Err(reason) => {
                    batch.rows.retain(|row| row.time != UNSET);
                    batch.tally.add(reason, before - batch.rows.len());
                }
            }
        }
        if batch.rows.is_empty() && batch.tally.is_clean() { Err(Reason::Empty) } else { Ok(()) }
    }
}

fn number(scalar: Scalar<'_>) -> Result<Option<Value>, Reason> {
    match scalar {
        Scalar::Digits(text) if text.bytes().all(|b| b.is_ascii_digit() || b == b'-') => {
            text.parse().map(|v| Some(Value::Int(v))).map_err(|_| Reason::IntegerOutOfRange)
        }
        Scalar::Digits(text) => finite(text.parse().unwrap_or(f64::NAN)),
        Scalar::Int(v) => Ok(Some(Value::Int(v))),
        Scalar::Float(v) => finite(v),
        Scalar::HugeInt => Err(Reason::IntegerOutOfRange),
        Scalar::Text(_) | Scalar::Opaque => Err(Reason::Text),
        Scalar::Null => Ok(None),
    }
}

fn finite(v: f64) -> Result<Option<Value>, Reason> {
    if v.is_finite() { Ok(Some(Value::Float(v))) } else { Err(Reason::NotFinite) }
}

fn stamp(scalar: Scalar<'_>, format: TimeFormat, moment: Moment) -> Result<Nanos, Reason> {
    let found = match scalar {
        Scalar::Digits(text) => time::from_digits(text, format),
        Scalar::Int(v) => time::from_int(v, format),
        Scalar::Float(v) => time::from_float(v, format),
        Scalar::HugeInt => Err(Reason::TimeOutOfRange),
        Scalar::Text(text) => time::from_text(text, format),
        Scalar::Null => Err(Reason::TimeMissing),
        Scalar::Opaque => Err(Reason::TimeMalformed),
    }?;
    time::check(found, moment.trusted)
}

fn push_decimal(text: &mut String, number: usize) {
    use std::fmt::Write;
    write!(text, "{number}").expect("writing to a String cannot fail");
}
