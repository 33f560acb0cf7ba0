//! The whole gateway: the real binary between a real mosquitto and real nats-servers, with everything that goes wrong
//! around it. Each test ends in a stated state in the status, a log line that says what to do, and a ledger without loss.

pub mod books;
mod components;
mod creds;
mod deployments;
mod disk;
mod faults;
mod input;
mod links;
mod modes;
mod once;
pub mod sensor;
pub mod site;
pub mod wire;
mod zoo;
