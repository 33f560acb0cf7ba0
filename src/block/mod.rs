//! The columnar format of everything that outlives a process: raw readings, reduced windows, alarms.
//!
//! ```text
//! block   = version u8 | kind u8 | crc32 of the rest, u32 le | counts and heads | columns
//! column  = integers: differences, then one value, runs, bits or pco (ints.rs)
//!         | values: decimals as integers, the rest as floats (values.rs)
//!         | text: zstd or as it is (text.rs)
//! ```
//! Encoding is pure and deterministic. Decoding is total: any bytes give a block or a [`DecodeError`], never a panic,
//! and never more memory than [`ROWS_MAX`] rows need (140 MiB with all that is in between), whatever a block claims.
//! The format version is the first byte; golden files of every version live in `tests/compat/` and are never edited.
//! Nothing is owned here, and nothing is dropped: what a block cannot hold is the caller's to split, and asserted.
//!
//! Two users: the journal stores readings with series numbers only (the database has the names); what leaves for the
//! hub is an [`Envelope`], complete in itself, so that a consumer needs nothing but the block.
//!
//! Why this mix: bytes per reading as `benches/codec.rs` prints them, in the sorted ring and in group commits of 1,000,
//! on W1 and on recorded machines (SKAB, eight channels; NAB, one). zstd and pco got the columns without packet
//! identifiers and origins, so that they are better off than they would be.
//! ```text
//!                      ring: zstd 3   pco 8    here      journal: zstd 3   pco 8       here
//! W1                         4.5       1.3     1.2                  8.9     4.1        4.0
//! SKAB                     3.8–5.2   2.4–3.8   1.7–1.8            6.1–6.2   3.3–4.3   2.0–2.2
//! NAB                     11.5–13.1    3.7     3.6                 14.4     4.1–4.2    3.8
//! ```
//! pco on its own looks for one multiple that all floats of a column share; a block mixes series of different decimals.
//! Taking the decimals first leaves small integers, for which pco's bins suffice: no search, no differences of its own.
//! Of its levels, 10 instead of 8 saves a thousandth for a third more time, 4 costs 9 % in the ring and 0.5 % in the
//! journal. zstd is left with the text. A commit of 1,000 messages takes 0.2 to 0.3 ms of one core, a reading of the
//! ring 50 to 70 ns.

mod columns;
pub(crate) mod cursor;
mod envelope;
mod error;
pub(crate) mod frame;
pub(crate) mod ints;
mod messages;
mod names;
mod pack;
mod readings;
mod text;
pub(crate) mod values;
mod windows;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sample::{Nanos, SeriesId, Value};

pub use envelope::{decode_envelope, encode_envelope};
pub use error::DecodeError;
pub use frame::Kind;
pub use messages::{decode_messages, encode_messages};
pub use names::DICTIONARY_BYTES_MAX;
pub use readings::{decode_readings, encode_readings};

/// Most rows in one block: 2^20 readings of 24 bytes are 24 MiB decoded.
pub const ROWS_MAX: usize = 1 << 20;

/// Most windows in one block: 2^18 rows of 120 bytes are 30 MiB decoded.
pub const WINDOWS_MAX: usize = 1 << 18;

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

#[cfg(test)]
mod tests;
