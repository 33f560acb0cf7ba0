//! What an operator may tell the components, over the local socket.

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
