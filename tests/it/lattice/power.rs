//! Power: what control was told is on flash is there after a cut anywhere, with its line in the history, whole.

use std::path::Path;
use std::thread;
use std::time::Duration;

use frond::workload::{Ask, Keeper, Line, Place, Row, Save, Write};
use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use crate::power_rig::{Image, Recorder, check_images, scratch};

/// Times the keeper is started and stopped.
const ROUNDS: u64 = 4;
/// Saves of each round; each is a promise.
const SAVES: u64 = 10;
/// Variants of each window between two syncs, beside the two plain ones.
const PER_WINDOW: usize = 6;

fn save(number: u64) -> Save {
    let row = |name: &str| Row {
        kind: 1,
        name: name.to_owned(),
        revision: number,
        origin: 2,
        content: number.to_string().into_bytes(),
    };
    let line = Line { revision: number, at: 0, origin: 2, text: number.to_string() };
    Save { writes: vec![Write::Put(row("one")), Write::Put(row("other"))], line, lines_max: 5 }
}

#[test]
fn what_the_lattice_was_answered_survives_a_power_cut_anywhere() {
    // Goal: an answer is a promise: rows and history are there, all of one change or nothing of it. Method: a keeper with a
    // tape on its file layer, whose every save is marked as promised, with values of components written in between; then
    // every image that a cut could have left is opened.
    let folder = scratch();
    let recorder = Recorder::start(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut number = 0;
    for _ in 0..ROUNDS {
        let (keeper, handle) = Keeper::open(folder.path(), Duration::from_millis(1)).unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let keeping = thread::spawn(move || keeper.run(stopped).unwrap());
        for _ in 0..SAVES {
            number += 1;
            let (component, link, bucket) = ("a".to_owned(), "default".to_owned(), "b".to_owned());
            let place = Place { component, link, bucket, bytes_max: 1 << 20, keys_max: 10 };
            let pairs = vec![("n".to_owned(), number.to_string().into_bytes())];
            runtime.block_on(handle.ask(place, Ask::Set { pairs })).unwrap();
            runtime.block_on(handle.save(save(number))).unwrap();
            recorder.mark(number);
        }
        stop.cancel();
        keeping.join().unwrap();
    }
    match check_images(&recorder.tape(), 23, PER_WINDOW, check) {
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
    let numbers = |query: &str| -> Result<Vec<u64>, String> {
        let mut query = db.prepare(query).map_err(|error| error.to_string())?;
        let rows = query.query_map([], |row| row.get(0)).map_err(|error| error.to_string())?;
        rows.collect::<Result<_, _>>().map_err(|error| error.to_string())
    };
    let rows = numbers("SELECT revision FROM desired")?;
    let lines = numbers("SELECT revision FROM history ORDER BY id DESC LIMIT 1")?;
    // The value that waited when a change was saved went with it, in the same transaction.
    let values = numbers("SELECT CAST(CAST(value AS TEXT) AS INTEGER) FROM value")?;
    match (&rows[..], &lines[..], &values[..]) {
        ([], [], _) if promised == 0 => Ok(()),
        ([one, other], [line], [value])
            if one == other && line == one && *one >= promised && value >= one =>
        {
            Ok(())
        }
        _ => Err(format!("{rows:?}, {lines:?}, {values:?} after {promised} was promised")),
    }
}
