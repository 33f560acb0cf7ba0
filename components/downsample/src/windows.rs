//! The open window of each series.
//!
//! ```text
//!              reading of a later window: the four go on
//!   closed ──────────▶ open ◀───────────────────────────┐
//!     first reading     │ └─────────────────────────────┘
//!                       └ reading of an earlier window: passes
//! ```

use crate::settings::Settings;

/// Series whose windows a snapshot can hold.
pub const SERIES_MAX: usize = 12_000;

/// No series has this place in [`Windows::series`].
const NOWHERE: u32 = u32::MAX;

/// Everything the component knows.
#[derive(Debug)]
pub struct Windows {
    settings: Settings,
    /// Place in `series` by number; numbers are counted up, so this is short.
    places: Vec<u32>,
    series: Vec<Thinned>,
    /// What a snapshot said of series that have not been announced since.
    kept: Vec<Kept>,
}

/// A reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// When.
    pub time: i64,
    /// Its value; of a whole number the nearest float.
    pub value: f64,
    /// The exact value of a whole number.
    pub integer: Option<i64>,
}

/// The open window of a series, as it outlives an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Number of the series.
    pub id: u32,
    /// What of it goes on.
    pub window: Window,
}

/// An open window.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Where it begins.
    pub start: i64,
    /// Earliest.
    pub first: Reading,
    /// Smallest; of several the one that came first.
    pub min: Reading,
    /// Largest; of several the one that came first.
    pub max: Reading,
    /// Latest.
    pub last: Reading,
}

/// Whether a series that is to be thinned out can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// It is, or was never meant to be.
    Well,
    /// There are too many: it passes as it came.
    OneTooMany,
}

/// What becomes of a reading.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    /// It goes on as it came.
    Passes,
    /// It is in the open window.
    Held,
    /// It is in the open window, and that before it has closed.
    Closed(Window),
}

#[derive(Debug)]
struct Thinned {
    length: i64,
    open: Option<Window>,
}

// === impl Windows ===

impl Windows {
    /// Begins with no state.
    pub fn new(settings: Settings) -> Windows {
        Windows { settings, places: Vec::new(), series: Vec::new(), kept: Vec::new() }
    }

    /// Takes the state of an earlier instance.
    pub fn restore(&mut self, kept: Vec<Kept>) {
        self.kept = kept;
        self.kept.sort_unstable_by_key(|kept| kept.id);
    }

    /// The open windows.
    pub fn state(&self) -> Vec<Kept> {
        let placed = self.places.iter().enumerate().filter(|(_, place)| **place != NOWHERE);
        let open = placed.filter_map(|(id, place)| {
            let window = self.series[*place as usize].open.clone()?;
            Some(Kept { id: id as u32, window })
        });
        let waiting = self.kept.iter().filter(|kept| self.place(kept.id).is_none()).cloned();
        open.chain(waiting).take(SERIES_MAX).collect()
    }

    /// A series that will have readings.
    pub fn announce(&mut self, id: u32, name: &str) -> Announced {
        let Some(length) = self.settings.window(name) else { return Announced::Well };
        if self.series.len() >= SERIES_MAX {
            return Announced::OneTooMany;
        }
        let at = id as usize;
        if self.places.len() <= at {
            self.places.resize(at + 1, NOWHERE);
        }
        self.places[at] = self.series.len() as u32;
        let kept = self.kept.binary_search_by_key(&id, |kept| kept.id);
        let open = kept.ok().map(|at| self.kept[at].window.clone());
        self.series.push(Thinned { length, open });
        Announced::Well
    }

    /// Takes a reading.
    pub fn take(&mut self, id: u32, reading: Reading) -> Taken {
        let Some(place) = self.place(id) else { return Taken::Passes };
        let Thinned { length, open } = &mut self.series[place];
        let start = reading.time - reading.time.rem_euclid(*length);
        match open {
            Some(window) if start < window.start => Taken::Passes,
            Some(window) if start == window.start => {
                window.take(reading);
                Taken::Held
            }
            _ => match open.replace(Window::of(start, reading)) {
                Some(closed) => Taken::Closed(closed),
                None => Taken::Held,
            },
        }
    }

    fn place(&self, id: u32) -> Option<usize> {
        self.places.get(id as usize).filter(|place| **place != NOWHERE).map(|place| *place as usize)
    }
}

// === impl Window ===

impl Window {
    fn of(start: i64, reading: Reading) -> Window {
        Window { start, first: reading, min: reading, max: reading, last: reading }
    }

    fn take(&mut self, reading: Reading) {
        if reading.time < self.first.time {
            self.first = reading;
        }
        if reading.is_less_than(&self.min) {
            self.min = reading;
        }
        if self.max.is_less_than(&reading) {
            self.max = reading;
        }
        if reading.time >= self.last.time {
            self.last = reading;
        }
    }

    /// What goes on: each reading once, from old to new.
    pub fn readings(&self) -> Vec<Reading> {
        let mut readings: Vec<Reading> = Vec::with_capacity(4);
        for reading in [self.first, self.min, self.max, self.last] {
            if !readings.contains(&reading) {
                readings.push(reading);
            }
        }
        readings.sort_by_key(|reading| reading.time);
        readings
    }
}

// === impl Reading ===

