//! A stand-in for the block format until it is merged: the envelope as JSON. To be removed then.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Alarm, Envelope, Rows, SeriesEntry, WindowRow, WireClock};
use crate::sample::{Reading, SeriesId, Value};

/// The bytes are no envelope.
#[derive(Debug, thiserror::Error)]
#[error("not an envelope")]
pub struct DecodeError(#[source] serde_json::Error);

type Window = ((SeriesId, i64, u32), [Value; 5], (f32, u32, u32, u32));

#[derive(Serialize, Deserialize)]
enum Body {
    Raw(Vec<(SeriesId, i64, Value)>),
    Windows(i64, Vec<Window>),
    Alarms(Vec<Alarm>),
}

type Whole = (String, WireClock, BTreeMap<u32, SeriesEntry>, Body);

/// Encodes.
pub fn encode_envelope(envelope: &Envelope) -> Vec<u8> {
    let body = match &envelope.rows {
        Rows::Raw(rows) => Body::Raw(rows.iter().map(|row| (row.series, row.time, row.value)).collect()),
        Rows::Alarms(rows) => Body::Alarms(rows.clone()),
        Rows::Windows { length, rows } => {
            let window = |row: &WindowRow| {
                let head = (row.series, row.start, row.count);
                let values = [row.min, row.max, row.first, row.last, row.sum];
                (head, values, (row.std_dev, row.late, row.duplicates, row.gap))
            };
            Body::Windows(*length, rows.iter().map(window).collect())
        }
    };
    let series = envelope.series.iter().map(|(id, entry)| (id.0, entry.clone())).collect();
    let whole: Whole = (envelope.stream.clone(), envelope.clock.clone(), series, body);
    serde_json::to_vec(&whole).expect("plain values have a JSON form")
}

/// Decodes.
pub fn decode_envelope(bytes: &[u8]) -> Result<Envelope, DecodeError> {
    let (stream, clock, series, body): Whole = serde_json::from_slice(bytes).map_err(DecodeError)?;
    let rows = match body {
        Body::Raw(rows) => {
            Rows::Raw(rows.into_iter().map(|(series, time, value)| Reading { series, time, value }).collect())
        }
        Body::Alarms(rows) => Rows::Alarms(rows),
        Body::Windows(length, rows) => {
            let window = |((series, start, count), values, (std_dev, late, duplicates, gap)): Window| {
                let [min, max, first, last, sum] = values;
                WindowRow { series, start, count, min, max, first, last, sum, std_dev, late, duplicates, gap }
            };
            Rows::Windows { length, rows: rows.into_iter().map(window).collect() }
        }
    };
    let series = series.into_iter().map(|(id, entry)| (SeriesId(id), entry)).collect();
    Ok(Envelope { stream, clock, series, rows })
}
