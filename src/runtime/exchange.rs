//! Readings to columns, and columns, once checked, to readings. Pure.
//!
//! Nothing a component gives back is believed. What does not hold is dropped row by row and counted, so that one bad
//! row costs nobody else's readings.

use std::collections::HashSet;

use crate::block;
use crate::runtime::bindings::frond::telemetry::types::{Alarm, Batch, Edge};
use crate::sample::{Reading, SeriesId, Value};

/// Most rows in one call: 28 bytes of columns each are 224 KiB, well inside the smallest memory a component may have.
pub(super) const BATCH_ROWS_MAX: usize = 8192;

/// Rows taken back for each row given, beside [`ROWS_OUT_MORE`]: a component may turn a reading into several.
const ROWS_OUT_PER_ROW: usize = 4;

/// Rows taken back on top, for one that collected many readings to give out a spectrum at once.
const ROWS_OUT_MORE: usize = 1024;

/// Alarms taken for each row given: one for each limit a reading may cross.
const ALARMS_PER_ROW: usize = 4;

/// Alarms taken on top.
const ALARMS_MORE: usize = 64;

/// Alarms taken at all: with the text below 2.3 MiB.
const ALARMS_MAX: usize = 4096;

/// Longest name of an alarm.
const ALARM_NAME_BYTES_MAX: usize = 64;

/// Longest message of an alarm: a sentence or two.
const ALARM_MESSAGE_BYTES_MAX: usize = 512;

/// The series an instance may name.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// One bit each; numbers are counted up, so this is short.
    bits: Vec<u64>,
    /// Numbers too large for `bits`.
    rest: HashSet<u32>,
}

/// Largest number in [`Known::bits`]: 2^22 bits are 512 KiB.
const BITS_MAX: usize = 1 << 22;

/// How many rows were given to the component.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given(pub(super) usize);

// === impl Known ===

impl Known {
    /// Asked for every reading.
    #[inline]
    pub(super) fn contains(&self, id: u32) -> bool {
        let at = id as usize;
        match self.bits.get(at / 64) {
            Some(word) => word >> (at % 64) & 1 == 1,
            None => at >= BITS_MAX && self.rest.contains(&id),
        }
    }

    /// Says whether it is new.
    pub(super) fn insert(&mut self, id: u32) -> bool {
        let at = id as usize;
        if at >= BITS_MAX {
            return self.rest.insert(id);
        }
        if self.bits.len() <= at / 64 {
            self.bits.resize(at / 64 + 1, 0);
        }
        let word = &mut self.bits[at / 64];
        let new = *word >> (at % 64) & 1 == 0;
        *word |= 1 << (at % 64);
        new
    }
}

/// Fills `batch`, whose columns are kept for their capacity, with the rows.
pub(super) fn fill(batch: &mut Batch, rows: &[Reading]) {
    batch.series.clear();
    batch.times.clear();
    batch.values.clear();
    batch.integer_rows.clear();
    batch.integers.clear();
    batch.series.extend(rows.iter().map(|reading| reading.series.0));
    batch.times.extend(rows.iter().map(|reading| reading.time));
    let Batch { values, integer_rows, integers, .. } = batch;
    values.extend(rows.iter().enumerate().map(|(row, reading)| match reading.value {
        Value::Float(value) => value,
        Value::Int(whole) => {
            integer_rows.push(row as u32);
            integers.push(whole);
            reading.value.as_f64()
        }
    }));
}

/// Appends the rows of `batch` that hold to `out`, and returns how many entries did not.
pub(super) fn take(batch: &Batch, given: Given, known: &Known, out: &mut Vec<Reading>) -> usize {
    let columns = [batch.series.len(), batch.times.len(), batch.values.len()];
    let longest = columns.into_iter().max().unwrap_or(0);
    let whole = columns.into_iter().min().unwrap_or(0);
    let rows = whole.min(given.0 * ROWS_OUT_PER_ROW + ROWS_OUT_MORE);
    let mut rejected = longest - rows;
    out.reserve(rows);

    let pairs = batch.integer_rows.len().min(batch.integers.len());
    rejected += batch.integer_rows.len().max(batch.integers.len()) - pairs;
    let mut pair = 0;
    for row in 0..rows {
        // Entries that name an earlier row are out of order, or name it twice.
        while pair < pairs && (batch.integer_rows[pair] as usize) < row {
            pair += 1;
            rejected += 1;
        }
        let value = if pair < pairs && batch.integer_rows[pair] as usize == row {
            pair += 1;
            Value::Int(batch.integers[pair - 1])
        } else {
            Value::Float(batch.values[row])
        };
        let finite = !matches!(value, Value::Float(float) if !float.is_finite());
        if finite && known.contains(batch.series[row]) {
            out.push(Reading { series: SeriesId(batch.series[row]), time: batch.times[row], value });
        } else {
            rejected += 1;
        }
    }
    rejected + (pairs - pair)
}

/// Appends the alarms that hold to `out`, and returns how many did not.
pub(super) fn take_alarms(
    alarms: Vec<Alarm>,
    given: Given,
    known: &Known,
    out: &mut Vec<block::Alarm>,
) -> usize {
    let total = alarms.len();
    let before = out.len();
    let taken = alarms.into_iter().take((given.0 * ALARMS_PER_ROW + ALARMS_MORE).min(ALARMS_MAX));
    out.extend(taken.filter(|alarm| known.contains(alarm.series) && alarm.value.is_finite()).map(|alarm| {
        block::Alarm {
            series: SeriesId(alarm.series),
            time: alarm.time,
            active: alarm.edge == Edge::Raised,
            name: cut(alarm.name, ALARM_NAME_BYTES_MAX),
            message: cut(alarm.message, ALARM_MESSAGE_BYTES_MAX),
            value: alarm.value,
        }
    }));
    total - (out.len() - before)
}

fn cut(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

#[cfg(test)]
mod tests;
