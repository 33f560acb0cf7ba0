use std::collections::BTreeSet;

use super::part::SYNC_BYTES;
use super::*;

const CAP: u64 = 64 << 20;

fn content(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::of(bytes)
}

fn plan(reference: &str, bytes: &[u8]) -> Plan {
    Plan {
        reference: reference.into(),
        source: "one".into(),
        bytes: bytes.len() as u64,
        digest: Some(digest(bytes)),
        signature: Some("by somebody".into()),
    }
}

fn put(
    store: &mut Store,
    reference: &str,
    bytes: &[u8],
    needed: &BTreeSet<Digest>,
) -> Result<Kept, StoreError> {
    store.begin(plan(reference, bytes), needed)?;
    store.append(bytes, 1)?;
    store.finish()
}

#[test]
fn what_is_kept_is_found_under_its_reference_and_outlives_the_process() {
    // Goal: keeping is for good, and one content is stored once. Method: two references to one content, and another; a new
    // process, with what crashes leave lying about.
    let data = tempfile::tempdir().unwrap();
    let mut store = Store::open(data.path(), CAP).unwrap();
    let (one, other) = (content(1, 1000), content(2, 2000));
    let none = BTreeSet::new();
    let kept = put(&mut store, "a/b:1", &one, &none).unwrap();
    assert_eq!((&kept.digest, kept.bytes), (&digest(&one), 1000));
    assert_eq!(kept.signature.as_deref(), Some("by somebody"));
    put(&mut store, "a/b:2", &one, &none).unwrap();
    put(&mut store, "a/c:1", &other, &none).unwrap();
    assert_eq!(store.bytes(), 3000);

    let dir = data.path().join("artifacts");
    for left in ["x.new", "0.ref", &format!("{}.wasm", "0".repeat(64))] {
        fs::write(dir.join(left), "half").unwrap();
    }
    let mut store = Store::open(data.path(), CAP).unwrap();
    assert_eq!(store.find("a/b:1"), Some(&kept));
    assert_eq!(store.find("a/b:3"), None);
    assert_eq!(fs::read(store.check(&kept.digest).unwrap()).unwrap(), one);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 3 + 2);

    store.forget("a/b:1").unwrap();
    assert!(store.check(&kept.digest).is_ok(), "the other reference needs it");
    store.forget("a/b:2").unwrap();
    assert!(store.check(&kept.digest).is_err());
    assert_eq!(store.bytes(), 2000);
}

#[test]
fn a_flipped_bit_is_found_and_the_artifact_is_gone() {
    // Goal: nothing damaged is ever run. Method: every thousandth bit, one after the other.
    let data = tempfile::tempdir().unwrap();
    let mut store = Store::open(data.path(), CAP).unwrap();
    let whole = content(3, 5000);
    for bit in (0..whole.len() * 8).step_by(1_000) {
        let kept = put(&mut store, "a/b:1", &whole, &BTreeSet::new()).unwrap();
        let path = store.check(&kept.digest).unwrap();
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &flipped).unwrap();
        let error = store.check(&kept.digest).unwrap_err();
        assert!(matches!(&error, StoreError::Damaged { found, .. } if *found == digest(&flipped)), "{error}");
        assert_eq!((store.find("a/b:1"), path.exists()), (None, false));
    }
}

