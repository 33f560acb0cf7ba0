//! The uplink: carries the outbox to the hub's JetStream, every row exactly once.
//!
//! **Whose state.** One task, [`Uplink`], owns everything in here. Durable is only what the store keeps: the rows, and one
//! floor for each subject. **Across power loss** nothing acknowledged by the hub is needed and nothing unacknowledged is
//! lost: a row is deleted only after its PubAck, or after it was seen in the stream. **When full** nothing is dropped here:
//! the uplink takes from the store only what the window lets through; the outbox has the caps.
//!
//! ```text
//!  store ──pages──▶ feed ──▶ lanes ──▶ window ──▶ JetStream ──PubAck──▶ settle ──▶ store
//!                    ▲        (who)     (when)       │
//!                    └── again ◀── read-back ◀───────┘ no answer, connection lost, process restarted
//! ```
//!
//! # Why every row arrives exactly once
//! A row is (gateway, lane, stream, epoch, seq), in its headers; `Nats-Msg-Id` is made of the same.
//! 1. *At least once*: a row is settled only when a PubAck names it, or a read-back saw it in the stream. Until then it
//!    is in the outbox.
//! 2. *At most once*: a row is sent a second time only after a read-back that began after its first sending was given up
//!    (timeout, lost connection, restart) has looked at every message of its subject above a number that the row cannot
//!    lie below ([`floors`]), and has not found it. "Nothing at or below the highest sequence the hub holds" would not do:
//!    with rows in a pipeline 5 may be lost and 6 stored. Each sequence is looked for by itself.
//! 3. *A late copy*: could the first copy arrive after the read-back? The read-back begins with a message behind the rows, to
//!    the same stream, which the stream refuses in its turn; NATS keeps the order of a connection, so whatever was sent
//!    before on this path has been stored or lost by then. A connection that broke delivers nothing beyond what its
//!    server has in hand, and gets half a second for that. What still slips through arrives within the stream's
//!    duplicate window (2 minutes by default), where JetStream refuses it by its `Nats-Msg-Id`.
//!
//! Limits. A message that the hub has removed before it was read back (purged, expired, consumed from a work queue) is not
//! found and is sent again; so consumers are to be idempotent on the five names, as `frond hub` is, and the stream should
//! keep messages longer than the link may be down. A duplicate window shorter than the path's delay leaves 3. to the order
//! of connections alone. A stream deleted and made anew while the gateway is without power, grown beyond the old one's
//! numbers before it returns, hides rows that were under way.

pub mod answer;
mod doubt;
mod drain;
pub mod feed;
pub mod flight;
pub mod floors;
pub mod lanes;
pub mod message;
pub mod mode;
mod readback;
pub mod recall;
pub mod seqset;
mod status;
mod traffic;
pub mod window;

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use answer::{Answer, Refusal};
pub use mode::{Mode, SLOW_ADVICE};
pub use status::{Busy, Status};

use crate::config::Config;
use crate::lattice::LinkHandle;
use crate::store::{Handle, StoreGone};

/// What the uplink takes from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the gateway.
    pub gateway: String,
    /// First token of the subjects.
    pub prefix: String,
    /// A row without an answer for so long is in doubt.
    pub ack_timeout: Duration,
    /// Upper bound of the window.
    pub inflight_bytes_max: u64,
    /// See [`lanes`].
    pub backlog_share_percent: u8,
}

/// The task.
#[derive(Debug)]
pub struct Uplink {
    store: Handle,
    link: LinkHandle,
    settings: Settings,
    status: watch::Sender<Status>,
    busy: watch::Sender<bool>,
}

/// What others have of the uplink.
#[derive(Debug, Clone)]
pub struct UplinkHandle {
    /// What it is doing.
    pub status: watch::Receiver<Status>,
    /// Whether something urgent waits.
    pub busy: Busy,
}

/// Why the uplink ended before it was told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UplinkError {
    /// The store is gone.
    #[error("the uplink has lost its store")]
    Store(#[from] StoreGone),
    /// The link's task is gone.
    #[error("the uplink has lost its link")]
    LinkGone,
}

// === impl Settings ===

impl Settings {
    /// The part of `config` that concerns the uplink.
    pub fn of(config: &Config) -> Settings {
        Settings {
            gateway: config.gateway.name.clone(),
            prefix: config.lattice.subject.clone(),
            ack_timeout: config.uplink.ack_timeout,
            inflight_bytes_max: config.uplink.inflight_bytes_max,
            backlog_share_percent: config.uplink.backlog_share_percent,
        }
    }
}

// === impl Uplink ===

impl Uplink {
    /// The task and what others have of it.
    pub fn new(settings: Settings, store: Handle, link: LinkHandle) -> (Uplink, UplinkHandle) {
        let (status, status_seen) = watch::channel(Status::default());
        let (busy, busy_seen) = watch::channel(false);
        let uplink = Uplink { store, link, settings, status, busy };
        (uplink, UplinkHandle { status: status_seen, busy: Busy(busy_seen) })
    }

    /// Runs until `stop`; then takes what is still coming for a second and hands over what is acknowledged. The store must
    /// outlive it.
    pub async fn run(self, stop: CancellationToken) -> Result<(), UplinkError> {
        let Uplink { store, link, settings, status, busy } = self;
        drain::Drain::new(store, link, settings, status, busy).run(stop).await
    }
}
