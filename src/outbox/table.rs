//! The outbox in the database, and the ledger that counts it without reading it.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::sample::{Lane, Nanos, StreamId};

use super::{OutRow, Output, Settled, SubjectKey};

/// Ids of the alarm lane start here: a lane is one range of the key.
const ALARM_BASE: u64 = 1 << 56;

/// What is known of each subject without reading its outputs. Kept in the `subject` table, one row each, changed in the
/// transaction that changes the outputs; a draft is made for each transaction and becomes true with its commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    subjects: BTreeMap<SubjectKey, Account>,
}

/// One subject's account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Sequence of its next output.
    pub next_seq: u64,
    /// Above every id given to its outputs.
    pub next_id: u64,
    /// Outputs dropped by caps, in all its life.
    pub dropped: u64,
    /// See [`super::SubjectState::hub_floor`].
    pub hub_floor: u64,
    /// Outputs in the outbox.
    pub rows: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

// === impl Ledger ===

impl Ledger {
    /// Reads the ledger: one row a subject.
    pub fn load(db: &Connection) -> rusqlite::Result<Ledger> {
        let mut statement = db.prepare(
            "SELECT stream, lane, next_seq, next_id, dropped, hub_floor, rows, bytes FROM subject",
        )?;
        let mut rows = statement.query([])?;
        let mut ledger = Ledger::default();
        while let Some(row) = rows.next()? {
            let lane = if row.get::<_, i64>(1)? == 0 { Lane::Alarm } else { Lane::Data };
            let key = SubjectKey { stream: StreamId(row.get(0)?), lane };
            let account = Account {
                next_seq: row.get(2)?,
                next_id: row.get(3)?,
                dropped: row.get(4)?,
                hub_floor: row.get(5)?,
                rows: row.get(6)?,
                bytes: row.get(7)?,
            };
            ledger.subjects.insert(key, account);
        }
        Ok(ledger)
    }

    /// Every subject's account.
    pub fn accounts(&self) -> impl Iterator<Item = (SubjectKey, Account)> + '_ {
        self.subjects.iter().map(|(key, account)| (*key, *account))
    }

    /// One subject's account.
    pub fn account(&self, key: SubjectKey) -> Account {
        self.subjects.get(&key).copied().unwrap_or_default()
    }

    /// Highest id given in a lane so far, or that lane's base.
    pub fn newest(&self, lane: Lane) -> u64 {
        let given = self.subjects.iter().filter(|(key, _)| key.lane == lane).map(|(_, a)| a.next_id).max();
        given.unwrap_or(0).saturating_sub(1).max(base(lane))
    }

    /// Appends outputs, giving each its id and its sequence.
    pub fn append(&mut self, tx: &Transaction<'_>, outputs: &[Output], now: Nanos) -> rusqlite::Result<()> {
        for output in outputs {
            let key = SubjectKey { stream: output.stream, lane: output.lane };
            let id = self.newest(output.lane) + 1;
            let account = self.subjects.entry(key).or_insert(Account { next_seq: 1, ..Account::default() });
            let seq = account.next_seq;
            account.next_seq += 1;
            account.next_id = id + 1;
            account.rows += 1;
            account.bytes += output.body.len() as u64;
            tx.prepare_cached(
                "INSERT INTO outbox (id, stream, seq, boot, made_ns, rows, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                id,
                output.stream.0,
                seq,
                output.boot.map(|boot| boot.0),
                now,
                output.rows,
                output.body
            ])?;
        }
        Ok(())
    }

    /// Deletes what the hub holds, and notes the floors.
    pub fn settle(&mut self, tx: &Transaction<'_>, settled: &Settled) -> rusqlite::Result<()> {
        for id in &settled.ids {
            self.delete(tx, *id, Gone::Delivered)?;
        }
        for (key, floor) in &settled.floors {
            self.subjects.entry(*key).or_insert(Account { next_seq: 1, ..Account::default() }).hub_floor =
                *floor;
        }
        Ok(())
    }

    /// Drops the oldest outputs of one subject until `bytes` are gone. Returns how many outputs went.
    pub fn drop_own(&mut self, tx: &Transaction<'_>, key: SubjectKey, bytes: u64) -> rusqlite::Result<u64> {
        self.drop_while(tx, bytes, |tx| {
            tx.prepare_cached(
                "SELECT id FROM outbox WHERE stream = ?1 AND id >= ?2 AND id < ?3 ORDER BY id LIMIT 1",
            )?
            .query_row(params![key.stream.0, base(key.lane), end(key.lane)], |row| row.get(0))
            .optional()
        })
    }

    /// Drops the oldest outputs of the subjects that `may` be dropped, data lane first, until `bytes` are gone.
    pub fn drop_any(
        &mut self,
        tx: &Transaction<'_>,
        bytes: u64,
        may: impl Fn(StreamId) -> bool,
    ) -> rusqlite::Result<u64> {
        // The lanes are ranges of the key in the order in which they may be dropped.
        self.drop_while(tx, bytes, |tx| {
            let mut statement = tx.prepare_cached("SELECT id, stream FROM outbox ORDER BY id")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                if may(StreamId(row.get(1)?)) {
                    return row.get(0).map(Some);
                }
            }
            Ok(None)
        })
    }

    /// Drops outputs made before `before`, at most `most` of them at a time. Returns how many went.
    pub fn drop_older(&mut self, tx: &Transaction<'_>, before: Nanos, most: u64) -> rusqlite::Result<u64> {
        let mut gone = 0;
        for lane in [Lane::Data, Lane::Alarm] {
            while gone < most {
                let oldest = tx
                    .prepare_cached(
                        "SELECT id, made_ns FROM outbox WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT 1",
                    )?
                    .query_row(params![base(lane), end(lane)], |row| {
                        Ok((row.get::<_, u64>(0)?, row.get::<_, i64>(1)?))
                    })
                    .optional()?;
                match oldest {
                    Some((id, made)) if made < before => self.delete(tx, id, Gone::Dropped)?,
                    _ => break,
                };
                gone += 1;
            }
        }
        Ok(gone)
    }

    /// Writes the accounts that differ from `before`.
    pub fn write(&self, tx: &Transaction<'_>, before: &Ledger) -> rusqlite::Result<()> {
        for (key, account) in &self.subjects {
            if before.subjects.get(key) == Some(account) {
                continue;
            }
            let lane = i64::from(key.lane == Lane::Data);
            tx.prepare_cached(
                "INSERT OR REPLACE INTO subject (stream, lane, next_seq, next_id, dropped, hub_floor, rows, bytes)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                key.stream.0,
                lane,
                account.next_seq,
                account.next_id,
                account.dropped,
                account.hub_floor,
                account.rows,
                account.bytes
            ])?;
        }
        Ok(())
    }

    fn drop_while(
        &mut self,
        tx: &Transaction<'_>,
        bytes: u64,
        oldest: impl Fn(&Transaction<'_>) -> rusqlite::Result<Option<u64>>,
    ) -> rusqlite::Result<u64> {
        let (mut freed, mut gone) = (0, 0);
        while freed < bytes {
            let Some(id) = oldest(tx)? else { break };
            freed += self.delete(tx, id, Gone::Dropped)?;
            gone += 1;
        }
        Ok(gone)
    }

    /// Deletes one output, if it is still there. Returns the bytes freed.
    fn delete(&mut self, tx: &Transaction<'_>, id: u64, gone: Gone) -> rusqlite::Result<u64> {
        let found = tx
            .prepare_cached("DELETE FROM outbox WHERE id = ?1 RETURNING stream, length(body)")?
            .query_row([id], |row| Ok((StreamId(row.get(0)?), row.get::<_, u64>(1)?)))
            .optional()?;
        let Some((stream, bytes)) = found else { return Ok(0) };
        let account = self.subjects.entry(SubjectKey { stream, lane: lane_of(id) }).or_default();
        account.rows = account.rows.saturating_sub(1);
        account.bytes = account.bytes.saturating_sub(bytes);
        account.dropped += u64::from(gone == Gone::Dropped);
        Ok(bytes)
    }
}

