//! Raises alarms when readings leave their limits, calibrating them by a line first where one is given.
//!
//! What it does to a batch: readings of calibrated series become `value * scale + offset`; all others pass as they came,
//! whole numbers to the last digit. Then every reading is held against its limits. A reading older than the newest one of
//! its series is calibrated but raises and clears nothing: an alarm never goes back in time.
//!
//! # Configuration
//!
//! ```toml
//! [component.limits.config]
//! calibrate = "*/temperature: scale 0.1, offset -40; tank/*/level: scale 0.01"
//! high = "*/temperature: 80, hysteresis 2; */pressure: 6.5"
//! "high.critical" = "line4/*/temperature: 90; */temperature: 95, hysteresis 5"
//! low = "tank/*/level: 0.2, hysteresis 0.05"
//! rise = "*/temperature: 5 per 10s, hysteresis 2"
//! ```
//! - The option's name says what is done: `calibrate`, `high`, `low`, `rise` or `fall`. A word behind a dot makes it another one of its
//!   kind. The whole name is the alarm's name.
//! - Its value is a list of `PATTERN: NUMBERS` with `;` between them. The first pattern that fits a series' name counts,
//!   so the special case goes before the general one. `*` stands for any characters, `/` among them.
//! - `high` raises when a value is above the limit, and clears when it is at or below the limit less the hysteresis. `low`
//!   is its mirror image. `rise` raises when the value grows by more than the limit in the given time, and clears when it
//!   grows by the limit less the hysteresis or less; `fall` is its mirror image. The change is measured from a reading at
//!   least as old as that time; after a gap it is spread over the gap. Limits are in calibrated units. Hysteresis is 0 when not given, scale 1, offset 0.
//!
//! Calibrating here is for limits in calibrated units, since a stream has one component; without limits, and for tables and
//! units, there is `calibrate`.
//!
//! # State
//!
//! Which alarms are active, and the newest time of each series that has limits: 13 bytes for a series and 2 for each
//! active alarm, so that the 1 MiB a snapshot may have is enough for 60,000 series; and for each change that is watched, up to
//! six earlier readings, 100 bytes: 9,000 series with one. Alarms are kept by name. When an
//! active alarm is no longer configured for its series, the next reading of that series clears it.

pub mod monitor;
pub mod rules;
pub mod snapshot;

#[cfg(target_arch = "wasm32")]
mod guest;
