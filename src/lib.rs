//! Frond: firmware for edge gateways. See README.md for the picture; the modules below are its boxes.

pub mod app;
pub mod artifact;
pub mod block;
pub mod cli;
pub mod config;
pub mod console;
pub mod control;
pub mod device;
pub mod ingest;
pub mod journal;
pub mod lattice;
pub mod outbox;
pub mod platform;
pub mod reduce;
pub mod runtime;
pub mod sample;
pub mod slot;
pub mod store;
pub mod supervise;
pub mod uplink;
pub mod workload;
