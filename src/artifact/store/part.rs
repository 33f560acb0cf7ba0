//! The artifact under way: a file that grows, and a note of how much of it is on flash.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{READ_BYTES, StoreError, read_note, remove, sync_dir, write_whole};
use crate::platform::{fault, files};
use crate::runtime::Digest;

/// Bytes between two syncs: what a power cut costs at most is fetched again in 8 s at 1 Mbit/s, and an artifact of 32 MiB
/// costs 32 syncs.
pub(super) const SYNC_BYTES: u64 = 1 << 20;

/// What is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What it was asked for by.
    pub reference: String,
    /// Which content, in the words of where it is: pieces of one source fit together.
    pub source: String,
    /// Length of the whole.
    pub bytes: u64,
    /// Of the whole, if it was announced.
    pub digest: Option<Digest>,
    /// The signature that came with it.
    pub signature: Option<String>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are there.
    pub bytes: u64,
    /// What the fetcher gave with the last of them; 0 at the beginning.
    pub mark: u64,
}

/// The file.
#[derive(Debug)]
pub(super) struct Part {
    dir: PathBuf,
    plan: Plan,
    file: File,
    hasher: Sha256,
    progress: Progress,
    /// Bytes that the note speaks of.
    synced: u64,
}

#[derive(Serialize, Deserialize)]
struct Note {
    plan: Plan,
    bytes: u64,
    mark: u64,
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("part")
}

pub(super) fn note(dir: &Path) -> PathBuf {
    dir.join("part.note")
}

/// Throws away what is under way.
pub(super) fn discard(dir: &Path) -> Result<(), StoreError> {
    remove(&note(dir))?;
    remove(&path(dir))?;
    sync_dir(dir)
}

// === impl Part ===

impl Part {
    /// Goes on where an attempt at the same content stopped, or begins anew.
    pub(super) fn begin(dir: &Path, plan: Plan) -> Result<Part, StoreError> {
        if let Some(part) = Part::resume(dir, &plan) {
            return Ok(part);
        }
        discard(dir)?;
        let file = files::create(&path(dir)).map_err(|source| StoreError::Io { path: path(dir), source })?;
        let (hasher, progress) = (Sha256::new(), Progress { bytes: 0, mark: 0 });
        Ok(Part { dir: dir.to_owned(), plan, file, hasher, progress, synced: 0 })
    }

    /// `None` when there is nothing that could be gone on with.
    fn resume(dir: &Path, plan: &Plan) -> Option<Part> {
        let Note { plan: before, bytes, mark } = read_note(&note(dir))?;
        if before != *plan || bytes > plan.bytes {
            return None;
        }
        let mut file = OpenOptions::new().read(true).write(true).open(path(dir)).ok()?;
        let mut hasher = Sha256::new();
        let mut piece = vec![0; READ_BYTES];
        let mut left = bytes;
        while left > 0 {
            let wanted = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            file.read_exact(&mut piece[..wanted]).ok()?;
            hasher.update(&piece[..wanted]);
            left -= wanted as u64;
        }
        // What came after the last sync may be anything.
        files::truncate(&file, &path(dir), bytes).ok()?;
        let progress = Progress { bytes, mark };
        Some(Part { dir: dir.to_owned(), plan: plan.clone(), file, hasher, progress, synced: bytes })
    }

    pub(super) fn is_of(&self, plan: &Plan) -> bool {
        self.plan == *plan
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    pub(super) fn append(&mut self, piece: &[u8], mark: u64) -> Result<(), StoreError> {
        let bytes = self.progress.bytes + piece.len() as u64;
        if bytes > self.plan.bytes {
            return Err(StoreError::Length { announced: self.plan.bytes, found: bytes });
        }
        let at = self.progress.bytes;
        files::write(&self.file, &path(&self.dir), at, piece).map_err(|source| self.io(source))?;
        fault::point("artifact.piece_written");
        self.hasher.update(piece);
        self.progress = Progress { bytes, mark };
        if bytes - self.synced >= SYNC_BYTES { self.sync() } else { Ok(()) }
    }

    /// The plan, and the digest of what is there. Everything is on flash.
    pub(super) fn finish(self) -> Result<(Plan, Digest), StoreError> {
        let Part { plan, file, hasher, progress, dir, .. } = self;
        if progress.bytes != plan.bytes {
            return Err(StoreError::Length { announced: plan.bytes, found: progress.bytes });
        }
        let found = Digest::finish(hasher);
        match &plan.digest {
            Some(announced) if *announced != found => {
                return Err(StoreError::Other { announced: announced.clone(), found });
            }
            _ => {}
        }
        files::sync(&file, &path(&dir)).map_err(|source| StoreError::Io { path: path(&dir), source })?;
        fault::point("artifact.whole");
        Ok((plan, found))
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        files::sync(&self.file, &path(&self.dir)).map_err(|source| self.io(source))?;
        fault::point("artifact.piece_synced");
        let Progress { bytes, mark } = self.progress;
        let note_of = Note { plan: self.plan.clone(), bytes, mark };
        let text = serde_json::to_vec(&note_of).expect("text and numbers always serialize");
        write_whole(&note(&self.dir), &text)?;
        self.synced = bytes;
        fault::point("artifact.piece_noted");
        Ok(())
    }

    fn io(&self, source: io::Error) -> StoreError {
        StoreError::Io { path: path(&self.dir), source }
    }
}
