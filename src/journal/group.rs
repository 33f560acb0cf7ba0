//! Messages waiting for their commit, and when the wait is over. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::sample::{DoorId, Durability, Message};

use super::{RetainedChange, SessionChange};

/// Bytes of retained messages that make a group full, those written over among them: memory is bounded however often
/// they change.
const RETAINED_BYTES_MAX: usize = 4 << 20;
/// What one costs beside its topic and payload.
const RETAINED_BYTES: usize = 256;

/// Messages waiting for their commit.
#[derive(Debug, Default)]
pub struct Group {
    /// The messages, in order of arrival.
    pub messages: Vec<Message>,
    /// Doors whose session was lost before the first of them.
    pub forgotten: Vec<DoorId>,
    /// Sessions of the listener that have begun, changed or ended, in order.
    pub sessions: Vec<SessionChange>,
    /// Retained messages that have changed: the last change of each topic.
    pub retained: HashMap<String, RetainedChange>,
    retained_bytes: usize,
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

    /// Adds a change of a retained message.
    pub fn retain(&mut self, change: RetainedChange) {
        let payload = match &change {
            RetainedChange::Keep(row) => row.payload.len() + row.properties.len(),
            RetainedChange::End(_) => 0,
        };
        self.retained_bytes += change.topic().len() + payload + RETAINED_BYTES;
        self.retained.insert(change.topic().to_owned(), change);
    }

    /// Whether it takes no more.
    pub fn is_full(&self, readings_max: usize) -> bool {
        self.readings >= readings_max || self.retained_bytes >= RETAINED_BYTES_MAX
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
        if self.is_full(readings_max) {
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
    fn of_a_retained_topic_the_last_change_counts_and_many_changes_fill_the_group() {
        // Goal: a topic that changes all the time is written once, and the group is bounded in bytes.
        let mut group = Group::default();
        let mut changes = 0;
        while !group.is_full(100) {
            group.retain(RetainedChange::End("a".to_owned()));
            changes += 1;
        }
        assert_eq!(group.retained.len(), 1);
        assert!((10_000..20_000).contains(&changes), "{changes}");
        assert_eq!(group.readiness(100, |_| 20), Readiness::Full);
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
