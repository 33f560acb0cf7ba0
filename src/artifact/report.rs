//! How far a fetch is, for the log: at its begin, now and then, and at its end.

use std::time::Duration;

use tokio::time::Instant;

/// Between two lines: an artifact that takes an hour over a bad link leaves 120 of them.
const EVERY: Duration = Duration::from_secs(30);

/// One fetch.
#[derive(Debug)]
pub(super) struct Report<'a> {
    reference: &'a str,
    bytes: u64,
    told: Instant,
}

// === impl Report ===

impl<'a> Report<'a> {
    /// A fetch of so many bytes, of which some are there.
    pub(super) fn begin(reference: &'a str, bytes: u64, there: u64) -> Report<'a> {
        match there {
            0 => tracing::info!(reference, bytes, "fetching an artifact"),
            _ => tracing::info!(reference, bytes, there, "going on with fetching an artifact"),
        }
        Report { reference, bytes, told: Instant::now() }
    }

    /// So many are there now.
    pub(super) fn at(&mut self, there: u64) {
        let Report { reference, bytes, .. } = *self;
        if there >= bytes {
            tracing::info!(reference, bytes, "artifact fetched");
        } else if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            tracing::info!(reference, bytes, there, "still fetching an artifact");
        }
    }
}
