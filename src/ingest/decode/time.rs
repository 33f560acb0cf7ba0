//! Times in payloads: RFC 3339, or seconds, milliseconds, nanoseconds since the epoch, as number or numeric text.

use jiff::civil;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::Offset;

use crate::config::TimeFormat;
use crate::ingest::reason::Reason;
use crate::sample::{Nanos, SECOND};

/// First time that is refused: 2200-01-01.
pub const TIME_END: Nanos = 7_258_118_400 * SECOND;

/// How far ahead of a trusted clock a sensor's clock may be. A day forgives a sensor that writes local time as UTC, which
/// is the commonest fault, and still keeps one wild stamp from closing every window of its series.
pub const AHEAD_MAX: Nanos = 86_400 * SECOND;

/// Longest text that can be a time: RFC 3339 with nanoseconds has 35 characters.
const TEXT_BYTES_MAX: usize = 64;

const PARSER: DateTimeParser = DateTimeParser::new();

/// Nanoseconds in one unit of a numeric format, and the power of ten it is.
fn unit(format: TimeFormat) -> Option<(i64, u32)> {
    match format {
        TimeFormat::Rfc3339 => None,
        TimeFormat::Seconds => Some((1_000_000_000, 9)),
        TimeFormat::Milliseconds => Some((1_000_000, 6)),
        TimeFormat::Nanoseconds => Some((1, 0)),
    }
}

/// A whole number.
pub(super) fn from_int(number: i64, format: TimeFormat) -> Result<Nanos, Reason> {
    let (scale, _) = unit(format).ok_or(Reason::TimeMalformed)?;
    number.checked_mul(scale).ok_or(Reason::TimeOutOfRange)
}

/// A float. Seconds as a double are good to a quarter of a microsecond.
pub(super) fn from_float(number: f64, format: TimeFormat) -> Result<Nanos, Reason> {
    let (scale, _) = unit(format).ok_or(Reason::TimeMalformed)?;
    if !number.is_finite() {
        return Err(Reason::TimeMalformed);
    }
    // Beyond this the product does not fit, whatever the unit; casts of floats saturate, so it has to be seen before.
    if number.abs() * scale as f64 >= i64::MAX as f64 {
        return Err(Reason::TimeOutOfRange);
    }
    let whole = number.trunc();
    Ok(whole as i64 * scale + ((number - whole) * scale as f64).round() as i64)
}

/// The digits of a number, as JSON has them: exact, down to the nanosecond.
pub(super) fn from_digits(text: &str, format: TimeFormat) -> Result<Nanos, Reason> {
    let (_, decimals) = unit(format).ok_or(Reason::TimeMalformed)?;
    if text.contains(['e', 'E']) {
        return from_float(text.parse().map_err(|_| Reason::TimeMalformed)?, format);
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(Reason::TimeMalformed);
    }
    let kept = fraction.bytes().chain(std::iter::repeat(b'0')).take(decimals as usize);
    let mut nanos: i64 = 0;
    for digit in whole.bytes().chain(kept) {
        nanos = nanos
            .checked_mul(10)
            .and_then(|n| n.checked_add(i64::from(digit - b'0')))
            .ok_or(Reason::TimeOutOfRange)?;
    }
    Ok(if negative { -nanos } else { nanos })
}

/// Text: RFC 3339, or a number in text.
pub(super) fn from_text(text: &str, format: TimeFormat) -> Result<Nanos, Reason> {
    let text = text.trim_ascii();
    if text.len() > TEXT_BYTES_MAX {
        return Err(Reason::TimeMalformed);
    }
    match format {
        TimeFormat::Rfc3339 => from_rfc3339(text),
        _ => from_digits(text, format),
    }
}

fn from_rfc3339(text: &str) -> Result<Nanos, Reason> {
    let time = match PARSER.parse_timestamp(text) {
        Ok(time) => time,
        // Only a text that has no offset at all is taken as UTC: behind the date, an offset shows by its sign.
        Err(_) if text.get(10..).is_some_and(|rest| !rest.contains(['+', '-', 'Z', 'z', '['])) => {
            let local: civil::DateTime = PARSER.parse_datetime(text).map_err(|_| Reason::TimeMalformed)?;
            Offset::UTC.to_timestamp(local).map_err(|_| Reason::TimeOutOfRange)?
        }
        Err(_) => return Err(Reason::TimeMalformed),
    };
    Nanos::try_from(time.as_nanosecond()).map_err(|_| Reason::TimeOutOfRange)
}

