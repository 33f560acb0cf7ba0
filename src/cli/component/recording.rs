//! Readings from a file: a table (CSV) or objects (JSON lines), one series a column or one reading a row.
//!
//! ```text
//! wide   time,line4/temperature [°C],line4/pressure [bar]     {"time": 1764000000, "motor": {"rpm": 1480}}
//! long   time,series,value,unit                               {"time": …, "series": "motor/rpm", "value": 1480}
//! ```
//! The long ones are what `frond recall`, `frond hub` and `frond tail` give. `,`, `;` and tabs part columns, as the first line
//! has them. What is no number is left out, as a decoder leaves it out; a time that cannot be read is an error with its line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::roster::Roster;
use crate::sample::{Nanos, Reading, SECOND, SeriesId, Value};

/// Readings that are read at most: 32 bytes each, 320 MB.
const READINGS_MAX: usize = 10_000_000;

/// Names of the column of times, the one in nanoseconds first.
const TIMES: [&str; 5] = ["time_ns", "time", "ts", "timestamp", "datetime"];

/// What numbers that are times count, since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum TimeUnit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

/// A recording in memory.
#[derive(Debug)]
pub(super) struct Recording {
    /// Its series.
    pub(super) roster: Roster,
    /// Its readings, in the order of the file.
    pub(super) readings: Vec<Reading>,
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub(super) enum RecordingError {
    #[error("cannot read the recording {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error(
        "{} has no readings: a table's first line names its columns, the first of which is the time; a JSON line has \"time\" and numbers",
        path.display()
    )]
    Empty { path: PathBuf },
    #[error("{}:{line}: {why}", path.display())]
    Line { path: PathBuf, line: usize, why: String },
    #[error("{} has more than {READINGS_MAX} readings; cut it", path.display())]
    TooLong { path: PathBuf },
}

/// The columns of a table.
enum Columns {
    /// One series each; the first is the time.
    Wide(Vec<SeriesId>),
    /// Places of time, series, value and unit, and what the time counts.
    Long { time: usize, series: usize, value: usize, unit: Option<usize>, unit_of_time: TimeUnit },
}

/// A file on its way into a recording.
struct Reader<'a> {
    prefix: &'a str,
    unit_of_time: TimeUnit,
    recording: Recording,
    /// Of a table, once its first line has been read.
    columns: Option<(char, Columns)>,
}

// === impl Recording ===

impl Recording {
    /// Reads a file. `prefix` goes before the name of every series; `unit_of_time` is for times that are numbers.
    pub(super) fn read(
        path: &Path,
        prefix: &str,
        unit_of_time: TimeUnit,
    ) -> Result<Recording, RecordingError> {
        let read = |source| RecordingError::Read { path: path.to_owned(), source };
        let file = BufReader::new(File::open(path).map_err(read)?);
        let recording = Recording { roster: Roster::default(), readings: Vec::new() };
        let mut reader = Reader { prefix, unit_of_time, recording, columns: None };
        let mut objects = None;
        for (number, line) in (1..).zip(file.lines()) {
            let line = line.map_err(read)?;
            // A mark of the byte order is no part of the first name.
            let line = line.trim_start_matches('\u{feff}').trim_end();
            if line.is_empty() {
                continue;
            }
            // The first line tells what the others are.
            let taken = match objects.get_or_insert(line.starts_with('{')) {
                true => reader.object(line),
                false => reader.row(line),
            };
            taken.map_err(|why| RecordingError::Line { path: path.to_owned(), line: number, why })?;
            if reader.recording.readings.len() > READINGS_MAX {
                return Err(RecordingError::TooLong { path: path.to_owned() });
            }
        }
        match reader.recording.readings.is_empty() {
            true => Err(RecordingError::Empty { path: path.to_owned() }),
            false => Ok(reader.recording),
        }
    }
}

// === impl Reader ===

