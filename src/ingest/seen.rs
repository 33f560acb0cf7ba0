//! Recognises messages that a peer sends again.
//!
//! An MQTT peer repeats, with the same packet identifier and DUP set, every QoS 1 message whose PUBACK it did not get.
//! Such a copy must be acknowledged again, but not counted again. Pure; one table per session, owned by its door. What
//! has to survive a power cut is in the journal: it commits identities with the readings, and the table starts from them.
//!
//! ```text
//!                  DUP=0, or an unknown identity: passed on as fresh
//!                 ┌────────────────────────────────────────────────┐
//!                 ▼                                                │
//!  (unknown) ─▶ Pending(ticket) ── ticket durable ──▶ Durable ── packet identifier used anew, or forgotten
//!                 │ DUP=1, same digest:                │ DUP=1, same digest:
//!                 └ acknowledge with that ticket       └ acknowledge at once
//! ```
//! Bound: the last `window` messages (as many as the peer may leave unacknowledged), and whatever is pending. Forgetting
//! matters as much as remembering: a packet identifier is used again after a full turn of the peer's counter, and with
//! arrival stamps two messages of equal values have equal digests. An entry that outlived the turn would take a new
//! message for the copy of an old one. With a counter that runs through all 65,535, as mosquitto's does, this cannot
//! happen while `inflight_max` is smaller: the peer repeats in order, so that an entry has left before its identifier comes
//! again. A broker that hands out the lowest free identifier leaves one case open: a message lost on the wire with its
//! connection, which has the identifier, the series and the values of one acknowledged within the last window, and no
//! time of its own. Sensors that send a time are safe with every broker.

use std::collections::VecDeque;

use crate::sample::Identity;

/// All the packet identifiers there are.
const PKIDS: usize = u16::MAX as usize;

/// The DUP flag of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// DUP = 0.
    First,
    /// DUP = 1: the peer has sent it before, received or not.
    Repeated,
}

/// What is to be done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Pass it on, and enter it.
    Fresh,
    /// It was passed on with this ticket and is not durable yet: acknowledge it with that ticket.
    Pending(u64),
    /// It is durable: acknowledge it.
    Durable,
}

/// The table of one session: 16 bytes an entry, because a thousand sensors have one each. It is only searched for messages
/// that say of themselves that they come again, from the newest on, where those are; a map would cost ten times the
/// memory to save them a microsecond.
#[derive(Debug)]
pub struct Seen {
    /// Messages in the order they were entered. Of those with the same packet identifier the last counts.
    entries: VecDeque<Entry>,
    window: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// 0 for those known from the journal.
    ticket: u64,
    digest: u32,
    pkid: u16,
}

// === impl Seen ===

impl Seen {
    /// A table for a peer that leaves at most `window` messages unacknowledged, starting from what an earlier process
    /// made durable, oldest first.
    pub fn new(window: usize, durable: impl IntoIterator<Item = Identity>) -> Seen {
        let mut seen = Seen { entries: VecDeque::new(), window: window.min(PKIDS) };
        for identity in durable {
            seen.enter(identity, 0, |_| true);
        }
        seen
    }

    /// Judges a message, given which tickets are durable. Changes nothing.
    pub fn judge(&self, delivery: Delivery, identity: Identity, is_durable: impl Fn(u64) -> bool) -> Sight {
        if delivery == Delivery::First {
            return Sight::Fresh;
        }
        match self.entries.iter().rev().find(|entry| entry.pkid == identity.pkid) {
            Some(entry) if entry.digest == identity.digest => {
                if is_durable(entry.ticket) {
                    Sight::Durable
                } else {
                    Sight::Pending(entry.ticket)
                }
            }
            _ => Sight::Fresh,
        }
    }

    /// Enters a fresh message, in place of any earlier one with its packet identifier.
    pub fn enter(&mut self, identity: Identity, ticket: u64, is_durable: impl Fn(u64) -> bool) {
        let Identity { pkid, digest } = identity;
        self.entries.push_back(Entry { ticket, digest, pkid });
        self.trim(is_durable);
    }

    /// Forgets everything: the peer has lost the session.
    pub fn forget(&mut self) {
        self.entries.clear();
    }

