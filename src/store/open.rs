//! Opening `telemetry.db`: settings, schema, and what happens to a database that cannot be used.
//!
//! A database that fails its check is renamed aside, a new one is begun, and both facts are reported: availability
//! comes before history. The check is bounded: it reads the schema and the tables the start needs anyway, so that a
//! large backlog does not delay the start. A thorough check runs only when an earlier process left the mark that it
//! met corruption while running.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::platform::clock;

/// The version that the steps of [`migrate`] lead to.
const SCHEMA_VERSION: i64 = 3;
/// Databases set aside that are kept for inspection; the oldest goes when there are more.
const ASIDE_MAX: usize = 3;
/// Page size of new databases. Every commit writes the pages it touches whole: for a hot row of 4 KiB those of 4 KiB were
/// its leaf, one or two overflow pages, the free list's and the first, 17 KiB on the device. With pages of 1 KiB it is
/// 8 KiB; 512 bytes gain nothing more, since the file system writes blocks of 4 KiB.
const PAGE_BYTES: u32 = 1_024;
/// WAL pages before SQLite moves them into the database: 4 MiB. Hot rows live for a minute and their pages are used
/// again, so a longer WAL means that most of them are never copied. Recovery reads at most this much.
const WAL_PAGES: u32 = 4 * 1_024;

/// Pages kept in memory, in KiB. The writer goes over the same few again and again: the slots, the ends of the ring and of the
/// outbox. Reading back a backlog goes through them once, and the kernel has them too.
const CACHE_KIB: i64 = 512;

/// `sqlite.org/fileformat2.html` §4.1 and §4.2.
const WAL_HEADER_BYTES: u64 = 32;
const WAL_FRAME_HEADER_BYTES: u32 = 24;

/// An open database, and what happened on the way.
#[derive(Debug)]
pub struct Opened {
    /// The connection, settings applied, schema current.
    pub db: Connection,
    /// Random number given to the database when it was made.
    pub epoch: u32,
    /// Where an unusable predecessor was moved, and why.
    pub set_aside: Option<SetAside>,
}

/// A database that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// What was wrong with it.
    pub reason: String,
}

/// Why no database could be opened at all.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum OpenError {
    #[error("cannot create the data folder {path}")]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("cannot open {path}")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error(
        "{path} was written by a newer frond (schema {found}, this one knows {SCHEMA_VERSION}); start that version, or move the file away"
    )]
    Newer { path: PathBuf, found: i64 },
    #[error("cannot move the unusable {path} aside")]
    SetAside { path: PathBuf, source: std::io::Error },
}

