//! The store with a real database in a temporary folder, driven through its channels.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::block::SeriesEntry;
use crate::config::{self, FullPolicy};
use crate::journal::{Checkpoint, Committed, RawBlock, RetainedChange, RetainedRow};
use crate::outbox::{Output, Settled};
use crate::platform::clock::{Beginning, ClockKeeper};
use crate::platform::vfs::{self, Failure, Fault, Step, Tap};
use crate::sample::{DoorId, Durability, Lane, Message, Reading, SeriesId, StreamId, Timeline, Value};
use crate::supervise::Tasks;

const READING: DoorId = DoorId(0);
const WINDOW: DoorId = DoorId(1);
const NONE: DoorId = DoorId(2);
/// A fact that is not there within this time will not come.
const SOON: Duration = Duration::from_secs(20);

/// A running store and the other ends of its channels.
struct Bench {
    handle: Handle,
    inbound: mpsc::Sender<Inbound>,
    checkpoints: mpsc::Sender<(Checkpoint, oneshot::Sender<()>)>,
    committed: mpsc::Receiver<Committed>,
    durable: BTreeMap<DoorId, watch::Receiver<u64>>,
    seen: BTreeMap<DoorId, Vec<crate::sample::Identity>>,
    stats: watch::Receiver<StoreStats>,
    state: Vec<u8>,
    stream: StreamId,
    set_aside: Option<SetAside>,
    stop: CancellationToken,
    thread: std::thread::JoinHandle<Result<(), StoreError>>,
}

fn policy(folder: &Path) -> Policy {
    let door = |durability| DoorSetup { durability, window: 100, peers: Peers::Broker };
    let stream = StreamPolicy { full: FullPolicy::DropOldest, outbox_bytes_max: None, series_max: 1_000 };
    Policy {
        data_dir: folder.to_owned(),
        journal: config::Journal {
            commit_interval: Duration::from_millis(20),
            commit_interval_max: Duration::from_secs(1),
            commit_readings_max: 1_000,
            checkpoint_interval: Duration::from_secs(60),
            checkpoint_interval_min: Duration::from_secs(1),
            ring_bytes_max: 1 << 20,
            wear_bytes_per_day: 0,
        },
        outbox: config::Outbox { bytes_max: 1 << 20, age_max: None },
        retained_bytes_max: 1 << 20,
        streams: BTreeMap::from([("press".to_owned(), stream)]),
        doors: BTreeMap::from([
            (READING, door(Durability::Reading)),
            (WINDOW, door(Durability::Window)),
            (NONE, door(Durability::None)),
        ]),
    }
}

