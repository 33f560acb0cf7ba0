//! What is to run on this gateway, who said so, and how it comes about.
//!
//! ```text
//!  wash, wadm ──▶ lattice::wasmbus ─┐ Command                    ┌─▶ keeper (state.db): rows and history, synced
//!  frond link put … ──▶ console ────┴──▶ Control ──apply─────────┤        only then the answer
//!                                          │  ▲                  └─▶ answer ─▶ events
//!                              reconcile   ▼  │ it works, it does not
//!                                        Crew of workloads (a task each)
//!
//!  one component:
//!            asked for, on flash, answered
//!  (nothing) ────────────────────────────▶ Fetching ──it is there and compiles──▶ Opening ──it opens──▶ Running
//!      ▲                 what ran before goes on │                                    │ it fails      component_scaled
//!      └── taken back: what was before is ◀──────┴────────────────────────────────────┘ at once
//!          desired again, and runs                          component_scale_failed
//! ```
//! Owner: one task, [`Control`], holds the desired state and decides alone; [`apply`] and [`reconcile`] are pure. Commands
//! are worked off one by one. Everybody else reads [`Shown`], a snapshot that is renewed before a command is answered.
//!
//! Power: what a command changes, and its line in the history, is one transaction that is synced before the answer is sent
//! and before anything is done about it. A cut before that leaves what was; a cut after it leaves what was answered: the
//! next start makes it come true, with no network. Artifacts are looked for again, and tried again while they are missing.
//! A change that was answered but not yet seen to work when the power went is kept, and tried for ever; only what fails
//! before the eyes of whoever asked is taken back.
//!
//! Who wins: what the gateway's file configures (components and labels) belongs to the file, and commands about it are
//! refused with a sentence. Everything else belongs to whoever spoke last, over the lattice or on site; each item
//! keeps the revision and the origin of that word, and the history keeps them all. This is the rule of a lattice of the
//! gateway's own, which has no other copy to agree with. In a lattice that is shared, links and configurations are the
//! lattice's, and the rule for them is [`merge`]'s.
//!
//! Whose code, and what it may have: artifacts are judged by the gateway's file whenever they are looked for
//! ([`crate::artifact`]), what links and secrets would give them by `capability`, whatever the lattice says.
//!
//! When full: every list and text has a bound ([`bounds`]); a command beyond one is refused with a sentence and changes
//! nothing. Changes that follow each other faster than the flash should be worn are refused, too. Events that nobody
//! takes are dropped: the heartbeat says the same.

mod apply;
mod artifact;
pub mod bounds;
mod budget;
mod builtin;
mod capability;
mod command;
mod desired;
mod grants;
pub mod merge;
mod owner;
mod pending;
mod plan;
mod probation;
mod reconcile;
mod record;
mod scaler;
mod shown;

pub use apply::{Decision, apply};
pub use artifact::Artifacts;
pub use builtin::Builtin;
pub use command::{Command, Event, Origin, Pairs, Refusal, Replacing, Scaled};
pub use desired::{
    Change, Component, Desired, Filed, Item, Key, Link, LinkKey, OfTheFile, Provider, Spec, default_name,
};
pub use grants::Surroundings;
pub use owner::{Control, ControlHandle, Errand, Setup, Ways, Word};
pub use reconcile::{Step, reconcile};
pub use shown::{Overview, Present, Provenance, Running, Shared, Shown, Told};
