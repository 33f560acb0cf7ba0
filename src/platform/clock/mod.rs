//! The time: when a reading arrived, and whether that may be believed.
//!
//! ```text
//!                    a reason to trust the system clock
//!   Estimating ─────────────────────────────────────────▶ Trusted ─┐ within 1 s: followed, at most 500 ppm
//!   timeline Boot: floor + time      offset learnt,        timeline │ ahead:       stepped at once
//!   since the first look             correction told       Arrival  │ behind:      followed slowly
//!                                                             ▲     │ behind 10 s: learnt again, counted
//!                                                             └─────┘
//! ```
//! What for: a gateway without a battery-backed clock boots in 1970 and learns the time later, or never. Stamps are the
//! time since boot, which nobody sets, plus an offset; the offset is an estimate until the system clock is trusted. Trust,
//! once given, stays for the life of the process.
//! State: [`ClockKeeper`] alone changes the offset; [`WallClock`]s read it, without locks. The decisions are in `policy`,
//! which does nothing else.
//! Power loss: nothing is kept here. The store keeps, beside each boot, the offset its estimates are made with (a process
//! started again in the same boot must go on with it) and the correction once it is known.
//! Bounds: one timer, no queues.
//!
//! Stamps of one timeline do not go backwards, with one exception: a trusted clock that turns out to be 10 s or more ahead
//! is believed again. Holding every stamp until the time has caught up would be worse. The kernel disciplines the time
//! since boot together with the system clock, so between steps there is next to nothing to follow.

mod keeper;
mod policy;
mod sources;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::sample::{BootId, Nanos, Timeline};

pub use keeper::{ADVICE, Beginning, ClockKeeper, PATIENCE};
pub use sources::{boot_id, boottime, realtime};

/// A trusted stamp that would lie behind the one before it by no more than this is held: following a clock that is behind
/// moves the offset back by at most 30 ms at a time, learning it again by at least 10 s.
const HOLD_MAX: Nanos = crate::sample::SECOND;

/// No offset is trusted yet. Not a possible offset: it would be 292 years before the epoch.
const UNTRUSTED: i64 = i64::MIN;

/// Why the time is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The kernel does not say which boot this is.
    #[error("the boot identifier cannot be read from {path}")]
    BootId {
        /// Where it should be.
        path: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// How often the trusted clock was found in another place than expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockSteps {
    /// Ahead by more than a second, and followed at once.
    pub forward: u64,
    /// Behind by ten seconds or more, and learnt again: stamps went backwards.
    pub back: u64,
}

/// Gives stamps. Cheap to clone and to ask, from any thread.
#[derive(Debug, Clone)]
pub struct WallClock {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    boot: BootId,
    /// Offset of estimates. It never changes, so that one correction puts them all right.
    estimate: Nanos,
    /// Offset of trusted stamps, or [`UNTRUSTED`]. The timeline follows from it, so that a stamp never mixes the two.
    trusted: AtomicI64,
    /// The newest trusted stamp given.
    last: AtomicI64,
    steps_forward: AtomicU64,
    steps_back: AtomicU64,
}

// === impl WallClock ===

impl WallClock {
    /// The time, and whose it is.
    pub fn stamp(&self) -> (Nanos, Timeline) {
        self.stamp_at(boottime())
    }

    /// The time, if it is trusted.
    pub fn trusted_now(&self) -> Option<Nanos> {
        match self.stamp() {
            (now, Timeline::Arrival) => Some(now),
            _ => None,
        }
    }

    /// What estimates of this boot have been made with: nanoseconds added to the time since boot. To be kept beside the
    /// boot, see [`Beginning::estimate`].
    pub fn estimate(&self) -> Nanos {
        self.shared.estimate
    }

    /// Steps so far.
    pub fn steps(&self) -> ClockSteps {
        ClockSteps {
            forward: self.shared.steps_forward.load(Ordering::Relaxed),
            back: self.shared.steps_back.load(Ordering::Relaxed),
        }
    }

    fn stamp_at(&self, boottime: Nanos) -> (Nanos, Timeline) {
        match self.shared.trusted.load(Ordering::Acquire) {
            UNTRUSTED => (boottime + self.shared.estimate, Timeline::Boot(self.shared.boot)),
            offset => (self.shared.hold(boottime + offset), Timeline::Arrival),
        }
    }
}

// === impl Shared ===

impl Shared {
    fn new(boot: BootId, estimate: Nanos) -> Self {
        Self {
            boot,
            estimate,
            trusted: AtomicI64::new(UNTRUSTED),
            last: AtomicI64::new(i64::MIN),
            steps_forward: AtomicU64::new(0),
            steps_back: AtomicU64::new(0),
        }
    }

    /// `now`, or the newest stamp given if `now` is a little behind it.
    fn hold(&self, now: Nanos) -> Nanos {
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            if now <= last && last - now <= HOLD_MAX {
                return last;
            }
            match self.last.compare_exchange_weak(last, now, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return now,
                Err(newer) => last = newer,
            }
        }
    }
}
