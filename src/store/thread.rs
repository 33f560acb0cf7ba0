//! The loop of the store thread.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::journal::peer::{Interval, PeerWindow};
use crate::journal::seen::Tail;
use crate::journal::slots::Slots;
use crate::journal::wear::Wear;
use crate::journal::{Checkpoint, Committed, Group, Readiness, hot, ring};
use crate::outbox::Settled;
use crate::outbox::table::Ledger;
use crate::platform::clock::WallClock;
use crate::sample::{BootId, DoorId, Durability, Lane, Message, Nanos, SeriesId};
use crate::supervise::Beat;

use super::stats::StoreStats;
use super::{Channels, Command, DoorSetup, Inbound, Names, Newest, Peers, Policy, StoreError, open};

/// Groups that wait for the pipeline, beside the four in its channel: a group has at most `commit_readings_max` readings
/// and one message more.
const OUTGOING_MAX: usize = 4;
/// Messages taken from the channel at one go, so that requests get their turn: 256 × some microseconds.
const TAKE_MAX: usize = 256;
/// Outputs older than the age cap dropped in one commit.
pub(super) const AGED_MAX: u64 = 256;
/// How often a store without work shows that it is alive, and what others have written to flash.
const IDLE: Duration = Duration::from_secs(2);

/// The state of the store thread.
#[derive(Debug)]
pub struct Store {
    pub(super) db: Connection,
    pub(super) policy: Policy,
    pub(super) names: Names,
    pub(super) ledger: Ledger,
    pub(super) ring: ring::Usage,
    pub(super) slots: Slots,
    pub(super) group: Group,
    pub(super) tail: Tail,
    pub(super) next_pos: u64,
    pub(super) checkpoint: Option<(Checkpoint, oneshot::Sender<()>)>,
    /// The next checkpoint is waited for.
    pub(super) urged: bool,
    pub(super) settled: Settled,
    pub(super) fresh_series: Vec<SeriesId>,
    /// Given when the thread starts: the clock itself starts from what is read here.
    pub(super) clock: Option<WallClock>,
    pub(super) floor: Option<Nanos>,
    pub(super) boot: BootId,
    /// Sessions lost while a group of theirs could not be committed: the mark must come after that group.
    pub(super) held: Vec<DoorId>,
    /// Rows to be read again and passed to the pipeline before anything new.
    pub(super) replay: VecDeque<u64>,
    pub(super) outgoing: VecDeque<Committed>,
    /// Messages that wait for a checkpoint: position, door, last ticket, how many.
    pub(super) late: VecDeque<(u64, DoorId, u64, usize)>,
    pub(super) durable: BTreeMap<DoorId, watch::Sender<u64>>,
    pub(super) newest: watch::Sender<Newest>,
    pub(super) wear: Wear,
    pub(super) wear_noted: (u64, Instant),
    pub(super) stats: StoreStats,
    pub(super) stats_out: watch::Sender<StoreStats>,
    pub(super) deadline: Option<Instant>,
    /// When the log was last told that caps drop outputs.
    pub(super) drops_told: Option<Instant>,
    pub(super) peers: BTreeMap<DoorId, Peer>,
    pub(super) committed_at: Instant,
}

/// What is known of the other side of a door.
#[derive(Debug)]
pub(super) struct Peer {
    window: PeerWindow,
    last_message: Instant,
}

