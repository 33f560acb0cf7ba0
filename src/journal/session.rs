//! Sessions of the listener's clients, as the database keeps them.
//!
//! The listener owns them and says what changes; changes are written with the group they came before, so that a message
//! that names a session is never on flash without it. A number is given once: the highest there ever was is kept with
//! the schema's own counter (AUTOINCREMENT), so that an identity in the journal cannot be taken for another session's.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::sample::{Nanos, SessionId};

/// A session that outlives its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Its number.
    pub id: SessionId,
    /// Who: user and client identifier, unique together.
    pub user: String,
    /// See `user`.
    pub client: String,
    /// Seconds it is kept without a connection.
    pub expiry_s: u32,
    /// When its client left, by the trusted clock; `None` while it is connected, or if nobody knew the time.
    pub left: Option<Nanos>,
    /// What the listener keeps of it, in a format of its own.
    pub state: Vec<u8>,
}

/// What is to be written of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionChange {
    /// New, or other than before.
    Keep(SessionRow),
    /// It has ended.
    End(SessionId),
}

/// Reads every session, and the highest number ever given.
pub fn load_sessions(db: &Connection) -> rusqlite::Result<(Vec<SessionRow>, u32)> {
    let mut statement =
        db.prepare("SELECT id, user, client, expiry_s, left_ns, state FROM session ORDER BY id")?;
    let rows = statement.query_map([], |row| {
        Ok(SessionRow {
            id: SessionId(row.get(0)?),
            user: row.get(1)?,
            client: row.get(2)?,
            expiry_s: row.get(3)?,
            left: row.get(4)?,
            state: row.get(5)?,
        })
    })?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let last = db
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'session'", [], |row| row.get(0))
        .optional()?
        .unwrap_or(0);
    Ok((rows, last))
}

/// Writes changes in their order.
pub fn write_sessions(tx: &Transaction<'_>, changes: &[SessionChange]) -> rusqlite::Result<()> {
    for change in changes {
        match change {
            SessionChange::Keep(row) => {
                tx.prepare_cached(
                    "INSERT OR REPLACE INTO session (id, user, client, expiry_s, left_ns, state)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    row.id.0,
                    row.user,
                    row.client,
                    row.expiry_s,
                    row.left,
                    row.state
                ])?;
            }
            SessionChange::End(id) => {
                tx.prepare_cached("DELETE FROM session WHERE id = ?1")?.execute([id.0])?;
            }
        }
    }
    Ok(())
}
