//! How the rest of the program talks to the store thread: bounded channels, one reply each.

use tokio::sync::{mpsc, oneshot, watch};

use crate::block::SeriesEntry;
use crate::journal::{RetainedChange, SessionChange};
use crate::outbox::{OutRow, Settled, SubjectState};
use crate::sample::{DoorId, Identity, Lane, Message, Nanos, Reading, SeriesId, StreamId, Timeline};

/// From a door to the journal. The channel's bound is the back-pressure: a full one stops the door's polling.
#[derive(Debug)]
pub enum Inbound {
    /// A decoded message.
    Message(Message),
    /// What the listener has gathered.
    Batch(Batch),
    /// The peer has lost the session: packet identifiers known of it mean nothing any more.
    Forget(DoorId),
}

/// What the listener has gathered since it last passed something on.
#[derive(Debug, Default)]
pub struct Batch {
    /// Sessions that have begun, changed or ended before the messages.
    pub sessions: Vec<SessionChange>,
    /// Retained messages that have changed, those of the messages among them.
    pub retained: Vec<RetainedChange>,
    /// A ticket that becomes durable with sessions and retained messages.
    pub sessions_ticket: Option<(DoorId, u64)>,
    /// Messages, in the order of their tickets.
    pub messages: Vec<Message>,
    /// Commit within this time, because somebody waits who can do nothing else.
    pub within: Option<std::time::Duration>,
    /// The way from the listener to the journal is bounded by what is on it; given back when the batch has arrived.
    pub room: Option<tokio::sync::OwnedSemaphorePermit>,
}

/// Requests to the store thread, each with the way back for its answer.
#[derive(Debug)]
#[allow(missing_docs, reason = "the variants' docs name every field")]
pub enum Command {
    /// Number a series, new or known.
    Intern { stream: StreamId, entry: SeriesEntry, reply: oneshot::Sender<Result<SeriesId, SeriesDenied>> },
    /// The number of a series that has one.
    Find { stream: StreamId, name: String, reply: oneshot::Sender<Option<SeriesId>> },
    /// Outputs of a lane with an id above `after`, oldest first, at least one if there is any, up to `bytes_max`.
    Outputs { lane: Lane, after: u64, bytes_max: usize, reply: oneshot::Sender<Vec<OutRow>> },
    /// The hub holds these; delete them with the next commit.
    Settle { settled: Settled, reply: oneshot::Sender<()> },
    /// Every subject that ever had an output.
    Subjects { reply: oneshot::Sender<Vec<SubjectState>> },
    /// Whoever gave the checkpoint at hand waits for it.
    Urge,
    /// A page of raw readings.
    Recall { query: RecallQuery, reply: oneshot::Sender<Result<RecallPage, RecallRefused>> },
}

/// Why a series got no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stream has its maximum of {series_max} series")]
pub struct SeriesDenied {
    /// The stream's `series_max`.
    pub series_max: usize,
}

/// Which raw readings are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct RecallQuery {
    /// Name of the stream.
    pub stream: String,
    /// Names of series; all of the stream when empty.
    pub series: Vec<String>,
    /// From this time on …
    pub from: Nanos,
    /// … up to, not including, this one.
    pub to: Nanos,
    /// Where the previous page ended; 0 for the first.
    pub after: u64,
}

/// One page of raw readings, of one timeline.
#[derive(Debug, Clone, PartialEq)]
pub struct RecallPage {
    /// An encoded [`crate::block::Envelope`] of at most 32,768 readings, or `None` when nothing matched in this page.
    pub body: Option<bytes::Bytes>,
    /// Nanoseconds to add to its times, as in [`OutRow::clock_correction`].
    pub clock_correction: Option<i64>,
    /// Give this as `after` for the next page; `None` at the end.
    pub next: Option<u64>,
}