impl Reader<'_> {
    /// The number of a series.
    fn series(&mut self, name: &str, unit: &str) -> Result<SeriesId, String> {
        self.recording.roster.number(&format!("{}{name}", self.prefix), unit)
    }

    fn push(&mut self, series: SeriesId, time: Nanos, value: Value) {
        self.recording.readings.push(Reading { series, time, value });
    }

    /// A line of a table; the first is its heading.
    fn row(&mut self, line: &str) -> Result<(), String> {
        let Some((separator, columns)) = self.columns.take() else {
            self.columns = Some(self.heading(line)?);
            return Ok(());
        };
        let cells = cells(line, separator);
        let cell = |at: usize| cells.get(at).map(String::as_str).unwrap_or_default();
        match &columns {
            Columns::Wide(series) => {
                let time = nanoseconds(cell(0), self.unit_of_time)?;
                for (at, series) in (1..).zip(series) {
                    if let Some(value) = value(cell(at)) {
                        self.push(*series, time, value);
                    }
                }
            }
            Columns::Long { time, series, value: at, unit, unit_of_time } => {
                let time = nanoseconds(cell(*time), *unit_of_time)?;
                if let Some(value) = value(cell(*at)) {
                    let series = self.series(cell(*series), unit.map(cell).unwrap_or_default())?;
                    self.push(series, time, value);
                }
            }
        }
        self.columns = Some((separator, columns));
        Ok(())
    }

    fn heading(&mut self, line: &str) -> Result<(char, Columns), String> {
        let separator = ['\t', ';'].into_iter().find(|separator| line.contains(*separator)).unwrap_or(',');
        let titles = cells(line, separator);
        let place = |name: &str| titles.iter().position(|title| title.eq_ignore_ascii_case(name));
        let time = TIMES.iter().find_map(|name| Some((place(name)?, *name)));
        if let (Some((time, named)), Some(series), Some(value)) = (time, place("series"), place("value")) {
            let unit_of_time = if named == "time_ns" { TimeUnit::Ns } else { self.unit_of_time };
            return Ok((separator, Columns::Long { time, series, value, unit: place("unit"), unit_of_time }));
        }
        let mut series = Vec::new();
        for title in titles.iter().skip(1) {
            // `name [unit]`
            let named = title.strip_suffix(']').and_then(|title| title.rsplit_once('['));
            let (name, unit) = named.map_or((title.as_str(), ""), |(name, unit)| (name.trim(), unit.trim()));
            series.push(self.series(name, unit)?);
        }
        Ok((separator, Columns::Wide(series)))
    }

    /// A JSON object.
    fn object(&mut self, line: &str) -> Result<(), String> {
        let object: Map<String, Json> =
            serde_json::from_str(line).map_err(|err| format!("it is no JSON object: {err}"))?;
        if object.get("kind").is_some_and(|kind| kind != "reading") {
            return Ok(());
        }
        let (key, time) = TIMES
            .iter()
            .find_map(|key| Some((*key, object.get(*key)?)))
            .ok_or_else(|| format!("there is none of the keys {}", TIMES.join(", ")))?;
        let unit_of_time = if key == "time_ns" { TimeUnit::Ns } else { self.unit_of_time };
        let text = time.as_str().map_or_else(|| time.to_string(), str::to_owned);
        let time = nanoseconds(&text, unit_of_time)?;
        if let (Some(name), Some(value)) = (object.get("series").and_then(Json::as_str), object.get("value"))
        {
            let unit = object.get("unit").and_then(Json::as_str).unwrap_or_default();
            if let Some(value) = number(value) {
                let series = self.series(name, unit)?;
                self.push(series, time, value);
            }
            return Ok(());
        }
        for (name, value) in &object {
            if !TIMES.contains(&name.as_str()) {
                self.field(name, value, time)?;
            }
        }
        Ok(())
    }

    /// A field with what is in it, named as a decoder would: `a.b.0`.
    fn field(&mut self, name: &str, value: &Json, time: Nanos) -> Result<(), String> {
        match value {
            Json::Object(fields) => {
                fields.iter().try_for_each(|(key, value)| self.field(&format!("{name}.{key}"), value, time))
            }
            Json::Array(items) => {
                (0..).zip(items).try_for_each(|(n, value)| self.field(&format!("{name}.{n}"), value, time))
            }
            value => {
                if let Some(value) = number(value) {
                    let series = self.series(name, "")?;
                    self.push(series, time, value);
                }
                Ok(())
            }
        }
    }
}

/// The cells of a line. A quoted one may hold separators, and quotes as pairs of them.
fn cells(line: &str, separator: char) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let cell = cells.last_mut().expect("there is one from the start");
        match letter {
            '"' if quoted && letters.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' if quoted || cell.trim().is_empty() => quoted = !quoted,
            letter if letter == separator && !quoted => cells.push(String::new()),
            letter => cell.push(letter),
        }
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

fn value(cell: &str) -> Option<Value> {
    if let Ok(whole) = cell.parse() {
        return Some(Value::Int(whole));
    }
    cell.parse().ok().filter(|value: &f64| value.is_finite()).map(Value::Float)
}

fn number(json: &Json) -> Option<Value> {
    match json {
        Json::Bool(truth) => Some(Value::Int(i64::from(*truth))),
        Json::Number(number) => number.as_i64().map(Value::Int).or_else(|| number.as_f64().map(Value::Float)),
        _ => None,
    }
}

/// A time: RFC 3339, `2020-03-09 10:14:33` (UTC), or a number.
fn nanoseconds(text: &str, unit: TimeUnit) -> Result<Nanos, String> {
    let text = text.trim();
    if let Some(time) = exact(text, unit) {
        return Ok(time);
    }
    let whole = |stamp: jiff::Timestamp| {
        i64::try_from(stamp.as_nanosecond())
            .map_err(|_| format!("{text:?} is not between the years 1678 and 2262"))
    };
    if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
        return whole(stamp);
    }
    let civil = text.replacen(' ', "T", 1).parse::<jiff::civil::DateTime>().ok();
    let zoned = civil.and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC).ok());
    zoned.map_or_else(
        || {
            Err(format!(
                "{text:?} is no time: RFC 3339, YYYY-MM-DD hh:mm:ss, or a number (--time says of what)"
            ))
        },
        |zoned| whole(zoned.timestamp()),
    )
}

