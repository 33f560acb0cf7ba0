//! Power: what was kept is there after a cut anywhere and whole, and what was under way is gone on with.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use frond::artifact::store::{Plan, Progress, Store, StoreError};
use frond::runtime::Digest;

use super::{BYTES_MAX, PIECE};
use crate::power_rig::{Image, Recorder, check_images, scratch};

/// Artifacts fetched, by two references in turn.
const ROUNDS: u64 = 6;
/// Pieces of each: more than are written between two syncs.
const PIECES: usize = 10;
/// Variants of each window between two syncs, beside the two plain ones.
const PER_WINDOW: usize = 4;

/// An artifact that no other is like, sector by sector.
fn content(number: u64) -> Vec<u8> {
    let words = (0..(PIECES * PIECE / 8) as u64)
        .map(|word| (number << 32 | word).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    words.flat_map(u64::to_le_bytes).collect()
}

fn reference(number: u64) -> String {
    format!("parts/{}:1", number % 2)
}

fn plan(number: u64, content: &[u8]) -> Plan {
    Plan {
        reference: reference(number),
        source: number.to_string(),
        bytes: content.len() as u64,
        digest: Some(Digest::of(content)),
        signature: Some(number.to_string()),
    }
}

/// Fetches what is not there yet.
fn fetch(store: &mut Store, number: u64) -> Result<Progress, StoreError> {
    let content = content(number);
    let begun = store.begin(plan(number, &content), &BTreeSet::new())?;
    let there = usize::try_from(begun.mark).unwrap();
    assert_eq!(begun.bytes, (there * PIECE) as u64);
    for (n, piece) in content.chunks(PIECE).enumerate().skip(there) {
        store.append(piece, n as u64 + 1)?;
    }
    store.finish().map(|_| begun)
}

#[test]
fn an_artifact_survives_a_power_cut_anywhere() {
    // Goal: a reference that was kept leads to a whole artifact, as new as was promised; what was synced of the next one is
    // not fetched again, and gives the same; nothing is left over. Method: a tape of everything done to files while artifacts
    // are fetched, replaced, given up and forgotten; then the folder is opened on every image that a cut could have left,
    // and the artifact that was under way is fetched to its end.
    let folder = scratch();
    let recorder = Recorder::start(folder.path());
    let root = folder.path().canonicalize().unwrap();
    let mut store = Store::open(&root, BYTES_MAX).unwrap();
    for number in 1..=ROUNDS {
        fetch(&mut store, number).unwrap();
        recorder.mark(number);
        let other = content(100 + number);
        store.begin(plan(100 + number, &other), &BTreeSet::new()).unwrap();
        store.append(&other[..PIECE], 1).unwrap();
        if number == ROUNDS / 2 {
            store.forget(&reference(number - 1)).unwrap();
            fetch(&mut store, number - 1).unwrap();
        }
    }
    drop(store);
    let mut resumed = 0;
    match check_images(&recorder.tape(), 31, PER_WINDOW, |folder, image| check(folder, image, &mut resumed)) {
        Ok(images) => assert!(images > 150, "only {images} images: the tape is too short to mean anything"),
        Err(broken) => panic!("window {}, {:?}: {}", broken.image.window, broken.image.variant, broken.why),
    }
    assert!(resumed > 10, "only {resumed} images had a fetch to go on with");
}

fn check(folder: &Path, image: &Image, resumed: &mut u32) -> Result<(), String> {
    let said = |error: StoreError| error.to_string();
    let mut store = Store::open(folder, BYTES_MAX).map_err(said)?;
    let kept: Vec<_> = store.all().cloned().collect();
    for kept in &kept {
        let path = store.check(&kept.digest).map_err(|error| format!("{}: {error}", kept.reference))?;
        let number: u64 = kept.signature.as_ref().and_then(|text| text.parse().ok()).unwrap();
        if fs::read(path).unwrap() != content(number) {
            return Err(format!("{} is not what was kept", kept.reference));
        }
    }
    let promised = image.promised.last().copied().unwrap_or(0);
    for number in [promised, promised.saturating_sub(1)].into_iter().filter(|number| *number > 0) {
        let is_there = |kept: &&frond::artifact::store::Kept| kept.reference == reference(number);
        let found = kept.iter().find(is_there).and_then(|kept| kept.signature.as_ref()?.parse::<u64>().ok());
        // One was forgotten on purpose, and fetched again.
        let is_forgotten = number + 1 == promised && promised == ROUNDS / 2;
        if found.is_none_or(|found| found < number) && !is_forgotten {
            return Err(format!("{found:?} where {number} was promised"));
        }
    }
    let begun = fetch(&mut store, promised + 1).map_err(|error| format!("what was under way: {error}"))?;
    *resumed += u32::from(begun.bytes > 0);
    let left = fs::read_dir(folder.join("artifacts")).unwrap().count();
    let references = store.all().count();
    let digests: BTreeSet<_> = store.all().map(|kept| &kept.digest).collect();
    match left == references + digests.len() {
        true => Ok(()),
        false => Err(format!("{left} files for {references} references")),
    }
}