    /// How many messages are remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nothing is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn trim(&mut self, is_durable: impl Fn(u64) -> bool) {
        while self.entries.len() > self.window
            && self.entries.front().is_some_and(|entry| is_durable(entry.ticket))
        {
            self.entries.pop_front();
        }
        // A peer that uses one identifier over and over while nothing becomes durable must not make the queue grow.
        if self.entries.len() > self.window + PKIDS {
            let mut known = vec![false; PKIDS + 1];
            let newest = |entry: &&Entry| !std::mem::replace(&mut known[usize::from(entry.pkid)], true);
            self.entries = self
                .entries
                .iter()
                .rev()
                .filter(newest)
                .copied()
                .collect::<VecDeque<_>>()
                .into_iter()
                .rev()
                .collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn id(pkid: u16, digest: u32) -> Identity {
        Identity { pkid, digest }
    }

    fn upto(durable: u64) -> impl Fn(u64) -> bool {
        move |ticket| ticket <= durable
    }

    #[test]
    fn a_copy_of_a_pending_message_waits_for_its_ticket() {
        // Goal: the arrows of the drawing, one after the other.
        let mut seen = Seen::new(4, []);
        assert_eq!(seen.judge(Delivery::Repeated, id(1, 7), upto(0)), Sight::Fresh);
        seen.enter(id(1, 7), 1, upto(0));
        assert_eq!(seen.judge(Delivery::Repeated, id(1, 7), upto(0)), Sight::Pending(1));
        assert_eq!(seen.judge(Delivery::Repeated, id(1, 7), upto(1)), Sight::Durable);
        assert_eq!(seen.judge(Delivery::Repeated, id(1, 8), upto(1)), Sight::Fresh, "another digest");
        assert_eq!(
            seen.judge(Delivery::First, id(1, 7), upto(1)),
            Sight::Fresh,
            "the identifier is used anew"
        );
        seen.forget();
        assert_eq!(seen.judge(Delivery::Repeated, id(1, 7), upto(1)), Sight::Fresh);
    }

    #[test]
    fn messages_of_an_earlier_process_are_known_as_durable() {
        // Goal: seeds count from the start, and leave when the window has moved on.
        let mut seen = Seen::new(2, [id(1, 1), id(2, 2)]);
        assert_eq!(seen.judge(Delivery::Repeated, id(1, 1), upto(0)), Sight::Durable);
        seen.enter(id(3, 3), 1, upto(0));
        assert_eq!(seen.judge(Delivery::Repeated, id(1, 1), upto(0)), Sight::Fresh);
        assert_eq!(seen.judge(Delivery::Repeated, id(2, 2), upto(0)), Sight::Durable);
    }

    #[test]
    fn what_is_pending_is_never_forgotten_and_what_is_durable_is_bounded() {
        // Goal: the bound of the table, on both sides.
        let mut seen = Seen::new(10, []);
        for n in 1..=100u16 {
            seen.enter(id(n, 0), n.into(), upto(0));
        }
        assert_eq!(seen.len(), 100);
        seen.enter(id(101, 0), 101, upto(100));
        assert_eq!(seen.len(), 10);
        for n in 0..200_000u64 {
            seen.enter(id(7, 0), 1_000 + n, upto(0));
        }
        assert!(seen.len() <= 10 + PKIDS + 1);
    }

    /// A broker with a window, the shortest counter of packet identifiers that is safe, and a connection that loses what is under way; and a door
    /// with a journal, which may crash. Every message has the same content, the hardest case.
    #[derive(Debug)]
    struct World {
        window: usize,
        pkids: u16,
        /// Messages the broker still has to send for the first time.
        unsent: VecDeque<u32>,
        next_pkid: u16,
        /// Sent, not acknowledged: (pkid, message, sent before on an earlier connection).
        inflight: VecDeque<(u16, u32, Delivery)>,
        /// On the wire to the door, and back.
        wire: VecDeque<(u16, u32, Delivery)>,
        acks: VecDeque<u16>,
        seen: Seen,
        ticket: u64,
        durable: u64,
        /// Acknowledgements the door owes on this connection.
        owed: VecDeque<(u16, u64)>,
        /// Messages passed on: by ticket, what it was and its identifier; lost in a crash while not durable.
        passed: BTreeMap<u64, (u32, u16)>,
        /// Journal: how often each message is in it, and the identities committed with them.
        journal: BTreeMap<u32, u32>,
        committed: VecDeque<Identity>,
    }

    const CONTENT: u32 = 42;

    impl World {
        fn new(window: usize, messages: u32) -> World {
            World {
                window,
                pkids: (window + 1) as u16,
                unsent: (0..messages).collect(),
                next_pkid: 1,
                inflight: VecDeque::new(),
                wire: VecDeque::new(),
                acks: VecDeque::new(),
                seen: Seen::new(window, []),
                ticket: 0,
                durable: 0,
                owed: VecDeque::new(),
                passed: BTreeMap::new(),
                journal: BTreeMap::new(),
                committed: VecDeque::new(),
            }
        }

        fn broker_sends(&mut self) {
            if self.inflight.len() < self.window
                && let Some(message) = self.unsent.pop_front()
            {
                let pkid = self.next_pkid;
                self.next_pkid = pkid % self.pkids + 1;
                self.inflight.push_back((pkid, message, Delivery::First));
                self.wire.push_back((pkid, message, Delivery::First));
            }
        }

        fn broker_hears(&mut self) {
            if let Some(pkid) = self.acks.pop_front() {
                let first = self.inflight.pop_front().expect("an acknowledgement answers a message");
                assert_eq!(first.0, pkid, "acknowledgements come in order");
            }
        }

        fn door_hears(&mut self) {
            let Some((pkid, message, delivery)) = self.wire.pop_front() else { return };
            let identity = id(pkid, CONTENT);
            match self.seen.judge(delivery, identity, upto(self.durable)) {
                Sight::Fresh => {
                    self.ticket += 1;
                    self.seen.enter(identity, self.ticket, upto(self.durable));
                    self.passed.insert(self.ticket, (message, pkid));
                    self.owed.push_back((pkid, self.ticket));
                }
                Sight::Pending(ticket) => self.owed.push_back((pkid, ticket)),
                Sight::Durable => self.owed.push_back((pkid, 0)),
            }
        }

        fn journal_commits(&mut self, upto: u64) {
            for ticket in self.durable + 1..=upto.min(self.ticket) {
                let (message, pkid) = self.passed[&ticket];
                *self.journal.entry(message).or_default() += 1;
                self.committed.push_back(id(pkid, CONTENT));
                self.durable = ticket;
            }
            while self.committed.len() > self.window {
                self.committed.pop_front();
            }
        }

        fn door_acknowledges(&mut self) {
            while self.owed.front().is_some_and(|(_, ticket)| *ticket <= self.durable) {
                self.acks.extend(self.owed.pop_front().map(|(pkid, _)| pkid));
            }
        }

        fn cut(&mut self, acks_that_arrive: usize) {
            for _ in 0..acks_that_arrive {
                self.broker_hears();
            }
            self.acks.clear();
            self.owed.clear();
            self.wire = self.inflight.iter().map(|(pkid, m, _)| (*pkid, *m, Delivery::Repeated)).collect();
        }

        fn crash(&mut self, acks_that_arrive: usize) {
            self.cut(acks_that_arrive);
            self.seen = Seen::new(self.window, self.committed.iter().copied());
            self.passed.clear();
            self.ticket = 0;
            self.durable = 0;
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Send(u8),
        Hear(u8),
        Commit(u8),
        Acknowledge,
        Settle(u8),
        Cut(u8),
        Crash(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1u8..6).prop_map(Step::Send),
            4 => (1u8..6).prop_map(Step::Hear),
            3 => (1u8..6).prop_map(Step::Commit),
            3 => Just(Step::Acknowledge),
            2 => (1u8..6).prop_map(Step::Settle),
            1 => (0u8..4).prop_map(Step::Cut),
            1 => (0u8..4).prop_map(Step::Crash),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn whatever_happens_to_the_connection_every_message_is_journalled_once(
            window in 1usize..6,
            steps in steps(),
        ) {
            // Goal: no loss and no double, with messages in every state when the connection breaks or the door crashes.
            let mut world = World::new(window, 60);
            for step in steps {
                match step {
                    Step::Send(n) => (0..n).for_each(|_| world.broker_sends()),
                    Step::Hear(n) => (0..n).for_each(|_| world.door_hears()),
                    Step::Commit(n) => world.journal_commits(world.durable + u64::from(n)),
                    Step::Acknowledge => world.door_acknowledges(),
                    Step::Settle(n) => (0..n).for_each(|_| world.broker_hears()),
                    Step::Cut(n) => world.cut(n.into()),
                    Step::Crash(n) => world.crash(n.into()),
                }
            }
            while !(world.unsent.is_empty() && world.inflight.is_empty()) {
                world.broker_sends();
                world.door_hears();
                world.journal_commits(u64::MAX);
                world.door_acknowledges();
                world.broker_hears();
            }
            let once = (0..60).map(|message| (message, 1)).collect::<BTreeMap<u32, u32>>();
            prop_assert_eq!(world.journal, once);
        }
    }
}
