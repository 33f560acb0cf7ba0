//! Rows and a history that control keeps. Called by the keeper, in its transaction. What they say is control's affair.

use rusqlite::{Connection, params};

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Kind and name are what tells it from others.
    pub kind: u8,
    /// See [`Row::kind`].
    pub name: String,
    /// The change that it rests on.
    pub revision: u64,
    /// Who made it.
    pub origin: u8,
    /// What it says.
    pub content: Vec<u8>,
}

/// A change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// It is there, like this.
    Put(Row),
    /// It is not.
    Delete {
        /// Which.
        kind: u8,
        /// Which.
        name: String,
    },
}

/// A line of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The change that it tells of.
    pub revision: u64,
    /// When, as the gateway's clock had it.
    pub at: i64,
    /// Who made it.
    pub origin: u8,
    /// What.
    pub text: String,
}

/// Changes that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Save {
    /// Of rows.
    pub writes: Vec<Write>,
    /// What the history says of them.
    pub line: Line,
    /// So many lines of it are kept.
    pub lines_max: u32,
}

pub(super) fn save(db: &Connection, save: &Save) -> rusqlite::Result<()> {
    for write in &save.writes {
        match write {
            Write::Put(Row { kind, name, revision, origin, content }) => {
                db.prepare_cached(
                    "INSERT INTO desired (kind, name, revision, origin, content) VALUES (?1, ?2, ?3, ?4, ?5) \
                     ON CONFLICT (kind, name) DO UPDATE SET revision = excluded.revision, origin = excluded.origin, \
                     content = excluded.content",
                )?
                .execute(params![kind, name, revision, origin, content])?;
            }
            Write::Delete { kind, name } => {
                db.prepare_cached("DELETE FROM desired WHERE kind = ?1 AND name = ?2")?
                    .execute(params![kind, name])?;
            }
        }
    }
    let Line { revision, at, origin, text } = &save.line;
    db.prepare_cached("INSERT INTO history (revision, at, origin, text) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![revision, at, origin, text])?;
    db.prepare_cached("DELETE FROM history WHERE id <= ?1 - ?2")?
        .execute(params![db.last_insert_rowid(), save.lines_max])?;
    Ok(())
}

pub(super) fn rows(db: &Connection) -> rusqlite::Result<Vec<Row>> {
    let mut query =
        db.prepare("SELECT kind, name, revision, origin, content FROM desired ORDER BY kind, name")?;
    let rows = query.query_map([], |row| {
        Ok(Row {
            kind: row.get(0)?,
            name: row.get(1)?,
            revision: row.get(2)?,
            origin: row.get(3)?,
            content: row.get(4)?,
        })
    })?;
    rows.collect()
}

pub(super) fn lines(db: &Connection, newest: u32) -> rusqlite::Result<Vec<Line>> {
    let mut query = db.prepare("SELECT revision, at, origin, text FROM history ORDER BY id DESC LIMIT ?1")?;
    let lines = query.query_map([newest], |row| {
        Ok(Line { revision: row.get(0)?, at: row.get(1)?, origin: row.get(2)?, text: row.get(3)? })
    })?;
    lines.collect()
}
