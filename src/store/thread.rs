//! The loop of the store thread.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{self, FullPolicy};
use crate::journal::seen::Tail;
use crate::journal::wear::Wear;
use crate::journal::{Checkpoint, Committed, Group, Readiness, hot, ring};
use crate::outbox::table::{self, Ledger};
use crate::outbox::{Settled, SubjectState};
use crate::platform::clock::{self, WallClock};
use crate::platform::vfs;
use crate::sample::{BootId, DoorId, Durability, Lane, Nanos, SeriesId, StreamId};
use crate::supervise::Beat;

use super::open::{self, OpenError, SetAside};
use super::stats::{Stalled, StoreStats};
use super::{Command, Inbound, Names, Newest};

/// Groups that wait for the pipeline, beside the four in its channel: a group has at most `commit_readings_max` readings
/// and one message more.
const OUTGOING_MAX: usize = 4;
/// Messages taken from the channel at one go, so that requests get their turn: 256 × some microseconds.
const TAKE_MAX: usize = 256;
/// Outputs older than the age cap dropped in one commit.
pub(super) const AGED_MAX: u64 = 256;
/// How often a store without work shows that it is alive.
const IDLE: Duration = Duration::from_secs(2);
/// Between attempts while the disk refuses.
const RETRY: Duration = Duration::from_secs(1);

/// What the store needs of the configuration.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Folder of the database.
    pub data_dir: PathBuf,
    /// The journal's settings.
    pub journal: config::Journal,
    /// The outbox's settings.
    pub outbox: config::Outbox,
    /// By stream name.
    pub streams: BTreeMap<String, StreamPolicy>,
    /// By door.
    pub doors: BTreeMap<DoorId, DoorSetup>,
}

/// What the store needs to know of a stream.
#[derive(Debug, Clone)]
pub struct StreamPolicy {
    /// What happens when the buffer is full.
    pub full: FullPolicy,
    /// Bytes of the outbox it may take.
    pub outbox_bytes_max: Option<u64>,
    /// Most series.
    pub series_max: usize,
}

/// What the store needs to know of a door.
#[derive(Debug, Clone, Copy)]
pub struct DoorSetup {
    /// Durability of the streams behind it.
    pub durability: Durability,
    /// Messages its peer leaves unacknowledged.
    pub window: usize,
}

/// The channels the store serves.
#[derive(Debug)]
pub struct Channels {
    /// Messages from the doors.
    pub inbound: mpsc::Receiver<Inbound>,
    /// Requests.
    pub commands: mpsc::Receiver<Command>,
    /// Checkpoints from the pipeline, each answered once durable.
    pub checkpoints: mpsc::Receiver<(Checkpoint, oneshot::Sender<()>)>,
    /// Groups to the pipeline.
    pub committed: mpsc::Sender<Committed>,
    /// Corrections of this boot's estimated times, when learnt.
    pub correction: watch::Receiver<Option<i64>>,
}

/// What the others start from.
#[derive(Debug)]
pub struct Start {
    /// Numbers of the configured streams, by name.
    pub streams: BTreeMap<String, StreamId>,
    /// Names of all streams, those no longer configured among them.
    pub stream_names: BTreeMap<StreamId, String>,
    /// This boot, for times before the clock is trusted.
    pub boot: BootId,
    /// Acknowledged by an earlier process, by door.
    pub seen: BTreeMap<DoorId, Vec<crate::sample::Identity>>,
    /// Durable tickets, by door.
    pub durable: BTreeMap<DoorId, watch::Receiver<u64>>,
    /// What an earlier process of this boot made its untrusted times with.
    pub estimate: Option<Nanos>,
    /// The newest trusted time known: no later boot is before it.
    pub floor: Option<Nanos>,
    /// State of the last checkpoint, for the pipeline.
    pub state: Vec<u8>,
    /// Every known series.
    pub series: Vec<(SeriesId, super::Known)>,
    /// The kernel's identifier of every known boot.
    pub boots: BTreeMap<BootId, String>,
    /// News of the outbox.
    pub newest: watch::Receiver<Newest>,
    /// Snapshots of the store.
    pub stats: watch::Receiver<StoreStats>,
    /// See [`super::Handle::epoch`].
    pub epoch: u32,
    /// A database that was replaced.
    pub set_aside: Option<SetAside>,
}

