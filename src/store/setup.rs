//! What the store is made from, and what it gives the others to start from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{self, FullPolicy};
use crate::journal::{Checkpoint, Committed, RetainedRow, SessionRow};
use crate::platform::{clock, vfs};
use crate::sample::{BootId, DoorId, Durability, Nanos, SeriesId, StreamId};

use super::open::{OpenError, SetAside};
use super::stats::StoreStats;
use super::{Command, Inbound, Newest};

/// What the store needs of the configuration.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Folder of the database.
    pub data_dir: PathBuf,
    /// The journal's settings.
    pub journal: config::Journal,
    /// The outbox's settings.
    pub outbox: config::Outbox,
    /// Bytes of retained messages.
    pub retained_bytes_max: u64,
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
    /// Messages a peer leaves unacknowledged.
    pub window: usize,
    /// Who is behind it.
    pub peers: Peers,
}

/// Who is behind a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peers {
    /// A broker: all messages share its window, which is learnt if it is smaller than configured.
    Broker,
    /// Clients, each with a window of its own: the door says itself when a group is urgent.
    Clients,
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
    /// The clients' sessions, each with what was acknowledged by an earlier process.
    pub sessions: Vec<(SessionRow, Vec<crate::sample::Identity>)>,
    /// The highest session number ever given.
    pub last_session: u32,
    /// Retained messages, sorted by topic.
    pub retained: Vec<RetainedRow>,
    /// Durable tickets, by door.
    pub durable: BTreeMap<DoorId, watch::Receiver<u64>>,
    /// What an earlier process of this boot made its untrusted times with.
    pub estimate: Option<Nanos>,
    /// The newest trusted time known: no later boot is before it.
    pub floor: Option<Nanos>,
    /// State of the last checkpoint, for the pipeline.
    pub state: Vec<u8>,
    /// Position of the newest group of an earlier process: up to here what follows the checkpoint is worked on again.
    pub replay: u64,
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
