//! What a broker leaves unacknowledged, learnt by watching. Pure.
//!
//! mosquitto's default is 20 messages, others have other numbers, and MQTT 3.1.1 does not tell. A group that waits for its
//! interval would then carry 20 messages and no more.
//! ```text
//!  Unknown ── twice the same number, then silence, at the end of an interval ──▶ Learnt(n): commit at n messages
//!     ▲                                                                            │
//!     └── after such a commit the next message is long in coming: it was the sensors' own rhythm ──┘ (and longer doubt)
//! ```
//! A wrong guess costs commits, not readings, and is taken back.

use std::time::Duration;

/// A peer that was held up sends on as soon as it has its acknowledgements: within this time, or a tenth of the interval.
const PROMPT: Duration = Duration::from_millis(100);
/// Intervals that are not looked at after a wrong guess; doubled with each, up to [`DOUBT_MAX`].
const DOUBT_FIRST: u32 = 16;
/// About an hour of one-second intervals.
const DOUBT_MAX: u32 = 4_096;

/// One peer's window, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerWindow {
    learnt: Option<usize>,
    /// Seen once.
    candidate: Option<usize>,
    /// Intervals still to be left out, and how many after the next wrong guess.
    doubt: u32,
    doubt_next: u32,
    /// A commit at the learnt number was made, and nothing has come since.
    on_trial: bool,
}

/// A group at the end of its interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// The peer's messages in it.
    pub messages: usize,
    /// Since the last of them.
    pub silence: Duration,
    /// How long the group waited in all.
    pub length: Duration,
}

// === impl PeerWindow ===

impl Default for PeerWindow {
    fn default() -> PeerWindow {
        PeerWindow { learnt: None, candidate: None, doubt: 0, doubt_next: DOUBT_FIRST, on_trial: false }
    }
}

impl PeerWindow {
    /// The number, if it is known.
    pub fn learnt(&self) -> Option<usize> {
        self.learnt
    }

    /// A group was committed because its interval was over. Returns the number when it is learnt from this.
    pub fn interval_over(&mut self, interval: Interval) -> Option<usize> {
        if self.doubt > 0 {
            self.doubt -= 1;
            return None;
        }
        let held_up = interval.messages > 1 && interval.silence * 2 >= interval.length;
        if !held_up || self.learnt.is_some() {
            self.candidate = None;
            return None;
        }
        if self.candidate.replace(interval.messages) != Some(interval.messages) {
            return None;
        }
        self.learnt = Some(interval.messages);
        self.learnt
    }

    /// A group was committed because the learnt number of messages waited.
    pub fn committed_full(&mut self) {
        self.on_trial = true;
    }

    /// A message has come, so long after the last commit.
    pub fn message(&mut self, since_commit: Duration, interval: Duration) {
        if !std::mem::take(&mut self.on_trial) || since_commit <= PROMPT.max(interval / 10) {
            return;
        }
        *self = PeerWindow {
            doubt: self.doubt_next,
            doubt_next: (self.doubt_next * 2).min(DOUBT_MAX),
            ..PeerWindow::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn held_up(messages: usize) -> Interval {
        Interval { messages, silence: SECOND.mul_f64(0.99), length: SECOND }
    }

    #[test]
    fn a_broker_that_stops_at_twenty_is_found_out_and_kept_up_with() {
        // Goal: two intervals suffice, and prompt messages after a commit confirm the number for good.
        let mut peer = PeerWindow::default();
        assert_eq!(peer.interval_over(held_up(20)), None);
        assert_eq!(peer.interval_over(held_up(20)), Some(20));
        for _ in 0..1_000 {
            peer.committed_full();
            peer.message(Duration::from_millis(3), SECOND);
        }
        assert_eq!(peer.learnt(), Some(20));
    }

    #[test]
    fn sensors_with_a_rhythm_are_not_a_window() {
        // Goal: five sensors that send together once a second look alike at first; the guess is taken back at the first
        // commit, and made more and more seldom.
        let mut peer = PeerWindow::default();
        let mut wrong = 0;
        for _ in 0..10_000 {
            if peer.learnt().is_some() {
                peer.committed_full();
                wrong += 1;
            } else {
                peer.interval_over(held_up(5));
            }
            peer.message(SECOND, SECOND);
        }
        assert!(wrong <= 10, "{wrong} commits too early in 10,000 seconds");
    }

    #[test]
    fn a_steady_flow_teaches_nothing() {
        // Goal: messages up to the end of the interval mean that the peer was not held up.
        let mut peer = PeerWindow::default();
        for _ in 0..10 {
            let flow = Interval { messages: 100, silence: SECOND / 100, length: SECOND };
            assert_eq!(peer.interval_over(flow), None);
        }
    }
}
