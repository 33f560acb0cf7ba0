//! Power: at every sync boundary of the store, with what was not synced dropped, applied, torn or reordered, the database
//! opens without help, and everything that had been promised is there, once.
//!
//! Method: a store with a tape on its file layer takes messages, is given checkpoints with raw blocks and outputs, settles
//! some, and every acknowledgement it gives is marked on the tape. Then every image that a cut could have left is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use frond::block::{self, SeriesEntry};
use frond::config::{self, FullPolicy};
use frond::journal::slots::Slots;
use frond::journal::{Checkpoint, Committed, RawBlock, hot};
use frond::outbox::{Output, Settled};
use frond::platform::clock::{Beginning, ClockKeeper};
use frond::sample::{DoorId, Durability, Lane, Message, Reading, StreamId, Timeline, Value};
use frond::store::{Channels, DoorSetup, Handle, Inbound, Peers, Policy, Store, StreamPolicy};
use frond::supervise::Tasks;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::power_rig::{Image, Recorder, check_images, scratch};

const DOOR: DoorId = DoorId(0);
/// Messages; each is one reading whose value is its ticket.
const MESSAGES: u64 = 600;
/// A checkpoint after so many groups.
const GROUPS_PER_CHECKPOINT: usize = 7;
/// Marks above this are outputs: the mark is this plus the sequence.
const OUTPUTS: u64 = 1 << 32;
/// Variants of each window between two syncs, beside the two plain ones.
const PER_WINDOW: usize = 5;

fn policy(folder: &Path) -> Policy {
    let stream = StreamPolicy { full: FullPolicy::DropOldest, outbox_bytes_max: None, series_max: 10 };
    Policy {
        data_dir: folder.to_owned(),
        journal: config::Journal {
            commit_interval: Duration::from_millis(1),
            commit_interval_max: Duration::from_millis(1),
            commit_readings_max: 3,
            checkpoint_interval: Duration::from_secs(60),
            checkpoint_interval_min: Duration::from_secs(1),
            ring_bytes_max: 1 << 20,
            wear_bytes_per_day: 0,
        },
        outbox: config::Outbox { bytes_max: 1 << 20, age_max: None },
        retained_bytes_max: 1 << 20,
        streams: BTreeMap::from([("press".to_owned(), stream)]),
        doors: BTreeMap::from([(
            DOOR,
            DoorSetup { durability: Durability::Reading, window: 1_000, peers: Peers::Broker },
        )]),
    }
}

