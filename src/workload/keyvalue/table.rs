//! The table of values: reading, writing, and what it comes to. Called by the keeper, in its transaction.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Answer, KeepError, Place, database};

/// What a value costs beside its key and itself: the row's head and its entry in the index.
const ROW_BYTES: u64 = 64;
/// Keys in one page of a listing: 128 KiB at the longest.
pub(super) const PAGE_KEYS: usize = 256;

/// What a component keeps by one link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub bytes: u64,
    pub keys: u64,
}

pub(super) fn usage_of(db: &Connection, place: &Place) -> rusqlite::Result<Usage> {
    let mut query = db.prepare_cached(
        "SELECT count(*), ifnull(sum(length(CAST(key AS BLOB)) + length(value)), 0) FROM value \
         WHERE component = ?1 AND link = ?2",
    )?;
    query.query_row(params![place.component, place.link], |row| {
        let (keys, bytes): (u64, u64) = (row.get(0)?, row.get(1)?);
        Ok(Usage { keys, bytes: bytes + keys * ROW_BYTES })
    })
}

pub(super) fn get(db: &Connection, place: &Place, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut query = db.prepare_cached(
        "SELECT value FROM value WHERE component = ?1 AND link = ?2 AND bucket = ?3 AND key = ?4",
    )?;
    query.query_row(params![place.component, place.link, place.bucket, key], |row| row.get(0)).optional()
}

pub(super) fn list(db: &Connection, place: &Place, after: u64) -> rusqlite::Result<Answer> {
    let mut query = db.prepare_cached(
        "SELECT id, key FROM value WHERE component = ?1 AND link = ?2 AND bucket = ?3 AND id > ?4 ORDER BY id LIMIT ?5",
    )?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let rows = query
        .query_map(params![place.component, place.link, place.bucket, after, PAGE_KEYS as i64], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let cursor = rows.get(PAGE_KEYS - 1).map(|(id, _)| id.unsigned_abs());
    Ok(Answer::Keys(rows.into_iter().map(|(_, key)| key).collect(), cursor))
}

pub(super) fn set(
    db: &Connection,
    place: &Place,
    key: &str,
    value: &[u8],
    usage: &mut Usage,
) -> Result<(), KeepError> {
    let cost = |value: &[u8]| (key.len() + value.len()) as u64 + ROW_BYTES;
    let before = get(db, place, key).map_err(database)?;
    let (freed, added) = match &before {
        Some(before) => (cost(before), 0),
        None => (0, 1),
    };
    let after = Usage { bytes: usage.bytes.saturating_sub(freed) + cost(value), keys: usage.keys + added };
    // What makes it less is always taken, also after the quota was made smaller.
    if after.bytes > place.bytes_max && after.bytes > usage.bytes {
        return Err(KeepError::Bytes { bytes_max: place.bytes_max });
    }
    if after.keys > place.keys_max && added > 0 {
        return Err(KeepError::Keys { keys_max: place.keys_max });
    }
    if before.as_deref() != Some(value) {
        let mut statement = db
            .prepare_cached(
                "INSERT INTO value (component, link, bucket, key, value) VALUES (?1, ?2, ?3, ?4, ?5) \
                 ON CONFLICT (component, link, bucket, key) DO UPDATE SET value = excluded.value",
            )
            .map_err(database)?;
        statement
            .execute(params![place.component, place.link, place.bucket, key, value])
            .map_err(database)?;
    }
    *usage = after;
    Ok(())
}

pub(super) fn delete(db: &Connection, place: &Place, key: &str, usage: &mut Usage) -> Result<(), KeepError> {
    let Some(before) = get(db, place, key).map_err(database)? else { return Ok(()) };
    let mut statement = db
        .prepare_cached("DELETE FROM value WHERE component = ?1 AND link = ?2 AND bucket = ?3 AND key = ?4")
        .map_err(database)?;
    statement.execute(params![place.component, place.link, place.bucket, key]).map_err(database)?;
    let cost = (key.len() + before.len()) as u64 + ROW_BYTES;
    *usage = Usage { bytes: usage.bytes.saturating_sub(cost), keys: usage.keys.saturating_sub(1) };
    Ok(())
}
