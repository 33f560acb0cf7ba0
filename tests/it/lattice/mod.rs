//! The gateway as a host of a wasmCloud lattice: a running gateway, a real nats-server, and literal JSON.

mod answers;
mod artifacts;
mod hostile;
mod http;
mod offline;
mod power;
mod probation;
mod rig;
mod shared;
mod shared_rig;
mod work;
