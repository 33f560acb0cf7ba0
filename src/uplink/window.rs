//! How many bytes may wait for their acknowledgement: enough to fill the link, too few to build a queue in front of it.
//!
//! A queue that stands before a slow link delays every later row by its length, alarms included (bufferbloat). So the
//! window follows a small model of the path, learnt from the acknowledgements, after the idea of TCP BBR:
//!
//! ```text
//!  target = rate × (rtt + headroom)          rate: most bytes per second acknowledged lately
//!                                            rtt:  shortest acknowledgement seen lately
//!                                            headroom: rtt, within HEADROOM_MIN … HEADROOM_MAX
//!
//!  queueing = latency − rtt − bytes/rate     what this row spent waiting behind others
//!
//!            queueing ≤ headroom: window += acked, up to target
//!   ┌──────────────────────────────────────────────┐
//!   │ queueing > 3 × rtt, within CUT_MIN … CUT_MAX: window / 2, rate := the latest │  once per round trip
//!   └──────────────────────────────────────────────┘
//!  sounding: at the start, and every SOUNDING_INTERVAL without a shorter rtt, one row goes alone, and its
//!  latency is the new rtt. Without that a route that became longer would pass for a queue for ever.
//! ```
//! Alone means: nothing ahead of it and nothing behind it either, because leaf connections may compress what is waiting
//! into one block, and the first row of a block arrives with the last.
//!
//! The size of the row is taken into account because on a slow link a large row takes seconds by itself, and that is no
//! queue. One row is always allowed when nothing is in flight. Rows sent while the window was not the limit say nothing
//! about the link's rate and do not make the window grow.
//!
//! Pure: time comes in as an argument. Owned by the uplink's task; starts anew with each connection.

use std::time::Duration;

use tokio::time::Instant;

/// Where a connection starts: a TCP connection's first few round trips carry about as much (10 segments of 1,460 bytes,
/// doubled twice).
const WINDOW_START: u64 = 64 << 10;

/// Least queueing that is allowed for: the acknowledgements of a file store come in bunches of up to some ten milliseconds.
const HEADROOM_MIN: Duration = Duration::from_millis(100);

/// Most queueing that is allowed for, however long the path: half a second is still live.
const HEADROOM_MAX: Duration = Duration::from_millis(500);

/// Queueing that halves the window, at least; together with a short path this is the half second promised to live rows.
const CUT_MIN: Duration = Duration::from_millis(400);

/// Queueing that halves the window, at most: what looks like a long path may be one large row on a slow one.
const CUT_MAX: Duration = Duration::from_secs(2);

/// How long a shortest latency is believed while the link is busy: a sounding costs about three round trips of sending,
/// one per cent of a minute at 200 ms, three at 600.
const SOUNDING_INTERVAL: Duration = Duration::from_secs(60);

/// Rows that may spoil a sounding, because alarms do not wait for it, before it is put off.
const SOUNDINGS_SPOILT_MAX: u32 = 3;

/// Half of how long a highest rate is believed.
const RATE_INTERVAL: Duration = Duration::from_secs(10);

/// What an alarm may add on top of a full window, so that it does not wait for an acknowledgement first.
pub const ALARM_HEADROOM: u64 = 64 << 10;

/// Whether a row must fit the window or may go beyond it a little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Must fit.
    Ordinary,
    /// May use [`ALARM_HEADROOM`].
    Alarm,
}

/// What to remember of a row that was sent, to be handed back with its acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sending {
    /// When.
    pub at: Instant,
    bytes: u64,
    delivered: u64,
    delivered_at: Instant,
    limited: bool,
    /// Its number if nothing was in flight before it.
    alone: Option<u64>,
}

/// The congestion window and the model behind it.
#[derive(Debug, Clone)]
pub struct Window {
    bytes: u64,
    bytes_max: u64,
    in_flight: u64,
    delivered: u64,
    delivered_at: Instant,
    rtt: Option<Rtt>,
    rate: Rate,
    cut_at: Option<Instant>,
    sent: u64,
    /// A sounding is under way, spoilt so many times.
    sounding: Option<u32>,
    latency: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Rtt {
    shortest: Duration,
    seen_at: Instant,
}

/// Highest rate of this interval and of the one before it.
#[derive(Debug, Clone, Default)]
struct Rate {
    current: f64,
    previous: f64,
    since: Option<Instant>,
    limited: bool,
}

// === impl Window ===

impl Window {
    /// A window for a new connection, never above `bytes_max`.
    pub fn new(bytes_max: u64, now: Instant) -> Window {
        Window {
            bytes: WINDOW_START.min(bytes_max),
            bytes_max,
            in_flight: 0,
            delivered: 0,
            delivered_at: now,
            rtt: None,
            rate: Rate::default(),
            cut_at: None,
            sent: 0,
            sounding: Some(0),
            latency: None,
        }
    }

    /// A new connection: the path may be another one. Rows in flight stay in the account.
    pub fn restart(&mut self, now: Instant) {
        let fresh = Window::new(self.bytes_max, now);
        *self = Window { in_flight: self.in_flight, delivered: self.delivered, sent: self.sent, ..fresh };
    }