/// A number of units, to the last digit that a nanosecond has.
fn exact(text: &str, unit: TimeUnit) -> Option<Nanos> {
    let per_unit = match unit {
        TimeUnit::S => SECOND,
        TimeUnit::Ms => 1_000_000,
        TimeUnit::Us => 1_000,
        TimeUnit::Ns => 1,
    };
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(fraction) {
        // `1.5e9` and the like.
        let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
        return Some((number * per_unit as f64) as Nanos);
    }
    let mut time = whole.parse::<i64>().ok()?.checked_mul(per_unit)?;
    let mut worth = per_unit;
    for digit in fraction.bytes() {
        worth /= 10;
        time = time.checked_add(i64::from(digit - b'0') * worth)?;
    }
    Some(sign * time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Vec<(String, String, Nanos, Value)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let recording = Recording::read(&path, "", TimeUnit::S).map_err(|err| err.to_string())?;
        let named = |reading: &Reading| {
            let (name, unit) = recording.roster.named(reading.series);
            (name.to_owned(), unit.to_owned(), reading.time, reading.value)
        };
        Ok(recording.readings.iter().map(named).collect())
    }

    fn row(name: &str, unit: &str, time: Nanos, value: Value) -> (String, String, Nanos, Value) {
        (name.to_owned(), unit.to_owned(), time, value)
    }

    #[test]
    fn wide_and_long_tables_give_the_same_readings() {
        // Goal: every form of the documentation is read, whole numbers to the last digit. Method: the same readings in each.
        let expected = vec![
            row("a/t", "°C", 1_500_000_000, Value::Float(20.5)),
            row("n", "", 1_500_000_000, Value::Int(9_007_199_254_740_993)),
            row("n", "", 2 * SECOND, Value::Int(-1)),
        ];
        for text in [
            "time,a/t [°C],n\n1.5,20.5,9007199254740993\n1970-01-01T00:00:02Z,,-1\n",
            "\u{feff}Date;\"a/t [°C]\"; n \r\n1.5; 20.5 ;9007199254740993\r\n\r\n1970-01-01 00:00:02;warm;-1\r\n",
            "time,time_ns,stream,series,value,unit\nx,1500000000,s,a/t,20.5,°C\nx,1500000000,s,n,9007199254740993,\nx,2000000000,s,n,-1,\n",
            "{\"time_ns\":1500000000,\"series\":\"a/t\",\"value\":20.5,\"unit\":\"°C\"}\n{\"kind\":\"reading\",\"time\":\"1970-01-01T00:00:01.5Z\",\"series\":\"n\",\"value\":9007199254740993}\n{\"kind\":\"alarm\"}\n{\"time\":2,\"series\":\"n\",\"value\":-1}\n",
        ] {
            assert_eq!(read("r", text).as_ref(), Ok(&expected), "{text}");
        }
    }

    #[test]
    fn objects_are_flattened_as_a_decoder_does() {
        // Goal: a payload that a machine sent can be given as it is. Method: nested fields, lists, truths and texts.
        let text = r#"{"ts": 3, "motor": {"rpm": 1480, "on": true, "name": "m"}, "axes": [1.5, 2]}"#;
        let mut found = read("r.jsonl", text).unwrap();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let of = |name, value| row(name, "", 3 * SECOND, value);
        let expected = [
            of("axes.0", Value::Float(1.5)),
            of("axes.1", Value::Int(2)),
            of("motor.on", Value::Int(1)),
            of("motor.rpm", Value::Int(1480)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn times_are_exact() {
        // Goal: kilohertz samples keep their distances. Method: decimals a float would round, in every unit.
        assert_eq!(nanoseconds("1764000000.000000001", TimeUnit::S), Ok(1_764_000_000_000_000_001));
        assert_eq!(nanoseconds("-1.5", TimeUnit::Ms), Ok(-1_500_000));
        assert_eq!(nanoseconds("7.9999", TimeUnit::Us), Ok(7_999));
        assert_eq!(nanoseconds("12", TimeUnit::Ns), Ok(12));
        assert_eq!(nanoseconds("1e3", TimeUnit::S), Ok(1000 * SECOND));
    }

    #[test]
    fn what_is_no_recording_is_refused_with_its_line() {
        // Goal: the message says where and what would be right. Method: one mistake at a time.
        for (text, said) in [
            ("", "has no readings"),
            ("time,a\n", "has no readings"),
            ("time,a\n1,2\nyesterday,3\n", "r:3: \"yesterday\" is no time"),
            ("{\"time\":1,\"a\":1}\n{\"a\":1}\n", "r:2: there is none of the keys time_ns, time"),
            ("{\"time\":1,\"a\":1}\n{\"a\":\n", "r:2: it is no JSON object"),
        ] {
            let error = read("r", text).unwrap_err();
            assert!(error.contains(said), "{error:?} does not say {said:?}");
        }
    }
}
