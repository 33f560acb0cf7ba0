//! Bytes that reach the device for each reading, at 100 and at 1,000 readings a second; and bytes that stay on it.
//!
//! Method. Each store has an ext4 of its own on a loop device (defaults, noatime, commit=60); counted are the sectors the device was
//! asked to write, from the first reading until the store is closed and the file system synced: log, checkpoints,
//! the file system's own journal. All stores take W1 (a reading a second of each series) at the same time, paced in real
//! time, because the file system's journal writes every five seconds of real time whatever is done:
//! - frond's store, with checkpoints, raw blocks and one-minute windows as the pipeline makes them (the pipeline's own
//!   timers follow the wall clock, so the bench makes the checkpoints itself, by the same rule);
//! - SQLite, a row each, one transaction a second; and SQLite, a transaction for each row (WAL, synchronous FULL both);
//! - a JetStream file store with `sync_interval: 1s`, 40 bytes of JSON a message, one subject a series.
//!
//! The row-a-commit store is given a few thousand rows only: it does the same for each. Then frond and the one-second
//! batches again, compressed: the same commits without the pauses, long enough for many write-ahead log checkpoints.
//!
//! `FROND_BENCH_SECONDS` is the real-time part (150), `FROND_BENCH_COMPRESSED` the seconds of the compressed part (1,800).

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use frond::block::{self, Rows};
use frond::journal::{Checkpoint, hot};
use frond::platform::vfs;
use frond::reduce::Reducer;
use frond::sample::{Message, Reading, SECOND, Timeline};
use frond::store::Inbound;
use rusqlite::{Connection, params};
use tokio::time::{Instant, MissedTickBehavior};

use rig::store::Running;
use rig::{Disk, Peer, Written, setting};

mod rig;
#[path = "w1/mod.rs"]
#[allow(dead_code)]
mod w1;

const ROWS_ALONE: usize = 3_000;
const DISK_MIB: u64 = 512;

