//! The link to the lattice: one NATS connection, and the truth about the hub behind it.
//!
//! [`Link`] is the task that owns both; [`LinkHandle`] is what the uplink, recall and status have of it. [`wasmbus`] is
//! wasmCloud's control protocol on the same connection, [`shared`] the lattice's buckets at the hub, if the gateway is not
//! alone in its lattice. Nothing here is kept across a restart but the host's identity,
//! nothing is queued: what waits for the hub waits in the outbox.

mod api;
mod dial;
mod identity;
mod leaf;
pub mod leaf_conf;
mod link;
pub mod shared;
mod state;
pub mod wasmbus;

pub use api::{ANSWER_TIMEOUT, Api, ApiError, StreamContents, StreamInfo};
pub use dial::{Peer, Reconnect, Target};
pub use identity::{Identity, IdentityError};
pub use link::{Link, LinkHandle};
pub use state::{LeafFact, LinkState, Trouble};
