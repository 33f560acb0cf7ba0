//! What people see: blocks, rows, bytes.

use serde_json::{Value as Json, json};

use crate::block::{Envelope, Rows, WireClock};
use crate::sample::{Nanos, Value};

/// Bytes for people.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} GiB")
}

/// A time for people: RFC 3339 in UTC.
pub fn time(nanos: Nanos) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(nanos)).map_or_else(|_| format!("{nanos} ns"), |t| t.to_string())
}

/// A block as JSON, times corrected.
pub fn envelope(envelope: &Envelope, correction: Option<i64>) -> Json {
    let at = |nanos: Nanos| time(nanos.saturating_add(correction.unwrap_or(0)));
    let name = |id| envelope.series.get(&id).map_or("?", |entry| entry.name.as_str());
    let number = |value: Value| match value {
        Value::Float(v) => json!(v),
        Value::Int(v) => json!(v),
    };
    let rows: Vec<Json> = match &envelope.rows {
        Rows::Raw(rows) => rows
            .iter()
            .map(|row| json!({ "series": name(row.series), "time": at(row.time), "value": number(row.value) }))
            .collect(),
        Rows::Windows { rows, .. } => rows
            .iter()
            .map(|row| {
                json!({
                    "series": name(row.series), "start": at(row.start), "count": row.count,
                    "min": number(row.min), "max": number(row.max), "mean": row.mean(),
                    "first": number(row.first), "last": number(row.last), "sum": number(row.sum),
                    "std_dev": row.std_dev, "late": row.late, "duplicates": row.duplicates, "gap": row.gap,
                })
            })
            .collect(),
        Rows::Alarms(alarms) => alarms
            .iter()
            .map(|alarm| {
                json!({
                    "series": name(alarm.series), "time": at(alarm.time), "alarm": alarm.name,
                    "active": alarm.active, "message": alarm.message, "value": alarm.value,
                })
            })
            .collect(),
    };
    let clock = match (&envelope.clock, correction) {
        (WireClock::Sensor, _) => "sensor",
        (WireClock::Arrival, _) => "arrival",
        (WireClock::Estimated { .. }, Some(_)) => "corrected",
        (WireClock::Estimated { .. }, None) => "estimated",
    };
    json!({ "stream": envelope.stream, "clock": clock, "rows": rows })
}

/// One output of `frond buffer peek`.
pub fn output(output: &Json) -> String {
    let mut text = format!(
        "{} {} of stream {}, {} bytes\n",
        output["lane"].as_str().unwrap_or("?"),
        output["seq"],
        output["block"]["stream"].as_str().unwrap_or("?"),
        output["bytes"]
    );
    for row in output["block"]["rows"].as_array().into_iter().flatten() {
        text.push_str(&format!("  {row}\n"));
    }
    text
}
