//! Components as files that came from elsewhere: found, fetched in pieces, checked, kept.
//!
//! ```text
//!             kept already ──────────────────────────────────────────────┐
//!  reference ─┤                                                          ▼
//!             └ not yet ─▶ Fetching ──all there──▶ Checked ──▶ Kept ─▶ checked again at every load ─▶ its file
//!                            │  ▲                    │                     │ another digest
//!                 link cut,  ▼  │ again              ▼ another digest      ▼
//!                 power cut  part on flash         thrown away           thrown away, the same fetched again
//! ```
//! Owner: the thread that has the [`store::Store`]; whoever fetches gives it pieces.
//!
//! Power: a part is synced before its note says how much of it counts; what is kept appears whole or not at all, synced
//! before anything refers to it. What a reference led to once, it leads to for as long as that is kept: a gateway starts its
//! components with every registry down, and nobody changes under it what it was told to run.
//!
//! Trust: nothing is run that the gateway's own file does not allow ([`trust`]), judged at every load and offline; what a
//! signer's components may be linked to is in `crate::control`, which asks for artifacts.
//!
//! Bounds: the bytes kept ([`store::Store`]), the bytes of one artifact, one fetch at a time. When full, what was used
//! longest ago and nobody needs goes first; when everything is needed the new artifact is refused.

pub mod claims;
pub mod desk;
pub mod detached;
pub mod examine;
pub mod imports;
pub mod keys;
pub mod object;
pub mod obtain;
mod reference;
pub mod registry;
mod report;
pub mod store;
pub mod trust;

pub use reference::{Place, Reference, ReferenceError, Version};
