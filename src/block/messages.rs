//! Group commits of the journal: messages in the order of their arrival.
//!
//! ```text
//! body    = messages | readings | origins | column of origins | packet identifiers | readings per message | readings
//! origins = every (door, stream, timeline) that occurs, once; a message names its own by number
//! ```
//! A packet identifier is kept as its distance from the one expected: the successor of the last at that door.

use std::collections::HashMap;

use super::columns::{put_readings, take_readings};
use super::cursor::{Cursor, put_count, put_unsigned};
use super::frame::{self, Kind};
use super::ints::{put_ints, take_ints};
use super::{DecodeError, ROWS_MAX};
use crate::sample::{BootId, DoorId, Message, Reading, StreamId, Timeline};

/// What many messages have in common.
type Origin = (DoorId, StreamId, Timeline);

/// Packet identifiers run from 1 to this and begin again.
const PKID_MAX: u16 = u16::MAX;

const SENSOR: u8 = 0;
const ARRIVAL: u8 = 1;
const BOOT: u8 = 2;

/// Encodes messages, tickets apart.
///
/// # Panics
/// If there are more than [`ROWS_MAX`] messages, or readings in them.
pub fn encode_messages(messages: &[Message]) -> Vec<u8> {
    let readings: Vec<Reading> = messages.iter().flat_map(|message| &message.readings).copied().collect();
    assert!(messages.len() <= ROWS_MAX, "a block has at most ROWS_MAX messages");
    assert!(readings.len() <= ROWS_MAX, "a block has at most ROWS_MAX readings");
    let mut block = frame::open(Kind::Messages);
    put_count(&mut block, messages.len());
    put_count(&mut block, readings.len());
    put_origins(&mut block, messages);
    put_pkids(&mut block, messages);
    let counts: Vec<i64> = messages.iter().map(|message| message.readings.len() as i64).collect();
    put_ints(&mut block, &counts);
    put_readings(&mut block, &readings);
    frame::seal(block)
}

/// Decodes what [`encode_messages`] gave. Every ticket is 0.
pub fn decode_messages(bytes: &[u8]) -> Result<Vec<Message>, DecodeError> {
    let mut cursor = frame::body(bytes, Kind::Messages)?;
    let count = cursor.rows("messages")?;
    let total = cursor.rows("readings")?;
    let origins = take_origins(&mut cursor, count)?;
    let pkids = take_pkids(&mut cursor, &origins)?;
    let counts = take_ints(&mut cursor, count)?;
    let readings = take_readings(&mut cursor, total)?;
    cursor.end()?;
    let mut rest = readings.as_slice();
    let mut messages = Vec::with_capacity(count);
    for (((door, stream, timeline), pkid), count) in origins.into_iter().zip(pkids).zip(counts) {
        let split = usize::try_from(count).ok().and_then(|count| rest.split_at_checked(count));
        let (own, behind) = split.ok_or(DecodeError::Invalid { what: "readings of a message" })?;
        rest = behind;
        messages.push(Message { door, ticket: 0, pkid, stream, timeline, readings: own.to_vec() });
    }
    if rest.is_empty() { Ok(messages) } else { Err(DecodeError::Invalid { what: "readings of a message" }) }
}

fn put_origins(out: &mut Vec<u8>, messages: &[Message]) {
    let mut numbers: HashMap<Origin, i64> = HashMap::new();
    let mut table = Vec::new();
    let mut column = Vec::with_capacity(messages.len());
    let mut last: Option<(Origin, i64)> = None;
    for message in messages {
        let origin = (message.door, message.stream, message.timeline);
        let number = match last {
            Some((known, number)) if known == origin => number,
            _ => {
                let next = numbers.len() as i64;
                *numbers.entry(origin).or_insert_with(|| {
                    put_origin(&mut table, origin);
                    next
                })
            }
        };
        last = Some((origin, number));
        column.push(number);
    }
    put_count(out, numbers.len());
    out.extend_from_slice(&table);
    put_ints(out, &column);
}

fn put_origin(out: &mut Vec<u8>, (door, stream, timeline): Origin) {
    out.push(door.0);
    put_unsigned(out, u64::from(stream.0));
    match timeline {
        Timeline::Sensor => out.push(SENSOR),
        Timeline::Arrival => out.push(ARRIVAL),
        Timeline::Boot(boot) => {
            out.push(BOOT);
            put_unsigned(out, u64::from(boot.0));
        }
    }
}

fn take_origins(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<Origin>, DecodeError> {
    // A table longer than the messages would be of origins that none has.
    let entries = cursor.count("origins", count)?;
    let mut table = Vec::new();
    for _ in 0..entries {
        table.push(take_origin(cursor)?);
    }
    let column = take_ints(cursor, count)?.into_iter();
    let origin = |number| usize::try_from(number).ok().and_then(|number| table.get(number).copied());
    let origins: Option<Vec<Origin>> = column.map(origin).collect();
    origins.ok_or(DecodeError::Invalid { what: "number of an origin" })
}

fn take_origin(cursor: &mut Cursor<'_>) -> Result<Origin, DecodeError> {
    let door = DoorId(cursor.byte()?);
    let stream = StreamId(narrow(cursor.unsigned()?)?);
    let timeline = match cursor.byte()? {
        SENSOR => Timeline::Sensor,
        ARRIVAL => Timeline::Arrival,
        BOOT => Timeline::Boot(BootId(narrow(cursor.unsigned()?)?)),
        _ => return Err(DecodeError::Invalid { what: "timeline" }),
    };
    Ok((door, stream, timeline))
}

fn narrow(number: u64) -> Result<u32, DecodeError> {
    u32::try_from(number).map_err(|_| DecodeError::Invalid { what: "number of a stream or boot" })
}

/// The column holds 0 for a message without an identifier, else 1 and the distance from the one expected.
fn put_pkids(out: &mut Vec<u8>, messages: &[Message]) {
    let mut expected = [1u16; 256];
    let mut column = Vec::with_capacity(messages.len());
    for message in messages {
        let expected = &mut expected[usize::from(message.door.0)];
        if message.pkid == 0 {
            column.push(0);
            continue;
        }
        let distance = i64::from(message.pkid) - i64::from(*expected);
        column.push(1 + distance.rem_euclid(i64::from(PKID_MAX)));
        *expected = message.pkid % PKID_MAX + 1;
    }
    put_ints(out, &column);
}

fn take_pkids(cursor: &mut Cursor<'_>, origins: &[Origin]) -> Result<Vec<u16>, DecodeError> {
    let mut expected = [1u16; 256];
    let mut pkids = Vec::with_capacity(origins.len());
    for (code, (door, ..)) in take_ints(cursor, origins.len())?.into_iter().zip(origins) {
        let expected = &mut expected[usize::from(door.0)];
        let pkid = match u16::try_from(code) {
            Ok(0) => 0,
            Ok(code) => {
                let pkid = (u32::from(*expected) - 1 + u32::from(code) - 1) % u32::from(PKID_MAX) + 1;
                *expected = pkid as u16 % PKID_MAX + 1;
                pkid as u16
            }
            Err(_) => return Err(DecodeError::Invalid { what: "packet identifier" }),
        };
        pkids.push(pkid);
    }
    Ok(pkids)
}
