//! Opening `state.db`: its schema, version by version, and what becomes of a damaged file.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Aside, Damage, KeeperError, wal};
use crate::platform::vfs;
use crate::sample::SECOND;

/// Most of a log that is looked at. SQLite moves it into the file from 1,000 pages on, 4 MiB.
const WAL_BYTES_MAX: u64 = 16 << 20;

/// What each version added. A file of version n lacks those behind the nth.
const SCHEMA: [&str; 2] = [
    "CREATE TABLE value (
        id INTEGER PRIMARY KEY,
        component TEXT NOT NULL, link TEXT NOT NULL, bucket TEXT NOT NULL, key TEXT NOT NULL,
        value BLOB NOT NULL,
        UNIQUE (component, link, bucket, key)
    ) STRICT;",
    "CREATE TABLE desired (
        kind INTEGER NOT NULL, name TEXT NOT NULL,
        revision INTEGER NOT NULL, origin INTEGER NOT NULL, content BLOB NOT NULL,
        PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE history (
        id INTEGER PRIMARY KEY,
        revision INTEGER NOT NULL, at INTEGER NOT NULL, origin INTEGER NOT NULL, text TEXT NOT NULL
    ) STRICT;",
];

/// Opens the file, making it when it is not there; a damaged one is renamed to `state.db.aside`. Tells what was wrong.
pub(super) fn open(path: &Path) -> Result<(Connection, Damage), KeeperError> {
    // SQLite writes over it.
    let has_lost_newest = has_lost_newest(path);
    if has_lost_newest {
        tracing::error!(
            "the log of state.db is damaged; the newest changes of what is desired here, and of what components kept, are lost"
        );
    }
    let db = match connect(path) {
        Err(KeeperError::Open { source, .. }) if is_damage(&source) => {
            tracing::error!(
                reason = %source,
                "state.db is damaged and is set aside as state.db.aside; what components kept, and what the lattice wanted \
                 of this gateway, is lost"
            );
            set_aside(path)?;
            connect(path)
        }
        connected => connected,
    }?;
    if has_lost_newest {
        // What is behind the damage would be told of again. If the disk refuses, it is.
        let _ = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }
    Ok((db, Damage { aside: aside(path), has_lost_newest }))
}

fn has_lost_newest(path: &Path) -> bool {
    let mut log = Vec::new();
    let read =
        File::open(beside(path, "-wal")).and_then(|file| file.take(WAL_BYTES_MAX).read_to_end(&mut log));
    // The file has a page before there is a log.
    let is_gone = fs::metadata(path).map_or(true, |about| about.len() == 0);
    read.is_ok() && (wal::is_damaged(&log) || is_gone && !log.is_empty())
}

/// What lies aside. That it was renamed is the last that happened to it.
fn aside(path: &Path) -> Option<Aside> {
    let path = beside(path, ".aside");
    let about = fs::metadata(&path).ok()?;
    Some(Aside { since: about.ctime() * SECOND + about.ctime_nsec(), path })
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn connect(path: &Path) -> Result<Connection, KeeperError> {
    let open = |source| KeeperError::Open { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let db = Connection::open_with_flags_and_vfs(path, flags, vfs::NAME).map_err(open)?;
    let version = configure(&db).map_err(open)?;
    let missing = usize::try_from(version).ok().and_then(|version| SCHEMA.get(version..));
    let Some(missing) = missing else { return Err(KeeperError::Newer { path: path.to_owned() }) };
    if !missing.is_empty() {
        let (tables, version) = (missing.concat(), SCHEMA.len());
        db.execute_batch(&format!("BEGIN; {tables} PRAGMA user_version = {version}; COMMIT"))
            .map_err(open)?;
    }
    Ok(db)
}

/// As the journal's database is: see `store::open`.
fn configure(db: &Connection) -> rusqlite::Result<i64> {
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    let _mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cache_size", -256)?;
    db.pragma_update(None, "trusted_schema", "OFF")?;
    db.pragma_update(None, "cell_size_check", "ON")?;
    db.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn set_aside(path: &Path) -> Result<(), KeeperError> {
    let failed = |source| KeeperError::SetAside { path: path.to_owned(), source };
    fs::rename(path, beside(path, ".aside")).map_err(failed)?;
    match fs::remove_file(beside(path, "-wal")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}
