//! Rows on their way from the store to the lanes: what to fetch next, what is held, what has to go again.
//!
//! ```text
//!   ids    1 ………………… split ………………… newest
//!   data   ├── backlog ──┤├──── live ────▶           split: the newest id when the link came up
//!   alarm  ├─────────────────────────────▶
//! ```
//! When the link comes up again, what is left of the live rows joins the backlog and a new split is made. Within one
//! process every row is fetched once: rows that were acknowledged may still be in the store for a moment, and asking for
//! them again would send them again. A row that has to go again is kept here, not fetched.
//!
//! Pure; owned by the uplink's task. Held at most: [`HELD_BYTES_MAX`] of fetched rows, and those that have to go again,
//! which were in flight and are bounded by that.

use std::collections::{BTreeMap, VecDeque};

use super::flight::Turn;
use super::lanes::{Class, Heads};
use crate::outbox::OutRow;
use crate::sample::Lane;
use crate::store::Newest;

/// Bytes asked for at a time.
pub const FETCH_BYTES: usize = 256 << 10;

/// A class is fetched for when it holds less than this.
const REFILL_BYTES: u64 = 64 << 10;

/// Three classes, each refilled below 64 KiB by 256 KiB (or by one row that is larger): 960 KiB.
pub const HELD_BYTES_MAX: u64 = 3 * (REFILL_BYTES + FETCH_BYTES as u64);

/// Pieces of backlog that are remembered, 16 bytes each; with more, live rows stay live when the link comes up again.
const PIECES_MAX: usize = 256;

/// A request for rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch {
    /// For whom.
    pub class: Class,
    /// From which lane.
    pub lane: Lane,
    /// Rows with an id above this …
    pub after: u64,
    /// … and not above this.
    pub upto: u64,
    era: u64,
}

/// The three feeds.
#[derive(Debug)]
pub struct Feeds {
    feeds: [Feed; 3],
    split: u64,
    era: u64,
}

#[derive(Debug, Default)]
struct Feed {
    rows: VecDeque<OutRow>,
    bytes: u64,
    again: BTreeMap<u64, OutRow>,
    pieces: VecDeque<Piece>,
    fetching: bool,
}

/// Ids above `after` up to `upto` that have not been fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    after: u64,
    upto: u64,
}

// === impl Feeds ===

impl Default for Feeds {
    fn default() -> Feeds {
        let open = || Feed { pieces: [Piece { after: 0, upto: u64::MAX }].into(), ..Feed::default() };
        Feeds { feeds: [open(), open(), Feed::default()], split: 0, era: 0 }
    }
}

impl Feeds {
    /// The link has come up: data rows up to `newest` are backlog now.
    pub fn split(&mut self, newest: u64) {
        self.era += 1;
        let [_, live, backlog] = &mut self.feeds;
        live.put_back();
        let open = live.pieces.pop_back().expect("the live feed has an open end");
        if backlog.pieces.len() + live.pieces.len() >= PIECES_MAX {
            live.pieces.push_back(open);
            return;
        }
        let split = newest.max(open.after);
        let pieces: Vec<Piece> = live.pieces.drain(..).collect();
        let rest = Piece { after: open.after, upto: split };
        for piece in pieces.into_iter().chain([rest]) {
            backlog.add(piece);
        }
        backlog.again.append(&mut live.again);
        self.split = split;
        live.pieces.push_back(Piece { after: split, upto: u64::MAX });
    }

    /// The next request for `class`, if it wants one and `newest` says that there is something. It must be answered with
    /// [`Feeds::page`].
    pub fn want(&mut self, class: Class, newest: Newest) -> Option<Fetch> {
        let (lane, newest) = match class {
            Class::Alarm => (Lane::Alarm, newest.alarm),
            Class::Live | Class::Backlog => (Lane::Data, newest.data),
        };
        let era = self.era;
        let feed = &mut self.feeds[class as usize];
        if feed.fetching || feed.bytes >= REFILL_BYTES {
            return None;
        }
        let piece = feed.pieces.front()?;
        let upto = piece.upto.min(newest);
        if piece.after >= upto {
            return None;
        }
        feed.fetching = true;
        Some(Fetch { class, lane, after: piece.after, upto, era })
    }