#[test]
fn every_promise_of_the_store_survives_a_power_cut_anywhere() {
    // Goal and method: see above.
    let folder = scratch();
    let recorder = Recorder::start(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(record(folder.path(), &recorder));
    let tape = recorder.tape();
    let checked = check_images(&tape, 11, PER_WINDOW, check);
    match checked {
        Ok(images) => {
            println!("{images} images opened");
            assert!(images > 500, "only {images} images: the tape is too short to mean anything");
        }
        Err(broken) => panic!("window {}, {:?}: {}", broken.image.window, broken.image.variant, broken.why),
    }
}

async fn record(folder: &Path, recorder: &Recorder) {
    let (store, start) = Store::open(policy(folder)).unwrap();
    let (inbound, inbound_in) = mpsc::channel(4);
    let (commands, commands_in) = mpsc::channel(4);
    let (checkpoints, checkpoints_in) = mpsc::channel(1);
    let (committed, mut groups) = mpsc::channel::<Committed>(4);
    let trust = config::Clock { trust: config::Trust::Always, synchronized_file: "/nowhere".into() };
    let beginning = Beginning { boot: start.boot, newest: start.floor, estimate: start.estimate };
    let (_keeper, clock, correction) = ClockKeeper::new(&trust, beginning);
    let channels = Channels {
        inbound: inbound_in,
        commands: commands_in,
        checkpoints: checkpoints_in,
        committed,
        correction,
    };
    let stop = CancellationToken::new();
    let (stopped, beat) = (stop.clone(), Tasks::new().beat("store", Duration::from_secs(60)));
    let thread = std::thread::spawn(move || store.run(channels, clock, &beat, &stopped));
    let stream = start.streams["press"];
    let handle = Handle { commands, newest: start.newest, epoch: start.epoch };
    let entry = SeriesEntry { name: "a".into(), unit: String::new(), labels: BTreeMap::new() };
    let series = handle.intern(stream, entry).await.unwrap().unwrap();

    let send = async {
        for ticket in 1..=MESSAGES {
            let value = i64::try_from(ticket).unwrap();
            let readings = vec![Reading { series, time: value, value: Value::Int(value) }];
            let pkid = u16::try_from(ticket).unwrap();
            let message = Message {
                door: DOOR,
                ticket,
                session: frond::sample::SessionId::NONE,
                pkid,
                stream,
                timeline: Timeline::Sensor,
                readings,
            };
            inbound.send(Inbound::Message(message)).await.unwrap();
        }
    };
    let mut durable = start.durable[&DOOR].clone();
    let promise = async {
        let mut promised = 0;
        while promised < MESSAGES {
            durable.changed().await.unwrap();
            let ticket = *durable.borrow_and_update();
            (promised + 1..=ticket).for_each(|ticket| recorder.mark(ticket));
            promised = ticket;
        }
    };
    let process = async {
        let (mut seen, mut raw, mut seq) = (0, Vec::new(), 0);
        let mut since = 0;
        while seen < MESSAGES {
            let group = groups.recv().await.unwrap();
            raw.extend(group.messages.iter().flat_map(|message| message.readings.clone()));
            seen = group.messages.last().unwrap().ticket;
            since += 1;
            if since == GROUPS_PER_CHECKPOINT || seen == MESSAGES {
                since = 0;
                seq += 1;
                take_checkpoint(&checkpoints, stream, group.pos, std::mem::take(&mut raw)).await;
                recorder.mark(OUTPUTS + seq);
                if seq % 3 == 0 {
                    let rows = handle.outputs(Lane::Data, 0, usize::MAX).await.unwrap();
                    let settled = Settled { ids: vec![rows[0].id], floors: vec![(rows[0].subject, seq)] };
                    handle.settle(settled).await.unwrap();
                }
            }
        }
    };
    tokio::join!(send, promise, process);
    stop.cancel();
    thread.join().unwrap().unwrap();
}

async fn take_checkpoint(
    checkpoints: &mpsc::Sender<(Checkpoint, oneshot::Sender<()>)>,
    stream: StreamId,
    pos: u64,
    raw: Vec<Reading>,
) {
    let block = RawBlock {
        stream,
        timeline: Timeline::Sensor,
        from: raw[0].time,
        to: raw[raw.len() - 1].time,
        readings: u32::try_from(raw.len()).unwrap(),
        block: block::encode_readings(&raw),
    };
    let output = Output { stream, lane: Lane::Data, boot: None, rows: 1, body: pos.to_le_bytes().to_vec() };
    let checkpoint = Checkpoint {
        pos,
        state: pos.to_le_bytes().to_vec(),
        raw: vec![block],
        outputs: vec![output],
        urgent: true,
    };
    let (reply, done) = oneshot::channel();
    checkpoints.send((checkpoint, reply)).await.unwrap();
    done.await.unwrap();
}

/// Opens an image and looks for every promise.
fn check(folder: &Path, image: &Image) -> Result<(), String> {
    let (store, start) = Store::open(policy(folder)).map_err(|err| format!("does not open: {err:?}"))?;
    if let Some(aside) = start.set_aside {
        // A database that was not finished being made has promised nothing.
        return if image.promised.is_empty() { Ok(()) } else { Err(format!("set aside: {}", aside.reason)) };
    }
    drop(store);
    let db = Connection::open(folder.join("telemetry.db")).map_err(|err| err.to_string())?;
    let held = readings(&db).map_err(|err| err.to_string())?;
    let once: BTreeSet<i64> = held.iter().copied().collect();
    if once.len() != held.len() {
        return Err("a reading is there twice".to_owned());
    }
    let identities: BTreeSet<u16> = start.seen[&DOOR].iter().map(|identity| identity.pkid).collect();
    for promise in &image.promised {
        if let Some(seq) = promise.checked_sub(OUTPUTS) {
            let next: u64 = db
                .query_row("SELECT next_seq FROM subject", [], |row| row.get(0))
                .map_err(|err| format!("no subject: {err}"))?;
            if next <= seq {
                return Err(format!("output {seq} is gone"));
            }
        } else if !once.contains(&i64::try_from(*promise).unwrap()) {
            return Err(format!("acknowledged reading {promise} is gone"));
        } else if !identities.contains(&u16::try_from(*promise).unwrap()) {
            return Err(format!("identity of acknowledged message {promise} is gone"));
        }
    }
    // What is identified but not held would be dropped when it comes again.
    match identities.iter().find(|pkid| !once.contains(&i64::from(**pkid))) {
        Some(pkid) => Err(format!("message {pkid} would be taken for a copy, and its reading is nowhere")),
        None => Ok(()),
    }
}

/// Values of all readings in hot rows and in the ring.
fn readings(db: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut values = Vec::new();
    let mut take = |readings: Vec<Reading>| {
        values.extend(readings.iter().map(|reading| reading.value.as_f64() as i64));
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