impl Reading {
    /// Whole numbers are compared as such: beyond 2^53 neighbours have the same float.
    fn is_less_than(&self, other: &Reading) -> bool {
        match (self.integer, other.integer) {
            (Some(this), Some(other)) => this < other,
            _ => self.value < other.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(series: &str) -> Windows {
        Windows::new(Settings::parse(&[("series".to_owned(), series.to_owned())]).unwrap())
    }

    fn float(time: i64, value: f64) -> Reading {
        Reading { time, value, integer: None }
    }

    const MS: i64 = 1_000_000;

    #[test]
    fn four_readings_of_a_window_go_on_as_they_were() {
        // Goal: first, smallest, largest and last, each once, in their order, when the next window begins. Method: a window
        // whose readings come out of order, one of a single reading, and times before 1970.
        let mut windows = windows("v: 10ms");
        windows.announce(1, "v");
        let rows = [(0, 5.0), (3, 9.0), (2, 7.0), (4, -1.0), (4, -1.0), (9, 6.0), (8, 3.0)];
        for (at, value) in rows {
            assert_eq!(windows.take(1, float((at - 20) * MS, value)), Taken::Held);
        }
        let Taken::Closed(window) = windows.take(1, float(-10 * MS, 1.0)) else {
            panic!("the window has closed")
        };
        let expected =
            [(0, 5.0), (3, 9.0), (4, -1.0), (9, 6.0)].map(|(at, value)| float((at - 20) * MS, value));
        assert_eq!(window.readings(), expected);
        let Taken::Closed(window) = windows.take(1, float(0, 2.0)) else { panic!("the window has closed") };
        assert_eq!(window.readings(), [float(-10 * MS, 1.0)]);
        assert_eq!(windows.take(1, float(-MS, 2.0)), Taken::Passes, "its window has gone");
        assert_eq!(windows.take(2, float(0, 2.0)), Taken::Passes, "it is no series of ours");
    }

    #[test]
    fn a_chart_of_what_is_left_spans_the_same_pixels() {
        // Goal: in every window the extremes and the ends are there. Method: ten thousand readings of a restless series,
        // and the four of each window computed apart.
        let mut windows = windows("v: 100ms");
        windows.announce(1, "v");
        let all: Vec<Reading> = (0..10_000_i64)
            .map(|n| float(n * MS, ((n * n * 31) % 1_009) as f64 + (n as f64 / 700.0).sin()))
            .collect();
        let mut left = Vec::new();
        for reading in &all {
            if let Taken::Closed(window) = windows.take(1, *reading) {
                left.extend(window.readings());
            }
        }
        let closed = all.chunks(100).take(99);
        for window in closed {
            let value = |reading: &&Reading| reading.value;
            let min = window.iter().min_by(|a, b| value(a).total_cmp(&value(b))).unwrap();
            let max = window.iter().max_by(|a, b| value(a).total_cmp(&value(b))).unwrap();
            for reading in [&window[0], min, max, &window[99]] {
                assert!(
                    left.iter().any(|one| (one.time, one.value) == (reading.time, reading.value)),
                    "{reading:?}"
                );
            }
        }
        assert!(left.len() <= 4 * 99, "{}", left.len());
    }

    #[test]
    fn whole_numbers_are_told_apart_to_the_last_digit() {
        // Goal: a counter beyond 2^53 has a smallest and a largest reading. Method: neighbours with the same float.
        let exact = |time: i64, integer: i64| Reading { time, value: integer as f64, integer: Some(integer) };
        let mut windows = windows("*: 1s");
        windows.announce(1, "v");
        let base = (1_i64 << 60) + 10;
        for (time, integer) in [(1, base), (2, base + 1), (3, base - 1), (4, base)] {
            windows.take(1, exact(time, integer));
        }
        let window = windows.state()[0].window.clone();
        assert_eq!((window.min.integer, window.max.integer), (Some(base - 1), Some(base + 1)));
    }

    #[test]
    fn a_restored_window_goes_on_as_if_nothing_had_happened() {
        // Goal: a crash changes no result. Method: an instance replaced by its own snapshot after every reading, beside one
        // that lives on; the state is there before the series is announced, too.
        let (mut whole, mut piece) = (windows("v: 7ms"), windows("v: 7ms"));
        whole.announce(3, "v");
        piece.announce(3, "v");
        for n in 0..500_i64 {
            let reading = float((n + n % 5) * MS, ((n * 13) % 11) as f64);
            assert_eq!(piece.take(3, reading), whole.take(3, reading), "reading {n}");
            let state = piece.state();
            piece = windows("v: 7ms");
            piece.restore(crate::snapshot::decode(&crate::snapshot::encode(&state)).unwrap());
            assert_eq!(piece.state(), state);
            piece.announce(3, "v");
            assert_eq!(piece.state(), state);
        }
    }

    #[test]
    fn there_is_a_bound() {
        // Goal: a snapshot never exceeds 1 MiB. Method: one series too many, all with four different readings.
        let mut windows = windows("*: 1h");
        let announced = (0..=SERIES_MAX as u32).map(|id| windows.announce(id, "v"));
        assert_eq!(announced.filter(|one| *one == Announced::OneTooMany).count(), 1);
        for id in 0..=SERIES_MAX as u32 {
            [5.0, 1.0, 9.0, 4.0].iter().enumerate().for_each(|(n, value)| {
                windows.take(id, float(n as i64, *value));
            });
        }
        assert!(crate::snapshot::encode(&windows.state()).len() <= 1 << 20);
    }
}
