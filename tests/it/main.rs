//! One binary of integration tests: real files, real brokers, real links.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod power;
mod power_rig;
