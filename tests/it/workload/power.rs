//! Power: whatever a component keeps is there after a cut anywhere, up to the newest commit, whole and in order.

use std::path::Path;
use std::thread;
use std::time::Duration;

use frond::workload::{Ask, Keeper, Place};
use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use crate::power_rig::{Image, Recorder, check_images, scratch};

/// Times the keeper is started and stopped; each stop commits.
const ROUNDS: u64 = 12;
/// Writes of each round, some of them committed by the interval.
const WRITES: u64 = 12;
/// Variants of each window between two syncs, beside the two plain ones.
const PER_WINDOW: usize = 6;

fn place() -> Place {
    let (component, link, bucket) = ("a".to_owned(), "default".to_owned(), "b".to_owned());
    Place { component, link, bucket, bytes_max: 1 << 20, keys_max: 10 }
}

#[test]
fn what_a_component_keeps_survives_a_power_cut_anywhere() {
    // Goal: committed values are there, a batch is never torn. Method: a keeper with a tape on its file layer writes one
    // growing number under two keys at a time, and each orderly stop is a promise; then every image that a cut could have
    // left is opened.
    let folder = scratch();
    let recorder = Recorder::start(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut number = 0;
    for _ in 0..ROUNDS {
        let (keeper, handle) = Keeper::open(folder.path(), Duration::from_micros(300)).unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let keeping = thread::spawn(move || keeper.run(stopped).unwrap());
        for _ in 0..WRITES {
            number += 1;
            let value = number.to_string().into_bytes();
            let pairs = vec![("n".to_owned(), value.clone()), ("m".to_owned(), value)];
            runtime.block_on(handle.ask(place(), Ask::Set { pairs })).unwrap();
        }
        stop.cancel();
        keeping.join().unwrap();
        recorder.mark(number);
    }
    match check_images(&recorder.tape(), 17, PER_WINDOW, check) {
        Ok(images) => assert!(images > 100, "only {images} images: the tape is too short to mean anything"),
        Err(broken) => panic!("window {}, {:?}: {}", broken.image.window, broken.image.variant, broken.why),
    }
}

fn check(folder: &Path, image: &Image) -> Result<(), String> {
    let promised = image.promised.last().copied().unwrap_or(0);
    let opened =
        Keeper::open(folder, Duration::from_secs(1)).map_err(|error| format!("does not open: {error:?}"))?;
    if opened.1.damage().has_lost_newest {
        return Err("taken for damage".to_owned());
    }
    drop(opened);
    if folder.join("state.db.aside").exists() && promised > 0 {
        return Err("set aside".to_owned());
    }
    let db = Connection::open(folder.join("state.db")).map_err(|error| error.to_string())?;
    let mut query = db
        .prepare("SELECT CAST(CAST(value AS TEXT) AS INTEGER) FROM value")
        .map_err(|error| error.to_string())?;
    let numbers: Vec<u64> = query
        .query_map([], |row| row.get(0))
        .and_then(Iterator::collect)
        .map_err(|error| error.to_string())?;
    match numbers[..] {
        [] if promised == 0 => Ok(()),
        [n, m] if n == m && n >= promised => Ok(()),
        _ => Err(format!("{numbers:?} after {promised} was promised")),
    }
}
