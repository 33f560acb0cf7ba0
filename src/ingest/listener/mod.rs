//! The second door: what a site needs of a broker beside the protocol.

pub mod entrance;
pub mod limiter;
pub mod password;
pub mod queue;
pub mod retained;
pub mod tls;
pub mod tree;
pub mod users;