    /// Whether a row of `bytes` may go now. Up to five eighths of it may hang over the window's edge: a window that is
    /// not a multiple of the row would otherwise leave a slow link idle between two rows.
    pub fn allows(&self, bytes: u64, urgency: Urgency) -> bool {
        let limit = match urgency {
            Urgency::Ordinary => self.limit(),
            Urgency::Alarm => self.limit() + ALARM_HEADROOM,
        };
        self.in_flight == 0 || self.in_flight + bytes - bytes / 8 * 5 <= limit
    }

    /// Books a row that is sent now.
    pub fn sent(&mut self, bytes: u64, now: Instant) -> Sending {
        self.sent += 1;
        let alone = (self.in_flight == 0).then_some(self.sent);
        if alone.is_some() {
            self.delivered_at = now;
        }
        self.in_flight += bytes;
        let stale = self.rtt.is_some_and(|rtt| now.duration_since(rtt.seen_at) > SOUNDING_INTERVAL);
        if stale && self.sounding.is_none() {
            self.sounding = Some(0);
        }
        Sending {
            at: now,
            bytes,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            limited: self.in_flight >= self.bytes / 2 && self.sounding.is_none(),
            alone,
        }
    }

    /// Learns from an acknowledgement.
    pub fn acked(&mut self, sending: Sending, now: Instant) {
        self.forget(sending);
        self.delivered += sending.bytes;
        self.delivered_at = now;
        let latency = now.duration_since(sending.at);
        self.latency = Some(latency);
        let span = now.duration_since(sending.delivered_at).max(Duration::from_micros(100));
        let sample = (self.delivered - sending.delivered) as f64 / span.as_secs_f64();
        self.rate.learn(sample, sending.limited, now);
        self.learn_rtt(sending, latency, now);

        let rtt = self.rtt.map_or(latency, |rtt| rtt.shortest);
        let own =
            Duration::try_from_secs_f64(sending.bytes as f64 / self.rate.highest()).unwrap_or(Duration::MAX);
        let queueing = latency.saturating_sub(rtt).saturating_sub(own);
        if queueing > (3 * rtt).clamp(CUT_MIN, CUT_MAX) {
            self.cut(sending, sample, latency, now);
        } else if sending.limited && queueing <= headroom(rtt) {
            let target = (self.rate.highest() * (rtt + headroom(rtt)).as_secs_f64()) as u64;
            if self.bytes < target {
                self.bytes = (self.bytes + sending.bytes).min(target).min(self.bytes_max);
            }
        }
    }

    /// Takes a row out of the account without learning from it: refused, given up, or acknowledged after a repetition.
    pub fn forget(&mut self, sending: Sending) {
        debug_assert!(self.in_flight >= sending.bytes, "a row leaves the window once");
        self.in_flight = self.in_flight.saturating_sub(sending.bytes);
    }

    /// The window in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes in flight.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Latency of the newest acknowledgement.
    pub fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// The shortest acknowledgement lately.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.map(|rtt| rtt.shortest)
    }

    fn limit(&self) -> u64 {
        if self.sounding.is_some() { 0 } else { self.bytes }
    }

    /// Nothing was in flight before it, and nothing has been sent since.
    fn was_alone(&self, sending: Sending) -> bool {
        sending.alone == Some(self.sent)
    }

    fn learn_rtt(&mut self, sending: Sending, latency: Duration, now: Instant) {
        let alone = self.was_alone(sending);
        if self.rtt.is_none_or(|rtt| latency <= rtt.shortest) || (alone && self.sounding.is_some()) {
            self.rtt = Some(Rtt { shortest: latency, seen_at: now });
        }
        match (&mut self.sounding, &mut self.rtt) {
            (Some(_), _) if alone => self.sounding = None,
            (Some(spoilt), Some(rtt)) => {
                *spoilt += 1;
                if *spoilt > SOUNDINGS_SPOILT_MAX {
                    self.sounding = None;
                    rtt.seen_at = now;
                }
            }
            _ => {}
        }
    }

    fn cut(&mut self, sending: Sending, sample: f64, latency: Duration, now: Instant) {
        if self.was_alone(sending) {
            // This is the path, not a queue.
            self.rtt = Some(Rtt { shortest: latency, seen_at: now });
            return;
        }
        if self.cut_at.is_some_and(|cut_at| sending.at < cut_at) {
            return;
        }
        self.cut_at = Some(now);
        self.bytes = (self.bytes / 2).max(1);
        self.rate.replace(sample, now);
    }
}

// === impl Rate ===

impl Rate {
    fn learn(&mut self, sample: f64, limited: bool, now: Instant) {
        let since = *self.since.get_or_insert(now);
        // An interval in which the window was never the limit knows no better than the one before.
        if now.duration_since(since) > RATE_INTERVAL && self.limited {
            self.previous = self.current;
            self.current = 0.0;
            self.since = Some(now);
            self.limited = false;
        }
        self.limited |= limited;
        self.current = self.current.max(sample);
    }

    fn replace(&mut self, sample: f64, now: Instant) {
        *self = Rate { current: sample, previous: 0.0, since: Some(now), limited: false };
    }

    /// Bytes per second.
    fn highest(&self) -> f64 {
        self.current.max(self.previous)
    }
}

fn headroom(rtt: Duration) -> Duration {
    rtt.clamp(HEADROOM_MIN, HEADROOM_MAX)
}

#[cfg(test)]
mod tests;
