//! Recorded series, from a folder outside of the repository.

use std::path::{Path, PathBuf};

use frond::sample::{DoorId, Message, Nanos, Reading, SeriesId, StreamId, Timeline, Value};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Columns of a recording that are not measured: SKAB's labels.
const LABELS: [&str; 2] = ["anomaly", "changepoint"];

/// Every file's readings, sorted by series and time; nothing when `FROND_DATA` is not set.
pub fn series() -> Vec<(String, Vec<Reading>)> {
    let Some(folder) = std::env::var_os("FROND_DATA").map(PathBuf::from) else { return Vec::new() };
    let mut all = Vec::new();
    for (part, separator) in [("skab", ';'), ("nab", ',')] {
        let Ok(files) = std::fs::read_dir(folder.join(part)) else { continue };
        let files = files.filter_map(Result::ok).map(|file| file.path());
        let mut files: Vec<PathBuf> =
            files.filter(|path| path.extension().is_some_and(|end| end == "csv")).collect();
        files.sort();
        for file in files {
            let name =
                file.file_stem().unwrap_or_default().to_string_lossy().chars().take(20).collect::<String>();
            all.push((format!("{part} {name}"), readings(&file, separator)));
        }
    }
    all
}

/// The same as messages: all that has one time is one message, as an object with fields would be; a commit for about
/// every `commit` readings.
pub fn commits(readings: &[Reading], commit: usize) -> Vec<Vec<Message>> {
    let mut sorted = readings.to_vec();
    sorted.sort_by_key(|reading| (reading.time, reading.series));
    let mut commits = vec![Vec::new()];
    let mut held = 0;
    for (index, own) in sorted.chunk_by(|a, b| a.time == b.time).enumerate() {
        if held >= commit {
            commits.push(Vec::new());
            held = 0;
        }
        held += own.len();
        commits.last_mut().expect("begun with one").push(Message {
            door: DoorId(0),
            ticket: index as u64 + 1,
            session: frond::sample::SessionId::NONE,
            pkid: (index % usize::from(u16::MAX)) as u16 + 1,
            stream: StreamId(1),
            timeline: Timeline::Sensor,
            readings: own.to_vec(),
        });
    }
    commits
}

fn readings(file: &Path, separator: char) -> Vec<Reading> {
    let text = std::fs::read_to_string(file).expect("a readable file");
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(separator).collect();
    let mut readings = Vec::new();
    for line in lines {
        let mut fields = line.split(separator);
        let Some(time) = fields.next().and_then(time) else { continue };
        for (column, field) in (1..).zip(fields) {
            if LABELS.contains(&header[column]) {
                continue;
            }
            if let Some(value) = value(field) {
                readings.push(Reading { series: SeriesId(column as u32), time, value });
            }
        }
    }
    readings.sort_by_key(|reading| (reading.series, reading.time));
    readings
}

fn time(text: &str) -> Option<Nanos> {
    let time = text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?;
    Nanos::try_from(time.timestamp().as_nanosecond()).ok()
}

fn value(text: &str) -> Option<Value> {
    text.parse().map(Value::Int).or_else(|_| text.parse().map(Value::Float)).ok()
}
