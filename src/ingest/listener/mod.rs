//! The second door: what a site needs of a broker beside the protocol.

pub mod queue;
pub mod retained;
pub mod tree;