/// Why a group is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Deadline,
    Ready,
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
                    let urgent = std::mem::take(&mut self.urged) || checkpoint.urgent;
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
                Event::Room => {}
                Event::Idle => {
                    self.note_wear();
                    self.publish_stats();
                }
                Event::Deadline => self.commit_or_stall(Cause::Deadline)?,
            }
            if self.stats.stalled.is_none() && self.is_ready() {
                self.commit_or_stall(Cause::Ready)?;
            }
        }
        self.commit_or_stall(Cause::Ready)
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
            && !self.group.is_full(self.policy.journal.commit_readings_max)
    }

    fn take(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Message(message) => {
                self.note_arrival(message.door);
                self.take_message(message);
                self.want_commit(self.wear.interval());
            }
            Inbound::Batch(batch) => {
                if let Some((door, ticket)) = batch.sessions_ticket {
                    self.group.owe(door, ticket, Durability::Reading);
                }
                self.group.sessions.extend(batch.sessions);
                batch.retained.into_iter().for_each(|change| self.group.retain(change));
                for message in batch.messages {
                    self.take_message(message);
                }
                self.want_commit(batch.within.unwrap_or(Duration::MAX).min(self.wear.interval()));
            }
            Inbound::Forget(door) => {
                // Messages of the session that is gone stay before the mark, those of the new one come after it.
                self.held.push(door);
                self.want_commit(Duration::ZERO);
                self.mark_forgotten();
            }
        }
    }

    fn take_message(&mut self, message: Message) {
        let setup = self.policy.doors.get(&message.door);
        let durability = setup.map_or(Durability::Reading, |setup| setup.durability);
        if durability == Durability::None {
            self.acknowledge(message.door, message.ticket);
        }
        self.group.push(message, durability);
    }

    fn note_arrival(&mut self, door: DoorId) {
        let now = Instant::now();
        let peer =
            self.peers.entry(door).or_insert(Peer { window: PeerWindow::default(), last_message: now });
        peer.last_message = now;
        peer.window.message(now.duration_since(self.committed_at), self.wear.interval());
    }

    /// Looks at how many messages each peer had sent by the time of a commit.
    fn watch_peers(&mut self, cause: Cause) {
        let now = Instant::now();
        for (door, waiting) in self.group.waiting() {
            let Some(peer) = self.peers.get_mut(&door) else { continue };
            if waiting.durability != Durability::Reading {
                continue;
            }
            if cause == Cause::Ready && peer.window.learnt() == Some(waiting.messages) {
                peer.window.committed_full();
            } else if cause == Cause::Deadline {
                let length = now.duration_since(self.committed_at).min(self.wear.interval());
                let silence = now.duration_since(peer.last_message);
                let interval = Interval { messages: waiting.messages, silence, length };
                if let Some(messages) = peer.window.interval_over(interval) {
                    warn!(
                        door = door.0,
                        messages,
                        "broker leaves only so many messages unacknowledged; groups are committed as soon as they have \
                         them, which wears the flash: raise the broker's limit (mosquitto: max_inflight_messages)"
                    );
                }
            }
        }
        self.committed_at = now;
    }

    /// Puts the marks of lost sessions at the front of the next group, once the messages before them are written.
    fn mark_forgotten(&mut self) {
        if self.group.messages.is_empty() && !self.held.is_empty() {
            self.group.forgotten.append(&mut self.held);
            self.want_commit(self.wear.interval());
        }
    }

    fn is_ready(&self) -> bool {
        let window = |door: DoorId| match self.policy.doors.get(&door) {
            Some(DoorSetup { peers: Peers::Broker, window, .. }) => *window,
            _ => usize::MAX,
        };
        let learnt = |door: DoorId| self.peers.get(&door).and_then(|peer| peer.window.learnt());
        let window = |door: DoorId| learnt(door).map_or(window(door), |learnt| window(door).min(2 * learnt));
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

    fn commit_or_stall(&mut self, cause: Cause) -> Result<(), StoreError> {
        self.deadline = None;
        self.watch_peers(cause);
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
                let messages = read_hot(&self.db, &self.slots, pos)?.map(|(_, messages)| messages).unwrap_or_else(|err| {
                    self.stats.damaged += 1;
                    error!(pos, error = %err, "a group of the journal cannot be decoded; its readings are lost");
                    Vec::new()
                });
                self.replay.pop_front();
                Committed { pos, messages, series: Vec::new(), hurry: false, since: None }
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
            info!(
                seconds = correction as f64 / 1e9,
                "clock is trusted; estimated times of this boot, if there are any, are re-based"
            );
            self.names.correct(boot, correction);
            self.want_commit(self.wear.interval());
        }
    }
}

/// What a hot row says: sessions lost before it, and its messages.
pub(super) type HotRow = (Vec<DoorId>, Vec<Message>);

/// Reads a hot row; the inner result is the row's own fault.
pub(super) fn read_hot(
    db: &Connection,
    slots: &Slots,
    pos: u64,
) -> rusqlite::Result<Result<HotRow, hot::HotError>> {
    Ok(hot::decode(&slots.read(db, pos)?))
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
