//! Tumbling windows: many readings in, one row out.
//!
//! Pure: no clock, no I/O. Whoever owns a [`Reducer`] (one stream's pipeline) tells it the monotonic time. What survives
//! power loss is what the owner writes: [`Reducer::snapshot`] in the transaction that holds the rows made so far.
//!
//! ```text
//!             first reading            watermark ≥ end + lateness, idle, other timeline, flush
//!  (no window) ───────────▶ open ──────────────────────────────────────────────────────────────▶ closed, one row
//!                            │ ▲                                                                    │
//!                            └─┘ reading taken; a repeat of a time is counted, not taken            └ reading: late
//! ```
//! - Windows begin at multiples of their length since the epoch and contain their start, not their end.
//! - The watermark is the newest time seen, *per series*: a device whose clock is fast spoils its own windows only.
//! - A series is idle when nothing of it was taken for length + lateness of monotonic time.
//! - A late reading is in no row. Its number is in the series' next row, as are duplicates.
//! - On [`Timeline::Sensor`] a time that was already taken in an open window is a duplicate. Other timelines are stamps of
//!   ours, where equal times mean nothing.
//! - A series that changes its timeline closes its windows and starts afresh; counts that wait for a row are kept.
//!
//! What is dropped when full: of an open window at most [`TIMES_MAX`] times are remembered, and [`TIMES_TOTAL_MAX`] of all
//! windows together. Where a window remembers fewer than it took, an older reading whose time is not among them is taken
//! unchecked, and counted. A series has at most [`OPEN_MAX`] open windows; one more closes its oldest. The number of
//! series is bounded by whoever numbers them (a stream's `series_max`).

mod series;
mod snapshot;
mod window;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::block::WindowRow;
use crate::sample::{Nanos, Reading, SeriesId, Timeline};

use series::Series;

/// Most times remembered of one open window, to recognise duplicates: 32 KiB; a minute at 64 Hz.
pub const TIMES_MAX: usize = 4_096;

/// Most times remembered of all open windows together: 32 MiB; 10,000 series at 1 Hz with windows of five minutes.
pub const TIMES_TOTAL_MAX: usize = 1 << 22;

/// Most open windows of one series. There are lateness / length + 2 of them; 64 of 250 bytes are 16 KiB.
pub const OPEN_MAX: usize = 64;

/// The windows of one stream.
#[derive(Debug)]
pub struct Reducer {
    grid: Grid,
    slots: HashMap<SeriesId, usize, BuildHasherDefault<NumberHasher>>,
    /// In the order of their first readings, which a snapshot keeps: rows come out the same after a restart.
    series: Vec<Series>,
    tally: Tally,
}

/// A closed window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Closed {
    /// Whose clock its times are of.
    pub timeline: Timeline,
    /// The row for the hub.
    pub row: WindowRow,
}

/// What became of readings that are in no row, or went in unseen; since the reducer was made or restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Came after their window had closed.
    pub late: u64,
    /// Repeated a time already taken.
    pub duplicates: u64,
    /// Taken without a check for duplicates, because too many times were to be remembered.
    pub unchecked: u64,
}

/// How windows lie on the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Grid {
    length: Nanos,
    lateness: Nanos,
}

/// What all series share while they take a reading.
#[derive(Debug, Default)]
struct Tally {
    closed: Vec<Closed>,
    counters: Counters,
    /// Times remembered in all open windows.
    remembered: usize,
}

/// Spreads the numbers of series, which the store gives out one after the other: nobody can choose them to collide.
#[derive(Debug, Default)]
struct NumberHasher(u64);

// === impl Reducer ===

impl Reducer {
    /// Windows of `length`, more than 0, that stay open for `lateness` behind the newest time of their series.
    pub fn new(length: Nanos, lateness: Nanos) -> Reducer {
        assert!(length > 0 && lateness >= 0, "windows have a length, and lateness is not negative");
        let grid = Grid { length, lateness };
        Reducer { grid, slots: HashMap::default(), series: Vec::new(), tally: Tally::default() }
    }

    /// Length of the windows. A restored reducer has that of its snapshot, whatever the configuration says by now.
    pub fn length(&self) -> Nanos {
        self.grid.length
    }

    /// How long windows stay open behind the newest time of their series.
    pub fn lateness(&self) -> Nanos {
        self.grid.lateness
    }

    /// Takes a reading that came at monotonic time `now`.
    pub fn push(&mut self, timeline: Timeline, reading: Reading, now: Nanos) {
        let slot = match self.slots.get(&reading.series) {
            Some(&slot) => slot,
            None => self.add_series(Series::new(reading.series, timeline, reading.time)),
        };
        self.series[slot].push(&self.grid, timeline, reading, now, &mut self.tally);
    }

    /// Closes the windows of series that have been idle for too long.
    pub fn advance(&mut self, now: Nanos) {
        let patience = self.grid.length.saturating_add(self.grid.lateness);
        for series in self.series.iter_mut().filter(|series| series.idle(now) >= patience) {
            series.close_all(&self.grid, &mut self.tally);
        }
    }

    /// Closes all windows.
    pub fn flush(&mut self) {
        for series in &mut self.series {
            series.close_all(&self.grid, &mut self.tally);
        }
    }

    /// Rows of the windows closed since the last call, in the order of closing. Call it after every batch: nothing else
    /// bounds them.
    pub fn take_closed(&mut self) -> Vec<Closed> {
        std::mem::take(&mut self.tally.closed)
    }

    /// What became of readings that are in no row.
    pub fn counters(&self) -> Counters {
        self.tally.counters
    }

    fn add_series(&mut self, series: Series) -> usize {
        let slot = self.series.len();
        self.slots.insert(series.id(), slot);
        self.series.push(series);
        slot
    }
}

// === impl Grid ===

impl Grid {
    /// The number of the window that contains `time`.
    fn index(&self, time: Nanos) -> i64 {
        time.div_euclid(self.length)
    }

    /// The highest window that is closed once `watermark` has been seen, if any can be.
    fn closed_by(&self, watermark: Nanos) -> Option<i64> {
        self.index(watermark.checked_sub(self.lateness)?).checked_sub(1)
    }

    /// The first and last instant of a window; the outermost windows end where time does.
    fn span(&self, index: i64) -> (Nanos, Nanos) {
        let start = i128::from(index) * i128::from(self.length);
        let last = start + i128::from(self.length) - 1;
        let clamped = |time: i128| time.clamp(i128::from(Nanos::MIN), i128::from(Nanos::MAX)) as Nanos;
        (clamped(start), clamped(last))
    }
}

// === impl NumberHasher ===

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        // Fibonacci hashing; the table takes its bits from both ends.
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;
