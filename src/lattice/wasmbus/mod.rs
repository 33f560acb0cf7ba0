//! wasmCloud's control protocol, version 1: the gateway as a host that wash and wadm see and drive.
//!
//! ```text
//!              connection, or the hub is back
//!   Offline ──────────────────────────────────▶ Subscribing ──▶ Serving ─┐ every heartbeat interval: host_heartbeat
//!      ▲                                                          │  ▲   │ a request: answer, by `serve`
//!      │            connection lost; requests under way are        │  └───┘ the hub is back: host_started, heartbeat
//!      └──────────── dropped, and so are events ───────────────────┘
//!                                                          asked to stop: answer, host_stopped, the process ends
//! ```
//! [`subject`], [`request`], [`envelope`], [`inventory`] and [`event`] are the protocol: pure, and tested byte by byte.
//! [`Host`] is the task: it owns the subscriptions, reads [`crate::control::Shown`], and hands everything that changes
//! something to [`crate::control`], which answers when it is on flash.
//!
//! In a lattice of the gateway's own nobody else answers for links, configuration and claims, so the host joins the queue
//! groups for them. Two gateways must not share a lattice in this shape, and have not by default: it is named after the
//! gateway. In a shared lattice it is in these groups while the hub's buckets can be reached ([`crate::lattice::shared`]),
//! and answers questions about the whole lattice from there.
//!
//! Kept: the identity ([`super::identity`]), nothing else. Lost with power: nothing that was answered.
//! When full: at most [`host::REQUESTS_MAX`] requests are under way and [`host::RATE`] are taken a second; what is beyond
//! is dropped without an answer, counted. Requests larger than [`host::REQUEST_BYTES_MAX`] are refused unread. An event
//! while there is no connection is dropped, and so is a heartbeat: neither is ever sent late.

mod answer;
pub mod envelope;
pub mod event;
mod groups;
pub mod host;
pub mod inventory;
pub mod linkdef;
mod missing;
pub mod request;
pub mod subject;

pub use groups::Groups;
pub use host::{Account, Host, HostError, Settings, Standing};
