//! Where hot rows lie: places in a table that are written again and again, so that a commit touches its own pages only.
//!
//! ```text
//! free ──place──▶ holds the group at a position ──a checkpoint contains the position──▶ free
//! ```
//! A row that is deleted and inserted anew passes its pages through SQLite's free list: with every second's commit the
//! list's pages and the first page of the file are written too. A row that is replaced by one of the same size is
//! overwritten in place, and pages that stay equal are not written at all. Rows are therefore filled up with zeros to
//! the size of their place, which is a whole number of overflow pages.
//!
//! The store thread owns the list; what a place holds is in its row, so nothing else survives a restart, nor has to. There
//! are as many places as there were groups between two checkpoints at most; a place of the wrong size is given another.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, params};

/// Bytes of a row beside its overflow pages: what SQLite keeps on the leaf page anyway, less the row's other columns.
const LEAF_BYTES: usize = 96;
/// Bytes on an overflow page of 1 KiB (`sqlite.org/fileformat2.html` §1.6).
const OVERFLOW_BYTES: usize = 1_020;
/// How much larger than its row a place may be: the rest is compared with every commit.
const EXCESS_MAX: usize = 3;

/// Looks at the old row first: SQLite overwrites a row in place only if it has read its head (`sqlite3BtreeInsert`).
const OVERWRITE: &str = "UPDATE hot SET pos = ?2, block = ?3 WHERE slot = ?1 AND length(pos) = 8";

/// A place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    slot: u64,
    bytes: usize,
}

/// All places, by what they hold.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    held: BTreeMap<u64, Place>,
    free: Vec<Place>,
}

// === impl Slots ===

