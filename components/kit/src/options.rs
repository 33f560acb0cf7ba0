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

/// A finite number.
pub fn number(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(n) if n.is_finite() => Ok(n),
        _ => Err(format!("{:?} is not a number", text.trim())),
    }
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
