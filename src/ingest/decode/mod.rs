//! Payloads become readings: JSON, CBOR, a bare number, packed samples.
//!
//! Pure: bytes and a [`Moment`] in, a [`Batch`] out. The batch is the caller's and is used again for every payload, so
//! that in steady state nothing is allocated.
//!
//! ```text
//! json.rs ─┐ events: open, key, item, close, value
//!          ├──▶ walk.rs ─▶ Batch: fields, rows, tally
//! cbor.rs ─┘    (paths, samples, time fields, bounds)      ◀── number.rs, packed.rs
//! ```
//! What is rejected, and how much of it:
//! - a payload that breaks the rules of its format, or a bound (bytes, depth, readings): all of it, as one rejection;
//! - a value that is not finite, not within 64 bits, or text: that value, one rejection each; `null` is no value at all;
//! - a sample whose time is missing or wrong: that sample, one rejection for each of its values.
//!
//! `NaN` and `Infinity` are not JSON, but what Python writes: they reject the value, not its neighbours. Every number
//! in JSON text is parsed from its digits: floats are rounded correctly, integers are exact or rejected. (serde_json as it
//! is built here does neither: it is up to one unit in the last place off, gives integers beyond 64 bits as floats, and
//! gives up a whole payload for one `1e999`; hence our own scanner, tested against it.)

mod cbor;
mod json;
mod number;
mod packed;
mod time;
mod walk;

#[cfg(test)]
mod tests;

use crate::config::{Caps, Decode, Packed, TimeSource};
use crate::ingest::reason::{Reason, Tally};
use crate::sample::{Nanos, Value};

pub use time::{AHEAD_MAX, TIME_END};

/// Deepest nesting whatever the configuration says: 128 levels cost 4 KiB of frames, and no sensor nests deeper.
pub const DEPTH_MAX: usize = 128;

/// Longest flattened field name. Longer ones could not name a series, and are rejected before they are copied, because
/// a long key around a long array would otherwise be copied once per element.
pub const FIELD_BYTES_MAX: usize = crate::ingest::naming::NAME_BYTES_MAX;

/// What a batch may keep allocated between payloads: names of 4,096 fields of 64 bytes. A larger one was an exception.
const KEEP_BYTES_MAX: usize = 256 * 1024;

/// Rows kept allocated between payloads: 16,384 x 24 B = 384 KiB.
const KEEP_ROWS_MAX: usize = 16_384;

/// When a payload arrived, and what the clock is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The arrival stamp.
    pub arrival: Nanos,
    /// The wall clock, if it is trusted: times too far ahead of it are refused.
    pub trusted: Option<Nanos>,
}

/// One value, not yet of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Position among the batch's fields.
    pub field: u32,
    /// The sensor's time, or the arrival stamp when the stream has no time field.
    pub time: Nanos,
    /// The value.
    pub value: Value,
}

/// What a payload held. Reused from payload to payload.
#[derive(Debug, Default)]
pub struct Batch {
    rows: Vec<Row>,
    names: String,
    fields: Vec<(u32, u32)>,
    tally: Tally,
    scratch: walk::Scratch,
    text: String,
}

/// How one stream's payloads are decoded.
#[derive(Debug, Clone)]
pub struct Decoder {
    form: Form,
    shape: walk::Shape,
    payload_bytes_max: usize,
}

#[derive(Debug, Clone)]
enum Form {
    Json,
    Cbor,
    Number,
    Packed(Packed),
}

// === impl Decoder ===

impl Decoder {
    /// The decoder of a stream.
    pub fn new(decode: &Decode, time: &TimeSource, caps: &Caps) -> Decoder {
        let (form, fields) = match decode {
            Decode::Json(fields) => (Form::Json, Some(fields)),
            Decode::Cbor(fields) => (Form::Cbor, Some(fields)),
            Decode::Number => (Form::Number, None),
            Decode::Packed(packed) => (Form::Packed(*packed), None),
        };
        Decoder {
            form,
            shape: walk::Shape::new(fields, time, caps),
            payload_bytes_max: caps.payload_bytes_max,
        }
    }

    /// Decodes a payload into `batch`, in place of what it held. On an error the payload as a whole is rejected: the
    /// batch then has no rows, and the reason is in its tally too.
    pub fn decode(&self, payload: &[u8], moment: Moment, batch: &mut Batch) -> Result<(), Reason> {
        batch.clear();
        let result = self.fill(payload, moment, batch);
        if let Err(reason) = result {
            batch.clear();
            batch.tally.add(reason, 1);
        }
        result
    }

    fn fill(&self, payload: &[u8], moment: Moment, batch: &mut Batch) -> Result<(), Reason> {
        if payload.len() > self.payload_bytes_max {
            return Err(Reason::TooLarge);
        }
        if payload.is_empty() {
            return Err(Reason::Empty);
        }
        match &self.form {
            Form::Json => {
                let mut text = std::mem::take(&mut batch.text);
                let result = self.walk(moment, batch, |walk| json::scan(payload, &mut text, walk));
                batch.text = text;
                result
            }
            Form::Cbor => {
                let mut text = std::mem::take(&mut batch.text);
                let result = self.walk(moment, batch, |walk| cbor::scan(payload, &mut text, walk));
                batch.text = text;
                result
            }
            Form::Number => self.walk(moment, batch, |walk| walk.value(number::parse(payload)?)),
            Form::Packed(packed) => {
                if self.shape.has_time() {
                    return Err(Reason::TimeMissing);
                }
                packed::unpack(payload, *packed, self.shape.samples_max(), moment.arrival, batch)
            }
        }
    }

    fn walk(
        &self,
        moment: Moment,
        batch: &mut Batch,
        scan: impl FnOnce(&mut walk::Walk<'_>) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        let mut walk = walk::Walk::new(&self.shape, moment, batch);
        scan(&mut walk)?;
        walk.finish()
    }

    /// Whether times come from the payload.
    pub fn has_sensor_time(&self) -> bool {
        self.shape.has_time()
    }
}

// === impl Batch ===

impl Batch {
    /// Values, in the payload's order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// How many fields there are. A field may occur twice when samples differ in their fields.
    pub fn field_count(&self) -> usize {
        self.fields.len()
    }

    /// The flattened name of a field, empty for a payload without fields.
    pub fn field(&self, at: usize) -> &str {
        let (start, end) = self.fields[at];
        &self.names[start as usize..end as usize]
    }

    /// What was rejected.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What was rejected, for those who name the series to add to.
    pub fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }

    fn add_field(&mut self, name: &str) -> u32 {
        let start = self.names.len() as u32;
        self.names.push_str(name);
        self.fields.push((start, self.names.len() as u32));
        (self.fields.len() - 1) as u32
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.names.clear();
        self.fields.clear();
        self.tally.clear();
        self.names.shrink_to(KEEP_BYTES_MAX);
        self.text.shrink_to(KEEP_BYTES_MAX);
        self.fields.shrink_to(KEEP_ROWS_MAX);
        self.rows.shrink_to(KEEP_ROWS_MAX);
    }
}
