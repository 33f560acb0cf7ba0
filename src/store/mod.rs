//! The SQLite thread: the one owner of `telemetry.db`, and with it of the journal, the ring, the outbox and the names.
//!
//! ```text
//!              ┌──────────── Taking ◀───────────────┐
//!              │ commit fails                       │ commit succeeds
//!              ▼                                    │
//!           Stalled ── every second, try again ─────┘        corruption: mark, end; the next start sets it aside
//! ```
//! Everything that changes the database is gathered and written in one transaction, at most `commit_interval` later:
//! new names, the group of messages, a checkpoint with its outputs, what the hub holds, what the caps drop. Only after
//! its sync are messages acknowledged, checkpoints confirmed and outputs shown to the uplink. While the disk refuses,
//! the group stays in memory, nothing more is taken (the channel fills, doors stop polling, the broker or the sensors
//! keep the rest), and the reason stands in the status. Nothing is dropped here but what the caps say, counted.
//!
//! The thread runs an event loop of its own; database calls happen between its awaits, so nothing else waits for them.

mod commit;
mod handle;
mod names;
mod open;
mod recall;
mod report;
mod requests;
mod setup;
mod start;
mod stats;
#[cfg(test)]
mod tests;
mod thread;

pub use handle::*;
pub use names::{Known, Names};
pub use open::{OpenError, SetAside, is_corruption, mark_suspect};
pub use setup::{Channels, DoorSetup, Peers, Policy, Start, StoreError, StreamPolicy};
pub use stats::{Stalled, StoreStats};
pub use thread::Store;
