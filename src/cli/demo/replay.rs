//! A recording as a machine: each row of a CSV file is one message.
//!
//! The first column is the time (`2020-03-09 10:14:33`, RFC 3339, or seconds), the others are fields; `;` and `,` both
//! separate. A cell that is not a number is left out. A row whose time cannot be read is an error with its line.

use std::fs;
use std::path::{Path, PathBuf};

use super::machines::Sent;

/// Rows that are read at most: a year at one a second is 31.5 million.
const ROWS_MAX: usize = 4_000_000;

/// A recording in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// The name of the file, without its ending: a level of the topic.
    pub name: String,
    /// Names of the fields.
    pub fields: Vec<String>,
    /// Time in milliseconds and a value for each field.
    pub rows: Vec<(i64, Vec<Option<f64>>)>,
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ReplayError {
    #[error("cannot read the recording {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} has no rows: the first line names the columns, the first column is the time")]
    Empty { path: PathBuf },
    #[error("{path}:{line}: '{text}' is not a time (RFC 3339, 'YYYY-MM-DD hh:mm:ss' or seconds)")]
    Time { path: PathBuf, line: usize, text: String },
    #[error("{path} has more than {ROWS_MAX} rows")]
    TooLong { path: PathBuf },
}

// === impl Recording ===

impl Recording {
    /// Reads a recording.
    pub fn read(path: &Path) -> Result<Recording, ReplayError> {
        let text =
            fs::read_to_string(path).map_err(|source| ReplayError::Read { path: path.to_owned(), source })?;
        let mut lines = text.lines().enumerate();
        let empty = || ReplayError::Empty { path: path.to_owned() };
        let (_, head) = lines.next().ok_or_else(empty)?;
        let separator = if head.contains(';') { ';' } else { ',' };
        let fields: Vec<String> = head.split(separator).skip(1).map(field_name).collect();
        let mut rows = Vec::new();
        for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            if rows.len() == ROWS_MAX {
                return Err(ReplayError::TooLong { path: path.to_owned() });
            }
            let mut cells = line.split(separator);
            let time = cells.next().unwrap_or_default().trim();
            let time_ms = milliseconds(time).ok_or_else(|| ReplayError::Time {
                path: path.to_owned(),
                line: number + 1,
                text: time.to_owned(),
            })?;
            let mut values: Vec<_> = cells.map(number_of).collect();
            values.resize(fields.len(), None);
            rows.push((time_ms, values));
        }
        if rows.is_empty() || fields.is_empty() {
            return Err(empty());
        }
        let name = path.file_stem().map_or_else(|| "recording".into(), |stem| stem.to_string_lossy());
        Ok(Recording { name: field_name(&name), fields, rows })
    }

    /// Row `index` as a message; `None` after the last.
    pub fn message(&self, index: usize) -> Option<Sent> {
        let (time_ms, values) = self.rows.get(index)?;
        Some(self.sent(*time_ms, values))
    }

    /// One message more, far enough behind the last row to close every window.
    pub fn finish(&self, behind_ms: i64) -> Option<Sent> {
        let last = self.rows.iter().map(|row| row.0).max()?;
        let (_, values) = self.rows.last()?;
        let known: Vec<_> = values.iter().map(|value| Some(value.unwrap_or(0.0))).collect();
        Some(Sent { closing: true, ..self.sent(last + behind_ms, &known) })
    }

    fn sent(&self, time_ms: i64, values: &[Option<f64>]) -> Sent {
        let mut payload = format!(r#"{{"ts":{time_ms}"#);
        let mut present = Vec::new();
        for (field, value) in self.fields.iter().zip(values) {
            let Some(value) = value else { continue };
            payload.push_str(&format!(r#","{field}":{value}"#));
            present.push((field.clone(), *value));
        }
        payload.push('}');
        Sent {
            topic: format!("plant/{}/state", self.name),
            payload,
            time_ms,
            values: present,
            closing: false,
        }
    }
}

/// A column's title as a field: letters, digits and `_`.
fn field_name(title: &str) -> String {
    let clean: String =
        title.trim().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if clean.is_empty() { "value".to_owned() } else { clean }
}

fn number_of(cell: &str) -> Option<f64> {
    cell.trim().parse().ok().filter(|value: &f64| value.is_finite())
}

fn milliseconds(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Some((seconds * 1e3) as i64);
    }
    if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
        return Some(stamp.as_millisecond());
    }
    let civil: jiff::civil::DateTime = text.replacen(' ', "T", 1).parse().ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Recording, ReplayError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("valve-1.csv");
        fs::write(&path, text).unwrap();
        Recording::read(&path)
    }

    #[test]
    fn both_separators_and_times_are_read() {
        // Goal: the two shapes of recordings at hand give messages with their times and fields.
        let a = read("datetime;Current;Volume Flow RateRMS\n2020-03-09 10:14:33;1.5;32.0\n").unwrap();
        assert_eq!(
            a.message(0).unwrap().payload,
            r#"{"ts":1583748873000,"Current":1.5,"Volume_Flow_RateRMS":32}"#
        );
        assert_eq!(a.message(0).unwrap().topic, "plant/valve_1/state");
        let b = read("timestamp,value\n2013-12-02 21:15:00,73.967322068\n2013-12-02 21:20:00,\n").unwrap();
        assert_eq!(b.message(0).unwrap().values, vec![("value".to_owned(), 73.967322068)]);
        assert_eq!(b.message(1).unwrap().values, vec![]);
        assert_eq!(b.message(2), None);
    }

    #[test]
    fn what_is_not_a_recording_is_refused_with_its_line() {
        // Goal: the message says where.
        let err = read("t,v\n2013-12-02 21:15:00,1\nyesterday,2\n").unwrap_err().to_string();
        assert!(err.ends_with(
            "valve-1.csv:3: 'yesterday' is not a time (RFC 3339, 'YYYY-MM-DD hh:mm:ss' or seconds)"
        ));
        assert!(matches!(read("").unwrap_err(), ReplayError::Empty { .. }));
    }
}
