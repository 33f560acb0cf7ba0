//! Against the bundled SQLite and real files in a temporary folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use libsqlite3_sys as ffi;
use rusqlite::{Connection, OpenFlags, params};

use super::*;

/// How a database is shared.
#[derive(Clone, Copy)]
enum Sharing {
    Exclusive,
    SharedMemory,
}

fn open(path: &Path, sharing: Sharing) -> rusqlite::Result<Connection> {
    register().unwrap();
    let connection = Connection::open_with_flags_and_vfs(path, OpenFlags::default(), NAME)?;
    if matches!(sharing, Sharing::Exclusive) {
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch("CREATE TABLE IF NOT EXISTS reading (id INTEGER PRIMARY KEY, body BLOB)")?;
    Ok(connection)
}

fn insert(connection: &Connection, bytes: usize) -> rusqlite::Result<usize> {
    connection.execute("INSERT INTO reading (body) VALUES (?1)", params![vec![7_u8; bytes]])
}

fn rows(connection: &Connection) -> i64 {
    connection.query_row("SELECT count(*) FROM reading", [], |row| row.get(0)).unwrap()
}

fn code(result: rusqlite::Result<usize>) -> i32 {
    match result.unwrap_err() {
        rusqlite::Error::SqliteFailure(error, _) => error.extended_code,
        other => panic!("not sqlite's: {other}"),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[test]
fn a_log_that_was_never_reset_is_as_long_as_the_bytes_counted_for_it() {
    // Goal: what is counted is what is written. Method: without checkpoints a WAL only grows, so its size is the sum of all
    // writes to it; a checkpoint then writes every page of the database once.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let connection = open(&path, Sharing::Exclusive).unwrap();
    connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    for _ in 0..20 {
        insert(&connection, 3_000).unwrap();
    }
    let counters = counters_of(&path);
    let wal = counters.wal.counts();
    assert_eq!(wal.bytes, beside(&path, "-wal").metadata().unwrap().len());
    assert!(wal.syncs >= 20, "one sync for each commit with synchronous=FULL, not {}", wal.syncs);

    let before = counters.database.counts();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let after = counters.database.counts();
    assert_eq!(after.bytes - before.bytes, path.metadata().unwrap().len());
    assert!(after.syncs > before.syncs);
    let sum = counters.sum();
    assert!(sum.bytes >= wal.bytes + after.bytes && super::counters().sum().bytes >= sum.bytes);
}

#[test]
fn an_exclusive_database_needs_no_shared_memory() {
    // Goal: the mode that Frond runs in. Method: look for the -shm file while the log is in use.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let connection = open(&path, Sharing::Exclusive).unwrap();
    insert(&connection, 10).unwrap();
    assert!(beside(&path, "-wal").exists());
    assert!(!beside(&path, "-shm").exists());
}

#[test]
fn shared_memory_is_passed_on() {
    // Goal: a second connection, such as a tool's, works. Method: two connections in turn, and a look at the -shm file.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let (one, two) =
        (open(&path, Sharing::SharedMemory).unwrap(), open(&path, Sharing::SharedMemory).unwrap());
    for connection in [&one, &two, &one] {
        insert(connection, 10).unwrap();
    }
    assert!(beside(&path, "-shm").exists());
    assert_eq!((rows(&one), rows(&two)), (3, 3));
}

#[test]
fn memory_mapping_is_passed_on() {
    // Goal: xFetch and xUnfetch. Method: a mapped read of a checkpointed database, then writes, then a smaller map.
    let folder = tempfile::tempdir().unwrap();
    let connection = open(&folder.path().join("a.db"), Sharing::Exclusive).unwrap();
    for _ in 0..50 {
        insert(&connection, 5_000).unwrap();
    }
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    for size in [1 << 20, 1 << 16, 0] {
        let mapped: i64 =
            connection.query_row(&format!("PRAGMA mmap_size={size}"), [], |row| row.get(0)).unwrap();
        assert_eq!(mapped, size);
        let sum: i64 =
            connection.query_row("SELECT sum(length(body)) FROM reading", [], |row| row.get(0)).unwrap();
        assert_eq!(sum, 5_000 * rows(&connection));
        insert(&connection, 5_000).unwrap();
    }
}

#[test]
fn a_method_that_the_wrapped_file_lacks_is_lacking() {
    // Goal: SQLite draws the same conclusions from our table as from the wrapped one. Method: tables of every version, with
    // and without the methods of the next.
    let folder = tempfile::tempdir().unwrap();
    let connection = open(&folder.path().join("a.db"), Sharing::Exclusive).unwrap();
    let full = real_methods(&connection);
    for (version, shm, fetch) in [(1, false, false), (2, true, false), (3, true, true), (7, true, true)] {
        let ours = file::table_like(&ffi::sqlite3_io_methods { iVersion: version, ..full });
        assert_eq!(ours.iVersion, version.min(3));
        assert_eq!((ours.xShmMap.is_some(), ours.xShmUnmap.is_some()), (shm, shm));
        assert_eq!((ours.xFetch.is_some(), ours.xUnfetch.is_some()), (fetch, fetch));
    }
    let without = file::table_like(&ffi::sqlite3_io_methods { xShmMap: None, xFetch: None, ..full });
    assert!(without.xShmMap.is_none() && without.xFetch.is_none() && without.xShmLock.is_some());
}

/// The table that our files have, which is the unix VFS's in everything but the pointers.
#[expect(unsafe_code, reason = "asks SQLite for the file behind a connection")]
fn real_methods(connection: &Connection) -> ffi::sqlite3_io_methods {
    let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
    // JUSTIFICATION: rusqlite does not show it.
    // SAFETY: the connection is open; FILE_POINTER stores a pointer to its main file, whose table is a plain value.
    unsafe {
        let at = (&raw mut file).cast();
        let code = ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_FILE_POINTER,
            at,
        );
        assert_eq!(code, ffi::SQLITE_OK);
        *(*file).pMethods
    }
}

#[test]
#[expect(unsafe_code, reason = "asks SQLite for the name of the VFS")]
fn the_name_says_what_is_wrapped() {
    // Goal: an operator's tool can see the shim. Method: SQLite's own control for it.
    let folder = tempfile::tempdir().unwrap();
    let connection = open(&folder.path().join("a.db"), Sharing::Exclusive).unwrap();
    let mut name: *mut std::ffi::c_char = std::ptr::null_mut();
    // JUSTIFICATION: rusqlite does not show it.
    // SAFETY: the connection is open; VFSNAME stores a string that sqlite3_free frees.
    let text = unsafe {
        let at = (&raw mut name).cast();
        ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), ffi::SQLITE_FCNTL_VFSNAME, at);
        let text = CStr::from_ptr(name).to_str().unwrap().to_owned();
        ffi::sqlite3_free(name.cast());
        text
    };
    assert_eq!(text, "frond/unix");
}

