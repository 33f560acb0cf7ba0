//! Blocks for the hub, complete in themselves.
//!
//! ```text
//! body = postcard of (stream, clock, rows' kind and number) | dictionary | rows
//! ```

use serde::{Deserialize, Serialize};

use super::columns::{put_readings, take_readings};
use super::frame::{self, Kind};
use super::names::{put_dictionary, take_dictionary};
use super::text::{put_text, take_text};
use super::windows::{put_windows, take_windows};
use super::{Alarm, DecodeError, Envelope, ROWS_MAX, Rows, WINDOWS_MAX, WireClock};
use crate::sample::Nanos;

/// What stands before the columns. Postcard numbers variants and fields by their place: append only.
#[derive(Serialize, Deserialize)]
struct Head {
    stream: String,
    clock: WireClock,
    rows: Shape,
}

#[derive(Serialize, Deserialize)]
enum Shape {
    Raw { count: u64 },
    Windows { length: Nanos, count: u64 },
    Alarms { count: u64 },
}

/// Encodes a block for the hub. The dictionary should name every series of the rows; the codec does not insist.
///
/// # Panics
/// If there are more than [`ROWS_MAX`] rows or [`WINDOWS_MAX`] windows, or the dictionary is beyond [`super::DICTIONARY_BYTES_MAX`].
pub fn encode_envelope(envelope: &Envelope) -> Vec<u8> {
    let mut block = frame::open(Kind::Envelope);
    let head = Head {
        stream: envelope.stream.clone(),
        clock: envelope.clock.clone(),
        rows: match &envelope.rows {
            Rows::Raw(readings) => Shape::Raw { count: counted(readings, ROWS_MAX) },
            Rows::Windows { length, rows } => {
                Shape::Windows { length: *length, count: counted(rows, WINDOWS_MAX) }
            }
            Rows::Alarms(alarms) => Shape::Alarms { count: counted(alarms, ROWS_MAX) },
        },
    };
    block.extend(postcard::to_stdvec(&head).expect("a head in memory can be written to memory"));
    put_dictionary(&mut block, &envelope.series);
    match &envelope.rows {
        Rows::Raw(readings) => put_readings(&mut block, readings),
        Rows::Windows { rows, .. } => put_windows(&mut block, rows),
        Rows::Alarms(alarms) => {
            let write = |text, alarm| postcard::to_extend(alarm, text);
            let text = alarms.iter().try_fold(Vec::new(), write);
            put_text(&mut block, &text.expect("an alarm in memory can be written to memory"));
        }
    }
    frame::seal(block)
}

/// Decodes what [`encode_envelope`] gave.
pub fn decode_envelope(bytes: &[u8]) -> Result<Envelope, DecodeError> {
    let mut cursor = frame::body(bytes, Kind::Envelope)?;
    let (head, rest) = postcard::take_from_bytes::<Head>(cursor.rest).map_err(DecodeError::Header)?;
    cursor.rest = rest;
    let series = take_dictionary(&mut cursor)?;
    let rows = match head.rows {
        Shape::Raw { count } => Rows::Raw(take_readings(&mut cursor, bounded(count, ROWS_MAX)?)?),
        Shape::Windows { length, count } => {
            Rows::Windows { length, rows: take_windows(&mut cursor, bounded(count, WINDOWS_MAX)?)? }
        }
        Shape::Alarms { count } => {
            Rows::Alarms(take_alarms(&take_text(&mut cursor)?, bounded(count, ROWS_MAX)?)?)
        }
    };
    cursor.end()?;
    Ok(Envelope { stream: head.stream, clock: head.clock, series, rows })
}

fn take_alarms(mut text: &[u8], count: usize) -> Result<Vec<Alarm>, DecodeError> {
    let mut alarms = Vec::new();
    for _ in 0..count {
        let (alarm, rest) = postcard::take_from_bytes(text).map_err(DecodeError::Header)?;
        text = rest;
        alarms.push(alarm);
    }
    match text.len() {
        0 => Ok(alarms),
        count => Err(DecodeError::Trailing { count }),
    }
}

fn counted<T>(rows: &[T], limit: usize) -> u64 {
    assert!(rows.len() <= limit, "a block has at most ROWS_MAX rows, or WINDOWS_MAX");
    rows.len() as u64
}

fn bounded(claimed: u64, limit: usize) -> Result<usize, DecodeError> {
    match usize::try_from(claimed) {
        Ok(count) if count <= limit => Ok(count),
        _ => Err(DecodeError::TooMany { what: "rows", claimed, limit }),
    }
}
