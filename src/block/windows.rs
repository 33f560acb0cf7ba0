//! Rows of windows, for the hub.
//!
//! ```text
//! rows = series | starts | counts | late, duplicates, gaps | min, first, last, max, row by row | sums | deviations
//! ```
//! Smallest, first, last and largest value stand together: within a row they are close to each other, so that three of
//! the four cost little.

use super::DecodeError;
use super::WindowRow;
use super::columns::{Groups, series_id};
use super::cursor::Cursor;
use super::ints::{put_grouped, put_ints, take_grouped, take_ints};
use super::values::{put_values, take_values};
use crate::sample::Value;

/// Values of a row that are laid down together.
const TOGETHER: usize = 4;

/// Writes rows, of which the reader must know how many they are.
pub(super) fn put_windows(out: &mut Vec<u8>, rows: &[WindowRow]) {
    let series: Vec<i64> = rows.iter().map(|row| i64::from(row.series.0)).collect();
    put_ints(out, &series);
    let groups = Groups::of(&series);
    put_grouped(out, &groups.lengths, &groups.gather(rows, |row| row.start));
    let counters = groups.gather(rows, |row| [row.count, row.late, row.duplicates, row.gap].map(i64::from));
    for column in 0..4 {
        let column: Vec<i64> = counters.iter().map(|counters| counters[column]).collect();
        put_grouped(out, &groups.lengths, &column);
    }
    let together = groups.gather(rows, |row| [row.min, row.first, row.last, row.max]);
    put_values(out, &fourfold(&groups.lengths), together.as_flattened());
    put_values(out, &groups.lengths, &groups.gather(rows, |row| row.sum));
    put_ints(out, &groups.gather(rows, |row| i64::from(row.std_dev.to_bits())));
}

/// Reads `count` rows.
pub(super) fn take_windows(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<WindowRow>, DecodeError> {
    let series = take_ints(cursor, count)?;
    let groups = Groups::of(&series);
    let starts = groups.scatter(take_grouped(cursor, &groups.lengths)?);
    let [counts, late, duplicates, gaps] = take_counters(cursor, &groups)?;
    let together = take_values(cursor, &fourfold(&groups.lengths))?;
    let (together, _) = together.as_chunks::<TOGETHER>();
    let together = groups.scatter(together.to_vec());
    let sums = groups.scatter(take_values(cursor, &groups.lengths)?);
    let deviations = groups.scatter(take_ints(cursor, count)?);
    let mut rows = Vec::with_capacity(count);
    for index in 0..count {
        let [min, first, last, max] = together[index];
        rows.push(WindowRow {
            series: series_id(series[index])?,
            start: starts[index],
            count: counts[index],
            min,
            max,
            first,
            last,
            sum: sums[index],
            std_dev: f32::from_bits(counter(deviations[index])?),
            late: late[index],
            duplicates: duplicates[index],
            gap: gaps[index],
        });
    }
    Ok(rows)
}

fn take_counters(cursor: &mut Cursor<'_>, groups: &Groups) -> Result<[Vec<u32>; 4], DecodeError> {
    let mut columns = [const { Vec::new() }; 4];
    for column in &mut columns {
        let counters = take_grouped(cursor, &groups.lengths)?.into_iter().map(counter);
        *column = groups.scatter(counters.collect::<Result<_, _>>()?);
    }
    Ok(columns)
}

fn counter(value: i64) -> Result<u32, DecodeError> {
    u32::try_from(value).map_err(|_| DecodeError::Invalid { what: "counter of a window" })
}

fn fourfold(lengths: &[usize]) -> Vec<usize> {
    lengths.iter().map(|length| length * TOGETHER).collect()
}

// === impl WindowRow ===

impl WindowRow {
    /// The mean of the readings.
    pub fn mean(&self) -> f64 {
        let count = f64::from(self.count.max(1));
        match self.sum {
            Value::Float(sum) => sum / count,
            // Beyond 2^53 the sum is not a float, but its whole part divided is.
            Value::Int(sum) => {
                let divisor = i64::from(self.count.max(1));
                (sum / divisor) as f64 + (sum % divisor) as f64 / count
            }
        }
    }
}
