//! The options, parsed: which series go through which line, table and conversion, and what becomes of their names.

use kit::linear::Linear;
use kit::options::{Pattern, entries, split};

use crate::table::{Beyond, Table, point};
use crate::units::{self, Conversion, Unit};

/// Longest unit that the gateway takes.
const UNIT_BYTES_MAX: usize = 64;

/// Series whose unit changes go on under this name, unless the options say another.
const NAME: &str = "*/calibrated";

/// All options.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    lines: Vec<(Pattern, Line)>,
    tables: Vec<(Pattern, Points)>,
    conversions: Vec<(Pattern, Way)>,
    /// What a series of another unit is called; the first `*` stands for the name it came under.
    name: String,
}

/// What becomes of the readings of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Treatment {
    line: Option<Linear>,
    table: Option<Table>,
    conversion: Option<Conversion>,
    /// Name and unit under which they go on; `None` when they stay in their series.
    pub other: Option<(String, String)>,
}

/// Of a `linear` entry.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    linear: Linear,
    unit: Option<String>,
}

/// Of a `table` entry.
#[derive(Debug, Clone, PartialEq)]
struct Points {
    table: Table,
    unit: Option<String>,
}

/// Of a `convert` entry: the units' names, known to be units of one kind if both are given.
#[derive(Debug, Clone, PartialEq)]
struct Way {
    from: Option<String>,
    to: String,
}

// === impl Rules ===

impl Rules {
    /// Parses options, sorted by name as the gateway gives them. The error is for whoever wrote them.
    pub fn parse(options: &[(String, String)]) -> Result<Rules, String> {
        let mut rules = Rules { lines: vec![], tables: vec![], conversions: vec![], name: NAME.to_owned() };
        for (name, value) in options {
            let blame = |entry: &str, why: &str, example: &str| {
                format!("option {name:?}: {why} in {entry:?}; an entry looks like {example:?}")
            };
            match name.split('.').next().unwrap_or_default() {
                "linear" => {
                    for entry in entries(value) {
                        let example = "*/temperature: scale 0.1, offset -40, unit °C";
                        rules.lines.push(line(entry).map_err(|why| blame(entry, &why, example))?);
                    }
                }
                "table" => {
                    for entry in entries(value) {
                        let example = "tank/*/level: 4 = 0, 20 = 4.2, unit m";
                        rules.tables.push(points(entry).map_err(|why| blame(entry, &why, example))?);
                    }
                }
                "convert" => {
                    for entry in entries(value) {
                        rules
                            .conversions
                            .push(way(entry).map_err(|why| blame(entry, &why, "*/pressure: psi to bar"))?);
                    }
                }
                "name" if name == "name" => {
                    if !value.contains('*') {
                        return Err(format!(
                            "option \"name\": {value:?} has no `*`, which stands for the name a reading came under"
                        ));
                    }
                    value.clone_into(&mut rules.name);
                }
                _ => {
                    return Err(format!(
                        "option {name:?} is not known; known are linear, table and convert, with any word behind a dot, and name"
                    ));
                }
            }
        }
        if rules.lines.is_empty() && rules.tables.is_empty() && rules.conversions.is_empty() {
            return Err("there is nothing to do; give linear, table or convert".into());
        }
        Ok(rules)
    }

    /// What becomes of the series of this name and unit; `None` when it passes as it comes. The error says why it does
    /// although an option fits it.
    pub fn treatment(&self, name: &str, unit: &str) -> Result<Option<Treatment>, String> {
        let line = first(&self.lines, name);
        let table = first(&self.tables, name);
        let way = first(&self.conversions, name);
        if line.is_none() && table.is_none() && way.is_none() {
            return Ok(None);
        }
        let meant =
            table.and_then(|table| table.unit.as_deref()).or(line.and_then(|line| line.unit.as_deref()));
        let conversion = way.map(|way| way.from(meant.unwrap_or(unit))).transpose()?;
        let going_out = way.map(|way| way.to.as_str()).or(meant);
        let other = going_out.filter(|going_out| !units::same(going_out, unit) && self.name != "*");
        let other = other.map(|going_out| (self.name.replacen('*', name, 1), going_out.to_owned()));
        Ok(Some(Treatment {
            line: line.map(|line| line.linear),
            table: table.map(|points| points.table.clone()),
            conversion,
            other,
        }))
    }
}

