//! The rows of a block as lines of text: for people, as JSON, or as CSV. Pure.

use jiff::Timestamp;
use serde_json::{Map, Value as Json, json};

use crate::block::{Alarm, Envelope, Rows, SeriesEntry, WindowRow, WireClock};
use crate::sample::{Nanos, Reading, SECOND, SeriesId, Value};

/// How a row becomes a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Human,
    /// A JSON object.
    Json,
    /// Comma-separated values: time, nanoseconds, stream, series, value, unit.
    Csv,
}

/// The heading of a CSV file.
pub const CSV_HEADING: &str = "time,time_ns,stream,series,value,unit";

/// A block with the clock correction that belongs to it.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// The block.
    pub envelope: &'a Envelope,
    /// Nanoseconds to add to its times.
    pub clock_correction: Option<i64>,
}

// === impl Block ===

impl Block<'_> {
    /// One line for each row. `about` is put into every JSON object, and before every line for people.
    pub fn lines(&self, form: Form, about: &Map<String, Json>) -> Vec<String> {
        match &self.envelope.rows {
            Rows::Raw(rows) => rows.iter().map(|row| self.reading(row, form, about)).collect(),
            Rows::Windows { length, rows } => {
                rows.iter().map(|row| self.window(row, *length, form, about)).collect()
            }
            Rows::Alarms(rows) => rows.iter().map(|row| self.alarm(row, form, about)).collect(),
        }
    }

    /// A time of the block, corrected.
    pub fn time(&self, time: Nanos) -> Nanos {
        time.saturating_add(self.clock_correction.unwrap_or(0))
    }

    /// Whose clock the times are of.
    pub fn clock(&self) -> &'static str {
        match (&self.envelope.clock, self.clock_correction) {
            (WireClock::Sensor, _) => "sensor",
            (WireClock::Arrival, _) => "arrival",
            (WireClock::Estimated { .. }, Some(_)) => "corrected",
            (WireClock::Estimated { .. }, None) => "estimated",
        }
    }

    /// Name and unit of a series.
    pub fn series(&self, id: SeriesId) -> (&str, &str) {
        self.envelope.series.get(&id).map_or(("?", ""), |SeriesEntry { name, unit, .. }| (name, unit))
    }

    fn reading(&self, row: &Reading, form: Form, about: &Map<String, Json>) -> String {
        let (series, unit) = self.series(row.series);
        let time = self.time(row.time);
        match form {
            Form::Human => format!("{} {}{series} {} {unit}", rfc3339(time), prefix(about), row.value)
                .trim_end()
                .to_owned(),
            Form::Json => {
                let own = json!({ "kind": "reading", "time": rfc3339(time), "time_ns": time, "value": number(row.value) });
                self.object(row.series, own, about)
            }
            Form::Csv => self.csv(time, row.series, &row.value.to_string()),
        }
    }

    fn window(&self, row: &WindowRow, length: Nanos, form: Form, about: &Map<String, Json>) -> String {
        let (series, unit) = self.series(row.series);
        let start = self.time(row.start);
        let mean = row.sum.as_f64() / f64::from(row.count.max(1));
        match form {
            Form::Human => {
                let marks = [("late", row.late), ("repeated", row.duplicates), ("gap", row.gap)];
                let marks: String =
                    marks.iter().filter(|mark| mark.1 > 0).map(|(name, n)| format!(" {name} {n}")).collect();
                format!(
                    "{} +{}s {}{series} n {} mean {mean:.6} min {} max {} first {} last {} sd {:.6} {unit}{marks}",
                    rfc3339(start),
                    length as f64 / SECOND as f64,
                    prefix(about),
                    row.count,
                    row.min,
                    row.max,
                    row.first,
                    row.last,
                    row.std_dev,
                )
            }
            Form::Json => {
                let own = json!({
                    "kind": "window", "time": rfc3339(start), "time_ns": start, "length_ns": length,
                    "count": row.count, "min": number(row.min), "max": number(row.max), "first": number(row.first),
                    "last": number(row.last), "sum": number(row.sum), "mean": mean, "std_dev": row.std_dev,
                    "late": row.late, "duplicates": row.duplicates, "gap": row.gap,
                });
                self.object(row.series, own, about)
            }
            Form::Csv => self.csv(start, row.series, &mean.to_string()),
        }
    }

    fn alarm(&self, row: &Alarm, form: Form, about: &Map<String, Json>) -> String {
        let (series, _) = self.series(row.series);
        let time = self.time(row.time);
        match form {
            Form::Human => {
                let word = if row.active { "ALARM" } else { "clear" };
                format!(
                    "{} {word} {}{series} {}: {} ({})",
                    rfc3339(time),
                    prefix(about),
                    row.name,
                    row.message,
                    row.value
                )
            }
            Form::Json => {
                let own = json!({
                    "kind": "alarm", "time": rfc3339(time), "time_ns": time, "active": row.active, "name": row.name,
                    "message": row.message, "value": row.value,
                });
                self.object(row.series, own, about)
            }
            Form::Csv => self.csv(time, row.series, &row.value.to_string()),
        }
    }

    fn object(&self, id: SeriesId, own: Json, about: &Map<String, Json>) -> String {
        let mut object = about.clone();
        let (series, unit) = self.series(id);
        object.insert("series".to_owned(), series.into());
        if !unit.is_empty() {
            object.insert("unit".to_owned(), unit.into());
        }
        if let Some(entry) = self.envelope.series.get(&id).filter(|entry| !entry.labels.is_empty()) {
            object.insert("labels".to_owned(), json!(entry.labels));
        }
        object.insert("clock".to_owned(), self.clock().into());
        if let Json::Object(own) = own {
            object.extend(own);
        }
        Json::Object(object).to_string()
    }

    fn csv(&self, time: Nanos, id: SeriesId, value: &str) -> String {
        let (series, unit) = self.series(id);
        format!(
            "{},{time},{},{},{value},{}",
            rfc3339(time),
            quoted(&self.envelope.stream),
            quoted(series),
            quoted(unit)
        )
    }
}

