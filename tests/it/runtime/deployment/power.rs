//! Power cuts during a deployment: the real store under the pipeline, with a tape on everything done to the data folder.
//! Whatever a cut could leave of the database and of the files of versions, the next start has every acknowledged reading in
//! its outputs once, worked on by either version.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use frond::block::{self, Rows, SeriesEntry};
use frond::config::{self, Config, FullPolicy};
use frond::platform::clock::{Beginning, ClockKeeper};
use frond::runtime::{
    Answer, Artifact, DeploymentStats, How, Inheritance, Order, Pipeline, PipelineStats, Setup, Stage,
};
use frond::sample::{DoorId, Durability, Message, Reading, SeriesId, SessionId, StreamId, Timeline, Value};
use frond::store::{Channels, DoorSetup, Handle, Inbound, Peers, Policy, Store, StoreStats, StreamPolicy};
use frond::supervise::Tasks;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::rig::{Site, TRIGGER, wasm};
use crate::power_rig::{Image, Recorder, check_images, scratch};
use crate::runtime::{compiler, shared_cache};

const DOOR: DoorId = DoorId(0);
const FACT_MAX: Duration = Duration::from_secs(60);
/// Variants of each window between two syncs, beside the two plain ones.
const PER_WINDOW: usize = 1;
/// The time of the reading that is sent after the cut.
const AFTERWARDS: u64 = 1_000_000;

/// A store and a pipeline at work.
struct Running {
    inbound: mpsc::Sender<Inbound>,
    durable: watch::Receiver<u64>,
    store: watch::Receiver<StoreStats>,
    pipeline: watch::Receiver<PipelineStats>,
    orders: mpsc::Sender<(Order, oneshot::Sender<Answer>)>,
    stream: StreamId,
    series: SeriesId,
    stops: [CancellationToken; 2],
    threads: [JoinHandle<()>; 2],
    runtime: tokio::runtime::Runtime,
}

fn policy(folder: &Path, journal: &config::Journal) -> Policy {
    let stream = StreamPolicy { full: FullPolicy::DropOldest, outbox_bytes_max: None, series_max: 10 };
    Policy {
        data_dir: folder.to_owned(),
        journal: journal.clone(),
        outbox: config::Outbox { bytes_max: 16 << 20, age_max: None },
        retained_bytes_max: 1 << 20,
        streams: BTreeMap::from([("s".to_owned(), stream)]),
        doors: BTreeMap::from([(
            DOOR,
            DoorSetup { durability: Durability::Reading, window: 1_000, peers: Peers::Broker },
        )]),
    }
}

