//! The options, parsed: which series are calibrated how, and which limits they have.

/// Longest name of an alarm that the gateway takes whole.
const NAME_BYTES_MAX: usize = 64;

/// All options.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules {
    /// First match counts, option after option.
    pub calibrations: Vec<(Pattern, Linear)>,
    /// One for each `high…` and `low…` option.
    pub alarms: Vec<AlarmRule>,
}

/// `value * scale + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Linear {
    /// Factor.
    pub scale: f64,
    /// Added after.
    pub offset: f64,
}

/// One `high…` or `low…` option.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmRule {
    /// The option's name, which is the alarm's.
    pub name: String,
    /// Which side of the limit is bad.
    pub side: Side,
    /// First match counts.
    pub entries: Vec<(Pattern, Limit)>,
}

/// Which side of a limit is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Above.
    High,
    /// Below.
    Low,
}

/// A limit with its hysteresis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// Beyond this the alarm is raised.
    pub at: f64,
    /// How far back a value has to be to clear it; 0 or more.
    pub hysteresis: f64,
}

/// Text in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

// === impl Rules ===

impl Rules {
    /// Parses options, sorted by name as the gateway gives them. The error is for whoever wrote them.
    pub fn parse(options: &[(String, String)]) -> Result<Rules, String> {
        let mut rules = Rules::default();
        for (name, value) in options {
            let entries = || value.split(';').map(str::trim).filter(|entry| !entry.is_empty());
            match name.split('.').next().unwrap_or_default() {
                "calibrate" => {
                    for entry in entries() {
                        rules.calibrations.push(calibration(entry).map_err(|why| blame(name, entry, &why))?);
                    }
                }
                kind @ ("high" | "low") => {
                    if name.len() > NAME_BYTES_MAX {
                        return Err(format!(
                            "option {name:?}: its name is longer than {NAME_BYTES_MAX} bytes"
                        ));
                    }
                    let side = if kind == "high" { Side::High } else { Side::Low };
                    let entries = entries()
                        .map(|entry| limit(entry).map_err(|why| blame(name, entry, &why)))
                        .collect::<Result<Vec<_>, _>>()?;
                    rules.alarms.push(AlarmRule { name: name.clone(), side, entries });
                }
                _ => {
                    return Err(format!(
                        "option {name:?} is not known; known are calibrate, high and low, with any word behind a dot"
                    ));
                }
            }
        }
        if options.is_empty() {
            return Err("no option is given, so there is nothing to do; give calibrate, high or low".into());
        }
        Ok(rules)
    }

    /// How the series of this name is calibrated.
    pub fn calibration(&self, series: &str) -> Option<Linear> {
        self.calibrations.iter().find(|(pattern, _)| pattern.fits(series)).map(|(_, linear)| *linear)
    }
}

// === impl AlarmRule ===

impl AlarmRule {
    /// The limit that counts for the series of this name.
    pub fn limit(&self, series: &str) -> Option<Limit> {
        self.entries.iter().find(|(pattern, _)| pattern.fits(series)).map(|(_, limit)| *limit)
    }
}

// === impl Limit ===

impl Limit {
    /// What `value` does to an alarm: `Some(true)` raises it, `Some(false)` clears it.
    pub fn judge(self, side: Side, active: bool, value: f64) -> Option<bool> {
        let (beyond, back) = match side {
            Side::High => (value > self.at, value <= self.at - self.hysteresis),
            Side::Low => (value < self.at, value >= self.at + self.hysteresis),
        };
        match active {
            false if beyond => Some(true),
            true if back => Some(false),
            _ => None,
        }
    }

    /// The value at which a raised alarm is cleared.
    pub fn back_at(self, side: Side) -> f64 {
        match side {
            Side::High => self.at - self.hysteresis,
            Side::Low => self.at + self.hysteresis,
        }
    }
}

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

fn calibration(entry: &str) -> Result<(Pattern, Linear), String> {
    let (pattern, numbers) = split(entry)?;
    let mut linear = Linear { scale: 1.0, offset: 0.0 };
    for part in numbers.split(',').map(str::trim) {
        match part.split_once(char::is_whitespace) {
            Some(("scale", n)) => linear.scale = number(n)?,
            Some(("offset", n)) => linear.offset = number(n)?,
            _ => return Err(format!("{part:?} is neither `scale NUMBER` nor `offset NUMBER`")),
        }
    }
    Ok((pattern, linear))
}

