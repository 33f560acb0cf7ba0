//! A gateway as its controllers see it: wasmCloud's own client and wadm's own code, over a hub and a leaf node that are
//! really there. What the bytes are is the matter of `tests/it/lattice`; this is whether those who send them are content.
//!
//! `FROND` names the program under test, else it is the one that `cargo test` of the product has built. Its target folder
//! holds the components, too: `just guests`.

mod applications;
mod bus;
mod controller;
mod operations;
mod outages;
mod sensor;
mod site;
