//! The ring of raw readings: bounded in bytes over all streams, oldest dropped first, read for recall.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::block;
use crate::sample::{BootId, Nanos, Reading, SeriesId, StreamId, Timeline};

use super::RawBlock;

/// What the ring holds and what it has dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of blocks.
    pub bytes: u64,
    /// Readings in them.
    pub readings: u64,
    /// Readings dropped to make room, in this process.
    pub dropped: u64,
}

/// One block of the ring that may hold what a recall wants.
#[derive(Debug)]
pub struct Found {
    /// Its number: where to go on.
    pub id: u64,
    /// Its timeline.
    pub timeline: Timeline,
    /// The readings, sorted by series and time; `None` when the block is damaged.
    pub readings: Option<Vec<Reading>>,
}

/// A timeline as the database's integer.
pub fn timeline_number(timeline: Timeline) -> i64 {
    match timeline {
        Timeline::Sensor => 0,
        Timeline::Arrival => 1,
        Timeline::Boot(BootId(boot)) => 2 + i64::from(boot),
    }
}

/// The database's integer as a timeline.
pub fn timeline_of(number: i64) -> Timeline {
    match number {
        0 => Timeline::Sensor,
        1 => Timeline::Arrival,
        boot => Timeline::Boot(BootId(u32::try_from(boot - 2).unwrap_or(0))),
    }
}

/// Reads how full the ring is: one row a stream.
pub fn usage(db: &Connection) -> rusqlite::Result<Usage> {
    db.query_row("SELECT ifnull(sum(ring_bytes), 0), ifnull(sum(ring_readings), 0) FROM stream", [], |row| {
        Ok(Usage { bytes: row.get(0)?, readings: row.get(1)?, dropped: 0 })
    })
}

/// Appends blocks and drops the oldest until the ring is within `bytes_max`.
pub fn append(
    tx: &Transaction<'_>,
    usage: &mut Usage,
    blocks: &[RawBlock],
    bytes_max: u64,
) -> rusqlite::Result<()> {
    for raw in blocks {
        tx.prepare_cached(
            "INSERT INTO raw (stream, timeline, from_ns, to_ns, readings, block) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            raw.stream.0,
            timeline_number(raw.timeline),
            raw.from,
            raw.to,
            raw.readings,
            raw.block
        ])?;
        let bytes = raw.block.len() as u64;
        add(tx, raw.stream, bytes as i64, i64::from(raw.readings))?;
        usage.bytes += bytes;
        usage.readings += u64::from(raw.readings);
    }
    while usage.bytes > bytes_max {
        let oldest = tx
            .prepare_cached("SELECT id, stream, readings, length(block) FROM raw ORDER BY id LIMIT 1")?
            .query_row([], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, u32>(1)?,
                    row.get::<_, u64>(2)?,
                    row.get::<_, u64>(3)?,
                ))
            })
            .optional()?;
        let Some((id, stream, readings, bytes)) = oldest else { break };
        tx.prepare_cached("DELETE FROM raw WHERE id = ?1")?.execute([id])?;
        add(tx, StreamId(stream), -(bytes as i64), -(readings as i64))?;
        usage.bytes = usage.bytes.saturating_sub(bytes);
        usage.readings = usage.readings.saturating_sub(readings);
        usage.dropped += readings;
    }
    Ok(())
}

/// The first block after `after` that overlaps the window.
pub fn find(
    db: &Connection,
    stream: StreamId,
    (from, to): (Nanos, Nanos),
    after: u64,
) -> rusqlite::Result<Option<Found>> {
    db.prepare_cached(
        "SELECT id, timeline, block FROM raw WHERE id > ?1 AND stream = ?2 AND to_ns >= ?3 AND from_ns < ?4
         ORDER BY id LIMIT 1",
    )?
    .query_row(params![after, stream.0, from, to], |row| {
        let block: Vec<u8> = row.get(2)?;
        Ok(Found {
            id: row.get(0)?,
            timeline: timeline_of(row.get(1)?),
            readings: block::decode_readings(&block).ok(),
        })
    })
    .optional()
}

/// Keeps what a recall asked for.
pub fn select(readings: Vec<Reading>, series: &[SeriesId], (from, to): (Nanos, Nanos)) -> Vec<Reading> {
    let wanted =
        |r: &Reading| (from..to).contains(&r.time) && (series.is_empty() || series.contains(&r.series));
    readings.into_iter().filter(wanted).collect()
}

fn add(tx: &Transaction<'_>, stream: StreamId, bytes: i64, readings: i64) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE stream SET ring_bytes = ring_bytes + ?2, ring_readings = ring_readings + ?3 WHERE id = ?1",
    )?
    .execute(params![stream.0, bytes, readings])?;
    Ok(())
}
