//! The power rig is trusted to find lost promises, so it is tested on files and settings whose answers are known.

use std::collections::BTreeSet;
use std::path::Path;

use frond::platform::vfs;
use rusqlite::{Connection, OpenFlags, params};

use crate::power_rig::{Broken, Image, Op, Recorder, SECTOR, Tape, check_images, crash_images, scratch};

/// Commits on a tape of SQLite's: some twelve hundred images, half a second of work.
const COMMITS: u64 = 200;

/// Commits with a rollback journal, which has many more syncs for each.
const JOURNAL_COMMITS: u64 = 40;

/// How SQLite is asked to keep its promises.
struct Settings {
    commits: u64,
    locking: &'static str,
    journal: &'static str,
    synchronous: &'static str,
}

fn write(file: &str, offset: usize, bytes: Vec<u8>) -> Op {
    Op::Write { file: file.to_owned(), offset, bytes }
}

fn sync(file: &str) -> Op {
    Op::Sync { file: file.to_owned() }
}

fn create(file: &str) -> Op {
    Op::Create { file: file.to_owned() }
}

fn tape(ops: Vec<Op>) -> Tape {
    Tape { ops, ..Tape::default() }
}

fn images(tape: &Tape) -> Vec<Image> {
    crash_images(tape, 7, 40).collect()
}

#[test]
fn a_synced_write_is_in_every_later_image_and_an_unsynced_one_is_not() {
    // Goal: syncs mean something. Method: one file synced, one not; look at all images behind the sync.
    let ops = vec![
        create("a"),
        create("b"),
        write("a", 0, vec![1; 600]),
        write("b", 0, vec![2; 600]),
        sync("a"),
        Op::Mark(9),
    ];
    let all = images(&tape(ops));
    let after: Vec<&Image> = all.iter().filter(|image| image.promised == [9]).collect();
    assert!(after.iter().all(|image| image.files["a"] == [1; 600]));
    assert!(after.iter().any(|image| !image.files.contains_key("b")));
    assert!(after.iter().any(|image| image.files.get("b").is_some_and(|b| b.is_empty())));
    assert!(after.iter().any(|image| image.files.get("b").is_some_and(|b| *b == [2; 600])));
    assert!(all.iter().any(|image| image.window == 0 && !image.files.contains_key("a")));
}