impl Bench {
    fn start(policy: Policy) -> Bench {
        let (store, start) = Store::open(policy).unwrap();
        let (inbound, inbound_in) = mpsc::channel(16);
        let (commands, commands_in) = mpsc::channel(16);
        let (checkpoints, checkpoints_in) = mpsc::channel(1);
        let (committed_out, committed) = mpsc::channel(4);
        let trust = config::Clock { trust: config::Trust::Always, synchronized_file: "/nowhere".into() };
        let beginning = Beginning { boot: start.boot, newest: start.floor, estimate: start.estimate };
        let (_keeper, clock, correction) = ClockKeeper::new(&trust, beginning);
        let channels = Channels {
            inbound: inbound_in,
            commands: commands_in,
            checkpoints: checkpoints_in,
            committed: committed_out,
            correction,
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let beat = Tasks::new().beat("store", SOON);
        let thread = std::thread::spawn(move || store.run(channels, clock, &beat, &stopped));
        Bench {
            handle: Handle { commands, newest: start.newest, epoch: start.epoch },
            inbound,
            checkpoints,
            committed,
            durable: start.durable,
            seen: start.seen,
            stats: start.stats,
            state: start.state,
            stream: start.streams["press"],
            set_aside: start.set_aside,
            stop,
            thread,
        }
    }

    /// Stops in order, as at shutdown.
    fn stop(self) {
        self.stop.cancel();
        self.thread.join().unwrap().unwrap();
    }

    async fn series(&self, name: &str) -> SeriesId {
        let entry = SeriesEntry { name: name.into(), unit: String::new(), labels: BTreeMap::new() };
        self.handle.intern(self.stream, entry).await.unwrap().unwrap()
    }

    fn message(&self, door: DoorId, ticket: u64, series: SeriesId) -> Message {
        let reading = Reading { series, time: ticket as i64, value: Value::Int(ticket as i64) };
        let pkid = u16::try_from(ticket).unwrap();
        Message {
            door,
            ticket,
            session: crate::sample::SessionId::NONE,
            pkid,
            stream: self.stream,
            timeline: Timeline::Sensor,
            readings: vec![reading],
        }
    }

    async fn send(&self, door: DoorId, tickets: std::ops::RangeInclusive<u64>, series: SeriesId) {
        for ticket in tickets {
            self.inbound.send(Inbound::Message(self.message(door, ticket, series))).await.unwrap();
        }
    }

    async fn durable(&mut self, door: DoorId, ticket: u64) {
        let receiver = self.durable.get_mut(&door).unwrap();
        within(receiver.wait_for(|last| *last >= ticket)).await.unwrap();
    }

    async fn group(&mut self) -> Committed {
        within(self.committed.recv()).await.unwrap()
    }

    /// Groups up to the one that holds this ticket of the reading door.
    async fn groups_until(&mut self, ticket: u64) -> Vec<Committed> {
        let mut groups = vec![self.group().await];
        while groups
            .last()
            .unwrap()
            .messages
            .last()
            .is_none_or(|m| m.ticket < ticket && m.pkid as u64 != ticket)
        {
            groups.push(self.group().await);
        }
        groups
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) {
        let (reply, done) = oneshot::channel();
        self.checkpoints.send((checkpoint, reply)).await.unwrap();
        within(done).await.unwrap();
    }

    fn output(&self, lane: Lane, body: &[u8]) -> Output {
        Output { stream: self.stream, lane, boot: None, rows: 1, body: body.to_vec() }
    }

    async fn outputs(&self, lane: Lane) -> Vec<(u64, Vec<u8>)> {
        let rows = self.handle.outputs(lane, 0, usize::MAX).await.unwrap();
        rows.into_iter().map(|row| (row.seq, row.body.to_vec())).collect()
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(SOON, future).await.expect("it happens soon")
}

fn pkids(groups: &[Committed]) -> Vec<u16> {
    groups.iter().flat_map(|group| group.messages.iter().map(|m| m.pkid)).collect()
}

#[tokio::test]
async fn what_others_write_to_flash_is_told_while_no_reading_arrives() {
    // Goal: the bytes written are those of now. Method: another database of the process is written, the store has no work.
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(policy(folder.path()));
    let before = bench.stats.borrow().written_bytes;
    let path = folder.path().join("other.db");
    let flags = rusqlite::OpenFlags::default();
    let other = rusqlite::Connection::open_with_flags_and_vfs(path, flags, vfs::NAME).unwrap();
    other.execute_batch("CREATE TABLE t (b BLOB); INSERT INTO t VALUES (zeroblob(1048576))").unwrap();
    within(bench.stats.wait_for(|stats| stats.written_bytes >= before + (1 << 20))).await.unwrap();
    bench.stop();
}

#[tokio::test]
async fn readings_since_the_checkpoint_come_again_after_a_restart() {
    // Goal: what was acknowledged and is in no checkpoint is passed to the pipeline again, in order, with its identities.
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(policy(folder.path()));
    let series = bench.series("a").await;
    bench.send(READING, 1..=10, series).await;
    bench.durable(READING, 10).await;
    let groups = bench.groups_until(10).await;
    bench
        .checkpoint(Checkpoint { pos: groups.last().unwrap().pos, state: vec![7], ..Checkpoint::default() })
        .await;
    bench.send(READING, 11..=15, series).await;
    bench.durable(READING, 15).await;
    bench.stop();

    let mut bench = Bench::start(policy(folder.path()));
    assert_eq!(bench.state, vec![7]);
    assert_eq!(pkids(&bench.groups_until(15).await), (11..=15).collect::<Vec<u16>>());
    let seen: Vec<u16> = bench.seen[&READING].iter().map(|identity| identity.pkid).collect();
    assert_eq!(seen, (1..=15).collect::<Vec<u16>>(), "identities of both sides of the checkpoint");
    assert_eq!(bench.series("a").await, series, "a series keeps its number");
    bench.stop();
}

#[tokio::test]
async fn a_window_stream_is_acknowledged_by_its_checkpoint_and_not_before() {
    // Goal: the ticket of a window door becomes durable with the checkpoint that contains it; its identities only then.
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(policy(folder.path()));
    let series = bench.series("a").await;
    bench.send(WINDOW, 1..=5, series).await;
    bench.send(READING, 1..=1, series).await;
    bench.durable(READING, 1).await;
    let mut groups = vec![bench.group().await];
    while pkids(&groups).len() < 6 {
        groups.push(bench.group().await);
    }
    assert_eq!(*bench.durable[&WINDOW].borrow(), 0);
    bench.checkpoint(Checkpoint { pos: groups.last().unwrap().pos, ..Checkpoint::default() }).await;
    bench.durable(WINDOW, 5).await;
    bench.send(WINDOW, 6..=6, series).await;
    bench.group().await;
    bench.stop();
    let mut bench = Bench::start(policy(folder.path()));
    assert_eq!(bench.seen[&WINDOW].len(), 5, "the sixth was not durable: its copy must be taken as new");
    assert!(bench.committed.try_recv().is_err(), "nothing of a window stream is journalled");
    bench.stop();
}

#[tokio::test]
async fn half_a_window_of_waiting_senders_hurries_the_checkpoint() {
    // Goal: senders of a window stream never wait for an interval when they can send no more.
    let folder = tempfile::tempdir().unwrap();
    let mut slow = policy(folder.path());
    slow.journal.commit_interval = Duration::from_secs(600);
    slow.journal.commit_interval_max = Duration::from_secs(600);
    let mut bench = Bench::start(slow);
    let series = bench.series("a").await;
    bench.send(WINDOW, 1..=50, series).await;
    assert!(bench.group().await.hurry);
    bench.stop();
}

#[tokio::test]
async fn a_checkpoint_that_became_urgent_on_its_way_waits_for_no_interval() {
    // Goal: a command that is given while a checkpoint is on its way leaves at once. Method: an interval of ten minutes; the
    // word comes behind the checkpoint, and before it.
    let folder = tempfile::tempdir().unwrap();
    let mut slow = policy(folder.path());
    slow.journal.commit_interval = Duration::from_secs(600);
    slow.journal.commit_interval_max = Duration::from_secs(600);
    let bench = Bench::start(slow);
    let (reply, mut done) = oneshot::channel();
    bench.checkpoints.send((Checkpoint::default(), reply)).await.unwrap();
    within(bench.checkpoints.reserve()).await.unwrap();
    // It has been taken, as what is asked after it has been answered.
    bench.series("a").await;
    assert!(done.try_recv().is_err());
    assert!(bench.handle.urge());
    within(done).await.unwrap();
    assert!(bench.handle.urge());
    bench.series("b").await;
    bench.checkpoint(Checkpoint::default()).await;
    bench.stop();
}

#[tokio::test]
async fn streams_without_durability_are_acknowledged_on_receipt() {
    // Goal: no commit is waited for, and nothing is written.
    let folder = tempfile::tempdir().unwrap();
    let mut slow = policy(folder.path());
    slow.journal.commit_interval = Duration::from_secs(600);
    slow.journal.commit_interval_max = Duration::from_secs(600);
    let mut bench = Bench::start(slow);
    bench.send(NONE, 1..=3, SeriesId(1)).await;
    bench.durable(NONE, 3).await;
    bench.stop();
}

#[tokio::test]
async fn outputs_appear_with_their_checkpoint_and_go_when_settled() {
    // Goal: sequences without holes over restarts, lanes apart, settled outputs gone for good, epoch kept.
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::start(policy(folder.path()));
    let outputs = vec![
        bench.output(Lane::Data, b"one"),
        bench.output(Lane::Alarm, b"fire"),
        bench.output(Lane::Data, b"two"),
    ];
    bench.checkpoint(Checkpoint { pos: 1, outputs, ..Checkpoint::default() }).await;
    assert_eq!(bench.outputs(Lane::Data).await, vec![(1, b"one".to_vec()), (2, b"two".to_vec())]);
    assert_eq!(bench.outputs(Lane::Alarm).await, vec![(1, b"fire".to_vec())]);
    let first = bench.handle.outputs(Lane::Data, 0, 1).await.unwrap().remove(0);
    let settled = Settled { ids: vec![first.id], floors: vec![(first.subject, 42)] };
    bench.handle.settle(settled).await.unwrap();
    let epoch = bench.handle.epoch;
    bench.stop();

    let bench = Bench::start(policy(folder.path()));
    assert_eq!(bench.handle.epoch, epoch);
    let outputs = vec![bench.output(Lane::Data, b"three")];
    bench.checkpoint(Checkpoint { pos: 2, outputs, ..Checkpoint::default() }).await;
    assert_eq!(bench.outputs(Lane::Data).await, vec![(2, b"two".to_vec()), (3, b"three".to_vec())]);
    let subjects = bench.handle.subjects().await.unwrap();
    let data = subjects.iter().find(|subject| subject.key.lane == Lane::Data).unwrap();
    assert_eq!((data.hub_floor, data.oldest_seq, data.stream_name.as_str()), (42, Some(2), "press"));
    bench.stop();
}

#[tokio::test]
async fn a_full_outbox_drops_its_oldest_and_says_how_many() {
    // Goal: the cap holds, alarms stay, the count travels with what is left.
    let folder = tempfile::tempdir().unwrap();
    let mut small = policy(folder.path());
    small.outbox.bytes_max = 1_000;
    let bench = Bench::start(small);
    let mut outputs = vec![bench.output(Lane::Alarm, &[1; 100])];
    outputs.extend((0..20).map(|_| bench.output(Lane::Data, &[0; 100])));
    bench.checkpoint(Checkpoint { pos: 1, outputs, ..Checkpoint::default() }).await;
    let left = bench.handle.outputs(Lane::Data, 0, usize::MAX).await.unwrap();
    assert_eq!((left.len(), left[0].seq, left[0].dropped), (9, 12, 11));
    assert_eq!(bench.outputs(Lane::Alarm).await.len(), 1);
    bench.stop();
}

#[tokio::test]
async fn a_stream_that_rejects_when_full_stops_taking_and_resumes() {
    // Goal: back-pressure instead of loss: nothing is taken while full, everything after the hub has caught up.
    let folder = tempfile::tempdir().unwrap();
    let mut strict = policy(folder.path());
    strict.outbox.bytes_max = 1_000;
    strict.streams.get_mut("press").unwrap().full = FullPolicy::Reject;
    let mut bench = Bench::start(strict);
    let series = bench.series("a").await;
    let outputs = (0..20).map(|_| bench.output(Lane::Data, &[0; 100])).collect();
    bench.checkpoint(Checkpoint { pos: 1, outputs, ..Checkpoint::default() }).await;
    within(bench.stats.wait_for(|stats| stats.rejecting)).await.unwrap();
    bench.send(READING, 1..=1, series).await;
    let rows = bench.handle.outputs(Lane::Data, 0, usize::MAX).await.unwrap();
    assert_eq!(rows.len(), 20, "nothing is dropped");
    assert_eq!(*bench.durable[&READING].borrow(), 0);
    let settled = Settled { ids: rows.iter().map(|row| row.id).collect(), floors: vec![] };
    bench.handle.settle(settled).await.unwrap();
    bench.durable(READING, 1).await;
    bench.stop();
}

#[tokio::test]
async fn a_full_disk_stops_acknowledgements_and_nothing_else() {
    // Goal: at every one of the writes of a commit: no acknowledgement, a stated reason, and once there is space again
    // everything is acknowledged and kept. Method: the file layer refuses the n-th write, then all, then recovers.
    for n in 0..=12 {
        let folder = tempfile::tempdir().unwrap();
        let faults = std::sync::Arc::new(Tap::new());
        let installed = vfs::install(folder.path(), faults.clone());
        let mut bench = Bench::start(policy(folder.path()));
        let series = bench.series("a").await;
        bench.send(READING, 1..=3, series).await;
        bench.durable(READING, 3).await;
        faults.arm(Fault { after: n, ..Fault::disk_full() });
        bench.send(READING, 4..=60, series).await;
        let stalled = within(bench.stats.wait_for(|stats| stats.stalled.is_some() || stats.readings >= 60));
        let stalled = stalled.await.unwrap().stalled.clone();
        if let Some(stalled) = &stalled {
            assert!(stalled.advice.contains("free space"), "{stalled:?}");
            assert!(*bench.durable[&READING].borrow() < 60);
        }
        faults.disarm();
        bench.durable(READING, 60).await;
        drop(installed);
        bench.stop();
        let mut bench = Bench::start(policy(folder.path()));
        assert_eq!(pkids(&bench.groups_until(60).await), (1..=60).collect::<Vec<u16>>(), "write {n}");
        bench.stop();
        if stalled.is_none() {
            assert!(n > 0, "the first write must have failed");
            break;
        }
    }
}

#[tokio::test]
async fn a_read_only_or_failing_disk_says_so_and_recovers() {
    // Goal: other refusals are states with advice, not ends.
    for fault in [Fault::read_only(), Fault::once(Step::CHANGES, 1, Failure::Io)] {
        let folder = tempfile::tempdir().unwrap();
        let faults = std::sync::Arc::new(Tap::new());
        let installed = vfs::install(folder.path(), faults.clone());
        let mut bench = Bench::start(policy(folder.path()));
        let series = bench.series("a").await;
        faults.arm(fault);
        bench.send(READING, 1..=1, series).await;
        within(bench.stats.wait_for(|stats| stats.stalled.is_some())).await.unwrap();
        faults.disarm();
        bench.durable(READING, 1).await;
        assert!(bench.stats.borrow().stalled.is_none());
        drop(installed);
        bench.stop();
    }
}

#[test]
fn a_database_that_is_none_is_set_aside_and_the_start_goes_on() {
    // Goal: garbage in place of the database costs history, not the start; the epoch is a new one; three are kept.
    let folder = tempfile::tempdir().unwrap();
    let mut epochs = Vec::new();
    for round in 1..=5 {
        std::fs::write(folder.path().join("telemetry.db"), b"this is not a database, it is a sentence")
            .unwrap();
        let bench = Bench::start(policy(folder.path()));
        let aside = bench.set_aside.as_ref().unwrap();
        assert!(aside.path.ends_with(format!("telemetry.db.aside-{round}")), "{aside:?}");
        epochs.push(bench.handle.epoch);
        bench.stop();
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 5);
    let kept = std::fs::read_dir(folder.path()).unwrap().flatten();
    assert_eq!(kept.filter(|e| e.file_name().to_string_lossy().contains("aside")).count(), 3);
}

#[test]
fn databases_of_every_earlier_version_are_brought_up_to_date() {
    // Goal: an update of the program keeps what is buffered. Method: databases as each version made them, with a stream
    // and a number of their own.
    let steps = [include_str!("schema.sql"), include_str!("schema-2.sql"), include_str!("schema-3.sql")];
    for version in 1..=steps.len() {
        let folder = tempfile::tempdir().unwrap();
        let db = rusqlite::Connection::open(folder.path().join("telemetry.db")).unwrap();
        steps[..version].iter().for_each(|step| db.execute_batch(step).unwrap());
        db.execute_batch(
            "INSERT INTO meta VALUES (0, 77); INSERT INTO stream (id, name) VALUES (9, 'press')",
        )
        .unwrap();
        db.pragma_update(None, "user_version", version).unwrap();
        drop(db);
        for _ in 0..2 {
            let (_store, start) = Store::open(policy(folder.path())).unwrap();
            assert_eq!((start.epoch, start.set_aside), (77, None), "version {version}");
            assert_eq!(start.streams["press"], StreamId(9));
            assert!(start.sessions.is_empty() && start.retained.is_empty());
        }
    }
}

#[tokio::test]
async fn retained_messages_are_on_flash_with_the_ticket_they_came_with() {
    // Goal: a publisher's acknowledgement covers its retained message. Method: keep two, end one, restart.
    let folder = tempfile::tempdir().unwrap();
    let keep = |topic: &str| RetainedRow {
        topic: topic.to_owned(),
        qos: 1,
        expires: None,
        payload: b"on".as_slice().into(),
        properties: Default::default(),
    };
    let mut bench = Bench::start(policy(folder.path()));
    let kept = ["a", "b"].map(|topic| RetainedChange::Keep(keep(topic)));
    for (ticket, retained) in [(1, kept.to_vec()), (2, vec![RetainedChange::End("a".to_owned())])] {
        let batch = Batch { retained, sessions_ticket: Some((READING, ticket)), ..Batch::default() };
        bench.inbound.send(Inbound::Batch(batch)).await.unwrap();
        bench.durable(READING, ticket).await;
    }
    bench.stop();
    let (_store, start) = Store::open(policy(folder.path())).unwrap();
    assert_eq!(start.retained, [keep("b")]);
}

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    // Goal: after a rollback of the program the newer file is not thrown away but reported.
    let folder = tempfile::tempdir().unwrap();
    Bench::start(policy(folder.path())).stop();
    let db = rusqlite::Connection::open(folder.path().join("telemetry.db")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let err = Store::open(policy(folder.path())).unwrap_err();
    assert!(matches!(err, StoreError::Open(OpenError::Newer { found: 99, .. })), "{err:?}");
}

#[test]
fn damage_met_while_running_is_checked_at_the_next_start() {
    // Goal: with the mark, a database whose pages are overwritten is found out although its header is good.
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("telemetry.db");
    Bench::start(policy(folder.path())).stop();
    let mut bytes = std::fs::read(&db).unwrap();
    let last = bytes.len() - 4_096;
    bytes[last..].fill(0xA5);
    std::fs::write(&db, bytes).unwrap();
    mark_suspect(folder.path());
    let bench = Bench::start(policy(folder.path()));
    assert!(bench.set_aside.is_some());
    bench.stop();
}

#[tokio::test]
async fn a_recall_returns_ring_and_journal_and_refuses_what_it_does_not_know() {
    // Goal: readings before and after the checkpoint, the window's edges right, refusals by reason.
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(policy(folder.path()));
    let series = bench.series("a").await;
    bench.send(READING, 1..=10, series).await;
    let groups = bench.groups_until(10).await;
    let readings: Vec<Reading> =
        groups.iter().flat_map(|g| g.messages.iter().flat_map(|m| m.readings.clone())).collect();
    let raw = RawBlock {
        stream: bench.stream,
        timeline: Timeline::Sensor,
        from: 1,
        to: 10,
        readings: 10,
        block: crate::block::encode_readings(&readings),
    };
    let pos = groups.last().unwrap().pos;
    bench.checkpoint(Checkpoint { pos, raw: vec![raw], ..Checkpoint::default() }).await;
    bench.send(READING, 11..=20, series).await;
    bench.durable(READING, 20).await;
    let query = |from, to, names: &[&str]| RecallQuery {
        stream: "press".into(),
        series: names.iter().map(|name| (*name).to_owned()).collect(),
        from,
        to,
        after: 0,
    };
    let mut times = Vec::new();
    let mut next = query(5, 16, &["a"]);
    loop {
        let page = bench.handle.recall(next.clone()).await.unwrap().unwrap();
        if let Some(body) = page.body {
            let crate::block::Rows::Raw(rows) = crate::block::decode_envelope(&body).unwrap().rows else {
                panic!()
            };
            times.extend(rows.iter().map(|row| row.time));
        }
        let Some(after) = page.next else { break };
        next.after = after;
    }
    assert_eq!(times, (5..16).collect::<Vec<i64>>());
    let refused = |query| async { bench.handle.recall(query).await.unwrap().unwrap_err() };
    assert_eq!(refused(query(5, 5, &[])).await, RecallRefused::EmptyWindow);
    assert_eq!(refused(query(5, 6, &["b"])).await, RecallRefused::NoSeries);
    assert_eq!(
        refused(RecallQuery { stream: "x".into(), ..query(5, 6, &[]) }).await,
        RecallRefused::NoStream
    );
    bench.stop();
}

#[tokio::test]
async fn the_ring_keeps_to_its_bytes() {
    // Goal: the oldest raw readings go when there are too many bytes, and are counted.
    let folder = tempfile::tempdir().unwrap();
    let mut small = policy(folder.path());
    small.journal.ring_bytes_max = 10_000;
    let bench = Bench::start(small);
    for pos in 1..=20 {
        let raw = RawBlock {
            stream: bench.stream,
            timeline: Timeline::Sensor,
            from: 0,
            to: 1,
            readings: 10,
            block: vec![0; 1_000],
        };
        bench.checkpoint(Checkpoint { pos, raw: vec![raw], ..Checkpoint::default() }).await;
    }
    let stats = bench.stats.borrow().clone();
    assert_eq!((stats.ring_bytes, stats.ring_readings, stats.ring_dropped), (10_000, 100, 100));
    bench.stop();
    assert!(vfs::counters().sum().bytes > 0);
}

#[tokio::test]
async fn a_lost_session_forgets_its_identities_and_no_others() {
    // Goal: after `Forget`, identities of the session before are gone, over a restart too; those after it stay.
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(policy(folder.path()));
    let series = bench.series("a").await;
    bench.send(READING, 1..=5, series).await;
    bench.inbound.send(Inbound::Forget(READING)).await.unwrap();
    bench.send(READING, 6..=8, series).await;
    bench.durable(READING, 8).await;
    bench.stop();
    let bench = Bench::start(policy(folder.path()));
    let seen: Vec<u16> = bench.seen[&READING].iter().map(|identity| identity.pkid).collect();
    assert_eq!(seen, vec![6, 7, 8]);
    bench.stop();
}

#[test]
fn damage_found_while_starting_is_set_aside_without_a_mark() {
    // Goal: a database whose header is good and whose tables are not never keeps the gateway from starting.
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("telemetry.db");
    Bench::start(policy(folder.path())).stop();
    let mut bytes = std::fs::read(&db).unwrap();
    bytes[4_096..].fill(0xA5);
    std::fs::write(&db, bytes).unwrap();
    let bench = Bench::start(policy(folder.path()));
    assert!(bench.set_aside.is_some());
    bench.stop();
}
