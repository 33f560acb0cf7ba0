//! Which slot is confirmed, on the data partition: `<data>/slot/confirmed`.
//!
//! One line: the confirmed slot, and behind it the other one if that was confirmed before and can be gone back to: `b a`.
//! The image's initramfs reads its first letter, so that stays what it is. A file appears whole or not at all.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::Slot;

/// What is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The slot that has shown that it works.
    pub confirmed: Slot,
    /// Whether the other one did so before, and was not written to since.
    pub fallback: bool,
}

/// Why the record cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum RecordError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("slot/confirmed")
}

// === impl Record ===

impl Record {
    /// Reads the record; none on a new gateway. What is no record counts as none: it is written anew after the trial.
    pub fn load(data_dir: &Path) -> Result<Option<Record>, RecordError> {
        let path = path(data_dir);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Record::parse(&text)),
            Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(None),
            Err(source) => Err(RecordError::Read { path, source }),
        }
    }

    /// Replaces the record, durably.
    pub fn store(self, data_dir: &Path) -> Result<(), RecordError> {
        let path = path(data_dir);
        self.replace(&path).map_err(|source| RecordError::Write { path, source })
    }

    fn replace(self, path: &Path) -> std::io::Result<()> {
        let folder = path.parent().expect("the record is in a folder");
        fs::create_dir_all(folder)?;
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        writeln!(file, "{}", self.text())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(folder)?.sync_all()
    }

    pub(super) fn parse(text: &str) -> Option<Record> {
        let mut words = text.split_whitespace();
        let confirmed = Slot::parse(words.next()?)?;
        let fallback = words.next().and_then(Slot::parse) == Some(confirmed.other());
        Some(Record { confirmed, fallback })
    }

    pub(super) fn text(self) -> String {
        match self.fallback {
            true => format!("{} {}", self.confirmed, self.confirmed.other()),
            false => self.confirmed.to_string(),
        }
    }

    /// The record after this slot was confirmed.
    pub fn confirming(before: Option<Record>, slot: Slot) -> Record {
        let fallback = match before {
            Some(before) if before.confirmed == slot => before.fallback,
            // What was confirmed until now is what can be gone back to.
            Some(_) => true,
            None => false,
        };
        Record { confirmed: slot, fallback }
    }

    /// The record before the other slot is written to: nothing to go back to from then on.
    pub fn installing(self) -> Record {
        Record { fallback: false, ..self }
    }
}
