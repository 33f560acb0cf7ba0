//! What an operator may tell the components: over the local socket today, and nothing here says so.

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

/// Orders to the pipeline, each with the way back for its answer.
pub type OrderSender = mpsc::Sender<(Order, oneshot::Sender<Answer>)>;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "order")]
pub enum Order {
    /// Ends the quarantine of a component.
    Release {
        /// Its name.
        component: String,
    },
    /// Puts another version of a component to work.
    Deploy {
        /// The component's name.
        component: String,
        /// What the new version begins with.
        state: Inheritance,
        /// Bytes of the new version, which follow the order.
        bytes: u64,
        /// They.
        #[serde(skip)]
        artifact: Artifact,
    },
    /// Takes a version back that is on its way in or on probation.
    Rollback {
        /// The component's name.
        component: String,
    },
}

/// What a new version begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inheritance {
    /// The state of the old one; if it does not take that, it is refused.
    #[default]
    Carried,
    /// Nothing.
    Fresh,
}

/// A `.wasm`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Artifact(pub Vec<u8>);

// === impl Order ===

impl Order {
    /// The component that it is about.
    pub fn component(&self) -> &str {
        match self {
            Order::Release { component }
            | Order::Deploy { component, .. }
            | Order::Rollback { component } => component,
        }
    }
}

impl std::fmt::Debug for Artifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What became of it, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Done(String),
    /// It is not, and nothing has changed.
    Refused(String),
}