fn limit(entry: &str) -> Result<(Pattern, Limit), String> {
    let (pattern, numbers) = split(entry)?;
    let mut parts = numbers.split(',').map(str::trim);
    let at = number(parts.next().unwrap_or_default())?;
    let mut hysteresis = 0.0;
    for part in parts {
        match part.split_once(char::is_whitespace) {
            Some(("hysteresis", n)) => hysteresis = number(n)?,
            _ => return Err(format!("{part:?} is not `hysteresis NUMBER`")),
        }
    }
    if hysteresis < 0.0 {
        return Err("a hysteresis is not negative".into());
    }
    Ok((pattern, Limit { at, hysteresis }))
}

/// The last colon parts them: names may contain colons, numbers do not.
fn split(entry: &str) -> Result<(Pattern, &str), String> {
    let (pattern, numbers) = entry.rsplit_once(':').ok_or("there is no `:` behind the pattern")?;
    Ok((Pattern::new(pattern.trim()), numbers))
}

fn number(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(n) if n.is_finite() => Ok(n),
        _ => Err(format!("{:?} is not a number", text.trim())),
    }
}

fn blame(option: &str, entry: &str, why: &str) -> String {
    let example = if option.starts_with("calibrate") {
        "*/temperature: scale 0.1, offset -40"
    } else {
        "*/temperature: 80, hysteresis 2"
    };
    format!("option {option:?}: {why} in {entry:?}; an entry looks like {example:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

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
    fn the_first_fitting_pattern_of_an_option_counts() {
        // Goal: special cases go before the general one. Method: two entries that fit the same name.
        let rules = Rules::parse(&options(&[
            ("high.critical", "line4/*: 90; *: 95, hysteresis 5"),
            ("low", "x: -1.5e1"),
        ]))
        .unwrap();
        assert_eq!(rules.alarms[0].limit("line4/t"), Some(Limit { at: 90.0, hysteresis: 0.0 }));
        assert_eq!(rules.alarms[0].limit("line5/t"), Some(Limit { at: 95.0, hysteresis: 5.0 }));
        assert_eq!(rules.alarms[1].limit("x"), Some(Limit { at: -15.0, hysteresis: 0.0 }));
        assert_eq!(rules.alarms[1].limit("y"), None);
    }

    #[test]
    fn a_wrong_option_is_refused_with_what_would_be_right() {
        // Goal: whoever wrote the configuration can mend it from the message. Method: one mistake at a time.
        for (name, value, said) in [
            ("hihg", "a: 1", "\"hihg\" is not known"),
            ("high", "a 1", "no `:`"),
            ("high", "a: warm", "\"warm\" is not a number"),
            ("high", "a: inf", "\"inf\" is not a number"),
            ("high", "a: 1, hysteresis -1", "not negative"),
            ("low", "a: 1, hyst 2", "\"hyst 2\" is not `hysteresis NUMBER`"),
            ("calibrate", "a: 2", "neither `scale NUMBER`"),
        ] {
            let error = Rules::parse(&options(&[(name, value)])).unwrap_err();
            assert!(error.contains(said), "{name} = {value:?} gave {error:?}");
        }
        assert!(Rules::parse(&[]).unwrap_err().contains("nothing to do"));
    }

    #[test]
    fn hysteresis_holds_an_alarm_until_the_value_is_well_back() {
        // Goal: both edges on both sides, at the limit itself and just off it. Method: a table.
        let limit = Limit { at: 10.0, hysteresis: 2.0 };
        for (side, active, value, expected) in [
            (Side::High, false, 10.0, None),
            (Side::High, false, 10.1, Some(true)),
            (Side::High, true, 8.1, None),
            (Side::High, true, 8.0, Some(false)),
            (Side::Low, false, 10.0, None),
            (Side::Low, false, 9.9, Some(true)),
            (Side::Low, true, 11.9, None),
            (Side::Low, true, 12.0, Some(false)),
        ] {
            assert_eq!(limit.judge(side, active, value), expected, "{side:?} {active} {value}");
        }
    }
}
