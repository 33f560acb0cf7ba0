//! Components at work: readings go in as batches of columns, come out as readings and alarms; a timer calls those that act of
//! their own accord. What moves something on site are [`command`]s.
//!
//! The pipeline thread owns every [`Processor`], and a processor owns its instance: one wasmtime store, called by nobody
//! else. The [`Host`] is what they share: engine, imports, and the thread that ends calls which take too long.
//!
//! ```text
//!              wasm ─▶ compiled in a child process ─▶ cache ─▶ mapped
//!                                                               │
//!   ┌───────────────────────────── Loading ◀────────────────────┘
//!   │ instantiate, configure, restore the last snapshot
//!   ├─ works ──────────────▶ Ready ── trap, deadline, memory ──┐
//!   │                          ▲                               ▼
//!   └─ fails ──────────────────┼──────────────────────────▶ Discarded ── ten times in ten minutes ──▶ Quarantined
//!                              │                               │ after 1 s, doubling to 60 s           │ another file,
//!                              └────────── Loading ◀───────────┘ with the next batch                   │ operator, restart
//!                                             ▲                                                        │
//!                                             └────────────────────────────────────────────────────────┘
//! ```
//! A minute in Ready makes the next pause one second again. An instance is never used again after a fault: a new one is
//! made from the last snapshot. Whatever a component does, its stream goes on by the component's fallback: a batch that
//! it did not finish, and every batch until there is a new instance, passes through as it came, is dropped, or waits
//! ([`hold`]), and is counted. Another version of a component is tried beside it before it takes its place
//! ([`deployment`]). The [`roster`] knows which component is where in the picture; `lifecycle` decides.
//!
//! Across power loss: the `.wasm` is the artifact of record and the state is whatever snapshot the pipeline stored with
//! its checkpoint. Compiled components are a cache: each is checked before it is mapped, and may be deleted at any time.
//!
//! Bounds: memory and time of each call, share of the time, readings and alarms a second ([`quota`]), rows, alarms and bytes taken over from a call, log
//! lines, series registered, the snapshot's size, the cache's files. What exceeds one is dropped and counted in
//! [`Counters`].

mod absent;
mod artifact;
pub(crate) mod code;
pub mod command;
pub mod compile;
pub(crate) mod counters;
mod deployment;
mod desk;
mod exchange;
mod hold;
pub(crate) mod host;
pub mod inspection;
mod instance;
pub(crate) mod lifecycle;
pub(crate) mod meter;
pub mod neighbour;
pub(crate) mod opener;
mod order;
mod outcome;
mod outputs;
pub mod pipeline;
mod processor;
pub(crate) mod quota;
mod roster;
mod seat;
mod setup;
mod state;
mod stats;
mod still;
pub(crate) mod voice;
pub(crate) mod wasi;

pub use artifact::{ArtifactError, WASM_BYTES_MAX};
pub use code::OpenError;
pub use command::{Command, CommandAccount, CommandSender};
pub use compile::CompileError;
pub use counters::Counters;
pub use deployment::record::{Digest, How};
pub use deployment::shelf::ShelfError;
pub use desk::Registrar;
pub use host::{Host, HostError};
pub use instance::Fault;
pub(crate) use instance::reason;
pub use order::{Answer, Artifact, Inheritance, Order, OrderSender};
pub use outcome::{Outcome, Processed, Reason, Restored};
pub use pipeline::Pipeline;
pub use processor::Processor;
pub use setup::Setup;
pub use stats::{ComponentStats, DeploymentStats, PipelineStats, Stage, Standing};

/// A cause from wasmtime, whose error type is none of the standard library's.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The contract of `wit/`, from the gateway's side. Nothing waits for anybody but the pipeline's thread, which makes the
/// calls: they are plain ones.
#[allow(missing_docs, reason = "made from wit/, which is documented")]
mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/frond-telemetry.wit",
        world: "commanding",
    });
}
