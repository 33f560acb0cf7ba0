//! The last messages of each peer, by identity: those whose acknowledgement the peer may not have got.
//!
//! A peer is a broker, which is a door, or a client's session at the listener. One with a window of W unacknowledged
//! messages sends message n only once it has seen the acknowledgement of message n − W: so the last W identities are all
//! that can come again. They are in the journal twice over, at no cost: the hot rows hold the messages themselves, and a
//! checkpoint, which deletes hot rows, carries the identities of what it covers.
//!
//! What a checkpoint carries is written anew each time, so of a session only that is kept which its client can still
//! miss: everything up to [`RECENT`] before its newest message, and at least [`FEW`]. A client that goes on sending for
//! so long without having read an acknowledgement could have older ones counted twice after a crash, if its readings
//! have no time of their own; the hot rows since the last checkpoint are known whatever their age.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::sample::{DoorId, Identity, Message, SessionId};

/// Doors only, as in every database before the listener.
const DOORS: u8 = 1;
/// Sessions among the peers.
const SESSIONS: u8 = 2;

/// Identities of a session older than this, against its newest, go: ten commits at the default interval.
const RECENT: Duration = Duration::from_secs(10);
/// As many stay whatever their age: 32 x 10 B = 320 B a session in each checkpoint, at most.
const FEW: usize = 32;

/// Identities by peer, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    peers: BTreeMap<Peer, VecDeque<Entry>>,
}

/// A broker's door without a session, or a session.
type Peer = (SessionId, DoorId);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    pos: u64,
    at: Instant,
    identity: Identity,
}

fn door_peer(door: DoorId) -> Peer {
    (SessionId::NONE, door)
}

fn session_peer(session: SessionId) -> Peer {
    (session, DoorId(0))
}

// === impl Tail ===

impl Tail {
    /// Records the message committed at `pos`, forgetting what is older than the peer's window.
    pub fn record(&mut self, pos: u64, message: &Message, window: usize, now: Instant) {
        let Some(identity) = message.identity() else { return };
        let is_session = message.session != SessionId::NONE;
        let peer = if is_session { session_peer(message.session) } else { door_peer(message.door) };
        let entries = self.peers.entry(peer).or_default();
        entries.push_back(Entry { pos, at: now, identity });
        while entries.len() > window {
            entries.pop_front();
        }
        while is_session
            && entries.len() > FEW
            && entries.front().is_some_and(|oldest| now.duration_since(oldest.at) > RECENT)
        {
            entries.pop_front();
        }
    }

    /// The peer behind a door has lost the session.
    pub fn forget(&mut self, door: DoorId) {
        self.peers.remove(&door_peer(door));
    }

    /// A session has ended.
    pub fn forget_session(&mut self, session: SessionId) {
        self.peers.remove(&session_peer(session));
    }

    /// Forgets sessions that are not in the database: their end was committed after the last checkpoint.
    pub fn retain_sessions(&mut self, is_known: impl Fn(SessionId) -> bool) {
        self.peers.retain(|(session, _), _| *session == SessionId::NONE || is_known(*session));
    }

    /// What a door starts from.
    pub fn of(&self, door: DoorId) -> Vec<Identity> {
        self.identities(door_peer(door))
    }

    /// What a session starts from.
    pub fn of_session(&self, session: SessionId) -> Vec<Identity> {
        self.identities(session_peer(session))
    }

    fn identities(&self, peer: Peer) -> Vec<Identity> {
        self.peers.get(&peer).into_iter().flatten().map(|entry| entry.identity).collect()
    }

