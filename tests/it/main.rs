//! Integration tests: one binary, so that wasmtime is linked once; real files, real brokers, real links.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod artifact;
mod codec;
mod compat;
mod component;
mod config_files;
mod crash;
mod device;
mod gateway;
mod hub;
mod ingest;
mod lattice;
mod link;
mod listener;
mod listener_clients;
mod listener_hostile;
mod listener_rig;
mod listener_sensor;
mod nats;
mod peers;
mod power;
mod power_rig;
mod recall;
mod replay;
mod runtime;
mod slave;
mod store;
mod store_power;
mod uplink;
mod whole;
mod workload;
