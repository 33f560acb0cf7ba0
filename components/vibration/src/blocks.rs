//! Samples gathered into blocks, series by series.
//!
//! ```text
//!           sample                                full
//!   empty ─────────▶ filling ── gap, step back ─┐  │
//!     ▲                 ▲───────────────────────┘  │
//!     └────────────────────────────── features ◀───┘
//! ```

use crate::features::{Features, Window, features};
use crate::settings::Settings;

/// No series has this place in [`Blocks::series`].
const NOWHERE: u32 = u32::MAX;

/// Bytes that a snapshot may have.
const SNAPSHOT_BYTES_MAX: usize = 1 << 20;

/// Everything the component knows.
#[derive(Debug)]
pub struct Blocks {
    settings: Settings,
    window: Window,
    /// Place in `series` by number; numbers are counted up, so this is short.
    places: Vec<u32>,
    series: Vec<Sampled>,
    /// What a snapshot said of series that have not been announced since.
    kept: Vec<Kept>,
}

/// A block that is not full, as it outlives an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Number of the series.
    pub id: u32,
    /// Time of the first sample.
    pub first: i64,
    /// Time of the last sample.
    pub last: i64,
    /// Samples.
    pub samples: Vec<f32>,
}

/// What a row is.
#[derive(Debug, PartialEq)]
pub enum Row<'a> {
    /// Of no series that is looked at.
    Foreign,
    /// A sample; its block goes on.
    Gathered,
    /// The last sample of a block.
    Full {
        /// Name of the series.
        name: &'a str,
        /// Unit of its samples.
        unit: &'a str,
        /// What the block says.
        features: Features,
    },
}

/// Whether a series that is to be looked at can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// It is looked at, or was never meant to be.
    Well,
    /// There are too many: it passes as it came.
    OneTooMany,
}

#[derive(Debug)]
struct Sampled {
    name: String,
    unit: String,
    first: i64,
    last: i64,
    samples: Vec<f32>,
}

// === impl Blocks ===

impl Blocks {
    /// Begins with no state.
    pub fn new(settings: Settings) -> Blocks {
        let window = Window::new(settings.block);
        Blocks { settings, window, places: Vec::new(), series: Vec::new(), kept: Vec::new() }
    }

    /// The options.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes the state of an earlier instance. Blocks of another length are begun anew.
    pub fn restore(&mut self, kept: Vec<Kept>) {
        self.kept = kept.into_iter().filter(|kept| kept.samples.len() < self.settings.block).collect();
    }

    /// The blocks that are not full.
    pub fn state(&self) -> Vec<Kept> {
        let placed = self.places.iter().enumerate().filter(|(_, place)| **place != NOWHERE);
        let filling = placed
            .map(|(id, place)| (id, &self.series[*place as usize]))
            .filter(|(_, s)| !s.samples.is_empty());
        let filling = filling.map(|(id, series)| {
            let Sampled { first, last, samples, .. } = series;
            Kept { id: id as u32, first: *first, last: *last, samples: samples.clone() }
        });
        filling.chain(self.kept.iter().cloned()).collect()
    }

    /// A series that will have readings.
    pub fn announce(&mut self, id: u32, name: String, unit: String) -> Announced {
        if !self.settings.covers(&name) {
            return Announced::Well;
        }
        // 24 bytes for the rest of a block in a snapshot, and its head.
        let series_max = (SNAPSHOT_BYTES_MAX - 64) / (4 * self.settings.block + 24);
        if self.series.len() >= series_max {
            return Announced::OneTooMany;
        }
        let at = id as usize;
        if self.places.len() <= at {
            self.places.resize(at + 1, NOWHERE);
        }
        self.places[at] = self.series.len() as u32;
        let kept = self.kept.iter().position(|kept| kept.id == id).map(|at| self.kept.swap_remove(at));
        let (first, last, samples) =
            kept.map_or((0, 0, Vec::new()), |kept| (kept.first, kept.last, kept.samples));
        self.series.push(Sampled { name, unit, first, last, samples });
        Announced::Well
    }