/// Whether a sensor's time can be one.
pub(super) fn check(time: Nanos, trusted: Option<Nanos>) -> Result<Nanos, Reason> {
    let end = trusted.map_or(TIME_END, |now| now.saturating_add(AHEAD_MAX).min(TIME_END));
    if (0..end).contains(&time) { Ok(time) } else { Err(Reason::TimeOutOfRange) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: TimeFormat = TimeFormat::Seconds;
    const MS: TimeFormat = TimeFormat::Milliseconds;
    const NS: TimeFormat = TimeFormat::Nanoseconds;
    const R: TimeFormat = TimeFormat::Rfc3339;

    #[test]
    fn every_form_of_one_instant_is_that_instant() {
        // Goal: 2024-03-01T12:00:00.123456789Z in every format, exact where the form can be.
        let instant = 1_709_294_400_123_456_789;
        assert_eq!(from_text("2024-03-01T12:00:00.123456789Z", R), Ok(instant));
        assert_eq!(from_text("2024-03-01 12:00:00.123456789", R), Ok(instant));
        assert_eq!(from_text("2024-03-01T13:00:00.123456789+01:00", R), Ok(instant));
        assert_eq!(from_text("2024-03-01 07:00:00.123456789-05:00", R), Ok(instant));
        assert_eq!(from_digits("1709294400.123456789", S), Ok(instant));
        assert_eq!(from_text(" 1709294400.1234567891 ", S), Ok(instant));
        assert_eq!(from_digits("1709294400123.456789", MS), Ok(instant));
        assert_eq!(from_int(instant, NS), Ok(instant));
        assert_eq!(from_int(1_709_294_400_123, MS), Ok(1_709_294_400_123_000_000));
        assert_eq!(from_int(1_709_294_400, S), Ok(1_709_294_400_000_000_000));
        let near = from_float(1_709_294_400.123_456_7, S).unwrap();
        assert!((near - instant).abs() < 1_000, "{near}");
        assert_eq!(from_digits("1.7092944e9", S), Ok(1_709_294_400_000_000_000));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        // Goal: malformed and out of range are told apart.
        for text in ["", "yesterday", "2024-13-01T00:00:00Z", "12:00", "2024-03-01T12:00[Europe/Berlin]"] {
            assert_eq!(from_text(text, R), Err(Reason::TimeMalformed), "{text}");
        }
        assert_eq!(from_text(&"1".repeat(65), NS), Err(Reason::TimeMalformed));
        for text in ["", "-", ".", "1,5", "0x10", "nan", "1.5e", "१२"] {
            assert_eq!(from_text(text, S), Err(Reason::TimeMalformed), "{text}");
        }
        assert_eq!(from_digits("99999999999999999999", NS), Err(Reason::TimeOutOfRange));
        assert_eq!(from_int(i64::MAX, MS), Err(Reason::TimeOutOfRange));
        assert_eq!(from_float(1e300, S), Err(Reason::TimeOutOfRange));
        assert_eq!(from_float(f64::NAN, S), Err(Reason::TimeMalformed));
        assert_eq!(from_int(1, R), Err(Reason::TimeMalformed));
    }

    #[test]
    fn times_outside_the_range_are_refused() {
        // Goal: the borders of the range, and of the day ahead of a trusted clock.
        let end: jiff::Timestamp = "2200-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(i128::from(TIME_END), end.as_nanosecond());
        assert_eq!(check(0, None), Ok(0));
        assert_eq!(check(-1, None), Err(Reason::TimeOutOfRange));
        assert_eq!(check(TIME_END - 1, None), Ok(TIME_END - 1));
        assert_eq!(check(TIME_END, None), Err(Reason::TimeOutOfRange));
        let now = 1_700_000_000 * SECOND;
        assert_eq!(check(now + AHEAD_MAX - 1, Some(now)), Ok(now + AHEAD_MAX - 1));
        assert_eq!(check(now + AHEAD_MAX, Some(now)), Err(Reason::TimeOutOfRange));
        assert_eq!(check(TIME_END, Some(i64::MAX)), Err(Reason::TimeOutOfRange));
    }
}
