//! The way to the journal: what is pending leaves as one batch, when there is room for it.
//!
//! Owns nothing: what it changes is the [`Desk`]'s. A batch holds a permit for each message and reading in it until it is
//! committed, so what is under way is bounded by [`super::PASSED_MAX`], whatever the disk does.
//! Power loss: a batch that is not committed is lost, and nobody was told otherwise.
//! When full: nothing is dropped; what is pending stays, and clients are not read from until there is room.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::{Desk, PASSED_MAX};
use crate::ingest::listener::DOOR_FIRST;
use crate::journal::SessionChange;
use crate::sample::DoorId;
use crate::store::{Batch, Inbound};

/// Sessions that change and whose client waits for it: a subscription is answered within a tenth of a second.
const SESSION_SOON: Duration = Duration::from_millis(100);
/// As seldom is a group committed early for that.
const HURRY_EVERY: Duration = Duration::from_secs(1);

// === impl Desk ===

impl Desk {
    /// Hands what is pending to the journal, if there is room on the way. Returns whether nothing is left.
    pub fn pass_on(&mut self) -> bool {
        if self.is_idle() {
            return true;
        }
        let Ok(room) = Arc::clone(&self.passed).try_acquire_many_owned(self.pending_permits()) else {
            return false;
        };
        // A store that has gone ends the listener elsewhere.
        let Ok(permit) = self.inbound.try_reserve() else { return false };
        self.pending_weight = 0;
        permit.send(Inbound::Batch(Batch { room: Some(room), ..std::mem::take(&mut self.pending) }));
        true
    }

    fn pending_permits(&self) -> u32 {
        self.pending_weight.min(PASSED_MAX) as u32
    }

    /// What to wait for until [`Desk::pass_on`] may succeed.
    pub fn way(&self) -> (Arc<Semaphore>, u32, mpsc::Sender<Inbound>) {
        (Arc::clone(&self.passed), self.pending_permits(), self.inbound.clone())
    }

    /// Whether nothing waits to be passed on.
    pub fn is_idle(&self) -> bool {
        self.pending.messages.is_empty()
            && self.pending.sessions.is_empty()
            && self.pending.retained.is_empty()
            && self.pending.sessions_ticket.is_none()
    }

    /// What is to be written of a session; the ticket that says when it is.
    pub(super) fn note_session(&mut self, change: SessionChange) -> u64 {
        self.pending.sessions.push(change);
        self.note_written()
    }

    /// A ticket for what is written without a message.
    pub(super) fn note_written(&mut self) -> u64 {
        let ticket = self.ticket(0);
        self.pending.sessions_ticket = Some((DoorId(DOOR_FIRST), ticket));
        ticket
    }

    /// Somebody waits for a session to be written. Not for everyone, though: a client that changes its mind all the time
    /// would wear the flash.
    pub(super) fn hurry_session(&mut self, now: Instant) {
        if self.hurried.is_none_or(|at| now.duration_since(at) >= HURRY_EVERY) {
            self.hurried = Some(now);
            let within = self.pending.within.unwrap_or(SESSION_SOON);
            self.pending.within = Some(within.min(SESSION_SOON));
        }
    }
}
