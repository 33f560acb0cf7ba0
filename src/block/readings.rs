//! Blocks of the raw ring: readings of one stream and timeline, as the pipeline compacted them.

use super::columns::{put_readings, take_readings};
use super::cursor::put_count;
use super::frame::{self, Kind};
use super::{DecodeError, ROWS_MAX};
use crate::sample::Reading;

/// Encodes readings. Any order is kept; sorted by series and time they are smallest.
///
/// # Panics
/// If there are more than [`ROWS_MAX`].
pub fn encode_readings(readings: &[Reading]) -> Vec<u8> {
    assert!(readings.len() <= ROWS_MAX, "a block has at most ROWS_MAX readings");
    let mut block = frame::open(Kind::Readings);
    put_count(&mut block, readings.len());
    put_readings(&mut block, readings);
    frame::seal(block)
}

/// Decodes what [`encode_readings`] gave.
pub fn decode_readings(bytes: &[u8]) -> Result<Vec<Reading>, DecodeError> {
    let mut cursor = frame::body(bytes, Kind::Readings)?;
    let count = cursor.rows("readings")?;
    let readings = take_readings(&mut cursor, count)?;
    cursor.end()?;
    Ok(readings)
}