#[test]
fn every_failure_reaches_sqlite_as_its_own_code() {
    // Goal: the store can tell a full disk from a broken one. Method: each fault in turn, before a commit.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let tap = Arc::new(Tap::new());
    let _installed = install(&path, Arc::clone(&tap));
    let connection = open(&path, Sharing::Exclusive).unwrap();
    let cases: [(&[Step], Failure, i32); 7] = [
        (&[Step::Write], Failure::Full, ffi::SQLITE_FULL),
        (&[Step::Write], Failure::Short, ffi::SQLITE_FULL),
        (&[Step::Write], Failure::Io, ffi::SQLITE_IOERR_WRITE),
        (&[Step::Write], Failure::ReadOnly, ffi::SQLITE_READONLY),
        (&[Step::Sync], Failure::Io, ffi::SQLITE_IOERR_FSYNC),
        (&[Step::Sync], Failure::Full, ffi::SQLITE_FULL),
        (&[Step::Write, Step::Sync], Failure::Io, ffi::SQLITE_IOERR_WRITE),
    ];
    for (steps, failure, expected) in cases {
        tap.arm(Fault::once(steps, 0, failure));
        assert_eq!(code(insert(&connection, 100)), expected, "{steps:?} {failure:?}");
        assert_eq!(tap.failed(), 1);
        tap.disarm();
        insert(&connection, 100).unwrap();
    }
    tap.arm(Fault::read_only());
    assert_eq!(code(insert(&connection, 100)), ffi::SQLITE_READONLY);
}

#[test]
fn a_database_that_cannot_be_opened_says_so() {
    // Goal: a failed open leaves nothing half made. Method: fail the open of the database, then of its log.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let tap = Arc::new(Tap::new());
    let _installed = install(&path, Arc::clone(&tap));
    for nth in 0..2 {
        tap.arm(Fault::once(&[Step::Open], nth, Failure::Io));
        let error = open(&path, Sharing::Exclusive).unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::CannotOpen), "open {nth}");
    }
    tap.disarm();
    let connection = open(&path, Sharing::Exclusive).unwrap();
    insert(&connection, 1).unwrap();
}

#[test]
fn a_read_that_fails_is_reported() {
    // Goal: a bad block is not taken for data. Method: fail the first read after the cache was emptied.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let tap = Arc::new(Tap::new());
    let _installed = install(&path, Arc::clone(&tap));
    let connection = open(&path, Sharing::Exclusive).unwrap();
    insert(&connection, 100_000).unwrap();
    connection.execute_batch("PRAGMA shrink_memory").unwrap();
    tap.arm(Fault::once(&[Step::Read], 0, Failure::Io));
    let read = connection
        .query_row("SELECT max(length(CAST(body AS TEXT))) FROM reading", [], |row| row.get::<_, i64>(0))
        .map(|_| 0);
    assert_eq!(code(read), ffi::SQLITE_IOERR_READ);
}

