//! Thins out fast series so that a chart of what is left looks like a chart of everything: of each window the first, the
//! smallest, the largest and the last reading go on, with their own times and their own values, whole numbers to the last
//! digit.
//!
//! Four readings a window are exactly what a line chart needs that draws one window in one column of pixels (Jugel et al.,
//! "M4: a visualization-oriented time series data aggregation", VLDB 2014). The gateway's own windows, which come after,
//! give statistics of what is left; a stream that is thinned out here is best not reduced again (`reduce = "none"`).
//!
//! # Configuration
//!
//! ```toml
//! [component.downsample.config]
//! series = "*/current: 1s; spindle/*: 100ms"
//! ```
//! `series`: which series, and how long their windows are, 1 ms to 24 h; the first pattern that fits counts, `*` stands for
//! any characters. Windows begin at whole multiples of their length since 1970. Series that are not named pass as they came.
//!
//! # When readings go on
//!
//! A window's readings go on when the first reading of a later window comes: a series that falls silent keeps its last
//! window until it speaks again. A reading older than the open window passes as it came, since its window has gone.
//!
//! # State
//!
//! The open window of each series: at most 86 bytes, so that 12,000 series fit into the 1 MiB a snapshot may have. Further
//! series pass as they came, and the log says so.

pub mod settings;
pub mod snapshot;
pub mod windows;

#[cfg(target_arch = "wasm32")]
mod guest;
