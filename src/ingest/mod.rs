//! x
pub mod account;
pub mod broker;
pub mod decode;
pub mod intake;
mod link;
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
pub use state::{DoorState, DoorView};

use crate::sample::{DoorId, Durability};

/// The broker door that serves streams of a durability class.
pub fn door_id(durability: Durability) -> DoorId {
    DoorId(match durability {
        Durability::Reading => 0,
        Durability::Window => 1,
        Durability::None => 2,
    })
}

/// What is put behind the client identifier for a broker door's session.
pub fn session_suffix(door: DoorId) -> &'static str {
    match door.0 {
        0 => "reading",
        1 => "window",
        _ => "none",
    }
}
