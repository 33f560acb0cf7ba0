//! What the pipeline must remember across a restart, as one blob in the checkpoint.
//!
//! ```text
//! version u8 | postcard: [(stream, reducer snapshot)], [(component, snapshot)]
//! ```

use serde::{Deserialize, Serialize};

use crate::sample::StreamId;

const VERSION: u8 = 1;

/// The state after a checkpoint's position. The default is that of a gateway that has seen nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Snapshots of reducers.
    pub reducers: Vec<(StreamId, Vec<u8>)>,
    /// Snapshots of components.
    pub components: Vec<(String, Vec<u8>)>,
}

/// A state that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Written by another version of the program.
    #[error("checkpoint state has unknown version {0}")]
    Version(u8),
    /// Damaged.
    #[error("checkpoint state is damaged")]
    Damaged(#[source] postcard::Error),
}

// === impl State ===

impl State {
    /// Encodes the state.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).expect("vectors of bytes always serialize")
    }

    /// Decodes a state; no bytes at all are the state of a new gateway.
    pub fn decode(bytes: &[u8]) -> Result<State, StateError> {
        match bytes {
            [] => Ok(State::default()),
            [VERSION, rest @ ..] => postcard::from_bytes(rest).map_err(StateError::Damaged),
            [version, ..] => Err(StateError::Version(*version)),
        }
    }
}