#[test]
fn unsynced_sectors_are_as_old_or_new_as_they_like() {
    // Goal: torn and reordered writes. Method: two generations over four durable sectors; all sectors of an image are of
    // one generation each, and every combination of the first and last sector turns up.
    let sectors = 4 * SECTOR;
    let ops = vec![
        create("a"),
        write("a", 0, vec![1; sectors]),
        sync("a"),
        write("a", 0, vec![2; sectors]),
        write("a", 0, vec![3; sectors]),
    ];
    let mut ends = BTreeSet::new();
    for image in images(&tape(ops)).iter().filter(|image| image.window == 1) {
        let file = &image.files["a"];
        assert!(file.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        ends.insert((file[0], file[sectors - 1]));
    }
    assert_eq!(ends.len(), 9, "{ends:?}");
}

#[test]
fn a_size_that_was_not_synced_may_be_any_that_the_file_had() {
    // Goal: truncation. Method: a file cut and grown again without a sync; zeros may show, but never the old bytes behind
    // the cut together with the new size's end.
    let ops = vec![
        create("a"),
        write("a", 0, vec![1; 4_000]),
        sync("a"),
        Op::Truncate { file: "a".to_owned(), size: 100 },
        write("a", 1_000, vec![2; 24]),
    ];
    let sizes: BTreeSet<usize> = images(&tape(ops))
        .iter()
        .filter(|image| image.window == 1)
        .map(|image| image.files["a"].len())
        .collect();
    assert_eq!(sizes, BTreeSet::from([100, 1_024, 4_000]));
}

#[test]
fn a_deletion_is_durable_only_with_its_folder() {
    // Goal: names. Method: delete one file and rename another, and look before and after the folder is synced.
    let rename = Op::Rename { from: "b".to_owned(), to: "c".to_owned() };
    let ops = vec![
        Op::Delete { file: "a".to_owned() },
        rename,
        Op::SyncFolder { folder: String::new() },
        Op::Mark(1),
    ];
    let base = [("a".to_owned(), vec![1]), ("b".to_owned(), vec![2])].into();
    let names = |image: &Image| image.files.keys().cloned().collect::<String>();
    let all = images(&Tape { base, ops });
    let before: BTreeSet<String> = all.iter().filter(|image| image.promised.is_empty()).map(names).collect();
    assert_eq!(before, BTreeSet::from(["ab", "b", "c"].map(str::to_owned)));
    assert!(all.iter().filter(|image| image.promised == [1]).all(|image| names(image) == "c"));
}

/// Commits rows of various sizes, promising each once its commit has returned, over many checkpoints.
fn record(settings: &Settings) -> Tape {
    let folder = scratch();
    let recorder = Recorder::start(folder.path());
    let path = folder.path().join("a.db");
    let database = Connection::open_with_flags_and_vfs(&path, OpenFlags::default(), vfs::NAME).unwrap();
    let Settings { commits, locking, journal, synchronous } = *settings;
    for (pragma, value) in
        [("locking_mode", locking), ("journal_mode", journal), ("synchronous", synchronous)]
    {
        database.pragma_update(None, pragma, value).unwrap();
    }
    database.pragma_update(None, "wal_autocheckpoint", 32).unwrap();
    database.execute_batch("CREATE TABLE reading (id INTEGER PRIMARY KEY, body BLOB)").unwrap();
    // The table is durable with any settings; the rows are what is promised.
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    for id in 1..=commits {
        database.execute("INSERT INTO reading VALUES (?1, ?2)", params![id as i64, body(id)]).unwrap();
        recorder.mark(id);
        if id % 10 == 0 {
            // Frees and reuses pages, and makes promises that are no longer looked at.
            database.execute("DELETE FROM reading WHERE id % 10 = 1 AND id < ?1", [id as i64]).unwrap();
        }
    }
    drop(database);
    recorder.tape()
}

fn body(id: u64) -> Vec<u8> {
    vec![id as u8; 100 + 37 * (id as usize % 60)]
}

/// A database that opens without help, is whole, and has every promised row that is never deleted.
fn check(folder: &Path, image: &Image) -> Result<(), String> {
    let text = |error: rusqlite::Error| error.to_string();
    let database = Connection::open(folder.join("a.db")).map_err(text)?;
    database.execute_batch("PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE").map_err(text)?;
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(text)?;
    if verdict != "ok" {
        return Err(format!("not whole: {verdict}"));
    }
    if image.promised.is_empty() {
        return Ok(());
    }
    let mut query = database.prepare("SELECT body FROM reading WHERE id = ?1").map_err(text)?;
    for id in image.promised.iter().filter(|id| **id % 10 != 1) {
        let found: Vec<u8> =
            query.query_row([*id as i64], |row| row.get(0)).map_err(|_| format!("row {id} is missing"))?;
        if found != body(*id) {
            return Err(format!("row {id} is damaged"));
        }
    }
    Ok(())
}

fn wal(synchronous: &'static str) -> Settings {
    Settings { commits: COMMITS, locking: "EXCLUSIVE", journal: "WAL", synchronous }
}

fn rollback(synchronous: &'static str) -> Settings {
    Settings { commits: JOURNAL_COMMITS, locking: "NORMAL", journal: "DELETE", synchronous }
}

fn outcome(settings: &Settings) -> Result<usize, Box<Broken>> {
    check_images(&record(settings), 1, 4, check)
}

/// How many images there were, all of them good.
fn all_good(settings: &Settings) -> usize {
    outcome(settings).unwrap_or_else(|broken| {
        panic!("window {} {:?}: {}", broken.image.window, broken.image.variant, broken.why)
    })
}

#[test]
fn a_log_synced_at_every_commit_keeps_every_promise() {
    // Goal: the settings that Frond runs with. Method: every window of 200 commits with checkpoints between them.
    let images = all_good(&wal("FULL"));
    assert!(images > 3 * COMMITS as usize, "{images} images");
}

#[test]
fn a_log_synced_at_checkpoints_only_loses_a_promised_row_and_the_rig_finds_it() {
    // Goal: the rig finds lost rows. Method: synchronous=NORMAL, which is documented to lose them but never to corrupt.
    let broken = outcome(&wal("NORMAL")).unwrap_err();
    assert!(broken.why.ends_with("is missing"), "{}", broken.why);
}

#[test]
fn a_database_without_syncs_breaks_and_the_rig_finds_it() {
    // Goal: the rig finds corruption. Method: synchronous=OFF; without promises, so that only damage counts.
    let mut tape = record(&wal("OFF"));
    tape.ops.retain(|op| !matches!(op, Op::Mark(_)));
    let broken = check_images(&tape, 1, 30, check).unwrap_err();
    let damage = ["malformed", "not a database", "not whole"];
    assert!(damage.iter().any(|words| broken.why.contains(words)), "{}", broken.why);
}

#[test]
fn a_rollback_journal_is_safe_only_if_its_deletion_is_synced() {
    // Goal: the rig knows about folders. Method: with a rollback journal the deletion is the commit; synchronous=FULL does
    // not sync the folder behind it, EXTRA does.
    let broken = outcome(&rollback("FULL")).unwrap_err();
    assert!(broken.why.ends_with("is missing"), "{}", broken.why);
    let images = all_good(&rollback("EXTRA"));
    assert!(images > 3 * JOURNAL_COMMITS as usize, "{images} images");
}
