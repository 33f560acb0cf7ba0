//! The alarm by which the hub hears of a quarantine.

use tracing::warn;

use super::Roster;
use crate::block::Alarm;
use crate::runtime::desk::Desk;
use crate::sample::{Nanos, StreamId};

/// Its name, in a series of its own for each component.
const ALARM: &str = "quarantined";

// === impl Roster ===

impl Roster {
    /// Tells the hub, once for each stream, that a component is quarantined, and that it works again. `time` is that of
    /// the readings at hand.
    pub(super) fn alarm(
        &mut self,
        name: &str,
        stream: StreamId,
        time: Nanos,
        desk: &mut Desk<'_>,
    ) -> Option<Alarm> {
        let processor = self.seats.get(name)?.processor.as_ref()?;
        let active = processor.is_quarantined();
        let key = (stream, name.to_owned());
        let message = match (active, self.raised.contains(&key)) {
            (true, false) => {
                self.raised.insert(key);
                format!(
                    "component {name} has failed too often and is not started again: {}",
                    processor.last_fault()
                )
            }
            (false, true) if processor.is_running() => {
                self.raised.remove(&key);
                format!("component {name} works again")
            }
            _ => return None,
        };
        match desk.register(stream, &format!("frond/component/{name}"), "") {
            Ok(series) => Some(Alarm { series, time, active, name: ALARM.to_owned(), message, value: 0.0 }),
            Err(why) => {
                warn!(component = name, why, "the hub is not told of the component's quarantine");
                None
            }
        }
    }
}
