//! Calibrates readings by lines and tables, and converts their units.
//!
//! What it does to a batch: a reading of a series that a `linear` option fits becomes `value * scale + offset`; then, if a
//! `table` fits, what the table says; then, if a `convert` fits, the same in another unit. Readings of all other series pass
//! as they came, whole numbers to the last digit.
//!
//! # Configuration
//!
//! ```toml
//! [component.calibrate.config]
//! linear = "*/temperature: scale 0.1, offset -40, unit °C"
//! table = "tank/*/level: 4 = 0, 12 = 1.9, 20 = 4.2, unit m; scale/*: 0 = 0, 1000 = 998.2, hold"
//! convert = "*/pressure: psi to bar; */temperature: to °F"
//! name = "*/calibrated"
//! ```
//! - `linear`, `table` and `convert` are lists of `PATTERN: WHAT` with `;` between them. The first pattern that fits a
//!   series' name counts, so the special case goes before the general one. `*` stands for any characters, `/` among them. A
//!   word behind a dot makes an option another one of its kind (`table.tanks`); they are tried in the order of their names.
//! - `linear`: scale is 1 when not given, offset 0. `table`: 2 to 256 points `RAW = VALUE`, with a straight line between
//!   neighbours. Beyond the ends the first and the last line go on; with `hold`, the values at the ends stay.
//! - `convert`: `FROM to TO`, or `to TO` for a series that the stream, or `unit`, gave a unit. The units are those of
//!   [`units`]: temperature, pressure, flow, length, volume, mass, speed, rotation, force, energy, electrical and others.
//! - `unit` says what a line or a table gives. The unit of a series never changes, so readings whose unit does go on under a
//!   series of their own: `line4/temperature/calibrated`, or what `name` says, where `*` is the name they came under. They
//!   stay in their series when its unit is the new one already (the stream was given it), and when `name` is `*`.
//!
//! A series whose unit is not known, or of another kind, and one that the gateway gives no number for, passes as it came;
//! that is said once. There is no state.
//!
//! Limits on calibrated values are `limits`' business, which can do lines itself: a stream has one component.

pub mod calibrator;
pub mod rules;
pub mod table;
pub mod units;

#[cfg(target_arch = "wasm32")]
mod guest;
