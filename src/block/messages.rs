//! Group commits of the journal: messages in the order of their arrival.
//!
//! ```text
//! body    = messages | readings | origins | column of origins | peers | packet identifiers | readings per message | readings
//! origins = every (door, stream, timeline) that occurs, once; a message names its own by number
//! peers   = version 2 only: every client session that occurs, with its first packet identifier | column of peers
//! ```
//! A packet identifier is kept as its distance from the one expected: the successor of the last of that peer. In version
//! 1 a door is one peer; version 2 is written when a message has a session.

use std::collections::HashMap;

use super::columns::{put_readings, take_readings};
use super::cursor::{Cursor, put_count, put_unsigned};
use super::frame::{self, Kind};
use super::ints::{put_ints, take_ints};
use super::{DecodeError, ROWS_MAX};
use crate::sample::{BootId, DoorId, Message, Reading, SessionId, StreamId, Timeline};

/// The version with sessions.
const SESSIONS: u8 = 2;

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
    let has_sessions = messages.iter().any(|message| message.session != SessionId::NONE);
    let mut block = frame::open_as(if has_sessions { SESSIONS } else { frame::VERSION }, Kind::Messages);
    put_count(&mut block, messages.len());
    put_count(&mut block, readings.len());
    put_origins(&mut block, messages);
    if has_sessions {
        put_peers(&mut block, messages);
    } else {
        put_pkids(&mut block, messages);
    }
    let counts: Vec<i64> = messages.iter().map(|message| message.readings.len() as i64).collect();
    put_ints(&mut block, &counts);
    put_readings(&mut block, &readings);
    frame::seal(block)
}

/// Decodes what [`encode_messages`] gave. Every ticket is 0.
pub fn decode_messages(bytes: &[u8]) -> Result<Vec<Message>, DecodeError> {
    let (version, mut cursor) = frame::body_upto(SESSIONS, bytes, Kind::Messages)?;
    let count = cursor.rows("messages")?;
    let total = cursor.rows("readings")?;
    let origins = take_origins(&mut cursor, count)?;
    let (sessions, pkids) = match version {
        SESSIONS => take_peers(&mut cursor, count)?,
        _ => (vec![SessionId::NONE; count], take_pkids(&mut cursor, &origins)?),
    };
    let counts = take_ints(&mut cursor, count)?;
    let readings = take_readings(&mut cursor, total)?;
    cursor.end()?;
    let mut rest = readings.as_slice();
    let mut messages = Vec::with_capacity(count);
    let heads = origins.into_iter().zip(sessions).zip(pkids);
    for ((((door, stream, timeline), session), pkid), count) in heads.zip(counts) {
        let split = usize::try_from(count).ok().and_then(|count| rest.split_at_checked(count));
        let (own, behind) = split.ok_or(DecodeError::Invalid { what: "readings of a message" })?;
        rest = behind;
        messages.push(Message { door, ticket: 0, session, pkid, stream, timeline, readings: own.to_vec() });
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
        column.push(distance(message.pkid, expected));
    }
    put_ints(out, &column);
}

fn take_pkids(cursor: &mut Cursor<'_>, origins: &[Origin]) -> Result<Vec<u16>, DecodeError> {
    let mut expected = [1u16; 256];
    let codes = take_ints(cursor, origins.len())?.into_iter().zip(origins);
    codes.map(|(code, (door, ..))| identifier(code, &mut expected[usize::from(door.0)])).collect()
}

/// One peer of version 2. A message without a session has its door for a peer.
type Peer = (SessionId, DoorId);

fn peer_of(message: &Message) -> Peer {
    match message.session {
        SessionId::NONE => (SessionId::NONE, message.door),
        session => (session, DoorId(0)),
    }
}

fn put_peers(out: &mut Vec<u8>, messages: &[Message]) {
    let mut numbers: HashMap<Peer, usize> = HashMap::new();
    let mut peers: Vec<(Peer, u16)> = Vec::new();
    let mut column = Vec::with_capacity(messages.len());
    for message in messages {
        let peer = peer_of(message);
        let number = *numbers.entry(peer).or_insert_with(|| {
            peers.push((peer, 0));
            peers.len() - 1
        });
        if peers[number].1 == 0 {
            peers[number].1 = message.pkid;
        }
        column.push(number as i64);
    }
    put_count(out, peers.len());
    for ((session, door), first) in &peers {
        put_unsigned(out, u64::from(session.0));
        put_unsigned(out, u64::from(door.0));
        put_unsigned(out, u64::from(*first));
    }
    put_ints(out, &column);
    let mut expected: Vec<u16> = peers.iter().map(|(_, first)| *first).collect();
    let codes: Vec<i64> = messages
        .iter()
        .zip(&column)
        .map(|(message, number)| match message.pkid {
            0 => 0,
            pkid => distance(pkid, &mut expected[*number as usize]),
        })
        .collect();
    put_ints(out, &codes);
}

fn take_peers(cursor: &mut Cursor<'_>, count: usize) -> Result<(Vec<SessionId>, Vec<u16>), DecodeError> {
    let invalid = DecodeError::Invalid { what: "session" };
    let entries = cursor.count("peers", count)?;
    let mut peers = Vec::new();
    for _ in 0..entries {
        let session = SessionId(narrow(cursor.unsigned()?)?);
        let _door = cursor.unsigned()?;
        let first = u16::try_from(cursor.unsigned()?);
        peers.push((session, first.map_err(|_| DecodeError::Invalid { what: "packet identifier" })?));
    }
    let numbers = take_ints(cursor, count)?;
    let codes = take_ints(cursor, count)?;
    let (mut sessions, mut pkids) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for (number, code) in numbers.into_iter().zip(codes) {
        let peer = usize::try_from(number).ok().and_then(|number| peers.get_mut(number));
        let Some((session, expected)) = peer else { return Err(invalid) };
        sessions.push(*session);
        // A peer whose messages have no identifiers has none to begin with.
        pkids.push(if code == 0 { 0 } else { identifier(code, expected)? });
    }
    Ok((sessions, pkids))
}

/// 1 and the distance from the identifier expected, which becomes the next one.
fn distance(pkid: u16, expected: &mut u16) -> i64 {
    let distance = i64::from(pkid) - i64::from(*expected);
    *expected = pkid % PKID_MAX + 1;
    1 + distance.rem_euclid(i64::from(PKID_MAX))
}

/// What [`distance`] stands for.
fn identifier(code: i64, expected: &mut u16) -> Result<u16, DecodeError> {
    let code = u16::try_from(code).map_err(|_| DecodeError::Invalid { what: "packet identifier" })?;
    if code == 0 {
        return Ok(0);
    }
    let from = u32::from((*expected).max(1)) - 1;
    let pkid = ((from + u32::from(code) - 1) % u32::from(PKID_MAX) + 1) as u16;
    *expected = pkid % PKID_MAX + 1;
    Ok(pkid)
}
