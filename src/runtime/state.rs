//! What the pipeline must remember across a restart, as one blob in the checkpoint.
//!
//! ```text
//! version u8 | postcard
//! 1: [(stream, reducer snapshot)], [(component, snapshot)]
//! 2: the same, [readings held back], [(stream, component) whose quarantine the hub was told of]
//! 3: the same, [deployments]
//! ```
//! The lowest version is written that has room for everything: a gateway that goes back to an older frond can then read
//! what the newer one wrote.

use serde::{Deserialize, Serialize};

use super::deployment::record::Record;

use crate::sample::{StreamId, Timeline};

/// The state after a checkpoint's position. The default is that of a gateway that has seen nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// Snapshots of reducers.
    pub reducers: Vec<(StreamId, Vec<u8>)>,
    /// Snapshots of components.
    pub components: Vec<(String, Vec<u8>)>,
    /// Readings held back for components, oldest first.
    pub held: Vec<Held>,
    /// Streams whose alarm about a quarantined component has not been cleared.
    pub raised: Vec<(StreamId, String)>,
    /// What was deployed, and what is under way.
    pub deployments: Vec<Record>,
}

/// Readings held back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// Name of the component.
    pub component: String,
    /// Their stream.
    pub stream: StreamId,
    /// The timeline of their times.
    pub timeline: Timeline,
    /// [`crate::block::encode_readings`].
    pub block: Vec<u8>,
}

/// What version 1 has.
type Version1 = (Vec<(StreamId, Vec<u8>)>, Vec<(String, Vec<u8>)>);
/// What version 2 has more.
type More = (Vec<Held>, Vec<(StreamId, String)>);
/// What version 3 has more.
type Deployments = (Vec<Record>,);

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
        let encoded = if !self.deployments.is_empty() {
            let all = (&self.reducers, &self.components, &self.held, &self.raised, &self.deployments);
            postcard::to_extend(&all, vec![3])
        } else if self.held.is_empty() && self.raised.is_empty() {
            postcard::to_extend(&(&self.reducers, &self.components), vec![1])
        } else {
            let all = (&self.reducers, &self.components, &self.held, &self.raised);
            postcard::to_extend(&all, vec![2])
        };
        encoded.expect("vectors of bytes always serialize")
    }

    /// Decodes a state; no bytes at all are the state of a new gateway.
    pub fn decode(bytes: &[u8]) -> Result<State, StateError> {
        let (before, more, deployments): (Version1, More, Deployments) = match bytes {
            [] => Default::default(),
            [1, rest @ ..] => (read(rest)?, More::default(), Deployments::default()),
            [2, rest @ ..] => {
                let (before, more) = read(rest)?;
                (before, more, Deployments::default())
            }
            [3, rest @ ..] => read(rest)?,
            [version, ..] => return Err(StateError::Version(*version)),
        };
        let ((reducers, components), (held, raised), (deployments,)) = (before, more, deployments);
        Ok(State { reducers, components, held, raised, deployments })
    }
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, StateError> {
    postcard::from_bytes(bytes).map_err(StateError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::deployment::record::{Digest, Ending, History, How, Saved};
    use crate::runtime::order::Inheritance;
    use crate::sample::BootId;

    /// What the golden files hold; those of released versions are never changed.
    fn golden() -> [(&'static [u8], State); 3] {
        let first = State {
            reducers: vec![(StreamId(3), vec![1, 2, 3]), (StreamId(400), vec![])],
            components: vec![("limits".into(), vec![7; 5])],
            ..State::default()
        };
        let held = |timeline| Held {
            component: "limits".into(),
            stream: StreamId(3),
            timeline,
            block: vec![9, 8, 7],
        };
        let second = State {
            held: vec![held(Timeline::Sensor), held(Timeline::Arrival), held(Timeline::Boot(BootId(9)))],
            raised: vec![(StreamId(400), "vibration".into())],
            ..first.clone()
        };
        let third = State { deployments: deployments(), ..second.clone() };
        [
            (include_bytes!("../../tests/compat/v1/state.bin"), first),
            (include_bytes!("../../tests/compat/v2/state.bin"), second),
            (include_bytes!("../../tests/compat/v3/state.bin"), third),
        ]
    }

    /// One in each phase, and one of each end.
    fn deployments() -> Vec<Record> {
        let digest = |digit: &str| Digest::parse(&digit.repeat(64));
        let record = |component: &str, saved, version, last| Record {
            component: component.to_owned(),
            configured: digest("a"),
            version,
            saved,
            history: History {
                begun: 300,
                confirmed: 2,
                refused: 1,
                rolled_back: 4,
                open: component == "vibration",
                last,
            },
        };
        let end = |how, digest| Some(Ending { how, digest, why: "it was so".to_owned() });
        let begun = |digit, inheritance| Saved::Begun { digest: digest(digit).unwrap(), inheritance };
        let probation = |before, snapshot| Saved::Probation { before, left: 1 << 40, batches: 700, snapshot };
        vec![
            record("limits", Saved::Current, digest("b"), end(How::Confirmed, digest("b"))),
            record("vibration", begun("c", Inheritance::Carried), None, end(How::Refused, None)),
            record(
                "calibrate",
                begun("d", Inheritance::Fresh),
                digest("e"),
                end(How::RolledBack, digest("c")),
            ),
            record(
                "downsample",
                probation(None, Some(vec![4, 5, 6])),
                digest("f"),
                end(How::Superseded, digest("0")),
            ),
            Record { configured: None, ..record("filter", probation(digest("1"), None), digest("2"), None) },
        ]
    }

    #[test]
    fn states_of_every_version_are_read_and_written_as_they_were() {
        // Goal: neither going forward nor going back loses an open window. Method: the golden files, both ways.
        for (bytes, state) in golden() {
            assert_eq!(State::decode(bytes).unwrap(), state);
            assert_eq!(state.encode(), bytes);
        }
        assert_eq!(State::decode(&[]).unwrap(), State::default());
        assert!(matches!(State::decode(&[4, 0]), Err(StateError::Version(4))));
        assert!(matches!(State::decode(&[3, 1]), Err(StateError::Damaged(_))));
        assert!(matches!(State::decode(&[2, 1]), Err(StateError::Damaged(_))));
    }
}
