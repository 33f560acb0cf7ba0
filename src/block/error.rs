//! Why bytes are not a block.

use super::frame::{Kind, VERSION};

/// Why bytes are not a block.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than even the smallest block has.
    #[error("{length} bytes are too few for a block")]
    TooShort {
        /// How many there are.
        length: usize,
    },
    /// Written by a later version of frond.
    #[error("format version {found}, this program reads up to {VERSION}")]
    Version {
        /// The first byte.
        found: u8,
    },
    /// A block, but of another kind.
    #[error("block is of kind {found}, expected {expected}")]
    Kind {
        /// What the caller asked for.
        expected: Kind,
        /// The second byte.
        found: u8,
    },
    /// The bytes were damaged after they were written.
    #[error("check sum {computed:08x} differs from the stored {stored:08x}")]
    Checksum {
        /// What the block says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// The block ends in the middle of a column.
    #[error("block ends too early")]
    Truncated,
    /// Bytes are left over behind the last column.
    #[error("{count} bytes are left over behind the last column")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// The block claims more than any block may hold.
    #[error("block claims {claimed} {what}, at most {limit} are allowed")]
    TooMany {
        /// Rows, series, bytes of text.
        what: &'static str,
        /// What it claims.
        claimed: u64,
        /// What it may.
        limit: usize,
    },
    /// A field has a value that no encoder writes.
    #[error("{what} is not valid")]
    Invalid {
        /// Which.
        what: &'static str,
    },
    /// A column of numbers is not valid.
    #[error("column of numbers cannot be unpacked")]
    Numbers(#[source] pco::errors::PcoError),
    /// A piece of text is not valid.
    #[error("text cannot be unpacked")]
    Text(#[source] std::io::Error),
    /// A header or a list of alarms is not valid.
    #[error("header cannot be read")]
    Header(#[source] postcard::Error),
}