    /// Takes a row.
    pub fn take(&mut self, id: u32, time: i64, value: f64) -> Row<'_> {
        let place = self.places.get(id as usize).copied().unwrap_or(NOWHERE);
        let Some(series) = self.series.get_mut(place as usize) else { return Row::Foreign };
        let Settings { block, gap, bands, .. } = &self.settings;
        let silence = time.saturating_sub(series.last);
        if !series.samples.is_empty() && (silence < 0 || silence > *gap) {
            series.samples.clear();
        }
        if series.samples.is_empty() {
            series.first = time;
        }
        series.last = time;
        // Beyond single precision there is no sensor; it must not become infinite.
        series.samples.push(value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32);
        if series.samples.len() < *block {
            return Row::Gathered;
        }
        let seconds = (series.last - series.first) as f64 / 1e9;
        // Samples that all have one time have no frequencies.
        let bands = if seconds > 0.0 { &bands[..] } else { &[] };
        let found = features(&series.samples, &self.window, (*block - 1) as f64 / seconds, bands);
        series.samples.clear();
        Row::Full { name: &series.name, unit: &series.unit, features: found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(pairs: &[(&str, &str)]) -> Blocks {
        let options: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Blocks::new(Settings::parse(&options).unwrap())
    }

    /// A tenth of a millisecond between samples: 10 kHz.
    const STEP: i64 = 100_000;

    fn full(row: Row<'_>) -> Option<Features> {
        match row {
            Row::Full { features, .. } => Some(features),
            Row::Gathered => None,
            Row::Foreign => panic!("the series was announced"),
        }
    }

    #[test]
    fn every_block_gives_features_once_and_other_series_pass() {
        // Goal: blocks follow each other without a sample lost or used twice. Method: three blocks of a ramp.
        let mut blocks = blocks(&[("series", "v"), ("block", "256")]);
        assert_eq!(blocks.announce(1, "v".into(), "g".into()), Announced::Well);
        blocks.announce(2, "t".into(), String::new());
        assert_eq!(blocks.take(2, 0, 1.0), Row::Foreign);
        assert_eq!(blocks.take(99, 0, 1.0), Row::Foreign);
        let peaks = (0..3 * 256_i64).filter_map(|n| full(blocks.take(1, n * STEP, n as f64))).map(|f| f.peak);
        assert_eq!(peaks.collect::<Vec<_>>(), [127.5; 3]);
        assert_eq!(blocks.state(), []);
    }

    #[test]
    fn the_rate_is_that_of_the_time_stamps() {
        // Goal: bands need no option for the rate. Method: a sine of 1 kHz sampled at 10 kHz, in two bands.
        let mut blocks = blocks(&[("series", "v"), ("block", "1024"), ("bands", "10-800;800-1200")]);
        blocks.announce(1, "v".into(), String::new());
        let sine = |n: i64| (2.0 * std::f64::consts::PI * 0.1 * n as f64).sin();
        let found: Vec<_> = (0..1024).filter_map(|n| full(blocks.take(1, n * STEP, sine(n)))).collect();
        let [Features { bands, .. }] = &found[..] else { panic!("one block: {found:?}") };
        assert!(bands[0].unwrap() < 0.01 && bands[1].unwrap() > 0.7, "{bands:?}");
    }

    #[test]
    fn a_gap_or_a_step_back_begins_the_block_anew() {
        // Goal: no block holds two recordings. Method: 100 samples, then a gap, then 100 and a step back, then a whole one.
        let mut blocks = blocks(&[("series", "v"), ("block", "256"), ("gap", "1s")]);
        blocks.announce(1, "v".into(), String::new());
        let mut feed = |from: i64, count: i64| {
            (0..count).filter_map(|n| full(blocks.take(1, from + n * STEP, 1.0))).count()
        };
        assert_eq!(feed(0, 100), 0);
        assert_eq!(feed(5_000_000_000, 100), 0, "after a gap");
        assert_eq!(feed(0, 255), 0, "after a step back");
        assert_eq!(feed(255 * STEP, 1), 1);
    }

    #[test]
    fn a_restored_block_goes_on_as_if_nothing_had_happened() {
        // Goal: a crash changes no result. Method: an instance replaced by its own snapshot after every 50 samples, beside
        // one that lives on; then the same snapshot under another length.
        let options = [("series", "v"), ("block", "256")];
        let (mut whole, mut piece) = (blocks(&options), blocks(&options));
        whole.announce(1, "v".into(), String::new());
        piece.announce(1, "v".into(), String::new());
        for n in 0..1_000_i64 {
            let value = ((n * n) % 97) as f64;
            assert_eq!(
                full(piece.take(1, n * STEP, value)),
                full(whole.take(1, n * STEP, value)),
                "sample {n}"
            );
            if n % 50 == 0 {
                let state = piece.state();
                piece = blocks(&options);
                piece.restore(state.clone());
                assert_eq!(piece.state(), state, "before it is announced");
                piece.announce(1, "v".into(), String::new());
            }
        }
        let mut other = blocks(&[("series", "v"), ("block", "512")]);
        let long = Kept { id: 1, first: 0, last: 0, samples: vec![0.0; 512] };
        other.restore(vec![long]);
        assert_eq!(other.state(), []);
    }

    #[test]
    fn what_a_snapshot_cannot_hold_is_not_begun() {
        // Goal: the bound of 1 MiB holds whatever is announced. Method: one series too many, all blocks all but full.
        let mut blocks = blocks(&[("series", "*")]);
        let announced: Vec<_> =
            (0..70).map(|id| blocks.announce(id, format!("v{id}"), String::new())).collect();
        assert_eq!(announced.iter().filter(|one| **one == Announced::Well).count(), 63);
        for id in 0..63 {
            (0..4095).for_each(|n| assert_eq!(blocks.take(id, n * STEP, 0.5), Row::Gathered));
        }
        assert_eq!(blocks.take(64, 0, 0.5), Row::Foreign);
        assert!(crate::snapshot::encode(&blocks.state()).len() <= SNAPSHOT_BYTES_MAX);
    }
}
