//! The columnar format of everything that outlives a process: raw readings, reduced windows, alarms.
//!
//! ```text
//! blob     = version u8 | kind u8 | crc32 of the rest, u32 le | postcard header | columns
//! column   = each of series, times, values …: pco for numbers, zstd for text, whichever form is smaller
//! ```
//! Encoding is pure and deterministic. Decoding is total: any bytes give a block or a [`DecodeError`], never a panic,
//! and never more memory than [`ROWS_MAX`] rows need, whatever a header claims. The format version is the first byte;
//! golden files of every version live in `tests/compat/` and are never edited.
//!
//! Two users: the journal stores readings with series numbers only (the database has the names); what leaves for the
//! hub is an [`Envelope`], complete in itself, so that a consumer needs nothing but the block.

mod codec_standin;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sample::{Nanos, SeriesId, Value};

pub use codec_standin::{DecodeError, decode_envelope, encode_envelope};

/// Most rows in one block: 2^20 readings of 24 bytes are 24 MiB decoded.
pub const ROWS_MAX: usize = 1 << 20;

/// What is known of a series beside its readings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeriesEntry {
    /// Name, unique within its stream.
    pub name: String,
    /// Unit, empty when unknown.
    pub unit: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// One closed window of one series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowRow {
    /// Which series.
    pub series: SeriesId,
    /// Start of the window; its length is the block's.
    pub start: Nanos,
    /// Readings in it, at least 1.
    pub count: u32,
    /// Smallest value.
    pub min: Value,
    /// Largest value.
    pub max: Value,
    /// Value of the earliest time.
    pub first: Value,
    /// Value of the latest time.
    pub last: Value,
    /// Sum. An integer when all values are and the sum fits.
    pub sum: Value,
    /// Population standard deviation, to single precision.
    pub std_dev: f32,
    /// Readings of this series that came after their window had closed, since its previous row. They are in no window.
    pub late: u32,
    /// Readings of this series that repeated a time already taken, since its previous row. They are counted once.
    pub duplicates: u32,
    /// Empty windows between the previous row of this series and this one.
    pub gap: u32,
}

/// An alarm raised by a component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// The series it is about.
    pub series: SeriesId,
    /// Time of the reading that raised it.
    pub time: Nanos,
    /// `true` when raised, `false` when cleared.
    pub active: bool,
    /// What the component calls it.
    pub name: String,
    /// For people.
    pub message: String,
    /// The value that caused it.
    pub value: f64,
}

/// A block on its way to the hub, complete in itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// Name of the stream.
    pub stream: String,
    /// Whose clock the times are of.
    pub clock: WireClock,
    /// Every series the rows name, by the number they use.
    pub series: BTreeMap<SeriesId, SeriesEntry>,
    /// The rows.
    pub rows: Rows,
}

/// Whose clock the times of an [`Envelope`] are of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireClock {
    /// The sensor's own.
    Sensor,
    /// The gateway's, trusted, on arrival.
    Arrival,
    /// The gateway's before it was trusted, in the boot with this identifier. The message header `Frond-Clock-Correction`
    /// holds the nanoseconds to add, when they were learnt; without it the times are estimates.
    Estimated {
        /// The kernel's boot identifier.
        boot: String,
    },
}

/// The rows of an [`Envelope`].
#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// Readings as they came (or as a component left them).
    Raw(Vec<crate::sample::Reading>),
    /// Closed windows of one length.
    Windows {
        /// Length of every window, in nanoseconds.
        length: Nanos,
        /// The windows.
        rows: Vec<WindowRow>,
    },
    /// Alarms.
    Alarms(Vec<Alarm>),
}