/// One store's result.
struct Outcome {
    name: String,
    readings: u64,
    written: Written,
    /// What SQLite wrote, log and database apart.
    files: Option<(u64, u64)>,
    /// Bytes of the files at the end.
    kept: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Pace {
    RealTime,
    Compressed,
}

fn main() {
    rig::headline("wear", "bytes to the device per reading, everything counted");
    let seconds = setting("FROND_BENCH_SECONDS", 150.0) as usize;
    let compressed = setting("FROND_BENCH_COMPRESSED", 1_800.0) as usize;
    if let Err(err) = Disk::make(DISK_MIB) {
        println!("skipped: a loop device cannot be made here ({err}); it takes root");
        return;
    }
    sizes();
    for (pace, seconds) in [(Pace::RealTime, seconds), (Pace::Compressed, compressed)] {
        let outcomes = run(&[1_000, 100], seconds, pace);
        print(&outcomes, seconds, pace);
    }
}

fn run(rates: &[usize], seconds: usize, pace: Pace) -> Vec<Outcome> {
    if seconds == 0 {
        return Vec::new();
    }
    thread::scope(|scope| {
        let mut running = Vec::new();
        for &rate in rates {
            running.push(scope.spawn(move || alone(frond(rate, seconds, pace))));
            running.push(scope.spawn(move || alone(sqlite_batches(rate, seconds, pace))));
            if pace == Pace::RealTime {
                running.push(scope.spawn(move || alone(jetstream(rate, seconds))));
            }
        }
        if pace == Pace::RealTime {
            running.push(scope.spawn(sqlite_rows));
        }
        running.into_iter().map(|store| store.join().expect("no store panics")).collect()
    })
}

fn alone<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

fn print(outcomes: &[Outcome], seconds: usize, pace: Pace) {
    let per = |bytes: u64, outcome: &Outcome| format!("{:.1}", bytes as f64 / outcome.readings as f64);
    let rows: Vec<Vec<String>> = outcomes
        .iter()
        .map(|outcome| {
            let written = outcome.written;
            let files = outcome.files.map_or(("-".into(), "-".into()), |(log, database)| {
                (per(log, outcome), per(database, outcome))
            });
            vec![
                outcome.name.clone(),
                outcome.readings.to_string(),
                per(written.bytes, outcome),
                files.0,
                files.1,
                format!("{:.1} KiB", written.bytes as f64 / written.writes.max(1) as f64 / 1_024.0),
                written.flushes.to_string(),
                per(outcome.kept, outcome),
            ]
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    let title = match pace {
        Pace::RealTime => format!("Real time, {seconds} s"),
        Pace::Compressed => format!(
            "Compressed, {seconds} s of W1 as fast as it goes: the file system's journal has little part in it"
        ),
    };
    let head =
        ["", "readings", "device B/reading", "log", "database", "mean write", "flushes", "kept B/reading"];
    rig::table(&title, &head, &rows);
}

/// What a reading takes, hot and compacted, without a store around it.
fn sizes() {
    let mut rows = Vec::new();
    for rate in [1_000usize, 100] {
        let groups = groups(rate, 60);
        let hot: usize = groups.iter().map(|group| hot::encode(&[], group).len()).sum();
        let mut readings: Vec<Reading> = groups.iter().flatten().flat_map(|m| m.readings.clone()).collect();
        readings.sort_by_key(|reading| (reading.series, reading.time));
        let raw = block::encode_readings(&readings).len();
        let count = readings.len() as f64;
        rows.push(vec![
            format!("{rate}/s"),
            format!("{:.2}", hot as f64 / count),
            format!("{:.2}", raw as f64 / count),
        ]);
    }
    rig::table(
        "Encoded bytes per buffered reading",
        &["W1 at", "hot (a second's group)", "compacted (a minute's block)"],
        &rows,
    );
}

/// W1 in groups of exactly a second's worth, in the order of arrival; tickets and identifiers as a door gives them.
fn groups(rate: usize, seconds: usize) -> Vec<Vec<Message>> {
    let commits = w1::commits(rate as u32, seconds as i64, w1::Whole::AsFloat);
    let mut messages = commits.into_iter().flatten().collect::<Vec<_>>().into_iter();
    let mut groups = Vec::with_capacity(seconds);
    while groups.len() < seconds {
        groups.push(messages.by_ref().take(rate).collect());
    }
    groups
}

async fn tick(pace: Pace, interval: &mut tokio::time::Interval) {
    if pace == Pace::RealTime {
        interval.tick().await;
    }
}

fn every_second() -> tokio::time::Interval {
    let mut interval = tokio::time::interval_at(Instant::now(), Duration::from_secs(1));
    interval.set_missed_tick_behavior(MissedTickBehavior::Burst);
    interval
}

async fn frond(rate: usize, seconds: usize, pace: Pace) -> Outcome {
    let groups = groups(rate, seconds);
    let disk = Disk::make(DISK_MIB).expect("it could be made before");
    let folder = disk.path().join("data");
    let counted = vfs::counters_of(&folder.join("telemetry.db"));
    // A group is a second's worth; the interval only has to be longer than that takes.
    let mut running = Running::start(rig::store::policy(&folder, rate, Duration::from_secs(30)));
    running.intern(rate as u32).await;
    // The log is filled ahead when the database is opened: 4 MiB for each start, not for each reading.
    disk.sync().expect("the disk syncs");
    let before = disk.written();
    let mut gathered = Gathered::new(60);
    let (mut interval, mut ticket, mut outstanding) = (every_second(), 0, None);
    for (second, group) in groups.into_iter().enumerate() {
        tick(pace, &mut interval).await;
        for mut message in group {
            ticket = message.ticket;
            message.stream = running.stream;
            running.inbound.send(Inbound::Message(message)).await.expect("the store runs");
        }
        running.durable.wait_for(|durable| *durable >= ticket).await.expect("the store runs");
        if let Some(reply) = outstanding.take() {
            let reply: tokio::sync::oneshot::Receiver<()> = reply;
            reply.await.expect("it was committed with the group");
        }
        let committed = running.committed.recv().await.expect("the store runs");
        gathered.take(&committed.messages, second as i64);
        if gathered.is_due(second as i64) {
            outstanding = Some(running.checkpoint(gathered.checkpoint(&running, committed.pos)).await);
        }
    }
    running.stop();
    disk.sync().expect("the disk syncs");
    let (log, database) =
        (counted.wal.counts().bytes, counted.database.counts().bytes + counted.other.counts().bytes);
    Outcome {
        name: format!("frond, {rate}/s"),
        readings: (rate * seconds) as u64,
        written: disk.written() - before,
        files: Some((log, database)),
        kept: rig::size_of(&folder),
    }
}

/// The pipeline's rule for checkpoints, in seconds of the data.
struct Gathered {
    reducer: Reducer,
    closed: Vec<block::WindowRow>,
    raw: Vec<Reading>,
    length: i64,
    last: i64,
    closed_since: Option<i64>,
}

impl Gathered {
    fn new(window: i64) -> Gathered {
        let reducer = Reducer::new(window * SECOND, 5 * SECOND);
        Gathered {
            reducer,
            closed: Vec::new(),
            raw: Vec::new(),
            length: window * SECOND,
            last: 0,
            closed_since: None,
        }
    }

    fn take(&mut self, messages: &[Message], now: i64) {
        for reading in messages.iter().flat_map(|message| &message.readings) {
            self.raw.push(*reading);
            self.reducer.push(Timeline::Sensor, *reading, now * SECOND);
        }
        self.reducer.advance(now * SECOND);
        self.closed.extend(self.reducer.take_closed().into_iter().map(|closed| closed.row));
    }

    fn is_due(&mut self, now: i64) -> bool {
        if self.closed_since.is_none() && !self.closed.is_empty() {
            self.closed_since = Some(now);
        }
        self.raw.len() >= 65_536
            || now - self.last >= 60
            || self.closed_since.is_some_and(|since| now - since >= 5)
    }

    fn checkpoint(&mut self, running: &Running, pos: u64) -> Checkpoint {
        self.last = pos as i64 - 1;
        self.closed_since = None;
        let mut raw = std::mem::take(&mut self.raw);
        raw.sort_by_key(|reading| (reading.series, reading.time));
        let mut closed = std::mem::take(&mut self.closed);
        closed.sort_by_key(|row| (row.series, row.start));
        let outputs = closed
            .chunks(1_024)
            .map(|rows| {
                let rows_in = Rows::Windows { length: self.length, rows: rows.to_vec() };
                rig::store::output(running.stream, rows.len(), rows_in)
            })
            .collect();
        let state = self.reducer.snapshot();
        if std::env::var_os("FROND_BENCH_VERBOSE").is_some() {
            let blocks = rig::store::raw_blocks(running.stream, &raw);
            let bytes: usize = blocks.iter().map(|block| block.block.len()).sum();
            let out: &Vec<frond::outbox::Output> = &outputs;
            let body: usize = out.iter().map(|output| output.body.len()).sum();
            println!(
                "checkpoint at {pos}: {} readings in {bytes} B, {} windows in {body} B, state {} B",
                raw.len(),
                closed.len(),
                state.len()
            );
        }
        Checkpoint { pos, state, raw: rig::store::raw_blocks(running.stream, &raw), outputs, urgent: false }
    }
}

fn sqlite(path: &Path) -> Connection {
    let db = Connection::open(path).expect("SQLite opens");
    db.pragma_update(None, "journal_mode", "WAL").expect("WAL");
    db.pragma_update(None, "synchronous", "FULL").expect("FULL");
    db.execute_batch(
        "CREATE TABLE reading (series INTEGER NOT NULL, time INTEGER NOT NULL, value REAL NOT NULL)",
    )
    .expect("a table");
    db
}

fn insert(db: &Connection, reading: &Reading) {
    db.prepare_cached("INSERT INTO reading VALUES (?1, ?2, ?3)")
        .and_then(|mut statement| {
            statement.execute(params![reading.series.0, reading.time / 1_000_000, reading.value.as_f64()])
        })
        .expect("a row");
}

async fn sqlite_batches(rate: usize, seconds: usize, pace: Pace) -> Outcome {
    let groups = groups(rate, seconds);
    let disk = Disk::make(DISK_MIB).expect("it could be made before");
    let before = disk.written();
    let path = disk.path().join("readings.db");
    let db = sqlite(&path);
    let mut interval = every_second();
    for group in groups {
        tick(pace, &mut interval).await;
        db.execute_batch("BEGIN").expect("SQLite begins");
        group.iter().flat_map(|message| &message.readings).for_each(|reading| insert(&db, reading));
        db.execute_batch("COMMIT").expect("SQLite commits");
    }
    drop(db);
    disk.sync().expect("the disk syncs");
    Outcome {
        name: format!("SQLite, a commit a second, {rate}/s"),
        readings: (rate * seconds) as u64,
        written: disk.written() - before,
        files: None,
        kept: path.metadata().map_or(0, |meta| meta.len()),
    }
}

fn sqlite_rows() -> Outcome {
    let disk = Disk::make(DISK_MIB).expect("it could be made before");
    let before = disk.written();
    let path = disk.path().join("readings.db");
    let db = sqlite(&path);
    let groups = groups(1_000, ROWS_ALONE / 1_000);
    groups.iter().flatten().flat_map(|message| &message.readings).for_each(|reading| insert(&db, reading));
    drop(db);
    disk.sync().expect("the disk syncs");
    Outcome {
        name: "SQLite, a commit a row, any rate".into(),
        readings: ROWS_ALONE as u64,
        written: disk.written() - before,
        files: None,
        kept: path.metadata().map_or(0, |meta| meta.len()),
    }
}

async fn jetstream(rate: usize, seconds: usize) -> Outcome {
    let groups = groups(rate, seconds);
    let disk = Disk::make(DISK_MIB).expect("it could be made before");
    let (port, folder) = (rig::free_port(), tempfile::tempdir().expect("a temporary folder"));
    let store = disk.path().join("store");
    let conf = format!(
        "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\", sync_interval: 1s }}\n",
        store.display()
    );
    std::fs::write(folder.path().join("nats.conf"), conf).expect("the folder is writable");
    let before = disk.written();
    let mut command = Command::new(rig::program("FROND_NATS_SERVER", "nats-server"));
    let server = Peer::start("nats-server", command.args(["-c", "nats.conf"]), folder.path());
    rig::listens(port).await;
    let client = async_nats::connect(format!("127.0.0.1:{port}")).await.expect("the server is there");
    let mut context = async_nats::jetstream::new(client);
    // A busy machine is no reason to give up: what is counted is bytes.
    context.set_timeout(Duration::from_secs(120));
    let config = async_nats::jetstream::stream::Config {
        name: "W1".into(),
        subjects: vec!["plant.>".into()],
        ..Default::default()
    };
    context.create_stream(config).await.expect("a stream");
    let mut interval = every_second();
    for group in groups {
        tick(Pace::RealTime, &mut interval).await;
        let mut waiting = Vec::with_capacity(rate);
        for reading in group.iter().flat_map(|message| &message.readings) {
            let number = reading.series.0 - 1;
            let payload = format!("{{\"ts\":{},\"value\":{:>11}}}", reading.time / 1_000_000, reading.value);
            let subject = format!("plant.d{:03}.m{}", number / 5, number % 5);
            waiting.push(context.publish(subject, payload.into()).await.expect("the server is there"));
        }
        for acknowledgement in waiting {
            acknowledgement.await.expect("the server acknowledges");
        }
    }
    // Past the last sync of its own.
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(server);
    disk.sync().expect("the disk syncs");
    Outcome {
        name: format!("JetStream, sync_interval 1s, {rate}/s"),
        readings: (rate * seconds) as u64,
        written: disk.written() - before,
        files: None,
        kept: rig::size_of(&store),
    }
}
