//! What is not known for certain: which rows the hub holds although nobody said so. The part of the uplink's loop that asks.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::answer::Refusal;
use super::drain::{Done, Drain};
use super::feed::Fetch;
use super::floors::{ReadBack, Standing};
use super::lanes::Class;
use super::readback::{Question, read_back};
use super::{Settings, message};
use crate::lattice::ApiError;
use crate::outbox::{OutRow, SubjectKey, SubjectState};
use crate::sample::Lane;

/// How long rows in doubt are left alone before the hub is asked: acknowledgements that are on their way settle them for
/// nothing. After a new connection it is also the time the server beside us has to pass on what the old one left in its
/// hands, the old one of a process that was killed included.
pub(super) const RIPE_AFTER: Duration = Duration::from_millis(500);

/// How long to wait after a read-back that failed while the link seems up.
const READ_BACK_RETRY: Duration = Duration::from_secs(1);

/// A subject the store has not named is asked for again after this.
const NAMING_PAUSE: Duration = Duration::from_secs(1);

/// Whether the hub has to be asked what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Nothing is in doubt.
    None,
    /// It has to, at this time.
    AskAt(Instant),
    /// It is being asked, for the so manyeth time: an answer to an earlier time does not count.
    Asking(u64),
}

/// A name at the hub.
pub(super) struct Named {
    pub stream: String,
    pub subject: String,
    /// The store's floor, as it was when the process began to look at the subject.
    floor: u64,
    /// Whether it had unsettled rows then.
    unsettled: bool,
}

// === impl Drain ===

impl Drain {
    pub(super) fn take_page(&mut self, fetch: Fetch, rows: Vec<OutRow>) {
        let (floors, (ids, keys)) = (&mut self.floors, &mut self.settled);
        let before = ids.len();
        self.feeds.page(fetch, rows, |row| {
            let found = floors.take_found(row.subject, row.seq);
            if found {
                ids.push(row.id);
                keys.insert(row.subject);
            }
            !found
        });
        self.status.found_rows += (ids.len() - before) as u64;
        let Some(meeting) = self.meeting else { return };
        let alarms_met = self.feeds.has_passed(Class::Alarm, meeting.alarm);
        let data_met = self.feeds.has_passed(Class::Backlog, meeting.data);
        if alarms_met {
            self.floors.all_met(Lane::Alarm);
        }
        if data_met {
            self.floors.all_met(Lane::Data);
        }
        if alarms_met && data_met {
            self.meeting = None;
        }
    }

    pub(super) fn take_subjects(&mut self, subjects: Vec<SubjectState>) {
        let known = self.names.len();
        for SubjectState { key, stream_name, hub_floor, oldest_seq } in subjects {
            let Settings { prefix, gateway, .. } = &self.settings;
            self.names.entry(key).or_insert_with(|| Named {
                subject: message::subject(prefix, gateway, key.lane, &stream_name),
                stream: stream_name,
                floor: hub_floor,
                unsettled: oldest_seq.is_some(),
            });
        }
        if self.names.len() == known {
            self.name_again_at = Instant::now() + NAMING_PAUSE;
        }
        let unread = self.names.keys().any(|key| self.floors.standing(*key) == Standing::Unread);
        if self.doubt == Doubt::None && unread {
            // What is in flight is not in doubt for that.
            self.doubt = Doubt::AskAt(Instant::now());
        }
    }

    pub(super) fn take_time(&mut self) {
        let now = Instant::now();
        if let Doubt::AskAt(at) = self.doubt
            && at <= now
            && !self.naming
        {
            self.ask();
        }
        let due = self.flight.doubt_at(self.settings.ack_timeout, self.window.rtt());
        if self.up.is_some() && self.doubt == Doubt::None && due.is_some_and(|due| due <= now) {
            self.status.doubts += 1;
            let waiting = self.flight.oldest_at().map(|at| now.duration_since(at));
            warn!(
                ?waiting,
                rows = self.flight.len(),
                "acknowledgements are missing; asking the hub what it holds"
            );
            self.link.doubt();
            self.ask_at(now + RIPE_AFTER);
        }
    }

