use super::table::{PAGE_KEYS, usage_of};
use super::*;
use crate::platform::vfs;

fn place(component: &str, bucket: &str) -> Place {
    let (component, bucket) = (component.to_owned(), bucket.to_owned());
    Place { component, link: "default".into(), bucket, bytes_max: 1_000, keys_max: 3 }
}

fn keeper(folder: &Path) -> Keeper {
    vfs::register().unwrap();
    Keeper::open(folder, Duration::from_secs(1)).unwrap().0
}

fn set_one(keeper: &mut Keeper, place: &Place, key: &str, value: &[u8]) -> Result<Answer, KeepError> {
    keeper.answer(place, Ask::Set { pairs: vec![(key.into(), value.into())] })
}

fn get_one(keeper: &mut Keeper, place: &Place, key: &str) -> Option<Vec<u8>> {
    match keeper.answer(place, Ask::Get { keys: vec![key.into()] }) {
        Ok(Answer::Values(mut values)) => values.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn values_are_read_back_and_kept_apart() {
    // Goal: reading one's writes, and nobody else's. Method: two components and two buckets with the same key.
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path());
    let (ours, other_bucket, theirs) = (place("a", "x"), place("a", "y"), place("b", "x"));
    assert_eq!(set_one(&mut keeper, &ours, "k", b"1"), Ok(Answer::Done));
    assert_eq!(set_one(&mut keeper, &theirs, "k", b"2"), Ok(Answer::Done));
    assert_eq!(get_one(&mut keeper, &ours, "k"), Some(b"1".to_vec()));
    assert_eq!(get_one(&mut keeper, &theirs, "k"), Some(b"2".to_vec()));
    assert_eq!(get_one(&mut keeper, &other_bucket, "k"), None);
    assert_eq!(keeper.answer(&ours, Ask::Delete { keys: vec!["k".into(), "none".into()] }), Ok(Answer::Done));
    assert_eq!(get_one(&mut keeper, &ours, "k"), None);
    assert_eq!(set_one(&mut keeper, &ours, "", b""), Err(KeepError::Name));
}

#[test]
fn a_quota_refuses_what_is_more_and_takes_what_is_less() {
    // Goal: bytes and keys are bounded, and room that was freed can be used again; a batch is taken whole or not at all.
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path());
    let place = place("a", "x");
    assert_eq!(set_one(&mut keeper, &place, "big", &[0; 900]), Ok(Answer::Done));
    assert_eq!(set_one(&mut keeper, &place, "more", b""), Err(KeepError::Bytes { bytes_max: 1_000 }));
    assert_eq!(set_one(&mut keeper, &place, "big", &[0; 10]), Ok(Answer::Done));
    let pairs: Vec<_> = ["b", "c", "d"].map(|key| (key.to_owned(), Vec::new())).into();
    assert_eq!(keeper.answer(&place, Ask::Set { pairs }), Err(KeepError::Keys { keys_max: 3 }));
    assert_eq!(get_one(&mut keeper, &place, "b"), None, "not the beginning of it");
    assert_eq!(set_one(&mut keeper, &place, "b", b""), Ok(Answer::Done));
    let usage = keeper.usage.values().next().copied().unwrap();
    assert_eq!(usage, usage_of(&keeper.db, &place).unwrap(), "what is counted is what is there");
}

#[test]
fn numbers_are_added_to_and_nothing_else_is() {
    // Goal: increment as wasmCloud's providers have it: decimal text. Method: none, a number, text, an overflow.
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path());
    let place = place("a", "x");
    let mut add = |delta| keeper.answer(&place, Ask::Increment { key: "n".into(), delta });
    assert_eq!((add(3), add(4)), (Ok(Answer::Sum(3)), Ok(Answer::Sum(7))));
    assert_eq!(add(u64::MAX), Err(KeepError::NotANumber));
    assert_eq!(get_one(&mut keeper, &place, "n"), Some(b"7".to_vec()));
    set_one(&mut keeper, &place, "n", b"seven").unwrap();
    assert_eq!(
        keeper.answer(&place, Ask::Increment { key: "n".into(), delta: 1 }),
        Err(KeepError::NotANumber)
    );
}

