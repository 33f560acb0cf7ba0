//! What a door counts, and what it keeps of rejected payloads for the operator.
//!
//! The door writes, a status task reads. Counters are plain atomics; specimens travel in a `watch`, so that neither side
//! waits for the other. Lost with the process. Per stream the last [`SPECIMENS_MAX`] specimens are kept.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ingest::reason::{Reason, Tally};
use crate::sample::Nanos;

/// Specimens kept per stream: enough to see whether one sensor or all of them are at fault.
pub const SPECIMENS_MAX: usize = 8;

/// Bytes kept of a rejected payload and of its topic: 8 x 2 x 256 B = 4 KiB per stream.
pub const SPECIMEN_BYTES_MAX: usize = 256;

/// What a door has counted since the process started.
#[derive(Debug)]
pub struct Counters {
    /// By stream, in the order of the configuration; streams of other doors stay at zero.
    pub streams: Vec<StreamCounters>,
    /// Messages that belong to no stream of this door.
    pub unrouted: StreamCounters,
    /// Copies recognised and not passed on.
    pub redelivered: AtomicU64,
    /// Acknowledgements written.
    pub acknowledged: AtomicU64,
    /// Connections made.
    pub connects: AtomicU64,
    /// Subscriptions granted: one per filter and connection.
    pub subscribed: AtomicU64,
    /// Connections lost, and attempts that failed.
    pub disconnects: AtomicU64,
    /// Sessions the peer had lost.
    pub sessions_lost: AtomicU64,
    /// Messages that the client library could not read and that were acknowledged around it.
    pub sifted: AtomicU64,
    /// Messages that their sender may not publish.
    pub denied: AtomicU64,
    /// Times the topic cache was full and cleared.
    pub topics_cleared: AtomicU64,
}

/// What was counted of one stream.
#[derive(Debug)]
pub struct StreamCounters {
    /// Name of the stream; empty for what belongs to none.
    pub stream: String,
    /// Messages, rejected ones among them, redelivered ones not.
    pub messages: AtomicU64,
    /// Bytes of their payloads.
    pub bytes: AtomicU64,
    /// Readings passed on.
    pub readings: AtomicU64,
    rejected: [AtomicU64; Reason::COUNT],
}

/// A rejected payload, or the beginning of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Specimen {
    /// Its topic, cut to [`SPECIMEN_BYTES_MAX`]; what is not UTF-8 is replaced.
    pub topic: String,
    /// Why; the first of several reasons.
    pub reason: Reason,
    /// Arrival stamp.
    pub time: Nanos,
    /// Beginning of the payload, at most [`SPECIMEN_BYTES_MAX`].
    pub payload: Vec<u8>,
    /// Length of the whole payload.
    pub payload_bytes: usize,
}

/// The last rejected payloads of every stream; those that belong to none are last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Specimens(Vec<VecDeque<Specimen>>);

// === impl Counters ===

impl Counters {
    /// Zeroes, for streams of these names.
    pub fn new<'a>(streams: impl IntoIterator<Item = &'a str>) -> Counters {
        Counters {
            streams: streams.into_iter().map(StreamCounters::new).collect(),
            unrouted: StreamCounters::new(""),
            redelivered: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            subscribed: AtomicU64::new(0),
            disconnects: AtomicU64::new(0),
            sessions_lost: AtomicU64::new(0),
            sifted: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            topics_cleared: AtomicU64::new(0),
        }
    }

    /// The counters of a stream, by position; of what belongs to none without one.
    pub fn of(&self, stream: Option<usize>) -> &StreamCounters {
        stream.map_or(&self.unrouted, |at| &self.streams[at])
    }
}

/// Adds to a counter nobody synchronises by.
pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

// === impl StreamCounters ===

impl StreamCounters {
    fn new(stream: &str) -> StreamCounters {
        StreamCounters {
            stream: stream.to_owned(),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            readings: AtomicU64::new(0),
            rejected: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// How often something was rejected for a reason: payloads, values or samples, see [`crate::ingest::decode`].
    pub fn rejected(&self, reason: Reason) -> u64 {
        self.rejected[reason as usize].load(Ordering::Relaxed)
    }

    pub(super) fn message(&self, payload_bytes: usize, readings: usize) {
        add(&self.messages, 1);
        add(&self.bytes, payload_bytes as u64);
        add(&self.readings, readings as u64);
    }

    pub(super) fn reject(&self, tally: &Tally) {
        for (reason, count) in tally.iter() {
            add(&self.rejected[reason as usize], count.into());
        }
    }
}

// === impl Specimen ===

impl Specimen {
    /// Takes the beginning of a payload.
    pub fn new(topic: &[u8], reason: Reason, time: Nanos, payload: &[u8], payload_bytes: usize) -> Specimen {
        let topic = &topic[..topic.len().min(SPECIMEN_BYTES_MAX)];
        Specimen {
            topic: String::from_utf8_lossy(topic).into_owned(),
            reason,
            time,
            payload: payload[..payload.len().min(SPECIMEN_BYTES_MAX)].to_vec(),
            payload_bytes,
        }
    }
}

// === impl Specimens ===

impl Specimens {
    pub(super) fn new(streams: usize) -> Specimens {
        Specimens(vec![VecDeque::new(); streams + 1])
    }

    pub(super) fn keep(&mut self, stream: Option<usize>, specimen: Specimen) {
        let last = self.0.len() - 1;
        let kept = &mut self.0[stream.unwrap_or(last)];
        if kept.len() == SPECIMENS_MAX {
            kept.pop_front();
        }
        kept.push_back(specimen);
    }

    /// Of the stream at this position, oldest first; of what belongs to none without a position.
    pub fn of(&self, stream: Option<usize>) -> impl Iterator<Item = &Specimen> + '_ {
        let last = self.0.len().saturating_sub(1);
        self.0.get(stream.unwrap_or(last)).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_specimens_are_kept_and_only_their_beginning() {
        // Goal: the bounds in number and in bytes.
        let mut specimens = Specimens::new(1);
        for n in 0..20 {
            let topic = [b't'; 300];
            specimens.keep(Some(0), Specimen::new(&topic, Reason::Malformed, n, &[b'x'; 1_000], 1_000));
        }
        let kept: Vec<_> = specimens.of(Some(0)).collect();
        assert_eq!(kept.iter().map(|s| s.time).collect::<Vec<_>>(), (12..20).collect::<Vec<_>>());
        assert!(
            kept.iter().all(|s| s.topic.len() == 256 && s.payload.len() == 256 && s.payload_bytes == 1_000)
        );
        assert_eq!(specimens.of(None).count(), 0);
    }
}
