//! Where readings come in: MQTT messages become [`Message`](crate::sample::Message)s on their way to the journal.
//!
//! ```text
//!  broker ──▶ broker.rs ── link.rs, sift.rs, pace.rs, state.rs
//!  clients ─▶ listener/    (the gateway's own)
//!                │  ▲
//!   topic, bytes │  │ acknowledge, once the journal says durable
//!                ▼  │
//!             intake.rs ── topic.rs ─▶ decode/ ─▶ naming.rs, series.rs        seen.rs: is it a copy?
//!                │                                                           account.rs, reason.rs: what was counted
//!                ▼
//!             journal (bounded channel: when it is full, the door stops reading)
//! ```
//! One message, as its door sees it:
//! ```text
//!  received ──▶ taken ──┬─ fresh ───▶ passed on (ticket) ─── durable ──▶ acknowledged
//!     │                 ├─ copy, pending ───────────────────── durable ──▶ acknowledged
//!     │                 └─ copy, durable ─────────────────────────────────▶ acknowledged
//!     └─ belongs to no stream, retained copy ─────────────────────────────▶ acknowledged
//!                                        (always in the order of receipt, only on the connection it came by)
//! ```
//! A payload that cannot be decoded is passed on without readings, so that its acknowledgement keeps its place; it is
//! counted by stream and reason, and its beginning is kept for the operator ([`account::Specimens`]).
//!
//! State belongs to the door's task. Across power loss nothing here is kept: the broker repeats what it has not seen
//! acknowledged, and the identities the journal has committed tell which of that is known ([`seen::Seen`]). Nothing is
//! dropped when the journal is slow; caches that are full are cleared, and series beyond a stream's maximum are refused,
//! both counted.

pub mod account;
pub mod broker;
pub mod decode;
pub mod intake;
mod link;
pub mod listener;
pub mod naming;
mod pace;
mod reason;
pub mod seen;
mod series;
mod sift;
pub mod state;
pub mod topic;

pub use account::Counters;
pub use broker::{BrokerDoor, DoorError};
pub use intake::SetupError;
pub use reason::{Reason, Tally};
pub use state::{DOWN_ADVICE, DoorState, DoorView};

use crate::sample::{DoorId, Durability};

/// The broker door that serves streams of a durability class.
pub fn door_id(durability: Durability) -> DoorId {
    DoorId(match durability {
        Durability::Reading => 0,
        Durability::Window => 1,
        Durability::None => 2,
    })
}

/// What is put behind the client identifier for the session of a broker door; the listener's has a name only.
pub fn session_suffix(door: DoorId) -> &'static str {
    match door.0 {
        0 => "reading",
        1 => "window",
        2 => "none",
        _ => "listener",
    }
}
