//! The link to the lattice: one NATS connection, and the truth about the hub behind it.
//!
//! [`Link`] is the task that owns both; [`LinkHandle`] is what the uplink, recall and status have of it. The control
//! protocols of the lattice will sit beside it. Nothing here is kept across a restart, nothing is queued: what waits for
//! the hub waits in the outbox.

mod api;
mod dial;
mod leaf;
pub mod leaf_conf;
mod link;
mod state;

pub use api::{ANSWER_TIMEOUT, Api, ApiError, StreamContents, StreamInfo};
pub use dial::{Peer, Reconnect, Target};
pub use link::{Link, LinkHandle};
pub use state::{LeafFact, LinkState, Trouble};