    /// What was committed at or before `pos`, for the checkpoint that covers it. Later messages are not durable by that
    /// checkpoint: carrying them would make a redelivery of a lost reading look like a copy.
    pub fn encode(&self, pos: u64) -> Vec<u8> {
        let has_sessions = self.peers.keys().any(|(session, _)| *session != SessionId::NONE);
        let mut out = vec![if has_sessions { SESSIONS } else { DOORS }];
        for ((session, door), entries) in &self.peers {
            let covered: Vec<_> =
                entries.iter().filter(|entry| entry.pos <= pos).map(|entry| entry.identity).collect();
            if covered.is_empty() {
                continue;
            }
            let count = u32::try_from(covered.len()).expect("a window has at most 65,535 messages");
            out.push(door.0);
            if has_sessions {
                out.extend(session.0.to_le_bytes());
            }
            out.extend(count.to_le_bytes());
            for identity in covered {
                out.extend(identity.pkid.to_le_bytes());
                out.extend(identity.digest.to_le_bytes());
            }
        }
        out
    }

    /// Reads what a checkpoint carried, as committed at `pos`. Anything unreadable counts as nothing seen.
    pub fn decode(bytes: &[u8], pos: u64, now: Instant) -> Tail {
        let mut tail = Tail::default();
        let (mut rest, has_sessions) = match bytes {
            [DOORS, rest @ ..] => (rest, false),
            [SESSIONS, rest @ ..] => (rest, true),
            _ => return tail,
        };
        while let Some((peer, after)) = take_peer(rest, has_sessions) {
            let Some((count, after)) = after.split_first_chunk() else { break };
            let count = u32::from_le_bytes(*count) as usize;
            let Some((entries, next)) = after.split_at_checked(count.saturating_mul(6)) else { break };
            let entries = entries.chunks_exact(6).map(|e| {
                let pkid = u16::from_le_bytes([e[0], e[1]]);
                let digest = u32::from_le_bytes([e[2], e[3], e[4], e[5]]);
                Entry { pos, at: now, identity: Identity { pkid, digest } }
            });
            tail.peers.insert(peer, entries.collect());
            rest = next;
        }
        tail
    }
}

