//! Power: at every sync boundary, whatever a client holds an acknowledgement for is in the journal, and will be known
//! when it comes again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use frond::block;
use frond::config;
use frond::journal::hot;
use frond::journal::slots::Slots;
use frond::sample::Reading;
use frond::store::Store;
use rusqlite::Connection;

use super::client::{Client, Hello, hello};
use super::rig::{PLANT, Rig, policy};
use crate::power_rig::{Image, Recorder, check_images, scratch};

/// Messages of each of the two clients; the value is the promise's number.
const MESSAGES: u16 = 600;
/// Marks of the second client begin behind this.
const SECOND: u64 = 10_000;
/// Variants of each window between two syncs, beside the two plain ones.
const PER_WINDOW: usize = 4;

#[test]
fn whatever_a_client_holds_an_acknowledgement_for_survives_a_power_cut_anywhere() {
    // Goal: PUBACK and PUBREC mean flash. Method: two clients, QoS 1 and 2, keep ten messages in flight and mark each
    // acknowledgement on the tape of the store's files as they receive it; every image that a cut could leave is opened.
    let folder = scratch();
    let recorder = Recorder::start(folder.path());
    let rig = Rig::start_with(folder.path(), &PLANT.replace("50ms", "10ms"));
    let at = rig.at;
    std::thread::scope(|scope| {
        let recorder = &recorder;
        scope.spawn(move || talk(at, recorder, 1, 0));
        scope.spawn(move || talk(at, recorder, 2, SECOND));
    });
    let tape = recorder.tape();
    rig.stop();
    match check_images(&tape, 5, PER_WINDOW, check) {
        Ok(images) => assert!(images > 200, "only {images} images: the tape is too short to mean anything"),
        Err(broken) => panic!("window {}, {:?}: {}", broken.image.window, broken.image.variant, broken.why),
    }
}

fn talk(at: SocketAddr, recorder: &Recorder, qos: u8, first: u64) {
    let id = format!("client-{qos}");
    let (mut client, _) = Client::enter(at, &Hello { clean: false, ..hello(&id) });
    let answer = if qos == 1 { 0x40 } else { 0x50 };
    for pkid in 1..=MESSAGES + 10 {
        if pkid <= MESSAGES {
            client.publish(qos << 1, &format!("plant/{qos}"), pkid, &(first + u64::from(pkid)).to_string());
        }
        if pkid > 10 {
            recorder.mark(first + u64::from(client.answer(answer)));
        }
    }
}

/// Opens an image and looks for every promise.
fn check(folder: &Path, image: &Image) -> Result<(), String> {
    let config =
        config::parse(&format!("{PLANT}[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:1\"\n"), "check")
            .map_err(|err| format!("{err:?}"))?;
    let (store, start) =
        Store::open(policy(&config, folder)).map_err(|err| format!("does not open: {err:?}"))?;
    if let Some(aside) = start.set_aside {
        return if image.promised.is_empty() { Ok(()) } else { Err(format!("set aside: {}", aside.reason)) };
    }
    drop(store);
    let db = Connection::open(folder.join("telemetry.db")).map_err(|err| err.to_string())?;
    let held = readings(&db).map_err(|err| err.to_string())?;
    let once: BTreeSet<u64> = held.iter().copied().collect();
    if once.len() != held.len() {
        return Err("a reading is there twice".to_owned());
    }
    let known = |row: &frond::journal::SessionRow| if row.client == "client-1" { 0 } else { SECOND };
    let identities: BTreeSet<u64> = start
        .sessions
        .iter()
        .flat_map(|(row, seen)| seen.iter().map(|identity| known(row) + u64::from(identity.pkid)))
        .collect();
    for promise in &image.promised {
        if !once.contains(promise) {
            return Err(format!("acknowledged reading {promise} is gone"));
        }
        if !identities.contains(promise) {
            return Err(format!("identity of acknowledged message {promise} is gone"));
        }
    }
    // What is identified but not held would be dropped when it comes again.
    match identities.iter().find(|known| !once.contains(known)) {
        Some(known) => Err(format!("message {known} would be taken for a copy, and its reading is nowhere")),
        None => Ok(()),
    }
}

/// Values of all readings in hot rows and in the ring.
pub fn readings(db: &Connection) -> rusqlite::Result<Vec<u64>> {
    let mut values = Vec::new();
    let mut take = |readings: Vec<Reading>| {
        values.extend(readings.iter().map(|reading| reading.value.as_f64() as u64));
    };
    let checkpoint = db.query_row("SELECT ifnull(max(pos), 0) FROM checkpoint", [], |row| row.get(0))?;
    let slots = Slots::load(db, checkpoint)?;
    for pos in slots.positions() {
        let (_, messages) = hot::decode(&slots.read(db, pos)?).expect("a committed row decodes");
        messages.into_iter().for_each(|message| take(message.readings));
    }
    let mut rows = db.prepare("SELECT block FROM raw")?;
    for row in rows.query_map([], |row| row.get::<_, Vec<u8>>(0))? {
        take(block::decode_readings(&row?).expect("a committed block decodes"));
    }
    Ok(values)
}