/// Outputs of `lane` with an id above `after`, oldest first, at least one if there is any, up to `bytes_max`.
/// `correction` tells what is to be added to the times of a boot.
pub fn outputs(
    db: &Connection,
    ledger: &Ledger,
    lane: Lane,
    after: u64,
    bytes_max: usize,
    correction: impl Fn(u32) -> Option<i64>,
) -> rusqlite::Result<Vec<OutRow>> {
    let mut statement = db.prepare_cached(
        "SELECT id, stream, seq, boot, body FROM outbox WHERE id > ?1 AND id < ?2 ORDER BY id",
    )?;
    let mut rows = statement.query(params![after.max(base(lane)), end(lane)])?;
    let mut found: Vec<OutRow> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let body: Vec<u8> = row.get(4)?;
        bytes += body.len();
        if !found.is_empty() && bytes > bytes_max {
            break;
        }
        let subject = SubjectKey { stream: StreamId(row.get(1)?), lane };
        found.push(OutRow {
            id: row.get(0)?,
            subject,
            seq: row.get(2)?,
            dropped: ledger.account(subject).dropped,
            clock_correction: row.get::<_, Option<u32>>(3)?.and_then(&correction),
            body: body.into(),
        });
    }
    Ok(found)
}

/// Sequence of the oldest output of a subject that is still there.
pub fn oldest_seq(db: &Connection, key: SubjectKey) -> rusqlite::Result<Option<u64>> {
    db.prepare_cached(
        "SELECT seq FROM outbox WHERE stream = ?1 AND id >= ?2 AND id < ?3 ORDER BY id LIMIT 1",
    )?
    .query_row(params![key.stream.0, base(key.lane), end(key.lane)], |row| row.get(0))
    .optional()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    Delivered,
    Dropped,
}

fn base(lane: Lane) -> u64 {
    match lane {
        Lane::Data => 0,
        Lane::Alarm => ALARM_BASE,
    }
}

fn end(lane: Lane) -> u64 {
    base(lane) + ALARM_BASE
}

fn lane_of(id: u64) -> Lane {
    if id >= ALARM_BASE { Lane::Alarm } else { Lane::Data }
}
