//! How many bytes a day a configuration is expected to write to flash: an estimate before the fact, for `frond check`.
//!
//! Pure. What is really written is counted by the store; benches measure the constants here and say so when they drift.

use std::fmt;

use super::{Config, Decode, Reduce, Stream};
use crate::sample::Durability;

/// Bytes written for each journalled reading, everything counted: its part of the compressed block, of the write-ahead
/// log and its checkpoint, of the raw ring and of the commit itself, as SQLite writes them and the budget counts them. Measured
/// at 1,000 readings a second by `benches/wear.rs`: 7.5 in the log, 2.1 in the database. A commit costs much the same
/// with fewer readings in it: at 100 a second it was 32.
pub const JOURNALLED_READING_BYTES: f64 = 9.6;

/// Bytes written for each closed window of a series: its part of the output block, twice (log and database), and of the
/// checkpoint beside it. Measured by `benches/wear.rs`: 11 in the block.
pub const WINDOW_ROW_BYTES: f64 = 25.0;

/// Bytes written for each reading that is forwarded as it is: 1.2 in a compacted block (`benches/drain.rs`),
/// twice (log and database).
pub const FORWARDED_READING_BYTES: f64 = 2.5;

/// Where the number of series is not given, each is taken to send once a second.
const READINGS_PER_SERIES_SECOND: f64 = 1.0;

const SECONDS_PER_DAY: f64 = 86_400.0;

/// The estimate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// One for each stream, in the configuration's order.
    pub streams: Vec<StreamWear>,
}

/// The estimate for one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamWear {
    /// Its name.
    pub stream: String,
    /// Bytes a day; `None` when `expect_per_second` is not set and nothing else tells the rate.
    pub bytes_per_day: Option<u64>,
}

/// Bytes a day to three digits: `1.04 GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerDay(pub u64);

/// Estimates what the streams will write.
pub fn estimate(config: &Config) -> Estimate {
    let stream =
        |stream: &Stream| StreamWear { stream: stream.name.clone(), bytes_per_day: stream_wear(stream) };
    Estimate { streams: config.streams.iter().map(stream).collect() }
}

// === impl Estimate ===

impl Estimate {
    /// The sum of what is known.
    pub fn bytes_per_day(&self) -> u64 {
        self.streams.iter().filter_map(|stream| stream.bytes_per_day).fold(0, u64::saturating_add)
    }
}

// === impl PerDay ===

impl fmt::Display for PerDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
        let (mut amount, mut unit) = (self.0 as f64, 0);
        // 999.5 would be printed as 1000.
        while amount >= 999.5 && unit + 1 < UNITS.len() {
            amount /= 1000.0;
            unit += 1;
        }
        let digits = match amount {
            _ if unit == 0 => 0,
            a if a < 9.995 => 2,
            a if a < 99.95 => 1,
            _ => 0,
        };
        write!(f, "{amount:.digits$} {}", UNITS[unit])
    }
}

fn stream_wear(stream: &Stream) -> Option<u64> {
    let readings = stream.expect_readings_per_second.or_else(|| packed_rate(stream))?;
    let journalled = match stream.durability {
        Durability::Reading => readings * JOURNALLED_READING_BYTES,
        Durability::Window | Durability::None => 0.0,
    };
    let outputs = match stream.reduce {
        Reduce::None => readings * FORWARDED_READING_BYTES,
        Reduce::Window { length, .. } => {
            // A window that gets no reading has no row, so there are never more rows than readings.
            let rows = (series(stream, readings) / length.as_secs_f64()).min(readings);
            rows * WINDOW_ROW_BYTES
        }
    };
    // A float beyond u64 saturates; rates are bounded to 10^9, so it does not come to that.
    Some(((journalled + outputs) * SECONDS_PER_DAY).round() as u64)
}

/// A packed stream says its own rate; how many senders there are is known when no filter has wildcards.
fn packed_rate(stream: &Stream) -> Option<f64> {
    let plain = stream.topics.iter().all(|filter| !filter.contains(['+', '#']));
    match stream.decode {
        Decode::Packed(packed) if plain => Some(packed.rate * stream.topics.len() as f64),
        _ => None,
    }
}

fn series(stream: &Stream, readings: f64) -> f64 {
    let expected = stream.expect_series.map(|series| series as f64);
    expected.unwrap_or_else(|| match stream.decode {
        Decode::Packed(packed) => (readings / packed.rate).ceil(),
        Decode::Json(_) | Decode::Cbor(_) | Decode::Number => (readings / READINGS_PER_SERIES_SECOND).ceil(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn wear(stream: &str) -> Option<u64> {
        let text = format!("[[stream]]\nname = \"s\"\ntopics = [\"a/b\"]\n{stream}");
        estimate(&parse(&text, "t").expect("the test's stream is valid")).streams[0].bytes_per_day
    }

    #[test]
    fn wear_is_the_sum_of_journal_and_windows() {
        // Goal: the estimate is the documented sum. Method: streams whose sums are worked out by hand.
        let day = |bytes_per_second: f64| Some((bytes_per_second * 86_400.0).round() as u64);
        assert_eq!(wear(""), None, "nothing is known");
        assert_eq!(wear("expect_per_second = 1000"), day(1000.0 * 9.6 + 1000.0 / 60.0 * 25.0));
        assert_eq!(
            wear("expect_per_second = 1000\nexpect_series = 10"),
            day(1000.0 * 9.6 + 10.0 / 60.0 * 25.0)
        );
        assert_eq!(wear("expect_per_second = 1000\ndurability = \"window\""), day(1000.0 / 60.0 * 25.0));
        assert_eq!(wear("expect_per_second = 10\nreduce = \"none\""), day(10.0 * (9.6 + 2.5)));
        assert_eq!(wear("expect_per_second = 0"), Some(0));
        let fast = "expect_per_second = 2\nexpect_series = 100\nreduce = { window = \"100ms\" }";
        assert_eq!(wear(fast), day(2.0 * 9.6 + 2.0 * 25.0), "no more windows than readings");
    }

    #[test]
    fn a_packed_stream_says_its_own_rate() {
        // Goal: kilohertz streams are estimated without being told. Method: one topic, and a wildcard beside it.
        let packed =
            "decode = \"packed\"\npacked = { sample = \"f32\", rate = 25600 }\ndurability = \"window\"";
        assert_eq!(wear(packed), Some(86_400 / 60 * 25));
        assert_eq!(wear(&packed.replace("decode", "expect_series = 1\ndecode")), Some(86_400 / 60 * 25));
        let text = format!("[[stream]]\nname = \"s\"\ntopics = [\"a/+\"]\n{packed}");
        assert_eq!(
            estimate(&parse(&text, "t").expect("valid")).bytes_per_day(),
            0,
            "nobody knows how many senders"
        );
    }

    #[test]
    fn bytes_per_day_have_three_digits() {
        // Goal: the figure can be compared at a glance. Method: the edges of units and digits.
        let shown = |bytes| PerDay(bytes).to_string();
        assert_eq!(shown(0), "0 B");
        assert_eq!(shown(999), "999 B");
        assert_eq!(shown(1000), "1.00 kB");
        assert_eq!(shown(1_640_000_000), "1.64 GB");
        assert_eq!(shown(43_200_000), "43.2 MB");
        assert_eq!(shown(999_600), "1.00 MB");
        assert_eq!(shown(u64::MAX), "18447 PB");
    }
}
