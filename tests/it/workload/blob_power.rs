//! Power: an object is whole, old or new, after a cut anywhere, and what was promised is there.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use frond::workload::blobs::{BLOCK_BYTES, Blobs, Desk, ObjectName, Place};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::power_rig::{Image, Recorder, crash_images, scratch};

/// Times that everything is written, moved and removed.
const ROUNDS: u64 = 24;
/// Variants of each window between two syncs, beside the two plain ones.
const PER_WINDOW: usize = 8;

fn place() -> Place {
    Place { component: "a".into(), link: "l".into(), bytes_max: 1 << 20, objects_max: 100 }
}

fn name(object: &str) -> ObjectName {
    ObjectName { container: "c".into(), object: object.into() }
}

/// The thread, until `work` is done.
fn with_desk<T>(folder: &Path, work: impl FnOnce(&Runtime, Desk) -> T) -> T {
    let ((blobs, handle), stop) = (Blobs::new(folder), CancellationToken::new());
    let stopped = stop.clone();
    let thread = thread::spawn(move || blobs.run(stopped).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let done = work(&runtime, handle.at(place()));
    stop.cancel();
    thread.join().unwrap();
    done
}

/// An object of a number and nothing else, of several pieces and blocks.
fn contents(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(100 + (number as usize * 173) % 1_500)
}

/// The number that an object is of, if it is whole.
fn number_in(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    (bytes == contents(number)).then_some(number)
}

async fn write(desk: &Desk, object: &str, number: u64) {
    let ticket = desk.begin().await.unwrap();
    for piece in contents(number).chunks(3_000) {
        desk.append(Arc::clone(&ticket), Bytes::copy_from_slice(piece)).await.unwrap();
    }
    desk.finish(ticket, name(object)).await.unwrap();
}

#[test]
fn an_object_survives_a_power_cut_anywhere_whole_and_as_new_as_was_promised() {
    // Goal: the old object or the new one, never a part of one, never none; a moved one is somewhere; leftovers are removed
    // and the quota is what is there. Method: a tape of everything done to files while one object is written again and
    // again, another moved to and fro, a third written and removed, a fourth given up; then the thread is started on every
    // image that a cut could have left.
    let folder = scratch();
    let root = folder.path().canonicalize().unwrap();
    let recorder = Recorder::start(&root);
    with_desk(&root, |runtime, desk| {
        runtime.block_on(async {
            desk.create_container("c").await.unwrap();
            write(&desk, "moved", 0).await;
            for number in 1..=ROUNDS {
                write(&desk, "o", number).await;
                recorder.mark(number);
                let (from, to) = if number % 2 == 1 { ("moved", "there") } else { ("there", "moved") };
                desk.rename(name(from), name(to)).await.unwrap();
                write(&desk, "brief", number).await;
                let given_up = desk.begin().await.unwrap();
                desk.append(given_up, Bytes::from_static(b"never an object")).await.unwrap();
                desk.delete("c", vec!["brief".into()]).await.unwrap();
            }
        });
    });
    let mut images = 0;
    for image in crash_images(&recorder.tape(), 23, PER_WINDOW) {
        if let Err(why) = check(&image) {
            panic!("window {}, {:?}: {why}\n{:?}", image.window, image.variant, image.files.keys());
        }
        images += 1;
    }
    assert!(images > 300, "only {images} images: the tape is too short to mean anything");
}

fn check(image: &Image) -> Result<(), String> {
    let folder = scratch();
    let shelf = folder.path().join("blobs/a/l");
    let container = shelf.join("c");
    fs::create_dir_all(&container).unwrap();
    image.write_into(folder.path());
    let (listed, usage) = with_desk(folder.path(), |runtime, desk| {
        let listed = runtime.block_on(desk.list("c", None, 100)).map(|(names, _)| names);
        (listed, runtime.block_on(desk.usage()))
    });
    let (listed, usage) =
        (listed.map_err(|error| error.to_string())?, usage.map_err(|error| error.to_string())?);
    let mut bytes = BLOCK_BYTES;
    for name in &listed {
        let object = fs::read(container.join(name)).map_err(|error| error.to_string())?;
        let number = number_in(&object).ok_or_else(|| format!("{name} is not whole"))?;
        let promised = image.promised.last().copied().unwrap_or(0);
        if name == "o" && number < promised {
            return Err(format!("{number} after {promised} was promised"));
        }
        bytes += (object.len() as u64).div_ceil(BLOCK_BYTES) * BLOCK_BYTES;
    }
    let has = |name: &str| listed.iter().any(|listed| listed == name);
    let is_complete = has("o") && has("moved") != has("there");
    if !is_complete && !image.promised.is_empty() {
        return Err(format!("{listed:?}"));
    }
    if fs::read_dir(&shelf).unwrap().count() != 1 {
        return Err("something was left over".to_owned());
    }
    match usage.bytes == bytes && usage.objects == 1 + listed.len() as u64 {
        true => Ok(()),
        false => Err(format!("{usage:?} for {listed:?}")),
    }
}
