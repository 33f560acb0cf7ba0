//! One series: its open windows, its watermark, and what waits for its next row.

use super::window::{Novelty, Window};
use super::{Closed, Grid, OPEN_MAX, Tally};
use crate::sample::{Nanos, Reading, SeriesId, Timeline};

/// One series.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) id: SeriesId,
    pub(super) timeline: Timeline,
    /// The watermark: newest time seen on this timeline.
    pub(super) newest: Nanos,
    /// Monotonic time at which a reading was last taken.
    pub(super) taken_at: Nanos,
    /// Ascending. The last one contains the newest time; it is empty after an idle time, or a flush.
    pub(super) open: Vec<Window>,
    /// Newest time from which the first open window may have to close. A hint: never too late.
    pub(super) due: Nanos,
    /// Highest window closed other than by the watermark.
    pub(super) closed_to: Option<i64>,
    /// Window of the previous row on this timeline.
    pub(super) previous: Option<i64>,
    /// Late readings since the previous row.
    pub(super) late: u32,
    /// Duplicates since the previous row.
    pub(super) duplicates: u32,
}

// === impl Series ===

impl Series {
    /// A series about to take its first reading.
    pub(super) fn new(id: SeriesId, timeline: Timeline, time: Nanos) -> Series {
        Series {
            id,
            timeline,
            newest: time,
            taken_at: 0,
            open: Vec::new(),
            due: Nanos::MAX,
            closed_to: None,
            previous: None,
            late: 0,
            duplicates: 0,
        }
    }

    pub(super) fn id(&self) -> SeriesId {
        self.id
    }

    /// Monotonic time since a reading was last taken; none while there is nothing to close.
    pub(super) fn idle(&self, now: Nanos) -> Nanos {
        if self.open.is_empty() { Nanos::MIN } else { now.saturating_sub(self.taken_at) }
    }

    pub(super) fn push(
        &mut self,
        grid: &Grid,
        timeline: Timeline,
        reading: Reading,
        now: Nanos,
        tally: &mut Tally,
    ) {
        if timeline == self.timeline
            && reading.time > self.newest
            && reading.time < self.due
            && let Some(window) = self.open.last_mut()
            && reading.time <= window.end
        {
            // In order, into the newest window: what nearly all readings do.
            window.take(&reading);
            if timeline == Timeline::Sensor {
                window.remember(reading.time, tally);
            }
            self.newest = reading.time;
            self.taken_at = now;
            return;
        }
        self.push_anywhere(grid, timeline, reading, now, tally);
    }

    fn push_anywhere(
        &mut self,
        grid: &Grid,
        timeline: Timeline,
        reading: Reading,
        now: Nanos,
        tally: &mut Tally,
    ) {
        if timeline != self.timeline {
            self.change_timeline(grid, timeline, reading.time, tally);
        }
        let index = grid.index(reading.time);
        if Some(index) <= self.closed_to.max(grid.closed_by(self.newest)) {
            self.late = self.late.saturating_add(1);
            tally.counters.late += 1;
            return;
        }
        match self.open.binary_search_by_key(&index, |window| window.index) {
            Ok(at) if !self.take_into(at, &reading, tally) => return,
            Ok(_) => {}
            Err(at) => {
                let mut window = Window::new(grid, index, &reading);
                if timeline == Timeline::Sensor {
                    window.remember(reading.time, tally);
                }
                self.open.insert(at, window);
            }
        }
        self.taken_at = now;
        self.newest = self.newest.max(reading.time);
        self.close_passed(grid, tally);
    }

    /// Takes a reading into an open window, unless it is a duplicate.
    fn take_into(&mut self, at: usize, reading: &Reading, tally: &mut Tally) -> bool {
        let window = &mut self.open[at];
        if self.timeline == Timeline::Sensor {
            match window.novelty(reading.time) {
                Novelty::New => window.remember(reading.time, tally),
                Novelty::Unchecked => tally.counters.unchecked += 1,
                Novelty::Duplicate => {
                    self.duplicates = self.duplicates.saturating_add(1);
                    tally.counters.duplicates += 1;
                    return false;
                }
            }
        }
        window.take(reading);
        true
    }

    fn change_timeline(&mut self, grid: &Grid, timeline: Timeline, time: Nanos, tally: &mut Tally) {
        self.close_all(grid, tally);
        let (late, duplicates) = (self.late, self.duplicates);
        *self = Series { late, duplicates, ..Series::new(self.id, timeline, time) };
    }

    pub(super) fn close_all(&mut self, grid: &Grid, tally: &mut Tally) {
        self.closed_to = self.closed_to.max(self.open.last().map(|window| window.index));
        self.close_first(self.open.len(), grid, tally);
    }

    /// Closes what the watermark has passed, and what is too much.
    fn close_passed(&mut self, grid: &Grid, tally: &mut Tally) {
        let passed = grid.closed_by(self.newest);
        let passed = self.open.partition_point(|window| Some(window.index) <= passed);
        let surplus = self.open.len().saturating_sub(OPEN_MAX);
        if surplus > passed {
            self.closed_to = self.closed_to.max(Some(self.open[surplus - 1].index));
        }
        self.close_first(passed.max(surplus), grid, tally);
        self.set_due(grid);
    }

    pub(super) fn set_due(&mut self, grid: &Grid) {
        let due = |window: &Window| window.end.saturating_add(grid.lateness).saturating_add(1);
        self.due = self.open.first().map_or(Nanos::MAX, due);
    }

    fn close_first(&mut self, count: usize, grid: &Grid, tally: &mut Tally) {
        for window in self.open.drain(..count) {
            let mut row = window.row(grid, self.id);
            row.late = std::mem::take(&mut self.late);
            row.duplicates = std::mem::take(&mut self.duplicates);
            row.gap = self.previous.map_or(0, |previous| {
                let empty = window.index.abs_diff(previous).saturating_sub(1);
                u32::try_from(empty).unwrap_or(u32::MAX)
            });
            self.previous = Some(window.index);
            tally.remembered -= window.times.len();
            tally.closed.push(Closed { timeline: self.timeline, row });
        }
    }
}
