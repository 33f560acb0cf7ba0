//! Durations and sizes as people write them: `250ms`, `15m`, `30d`; `256MiB`, `1.6GB`. Pure.

use std::time::Duration;

/// What a duration must look like, for messages.
pub(super) const DURATION_FORM: &str = "a duration such as \"250ms\", \"1s\", \"15m\", \"24h\" or \"30d\"";

/// What a size must look like, for messages.
pub(super) const BYTES_FORM: &str = "a number of bytes or a size such as \"64KiB\", \"256MiB\" or \"1.6GB\"";

const DURATIONS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

/// Reads a whole number with a unit. One unit only: `90m`, not `1h30m`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let (_, millis) = DURATIONS.iter().find(|(name, _)| *name == unit)?;
    let count: u64 = number.parse().ok()?;
    count.checked_mul(*millis).map(Duration::from_millis)
}

/// Reads a number with a unit. A decimal fraction is allowed as long as whole bytes come out of it.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let (_, size) = SIZES.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || number.ends_with('.') || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // 12 digits of a fraction distinguish single bytes of a TB; u128 holds 10^12 times any size below.
    let scale =
        10u128.checked_pow(u32::try_from(fraction.len()).ok()?).filter(|s| *s <= 1_000_000_000_000)?;
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = digits.checked_mul(u128::from(*size))?;
    (scaled % scale == 0).then_some(scaled / scale).and_then(|bytes| u64::try_from(bytes).ok())
}

/// Writes a duration with the largest unit that leaves it whole; `90s` stays `90s`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let fits = DURATIONS
        .iter()
        .find(|(_, unit)| millis >= u128::from(*unit) && millis.is_multiple_of(u128::from(*unit)));
    fits.map_or_else(|| format!("{millis}ms"), |(name, unit)| format!("{}{name}", millis / u128::from(*unit)))
}

/// Writes a size with the largest unit that leaves it whole, binary units first; `1000` is `1kB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    let fits = SIZES.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

fn split_unit(text: &str) -> Option<(&str, &str)> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(at);
    (number.starts_with(|c: char| c.is_ascii_digit())).then_some((number, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_documented_unit() {
        // Goal: the forms of the documentation are read, near misses are not. Method: a table.
        let millis = |text| parse_duration(text).map(|d| d.as_millis());
        assert_eq!(millis("250ms"), Some(250));
        assert_eq!(millis("1s"), Some(1000));
        assert_eq!(millis("15m"), Some(900_000));
        assert_eq!(millis("24h"), Some(86_400_000));
        assert_eq!(millis("30d"), Some(2_592_000_000));
        assert_eq!(millis("0s"), Some(0));
        for wrong in [
            "",
            "s",
            "1",
            "1 s",
            "-1s",
            "1.5s",
            "1sec",
            "1h30m",
            "1µs",
            "99999999999999999999d",
            "9999999999999d",
        ] {
            assert_eq!(millis(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn sizes_are_read_exactly() {
        // Goal: no rounding anywhere. Method: a table with decimals and with what would not be whole bytes.
        assert_eq!(parse_bytes("256MiB"), Some(268_435_456));
        assert_eq!(parse_bytes("1.6GB"), Some(1_600_000_000));
        assert_eq!(parse_bytes("1.64GB"), Some(1_640_000_000));
        assert_eq!(parse_bytes("0.5KiB"), Some(512));
        assert_eq!(parse_bytes("7B"), Some(7));
        for wrong in [
            "",
            "MiB",
            "1",
            ".5MiB",
            "1.MiB",
            "1.5B",
            "-1B",
            "1 MiB",
            "1mib",
            "1.2.3MB",
            "99999999TiB",
            "1.0000000000001TB",
        ] {
            assert_eq!(parse_bytes(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        // Goal: messages and the rendered configuration use the same notation. Method: there and back.
        for millis in [1, 250, 1000, 90_000, 900_000, 86_400_000, 90_001] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }
        for bytes in [1, 1000, 1024, 268_435_456, 1_640_000_000, 123_456_789] {
            assert_eq!(parse_bytes(&show_bytes(bytes)), Some(bytes));
        }
        assert_eq!(show_duration(Duration::ZERO), "0ms");
        assert_eq!(show_duration(Duration::from_secs(90)), "90s");
        assert_eq!(show_bytes(1_640_000_000), "1640MB");
    }
}
