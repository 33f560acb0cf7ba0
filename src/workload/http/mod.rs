//! `wasi:http` of a workload: what it asks of hosts, and what is asked of it on site.
//!
//! ```text
//!  component ──handle──▶ gate ──▶ courier ──▶ dial (DNS, TCP, TLS) ──▶ a host on the list
//!  client ──▶ lobby ──Visit──▶ inbox ──▶ component ──▶ spool ──▶ lobby ──▶ client
//! ```
//! Heads and bodies, as a component sees them, are wasmtime-wasi-http's; connections and what they may are here. HTTP/1.1
//! both ways. Nothing outlives the process.
//!
//! Out: a request goes to a host that a link names, or is refused with `HTTP-request-denied`. Each has a connection of its
//! own, in a task that its handle owns: it ends with the handle, the instance, or in time before the component's deadline.
//! In: the workload's task polls the listener and its connections beside the component, which yields every 10 ms. The
//! component never waits for a client: a request is handed over once it is here, whole, and an answer is taken as fast as
//! it is made. So a slow client costs a connection and some memory, and the component nothing.
//! When full: a connection beyond the bound, a request that finds no room in the inbox, or a component that does not run
//! is answered with 503; a request that waits or works too long with 504; one that ended the component with 502. An answer
//! that is longer than the bound is cut, which the client sees as a broken connection. All of it is counted.

mod courier;
mod dial;
mod gate;
mod lobby;
mod spool;
mod taken;
mod visit;

pub(super) use courier::{Courier, Outside};
pub use dial::LOOKUPS_MAX;
pub(super) use lobby::Lobby;
pub(super) use visit::{Refusal, Visit, deliver};

/// The interface by which a component asks.
pub(super) const OUTGOING: &str = "wasi:http/outgoing-handler";

/// Longest head of a request or an answer: what servers and browsers take, twice over.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// What heads that a component makes or looks at may take of memory, each: with the 1,024 handles that it may hold, 32 MiB.
pub(super) const FIELDS_BYTES_MAX: usize = 32 << 10;
