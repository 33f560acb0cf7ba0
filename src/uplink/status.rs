//! What the uplink shows of itself.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::answer::Refusal;
use super::mode::Mode;

/// A snapshot; counters since the process started.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Status {
    /// What it is doing.
    pub mode: Mode,
    /// Why the hub does not take a row, in mode [`Mode::Refused`] (or [`Mode::ReadBack`]).
    pub refusal: Option<Refusal>,
    /// The window, in bytes.
    pub window_bytes: u64,
    /// Bytes in flight.
    pub inflight_bytes: u64,
    /// Rows in flight.
    pub inflight_rows: u64,
    /// Rows the hub has acknowledged.
    pub acked_rows: u64,
    /// Bytes of their bodies.
    pub acked_bytes: u64,
    /// Rows sent again.
    pub resent_rows: u64,
    /// Rows that a read-back found at the hub.
    pub found_rows: u64,
    /// Read-backs made.
    pub read_backs: u64,
    /// Times that rows were in doubt because their acknowledgement did not come.
    pub doubts: u64,
    /// Rows left in the outbox because they are larger than the server takes.
    pub oversized_rows: u64,
    /// Answers that could not be read.
    pub garbled_answers: u64,
    /// When the last acknowledgement came.
    pub last_ack: Option<Instant>,
    /// How long it took.
    pub ack_latency: Option<Duration>,
}

/// Whether an alarm or a live row waits for the link: then nobody else uses it.
#[derive(Debug, Clone)]
pub struct Busy(pub(super) watch::Receiver<bool>);

// === impl Busy ===

impl Busy {
    /// A signal of one's own making: for services without an uplink beside them, and tests.
    pub fn channel() -> (watch::Sender<bool>, Busy) {
        let (sender, receiver) = watch::channel(false);
        (sender, Busy(receiver))
    }

    /// Whether something more urgent waits now.
    pub fn now(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once nothing urgent waits. Cancel-safe: it holds nothing. If the uplink is gone, nothing waits.
    pub async fn idle(&mut self) {
        let _ = self.0.wait_for(|busy| !busy).await;
    }
}
