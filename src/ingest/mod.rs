//! x
pub mod account;
pub mod decode;
pub mod intake;
pub mod naming;
mod reason;
pub mod seen;
mod series;
pub mod topic;
pub use reason::{Reason, Tally};
