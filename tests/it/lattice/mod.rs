//! The gateway as a host of a wasmCloud lattice: a running gateway, a real nats-server, and literal JSON.

mod answers;
mod artifacts;
mod hostile;
mod offline;
mod power;
mod rig;
mod work;
