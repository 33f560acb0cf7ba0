//! Where an acknowledgement gets its meaning: readings are on flash before their messages are acknowledged.
//!
//! ```text
//! messages ─▶ group ──commit_interval, or enough readings, or half a window waiting──▶ one transaction ─▶ acknowledge
//!                                                                                          │
//!          hot rows (since the last checkpoint) ──checkpoint: compacted, sorted──▶ raw ring ─▶ dropped, oldest first
//! ```
//! The store thread owns everything here. A power cut at any instruction leaves: every acknowledged reading of a
//! `durability = "reading"` stream in a hot row or in the ring, and the identities of the messages it came in beside it,
//! so that a copy sent again is recognised. What is dropped: the oldest raw readings when the ring is full, counted;
//! never a reading that has not been through the pipeline.

mod group;
pub mod hot;
pub mod peer;
mod retained;
pub mod ring;
pub mod seen;
mod session;
pub mod slots;
pub mod wear;

pub use group::{Group, Readiness};
pub use retained::{RetainedChange, RetainedRow, load_retained, write_retained};
pub use session::{SessionChange, SessionRow, load_sessions, write_sessions};

use std::time::Instant;

use crate::block::SeriesEntry;
use crate::outbox::Output;
use crate::sample::{Message, Nanos, SeriesId, StreamId, Timeline};

/// A group of messages on its way to the pipeline, after its commit.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Position in the journal, without holes.
    pub pos: u64,
    /// The messages, in order of arrival.
    pub messages: Vec<Message>,
    /// Series numbered since the group before.
    pub series: Vec<(SeriesId, StreamId, SeriesEntry)>,
    /// Senders wait for a checkpoint: take one now.
    pub hurry: bool,
    /// When it was committed; `None`: in an earlier life of the process.
    pub since: Option<Instant>,
}

/// What the pipeline hands over to be written in one transaction: how far it has read, what it must remember, and what
/// came out.
#[derive(Debug, Clone, Default)]
pub struct Checkpoint {
    /// Everything up to this position is contained.
    pub pos: u64,
    /// State of reducers and components after it.
    pub state: Vec<u8>,
    /// Raw readings for the ring.
    pub raw: Vec<RawBlock>,
    /// Outputs for the outbox.
    pub outputs: Vec<Output>,
    /// An alarm is in it, or a command waits for it: do not wait for the commit interval.
    pub urgent: bool,
}

/// Raw readings of one stream and timeline, sorted by series and time, encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct RawBlock {
    /// The stream.
    pub stream: StreamId,
    /// The timeline of the times.
    pub timeline: Timeline,
    /// Earliest time.
    pub from: Nanos,
    /// Latest time.
    pub to: Nanos,
    /// How many readings.
    pub readings: u32,
    /// [`crate::block::encode_readings`].
    pub block: Vec<u8>,
}
