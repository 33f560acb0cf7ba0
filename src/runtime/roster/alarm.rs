//! The alarm by which the hub hears of a quarantine.

use tracing::warn;

use super::{Roster, Sink, Worked};
use crate::block::Alarm;
use crate::runtime::desk::Desk;
use crate::runtime::neighbour::{Look, Neighbourhood};
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
        let look = if processor.is_quarantined() {
            Look::Quarantined(processor.last_fault().to_owned())
        } else if processor.is_running() {
            Look::Works
        } else {
            Look::Pauses
        };
        self.tell(name, stream, time, look, desk)
    }

    /// Does the same for components that are called elsewhere.
    pub(in crate::runtime) fn look_around(
        &mut self,
        around: &Neighbourhood,
        desk: &mut Desk<'_>,
        sink: Sink<'_>,
    ) {
        let Some(mut looks) = (around.look)() else { return };
        for (_, name) in self.raised.iter().filter(|(stream, _)| *stream == around.stream) {
            looks.entry(name.clone()).or_insert(Look::Gone);
        }
        for (name, look) in looks {
            let (time, timeline) = desk.clock.stamp();
            if let Some(alarm) = self.tell(&name, around.stream, time, look, desk) {
                sink(around.stream, timeline, Worked { readings: &[], alarms: vec![alarm] });
            }
        }
    }

    fn tell(
        &mut self,
        name: &str,
        stream: StreamId,
        time: Nanos,
        look: Look,
        desk: &mut Desk<'_>,
    ) -> Option<Alarm> {
        let key = (stream, name.to_owned());
        let (active, message) = match (look, self.raised.contains(&key)) {
            (Look::Quarantined(why), false) => {
                self.raised.insert(key);
                (true, format!("component {name} has failed too often and is not started again: {why}"))
            }
            (Look::Works, true) => {
                self.raised.remove(&key);
                (false, format!("component {name} works again"))
            }
            (Look::Gone, true) => {
                self.raised.remove(&key);
                (false, format!("component {name} is not there any more"))
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
