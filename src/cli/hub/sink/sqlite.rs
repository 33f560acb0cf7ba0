//! An SQLite database for whoever wants to query what arrived.

use std::path::PathBuf;

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Statement, Transaction, params};

use super::{Batch, SinkError};
use crate::block::{Alarm, Rows, WindowRow};
use crate::cli::receipts::{Receipt, StoredAccount};
use crate::cli::rows::Block;
use crate::sample::{Lane, Nanos, Reading, SeriesId, Value};

/// The tables. `origin` and `received` are the account; times are nanoseconds since 1970, corrected where that is known.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS origin (
        id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, lane TEXT NOT NULL, stream TEXT NOT NULL, epoch INTEGER NOT NULL,
        dropped INTEGER NOT NULL, duplicates INTEGER NOT NULL, undecodable INTEGER NOT NULL,
        UNIQUE (gateway, lane, stream, epoch)) STRICT;
    CREATE TABLE IF NOT EXISTS received (
        origin INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (origin, first)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS series (
        id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, stream TEXT NOT NULL, name TEXT NOT NULL, unit TEXT NOT NULL,
        labels TEXT NOT NULL, UNIQUE (gateway, stream, name)) STRICT;
    CREATE TABLE IF NOT EXISTS reading (
        series INTEGER NOT NULL, time INTEGER NOT NULL, value ANY NOT NULL, clock TEXT NOT NULL,
        origin INTEGER NOT NULL, seq INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS window (
        series INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL, count INTEGER NOT NULL,
        min ANY NOT NULL, max ANY NOT NULL, first ANY NOT NULL, last ANY NOT NULL, sum ANY NOT NULL,
        std_dev REAL NOT NULL, late INTEGER NOT NULL, duplicates INTEGER NOT NULL, gap INTEGER NOT NULL,
        clock TEXT NOT NULL, origin INTEGER NOT NULL, seq INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS alarm (
        series INTEGER NOT NULL, time INTEGER NOT NULL, active INTEGER NOT NULL, name TEXT NOT NULL,
        message TEXT NOT NULL, value REAL NOT NULL, clock TEXT NOT NULL,
        origin INTEGER NOT NULL, seq INTEGER NOT NULL) STRICT;
    PRAGMA user_version = 1;";

/// The database.
pub(super) struct Sqlite {
    path: PathBuf,
    connection: Connection,
}

/// Where a row comes from.
#[derive(Clone, Copy)]
struct Source<'a> {
    block: Block<'a>,
    gateway: &'a str,
    origin: i64,
    seq: i64,
}

/// Everything a transaction needs, prepared once.
struct Statements<'a> {
    account: Statement<'a>,
    forget_ranges: Statement<'a>,
    range: Statement<'a>,
    origin: Statement<'a>,
    known_series: Statement<'a>,
    series: Statement<'a>,
    reading: Statement<'a>,
    window: Statement<'a>,
    alarm: Statement<'a>,
}

// === impl Sqlite ===

impl Sqlite {
    pub(super) fn open(path: PathBuf) -> Result<(Sqlite, Vec<StoredAccount>), SinkError> {
        let open = || {
            let connection = Connection::open(&path)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(SCHEMA)?;
            let accounts = load(&connection)?;
            Ok((connection, accounts))
        };
        match open() {
            Ok((connection, accounts)) => Ok((Sqlite { path, connection }, accounts)),
            Err(source) => Err(SinkError::Database { path, source }),
        }
    }

    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let path = &self.path;
        let failed = |source| SinkError::Database { path: path.clone(), source };
        let transaction = self.connection.transaction().map_err(failed)?;
        let mut statements = Statements::prepare(&transaction).map_err(failed)?;
        for account in &batch.accounts {
            statements.store_account(account).map_err(failed)?;
        }
        for receipt in &batch.receipts {
            statements.store_rows(receipt).map_err(failed)?;
        }
        drop(statements);
        transaction.commit().map_err(failed)
    }
}

fn load(connection: &Connection) -> rusqlite::Result<Vec<StoredAccount>> {
    let mut origins = connection
        .prepare("SELECT id, gateway, lane, stream, epoch, dropped, duplicates, undecodable FROM origin")?;
    let mut ranges =
        connection.prepare("SELECT first, last FROM received WHERE origin = ? ORDER BY first")?;
    let rows = origins.query_map([], |row| {
        let lane: String = row.get(2)?;
        let lane = if lane == Lane::Alarm.token() { Lane::Alarm } else { Lane::Data };
        let account = StoredAccount {
            gateway: row.get(1)?,
            lane,
            stream: row.get(3)?,
            epoch: row.get(4)?,
            received: Vec::new(),
            dropped: row.get::<_, i64>(5)? as u64,
            duplicates: row.get::<_, i64>(6)? as u64,
            undecodable: row.get::<_, i64>(7)? as u64,
        };
        Ok((row.get::<_, i64>(0)?, account))
    })?;
    let mut accounts = Vec::new();
    for row in rows {
        let (id, mut account) = row?;
        let found =
            ranges.query_map([id], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64)))?;
        account.received = found.collect::<rusqlite::Result<_>>()?;
        accounts.push(account);
    }
    Ok(accounts)
}

// === impl Statements ===