fn take_peer(rest: &[u8], has_sessions: bool) -> Option<(Peer, &[u8])> {
    let (door, rest) = rest.split_first()?;
    if !has_sessions {
        return Some((door_peer(DoorId(*door)), rest));
    }
    let (session, rest) = rest.split_first_chunk()?;
    Some(((SessionId(u32::from_le_bytes(*session)), DoorId(*door)), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample::{Reading, SeriesId, StreamId, Timeline, Value as Measured};

    fn message(pkid: u16) -> Message {
        Message {
            door: DoorId(3),
            ticket: 1,
            session: SessionId::NONE,
            pkid,
            stream: StreamId(1),
            timeline: Timeline::Sensor,
            readings: vec![Reading { series: SeriesId(1), time: i64::from(pkid), value: Measured::Int(7) }],
        }
    }

    #[test]
    fn a_checkpoint_carries_only_what_it_covers() {
        // Goal: identities of later groups stay out, so that their redelivery is taken as new.
        let (mut tail, now) = (Tail::default(), Instant::now());
        tail.record(1, &message(10), 100, now);
        tail.record(2, &message(11), 100, now);
        let back = Tail::decode(&tail.encode(1), 1, now);
        assert_eq!(back.of(DoorId(3)), vec![message(10).identity().unwrap()]);
        assert_eq!(Tail::decode(&tail.encode(2), 2, now).of(DoorId(3)), tail.of(DoorId(3)));
    }

    #[test]
    fn the_tail_is_as_long_as_the_window() {
        // Goal: the bound holds, and the newest stay.
        let mut tail = Tail::default();
        for pkid in 1..=50 {
            tail.record(1, &message(pkid), 20, Instant::now());
        }
        let left = tail.of(DoorId(3));
        assert_eq!((left.len(), left[0].pkid, left[19].pkid), (20, 31, 50));
    }

    #[test]
    fn qos_0_has_no_identity_and_garbage_is_nothing_seen() {
        // Goal: messages without a packet identifier are not recorded; unreadable bytes decode to an empty tail.
        let (mut tail, now) = (Tail::default(), Instant::now());
        tail.record(1, &message(0), 20, now);
        assert_eq!(tail, Tail::default());
        assert_eq!(Tail::decode(&[1, 2, 255, 255, 255, 255, 0], 1, now), Tail::default());
        assert_eq!(Tail::decode(&[9, 9], 1, now), Tail::default());
    }

    #[test]
    fn sessions_are_told_apart_and_survive_a_checkpoint() {
        // Goal: equal packet identifiers of two sessions and of a broker are three identities, before and after.
        let (mut tail, now) = (Tail::default(), Instant::now());
        let of = |session| Message { session: SessionId(session), ..message(5) };
        tail.record(1, &message(5), 100, now);
        tail.record(1, &of(7), 100, now);
        tail.record(2, &of(9), 100, now);
        let mut back = Tail::decode(&tail.encode(1), 1, now);
        assert_eq!(back.of(DoorId(3)).len(), 1);
        assert_eq!(back.of_session(SessionId(7)), vec![of(7).identity().unwrap()]);
        assert_eq!(back.of_session(SessionId(9)), vec![], "not covered by the checkpoint");
        back.retain_sessions(|session| session == SessionId(9));
        assert_eq!((back.of_session(SessionId(7)).len(), back.of(DoorId(3)).len()), (0, 1));
        assert_eq!(tail.encode(0), [SESSIONS]);
    }

    #[test]
    fn a_session_keeps_what_its_client_may_still_miss_and_no_more() {
        // Goal: old identities go with new messages, but never below the minimum, and never with time alone.
        let (mut tail, begun) = (Tail::default(), Instant::now());
        let of = |pkid| Message { session: SessionId(7), ..message(pkid) };
        for pkid in 1..=100 {
            tail.record(1, &of(pkid), 1_000, begun);
        }
        assert_eq!(tail.of_session(SessionId(7)).len(), 100);
        tail.record(2, &of(101), 1_000, begun + RECENT);
        assert_eq!(tail.of_session(SessionId(7)).len(), 101, "not old enough");
        tail.record(3, &of(102), 1_000, begun + 2 * RECENT);
        let left = tail.of_session(SessionId(7));
        assert_eq!((left.len(), left[0].pkid, left[FEW - 1].pkid), (FEW, 71, 102));
    }

    proptest! {
        #[test]
        fn after_any_restart_a_session_knows_what_it_knew_of_committed_messages(
            steps in prop::collection::vec((0u8..4, 1u32..4, 1usize..5), 1..60),
        ) {
            // Goal: identities from checkpoint and rows together are those of the process that died, however often it dies,
            // and never one of a message that is not on flash. Method: a journal of rows and one checkpoint.
            const WINDOW: usize = 8;
            let now = Instant::now();
            let (mut tail, mut rows, mut checkpoint) = (Tail::default(), Vec::<(u64, Message)>::new(), (0, Vec::new()));
            let (mut pos, mut next) = (0, [0u16; 4]);
            for (step, session, count) in steps {
                match step {
                    0 | 1 => {
                        pos += 1;
                        for _ in 0..count {
                            next[session as usize] += 1;
                            let message =
                                Message { session: SessionId(session), ..message(next[session as usize]) };
                            tail.record(pos, &message, WINDOW, now);
                            rows.push((pos, message));
                        }
                    }
                    2 => {
                        // Checkpoints go forward.
                        let upto = pos.saturating_sub(count as u64 - 1).max(checkpoint.0);
                        checkpoint = (upto, tail.encode(upto));
                        rows.retain(|(at, _)| *at > upto);
                    }
                    _ => {
                        let mut back = Tail::decode(&checkpoint.1, checkpoint.0, now);
                        rows.iter().for_each(|(at, message)| back.record(*at, message, WINDOW, now));
                        for session in (1..4).map(SessionId) {
                            let (old, new) = (tail.of_session(session), back.of_session(session));
                            // What a checkpoint leaves out because the window was full may come back from the rows, not
                            // the other way round.
                            prop_assert!(new.ends_with(&old) || old.ends_with(&new), "{old:?} {new:?}");
                            prop_assert_eq!(new.last(), old.last());
                            let in_rows = rows.iter().filter(|(_, m)| m.session == session).count();
                            prop_assert!(new.len() >= in_rows.min(WINDOW));
                        }
                        tail = back;
                    }
                }
            }
        }
    }
}
