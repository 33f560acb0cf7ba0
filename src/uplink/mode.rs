//! What the uplink is doing, in one word.
//!
//! ```text
//!              link up                all read back, backlog        backlog empty
//!   Offline ───────────▶ ReadBack ───────────────────▶ CatchUp ───────────────▶ Normal
//!      ▲                    ▲                            │  ▲                     │
//!      │ link down          │ in doubt about rows        │  │ acks in time        │
//!      └──── (any) ─────────┴──────── (any) ──────────── │  └───────┐             │ acks lag
//!                                                        └────────▶ Slow ◀────────┘
//!   any state with the link up ── the hub refuses a row ──▶ Refused ── it takes one ──▶ CatchUp or Normal
//! ```
//! Acks lag when they take longer than [`LAG_ENTER`]; they are in time again once they took less than [`LAG_LEAVE`] for
//! [`LAG_CALM`]. Pure; lives in the uplink's task; after a restart it is worked out anew.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// Ack latency that makes the link slow: four times the half second of queueing the window tolerates.
pub const LAG_ENTER: Duration = Duration::from_secs(2);

/// What somebody should do about a slow link.
pub const SLOW_ADVICE: &str = "the hub acknowledges late; nothing is lost, alarms go first; look for who else uses the link, or at the load of the hub";
/// Ack latency below which a slow link is fit again. Half of [`LAG_ENTER`], so that it does not flap.
pub const LAG_LEAVE: Duration = Duration::from_secs(1);

/// How long acks must stay below [`LAG_LEAVE`].
pub const LAG_CALM: Duration = Duration::from_secs(5);

/// The state drawn above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// No hub: everything stays in the outbox.
    #[default]
    Offline,
    /// The hub is being asked which rows it holds already; nothing is sent.
    ReadBack,
    /// Sending, with a backlog from before the link came up.
    CatchUp,
    /// Sending, no backlog.
    Normal,
    /// Sending, but acknowledgements lag.
    Slow,
    /// The hub does not take what is sent; tried again with growing pauses.
    Refused,
}

/// What the mode depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The hub can be reached.
    pub link: LinkFact,
    /// Rows may or may not be at the hub, or subjects have not been read back yet.
    pub doubt: bool,
    /// The hub refused the last row of some subject.
    pub refused: bool,
    /// Rows from before the link came up wait or are in flight.
    pub backlog: bool,
    /// The longest any acknowledgement took or is taking, as seen now; `None` when nothing is in flight or was acked.
    pub latency: Option<Duration>,
}

/// Whether the hub can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LinkFact {
    Down,
    Up,
}

/// Remembers how long acknowledgements have been in time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lag {
    calm_since: Option<Instant>,
    lagging: bool,
}

// === impl Mode ===

impl Mode {
    /// The mode these facts mean.
    pub fn of(facts: Facts, lag: &mut Lag, now: Instant) -> Mode {
        let lagging = lag.observe(facts.latency, now);
        match facts {
            Facts { link: LinkFact::Down, .. } => {
                *lag = Lag::default();
                Mode::Offline
            }
            Facts { doubt: true, .. } => Mode::ReadBack,
            Facts { refused: true, .. } => Mode::Refused,
            _ if lagging => Mode::Slow,
            Facts { backlog: true, .. } => Mode::CatchUp,
            _ => Mode::Normal,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Offline => "offline",
            Mode::ReadBack => "reading back",
            Mode::CatchUp => "catching up",
            Mode::Normal => "normal",
            Mode::Slow => "slow",
            Mode::Refused => "refused by the hub",
        })
    }
}

// === impl Lag ===

impl Lag {
    fn observe(&mut self, latency: Option<Duration>, now: Instant) -> bool {
        match latency {
            Some(latency) if latency > LAG_ENTER => {
                self.lagging = true;
                self.calm_since = None;
            }
            Some(latency) if latency > LAG_LEAVE => self.calm_since = None,
            _ => {
                let since = *self.calm_since.get_or_insert(now);
                if now.duration_since(since) >= LAG_CALM {
                    self.lagging = false;
                }
            }
        }
        self.lagging
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Facts =
        Facts { link: LinkFact::Up, doubt: false, refused: false, backlog: false, latency: None };

    fn mode(facts: Facts) -> Mode {
        Mode::of(facts, &mut Lag::default(), Instant::now())
    }

    // Goal: each arrow of the picture. Method: the facts at its head.
    #[test]
    fn facts_decide_the_mode() {
        let everything = Facts { doubt: true, refused: true, backlog: true, ..UP };
        assert_eq!(mode(Facts { link: LinkFact::Down, ..everything }), Mode::Offline);
        assert_eq!(mode(everything), Mode::ReadBack);
        assert_eq!(mode(Facts { doubt: false, ..everything }), Mode::Refused);
        assert_eq!(mode(Facts { backlog: true, ..UP }), Mode::CatchUp);
        assert_eq!(mode(UP), Mode::Normal);
    }

    // Goal: lagging acks make the link slow until they have been in time for a while. Method: a latency curve.
    #[test]
    fn a_slow_link_is_fit_again_only_after_a_calm_spell() {
        let mut lag = Lag::default();
        let start = Instant::now();
        let at = |lag: &mut Lag, seconds: u64, millis: u64| {
            let facts = Facts { latency: Some(Duration::from_millis(millis)), ..UP };
            Mode::of(facts, lag, start + Duration::from_secs(seconds))
        };
        assert_eq!(at(&mut lag, 0, 300), Mode::Normal);
        assert_eq!(at(&mut lag, 1, 2500), Mode::Slow);
        assert_eq!(at(&mut lag, 2, 500), Mode::Slow);
        assert_eq!(at(&mut lag, 4, 1500), Mode::Slow);
        assert_eq!(at(&mut lag, 5, 500), Mode::Slow);
        assert_eq!(at(&mut lag, 9, 500), Mode::Slow);
        assert_eq!(at(&mut lag, 10, 500), Mode::Normal);
    }
}
