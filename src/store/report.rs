//! How the store tells what it does, and what it does about wear.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, warn};

use crate::platform::vfs;

use super::Stalled;
use super::thread::Store;

/// Between attempts while the disk refuses.
const RETRY: Duration = Duration::from_secs(1);

// === impl Store ===

impl Store {
    pub(super) fn stall(&mut self, err: &rusqlite::Error) {
        let attempts = self.stats.stalled.as_ref().map_or(0, |stalled| stalled.attempts) + 1;
        let advice = stall_advice(err, &self.policy.data_dir);
        if attempts == 1 {
            error!(
                error = %err, advice = %advice,
                "database cannot be written; nothing is lost, messages are no longer acknowledged until it can"
            );
        }
        self.stats.stalled = Some(Stalled { reason: err.to_string(), advice, attempts });
        self.publish_stats();
        self.want_commit(RETRY);
    }

    pub(super) fn note_wear(&mut self) {
        let (bytes, now) = (written_bytes(), Instant::now());
        let (before, then) = self.wear_noted;
        if now.duration_since(then) < Duration::from_secs(1) {
            return;
        }
        self.wear_noted = (bytes, now);
        if let Some(interval) = self.wear.note(bytes - before, now.duration_since(then)) {
            warn!(
                interval_ms = interval.as_millis() as u64,
                written_per_day = self.wear.bytes_per_day() as u64,
                budget_per_day = self.wear.budget_bytes_per_day(),
                "wear budget decides the commit interval; acknowledgements take that long, nothing is lost"
            );
        }
    }

    pub(super) fn publish_stats(&mut self) {
        let (mut rows, mut bytes, mut dropped) = (0, 0, 0);
        for (_, account) in self.ledger.accounts() {
            rows += account.rows;
            bytes += account.bytes;
            dropped += account.dropped;
        }
        self.stats.outbox_rows = rows;
        self.stats.outbox_bytes = bytes;
        self.stats.outbox_dropped = dropped;
        self.stats.ring_bytes = self.ring.bytes;
        self.stats.ring_readings = self.ring.readings;
        self.stats.ring_dropped = self.ring.dropped;
        self.stats.commit_interval_ms = self.wear.interval().as_millis() as u64;
        self.stats.written_bytes = written_bytes();
        self.stats.written_per_day = self.wear.bytes_per_day();
        self.stats.wear_budget_per_day = self.wear.budget_bytes_per_day();
        self.stats_out.send_replace(self.stats.clone());
    }
}

fn stall_advice(err: &rusqlite::Error, data_dir: &Path) -> String {
    let folder = data_dir.display();
    match err.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => {
            format!(
                "free space on the partition of {folder}, or lower outbox.bytes_max and journal.ring_bytes_max"
            )
        }
        Some(rusqlite::ErrorCode::ReadOnly) => {
            format!("make {folder} writable again; a file system that turned read-only needs a check")
        }
        _ => format!("check the storage under {folder}: the kernel's log says more"),
    }
}

/// Bytes SQLite has written since the process started.
pub(super) fn written_bytes() -> u64 {
    vfs::counters().sum().bytes
}
