//! Reading a block byte by byte, and the variable-length integers that stand between its columns.

use super::{DecodeError, ROWS_MAX};

/// The part of a block that has not been read yet.
pub(crate) struct Cursor<'a> {
    pub(crate) rest: &'a [u8],
}

/// Writes an unsigned integer, seven bits to a byte, lowest first.
pub(crate) fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a count or a length.
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    put_unsigned(out, count as u64);
}

/// Writes a signed integer; small magnitudes take few bytes.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, ((value << 1) ^ (value >> 63)) as u64);
}

// === impl Cursor ===

impl<'a> Cursor<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Cursor { rest }
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(first)
    }

    pub(crate) fn slice(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn unsigned(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Invalid { what: "integer" })
    }

    pub(crate) fn signed(&mut self) -> Result<i64, DecodeError> {
        let folded = self.unsigned()?;
        Ok((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }

    /// A count of rows, or of anything of which there are at most as many.
    pub(crate) fn rows(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        self.count(what, ROWS_MAX)
    }

    pub(crate) fn count(&mut self, what: &'static str, limit: usize) -> Result<usize, DecodeError> {
        let claimed = self.unsigned()?;
        match usize::try_from(claimed) {
            Ok(count) if count <= limit => Ok(count),
            _ => Err(DecodeError::TooMany { what, claimed, limit }),
        }
    }

    pub(crate) fn end(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(DecodeError::Trailing { count }),
        }
    }
}
