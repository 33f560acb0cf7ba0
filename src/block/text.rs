//! Pieces of text: zstd, or as they are when that is no longer.

use super::DecodeError;
use super::cursor::{Cursor, put_count};
use super::names::DICTIONARY_BYTES_MAX;

/// Most bytes of text in one piece: more than a dictionary of the largest size has, and alarms of 64 bytes
/// for every row a block may have.
pub(super) const TEXT_MAX: usize = DICTIONARY_BYTES_MAX;

/// zstd's level: names repeat each other, and a block has few of them; the time is in the number of calls.
const LEVEL: i32 = 9;

/// Shorter text than this is not worth a frame.
const ZSTD_MIN: usize = 32;

/// Writes a piece of at most [`TEXT_MAX`] bytes: its length, the packed length or 0, the bytes.
pub(super) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    assert!(text.len() <= TEXT_MAX, "a piece of text has at most TEXT_MAX bytes");
    put_count(out, text.len());
    if text.len() >= ZSTD_MIN {
        let packed = zstd::bulk::compress(text, LEVEL).expect("memory for a compressor, or the process ends");
        if packed.len() < text.len() {
            put_count(out, packed.len());
            out.extend_from_slice(&packed);
            return;
        }
    }
    put_count(out, 0);
    out.extend_from_slice(text);
}

/// Reads a piece of text.
pub(super) fn take_text(cursor: &mut Cursor<'_>) -> Result<Vec<u8>, DecodeError> {
    let length = cursor.count("bytes of text", TEXT_MAX)?;
    let packed = cursor.count("bytes of packed text", TEXT_MAX)?;
    if packed == 0 {
        return Ok(cursor.slice(length)?.to_vec());
    }
    // The capacity bounds what is unpacked, whatever the frame says.
    let text = zstd::bulk::decompress(cursor.slice(packed)?, length).map_err(DecodeError::Text)?;
    if text.len() == length { Ok(text) } else { Err(DecodeError::Invalid { what: "length of text" }) }
}
