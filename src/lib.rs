//! Frond: firmware for edge gateways. See README.md for the picture; the modules below are its boxes.

pub mod block;
pub mod cli;
pub mod config;
pub mod lattice;
pub mod outbox;
pub mod sample;
pub mod store;
pub mod uplink;
