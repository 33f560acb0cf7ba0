//! Whether the gateway is a host of a wasmCloud lattice, and where the status reads how it fares.

use std::sync::Arc;

use crate::lattice::wasmbus::{Account, Standing};

/// Whether it is one.
#[derive(Debug)]
pub enum HostSource {
    /// It is not wanted.
    Off,
    /// It cannot be, for this reason.
    Refused(String),
    /// It is.
    On(HostView),
}

/// Where the standing of the host is read from.
#[derive(Debug)]
pub struct HostView {
    /// Its public key.
    pub id: String,
    /// The lattice.
    pub lattice: String,
    /// What it counts.
    pub account: Arc<Account>,
}

// === impl HostSource ===

impl HostSource {
    pub(super) fn standing(&self) -> Option<Standing> {
        match self {
            HostSource::On(host) => Some(host.account.standing(&host.id, &host.lattice)),
            HostSource::Off | HostSource::Refused(_) => None,
        }
    }

    pub(super) fn complaint(&self) -> Option<String> {
        match self {
            HostSource::Refused(why) => Some(format!("the gateway is no host of its lattice: {why}")),
            HostSource::Off | HostSource::On(_) => None,
        }
    }
}