/// A time for people and machines.
pub fn rfc3339(time: Nanos) -> String {
    // 64 bits of nanoseconds reach from 1677 to 2262, and jiff's times much further.
    Timestamp::from_nanosecond(i128::from(time)).map_or_else(|_| time.to_string(), |time| time.to_string())
}

/// A number as JSON has it; integers keep every digit.
fn number(value: Value) -> Json {
    match value {
        Value::Float(value) => json!(value),
        Value::Int(value) => json!(value),
    }
}

/// Gateway and stream before a line for people.
fn prefix(about: &Map<String, Json>) -> String {
    ["gateway", "stream"]
        .iter()
        .filter_map(|key| about.get(*key)?.as_str())
        .map(|text| format!("{text} "))
        .collect()
}

/// A cell of a CSV file.
pub fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn envelope(rows: Rows) -> Envelope {
        let entry = SeriesEntry { name: "motor,1/rpm".into(), unit: "1/min".into(), labels: BTreeMap::new() };
        Envelope {
            stream: "press".into(),
            clock: WireClock::Estimated { boot: "b".into() },
            series: [(SeriesId(1), entry)].into(),
            rows,
        }
    }

    // Goal: the clock correction reaches every form, integers keep their digits, commas are quoted. Method: one reading.
    #[test]
    fn a_reading_is_a_line_in_every_form() {
        let value = Value::Int(9_007_199_254_740_993);
        let envelope = envelope(Rows::Raw(vec![Reading { series: SeriesId(1), time: -SECOND, value }]));
        let block = Block { envelope: &envelope, clock_correction: Some(2 * SECOND) };
        let about: Map<String, Json> = [("gateway".to_owned(), json!("g"))].into_iter().collect();
        assert_eq!(
            block.lines(Form::Human, &about),
            ["1970-01-01T00:00:01Z g motor,1/rpm 9007199254740993 1/min"]
        );
        assert_eq!(
            block.lines(Form::Csv, &about),
            ["1970-01-01T00:00:01Z,1000000000,press,\"motor,1/rpm\",9007199254740993,1/min"]
        );
        let object: Json = serde_json::from_str(&block.lines(Form::Json, &about)[0]).unwrap();
        assert_eq!(object["value"].as_i64(), Some(9_007_199_254_740_993));
        assert_eq!((&object["clock"], &object["gateway"]), (&json!("corrected"), &json!("g")));
    }

    // Goal: the ends of time do not panic. Method: the largest and smallest times with a correction beyond them.
    #[test]
    fn the_ends_of_time_have_a_text() {
        for time in [Nanos::MAX, Nanos::MIN] {
            let envelope =
                envelope(Rows::Raw(vec![Reading { series: SeriesId(9), time, value: Value::Float(0.5) }]));
            let block = Block { envelope: &envelope, clock_correction: Some(time) };
            assert!(!block.lines(Form::Json, &Map::new())[0].is_empty());
        }
    }
}
