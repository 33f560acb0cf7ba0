//! Retained messages, the last of each topic, as the database keeps them.
//!
//! The listener owns them and says what changes; changes are written with the group they came with, so that a retained
//! message is on flash when its publisher gets the acknowledgement. A topic that changes often is written once for each
//! group: of several changes in one group the last counts.

use bytes::Bytes;
use rusqlite::{Connection, Transaction, params};

use crate::sample::Nanos;

/// A retained message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedRow {
    /// Its topic.
    pub topic: String,
    /// Quality of service it was published with.
    pub qos: u8,
    /// When it is no longer to be had, by the trusted clock.
    pub expires: Option<Nanos>,
    /// What it says; never empty, an empty payload ends the retaining.
    pub payload: Bytes,
    /// Properties passed on to subscribers, in the listener's format.
    pub properties: Bytes,
}

/// What is to be written of the retained messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetainedChange {
    /// New, or in the place of the one before.
    Keep(RetainedRow),
    /// Nothing is retained of this topic any more.
    End(String),
}

// === impl RetainedChange ===

impl RetainedChange {
    /// The topic it is about.
    pub fn topic(&self) -> &str {
        match self {
            RetainedChange::Keep(row) => &row.topic,
            RetainedChange::End(topic) => topic,
        }
    }
}

/// Reads every retained message, sorted by topic.
pub fn load_retained(db: &Connection) -> rusqlite::Result<Vec<RetainedRow>> {
    let mut statement =
        db.prepare("SELECT topic, qos, expires_ns, payload, properties FROM retained ORDER BY topic")?;
    let rows = statement.query_map([], |row| {
        let blob = |n| row.get::<_, Vec<u8>>(n).map(Bytes::from);
        Ok(RetainedRow {
            topic: row.get(0)?,
            qos: row.get(1)?,
            expires: row.get(2)?,
            payload: blob(3)?,
            properties: blob(4)?,
        })
    })?;
    rows.collect()
}

/// Writes changes, one for each topic.
pub fn write_retained<'a>(
    tx: &Transaction<'_>,
    changes: impl IntoIterator<Item = &'a RetainedChange>,
) -> rusqlite::Result<()> {
    for change in changes {
        match change {
            RetainedChange::Keep(row) => {
                tx.prepare_cached(
                    "INSERT OR REPLACE INTO retained (topic, qos, expires_ns, payload, properties)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    row.topic,
                    row.qos,
                    row.expires,
                    &row.payload[..],
                    &row.properties[..]
                ])?;
            }
            RetainedChange::End(topic) => {
                tx.prepare_cached("DELETE FROM retained WHERE topic = ?1")?.execute([topic])?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(topic: &str, payload: &'static [u8]) -> RetainedChange {
        RetainedChange::Keep(RetainedRow {
            topic: topic.to_owned(),
            qos: 1,
            expires: Some(7),
            payload: Bytes::from_static(payload),
            properties: Bytes::from_static(b"p"),
        })
    }

    #[test]
    fn changes_are_read_back() {
        // Goal: what is read back is what was said last. Method: two groups that change the same topics.
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("../store/schema-3.sql")).unwrap();
        let write = |changes: &[RetainedChange]| {
            let tx = db.unchecked_transaction().unwrap();
            write_retained(&tx, changes).unwrap();
            tx.commit().unwrap();
        };
        write(&[
            keep("a", b"1"),
            keep("b", b"1"),
            keep("a", b"2"),
            keep("c", b"1"),
            RetainedChange::End("c".into()),
        ]);
        write(&[RetainedChange::End("b".into()), keep("c", b"3"), RetainedChange::End("never".into())]);
        let rows: Vec<_> = load_retained(&db).unwrap().into_iter().map(RetainedChange::Keep).collect();
        assert_eq!(rows, [keep("a", b"2"), keep("c", b"3")]);
    }
}
