//! What is configured of the gateway as a host of a wasmCloud lattice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Whose the lattice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatticeShape {
    /// The gateway's own: it answers for links and configuration by itself.
    Own,
    /// Other hosts are in it, too: links and configuration are in buckets at the hub.
    Shared,
}

/// The gateway as a host of a wasmCloud lattice.
#[derive(Debug, Clone, PartialEq)]
pub struct LatticeHost {
    /// Whether it is one. Default yes.
    pub serve: bool,
    /// Whose the lattice is. Default own.
    pub shape: LatticeShape,
    /// Name of the lattice. Default: the gateway's name, so that no two gateways share one; `default` of a shared one.
    pub lattice: String,
    /// What people call it. Default: the gateway's name.
    pub friendly_name: String,
    /// First tokens of control subjects. Default `wasmbus.ctl`.
    pub prefix: String,
    /// Between two heartbeats, 1 s to 60 s. Default 30 s; wadm forgets a host after 70.
    pub heartbeat: Duration,
    /// Whether it bids for components and providers. Default yes.
    pub auctions: bool,
    /// How long another version of a component is on probation, 1 s to 7 d. Default 10 min.
    pub probation: Duration,
    /// Where its components may be asked by HTTP, beside loopback. Default nowhere.
    pub http_addresses: Vec<SocketAddr>,
    /// What it is and where, for whoever places work.
    pub labels: BTreeMap<String, String>,
}