#[test]
fn keys_are_listed_in_pages_to_the_last() {
    // Goal: every key once, also when there are more than a page holds. Method: two and a half pages.
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path());
    let place = Place { bytes_max: 1 << 20, keys_max: 10_000, ..place("a", "x") };
    let count = PAGE_KEYS * 5 / 2;
    for n in 0..count {
        set_one(&mut keeper, &place, &format!("k{n}"), b"").unwrap();
    }
    let (mut listed, mut after) = (Vec::new(), Some(0));
    while let Some(cursor) = after {
        let Ok(Answer::Keys(keys, next)) = keeper.answer(&place, Ask::List { after: cursor }) else {
            panic!()
        };
        listed.extend(keys);
        after = next;
    }
    assert_eq!(listed, (0..count).map(|n| format!("k{n}")).collect::<Vec<_>>());
}

#[test]
fn what_was_committed_is_there_after_a_restart_and_a_damaged_file_is_set_aside() {
    // Goal: state survives, and a database that is none does not stop the gateway. Method: reopen; then a file of noise.
    let folder = tempfile::tempdir().unwrap();
    let place = place("a", "x");
    let mut first = keeper(folder.path());
    set_one(&mut first, &place, "k", b"1").unwrap();
    first.commit();
    set_one(&mut first, &place, "k", b"2").unwrap();
    drop(first);
    let mut second = keeper(folder.path());
    assert_eq!(
        get_one(&mut second, &place, "k"),
        Some(b"1".to_vec()),
        "the uncommitted write is gone, whole"
    );
    drop(second);
    let path = folder.path().join("state.db");
    let _ = std::fs::remove_file(folder.path().join("state.db-wal"));
    std::fs::write(&path, [7; 5_000]).unwrap();
    let mut third = keeper(folder.path());
    assert_eq!(get_one(&mut third, &place, "k"), None);
    drop(third);
    let aside = folder.path().join("state.db.aside");
    let told = || Keeper::open(folder.path(), Duration::from_secs(1)).unwrap().1.damage().aside.clone();
    let lies = told().expect("it is told as long as it lies there");
    assert_eq!(lies.path, aside);
    assert!(lies.since > 0);
    std::fs::remove_file(aside).unwrap();
    assert_eq!(told(), None);
}

#[test]
fn a_bit_that_flips_in_the_log_is_told_and_a_log_cut_short_is_not() {
    // Goal: what was synced is not lost silently, and what a power cut leaves is not taken for damage. Method: the log of some
    // saves, one byte of it changed, every so many; cut off anywhere; then one in the middle, opened twice, and whole ones whose
    // database is empty or gone.
    let folder = tempfile::tempdir().unwrap();
    let mut first = keeper(folder.path());
    for revision in 1..9 {
        first.save(&saved(revision, &format!("{revision}"))).unwrap();
    }
    let whole = std::fs::read(folder.path().join("state.db-wal")).unwrap();
    let page_bytes: i64 = first.db.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    let frame_bytes = usize::try_from(page_bytes).unwrap() + 24;
    let frames = whole[32..].chunks_exact(frame_bytes).filter(|frame| frame[8..16] == whole[16..24]);
    let is_last: Vec<bool> = frames.map(|frame| frame[4..8] != [0; 4]).collect();
    let behind = |frame: usize| is_last.iter().skip(frame + 1).filter(|is_last| **is_last).count();
    assert!(behind(0) >= 8, "{is_last:?}");
    let flipped = |at: usize| {
        let mut log = whole.clone();
        log[at] ^= 4;
        log
    };
    for at in (32..32 + is_last.len() * frame_bytes).step_by(61) {
        let frame = (at - 32) / frame_bytes;
        let is_damaged = wal::is_damaged(&flipped(at));
        // A check sum that was flipped spoils the next frame, too.
        match (behind(frame + 1), behind(frame)) {
            (2.., _) => assert!(is_damaged, "byte {at}"),
            (_, 0 | 1) => assert!(!is_damaged, "byte {at}"),
            _ => {}
        }
    }
    assert!((0..whole.len()).step_by(61).all(|bytes| !wal::is_damaged(&whole[..bytes])));
    assert!((0..32).all(|at| wal::is_damaged(&flipped(at))), "the header");
    assert!(!wal::is_damaged(&[0; 8_192]) && !wal::is_damaged(&flipped(3)[..32]), "nothing is behind it");

    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join("state.db"), copy.path().join("state.db")).unwrap();
    std::fs::write(copy.path().join("state.db-wal"), flipped(32 + is_last.len() / 2 * frame_bytes + 100))
        .unwrap();
    let told = || Keeper::open(copy.path(), Duration::from_secs(1)).unwrap().1.damage().clone();
    assert_eq!(told(), Damage { aside: None, has_lost_newest: true });
    assert_eq!(told(), Damage::default());
    for is_there in [true, false] {
        let path = copy.path().join("state.db");
        std::fs::write(&path, []).unwrap();
        if !is_there {
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::write(copy.path().join("state.db-wal"), &whole).unwrap();
        assert!(told().has_lost_newest, "an empty file: {is_there}");
        assert_eq!(told(), Damage::default());
    }
}

