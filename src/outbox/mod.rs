//! What waits for the cloud: reduced blocks, alarms, in the order they were made, until the hub has them.
//!
//! The store thread owns the table and the ledger that counts it. Outputs appear in the same transaction as the
//! checkpoint they follow from, so that a crash never leaves one without the other; they go once the hub is known to
//! hold them, or when a cap is reached: then the oldest of the data lane goes first, counted by subject, and the count
//! travels with every later output, so that a consumer can tell a dropped output from a lost one. Alarms go last.
//! Thinning old outputs to a coarser resolution, before any is dropped, has its place in [`retention`].

pub mod retention;
pub mod table;

use bytes::Bytes;

use crate::sample::{Lane, StreamId};

/// One output as the pipeline made it, before the store gives it its sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Its lane.
    pub lane: Lane,
    /// Boot whose correction its times await, if they are estimates.
    pub boot: Option<crate::sample::BootId>,
    /// Rows in it, for counters and `frond buffer`.
    pub rows: u32,
    /// An encoded [`crate::block::Envelope`].
    pub body: Vec<u8>,
}

/// One output as the uplink sends it.
#[derive(Debug, Clone, PartialEq)]
pub struct OutRow {
    /// Order in the outbox, over all streams and lanes; grows for ever.
    pub id: u64,
    /// Which subject it goes to.
    pub subject: SubjectKey,
    /// Sequence within its subject and epoch, from 1, without holes.
    pub seq: u64,
    /// Outputs of this subject dropped by caps, in all its life; explains the holes a consumer sees.
    pub dropped: u64,
    /// Nanoseconds to add to its times, when its clock was an estimate and the correction is known.
    pub clock_correction: Option<i64>,
    /// An encoded [`crate::block::Envelope`].
    pub body: Bytes,
}

/// A subject's identity on the gateway: `<prefix>.<gateway>.<lane>.<stream>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectKey {
    /// The stream.
    pub stream: StreamId,
    /// The lane.
    pub lane: Lane,
}

/// What the store knows of one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectState {
    /// Which.
    pub key: SubjectKey,
    /// The stream's name, the subject's last token.
    pub stream_name: String,
    /// Hub sequence (of the JetStream stream) below or at which nothing unsettled of this subject can lie; 0 when unknown.
    pub hub_floor: u64,
    /// Sequence of the oldest output still in the outbox, if any.
    pub oldest_seq: Option<u64>,
}

/// Outputs that the hub is known to hold, and may be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// [`OutRow::id`]s.
    pub ids: Vec<u64>,
    /// New floors, see [`SubjectState::hub_floor`].
    pub floors: Vec<(SubjectKey, u64)>,
}