#[test]
fn what_a_reference_meant_outlives_its_bytes_until_somebody_gives_it_up() {
    // Goal: damage lets no other content in by itself. Method: an artifact damaged, in a new process, too; its source has
    // another content, and says so or does not; then the same; then damage again, and a wish.
    let data = tempfile::tempdir().unwrap();
    let none = BTreeSet::new();
    let (meant, other) = (content(8, 1_000), content(9, 1_000));
    let mut store = Store::open(data.path(), CAP).unwrap();
    let kept = put(&mut store, "a/b:1", &meant, &none).unwrap();
    let damage = |store: &mut Store| {
        fs::write(data.path().join(format!("artifacts/{}.wasm", kept.digest)), &other).unwrap();
        assert!(matches!(store.check(&kept.digest), Err(StoreError::Damaged { .. })));
        assert_eq!((store.find("a/b:1"), store.bytes()), (None, 0));
    };
    damage(&mut store);
    let mut store = Store::open(data.path(), CAP).unwrap();
    assert!(!store.give_up("a/b:1").unwrap(), "nobody knows of another content yet");
    let error = store.begin(plan("a/b:1", &other), &none).unwrap_err();
    let is_told = |digest: Digest| error.to_string().contains(digest.short());
    assert!(matches!(error, StoreError::Changed { .. }) && is_told(digest(&meant)), "{error}");
    assert!(is_told(digest(&other)), "{error}");
    store.begin(Plan { digest: None, ..plan("a/b:1", &other) }, &none).unwrap();
    store.append(&other, 1).unwrap();
    assert!(matches!(store.finish(), Err(StoreError::Other { .. })));

    assert_eq!(put(&mut store, "a/b:1", &meant, &none).unwrap().digest, kept.digest);
    assert!(!store.give_up("a/b:1").unwrap(), "it is whole");
    damage(&mut store);
    assert!(matches!(put(&mut store, "a/b:1", &other, &none), Err(StoreError::Changed { .. })));
    assert!(store.give_up("a/b:1").unwrap());
    assert_eq!(put(&mut store, "a/b:1", &other, &none).unwrap().digest, digest(&other));
}

#[test]
fn a_fetch_cut_anywhere_goes_on_and_gives_the_same() {
    // Goal: no cut loses more than what was not synced, and none spoils the whole. Method: pieces of 100 KiB, cut after each
    // of them, by a new process that finds either the file as it was written or what was after the last sync made garbage.
    let whole = content(4, 3_500_000);
    let pieces: Vec<&[u8]> = whole.chunks(100 << 10).collect();
    for (cut, garbage) in (0..=pieces.len()).flat_map(|cut| [(cut, false), (cut, true)]) {
        let data = tempfile::tempdir().unwrap();
        let none = BTreeSet::new();
        let mut store = Store::open(data.path(), CAP).unwrap();
        assert_eq!(store.begin(plan("a/b:1", &whole), &none).unwrap(), Progress { bytes: 0, mark: 0 });
        for (n, piece) in pieces[..cut].iter().enumerate() {
            store.append(piece, n as u64 + 1).unwrap();
        }
        drop(store);
        if garbage {
            let path = part::path(&data.path().join("artifacts"));
            let written = fs::read(&path).unwrap();
            // A sync comes with the first piece beyond a MiB.
            let between = usize::try_from(SYNC_BYTES).unwrap().next_multiple_of(100 << 10);
            let synced = written.len() - written.len() % between;
            fs::write(&path, [&written[..synced], &vec![0xaa; 300_000][..]].concat()).unwrap();
        }
        let mut store = Store::open(data.path(), CAP).unwrap();
        let Progress { bytes, mark } = store.begin(plan("a/b:1", &whole), &none).unwrap();
        let there = usize::try_from(mark).unwrap();
        assert_eq!(bytes, pieces[..there].iter().map(|piece| piece.len() as u64).sum::<u64>());
        let (before, least) = ((cut * (100 << 10)) as u64, SYNC_BYTES + (100 << 10));
        assert!(there <= cut && before <= bytes + least, "{bytes} of {before} are there");
        for (n, piece) in pieces.iter().enumerate().skip(there) {
            store.append(piece, n as u64 + 1).unwrap();
        }
        let kept = store.finish().unwrap();
        assert_eq!(fs::read(store.check(&kept.digest).unwrap()).unwrap(), whole, "cut after {cut}");
    }
}

#[test]
fn parts_of_another_content_are_not_mixed_in() {
    // Goal: an object that was replaced between two attempts is fetched from its beginning. Method: another source; another
    // reference; another length.
    let data = tempfile::tempdir().unwrap();
    let none = BTreeSet::new();
    let whole = content(5, 2_000_000);
    let same = plan("a/b:1", &whole);
    let others = [
        Plan { source: "two".into(), ..same.clone() },
        Plan { reference: "a/b:2".into(), ..same.clone() },
        Plan { bytes: 1_900_000, ..same.clone() },
        Plan { digest: None, ..same.clone() },
    ];
    for other in others {
        let mut store = Store::open(data.path(), CAP).unwrap();
        store.begin(same.clone(), &none).unwrap();
        store.append(&whole[..1_500_000], 7).unwrap();
        drop(store);
        let mut store = Store::open(data.path(), CAP).unwrap();
        assert_eq!(store.begin(other, &none).unwrap(), Progress { bytes: 0, mark: 0 });
    }
}

