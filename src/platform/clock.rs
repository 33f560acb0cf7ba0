//! The wall clock. (A minimal stand-in with the agreed interface, to be replaced by the real module.)

use std::time::{SystemTime, UNIX_EPOCH};

use crate::sample::{Nanos, Timeline};

/// The wall clock, always trusted here.
#[derive(Debug, Clone, Default)]
pub struct WallClock;

// === impl WallClock ===

impl WallClock {
    /// The stamp of something that arrives now.
    pub fn stamp(&self) -> (Nanos, Timeline) {
        (now(), Timeline::Arrival)
    }

    /// The time, if it is trusted.
    pub fn trusted_now(&self) -> Option<Nanos> {
        Some(now())
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the platform")]
fn now() -> Nanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Nanos::try_from(since.as_nanos()).unwrap_or(Nanos::MAX)
}