impl Slots {
    /// Reads which places there are, and which of them hold a group after `checkpoint`.
    pub fn load(db: &Connection, checkpoint: u64) -> rusqlite::Result<Slots> {
        let mut slots = Slots::default();
        let mut statement = db.prepare("SELECT slot, pos, length(block) FROM hot")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let place = Place { slot: row.get(0)?, bytes: row.get(2)? };
            let pos = u64::from_be_bytes(row.get(1)?);
            if pos > checkpoint {
                slots.held.insert(pos, place);
            } else {
                slots.free.push(place);
            }
        }
        Ok(slots)
    }

    /// Positions of the groups held, ascending.
    pub fn positions(&self) -> impl Iterator<Item = u64> + '_ {
        self.held.keys().copied()
    }

    /// Writes the group at `pos`. It takes effect with [`Slots::keep`], once the transaction is committed.
    pub fn write(&self, tx: &Transaction<'_>, pos: u64, row: &[u8]) -> rusqlite::Result<Place> {
        let length = u32::try_from(row.len()).expect("a group is bounded far below 4 GiB");
        let place = self.place(row.len() + size_of::<u32>());
        let mut block = Vec::with_capacity(place.bytes);
        block.extend(length.to_le_bytes());
        block.extend(row);
        block.resize(place.bytes, 0);
        let row = params![place.slot, pos.to_be_bytes(), block];
        if tx.prepare_cached(OVERWRITE)?.execute(row)? == 0 {
            tx.prepare_cached("INSERT INTO hot (slot, pos, block) VALUES (?1, ?2, ?3)")?.execute(row)?;
        }
        Ok(place)
    }

    /// Reads the group at `pos`; empty if there is none.
    pub fn read(&self, db: &Connection, pos: u64) -> rusqlite::Result<Vec<u8>> {
        let Some(place) = self.held.get(&pos) else { return Ok(Vec::new()) };
        let mut block: Vec<u8> = db
            .prepare_cached("SELECT block FROM hot WHERE slot = ?1")?
            .query_row([place.slot], |row| row.get(0))?;
        let length = block.first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
        block.drain(..size_of::<u32>().min(block.len()));
        block.truncate(length);
        Ok(block)
    }

    /// What [`Slots::write`] wrote is on flash.
    pub fn keep(&mut self, pos: u64, place: Place) {
        self.free.retain(|free| free.slot != place.slot);
        self.held.insert(pos, place);
    }

    /// A checkpoint that contains everything up to `pos` is on flash.
    pub fn release(&mut self, pos: u64) {
        let held = self.held.split_off(&(pos + 1));
        self.free.extend(std::mem::replace(&mut self.held, held).into_values());
    }

    /// A free place for so many bytes: the smallest that is large enough; else one that is given the size; else a new one.
    fn place(&self, bytes: usize) -> Place {
        let wanted = LEAF_BYTES + bytes.saturating_sub(LEAF_BYTES).div_ceil(OVERFLOW_BYTES) * OVERFLOW_BYTES;
        let fitting = self.free.iter().filter(|place| (wanted..=EXCESS_MAX * wanted).contains(&place.bytes));
        if let Some(place) = fitting.min_by_key(|place| (place.bytes, place.slot)) {
            return *place;
        }
        let unfit = self.free.iter().max_by_key(|place| place.bytes).map(|place| place.slot);
        let highest = self.held.values().chain(&self.free).map(|place| place.slot).max().unwrap_or(0);
        Place { slot: unfit.unwrap_or(highest + 1), bytes: wanted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.pragma_update(None, "page_size", 1_024).unwrap();
        db.execute_batch(
            "CREATE TABLE hot (slot INTEGER PRIMARY KEY, pos BLOB NOT NULL, block BLOB NOT NULL) STRICT",
        )
        .unwrap();
        db
    }

    fn write(db: &Connection, slots: &mut Slots, pos: u64, row: &[u8]) {
        let tx = db.unchecked_transaction().unwrap();
        let place = slots.write(&tx, pos, row).unwrap();
        tx.commit().unwrap();
        slots.keep(pos, place);
    }

    #[test]
    fn rows_are_read_as_they_were_written_and_places_are_used_again() {
        // Goal: sizes around the page limits survive, after a restart too; the table stays as large as what is held at a
        // time. Method: rows of growing and shrinking sizes, five held, against a copy of each.
        let db = table();
        let mut slots = Slots::default();
        let sizes = [0, 1, 91, 92, 93, 1_111, 1_112, 1_113, 4_060, 70_000, 4_060, 4_100, 3, 2_000];
        let row = |pos: u64| vec![pos as u8 + 1; sizes[pos as usize % sizes.len()]];
        for pos in 1..100u64 {
            write(&db, &mut slots, pos, &row(pos));
            slots.release(pos.saturating_sub(5));
            if pos % 7 == 0 {
                slots = Slots::load(&db, pos.saturating_sub(5)).unwrap();
            }
            for held in slots.positions() {
                assert_eq!(slots.read(&db, held).unwrap(), row(held), "position {held}");
            }
        }
        assert_eq!(slots.positions().collect::<Vec<_>>(), [95, 96, 97, 98, 99]);
        let places: u64 = db.query_row("SELECT count(*) FROM hot", [], |row| row.get(0)).unwrap();
        assert_eq!(places, 6);
        assert_eq!(slots.read(&db, 94).unwrap(), Vec::<u8>::new(), "released");
    }

    #[test]
    fn a_place_that_is_used_again_changes_its_own_pages_only() {
        // Goal: neither the first page nor the free list is written by a commit. Method: the pages that SQLite's cache
        // writes for one more row of the same size, from the length of the log.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let db = Connection::open(&path).unwrap();
        db.pragma_update(None, "page_size", 1_024).unwrap();
        let _mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).unwrap();
        db.execute_batch(
            "CREATE TABLE hot (slot INTEGER PRIMARY KEY, pos BLOB NOT NULL, block BLOB NOT NULL) STRICT",
        )
        .unwrap();
        let log = || std::fs::metadata(folder.path().join("test.db-wal")).unwrap().len();
        let mut slots = Slots::default();
        for pos in 1..20 {
            write(&db, &mut slots, pos, &vec![pos as u8; 4_060]);
        }
        slots.release(10);
        let before = log();
        write(&db, &mut slots, 20, &vec![20; 4_100]);
        assert_eq!((log() - before) / (1_024 + 24), 5, "a leaf and four overflow pages");
    }
}
