//! What the options of the components here have in common: lists of `PATTERN: SAYING` with `;` between them, in which the
//! first pattern that fits the name of a series counts.
//!
//! Errors are sentences for whoever wrote the option.

/// Longest duration an option takes: a day.
const DURATION_MAX: i64 = 86_400_000_000_000;

/// Text in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

// === impl Pattern ===

impl Pattern {
    /// A pattern as written.
    pub fn new(text: &str) -> Pattern {
        Pattern(text.to_owned())
    }

    /// Whether the whole of `name` fits.
    pub fn fits(&self, name: &str) -> bool {
        let mut pieces = self.0.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        // Taking each piece at its first place leaves the most for those behind it.
        for piece in pieces {
            match rest.find(piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

/// The entries of an option, without the empty ones.
pub fn entries(value: &str) -> impl Iterator<Item = &str> {
    value.split(';').map(str::trim).filter(|entry| !entry.is_empty())
}

/// Parts a pattern from what is said about the series that fit it. The last colon does: names may contain colons, numbers do not.
pub fn split(entry: &str) -> Result<(Pattern, &str), String> {
    let (pattern, numbers) = entry.rsplit_once(':').ok_or("there is no `:` behind the pattern")?;
    Ok((Pattern::new(pattern.trim()), numbers))
}

/// A finite number: `-40`, `0.1`, `6.2e-3`.
//
// The standard library's parser would be a ninth of a component: it rounds correctly whatever the number of digits. This one
// does so up to 2^53 and 22 decimals, which options stay below, and is off by the last bits beyond.
pub fn number(text: &str) -> Result<f64, String> {
    let text = text.trim();
    decimal(text).filter(|n| n.is_finite()).ok_or_else(|| format!("{text:?} is not a number"))
}

fn decimal(text: &str) -> Option<f64> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (mut mantissa, mut power) = (0_u64, 0_i32);
    let (mut point, mut some) = (false, false);
    let mut rest = digits;
    while let [byte, more @ ..] = rest {
        match byte {
            b'0'..=b'9' => {
                some = true;
                // Digits beyond the nineteenth do not count, but for the place of the point.
                match mantissa.checked_mul(10).and_then(|tens| tens.checked_add(u64::from(byte - b'0'))) {
                    Some(longer) if power <= 0 => {
                        mantissa = longer;
                        power -= i32::from(point);
                    }
                    _ => power += i32::from(!point),
                }
            }
            b'.' if !point => point = true,
            _ => break,
        }
        rest = more;
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent: i16 = std::str::from_utf8(exponent).ok()?.parse().ok()?;
        (power, rest) = (power + i32::from(exponent), &[]);
    }
    if !some || !rest.is_empty() {
        return None;
    }
    let value = scaled(mantissa as f64, power);
    Some(if negative { -value } else { value })
}

/// By a power of ten. Up to 10^22 they are floats without rounding.
fn scaled(mut value: f64, mut power: i32) -> f64 {
    const EXACT: i32 = 22;
    let ten_to = |power: i32| (0..power).fold(1.0, |product, _| product * 10.0);
    while power != 0 && value != 0.0 && value.is_finite() {
        let step = power.clamp(-EXACT, EXACT);
        value = if step < 0 { value / ten_to(-step) } else { value * ten_to(step) };
        power -= step;
    }
    value
}

/// Nanoseconds of `500ms`, `10s`, `5m` or `1h`.
pub fn duration(text: &str) -> Result<i64, String> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (count, unit) = text.split_at(unit);
    let unit = match unit {
        "ms" => 1_000_000_i64,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(format!("{text:?} is not a duration such as 500ms, 10s, 5m or 1h")),
    };
    let count: i64 = count
        .trim()
        .parse()
        .map_err(|_| format!("{text:?} is not a duration such as 500ms, 10s, 5m or 1h"))?;
    match count.checked_mul(unit) {
        Some(span @ 1..=DURATION_MAX) => Ok(span),
        _ => Err(format!("{text:?} is not between 1ms and 24h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        // Goal: patterns mean what the documentation says. Method: pairs that fit and pairs that do not.
        let fits = |pattern: &str, name: &str| Pattern::new(pattern).fits(name);
        for (pattern, name) in [
            ("*", ""),
            ("*", "a/b"),
            ("a", "a"),
            ("a*", "a"),
            ("*/t", "line/1/t"),
            ("tank/*/level", "tank/1/2/level"),
            ("*a*b", "aab"),
            ("*ab*ab", "abab"),
            ("a:b", "a:b"),
        ] {
            assert!(fits(pattern, name), "{pattern} should fit {name}");
        }
        for (pattern, name) in
            [("", "a"), ("a", "ab"), ("a", "ba"), ("*/t", "t"), ("*ab*ab", "ab"), ("a*a", "a"), ("A", "a")]
        {
            assert!(!fits(pattern, name), "{pattern} should not fit {name}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_standard_library() {
        // Goal: nobody's limit is off. Method: what people write, compared bit by bit; longer ones by the last bits; no numbers.
        for text in [
            "0",
            "-0",
            "7",
            "+7",
            "-40",
            "0.1",
            ".5",
            "5.",
            "1e3",
            "1E-3",
            "6.2e-3",
            "-459.67",
            "1480",
            "0.30000000000000004",
            "9007199254740993",
            "6894.757293168361",
            "0.000000000000000000001",
            "1e22",
            "1e-22",
            "123456789.123456",
        ] {
            let expected: f64 = text.parse().unwrap();
            let found = number(text).unwrap();
            let ulps = found.to_bits().abs_diff(expected.to_bits());
            assert!(ulps <= u64::from(text.len() > 16), "{text}: {found} instead of {expected}");
        }
        for n in 0..20_000_i32 {
            for text in
                [format!("{}", f64::from(n) / 1000.0), format!("{n}e-{}", n % 20), format!("-{n}.{n}")]
            {
                assert_eq!(
                    number(&text).map(f64::to_bits),
                    Ok(text.parse::<f64>().unwrap().to_bits()),
                    "{text}"
                );
            }
        }
        for text in [
            "1.7976931348623157e308",
            "5e-324",
            "123456789012345678901234567890.5",
            "0.1234567890123456789012345",
        ] {
            let (expected, found) = (text.parse::<f64>().unwrap(), number(text).unwrap());
            assert!((found / expected - 1.0).abs() < 1e-14, "{text}: {found} instead of {expected}");
        }
        for text in [
            "", "-", ".", "e3", "1e", "1e1.5", "1.2.3", "1,5", "0x1", "inf", "NaN", "1e999", "1e99999",
            "--1", "1 2",
        ] {
            assert!(number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        // Goal: a slip of the pen is no hour instead of a second. Method: every unit, both ends, and what is none.
        let of = |text| duration(text).ok();
        assert_eq!(of("1ms"), Some(1_000_000));
        assert_eq!(of("90s"), Some(90_000_000_000));
        assert_eq!(of("2m"), Some(120_000_000_000));
        assert_eq!(of("24h"), Some(DURATION_MAX));
        for text in ["", "10", "s", "0s", "-1s", "25h", "1.5s", "10 parsecs", "9223372036854775808ms"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