/// Opens the database in `data_dir`, making or replacing it as needed, and reads from it what `read` wants. `bytes_max` is
/// the hard bound of the file. A database that `read` finds damaged is replaced like one that does not open.
pub fn open<T>(
    data_dir: &Path,
    bytes_max: u64,
    read: impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<(Opened, T), OpenError> {
    fs::create_dir_all(data_dir).map_err(|source| OpenError::Folder { path: data_dir.to_owned(), source })?;
    let path = data_dir.join("telemetry.db");
    let suspect = suspect_mark(data_dir);
    let attempt = try_open(&path, bytes_max, suspect.exists(), &read);
    let (opened, set_aside) = match attempt {
        Ok(opened) => (opened, None),
        Err(Failure::Fatal(err)) => return Err(err),
        Err(Failure::Unusable(reason)) => {
            let aside = set_aside(&path)?;
            match try_open(&path, bytes_max, false, &read) {
                Ok(opened) => (opened, Some(SetAside { path: aside, reason })),
                Err(Failure::Fatal(err)) => return Err(err),
                Err(Failure::Unusable(_)) => {
                    return Err(OpenError::Open { path, source: rusqlite::Error::InvalidQuery });
                }
            }
        }
    };
    let _ = fs::remove_file(suspect);
    let (db, epoch, found) = opened;
    Ok((Opened { db, epoch, set_aside }, found))
}

/// Leaves the mark that the running database turned out to be corrupt, for the next start to check it thoroughly.
pub fn mark_suspect(data_dir: &Path) {
    let _ = fs::write(suspect_mark(data_dir), b"");
}

/// Whether an error says that the file itself is damaged.
pub fn is_corruption(err: &rusqlite::Error) -> bool {
    matches!(err.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

enum Failure {
    /// The file is damaged: a new one helps.
    Unusable(String),
    /// A new one would not help, or would hide an operator's mistake.
    Fatal(OpenError),
}

fn suspect_mark(data_dir: &Path) -> PathBuf {
    data_dir.join("telemetry.db.suspect")
}

fn try_open<T>(
    path: &Path,
    bytes_max: u64,
    thorough: bool,
    read: impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<(Connection, u32, T), Failure> {
    let classify = |source: rusqlite::Error| {
        if is_corruption(&source) {
            Failure::Unusable(source.to_string())
        } else {
            Failure::Fatal(OpenError::Open { path: path.to_owned(), source })
        }
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let mut db =
        Connection::open_with_flags_and_vfs(path, flags, crate::platform::vfs::NAME).map_err(classify)?;
    configure(&db, bytes_max).map_err(classify)?;
    let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(classify)?;
    if found > SCHEMA_VERSION {
        return Err(Failure::Fatal(OpenError::Newer { path: path.to_owned(), found }));
    }
    migrate(&mut db, found).map_err(classify)?;
    if thorough {
        let verdict: String =
            db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(classify)?;
        if verdict != "ok" {
            return Err(Failure::Unusable(verdict));
        }
    }
    let epoch = db.query_row("SELECT epoch FROM meta WHERE id = 0", [], |row| row.get::<_, u32>(0)).map_err(
        |err| match err {
            rusqlite::Error::QueryReturnedNoRows => Failure::Unusable("no meta row".to_owned()),
            err => classify(err),
        },
    )?;
    let found = read(&db).map_err(classify)?;
    if let Err(err) = fill_wal(path) {
        tracing::debug!(error = %err, "the log of the database is not filled ahead; it wears the flash more until it is full");
    }
    Ok((db, epoch, found))
}

fn configure(db: &Connection, bytes_max: u64) -> rusqlite::Result<()> {
    // Before anything that makes the file; an existing database keeps the pages it has.
    db.pragma_update(None, "page_size", PAGE_BYTES)?;
    // Exclusive locking before WAL: no shared-memory file, and the WAL index lives on the heap.
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    let _mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
    db.pragma_update(None, "journal_size_limit", i64::from(WAL_PAGES) * 2 * i64::from(PAGE_BYTES))?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    db.pragma_update(None, "mmap_size", 0)?;
    db.pragma_update(None, "foreign_keys", "OFF")?;
    db.pragma_update(None, "trusted_schema", "OFF")?;
    db.pragma_update(None, "cell_size_check", "ON")?;
    let page: i64 = db.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let pages = (bytes_max / page.unsigned_abs().max(512)).clamp(1_024, 4_294_967_294);
    let _pages: i64 = db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get(0))?;
    Ok(())
}

/// Fills the file of the WAL with zeros up to the size at which SQLite begins it anew. A commit that makes the file longer
/// costs the file system's journal too, some 16 KiB; one that overwrites does not. SQLite takes what lies behind its last
/// frame for the rest of an earlier round, whatever it is.
fn fill_wal(path: &Path) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    let mut wal = fs::OpenOptions::new().append(true).create(true).open(PathBuf::from(name))?;
    let length = wal.metadata()?.len();
    let wanted = WAL_HEADER_BYTES + u64::from(WAL_PAGES) * u64::from(PAGE_BYTES + WAL_FRAME_HEADER_BYTES);
    let mut missing = wanted.saturating_sub(length);
    let zeros = vec![0; 64 << 10];
    let filled = (|| {
        while missing > 0 {
            let part = zeros.len().min(usize::try_from(missing).unwrap_or(usize::MAX));
            wal.write_all(&zeros[..part])?;
            missing -= part as u64;
        }
        wal.sync_all()
    })();
    if filled.is_err() {
        // A full disk: commits need the room more.
        wal.set_len(length)?;
    }
    filled
}

fn migrate(db: &mut Connection, found: i64) -> rusqlite::Result<()> {
    if found == SCHEMA_VERSION {
        return Ok(());
    }
    let tx = db.transaction()?;
    // Version 0 is an empty file; later versions add their steps here, each from the one before.
    if found < 1 {
        tx.execute_batch(include_str!("schema.sql"))?;
        tx.execute("INSERT INTO meta (id, epoch) VALUES (0, ?1)", [fresh_epoch()])?;
    }
    if found < 2 {
        tx.execute_batch(include_str!("schema-2.sql"))?;
    }
    if found < 3 {
        tx.execute_batch(include_str!("schema-3.sql"))?;
    }
    tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    tx.commit()
}

/// Not repeated by the next database of this gateway: from the kernel's randomness by way of the hasher's keys, and
/// the time since boot.
fn fresh_epoch() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_i64(clock::boottime());
    let wide = hasher.finish();
    ((wide >> 32) as u32) ^ (wide as u32)
}

fn set_aside(path: &Path) -> Result<PathBuf, OpenError> {
    let failed = |source| OpenError::SetAside { path: path.to_owned(), source };
    let newest = asides(path).last().map_or(0, |(number, _)| *number);
    let target = path.with_file_name(format!("telemetry.db.aside-{}", newest + 1));
    fs::rename(path, &target).map_err(failed)?;
    let with = |base: &Path, suffix: &str| {
        let mut name = base.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    match fs::rename(with(path, "-wal"), with(&target, "-wal")) {
        Err(err) if err.kind() != ErrorKind::NotFound => return Err(failed(err)),
        _ => {}
    }
    forget_oldest_aside(path);
    Ok(target)
}

fn forget_oldest_aside(path: &Path) {
    let asides = asides(path);
    let excess = asides.len().saturating_sub(ASIDE_MAX);
    for (_, old) in asides.into_iter().take(excess) {
        let _ = fs::remove_file(&old);
        let mut wal = old.into_os_string();
        wal.push("-wal");
        let _ = fs::remove_file(wal);
    }
}

/// Databases set aside earlier, by number.
fn asides(path: &Path) -> Vec<(u64, PathBuf)> {
    let number = |p: &Path| p.file_name()?.to_str()?.strip_prefix("telemetry.db.aside-")?.parse::<u64>().ok();
    let Some(Ok(entries)) = path.parent().map(fs::read_dir) else { return Vec::new() };
    let mut asides: Vec<_> = entries.flatten().filter_map(|e| Some((number(&e.path())?, e.path()))).collect();
    asides.sort();
    asides
}
