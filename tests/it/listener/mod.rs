//! The listener door, against clients of its own and of others.

mod client;
mod crash;
mod power;
mod protocol;
mod rig;
mod tools;
mod websocket;
mod window;