fn first<'a, T>(entries: &'a [(Pattern, T)], name: &str) -> Option<&'a T> {
    entries.iter().find(|(pattern, _)| pattern.fits(name)).map(|(_, what)| what)
}

// === impl Treatment ===

impl Treatment {
    /// What a reading becomes.
    pub fn apply(&self, mut value: f64) -> f64 {
        if let Some(line) = self.line {
            value = line.apply(value);
        }
        if let Some(table) = &self.table {
            value = table.look_up(value);
        }
        if let Some(conversion) = self.conversion {
            value = conversion.apply(value);
        }
        value
    }
}

// === impl Way ===

impl Way {
    /// The way for a series that has this unit.
    fn from(&self, unit: &str) -> Result<Conversion, String> {
        let from = self.from.as_deref().unwrap_or(unit);
        if from.is_empty() {
            return Err(format!(
                "it has no unit to convert to {} from; give its stream one, or write `FROM to {}`",
                self.to, self.to
            ));
        }
        conversion(from, &self.to)
    }
}

fn conversion(from: &str, to: &str) -> Result<Conversion, String> {
    let [from_unit, to_unit] = [from, to].map(|name| {
        Unit::named(name).ok_or_else(|| format!("{name:?} is none of the units {}", units::all()))
    });
    let (from_unit, to_unit) = (from_unit?, to_unit?);
    from_unit
        .to(to_unit)
        .ok_or_else(|| format!("{from:?} is not of one kind with {to:?}, but with {}", from_unit.akin()))
}

fn line(entry: &str) -> Result<(Pattern, Line), String> {
    let (pattern, parts) = split(entry)?;
    let mut line = Line { linear: Linear::default(), unit: None };
    for part in parts.split(',').map(str::trim) {
        match unit(part) {
            Some(unit) => line.unit = Some(unit?),
            None => line.linear.set(part).map_err(|_| {
                format!("{part:?} is none of `scale NUMBER`, `offset NUMBER` and `unit NAME`")
            })?,
        }
    }
    Ok((pattern, line))
}

fn points(entry: &str) -> Result<(Pattern, Points), String> {
    let (pattern, parts) = split(entry)?;
    let (mut points, mut beyond, mut named) = (Vec::new(), Beyond::Extends, None);
    for part in parts.split(',').map(str::trim) {
        match unit(part) {
            Some(unit) => named = Some(unit?),
            None if part == "hold" => beyond = Beyond::Holds,
            None => points.push(point(part)?),
        }
    }
    let mut table = Table::new(points)?;
    table.beyond = beyond;
    Ok((pattern, Points { table, unit: named }))
}

fn way(entry: &str) -> Result<(Pattern, Way), String> {
    let (pattern, units) = split(entry)?;
    let units = units.trim();
    let way = match (units.strip_prefix("to "), units.split_once(" to ")) {
        (Some(to), _) => Way { from: None, to: to.trim().to_owned() },
        (None, Some((from, to))) => Way { from: Some(from.trim().to_owned()), to: to.trim().to_owned() },
        (None, None) => return Err(format!("{units:?} is neither `FROM to TO` nor `to TO`")),
    };
    // A conversion within the target's kind tells whether the target is known.
    conversion(way.from.as_deref().unwrap_or(&way.to), &way.to)?;
    Ok((pattern, way))
}