/// Why a recall is refused. The numbers cross the wire: append only, never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum RecallRefused {
    /// No stream of that name.
    #[error("no stream of that name on this gateway")]
    NoStream = 1,
    /// None of the series is known.
    #[error("no series of that name in the stream")]
    NoSeries = 2,
    /// `from` is not before `to`.
    #[error("the window is empty: from must be before to")]
    EmptyWindow = 3,
    /// Too many recalls at a time.
    #[error("the gateway is already answering as many recalls as it will; try again later")]
    Busy = 4,
    /// The request could not be read.
    #[error("the request is not valid")]
    BadRequest = 5,
}

/// Acknowledgements from the journal to a door: every ticket up to this one is durable (or needs no durability).
pub type Durable = watch::Receiver<u64>;

/// The newest output of each lane, by id; changes when there is something new to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Newest {
    /// Highest id in the alarm lane.
    pub alarm: u64,
    /// Highest id in the data lane.
    pub data: u64,
}

/// What a door starts from.
#[derive(Debug)]
pub struct DoorStart {
    /// Which door.
    pub door: DoorId,
    /// Messages committed and acknowledged by an earlier process, whose acknowledgement the broker may not have seen;
    /// oldest first, at most the door's in-flight window.
    pub seen: Vec<Identity>,
    /// What is durable.
    pub durable: Durable,
}

/// The handle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Requests.
    pub commands: mpsc::Sender<Command>,
    /// News of the outbox.
    pub newest: watch::Receiver<Newest>,
    /// Random number given to this database when it was made; part of every message id, so that a database begun anew
    /// never repeats one.
    pub epoch: u32,
}

/// The store thread has ended; the process is about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store has stopped")]
pub struct StoreGone;

// === impl Handle ===

impl Handle {
    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, StoreGone> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(make(reply)).await.map_err(|_| StoreGone)?;
        answer.await.map_err(|_| StoreGone)
    }

    /// Numbers a series. Durable with the first reading that uses the number.
    pub async fn intern(
        &self,
        stream: StreamId,
        entry: SeriesEntry,
    ) -> Result<Result<SeriesId, SeriesDenied>, StoreGone> {
        self.ask(|reply| Command::Intern { stream, entry, reply }).await
    }

    /// Has the checkpoint that was given last committed now. Tells whether the store heard.
    pub fn urge(&self) -> bool {
        self.commands.try_send(Command::Urge).is_ok()
    }

    /// The number of a series that has one.
    pub async fn find(&self, stream: StreamId, name: &str) -> Result<Option<SeriesId>, StoreGone> {
        self.ask(|reply| Command::Find { stream, name: name.to_owned(), reply }).await
    }

    /// Outputs of `lane` after `after`, see [`Command::Outputs`].
    pub async fn outputs(&self, lane: Lane, after: u64, bytes_max: usize) -> Result<Vec<OutRow>, StoreGone> {
        self.ask(|reply| Command::Outputs { lane, after, bytes_max, reply }).await
    }

    /// Hands over what the hub holds. Returns once taken over; it is deleted with the next commit, which a crash may
    /// forestall: reading back what the hub holds then settles it again.
    pub async fn settle(&self, settled: Settled) -> Result<(), StoreGone> {
        self.ask(|reply| Command::Settle { settled, reply }).await
    }

    /// Every subject that ever had an output.
    pub async fn subjects(&self) -> Result<Vec<SubjectState>, StoreGone> {
        self.ask(|reply| Command::Subjects { reply }).await
    }

    /// A page of raw readings.
    pub async fn recall(&self, query: RecallQuery) -> Result<Result<RecallPage, RecallRefused>, StoreGone> {
        self.ask(|reply| Command::Recall { query, reply }).await
    }
}

/// Raw readings of one stream and timeline, compacted by the pipeline for the ring.
#[derive(Debug, Clone, PartialEq)]
pub struct RawRun {
    /// Stream.
    pub stream: StreamId,
    /// Timeline of the times.
    pub timeline: Timeline,
    /// Sorted by series, then time.
    pub readings: Vec<Reading>,
}