fn saved(revision: u64, name: &str) -> Save {
    let row = Row { kind: 1, name: name.into(), revision, origin: 2, content: b"\x01{}".to_vec() };
    let line = Line { revision, at: 7, origin: 2, text: format!("put {name}") };
    Save { writes: vec![Write::Put(row)], line, lines_max: 3 }
}

#[test]
fn a_save_is_on_flash_when_it_is_answered_and_takes_waiting_values_along() {
    // Goal: control may answer at once. Method: a value that waits for its commit, a save, and an end without a commit;
    // then a deletion; the history keeps the newest lines.
    let folder = tempfile::tempdir().unwrap();
    let place = place("a", "x");
    let mut first = keeper(folder.path());
    set_one(&mut first, &place, "k", b"1").unwrap();
    first.save(&saved(1, "one")).unwrap();
    set_one(&mut first, &place, "k", b"2").unwrap();
    drop(first);
    let mut second = keeper(folder.path());
    assert_eq!(get_one(&mut second, &place, "k"), Some(b"1".to_vec()));
    let Write::Put(row) = saved(1, "one").writes.remove(0) else { unreachable!() };
    assert_eq!(records::rows(&second.db).unwrap(), [row]);
    for revision in 2..6 {
        second.save(&saved(revision, "two")).unwrap();
    }
    let gone = Save { writes: vec![Write::Delete { kind: 1, name: "one".into() }], ..saved(6, "two") };
    second.save(&gone).unwrap();
    let names: Vec<String> = records::rows(&second.db).unwrap().into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["two"]);
    let revisions = |newest| -> Vec<u64> {
        records::lines(&second.db, newest).unwrap().iter().map(|line| line.revision).collect()
    };
    assert_eq!((revisions(10), revisions(1)), (vec![6, 5, 4], vec![6]));
}

#[test]
fn a_file_of_the_first_version_gets_what_it_lacks() {
    // Goal: a gateway that is updated keeps its components' values. Method: a file as version 1 made it, with a value.
    let folder = tempfile::tempdir().unwrap();
    let db = Connection::open(folder.path().join("state.db")).unwrap();
    db.execute_batch(
        "CREATE TABLE value (
            id INTEGER PRIMARY KEY,
            component TEXT NOT NULL, link TEXT NOT NULL, bucket TEXT NOT NULL, key TEXT NOT NULL,
            value BLOB NOT NULL,
            UNIQUE (component, link, bucket, key)
        ) STRICT;
        INSERT INTO value (component, link, bucket, key, value) VALUES ('a', 'default', 'b', 'k', x'31');
        PRAGMA user_version = 1",
    )
    .unwrap();
    drop(db);
    let mut keeper = keeper(folder.path());
    let place = Place { bucket: "b".into(), ..place("a", "x") };
    assert_eq!(get_one(&mut keeper, &place, "k"), Some(b"1".to_vec()));
    keeper.save(&saved(1, "one")).unwrap();
    drop(keeper);
    let db = Connection::open(folder.path().join("state.db")).unwrap();
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 2);
    db.pragma_update(None, "user_version", 3).unwrap();
    drop(db);
    let refused = Keeper::open(folder.path(), Duration::from_secs(1)).unwrap_err();
    assert!(matches!(refused, KeeperError::Newer { .. }), "{refused}");
}