    /// What is in flight is in doubt, and the hub is to be asked at this time.
    pub(super) fn ask_at(&mut self, at: Instant) {
        self.doubt = Doubt::AskAt(at);
        self.flight_in_doubt = true;
    }

    /// Asks the hub about every subject that is in doubt.
    fn ask(&mut self) {
        let Some(session) = self.session.as_ref().filter(|_| self.up.is_some()) else { return };
        let flying: BTreeSet<SubjectKey> = self.flight.rows().map(|flown| flown.row.subject).collect();
        let questions: Vec<Question> = self
            .names
            .iter()
            .filter_map(|(key, named)| {
                let above = match self.floors.standing(*key) {
                    Standing::Unread => named.unsettled.then(|| self.floors.read_from(*key, named.floor)),
                    Standing::Read if self.flight_in_doubt && flying.contains(key) => {
                        Some(self.floors.read_from(*key, 0))
                    }
                    Standing::Read => return None,
                };
                Some(Question { key: *key, subject: named.subject.clone(), above })
            })
            .collect();
        if questions.is_empty() {
            self.doubt = Doubt::None;
            self.flight_in_doubt = false;
            return;
        }
        debug!(subjects = questions.len(), "reading back");
        self.status.read_backs += 1;
        let time = self.status.read_backs;
        self.doubt = Doubt::Asking(time);
        let api = self.link.api(session.client.clone());
        let all = format!("{}.{}.>", self.settings.prefix, self.settings.gateway);
        let epoch = self.store.epoch;
        self.jobs.push(
            read_back(api, all, epoch, questions).map(move |result| Done::ReadBack(time, result)).boxed(),
        );
    }

    pub(super) fn take_read_back(&mut self, time: u64, result: Result<Vec<(u64, ReadBack)>, ApiError>) {
        if self.doubt != Doubt::Asking(time) {
            // The link went away and came back meanwhile: what was read is older than what may have arrived since.
            return;
        }
        let backs = match result {
            Ok(backs) => backs,
            Err(error) => {
                debug!(%error, "the read-back failed");
                if let ApiError::Refused { description, .. } = &error {
                    self.show_refusal(Refusal::ReadBack(description.clone()));
                }
                self.link.doubt();
                self.doubt = Doubt::AskAt(Instant::now() + READ_BACK_RETRY);
                return;
            }
        };
        if matches!(self.status.refusal, Some(Refusal::ReadBack(_))) {
            self.status.refusal = None;
        }
        if self.meeting.is_none() && backs.iter().any(|(_, back)| !back.found.is_empty()) {
            self.meeting = Some(*self.store.newest.borrow());
        }
        let mut found = 0;
        for (from, back) in &backs {
            self.floors.read_back(*from, back);
            if self.flight_in_doubt {
                found += self.resolve(back);
            }
        }
        self.doubt = Doubt::None;
        self.flight_in_doubt = false;
        if found > 0 {
            info!(found, "rows whose acknowledgement was lost are at the hub");
        }
    }

    /// Settles or returns the rows in flight of a subject that was read back. Returns how many were found.
    fn resolve(&mut self, back: &ReadBack) -> u64 {
        let ids: Vec<u64> = self
            .flight
            .rows()
            .filter(|flown| flown.row.subject == back.key)
            .map(|flown| flown.row.id)
            .collect();
        if let Some(hold) = self.holds.get_mut(&back.key) {
            hold.trying = false;
        }
        let mut found = 0;
        for id in ids {
            let Some(flown) = self.flight.take(id) else { continue };
            self.window.forget(flown.sending);
            if back.found.contains(flown.row.seq) {
                found += 1;
                self.floors.settled(back.key, id);
                self.settle(back.key, id);
            } else {
                let class = match flown.class {
                    // The link has come up again since: what was live is backlog.
                    Class::Live if !self.feeds.is_live(id) => Class::Backlog,
                    class => class,
                };
                self.feeds.again(class, flown.row);
            }
        }
        self.status.found_rows += found;
        found
    }
}
