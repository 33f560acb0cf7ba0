//! RAUC over D-Bus: `de.pengutronix.rauc.Installer`, as of RAUC 1.8 and later.
//!
//! Every call has a limit; an installation has one between two signs of progress.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::timeout;
use zbus::{OwnedVariant, Variant};

use super::Slot;

/// For a question: RAUC is started by the bus when it is not there, and reads firmware variables.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Between two signs of progress of an installation: 256 MiB at the 2 MiB/s of a worn card.
const PROGRESS_MAX: Duration = Duration::from_secs(180);

/// Why RAUC did not do it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum RaucError {
    #[error("the system bus cannot be reached")]
    Bus(#[source] zbus::Error),
    #[error("RAUC refuses to {what}")]
    Refused { what: &'static str, source: zbus::Error },
    #[error("RAUC does not answer when asked to {what}")]
    Silent { what: &'static str },
    #[error("the bundle was not installed: {reason}")]
    Installation { reason: String },
}

/// How far an installation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Per cent.
    pub percent: i32,
    /// What is being done.
    pub what: String,
}

/// What RAUC knows of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlotState {
    /// Version of the bundle that was installed last; none for what a card was flashed with.
    pub version: Option<String>,
    /// Whether firmware has the slot in its order of starts: `good` or `bad`.
    pub boot_status: Option<String>,
    /// When it was installed.
    pub installed: Option<String>,
    /// Whether the last installation came to its end.
    pub complete: bool,
}

#[zbus::proxy(
    interface = "de.pengutronix.rauc.Installer",
    default_service = "de.pengutronix.rauc",
    default_path = "/"
)]
trait Rauc {
    fn install_bundle(&self, source: &str, args: HashMap<&str, Variant<'_>>) -> zbus::Result<()>;
    fn mark(&self, state: &str, slot_identifier: &str) -> zbus::Result<(String, String)>;
    fn get_slot_status(&self) -> zbus::Result<Vec<(String, HashMap<String, OwnedVariant>)>>;
    fn get_primary(&self) -> zbus::Result<String>;
    #[zbus(signal)]
    fn completed(&self, result: i32) -> zbus::Result<()>;
    #[zbus(property)]
    fn last_error(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn progress(&self) -> zbus::Result<(i32, String, i32)>;
}

/// The connection to RAUC.
#[derive(Debug)]
pub struct Installer {
    rauc: RaucProxy<'static>,
}

// === impl Installer ===

impl Installer {
    /// Connects to the system bus.
    pub async fn connect() -> Result<Installer, RaucError> {
        let connection = zbus::Connection::system().await.map_err(RaucError::Bus)?;
        let rauc = RaucProxy::new(&connection).await.map_err(RaucError::Bus)?;
        Ok(Installer { rauc })
    }

    /// Marks the booted slot as good: firmware starts it from now on.
    pub async fn mark_good(&self) -> Result<(), RaucError> {
        answer("mark the booted slot", self.rauc.mark("good", "booted")).await.map(drop)
    }

    /// Lets firmware start the other slot next, once.
    pub async fn try_other(&self) -> Result<(), RaucError> {
        answer("start the other slot next", self.rauc.mark("active", "other")).await.map(drop)
    }

    /// The slot firmware starts next, if RAUC finds one.
    pub async fn next(&self) -> Option<Slot> {
        let name = answer("name the next slot", self.rauc.get_primary()).await.ok()?;
        [Slot::A, Slot::B].into_iter().find(|slot| slot.rauc_name() == name)
    }

    /// What is known of a slot.
    pub async fn state(&self, slot: Slot) -> Result<SlotState, RaucError> {
        let slots = answer("describe the slots", self.rauc.get_slot_status()).await?;
        let found = slots.into_iter().find(|(name, _)| name == slot.rauc_name());
        let text = |key: &str| {
            let value = found.as_ref()?.1.get(key)?;
            <&str>::try_from(value).ok().map(str::to_owned)
        };
        Ok(SlotState {
            version: text("bundle.version"),
            boot_status: text("boot-status"),
            installed: text("installed.timestamp"),
            complete: text("status").is_none_or(|status| status == "ok"),
        })
    }

    /// Writes a bundle to the slot that is not booted, and lets firmware start it next, once.
    pub async fn install(&self, bundle: &Path, mut tell: impl FnMut(Progress)) -> Result<(), RaucError> {
        const WHAT: &str = "install the bundle";
        let refused = |source| RaucError::Refused { what: WHAT, source };
        let mut ends = self.rauc.receive_completed().await.map_err(refused)?;
        let mut steps = self.rauc.receive_progress_changed().await;
        let source = bundle.to_string_lossy();
        answer(WHAT, self.rauc.install_bundle(&source, HashMap::new())).await?;
        loop {
            // Cancel-safe: both are streams, and what was not taken comes again.
            let next = async {
                tokio::select! {
                    end = ends.next() => Some(end),
                    step = steps.next() => {
                        if let Some(step) = step && let Ok((percent, what, _)) = step.get().await {
                            tell(Progress { percent, what });
                        }
                        None
                    }
                }
            };
            match timeout(PROGRESS_MAX, next).await {
                Err(_) => return Err(RaucError::Silent { what: WHAT }),
                Ok(None) => {}
                Ok(Some(end)) => {
                    return self.outcome(end.and_then(|end| end.args().ok().map(|args| args.result))).await;
                }
            }
        }
    }

    async fn outcome(&self, result: Option<i32>) -> Result<(), RaucError> {
        match result {
            Some(0) => Ok(()),
            _ => {
                let reason =
                    self.rauc.last_error().await.unwrap_or_else(|_| "RAUC does not say why".to_owned());
                Err(RaucError::Installation { reason })
            }
        }
    }
}

async fn answer<T>(what: &'static str, asked: impl Future<Output = zbus::Result<T>>) -> Result<T, RaucError> {
    match timeout(ANSWER_MAX, asked).await {
        Ok(Ok(answered)) => Ok(answered),
        Ok(Err(source)) => Err(RaucError::Refused { what, source }),
        Err(_) => Err(RaucError::Silent { what }),
    }
}
