//! Answers to the requests of the other tasks.

use crate::outbox::SubjectState;
use crate::outbox::table;
use crate::sample::BootId;

use super::thread::Store;
use super::{Command, StoreError, open};

// === impl Store ===

impl Store {
    pub(super) fn answer(&mut self, command: Command) -> Result<(), StoreError> {
        // A requester that has gone away needs no answer: replies may fail.
        match command {
            Command::Intern { stream, entry, reply } => {
                let series_max = self
                    .policy
                    .streams
                    .get(self.names.stream_name(stream))
                    .map_or(usize::MAX, |s| s.series_max);
                let outcome = self.names.series(stream, entry, series_max);
                if let Ok(id) = outcome {
                    self.fresh_series.push(id);
                }
                let _ = reply.send(outcome);
            }
            Command::Find { stream, name, reply } => {
                let _ = reply.send(self.names.find_series(stream, &name));
            }
            Command::Outputs { lane, after, bytes_max, reply } => {
                let correction = |boot| self.names.boot_entry(BootId(boot)).and_then(|boot| boot.correction);
                let rows = table::outputs(&self.db, &self.ledger, lane, after, bytes_max, correction);
                let _ = reply.send(rows.map_err(|err| self.read_failure(err))?);
            }
            Command::Settle { settled, reply } => {
                self.settled.ids.extend(settled.ids);
                for (key, floor) in settled.floors {
                    self.settled.floors.retain(|(known, _)| *known != key);
                    self.settled.floors.push((key, floor));
                }
                self.want_commit(self.wear.interval());
                let _ = reply.send(());
            }
            Command::Urge if self.checkpoint.is_some() => self.want_commit(std::time::Duration::ZERO),
            // It is on its way here.
            Command::Urge => self.urged = true,
            Command::Subjects { reply } => {
                let _ = reply.send(self.subjects().map_err(|err| self.read_failure(err))?);
            }
            Command::Recall { query, reply } => {
                let page = self.recall(&query).map_err(|err| self.read_failure(err))?;
                let _ = reply.send(page);
            }
        }
        Ok(())
    }

    fn subjects(&self) -> rusqlite::Result<Vec<SubjectState>> {
        self.ledger
            .accounts()
            .map(|(key, account)| {
                Ok(SubjectState {
                    key,
                    stream_name: self.names.stream_name(key.stream).to_owned(),
                    hub_floor: account.hub_floor,
                    oldest_seq: if account.rows == 0 { None } else { table::oldest_seq(&self.db, key)? },
                })
            })
            .collect()
    }

    fn read_failure(&self, err: rusqlite::Error) -> StoreError {
        if open::is_corruption(&err) {
            open::mark_suspect(&self.policy.data_dir);
            return StoreError::Corrupt(err);
        }
        StoreError::Read(err)
    }
}
