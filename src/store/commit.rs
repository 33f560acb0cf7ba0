//! One transaction for everything that changes. Either all of it is on flash afterwards, or nothing has changed here.

use std::borrow::Cow;
use std::time::Duration;

use rusqlite::params;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::journal::{Committed, Group, SessionChange, hot, ring, write_retained, write_sessions};
use crate::outbox::Settled;
use crate::outbox::retention::{self, Fill};
use crate::platform::clock::WallClock;
use crate::platform::fault;
use crate::sample::{DoorId, Durability, Message, Nanos, StreamId};

use super::thread::{AGED_MAX, Store};
use crate::config::FullPolicy;

/// When an output was made while the clock was not trusted: it leaves by the byte cap, not by age.
const NEVER_AGES: Nanos = i64::MAX;
/// Between two lines of the log that say that caps drop outputs: six an hour, whatever the flood.
const TELL_DROPS_EVERY: Duration = Duration::from_secs(600);

/// What a commit makes true.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Last durable tickets.
    pub acknowledge: Vec<(DoorId, u64)>,
    /// The group, for the pipeline.
    pub group: Option<Committed>,
    /// Whom to tell that the checkpoint is durable.
    pub checkpointed: Option<tokio::sync::oneshot::Sender<()>>,
}

// === impl Store ===

impl Store {
    /// Writes the group, the checkpoint, the names, what is settled and what the caps drop, in one synced transaction.
    /// On an error nothing has changed, on flash or in memory, and everything can be tried again.
    pub(super) fn commit(&mut self) -> rusqlite::Result<Done> {
        let journalled = self.journalled();
        let hot_row = (!journalled.is_empty() || !self.group.forgotten.is_empty())
            .then(|| hot::encode(&self.group.forgotten, &journalled));
        let pos = self.next_pos;
        let mut ledger = self.ledger.clone();
        let mut usage = self.ring;
        let mut placed = None;
        let writes = hot_row.is_some()
            || !self.group.sessions.is_empty()
            || !self.group.retained.is_empty()
            || self.checkpoint.is_some()
            || self.names.is_dirty()
            || self.settled != Settled::default();
        if writes {
            fault::point("journal.before_transaction");
            let now = self.clock.as_ref().and_then(WallClock::trusted_now);
            let tx = self.db.unchecked_transaction()?;
            self.names.write(&tx)?;
            write_sessions(&tx, &self.group.sessions)?;
            write_retained(&tx, self.group.retained.values())?;
            if let Some(row) = &hot_row {
                placed = Some(self.slots.write(&tx, pos, row)?);
            }
            if let Some((checkpoint, _)) = &self.checkpoint {
                tx.prepare_cached(
                    "INSERT OR REPLACE INTO checkpoint (id, pos, state, seen, wall_ns) VALUES (0, ?1, ?2, ?3, ?4)",
                )?
                // The group itself lies behind any checkpoint there can be.
                .execute(params![checkpoint.pos, checkpoint.state, self.tail.encode(checkpoint.pos), now.or(self.floor)])?;
                ring::append(&tx, &mut usage, &checkpoint.raw, self.policy.journal.ring_bytes_max)?;
                ledger.append(&tx, &checkpoint.outputs, now.unwrap_or(NEVER_AGES))?;
            }
            ledger.settle(&tx, &self.settled)?;
            let rejecting = self.apply_caps(&tx, &mut ledger, now)?;
            ledger.write(&tx, &self.ledger)?;
            fault::point("journal.before_commit");
            tx.commit()?;
            fault::point("journal.after_commit");
            self.names.written();
            self.tell_rejecting(rejecting);
        }
        if let Some(place) = placed {
            self.slots.keep(pos, place);
        }
        if let Some((checkpoint, _)) = &self.checkpoint {
            self.slots.release(checkpoint.pos);
        }
        self.tell_drops(&ledger);
        self.ledger = ledger;
        self.ring = usage;
        self.remember(pos);
        self.settled = Settled::default();
        Ok(self.finish(pos, hot_row.is_some()))
    }

    /// The group is on flash: from now on its messages are recognised when they come again.
    fn remember(&mut self, pos: u64) {
        for door in &self.group.forgotten {
            self.tail.forget(*door);
        }
        let now = Instant::now();
        for message in self.group.messages.iter().filter(|m| !m.readings.is_empty()) {
            let window = self.policy.doors.get(&message.door).map_or(0, |door| door.window);
            self.tail.record(pos, message, window, now);
        }
        // A message of a session comes after the session's beginning and before its end.
        for change in &self.group.sessions {
            if let SessionChange::End(session) = change {
                self.tail.forget_session(*session);
            }
        }
    }

