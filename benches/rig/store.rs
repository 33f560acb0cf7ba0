//! Frond's store, run by the bench itself: the thread, the channels, and checkpoints made as the pipeline makes them.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use frond::block::{self, Envelope, Rows, SeriesEntry, WireClock};
use frond::config::{self, FullPolicy};
use frond::journal::{Checkpoint, Committed, RawBlock};
use frond::outbox::Output;
use frond::platform::clock::{Beginning, ClockKeeper};
use frond::sample::{DoorId, Durability, Lane, Reading, SeriesId, StreamId, Timeline};
use frond::store::{Channels, DoorSetup, Handle, Inbound, Peers, Policy, Store, StoreError, StreamPolicy};
use frond::supervise::Tasks;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// The one stream of these stores.
pub const STREAM: &str = "w1";
/// As the pipeline cuts them.
const READINGS_PER_RAW_BLOCK: usize = 32_768;
const READINGS_PER_OUTPUT: usize = 8_192;

/// The settings of a store whose groups are committed at so many readings.
pub fn policy(folder: &Path, group: usize, commit_interval: Duration) -> Policy {
    let stream = StreamPolicy { full: FullPolicy::DropOldest, outbox_bytes_max: None, series_max: 10_000 };
    Policy {
        data_dir: folder.to_owned(),
        journal: config::Journal {
            commit_interval,
            commit_interval_max: commit_interval,
            commit_readings_max: group,
            checkpoint_interval: Duration::from_secs(60),
            checkpoint_interval_min: Duration::from_secs(5),
            ring_bytes_max: 256 << 20,
            wear_bytes_per_day: 0,
        },
        outbox: config::Outbox { bytes_max: 512 << 20, age_max: None },
        retained_bytes_max: 4 << 20,
        streams: BTreeMap::from([(STREAM.to_owned(), stream)]),
        doors: BTreeMap::from([(
            DoorId(0),
            DoorSetup { durability: Durability::Reading, window: 4_000, peers: Peers::Broker },
        )]),
    }
}

/// A store that runs.
pub struct Running {
    pub handle: Handle,
    pub inbound: mpsc::Sender<Inbound>,
    pub checkpoints: mpsc::Sender<(Checkpoint, oneshot::Sender<()>)>,
    pub committed: mpsc::Receiver<Committed>,
    pub durable: watch::Receiver<u64>,
    pub stream: StreamId,
    stop: CancellationToken,
    thread: JoinHandle<Result<(), StoreError>>,
    _keeper: ClockKeeper,
}

impl Running {
    /// Opens the database and starts its thread.
    pub fn start(policy: Policy) -> Running {
        let (store, mut start) = Store::open(policy).expect("the store opens");
        let (inbound, inbound_in) = mpsc::channel(256);
        let (commands, commands_in) = mpsc::channel(32);
        let (checkpoints, checkpoints_in) = mpsc::channel(1);
        let (committed_out, committed) = mpsc::channel(4);
        let trust = config::Clock { trust: config::Trust::Always, synchronized_file: "/nowhere".into() };
        let beginning = Beginning { boot: start.boot, newest: start.floor, estimate: start.estimate };
        let (keeper, clock, correction) = ClockKeeper::new(&trust, beginning);
        let channels = Channels {
            inbound: inbound_in,
            commands: commands_in,
            checkpoints: checkpoints_in,
            committed: committed_out,
            correction,
        };
        let stop = CancellationToken::new();
        let (stopped, beat) = (stop.clone(), Tasks::new().beat("store", Duration::from_secs(600)));
        let thread = std::thread::spawn(move || store.run(channels, clock, &beat, &stopped));
        Running {
            handle: Handle { commands, newest: start.newest.clone(), epoch: start.epoch },
            inbound,
            checkpoints,
            committed,
            durable: start.durable.remove(&DoorId(0)).expect("the policy has this door"),
            stream: start.streams[STREAM],
            stop,
            thread,
            _keeper: keeper,
        }
    }

    /// Numbers the series 1 to `count`.
    pub async fn intern(&self, count: u32) {
        for number in 1..=count {
            let outcome = self.handle.intern(self.stream, entry(number)).await.expect("the store runs");
            assert_eq!(outcome, Ok(SeriesId(number)), "a new store numbers series from 1");
        }
    }

    /// Hands over a checkpoint. The answer comes with the commit that contains it.
    pub async fn checkpoint(&self, checkpoint: Checkpoint) -> oneshot::Receiver<()> {
        let (reply, done) = oneshot::channel();
        self.checkpoints.send((checkpoint, reply)).await.expect("the store runs");
        done
    }

