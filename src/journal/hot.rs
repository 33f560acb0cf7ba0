//! One group commit as a row: the messages of `durability = "reading"` streams, and the sessions lost before them.
//!
//! ```text
//! version u8 | doors forgotten u8 | door u8 × … | encode_messages
//! ```

use crate::block::{self, DecodeError};
use crate::sample::{DoorId, Message};

const VERSION: u8 = 1;

/// A row that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HotError {
    /// Shorter than its own header.
    #[error("hot row is cut short")]
    Short,
    /// Not this program's format.
    #[error("hot row has unknown version {0}")]
    Version(u8),
    /// The messages cannot be decoded.
    #[error("messages of the hot row cannot be decoded")]
    Messages(#[from] DecodeError),
}

/// Encodes a row.
pub fn encode(forgotten: &[DoorId], messages: &[Message]) -> Vec<u8> {
    let doors = u8::try_from(forgotten.len()).expect("there are fewer doors than 256");
    let mut row = vec![VERSION, doors];
    row.extend(forgotten.iter().map(|door| door.0));
    row.extend(block::encode_messages(messages));
    row
}

/// Decodes a row.
pub fn decode(row: &[u8]) -> Result<(Vec<DoorId>, Vec<Message>), HotError> {
    let [version, doors, rest @ ..] = row else { return Err(HotError::Short) };
    if *version != VERSION {
        return Err(HotError::Version(*version));
    }
    let (doors, messages) = rest.split_at_checked(usize::from(*doors)).ok_or(HotError::Short)?;
    Ok((doors.iter().map(|door| DoorId(*door)).collect(), block::decode_messages(messages)?))
}
