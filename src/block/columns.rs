//! The columns of readings: series, times, values.
//!
//! Times and values are laid down series by series, whatever order the readings stand in: a value is foretold best by
//! the one before it of the same series. The order is not stored, the column of series says it. Times of readings that
//! came one by one may as well be foretold by the time before, whatever its series; the smaller column is kept.

use super::DecodeError;
use super::cursor::Cursor;
use super::ints::{put_grouped, put_ints, take_grouped, take_ints};
use super::values::{put_values, take_values};
use crate::sample::{Reading, SeriesId};

const TIMES_BY_SERIES: u8 = 0;
const TIMES_AS_THEY_CAME: u8 = 1;

/// How rows fall into groups of one series each.
pub(super) struct Groups {
    /// Row of each place in group order; `None` when the rows already stand so.
    order: Option<Vec<u32>>,
    /// Rows of each group.
    pub(super) lengths: Vec<usize>,
}

/// Writes readings, of which the reader must know how many they are.
pub(super) fn put_readings(out: &mut Vec<u8>, readings: &[Reading]) {
    let series: Vec<i64> = readings.iter().map(|reading| i64::from(reading.series.0)).collect();
    put_ints(out, &series);
    let groups = Groups::of(&series);
    put_times(out, &groups, readings);
    put_values(out, &groups.lengths, &groups.gather(readings, |reading| reading.value));
}

/// Reads `count` readings.
pub(super) fn take_readings(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<Reading>, DecodeError> {
    let series = take_ints(cursor, count)?;
    let groups = Groups::of(&series);
    let times = match cursor.byte()? {
        TIMES_BY_SERIES => groups.scatter(take_grouped(cursor, &groups.lengths)?),
        TIMES_AS_THEY_CAME => take_ints(cursor, count)?,
        _ => return Err(DecodeError::Invalid { what: "order of times" }),
    };
    let values = groups.scatter(take_values(cursor, &groups.lengths)?);
    let mut readings = Vec::with_capacity(count);
    for ((series, time), value) in series.into_iter().zip(times).zip(values) {
        readings.push(Reading { series: series_id(series)?, time, value });
    }
    Ok(readings)
}

/// A number of a series, which is all that a column of series may hold.
pub(super) fn series_id(number: i64) -> Result<SeriesId, DecodeError> {
    u32::try_from(number).map(SeriesId).map_err(|_| DecodeError::Invalid { what: "number of a series" })
}

fn put_times(out: &mut Vec<u8>, groups: &Groups, readings: &[Reading]) {
    let mut smallest: Option<Vec<u8>> = None;
    if groups.order.is_some() {
        let times: Vec<i64> = readings.iter().map(|reading| reading.time).collect();
        let mut column = vec![TIMES_AS_THEY_CAME];
        put_ints(&mut column, &times);
        smallest = Some(column);
    }
    if groups.order.is_none() || groups.lengths.len() < readings.len() {
        let mut column = vec![TIMES_BY_SERIES];
        put_grouped(&mut column, &groups.lengths, &groups.gather(readings, |reading| reading.time));
        smallest = smallest.filter(|other| other.len() <= column.len()).or(Some(column));
    }
    out.extend(smallest.unwrap_or_default());
}

// === impl Groups ===

impl Groups {
    /// Groups in the order of their numbers, rows within a group in theirs.
    pub(super) fn of(series: &[i64]) -> Groups {
        if series.is_sorted() {
            let lengths = series.chunk_by(|a, b| a == b).map(<[i64]>::len).collect();
            return Groups { order: None, lengths };
        }
        let mut rows: Vec<(i64, u32)> = series.iter().copied().zip(0..).collect();
        rows.sort_unstable();
        let lengths = rows.chunk_by(|a, b| a.0 == b.0).map(<[_]>::len).collect();
        Groups { order: Some(rows.into_iter().map(|(_, row)| row).collect()), lengths }
    }

    /// A column of the rows, in group order.
    pub(super) fn gather<R, T>(&self, rows: &[R], column: impl Fn(&R) -> T) -> Vec<T> {
        match &self.order {
            None => rows.iter().map(column).collect(),
            Some(order) => order.iter().map(|&row| column(&rows[row as usize])).collect(),
        }
    }

    /// The inverse of [`Groups::gather`].
    pub(super) fn scatter<T: Copy>(&self, grouped: Vec<T>) -> Vec<T> {
        let Some(order) = &self.order else { return grouped };
        let mut rows = grouped.clone();
        for (&row, value) in order.iter().zip(grouped) {
            rows[row as usize] = value;
        }
        rows
    }
}