#[test]
fn what_is_not_as_announced_is_refused_and_leaves_nothing() {
    // Goal: a registry that lies, a stream that ends early or never. Method: another content, too little, too much, too large.
    let data = tempfile::tempdir().unwrap();
    let none = BTreeSet::new();
    let mut store = Store::open(data.path(), CAP).unwrap();
    let whole = content(6, 1000);
    let announce = plan("a/b:1", &whole);

    store.begin(announce.clone(), &none).unwrap();
    store.append(&content(7, 1000), 1).unwrap();
    assert!(matches!(store.finish(), Err(StoreError::Other { .. })));
    store.begin(announce.clone(), &none).unwrap();
    store.append(&whole[..999], 1).unwrap();
    assert!(matches!(store.finish(), Err(StoreError::Length { announced: 1000, found: 999 })));
    store.begin(announce.clone(), &none).unwrap();
    let error = store.append(&content(6, 1001), 1).unwrap_err();
    assert!(matches!(error, StoreError::Length { announced: 1000, found: 1001 }));
    let large = Plan { bytes: WASM_BYTES_MAX + 1, ..announce };
    assert!(matches!(store.begin(large, &none), Err(StoreError::TooLarge { .. })));
    assert!(matches!(store.finish(), Err(StoreError::Length { .. })));
    assert!(matches!(store.finish(), Err(StoreError::Idle)));
    assert_eq!(store.find("a/b:1"), None);
    assert_eq!(fs::read_dir(data.path().join("artifacts")).unwrap().count(), 0);
}

#[test]
fn the_oldest_that_nobody_needs_makes_room_and_what_is_needed_never_goes() {
    // Goal: the bound holds, and desired state is never emptied for it. Method: room for three; the first is needed.
    let data = tempfile::tempdir().unwrap();
    let mut store = Store::open(data.path(), 3_000).unwrap();
    let contents: Vec<_> = (0..5).map(|seed| content(seed, 1_000)).collect();
    let needed = BTreeSet::from([digest(&contents[0])]);
    for (n, bytes) in contents[..4].iter().enumerate() {
        put(&mut store, &format!("a/b:{n}"), bytes, &needed).unwrap();
        assert!(store.bytes() <= 3_000);
    }
    let references: Vec<_> = store.all().map(|kept| kept.reference.as_str()).collect();
    assert_eq!(references, ["a/b:0", "a/b:2", "a/b:3"]);

    let all = contents.iter().map(|bytes| digest(bytes)).collect();
    let error = put(&mut store, "a/b:4", &contents[4], &all).unwrap_err();
    assert!(matches!(error, StoreError::Full { bytes: 1_000, bytes_max: 3_000 }), "{error}");
    assert_eq!(store.bytes(), 3_000);
}

#[test]
fn a_smaller_bound_is_kept_without_what_is_needed() {
    // Goal: after the bound was made smaller, what is beyond it goes, oldest first, and what references need stays. Method:
    // four of a quarter each; the oldest needed by its reference; room for two, then for none.
    let data = tempfile::tempdir().unwrap();
    let mut store = Store::open(data.path(), CAP).unwrap();
    let contents: Vec<_> = (0..4).map(|n| content(n, 1_000)).collect();
    for (n, bytes) in contents.iter().enumerate() {
        put(&mut store, &format!("a/b:{n}"), bytes, &BTreeSet::new()).unwrap();
    }
    let references = BTreeSet::from(["a/b:0".to_owned(), "a/b:9".to_owned()]);
    for (bytes_max, left) in [(2_500, vec![0, 3]), (10, vec![0])] {
        let mut store = Store::open(data.path(), bytes_max).unwrap();
        let needed = store.digests(&references);
        assert_eq!(needed, BTreeSet::from([digest(&contents[0])]));
        store.sweep(&needed).unwrap();
        let kept: Vec<_> = (0..4).filter(|n| store.find(&format!("a/b:{n}")).is_some()).collect();
        assert_eq!(kept, left);
    }
}
