//! The gateway as a host of a wasmCloud lattice: a running gateway, a real nats-server, and literal JSON.

mod answers;
mod hostile;
mod offline;
mod power;
mod rig;
mod shared;
mod shared_rig;
mod work;
