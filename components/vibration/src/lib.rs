//! Reduces vibration samples to what a maintenance engineer looks at: RMS, peak, crest factor, kurtosis, and the RMS of
//! frequency bands.
//!
//! Samples of a series are gathered into blocks, one after the other. A full block gives one reading for each feature, at
//! the time of its last sample, under `SERIES/rms`, `SERIES/peak`, `SERIES/crest`, `SERIES/kurtosis` and
//! `SERIES/band.LOW-HIGH`; the samples themselves go no further. Series that are not named pass as they came.
//!
//! # Configuration
//!
//! ```toml
//! [component.vibration.config]
//! series = "*/acceleration; spindle/*"
//! block = "4096"
//! bands = "10-1000; 1000-5000; 5000-10000"
//! gap = "1s"
//! ```
//! - `series`: patterns, `*` for any characters.
//! - `block`: samples in a block: 256, 512, 1024, 2048 or 4096, which is the default.
//! - `bands`: frequencies in hertz, at most eight. The sampling rate is that of the block's own time stamps. A band above
//!   half of it gives no reading.
//! - `gap`: a longer silence, or a step back in time, begins the block anew; 1 s when not given. Samples missing within a
//!   shorter one are not noticed.
//!
//! # What is computed
//!
//! The mean is taken away first: what a sensor shows at rest is no vibration. RMS, peak (the largest deviation to either
//! side) and crest factor (peak / RMS) have their usual meaning. Kurtosis is the fourth moment over the square of the second:
//! 3 for noise, 1.5 for a sine, more when there are impacts, as of a damaged bearing. A band's RMS comes from the spectrum
//! under a Hann window, with the window's power taken out; bands that do not overlap and cover everything add up, squared,
//! to the square of the RMS. A block at rest has a crest factor and a kurtosis of 0.
//!
//! # State
//!
//! The samples of blocks that are not full, in single precision: 4 bytes each. A snapshot may have 1 MiB, so that 63 series
//! fit with blocks of 4096, 1,000 with blocks of 256. Further series pass as they came, and the log says so.

pub mod blocks;
pub mod features;
pub mod settings;
pub mod snapshot;

#[cfg(target_arch = "wasm32")]
mod guest;
