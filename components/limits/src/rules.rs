//! The options, parsed: which series are calibrated how, and which limits they have.

use kit::linear::Linear;
use kit::options::{Pattern, duration, entries, number, split};

/// Longest name of an alarm that the gateway takes whole.
const NAME_BYTES_MAX: usize = 64;

/// All options.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules {
    /// First match counts, option after option.
    pub calibrations: Vec<(Pattern, Linear)>,
    /// One for each `high…`, `low…`, `rise…` and `fall…` option.
    pub alarms: Vec<AlarmRule>,
}

/// One `high…`, `low…`, `rise…` or `fall…` option.
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
    /// Beyond this the alarm is raised. Of a fall it is negative.
    pub at: f64,
    /// How far back a value has to be to clear it; 0 or more.
    pub hysteresis: f64,
    /// What is held against it.
    pub of: Measure,
}

/// What is held against a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// The value.
    Value,
    /// By how much the value changes in so many nanoseconds, 1 at least.
    Change {
        /// Nanoseconds.
        over: i64,
    },
}

// === impl Rules ===

impl Rules {
    /// Parses options, sorted by name as the gateway gives them. The error is for whoever wrote them.
    pub fn parse(options: &[(String, String)]) -> Result<Rules, String> {
        let mut rules = Rules::default();
        for (name, value) in options {
            match name.split('.').next().unwrap_or_default() {
                "calibrate" => {
                    for entry in entries(value) {
                        rules.calibrations.push(calibration(entry).map_err(|why| blame(name, entry, &why))?);
                    }
                }
                kind @ ("high" | "low" | "rise" | "fall") => {
                    if name.len() > NAME_BYTES_MAX {
                        return Err(format!(
                            "option {name:?}: its name is longer than {NAME_BYTES_MAX} bytes"
                        ));
                    }
                    let side = if matches!(kind, "high" | "rise") { Side::High } else { Side::Low };
                    let entries = entries(value)
                        .map(|entry| limit(kind, entry).map_err(|why| blame(name, entry, &why)))
                        .collect::<Result<Vec<_>, _>>()?;
                    rules.alarms.push(AlarmRule { name: name.clone(), side, entries });
                }
                _ => {
                    return Err(format!(
                        "option {name:?} is not known; known are calibrate, high, low, rise and fall, with any word behind a dot"
                    ));
                }
            }
        }
        if options.is_empty() {
            return Err(
                "no option is given, so there is nothing to do; give calibrate, high, low, rise or fall"
                    .into(),
            );
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

fn calibration(entry: &str) -> Result<(Pattern, Linear), String> {
    let (pattern, numbers) = split(entry)?;
    let mut linear = Linear::default();
    for part in numbers.split(',').map(str::trim) {
        linear.set(part)?;
    }
    Ok((pattern, linear))
}

fn limit(kind: &str, entry: &str) -> Result<(Pattern, Limit), String> {
    let (pattern, numbers) = split(entry)?;
    let mut parts = numbers.split(',').map(str::trim);
    let first = parts.next().unwrap_or_default();
    let (at, of) = match kind {
        "rise" | "fall" => change(kind, first)?,
        _ => (number(first)?, Measure::Value),
    };
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
    Ok((pattern, Limit { at, hysteresis, of }))
}

/// `5 per 10s`: the limit of a change, and in what time.
fn change(kind: &str, text: &str) -> Result<(f64, Measure), String> {
    let (by, over) =
        text.split_once(" per ").ok_or_else(|| format!("{text:?} is not `NUMBER per DURATION`"))?;
    let by = number(by)?;
    if by <= 0.0 {
        return Err("a change is above 0; rise and fall say which way".into());
    }
    let by = if kind == "fall" { -by } else { by };
    Ok((by, Measure::Change { over: duration(over.trim())? }))
}

fn blame(option: &str, entry: &str, why: &str) -> String {
    let example = match option.split('.').next() {
        Some("calibrate") => "*/temperature: scale 0.1, offset -40",
        Some("rise" | "fall") => "*/temperature: 5 per 10s, hysteresis 1",
        _ => "*/temperature: 80, hysteresis 2",
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
    fn the_first_fitting_pattern_of_an_option_counts() {
        // Goal: special cases go before the general one. Method: two entries that fit the same name.
        let rules = Rules::parse(&options(&[
            ("high.critical", "line4/*: 90; *: 95, hysteresis 5"),
            ("low", "x: -1.5e1"),
        ]))
        .unwrap();
        assert_eq!(
            rules.alarms[0].limit("line4/t"),
            Some(Limit { at: 90.0, hysteresis: 0.0, of: Measure::Value })
        );
        assert_eq!(
            rules.alarms[0].limit("line5/t"),
            Some(Limit { at: 95.0, hysteresis: 5.0, of: Measure::Value })
        );
        assert_eq!(
            rules.alarms[1].limit("x"),
            Some(Limit { at: -15.0, hysteresis: 0.0, of: Measure::Value })
        );
        assert_eq!(rules.alarms[1].limit("y"), None);
    }

    #[test]
    fn a_change_has_a_size_and_a_time() {
        // Goal: rise and fall mean what the documentation says. Method: every unit of time, both ways.
        let options = options(&[
            ("fall", "t: 2.5 per 500ms, hysteresis 1"),
            ("rise", "a: 1 per 10s; b: 1 per 5m; c: 1 per 1h"),
        ]);
        let rules = Rules::parse(&options).unwrap();
        let change = |over| Measure::Change { over };
        assert_eq!(
            rules.alarms[0].limit("t"),
            Some(Limit { at: -2.5, hysteresis: 1.0, of: change(500_000_000) })
        );
        assert_eq!(rules.alarms[0].side, Side::Low);
        let over = ["a", "b", "c"].map(|series| rules.alarms[1].limit(series).unwrap().of);
        assert_eq!(over, [change(10_000_000_000), change(300_000_000_000), change(3_600_000_000_000)]);
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
            ("rise", "a: 5", "\"5\" is not `NUMBER per DURATION`"),
            ("rise", "a: 5 per 10", "\"10\" is not a duration"),
            ("rise", "a: 5 per 0s", "not between 1ms and 24h"),
            ("fall.fast", "a: 5 per 9999999999h", "not between 1ms and 24h"),
            ("fall", "a: -5 per 10s", "a change is above 0"),
        ] {
            let error = Rules::parse(&options(&[(name, value)])).unwrap_err();
            assert!(error.contains(said), "{name} = {value:?} gave {error:?}");
        }
        assert!(Rules::parse(&[]).unwrap_err().contains("nothing to do"));
    }

    #[test]
    fn hysteresis_holds_an_alarm_until_the_value_is_well_back() {
        // Goal: both edges on both sides, at the limit itself and just off it. Method: a table.
        let limit = Limit { at: 10.0, hysteresis: 2.0, of: Measure::Value };
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