/// Why the store ended.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum StoreError {
    #[error("the telemetry database cannot be opened")]
    Open(#[from] OpenError),
    #[error("the telemetry database's file layer cannot be set up")]
    Vfs(#[from] vfs::VfsError),
    #[error("the kernel's boot identifier cannot be read")]
    Boot(#[from] clock::ClockError),
    #[error("the telemetry database cannot be read")]
    Read(#[from] rusqlite::Error),
    #[error("the telemetry database is damaged; it is checked and, if need be, set aside at the next start")]
    Corrupt(#[source] rusqlite::Error),
}

/// The state of the store thread.
#[derive(Debug)]
pub struct Store {
    pub(super) db: Connection,
    pub(super) policy: Policy,
    pub(super) names: Names,
    pub(super) ledger: Ledger,
    pub(super) ring: ring::Usage,
    pub(super) group: Group,
    pub(super) tail: Tail,
    pub(super) next_pos: u64,
    pub(super) checkpoint: Option<(Checkpoint, oneshot::Sender<()>)>,
    pub(super) settled: Settled,
    pub(super) fresh_series: Vec<SeriesId>,
    /// Given when the thread starts: the clock itself starts from what is read here.
    pub(super) clock: Option<WallClock>,
    pub(super) floor: Option<Nanos>,
    boot: BootId,
    /// Sessions lost while a group of theirs could not be committed: the mark must come after that group.
    held: Vec<DoorId>,
    /// Rows to be read again and passed to the pipeline before anything new.
    replay: VecDeque<u64>,
    outgoing: VecDeque<Committed>,
    /// Messages that wait for a checkpoint: position, door, last ticket, how many.
    pub(super) late: VecDeque<(u64, DoorId, u64, usize)>,
    durable: BTreeMap<DoorId, watch::Sender<u64>>,
    pub(super) newest: watch::Sender<Newest>,
    pub(super) wear: Wear,
    wear_noted: (u64, Instant),
    pub(super) stats: StoreStats,
    stats_out: watch::Sender<StoreStats>,
    deadline: Option<Instant>,
    /// When the log was last told that caps drop outputs.
    pub(super) drops_told: Option<Instant>,
}

enum Event {
    Stop,
    Command(Command),
    Checkpoint(Checkpoint, oneshot::Sender<()>),
    Inbound(Inbound),
    Room,
    Correction(i64),
    Deadline,
    Idle,
}

// === impl Store ===

impl Store {
    /// Opens the database and reads what the others start from. The cost does not depend on the backlog.
    pub fn open(policy: Policy) -> Result<(Store, Start), StoreError> {
        let bound = (policy.outbox.bytes_max + policy.journal.ring_bytes_max) / 4 * 5 + (64 << 20);
        vfs::register()?;
        let opened = open::open(&policy.data_dir, bound)?;
        let db = opened.db;
        let mut names = Names::load(&db)?;
        let ledger = Ledger::load(&db)?;
        let (checkpoint_pos, state, seen, floor): (u64, Vec<u8>, Vec<u8>, Option<Nanos>) = db
            .query_row("SELECT pos, state, seen, wall_ns FROM checkpoint WHERE id = 0", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()?
            .unwrap_or_default();
        let mut tail = Tail::decode(&seen, checkpoint_pos);
        let replay: VecDeque<u64> = {
            let mut statement = db.prepare("SELECT pos FROM hot WHERE pos > ?1 ORDER BY pos")?;
            let rows = statement.query_map([checkpoint_pos], |row| row.get(0))?;
            rows.collect::<Result<_, _>>()?
        };
        for pos in &replay {
            if let Ok((forgotten, messages)) = read_hot(&db, *pos)? {
                forgotten.into_iter().for_each(|door| tail.forget(door));
                for message in &messages {
                    let window = policy.doors.get(&message.door).map_or(0, |door| door.window);
                    tail.record(*pos, message, window);
                }
            }
        }
        let streams = policy.streams.keys().map(|name| (name.clone(), names.stream(name))).collect();
        let boot = names.boot(&clock::boot_id()?);
        let estimate = names.boot_entry(boot).and_then(|boot| boot.estimate);
        let (durable, durable_out) = policy.doors.keys().map(|door| (*door, watch::channel(0))).fold(
            (BTreeMap::new(), BTreeMap::new()),
            |(mut tx, mut rx), (door, (sender, receiver))| {
                tx.insert(door, sender);
                rx.insert(door, receiver);
                (tx, rx)
            },
        );
        let newest = Newest { alarm: ledger.newest(Lane::Alarm), data: ledger.newest(Lane::Data) };
        let (newest, newest_out) = watch::channel(newest);
        let ring = ring::usage(&db)?;
        let journal = &policy.journal;
        let wear =
            Wear::new(journal.wear_bytes_per_day, journal.commit_interval, journal.commit_interval_max);
        let stats = StoreStats {
            checkpoint_position: checkpoint_pos,
            set_aside: opened.set_aside.as_ref().map(|aside| aside.path.display().to_string()),
            ..StoreStats::default()
        };
        let (stats_out, stats_in) = watch::channel(stats.clone());
        let start = Start {
            streams,
            stream_names: names.all_streams().map(|(id, name)| (id, name.to_owned())).collect(),
            boot,
            estimate,
            seen: policy.doors.keys().map(|door| (*door, tail.of(*door))).collect(),
            durable: durable_out,
            floor,
            state,
            series: names.all_series().map(|(id, known)| (id, known.clone())).collect(),
            boots: names.all_boots().map(|(id, boot)| (id, boot.boot.clone())).collect(),
            newest: newest_out,
            stats: stats_in,
            epoch: opened.epoch,
            set_aside: opened.set_aside,
        };
        let mut store = Store {
            db,
            names,
            ledger,
            ring,
            group: Group::default(),
            tail,
            next_pos: replay.back().copied().unwrap_or(checkpoint_pos).max(checkpoint_pos) + 1,
            checkpoint: None,
            settled: Settled::default(),
            fresh_series: Vec::new(),
            clock: None,
            floor,
            boot,
            held: Vec::new(),
            replay,
            outgoing: VecDeque::new(),
            late: VecDeque::new(),
            durable,
            newest,
            wear,
            wear_noted: (written_bytes(), Instant::now()),
            stats,
            stats_out,
            deadline: None,
            drops_told: None,
            policy,
        };
        store.publish_stats();
        Ok((store, start))
    }

    /// Serves the channels until `stop`; then commits what it holds and returns. Runs on a thread of its own.
    pub fn run(
        mut self,
        mut channels: Channels,
        clock: WallClock,
        beat: &Beat,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        self.names.estimate(self.boot, clock.estimate());
        self.clock = Some(clock);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime without I/O needs nothing from the system");
        loop {
            beat.touch();
            self.forward(&channels)?;
            let event = runtime.block_on(self.next_event(&mut channels, stop));
            match event {
                Event::Stop => break,
                Event::Command(command) => self.answer(command)?,
                Event::Checkpoint(checkpoint, reply) => {
                    let urgent = checkpoint.urgent;
                    self.checkpoint = Some((checkpoint, reply));
                    self.want_commit(if urgent { Duration::ZERO } else { self.wear.interval() });
                }
                Event::Inbound(inbound) => {
                    self.take(inbound);
                    for _ in 1..TAKE_MAX {
                        if !self.takes() {
                            break;
                        }
                        let Ok(inbound) = channels.inbound.try_recv() else { break };
                        self.take(inbound);
                    }
                }
                Event::Correction(correction) => self.correct(correction),
                Event::Room | Event::Idle => {}
                Event::Deadline => self.commit_or_stall()?,
            }
            if self.stats.stalled.is_none() && self.is_ready() {
                self.commit_or_stall()?;
            }
        }
        self.commit_or_stall()
    }

    async fn next_event(&self, channels: &mut Channels, stop: &CancellationToken) -> Event {
        let deadline = self.deadline;
        let takes = self.takes();
        let waits_for_room = !self.outgoing.is_empty() || !self.replay.is_empty();
        let checkpoint_free = self.checkpoint.is_none();
        tokio::select! {
            biased;
            () = stop.cancelled() => Event::Stop,
            Some(command) = channels.commands.recv() => Event::Command(command),
            Some((checkpoint, reply)) = channels.checkpoints.recv(), if checkpoint_free => {
                Event::Checkpoint(checkpoint, reply)
            }
            () = until(deadline) => Event::Deadline,
            () = tokio::time::sleep(IDLE) => Event::Idle,
            Ok(()) = channels.correction.changed() => {
                channels.correction.borrow_and_update().map_or(Event::Idle, Event::Correction)
            }
            Ok(_permit) = channels.committed.reserve(), if waits_for_room => Event::Room,
            Some(inbound) = channels.inbound.recv(), if takes => Event::Inbound(inbound),
        }
    }

    /// Whether messages are taken from the doors.
    fn takes(&self) -> bool {
        self.stats.stalled.is_none()
            && !self.stats.rejecting
            && self.held.is_empty()
            && self.outgoing.len() < OUTGOING_MAX
            && self.group.readings() < self.policy.journal.commit_readings_max
    }

    fn take(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Message(message) => {
                let setup = self.policy.doors.get(&message.door).copied();
                let durability = setup.map_or(Durability::Reading, |setup| setup.durability);
                if durability == Durability::None {
                    self.acknowledge(message.door, message.ticket);
                }
                self.group.push(message, durability);
                self.want_commit(self.wear.interval());
            }
            Inbound::Forget(door) => {
                // Messages of the session that is gone stay before the mark, those of the new one come after it.
                self.held.push(door);
                self.want_commit(Duration::ZERO);
                self.mark_forgotten();
            }
        }
    }

    /// Puts the marks of lost sessions at the front of the next group, once the messages before them are written.
    fn mark_forgotten(&mut self) {
        if self.group.messages.is_empty() && !self.held.is_empty() {
            self.group.forgotten.append(&mut self.held);
            self.want_commit(self.wear.interval());
        }
    }

    fn is_ready(&self) -> bool {
        let window = |door: DoorId| self.policy.doors.get(&door).map_or(usize::MAX, |setup| setup.window);
        let readiness = self.group.readiness(self.policy.journal.commit_readings_max, window);
        readiness != Readiness::Waits || self.late_fills() && !self.group.is_empty()
    }

    /// Whether senders of a window stream can send little more before a checkpoint.
    fn late_fills(&self) -> bool {
        self.policy.doors.iter().filter(|(_, setup)| setup.durability == Durability::Window).any(
            |(door, setup)| {
                let committed: usize =
                    self.late.iter().filter(|late| late.1 == *door).map(|late| late.3).sum();
                let waiting: usize =
                    self.group.waiting().filter(|(d, _)| d == door).map(|(_, w)| w.messages).sum();
                waiting > 0 && committed + waiting >= (setup.window / 2).max(1)
            },
        )
    }

    /// Commits at the latest after `within`.
    pub(super) fn want_commit(&mut self, within: Duration) {
        let at = Instant::now() + within;
        self.deadline = Some(self.deadline.map_or(at, |deadline| deadline.min(at)));
    }

    fn commit_or_stall(&mut self) -> Result<(), StoreError> {
        self.deadline = None;
        let started = Instant::now();
        let hurry = self.late_fills();
        match self.commit() {
            Ok(done) => {
                let took = started.elapsed().as_secs_f64() * 1e3;
                self.stats.commit_ms = took;
                self.stats.commit_ms_max = self.stats.commit_ms_max.max(took);
                if let Some(stalled) = self.stats.stalled.take() {
                    info!(attempts = stalled.attempts, "database can be written again; acknowledging");
                }
                self.mark_forgotten();
                self.note_wear();
                self.publish_stats();
                for (door, ticket) in done.acknowledge {
                    self.acknowledge(door, ticket);
                }
                if let Some(mut group) = done.group {
                    group.hurry = hurry;
                    self.outgoing.push_back(group);
                }
                if let Some(reply) = done.checkpointed {
                    let _ = reply.send(());
                }
                self.newest.send_if_modified(|newest| {
                    let now = Newest {
                        alarm: self.ledger.newest(Lane::Alarm),
                        data: self.ledger.newest(Lane::Data),
                    };
                    std::mem::replace(newest, now) != now
                });
                Ok(())
            }
            Err(err) if open::is_corruption(&err) => {
                open::mark_suspect(&self.policy.data_dir);
                Err(StoreError::Corrupt(err))
            }
            Err(err) => {
                self.stall(&err);
                Ok(())
            }
        }
    }

    fn stall(&mut self, err: &rusqlite::Error) {
        let attempts = self.stats.stalled.as_ref().map_or(0, |stalled| stalled.attempts) + 1;
        let advice = stall_advice(err, &self.policy.data_dir);
        if attempts == 1 {
            error!(
                error = %err, advice = %advice,
                "database cannot be written; nothing is lost, messages are no longer acknowledged until it can"
            );
        }
        self.stats.stalled = Some(Stalled { reason: err.to_string(), advice, attempts });
        self.publish_stats();
        self.want_commit(RETRY);
    }

    fn acknowledge(&mut self, door: DoorId, ticket: u64) {
        if let Some(durable) = self.durable.get(&door) {
            durable.send_if_modified(|last| {
                let newer = ticket > *last;
                *last = (*last).max(ticket);
                newer
            });
        }
    }

    /// Passes groups to the pipeline as far as it has room: first what is read again, then what is new.
    fn forward(&mut self, channels: &Channels) -> Result<(), StoreError> {
        loop {
            let Ok(permit) = channels.committed.try_reserve() else { return Ok(()) };
            let group = if let Some(pos) = self.replay.front().copied() {
                let messages = read_hot(&self.db, pos)?.map(|(_, messages)| messages).unwrap_or_else(|err| {
                    self.stats.damaged += 1;
                    error!(pos, error = %err, "a group of the journal cannot be decoded; its readings are lost");
                    Vec::new()
                });
                self.replay.pop_front();
                Committed { pos, messages, series: Vec::new(), hurry: false }
            } else if let Some(group) = self.outgoing.pop_front() {
                group
            } else {
                return Ok(());
            };
            permit.send(group);
        }
    }

    fn correct(&mut self, correction: i64) {
        let boot = self.boot;
        if self.names.boot_entry(boot).and_then(|boot| boot.correction) != Some(correction) {
            info!(seconds = correction as f64 / 1e9, "clock is trusted; readings of this boot are re-based");
            self.names.correct(boot, correction);
            self.want_commit(self.wear.interval());
        }
    }

    fn note_wear(&mut self) {
        let (bytes, now) = (written_bytes(), Instant::now());
        let (before, then) = self.wear_noted;
        if now.duration_since(then) < Duration::from_secs(1) {
            return;
        }
        self.wear_noted = (bytes, now);
        if let Some(interval) = self.wear.note(bytes - before, now.duration_since(then)) {
            warn!(
                interval_ms = interval.as_millis() as u64,
                written_per_day = self.wear.bytes_per_day() as u64,
                budget_per_day = self.wear.budget_bytes_per_day(),
                "wear budget decides the commit interval; acknowledgements take that long, nothing is lost"
            );
        }
    }

    fn publish_stats(&mut self) {
        let (mut rows, mut bytes, mut dropped) = (0, 0, 0);
        for (_, account) in self.ledger.accounts() {
            rows += account.rows;
            bytes += account.bytes;
            dropped += account.dropped;
        }
        self.stats.outbox_rows = rows;
        self.stats.outbox_bytes = bytes;
        self.stats.outbox_dropped = dropped;
        self.stats.ring_bytes = self.ring.bytes;
        self.stats.ring_readings = self.ring.readings;
        self.stats.ring_dropped = self.ring.dropped;
        self.stats.commit_interval_ms = self.wear.interval().as_millis() as u64;
        self.stats.written_bytes = written_bytes();
        self.stats.written_per_day = self.wear.bytes_per_day();
        self.stats.wear_budget_per_day = self.wear.budget_bytes_per_day();
        self.stats_out.send_replace(self.stats.clone());
    }

    fn answer(&mut self, command: Command) -> Result<(), StoreError> {
        // A requester that has gone away needs no answer: replies may fail.
        match command {
            Command::Intern { stream, entry, reply } => {
                let series_max = self
                    .policy
                    .streams
                    .get(self.names.stream_name(stream))
                    .map_or(usize::MAX, |s| s.series_max);
                let outcome = self.names.series(stream, entry, series_max);
                if let Ok(id) = outcome {
                    self.fresh_series.push(id);
                }
                let _ = reply.send(outcome);
            }
            Command::Outputs { lane, after, bytes_max, reply } => {
                let correction = |boot| self.names.boot_entry(BootId(boot)).and_then(|boot| boot.correction);
                let rows = table::outputs(&self.db, &self.ledger, lane, after, bytes_max, correction);
                let _ = reply.send(rows.map_err(|err| self.read_failure(err))?);
            }
            Command::Settle { settled, reply } => {
                self.settled.ids.extend(settled.ids);
                for (key, floor) in settled.floors {
                    self.settled.floors.retain(|(known, _)| *known != key);
                    self.settled.floors.push((key, floor));
                }
                self.want_commit(self.wear.interval());
                let _ = reply.send(());
            }
            Command::Subjects { reply } => {
                let _ = reply.send(self.subjects().map_err(|err| self.read_failure(err))?);
            }
            Command::Recall { query, reply } => {
                let page = self.recall(&query).map_err(|err| self.read_failure(err))?;
                let _ = reply.send(page);
            }
        }
        Ok(())
    }

    fn subjects(&self) -> rusqlite::Result<Vec<SubjectState>> {
        self.ledger
            .accounts()
            .map(|(key, account)| {
                Ok(SubjectState {
                    key,
                    stream_name: self.names.stream_name(key.stream).to_owned(),
                    hub_floor: account.hub_floor,
                    oldest_seq: if account.rows == 0 { None } else { table::oldest_seq(&self.db, key)? },
                })
            })
            .collect()
    }

    fn read_failure(&self, err: rusqlite::Error) -> StoreError {
        if open::is_corruption(&err) {
            open::mark_suspect(&self.policy.data_dir);
            return StoreError::Corrupt(err);
        }
        StoreError::Read(err)
    }
}

fn stall_advice(err: &rusqlite::Error, data_dir: &std::path::Path) -> String {
    let folder = data_dir.display();
    match err.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => {
            format!(
                "free space on the partition of {folder}, or lower outbox.bytes_max and journal.ring_bytes_max"
            )
        }
        Some(rusqlite::ErrorCode::ReadOnly) => {
            format!("make {folder} writable again; a file system that turned read-only needs a check")
        }
        _ => format!("check the storage under {folder}: the kernel's log says more"),
    }
}

/// Reads a hot row; the inner result is the row's own fault.
pub(super) fn read_hot(
    db: &Connection,
    pos: u64,
) -> rusqlite::Result<Result<(Vec<DoorId>, Vec<crate::sample::Message>), hot::HotError>> {
    let row: Vec<u8> =
        db.prepare_cached("SELECT block FROM hot WHERE pos = ?1")?.query_row([pos], |row| row.get(0))?;
    Ok(hot::decode(&row))
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn written_bytes() -> u64 {
    vfs::counters().sum().bytes
}
