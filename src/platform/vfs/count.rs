//! What was written, per kind of file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What a file is to SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// The database.
    Database,
    /// Its write-ahead log.
    Wal,
    /// Rollback journals, statement journals, temporary tables.
    Other,
}

/// Bytes and syncs of one kind of file.
#[derive(Debug, Default)]
pub struct FileCounters {
    bytes: AtomicU64,
    syncs: AtomicU64,
}

/// Bytes and syncs of every kind of file.
#[derive(Debug, Default)]
pub struct WriteCounters {
    /// The databases.
    pub database: FileCounters,
    /// Their write-ahead logs.
    pub wal: FileCounters,
    /// Everything else.
    pub other: FileCounters,
}

/// A reading of counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Bytes written, whatever they replaced.
    pub bytes: u64,
    /// Calls that wait for the device.
    pub syncs: u64,
}

static TOTAL: WriteCounters = WriteCounters::new();

/// By the database's path, as SQLite names it: absolute, without symbolic links. Entries are never removed.
static BY_PATH: Mutex<BTreeMap<PathBuf, &'static WriteCounters>> = Mutex::new(BTreeMap::new());

/// Counters of all databases that this process opened through the VFS.
pub fn counters() -> &'static WriteCounters {
    &TOTAL
}

/// Counters of one database with its write-ahead log and journals, opened already or not yet.
pub fn counters_of(database: &Path) -> &'static WriteCounters {
    counters_at(super::tap::canonical(database))
}

/// Counters of a path that is already canonical.
pub(super) fn counters_at(canonical: PathBuf) -> &'static WriteCounters {
    let mut by_path = BY_PATH.lock().unwrap_or_else(PoisonError::into_inner);
    by_path.entry(canonical).or_insert_with(|| Box::leak(Box::default()))
}

// === impl FileCounters ===

impl FileCounters {
    const fn new() -> Self {
        Self { bytes: AtomicU64::new(0), syncs: AtomicU64::new(0) }
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        Counts { bytes: self.bytes.load(Ordering::Relaxed), syncs: self.syncs.load(Ordering::Relaxed) }
    }

    pub(super) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_sync(&self) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
    }
}

// === impl WriteCounters ===

impl WriteCounters {
    const fn new() -> Self {
        Self { database: FileCounters::new(), wal: FileCounters::new(), other: FileCounters::new() }
    }

    /// Counters of one kind.
    pub fn of(&self, kind: FileKind) -> &FileCounters {
        match kind {
            FileKind::Database => &self.database,
            FileKind::Wal => &self.wal,
            FileKind::Other => &self.other,
        }
    }

    /// The sum over all kinds.
    pub fn sum(&self) -> Counts {
        [&self.database, &self.wal, &self.other].into_iter().fold(Counts::default(), |sum, file| {
            let counts = file.counts();
            Counts { bytes: sum.bytes + counts.bytes, syncs: sum.syncs + counts.syncs }
        })
    }
}
