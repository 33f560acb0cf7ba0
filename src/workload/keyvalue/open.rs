//! Opening `state.db`: its schema, version by version, and what becomes of a damaged file.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Aside, KeeperError};
use crate::platform::vfs;
use crate::sample::SECOND;

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

/// Opens the file, making it when it is not there; a damaged one is renamed to `state.db.aside`. Tells of one that lies there.
pub(super) fn open(path: &Path) -> Result<(Connection, Option<Aside>), KeeperError> {
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
    Ok((db, aside(path)))
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
