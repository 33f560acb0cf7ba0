//! One binary of integration tests: real files, real brokers, real links.

mod power;
mod power_rig;