#[test]
fn whichever_write_fails_what_was_committed_stays() {
    // Goal: the loop that disk-full tests are made of. Method: the n-th write of a fixed piece of work fails, for every n,
    // until the work meets fewer writes than n; then the database must hold what was committed, and take more.
    let mut n = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let tap = Arc::new(Tap::new());
        let _installed = install(folder.path(), Arc::clone(&tap));
        let connection = open(&path, Sharing::Exclusive).unwrap();
        connection.pragma_update(None, "wal_autocheckpoint", 4).unwrap();
        tap.arm(Fault { after: n, failure: Failure::Short, ..Fault::disk_full() });
        let committed = (0..6).filter(|_| insert(&connection, 3_000).is_ok()).count();
        let failed = tap.failed();
        tap.disarm();
        insert(&connection, 3_000).unwrap();
        assert_eq!(rows(&connection), committed as i64 + 1);
        drop(connection);
        assert_eq!(rows(&open(&path, Sharing::Exclusive).unwrap()), committed as i64 + 1);
        if failed == 0 {
            assert!(n > 20, "six commits and two checkpoints are more than {n} writes");
            return;
        }
        n += 1;
    }
}

#[test]
fn the_recorded_changes_are_the_files() {
    // Goal: a tape misses nothing. Method: apply what was recorded to empty files and compare them with the real ones, over
    // log resets, a truncated log, a rollback journal and deletions.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let files: Arc<Mutex<BTreeMap<PathBuf, Vec<u8>>>> = Arc::default();
    let replay = Arc::clone(&files);
    let tap = Tap::recording(move |event| apply(&mut replay.lock().unwrap(), event));
    let _installed = install(folder.path(), Arc::new(tap));
    let connection = open(&path, Sharing::Exclusive).unwrap();
    connection.pragma_update(None, "wal_autocheckpoint", 8).unwrap();
    connection.pragma_update(None, "journal_size_limit", 8_192).unwrap();
    for round in 0..40 {
        insert(&connection, 500 * (round % 7)).unwrap();
        connection.execute("DELETE FROM reading WHERE id = ?1 - 10", [round as i64]).unwrap();
    }
    compare(&files, &path);
    connection.pragma_update(None, "journal_mode", "DELETE").unwrap();
    insert(&connection, 9_000).unwrap();
    connection.execute_batch("VACUUM").unwrap();
    drop(connection);
    compare(&files, &path);
    assert_eq!(files.lock().unwrap().len(), 1, "log and journal are deleted, and known to be");
}

fn apply(files: &mut BTreeMap<PathBuf, Vec<u8>>, event: &Event<'_>) {
    match event.change {
        Change::Create => assert!(files.insert(event.path.to_owned(), Vec::new()).is_none()),
        Change::Write { offset, bytes } => {
            let file = files.get_mut(event.path).unwrap();
            let from = offset as usize;
            file.resize(file.len().max(from + bytes.len()), 0);
            file[from..from + bytes.len()].copy_from_slice(bytes);
        }
        Change::Truncate { size } => files.get_mut(event.path).unwrap().resize(size as usize, 0),
        Change::Sync { .. } => assert!(files.contains_key(event.path)),
        Change::Delete { .. } => assert!(files.remove(event.path).is_some()),
        Change::Rename { .. } | Change::SyncFolder => panic!("SQLite does no such thing"),
    }
}

fn compare(files: &Mutex<BTreeMap<PathBuf, Vec<u8>>>, database: &Path) {
    for (path, bytes) in &*files.lock().unwrap() {
        assert!(*bytes == std::fs::read(path).unwrap(), "{} differs from its tape", path.display());
    }
    assert!(files.lock().unwrap().contains_key(&tap::canonical(database)));
}

#[test]
fn a_tap_is_for_its_own_path_and_time() {
    // Goal: tests that run side by side do not meet. Method: a full disk under one database, not under its neighbour, and
    // not under itself once the tap is gone and it was opened again.
    let folder = tempfile::tempdir().unwrap();
    let (path, neighbour) = (folder.path().join("a.db"), folder.path().join("b.db"));
    let tap = Arc::new(Tap::new());
    let installed = install(&path, Arc::clone(&tap));
    let tapped = open(&path, Sharing::Exclusive).unwrap();
    let other = open(&neighbour, Sharing::Exclusive).unwrap();
    tap.arm(Fault::disk_full());
    assert_eq!(code(insert(&tapped, 1)), ffi::SQLITE_FULL);
    insert(&other, 1).unwrap();
    drop(installed);
    assert_eq!(code(insert(&tapped, 1)), ffi::SQLITE_FULL, "an open file keeps its tap");
    drop(tapped);
    insert(&open(&path, Sharing::Exclusive).unwrap(), 1).unwrap();
}

#[test]
fn databases_on_many_threads_do_not_disturb_each_other() {
    // Goal: counters and taps hold up under threads. Method: four databases at a time, every other one tapped, opened and
    // closed again and again; each set of counters matches its own log.
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let path = folder.path().join(format!("{thread}.db"));
            scope.spawn(move || {
                for round in 1..=10 {
                    let _installed = (thread % 2 == 0).then(|| install(&path, Arc::new(Tap::new())));
                    let connection = open(&path, Sharing::Exclusive).unwrap();
                    insert(&connection, 100).unwrap();
                    assert_eq!(rows(&connection), round);
                }
                assert!(counters_of(&path).wal.counts().syncs >= 10);
            });
        }
    });
}
