//! What the bytes of an artifact say: their digest, who vouches in them, what they import.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::claims::{self, Claims, ClaimsError};
use super::imports::{self, ImportsError};
use crate::runtime::{Digest, WASM_BYTES_MAX};

/// What was found.
#[derive(Debug)]
pub struct Examined {
    /// Of all bytes.
    pub digest: Digest,
    /// Embedded claims, if there are any.
    pub claims: Option<Result<Claims, ClaimsError>>,
    /// Interfaces, without versions.
    pub imports: BTreeSet<String>,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ExamineError {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it has {bytes} bytes, more than the {WASM_BYTES_MAX} a component may have")]
    TooLarge { bytes: u64 },
    #[error(transparent)]
    Imports(ImportsError),
}

// === impl Examined ===

impl Examined {
    /// Reads a file. Blocking.
    pub fn of(path: &Path) -> Result<Examined, ExamineError> {
        let about = std::fs::metadata(path).map_err(ExamineError::Read)?;
        // A pipe would keep the reader waiting for ever.
        if !about.is_file() {
            return Err(ExamineError::Read(io::ErrorKind::InvalidInput.into()));
        }
        let bytes = about.len();
        if bytes > WASM_BYTES_MAX {
            return Err(ExamineError::TooLarge { bytes });
        }
        let bytes = std::fs::read(path).map_err(ExamineError::Read)?;
        Ok(Examined {
            digest: Digest::of(&bytes),
            imports: imports::of(&bytes).map_err(ExamineError::Imports)?,
            claims: claims::embedded(&bytes).transpose(),
        })
    }
}