/// `unit NAME`: any name, since nothing is converted from or to it here.
fn unit(part: &str) -> Option<Result<String, String>> {
    let name = part.strip_prefix("unit")?.strip_prefix(char::is_whitespace)?.trim();
    Some(match name.len() {
        1..=UNIT_BYTES_MAX => Ok(name.to_owned()),
        _ => Err(format!("a unit has 1 to {UNIT_BYTES_MAX} bytes")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<Rules, String> {
        let options: Vec<_> = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Rules::parse(&options)
    }

    #[test]
    fn line_table_and_conversion_follow_each_other() {
        // Goal: the order is that of the documentation, and each is optional. Method: a series that all three fit, one for each.
        let rules = parse(&[
            ("convert", "a: °C to °F; c: bar to kPa"),
            ("linear", "a: scale 0.1; l: offset -1"),
            ("table", "a: 0 = 0, 10 = 100; t: 0 = 5, 1 = 6"),
        ])
        .unwrap();
        let apply = |name, value| rules.treatment(name, "").unwrap().unwrap().apply(value);
        assert_eq!(apply("a", 50.0), 122.0);
        assert_eq!((apply("l", 1.0), apply("t", 1.0), apply("c", 1.0)), (0.0, 6.0, 100.0));
        assert_eq!(rules.treatment("other", "°C"), Ok(None));
    }

    #[test]
    fn the_first_fitting_pattern_of_a_kind_counts() {
        // Goal: special cases go before the general one, option after option. Method: three entries that fit the same name.
        let rules =
            parse(&[("linear", "x/t: scale 2; */t: scale 3"), ("linear.more", "*: scale 4")]).unwrap();
        let scale = |name| rules.treatment(name, "").unwrap().unwrap().apply(1.0);
        assert_eq!((scale("x/t"), scale("y/t"), scale("z")), (2.0, 3.0, 4.0));
    }

    #[test]
    fn a_reading_changes_its_series_when_its_unit_changes() {
        // Goal: no value stands under a unit that is not its own. Method: what goes out, by what came in and what is asked.
        let to = |options: &[(&str, &str)], unit| {
            parse(options).unwrap().treatment("t", unit).unwrap().unwrap().other
        };
        let other = |name: &str, unit: &str| Some((name.to_owned(), unit.to_owned()));
        assert_eq!(to(&[("linear", "t: scale 2")], "bar"), None);
        assert_eq!(to(&[("linear", "t: unit bar")], ""), other("t/calibrated", "bar"));
        assert_eq!(to(&[("linear", "t: unit bar")], "bar"), None);
        assert_eq!(to(&[("convert", "t: to °F")], "°C"), other("t/calibrated", "°F"));
        assert_eq!(to(&[("convert", "t: °C to °F")], "degF"), None);
        assert_eq!(to(&[("convert", "t: °C to °F"), ("name", "*")], ""), None);
        assert_eq!(to(&[("convert", "t: °C to °F"), ("name", "si/*")], ""), other("si/t", "°F"));
        let chained =
            [("convert", "t: to mm"), ("linear", "t: unit V"), ("table", "t: 0 = 0, 1 = 2, unit m")];
        assert_eq!(to(&chained, "mA"), other("t/calibrated", "mm"));
        assert_eq!(parse(&chained).unwrap().treatment("t", "mA").unwrap().unwrap().apply(0.5), 1000.0);
    }

    #[test]
    fn a_series_without_a_fitting_unit_is_left_alone_and_named() {
        // Goal: no guess is made. Method: no unit, an unknown one, one of another kind.
        let rules = parse(&[("convert", "*: to bar")]).unwrap();
        for (unit, said) in
            [("", "no unit to convert to bar from"), ("bra", "\"bra\" is none of"), ("°C", "not of one kind")]
        {
            let error = rules.treatment("t", unit).unwrap_err();
            assert!(error.contains(said), "{unit:?} gave {error:?}");
        }
    }

    #[test]
    fn a_wrong_option_is_refused_with_what_would_be_right() {
        // Goal: whoever wrote the configuration can mend it from the message. Method: one mistake at a time.
        for (name, value, said) in [
            ("calibrate", "a: scale 2", "known are linear, table and convert"),
            ("name.x", "*/y", "is not known"),
            ("name", "fixed", "has no `*`"),
            ("linear", "a: 2", "none of `scale NUMBER`"),
            ("linear", "a scale 2", "no `:`"),
            ("linear", "a: unit ", "none of `scale NUMBER`"),
            ("table", "a: 4 = 0", "2 to 256 points, this one has 1"),
            ("table", "a: 4 = 0, 4 = 1", "points 1 and 2 are for the same"),
            ("table", "a: 4 : 0", "\"0\" is not `RAW = VALUE`"),
            ("convert", "a: bar", "neither `FROM to TO` nor `to TO`"),
            ("convert", "a: bar to parsec", "\"parsec\" is none of the units degC"),
            ("convert", "a: to parsec", "\"parsec\" is none of"),
            ("convert", "a: bar to °C", "not of one kind with \"°C\", but with Pa, hPa"),
        ] {
            let error = parse(&[(name, value)]).unwrap_err();
            assert!(error.contains(said), "{name} = {value:?} gave {error:?}");
        }
        assert!(parse(&[("name", "*/x")]).unwrap_err().contains("nothing to do"));
        assert!(parse(&[("linear", " ; ")]).unwrap_err().contains("nothing to do"));
    }
}
