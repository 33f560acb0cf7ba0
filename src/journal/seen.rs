//! The last messages of each door, by identity: those whose acknowledgement the peer may not have got.
//!
//! A peer with a window of W unacknowledged messages sends message n only once it has seen the acknowledgement of
//! message n − W: so the last W identities are all that can come again. They are in the journal twice over, at no cost:
//! the hot rows hold the messages themselves, and a checkpoint, which deletes hot rows, carries the identities of what
//! it covers.

use std::collections::{BTreeMap, VecDeque};

use crate::sample::{DoorId, Identity, Message};

const VERSION: u8 = 1;

/// Identities by door, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    doors: BTreeMap<DoorId, VecDeque<(u64, Identity)>>,
}

// === impl Tail ===

impl Tail {
    /// Records the message committed at `pos`, forgetting what is older than the door's window.
    pub fn record(&mut self, pos: u64, message: &Message, window: usize) {
        let Some(identity) = message.identity() else { return };
        let door = self.doors.entry(message.door).or_default();
        door.push_back((pos, identity));
        while door.len() > window {
            door.pop_front();
        }
    }

    /// The peer has lost the session.
    pub fn forget(&mut self, door: DoorId) {
        self.doors.remove(&door);
    }

    /// What a door starts from.
    pub fn of(&self, door: DoorId) -> Vec<Identity> {
        self.doors.get(&door).into_iter().flatten().map(|(_, identity)| *identity).collect()
    }

    /// What was committed at or before `pos`, for the checkpoint that covers it. Later messages are not durable by that
    /// checkpoint: carrying them would make a redelivery of a lost reading look like a copy.
    pub fn encode(&self, pos: u64) -> Vec<u8> {
        let mut out = vec![VERSION];
        for (door, entries) in &self.doors {
            let covered: Vec<_> = entries.iter().filter(|(at, _)| *at <= pos).map(|(_, id)| *id).collect();
            if covered.is_empty() {
                continue;
            }
            let count = u32::try_from(covered.len()).expect("a window has at most 65,535 messages");
            out.push(door.0);
            out.extend(count.to_le_bytes());
            for identity in covered {
                out.extend(identity.pkid.to_le_bytes());
                out.extend(identity.digest.to_le_bytes());
            }
        }
        out
    }

    /// Reads what a checkpoint carried, as committed at `pos`. Anything unreadable counts as nothing seen.
    pub fn decode(bytes: &[u8], pos: u64) -> Tail {
        let mut tail = Tail::default();
        let [VERSION, rest @ ..] = bytes else { return tail };
        let mut rest = rest;
        while let [door, a, b, c, d, after @ ..] = rest {
            let count = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
            let Some((entries, next)) = after.split_at_checked(count.saturating_mul(6)) else { break };
            let identities = entries.chunks_exact(6).map(|e| {
                let pkid = u16::from_le_bytes([e[0], e[1]]);
                (pos, Identity { pkid, digest: u32::from_le_bytes([e[2], e[3], e[4], e[5]]) })
            });
            tail.doors.insert(DoorId(*door), identities.collect());
            rest = next;
        }
        tail
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Reading, SeriesId, StreamId, Timeline, Value};

    fn message(pkid: u16) -> Message {
        Message {
            door: DoorId(3),
            ticket: 1,
            pkid,
            stream: StreamId(1),
            timeline: Timeline::Sensor,
            readings: vec![Reading { series: SeriesId(1), time: i64::from(pkid), value: Value::Int(7) }],
        }
    }

    #[test]
    fn a_checkpoint_carries_only_what_it_covers() {
        // Goal: identities of later groups stay out, so that their redelivery is taken as new.
        let mut tail = Tail::default();
        tail.record(1, &message(10), 100);
        tail.record(2, &message(11), 100);
        let back = Tail::decode(&tail.encode(1), 1);
        assert_eq!(back.of(DoorId(3)), vec![message(10).identity().unwrap()]);
        assert_eq!(Tail::decode(&tail.encode(2), 2).of(DoorId(3)), tail.of(DoorId(3)));
    }

    #[test]
    fn the_tail_is_as_long_as_the_window() {
        // Goal: the bound holds, and the newest stay.
        let mut tail = Tail::default();
        for pkid in 1..=50 {
            tail.record(1, &message(pkid), 20);
        }
        let left = tail.of(DoorId(3));
        assert_eq!((left.len(), left[0].pkid, left[19].pkid), (20, 31, 50));
    }

    #[test]
    fn qos_0_has_no_identity_and_garbage_is_nothing_seen() {
        // Goal: messages without a packet identifier are not recorded; unreadable bytes decode to an empty tail.
        let mut tail = Tail::default();
        tail.record(1, &message(0), 20);
        assert_eq!(tail, Tail::default());
        assert_eq!(Tail::decode(&[1, 2, 255, 255, 255, 255, 0], 1), Tail::default());
        assert_eq!(Tail::decode(&[9, 9], 1), Tail::default());
    }
}