impl<'a> Statements<'a> {
    fn prepare(transaction: &'a Transaction<'_>) -> rusqlite::Result<Statements<'a>> {
        Ok(Statements {
            account: transaction.prepare(
                "INSERT INTO origin (gateway, lane, stream, epoch, dropped, duplicates, undecodable)
                 VALUES (?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET dropped = excluded.dropped, duplicates = excluded.duplicates,
                     undecodable = excluded.undecodable
                 RETURNING id",
            )?,
            forget_ranges: transaction.prepare("DELETE FROM received WHERE origin = ?")?,
            range: transaction.prepare("INSERT INTO received (origin, first, last) VALUES (?, ?, ?)")?,
            origin: transaction
                .prepare("SELECT id FROM origin WHERE gateway = ? AND lane = ? AND stream = ? AND epoch = ?")?,
            known_series: transaction.prepare("SELECT id FROM series WHERE gateway = ? AND stream = ? AND name = ?")?,
            series: transaction
                .prepare("INSERT INTO series (gateway, stream, name, unit, labels) VALUES (?, ?, ?, ?, ?)")?,
            reading: transaction
                .prepare("INSERT INTO reading (series, time, value, clock, origin, seq) VALUES (?, ?, ?, ?, ?, ?)")?,
            window: transaction.prepare(
                "INSERT INTO window (series, start, length, count, min, max, first, last, sum, std_dev, late, duplicates,
                     gap, clock, origin, seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?,
            alarm: transaction.prepare(
                "INSERT INTO alarm (series, time, active, name, message, value, clock, origin, seq)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?,
        })
    }

    fn store_account(&mut self, account: &StoredAccount) -> rusqlite::Result<()> {
        let StoredAccount { gateway, lane, stream, epoch, received, .. } = account;
        let counts = [account.dropped, account.duplicates, account.undecodable].map(|count| count as i64);
        let [dropped, duplicates, undecodable] = counts;
        let id: i64 = self.account.query_row(
            params![gateway, lane.token(), stream, epoch, dropped, duplicates, undecodable],
            |row| row.get(0),
        )?;
        self.forget_ranges.execute([id])?;
        for (first, last) in received {
            self.range.execute(params![id, *first as i64, *last as i64])?;
        }
        Ok(())
    }

    fn store_rows(&mut self, receipt: &Receipt) -> rusqlite::Result<()> {
        let from = &receipt.stamp.origin;
        let origin: i64 = self
            .origin
            .query_row(params![from.gateway, from.lane.token(), from.stream, from.epoch], |row| row.get(0))?;
        let block = Block { envelope: &receipt.envelope, clock_correction: receipt.stamp.clock_correction };
        let source = Source { block, gateway: &from.gateway, origin, seq: receipt.stamp.seq as i64 };
        match &receipt.envelope.rows {
            Rows::Raw(rows) => rows.iter().try_for_each(|row| self.store_reading(source, row)),
            Rows::Windows { length, rows } => {
                rows.iter().try_for_each(|row| self.store_window(source, *length, row))
            }
            Rows::Alarms(rows) => rows.iter().try_for_each(|row| self.store_alarm(source, row)),
        }
    }

    fn series(&mut self, source: Source<'_>, id: SeriesId) -> rusqlite::Result<i64> {
        let stream = &source.block.envelope.stream;
        let (name, unit) = source.block.series(id);
        let known = self
            .known_series
            .query_row(params![source.gateway, stream, name], |row| row.get(0))
            .optional()?;
        if let Some(known) = known {
            return Ok(known);
        }
        let labels = source.block.envelope.series.get(&id).map(|entry| &entry.labels);
        let labels = serde_json::to_string(&labels).expect("a map of text has a JSON form");
        self.series.insert(params![source.gateway, stream, name, unit, labels])
    }

    fn store_reading(&mut self, from: Source<'_>, row: &Reading) -> rusqlite::Result<()> {
        let series = self.series(from, row.series)?;
        let (time, clock) = (from.block.time(row.time), from.block.clock());
        self.reading.execute(params![series, time, sql(row.value), clock, from.origin, from.seq]).map(drop)
    }

    fn store_window(&mut self, from: Source<'_>, length: Nanos, row: &WindowRow) -> rusqlite::Result<()> {
        let series = self.series(from, row.series)?;
        let (start, clock) = (from.block.time(row.start), from.block.clock());
        let [min, max, first, last, sum] = [row.min, row.max, row.first, row.last, row.sum].map(sql);
        let WindowRow { count, std_dev, late, duplicates, gap, .. } = row;
        self.window
            .execute(params![
                series,
                start,
                length,
                count,
                min,
                max,
                first,
                last,
                sum,
                std_dev,
                late,
                duplicates,
                gap,
                clock,
                from.origin,
                from.seq
            ])
            .map(drop)
    }

    fn store_alarm(&mut self, from: Source<'_>, row: &Alarm) -> rusqlite::Result<()> {
        let series = self.series(from, row.series)?;
        let (time, clock) = (from.block.time(row.time), from.block.clock());
        let Alarm { active, name, message, value, .. } = row;
        self.alarm
            .execute(params![series, time, active, name, message, value, clock, from.origin, from.seq])
            .map(drop)
    }
}

fn sql(value: Value) -> Sql {
    match value {
        Value::Float(value) => Sql::Real(value),
        Value::Int(value) => Sql::Integer(value),
    }
}