    /// Begins to refuse messages, or takes them again, and says so.
    fn tell_rejecting(&mut self, rejecting: bool) {
        match (self.stats.rejecting, rejecting) {
            (false, true) => warn!(
                advice =
                    "mend the link to the hub, or raise outbox.bytes_max or the stream's outbox_bytes_max",
                "buffer is full; messages are not taken until it has room, senders keep them"
            ),
            (true, false) => info!("buffer has room; messages are taken again"),
            _ => {}
        }
        self.stats.rejecting = rejecting;
    }

    /// Says that caps drop outputs: when it begins, and now and then while it goes on.
    fn tell_drops(&mut self, ledger: &crate::outbox::table::Ledger) {
        let dropped = |ledger: &crate::outbox::table::Ledger| -> u64 {
            ledger.accounts().map(|(_, account)| account.dropped).sum()
        };
        let now = dropped(ledger);
        let silent = self.drops_told.is_none_or(|told| told.elapsed() >= TELL_DROPS_EVERY);
        if now > dropped(&self.ledger) && silent {
            self.drops_told = Some(Instant::now());
            error!(
                dropped = now,
                advice = "mend the link to the hub, raise outbox.bytes_max or the stream's outbox_bytes_max, or let the stream reject",
                "buffer is full; the oldest outputs are dropped and counted"
            );
        }
    }

    /// The messages of the group that go into a hot row. Those of a door are all of one durability.
    fn journalled(&self) -> Cow<'_, [Message]> {
        let goes = |message: &Message| {
            let door = self.policy.doors.get(&message.door);
            !message.readings.is_empty() && door.is_none_or(|door| door.durability == Durability::Reading)
        };
        let messages = &self.group.messages;
        if messages.iter().all(goes) {
            return Cow::Borrowed(messages);
        }
        Cow::Owned(messages.iter().filter(|message| goes(message)).cloned().collect())
    }

    /// Applies the caps in the transaction. Returns whether messages must be refused.
    fn apply_caps(
        &self,
        tx: &rusqlite::Transaction<'_>,
        ledger: &mut crate::outbox::table::Ledger,
        now: Option<Nanos>,
    ) -> rusqlite::Result<bool> {
        if let (Some(age), Some(now)) = (self.policy.outbox.age_max, now) {
            let before = now.saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
            ledger.drop_older(tx, before, AGED_MAX)?;
        }
        let full = |stream: StreamId| {
            self.policy.streams.get(self.names.stream_name(stream)).map_or(FullPolicy::DropOldest, |s| s.full)
        };
        let fills: Vec<Fill> = ledger
            .accounts()
            .map(|(key, account)| Fill {
                key,
                bytes: account.bytes,
                cap: self
                    .policy
                    .streams
                    .get(self.names.stream_name(key.stream))
                    .and_then(|stream| stream.outbox_bytes_max),
                full: full(key.stream),
            })
            .collect();
        let verdict = retention::judge(&fills, self.policy.outbox.bytes_max, self.stats.rejecting);
        for (key, bytes) in verdict.drop_own {
            ledger.drop_own(tx, key, bytes)?;
        }
        if verdict.drop_any > 0 {
            ledger.drop_any(tx, verdict.drop_any, |stream| full(stream) == FullPolicy::DropOldest)?;
        }
        Ok(verdict.reject)
    }

    /// The transaction is on flash: turns the group into what the others may know.
    fn finish(&mut self, pos: u64, wrote_row: bool) -> Done {
        let mut done = Done::default();
        let group = std::mem::take(&mut self.group);
        for (door, waiting) in group.waiting() {
            match waiting.durability {
                Durability::Reading => done.acknowledge.push((door, waiting.ticket)),
                Durability::Window => self.late.push_back((pos, door, waiting.ticket, waiting.messages)),
                Durability::None => {}
            }
        }
        let Group { messages, .. } = group;
        if !messages.is_empty() {
            self.next_pos = pos + 1;
            self.stats.position = pos;
            self.stats.commits += 1;
            self.stats.readings += messages.iter().map(|m| m.readings.len() as u64).sum::<u64>();
            let series = self
                .fresh_series
                .drain(..)
                .filter_map(|id| self.names.entry(id).map(|known| (id, known.stream, known.entry.clone())))
                .collect();
            done.group = Some(Committed {
                pos,
                messages,
                series,
                hurry: false,
                since: Some(std::time::Instant::now()),
            });
        } else if wrote_row {
            self.next_pos = pos + 1;
        }
        if let Some((checkpoint, reply)) = self.checkpoint.take() {
            while self.late.front().is_some_and(|late| late.0 <= checkpoint.pos) {
                let (_, door, ticket, _) = self.late.pop_front().expect("the front was there");
                done.acknowledge.push((door, ticket));
            }
            self.stats.checkpoint_position = checkpoint.pos;
            done.checkpointed = Some(reply);
        }
        done
    }
}