impl Running {
    fn start(folder: &Path, config: &Config) -> Result<Running, String> {
        let journal = config::Journal {
            commit_interval: Duration::from_millis(1),
            commit_interval_max: Duration::from_millis(1),
            wear_bytes_per_day: 0,
            ..config.journal.clone()
        };
        let (store, start) =
            Store::open(policy(folder, &journal)).map_err(|err| format!("does not open: {err:?}"))?;
        let (inbound, inbound_in) = mpsc::channel(4);
        let (commands, commands_in) = mpsc::channel(4);
        let (checkpoints, checkpoints_in) = mpsc::channel(1);
        let (committed, groups) = mpsc::channel(4);
        let (orders, orders_in) = mpsc::channel(4);
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
        let stops = [CancellationToken::new(), CancellationToken::new()];
        let (stopped, beat) = (stops[1].clone(), Tasks::new().beat("store", FACT_MAX));
        let store_clock = clock.clone();
        let storing = thread::spawn(move || store.run(channels, store_clock, &beat, &stopped).unwrap());
        let stream = start.streams["s"];
        let handle = Handle { commands, newest: start.newest.clone(), epoch: start.epoch };
        let position = start.stats.borrow().checkpoint_position;
        let setup = Setup {
            streams: vec![(stream, config.streams[0].clone())],
            components: config.components.clone(),
            journal,
            state: start.state,
            series: start.series,
            stream_names: start.stream_names,
            boots: start.boots,
            store: handle.clone(),
            compiler: compiler().to_owned(),
            cache_dir: shared_cache(),
            data_dir: folder.to_owned(),
            commands: frond::runtime::command::channel().0,
            clock: clock.clone(),
            around: None,
            position,
            replay: start.replay,
        };
        let (pipeline, stats) = Pipeline::new(setup);
        let (stopped, beat) = (stops[0].clone(), Tasks::new().beat("pipeline", FACT_MAX));
        let piping = thread::spawn(move || {
            pipeline.run((groups, orders_in), checkpoints, &beat, &stopped).unwrap();
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let entry = SeriesEntry { name: "a".into(), unit: String::new(), labels: BTreeMap::new() };
        let series = runtime.block_on(handle.intern(stream, entry)).unwrap().unwrap();
        let durable = start.durable[&DOOR].clone();
        Ok(Running {
            inbound,
            durable,
            store: start.stats,
            pipeline: stats,
            orders,
            stream,
            series,
            stops,
            threads: [piping, storing],
            runtime,
        })
    }

    /// Sends one reading, and waits until it is acknowledged.
    fn send(&mut self, ticket: u64, time: u64, value: f64) {
        let (series, time) = (self.series, i64::try_from(time).unwrap());
        let message = Message {
            door: DOOR,
            ticket,
            session: SessionId::NONE,
            pkid: u16::try_from(ticket).unwrap(),
            stream: self.stream,
            timeline: Timeline::Sensor,
            readings: vec![Reading { series, time, value: Value::Float(value) }],
        };
        self.inbound.blocking_send(Inbound::Message(message)).unwrap();
        let durable = self.durable.wait_for(|durable| *durable >= ticket);
        let durable = self.runtime.block_on(async { tokio::time::timeout(FACT_MAX, durable).await });
        durable.expect("it is acknowledged").unwrap();
    }

    fn until(&mut self, what: &str, satisfies: impl FnMut(&PipelineStats) -> bool) {
        let waited = self.pipeline.wait_for(satisfies);
        let waited = self.runtime.block_on(async { tokio::time::timeout(FACT_MAX, waited).await.map(drop) });
        waited.unwrap_or_else(|_| panic!("not seen: {what}"));
    }

    fn until_deployment(&mut self, what: &str, satisfies: impl Fn(&DeploymentStats) -> bool) {
        self.until(what, |stats| {
            let guest = stats.components.get("guest").and_then(|guest| guest.deployment.as_ref());
            guest.is_some_and(&satisfies)
        });
    }

    /// Ends in order: the pipeline's last checkpoint is written.
    fn stop(self) {
        let Running { stops, threads, inbound, orders, .. } = self;
        for (stop, thread) in stops.into_iter().zip(threads) {
            stop.cancel();
            thread.join().unwrap();
        }
        drop((inbound, orders));
    }
}

#[test]
fn a_power_cut_anywhere_in_a_deployment_loses_no_acknowledged_reading() {
    // Goal and method: see above. The deployment goes through every phase, and fails on probation.
    let site = Site::new("misbehave", "probation = \"1h\"", "");
    let folder = scratch();
    let recorder = Recorder::start(folder.path());
    record(folder.path(), &site.config, &recorder);
    let tape = recorder.tape();
    drop(recorder);
    let checked = check_images(&tape, 23, PER_WINDOW, |folder, image| check(folder, image, &site.config));
    match checked {
        Ok(images) => {
            println!("{images} images opened");
            assert!(images > 60, "only {images} images: the tape is too short to mean anything");
        }
        Err(broken) => panic!("window {}, {:?}: {}", broken.image.window, broken.image.variant, broken.why),
    }
}

fn record(folder: &Path, config: &Config, recorder: &Recorder) {
    let mut running = Running::start(folder, config).unwrap();
    let mut ticket = 0;
    let mut send = |running: &mut Running, value: f64| {
        ticket += 1;
        running.send(ticket, ticket, value);
        recorder.mark(ticket);
    };
    for _ in 0..4 {
        send(&mut running, 1.0);
    }
    let (reply, answer) = oneshot::channel();
    let bytes = wasm("successor");
    let order = Order::Deploy {
        component: "guest".into(),
        state: Inheritance::Carried,
        bytes: bytes.len() as u64,
        artifact: Artifact(bytes),
    };
    running.orders.blocking_send((order, reply)).unwrap();
    assert!(matches!(answer.blocking_recv().unwrap(), Answer::Done(_)));
    send(&mut running, 2.0);
    running.until_deployment("a trial", |one| one.stage == Stage::Trial);
    for _ in 0..4 {
        send(&mut running, 3.0);
    }
    running.until_deployment("a probation", |one| one.stage == Stage::Probation);
    for _ in 0..4 {
        send(&mut running, 4.0);
    }
    send(&mut running, TRIGGER);
    running.until_deployment("its end", |one| one.last == Some(How::RolledBack));
    for _ in 0..4 {
        send(&mut running, 5.0);
    }
    running.stop();
}

/// Starts from an image, lets everything be worked on, and looks for every promise.
fn check(folder: &Path, image: &Image, config: &Config) -> Result<(), String> {
    let mut running = Running::start(folder, config)?;
    running.send(1, AFTERWARDS, 9.0);
    let last = running.store.borrow().position;
    running.until("everything worked on", |stats| stats.position >= last);
    running.stop();
    let rows = left(folder).map_err(|err| err.to_string())?;
    let mut once = BTreeMap::new();
    for (time, value) in rows {
        if once.insert(time, value).is_some() {
            return Err(format!("reading {time} has left twice"));
        }
    }
    for promise in image.promised.iter().chain([&AFTERWARDS]) {
        let Some(value) = once.get(&i64::try_from(*promise).unwrap()) else {
            return Err(format!("acknowledged reading {promise} has not left"));
        };
        let worked_on =
            [1.0, 2.0, 3.0, 4.0, 5.0, TRIGGER, 9.0].iter().any(|sent| [1.0, 2.0].contains(&(value - sent)));
        if !worked_on {
            return Err(format!("reading {promise} has left as {value}"));
        }
    }
    Ok(())
}

/// Times and values of what waits for the hub.
fn left(folder: &Path) -> rusqlite::Result<Vec<(i64, f64)>> {
    let db = Connection::open(folder.join("telemetry.db"))?;
    let mut query = db.prepare("SELECT body FROM outbox")?;
    let bodies: Vec<Vec<u8>> = query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut rows = Vec::new();
    for body in bodies {
        let envelope = block::decode_envelope(&body).expect("a committed output decodes");
        let Rows::Raw(readings) = envelope.rows else { panic!("the stream is not reduced") };
        rows.extend(readings.iter().map(|reading| (reading.time, reading.value.as_f64())));
    }
    Ok(rows)
}
