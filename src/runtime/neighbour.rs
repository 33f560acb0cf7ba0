//! Components that are called elsewhere than in the pipeline, and whose quarantine the hub hears of from here all the same:
//! the pipeline has the way to the hub that outlives power cuts.
//!
//! They are looked at with every tick, so nothing is queued: an alarm is raised or cleared when what is seen differs from
//! what the hub was told last, which is part of the checkpoint. A quarantine shorter than a tick may go unnoticed.

use std::collections::BTreeMap;

use crate::sample::StreamId;

/// The stream that such alarms belong to.
pub const STREAM: &str = "frond";

/// Where they are seen.
pub struct Neighbourhood {
    /// [`STREAM`].
    pub stream: StreamId,
    /// Everyone there is, by name; `None` while that is not known yet. Must not wait.
    pub look: Box<dyn Fn() -> Option<BTreeMap<String, Look>> + Send>,
}

/// How a component is, as far as alarms go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It can be called.
    Works,
    /// It cannot, and will be by itself: nothing to tell.
    Pauses,
    /// It has failed too often, the last time because of this.
    Quarantined(String),
    /// It is not there any more.
    Gone,
}

impl std::fmt::Debug for Neighbourhood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Neighbourhood").field("stream", &self.stream).finish_non_exhaustive()
    }
}
