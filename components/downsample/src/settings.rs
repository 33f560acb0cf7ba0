//! The options, parsed.

use kit::options::{Pattern, duration, entries, split};

/// All options.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// Which series have windows of how many nanoseconds; the first that fits counts.
    series: Vec<(Pattern, i64)>,
}

// === impl Settings ===

impl Settings {
    /// Parses options. The error is for whoever wrote them.
    pub fn parse(options: &[(String, String)]) -> Result<Settings, String> {
        let mut settings = Settings::default();
        for (name, value) in options {
            if name != "series" {
                return Err(format!("option {name:?} is not known; known is series"));
            }
            for entry in entries(value) {
                let window =
                    split(entry).and_then(|(pattern, window)| Ok((pattern, duration(window.trim())?)));
                let blame = |why| {
                    format!("option \"series\": {why} in {entry:?}; an entry looks like \"*/current: 1s\"")
                };
                settings.series.push(window.map_err(blame)?);
            }
        }
        if settings.series.is_empty() {
            return Err(
                "option \"series\" is missing: which series, and how long a window is, such as \"*: 1s\""
                    .into(),
            );
        }
        Ok(settings)
    }

    /// Nanoseconds of a window of the series of this name; `None` when it passes as it comes.
    pub fn window(&self, series: &str) -> Option<i64> {
        self.series.iter().find(|(pattern, _)| pattern.fits(series)).map(|(_, window)| *window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, value: &str) -> Result<Settings, String> {
        Settings::parse(&[(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn the_first_fitting_pattern_counts() {
        // Goal: special cases go before the general one. Method: two that fit the same name, and a name that fits none.
        let settings = parse("series", "spindle/*: 100ms; */current: 1s").unwrap();
        assert_eq!(settings.window("spindle/current"), Some(100_000_000));
        assert_eq!(settings.window("axis/current"), Some(1_000_000_000));
        assert_eq!(settings.window("axis/position"), None);
    }

    #[test]
    fn a_wrong_option_is_refused_with_what_would_be_right() {
        // Goal: whoever wrote the configuration can mend it from the message. Method: one mistake at a time.
        for (name, value, said) in [
            ("window", "1s", "known is series"),
            ("series", "", "is missing"),
            ("series", "*", "no `:`"),
            ("series", "*: soon", "\"soon\" is not a duration"),
            ("series", "*: 0s", "not between"),
        ] {
            let error = parse(name, value).unwrap_err();
            assert!(error.contains(said), "{name} = {value:?} gave {error:?}");
        }
        assert!(Settings::parse(&[]).unwrap_err().contains("is missing"));
    }
}
