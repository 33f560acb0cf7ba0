//! Messages waiting for their commit, and when the wait is over. Pure.

use std::collections::BTreeMap;

use crate::sample::{DoorId, Durability, Message};

use super::{RetainedChange, SessionChange};

/// Messages waiting for their commit.
#[derive(Debug, Default)]
pub struct Group {
    /// The messages, in order of arrival.
    pub messages: Vec<Message>,
    /// Doors whose session was lost before the first of them.
    pub forgotten: Vec<DoorId>,
    /// Sessions of the listener that have begun, changed or ended, in order.
    pub sessions: Vec<SessionChange>,
    /// Retained messages that have changed, in order.
    pub retained: Vec<RetainedChange>,
    readings: usize,
    waiting: BTreeMap<DoorId, Waiting>,
}

/// What one door waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Durability of the door's streams.
    pub durability: Durability,
    /// Messages in the group.
    pub messages: usize,
    /// Last ticket among them.
    pub ticket: u64,
}

/// Whether a group should be committed before its interval is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It can wait.
    Waits,
    /// It holds as many readings as a group may.
    Full,
    /// A door's senders can send little more before they get acknowledgements.
    WindowFills,
}

// === impl Group ===

impl Group {
    /// Adds a message of a door with the given durability.
    pub fn push(&mut self, message: Message, durability: Durability) {
        self.readings += message.readings.len();
        self.owe(message.door, message.ticket, durability).messages += 1;
        self.messages.push(message);
    }

    /// Something else than a message waits for the commit under this ticket, which may be one between two messages'.
    pub fn owe(&mut self, door: DoorId, ticket: u64, durability: Durability) -> &mut Waiting {
        let waiting = self.waiting.entry(door).or_insert(Waiting { durability, messages: 0, ticket: 0 });
        waiting.ticket = waiting.ticket.max(ticket);
        waiting
    }

    /// Readings in the group.
    pub fn readings(&self) -> usize {
        self.readings
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.forgotten.is_empty()
            && self.sessions.is_empty()
            && self.retained.is_empty()
    }

    /// What each door waits for.
    pub fn waiting(&self) -> impl Iterator<Item = (DoorId, Waiting)> + '_ {
        self.waiting.iter().map(|(door, waiting)| (*door, *waiting))
    }

    /// Whether to commit now. `window` tells how many messages a door's peer leaves unacknowledged.
    pub fn readiness(&self, readings_max: usize, window: impl Fn(DoorId) -> usize) -> Readiness {
        if self.readings >= readings_max {
            return Readiness::Full;
        }
        let fills = self
            .waiting
            .iter()
            .any(|(door, w)| w.durability == Durability::Reading && w.messages >= (window(*door) / 2).max(1));
        if fills { Readiness::WindowFills } else { Readiness::Waits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Reading, SeriesId, StreamId, Timeline, Value};

    fn message(door: u8, ticket: u64, readings: usize) -> Message {
        let reading = Reading { series: SeriesId(1), time: 0, value: Value::Int(1) };
        Message {
            door: DoorId(door),
            ticket,
            session: crate::sample::SessionId::NONE,
            pkid: 1,
            stream: StreamId(1),
            timeline: Timeline::Sensor,
            readings: vec![reading; readings],
        }
    }

    #[test]
    fn a_group_is_ready_when_it_holds_enough_readings() {
        // Goal: the reading bound commits early, whatever the number of messages.
        let mut group = Group::default();
        group.push(message(0, 1, 99), Durability::Reading);
        assert_eq!(group.readiness(100, |_| 1_000), Readiness::Waits);
        group.push(message(0, 2, 1), Durability::Reading);
        assert_eq!(group.readiness(100, |_| 1_000), Readiness::Full);
    }

    #[test]
    fn a_small_window_of_a_foreign_broker_commits_early() {
        // Goal: with mosquitto's default of 20 in flight, ten waiting messages commit; a window stream's door does not,
        // since a commit would not acknowledge it.
        let mut group = Group::default();
        for ticket in 1..=10 {
            group.push(message(1, ticket, 1), Durability::Window);
        }
        assert_eq!(group.readiness(1_000, |_| 20), Readiness::Waits);
        for ticket in 1..=9 {
            group.push(message(0, ticket, 0), Durability::Reading);
        }
        assert_eq!(group.readiness(1_000, |_| 20), Readiness::Waits);
        group.push(message(0, 10, 0), Durability::Reading);
        assert_eq!(group.readiness(1_000, |_| 20), Readiness::WindowFills);
    }
}
