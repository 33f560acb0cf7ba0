//! The local socket: what an operator on the gateway asks, answered in JSON, one line each way.
//!
//! `frond status`, `frond buffer` and `frond component` use it. Requests are served one at a time, each within
//! [`PATIENCE`], so a client that hangs delays the next one and nothing else. Nothing here changes the gateway, except
//! orders about components, which the pipeline obeys, and commands, which control does; nothing survives a restart but
//! what they keep.

mod client;
mod host;
mod server;
mod status;
mod view;

pub use client::{AskError, ask};
pub use host::{HostSource, HostView};
pub use server::{Console, ConsoleError};
pub use status::{Sources, Status};

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::SOCKET_NAME;
use crate::control::Command;
use crate::runtime::Order;

/// A request is one line of at most this many bytes: a configuration of 64 KiB, and what JSON makes of it.
const REQUEST_BYTES_MAX: u64 = 256 << 10;
/// Longest answer: a peek of a hundred outputs of some hundred rows.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Time for a request and its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Request {
    /// How the gateway is.
    Status,
    /// The oldest outputs that wait for the hub, decoded.
    Peek {
        /// How many, at most 100.
        count: usize,
    },
    /// Something is to be done about a component; answered by [`crate::runtime::Answer`]. The bytes of a new version follow
    /// the line.
    Component {
        /// What.
        #[serde(flatten)]
        order: Order,
    },
    /// Something is to be desired of this gateway, or no longer; answered by [`crate::runtime::Answer`].
    Control {
        /// What.
        command: Command,
    },
    /// What is desired of this gateway, and how it stands; answered by [`crate::control::Overview`].
    Overview,
    /// The newest lines of its history; answered by a list of [`crate::control::Told`].
    History {
        /// How many.
        newest: u32,
    },
}

/// The socket of a gateway with this run folder.
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join(SOCKET_NAME)
}