    /// The answer to a request: rows in order of their id. Those beyond the piece that was asked for are left for whom
    /// they belong to; those `wanted` says no to are passed over.
    pub fn page(&mut self, fetch: Fetch, rows: Vec<OutRow>, mut wanted: impl FnMut(&OutRow) -> bool) {
        let feed = &mut self.feeds[fetch.class as usize];
        feed.fetching = false;
        if fetch.era != self.era && fetch.class == Class::Live {
            // The live piece was cut anew meanwhile; the rows will be asked for as backlog.
            return;
        }
        let beyond = rows.is_empty() || rows.iter().any(|row| row.id > fetch.upto);
        let mut reached = fetch.after;
        for row in rows {
            if row.id <= reached || row.id > fetch.upto {
                continue;
            }
            reached = row.id;
            if !wanted(&row) {
                continue;
            }
            feed.bytes += size(&row);
            feed.rows.push_back(row);
        }
        let reached = if beyond { fetch.upto } else { reached };
        let piece = feed.pieces.front_mut().expect("the piece stays while it is asked for");
        piece.after = reached;
        if piece.after >= piece.upto {
            feed.pieces.pop_front();
        }
    }

    /// A request that brought nothing because the store could not answer.
    pub fn failed(&mut self, fetch: Fetch) {
        self.feeds[fetch.class as usize].fetching = false;
    }

    /// The next row of a class.
    pub fn head(&self, class: Class) -> Option<&OutRow> {
        let feed = &self.feeds[class as usize];
        feed.again.values().next().or_else(|| feed.rows.front())
    }

    /// Sizes of the heads that `open` lets through.
    pub fn heads(&self, mut open: impl FnMut(Class, &OutRow) -> bool) -> Heads {
        let mut head = |class| self.head(class).filter(|row| open(class, row)).map(size);
        Heads { alarm: head(Class::Alarm), live: head(Class::Live), backlog: head(Class::Backlog) }
    }

    /// Takes the next row of a class.
    pub fn take(&mut self, class: Class) -> Option<(OutRow, Turn)> {
        let feed = &mut self.feeds[class as usize];
        if let Some((_, row)) = feed.again.pop_first() {
            return Some((row, Turn::Again));
        }
        let row = feed.rows.pop_front()?;
        feed.bytes -= size(&row);
        Some((row, Turn::First))
    }

    /// A row that was sent, or might have been, has to go again, as early as its id says.
    pub fn again(&mut self, class: Class, row: OutRow) {
        self.feeds[class as usize].again.insert(row.id, row);
    }

    /// Takes out a row that had to go again: it was acknowledged after all.
    pub fn take_again(&mut self, id: u64) -> Option<OutRow> {
        self.feeds.iter_mut().find_map(|feed| feed.again.remove(&id))
    }

    /// Whether the class has nothing left, held or in the store.
    pub fn is_exhausted(&self, class: Class, newest: Newest) -> bool {
        let feed = &self.feeds[class as usize];
        let newest = if class == Class::Alarm { newest.alarm } else { newest.data };
        let unfetched = feed.pieces.iter().any(|piece| piece.after < piece.upto.min(newest));
        !unfetched && !feed.fetching && feed.rows.is_empty() && feed.again.is_empty()
    }

    /// Whether every row of the class up to `id` has been fetched.
    pub fn has_passed(&self, class: Class, id: u64) -> bool {
        self.feeds[class as usize].pieces.front().is_none_or(|piece| piece.after >= id)
    }

    /// Whether a data row was made since the link came up.
    pub fn is_live(&self, id: u64) -> bool {
        id > self.split
    }

    /// Bytes of fetched rows.
    pub fn held(&self) -> u64 {
        self.feeds.iter().map(|feed| feed.bytes).sum()
    }
}

// === impl Feed ===

impl Feed {
    /// Rows that were fetched and not taken become unfetched again.
    fn put_back(&mut self) {
        let (Some(first), Some(last)) = (self.rows.front(), self.rows.back()) else { return };
        let piece = Piece { after: first.id - 1, upto: last.id };
        self.rows.clear();
        self.bytes = 0;
        match self.pieces.front_mut() {
            Some(front) if front.after == piece.upto => front.after = piece.after,
            _ => self.pieces.push_front(piece),
        }
    }

    fn add(&mut self, piece: Piece) {
        match self.pieces.back_mut() {
            _ if piece.after >= piece.upto => {}
            Some(back) if back.upto == piece.after => back.upto = piece.upto,
            _ => self.pieces.push_back(piece),
        }
    }
}

/// What a row weighs in the window and in the lanes: its body, and what subject, headers and protocol add to it.
pub fn size(row: &OutRow) -> u64 {
    /// Some 230 bytes of subject, reply subject, five headers and framing.
    const OVERHEAD: u64 = 230;
    row.body.len() as u64 + OVERHEAD
}

#[cfg(test)]
mod tests;
