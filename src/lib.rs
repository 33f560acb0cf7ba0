//! Frond: firmware for edge gateways. See README.md for the picture; the modules below are its boxes.

pub mod block;
pub mod config;
pub mod outbox;
pub mod reduce;
pub mod sample;
pub mod store;