    /// Stops the store and closes the database, as a gateway that is asked to stop does.
    pub fn stop(self) {
        self.stop.cancel();
        drop(self.committed);
        self.thread.join().expect("the store does not panic").expect("the store ends well");
    }
}

/// What a series is called: as 200 devices with five values each.
pub fn entry(number: u32) -> SeriesEntry {
    let name = format!("plant/d{:03}/m{}", (number - 1) / 5, (number - 1) % 5);
    SeriesEntry { name, unit: String::new(), labels: BTreeMap::new() }
}

/// Readings as blocks of the ring, as the pipeline makes them.
pub fn raw_blocks(stream: StreamId, sorted: &[Reading]) -> Vec<RawBlock> {
    let block = |chunk: &[Reading]| RawBlock {
        stream,
        timeline: Timeline::Sensor,
        from: chunk.iter().map(|reading| reading.time).min().unwrap_or(0),
        to: chunk.iter().map(|reading| reading.time).max().unwrap_or(0),
        readings: u32::try_from(chunk.len()).expect("a chunk is small"),
        block: block::encode_readings(chunk),
    };
    sorted.chunks(READINGS_PER_RAW_BLOCK).map(block).collect()
}

/// Readings as outputs of a stream with `reduce = "none"`, as the pipeline makes them.
pub fn forwarded(stream: StreamId, sorted: &[Reading]) -> Vec<Output> {
    sorted
        .chunks(READINGS_PER_OUTPUT)
        .map(|chunk| output(stream, chunk.len(), Rows::Raw(chunk.to_vec())))
        .collect()
}

/// Rows as an output.
pub fn output(stream: StreamId, count: usize, rows: Rows) -> Output {
    let numbers: Vec<SeriesId> = match &rows {
        Rows::Raw(readings) => readings.iter().map(|reading| reading.series).collect(),
        Rows::Windows { rows, .. } => rows.iter().map(|row| row.series).collect(),
        Rows::Alarms(_) => Vec::new(),
    };
    let series = numbers.into_iter().map(|id| (id, entry(id.0))).collect();
    let envelope = Envelope { stream: STREAM.to_owned(), clock: WireClock::Sensor, series, rows };
    let rows = u32::try_from(count).expect("an output is small");
    Output { stream, lane: Lane::Data, boot: None, rows, body: block::encode_envelope(&envelope) }
}

/// Fills a database with a backlog of `readings`: each is in the ring, and in the outbox as it is. The last
/// `tail` of them are in the journal only, as after a crash shortly before a checkpoint.
pub async fn fill(folder: &Path, readings: u64, tail: usize, rows: &[Reading]) {
    let mut policy = policy(folder, 1_000, Duration::from_millis(1));
    policy.journal.ring_bytes_max = 4 << 30;
    policy.outbox.bytes_max = 4 << 30;
    let mut running = Running::start(policy);
    running.intern(1_000).await;
    let mut left = readings - tail as u64;
    let whole = (raw_blocks(running.stream, rows), forwarded(running.stream, rows));
    while left > 0 {
        let take = rows.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (raw, outputs) = if take == rows.len() {
            whole.clone()
        } else {
            (raw_blocks(running.stream, &rows[..take]), forwarded(running.stream, &rows[..take]))
        };
        let checkpoint = Checkpoint { pos: 0, state: Vec::new(), raw, outputs, urgent: true };
        running.checkpoint(checkpoint).await.await.expect("the store answers");
        left -= take as u64;
    }
    let mut ticket = 0;
    for reading in &rows[..tail] {
        ticket += 1;
        let message = frond::sample::Message {
            door: DoorId(0),
            ticket,
            session: frond::sample::SessionId::NONE,
            pkid: u16::try_from(ticket).expect("the tail is short"),
            stream: running.stream,
            timeline: Timeline::Sensor,
            readings: vec![*reading],
        };
        running.inbound.send(Inbound::Message(message)).await.expect("the store runs");
        if ticket % 1_000 == 0 {
            running.durable.wait_for(|durable| *durable >= ticket).await.expect("the store runs");
            running.committed.recv().await.expect("the store runs");
        }
    }
    running.stop();
    let left = folder.join("telemetry.db-wal").metadata().map_or(0, |meta| meta.len());
    assert_eq!(left, 0, "a store that is stopped leaves no log");
}
