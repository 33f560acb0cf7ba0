//! Confirms a trial once the gateway has been healthy for long enough.
//!
//! Health is what the watchdog sees: every critical task beats. A task that ends takes the process with it, so the time
//! begins anew with every restart of the service; a trial in which that never stops is ended by the image's own timer.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Installer, RaucError, Record, RecordError, Slot, Standing, booted};
use crate::platform::log::chain;
use crate::supervise::Vitals;

/// How often health is looked at. A task that is overdue in between is overdue at the next look, too: beats have limits of
/// a minute.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Pause after a confirmation that failed: RAUC may be restarting, or the disk full.
const RETRY_PAUSE: Duration = Duration::from_secs(30);

/// The task.
#[derive(Debug)]
pub struct Confirmation {
    vitals: Vitals,
    data_dir: PathBuf,
    confirm_after: Duration,
}

/// What a look at the gateway's health leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Healthy since then, and not for long enough.
    Wait(Duration),
    /// Not healthy: the time begins anew.
    Begin,
    /// Long enough.
    Confirm,
}

/// Decides. `healthy` is for how long every look has found every critical task alive, none if this one has not.
pub fn step(healthy: Option<Duration>, confirm_after: Duration) -> Step {
    match healthy {
        None => Step::Begin,
        Some(healthy) if healthy >= confirm_after => Step::Confirm,
        Some(healthy) => Step::Wait(confirm_after - healthy),
    }
}

#[derive(Debug, thiserror::Error)]
enum ConfirmError {
    #[error("RAUC does not mark the slot")]
    Rauc(#[from] RaucError),
    #[error("the record cannot be kept")]
    Record(#[from] RecordError),
}

// === impl Confirmation ===

impl Confirmation {
    /// A task that watches `vitals` and keeps the record in `data_dir`.
    pub fn new(vitals: Vitals, data_dir: PathBuf, confirm_after: Duration) -> Confirmation {
        Confirmation { vitals, data_dir, confirm_after }
    }

    /// Confirms the booted slot if it is on trial, then waits to be stopped.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        if let Some(slot) = booted() {
            // Cancel-safe: between the two steps of a confirmation a cut is like a power cut, see the module.
            let _ = stop.run_until_cancelled(self.watch(slot)).await;
        }
        stop.cancelled().await;
        Ok(())
    }

    async fn watch(&self, slot: Slot) {
        loop {
            let record = match Record::load(&self.data_dir) {
                Ok(record) => record,
                Err(err) => {
                    warn!(error = %chain(&err), "the record of slots cannot be read");
                    None
                }
            };
            if Standing::of(slot, record) == Standing::Confirmed(slot) {
                return;
            }
            info!(slot = %slot, after_s = self.confirm_after.as_secs(), "slot is on trial");
            self.healthy_for_long_enough().await;
            match self.confirm(slot, record).await {
                Ok(()) => return info!(slot = %slot, "slot confirmed"),
                Err(err) => warn!(slot = %slot, error = %chain(&err), "slot cannot be confirmed yet"),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn healthy_for_long_enough(&self) {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut since = Instant::now();
        loop {
            looks.tick().await;
            let healthy = self.vitals.overdue().is_empty().then(|| since.elapsed());
            match step(healthy, self.confirm_after) {
                Step::Confirm => return,
                Step::Begin => since = Instant::now(),
                Step::Wait(_) => {}
            }
        }
    }

    /// RAUC first: with its mark alone the next start is this slot's again, on trial; with the record alone the starter
    /// would trust what firmware does not know of.
    async fn confirm(&self, slot: Slot, before: Option<Record>) -> Result<(), ConfirmError> {
        Installer::connect().await?.mark_good().await?;
        Record::confirming(before, slot).store(&self.data_dir)?;
        Ok(())
    }
}
