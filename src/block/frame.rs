//! What stands around every block: version, kind, check sum.

use std::fmt;

use super::DecodeError;
use super::cursor::Cursor;

/// The version written where no later one is needed; every version up to a kind's own is read.
pub(crate) const VERSION: u8 = 1;

/// Version, kind and CRC-32.
const HEAD_BYTES: usize = 6;

/// What a block holds. The numbers are on flash and on the wire: append only, never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An [`super::Envelope`].
    Envelope = 1,
    /// Readings for the ring.
    Readings = 2,
    /// A group commit of messages.
    Messages = 3,
    /// The state of a reducer.
    Reducer = 4,
}

/// A block under construction: write the body behind what [`open`] gives, then [`seal`] it.
pub(crate) fn open(kind: Kind) -> Vec<u8> {
    open_as(VERSION, kind)
}

/// As [`open`], of a version of the kind's own.
pub(crate) fn open_as(version: u8, kind: Kind) -> Vec<u8> {
    vec![version, kind as u8, 0, 0, 0, 0]
}

/// Fills in the check sum.
pub(crate) fn seal(mut block: Vec<u8>) -> Vec<u8> {
    let sum = crc32fast::hash(&block[HEAD_BYTES..]);
    block[2..HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
    block
}

/// Checks version, kind and check sum, and gives the body.
pub(crate) fn body(bytes: &[u8], expected: Kind) -> Result<Cursor<'_>, DecodeError> {
    Ok(body_upto(VERSION, bytes, expected)?.1)
}

/// As [`body`], for a kind with versions up to `newest`; gives the version too.
pub(crate) fn body_upto(newest: u8, bytes: &[u8], expected: Kind) -> Result<(u8, Cursor<'_>), DecodeError> {
    let Some((head, body)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Err(DecodeError::TooShort { length: bytes.len() });
    };
    let [version, kind, sum @ ..] = *head;
    if version < VERSION || version > newest {
        return Err(DecodeError::Version { found: version });
    }
    if kind != expected as u8 {
        return Err(DecodeError::Kind { expected, found: kind });
    }
    let stored = u32::from_le_bytes(sum);
    let computed = crc32fast::hash(body);
    if stored != computed {
        return Err(DecodeError::Checksum { stored, computed });
    }
    Ok((version, Cursor::new(body)))
}

// === impl Kind ===

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Kind::Envelope => "envelope",
            Kind::Readings => "readings",
            Kind::Messages => "messages",
            Kind::Reducer => "reducer",
        };
        write!(f, "{} ({name})", *self as u8)
    }
}
