//! Blocks and snapshots of every format version ever written stay readable.
//!
//! `tests/compat/vN/` holds what version N wrote of the samples below. Neither files nor samples are ever edited: a new
//! version gets a folder of its own. The files are written by
//! `FROND_WRITE_GOLDEN=1 cargo test --test it compat::golden_files_are_written_on_request`, those that do not exist yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use frond::block::{
    Alarm, Envelope, Rows, SeriesEntry, WindowRow, WireClock, decode_envelope, decode_messages,
    decode_readings, encode_envelope, encode_messages, encode_readings,
};
use frond::reduce::Reducer;
use frond::sample::{
    BootId, DoorId, Message, Nanos, Reading, SECOND, SeriesId, SessionId, StreamId, Timeline, Value,
};

const START: Nanos = 1_772_323_200 * SECOND;

/// A sample by its file's name, and the folder of the version that is written now.
fn golden(version: u8, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/compat/v{version}/{name}.bin"))
}

fn read(version: u8, name: &str) -> Vec<u8> {
    let path = golden(version, name);
    std::fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

// === samples of version 1: every layout of a column occurs in them ===

/// A sequence without a pattern that any machine computes alike.
fn noise(seed: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |index| (seed + index).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
}

fn series_of(series: u32, step: Nanos, values: impl Iterator<Item = Value>) -> Vec<Reading> {
    let reading = |(index, value)| Reading { series: SeriesId(series), time: START + index * step, value };
    (0..).zip(values).map(reading).collect()
}

/// Decimals, whole numbers among them as integers or not, counters, full floats, singles, the odd ones out.
fn readings_v1() -> Vec<Reading> {
    let tenths = |tenths: u64| tenths as f64 / 10.0;
    let by_value = |tenths: u64| match tenths % 10 {
        0 => Value::Int((tenths / 10) as i64),
        _ => Value::Float(tenths as f64 / 10.0),
    };
    let mixed = |bits: u64| {
        if bits.is_multiple_of(3) { Value::Int((bits % 50) as i64) } else { Value::Float((bits % 50) as f64) }
    };
    let odd = [f64::MAX, -0.0, 5e-324, 1.0 / 3.0, 1e300, 21.5, 21.6];
    let mut jittered = series_of(9, SECOND, noise(6, 80).map(|bits| Value::Int((bits % 7) as i64 - 3)));
    for (reading, bits) in jittered.iter_mut().zip(noise(7, 80)) {
        reading.time += (bits % 9_000) as i64 * 1_000;
    }
    [
        series_of(1, SECOND, noise(1, 60).map(|bits| Value::Float(tenths(bits % 300)))),
        series_of(2, SECOND, noise(2, 60).map(|bits| by_value(bits % 300))),
        series_of(
            3,
            SECOND,
            noise(3, 40).scan(1 << 60, |sum, bits| {
                *sum += (bits % 100_000) as i64;
                Some(Value::Int(*sum))
            }),
        ),
        series_of(4, 0, noise(4, 30).map(|bits| Value::Float((bits >> 11) as f64 / (1u64 << 53) as f64))),
        series_of(5, -SECOND, noise(5, 30).map(mixed)),
        series_of(6, SECOND, odd.into_iter().map(Value::Float)),
        series_of(7, SECOND, std::iter::repeat_n(Value::Float(-12.25), 500)),
        series_of(8, SECOND, noise(8, 40).map(|bits| Value::Int(bits as i64))),
        jittered,
        series_of(u32::MAX, SECOND, [Value::Int(i64::MIN), Value::Int(i64::MAX)].into_iter()),
    ]
    .concat()
}

fn messages_v1() -> Vec<Message> {
    let mut messages = Vec::new();
    let mut pkid = 65_500u16;
    for (index, reading) in (0u32..).zip(readings_v1()) {
        pkid = if index % 50 == 49 { 0 } else { (pkid % u16::MAX) + 1 };
        let timeline = match index {
            0..200 => Timeline::Boot(BootId(7)),
            200..400 => Timeline::Arrival,
            _ => Timeline::Sensor,
        };
        messages.push(Message {
            door: DoorId((index % 100 / 90) as u8),
            ticket: 0,
            session: SessionId::NONE,
            pkid,
            stream: StreamId(index / 300),
            timeline,
            readings: vec![reading; (index % 40 == 7) as usize + (index % 41 != 8) as usize],
        });
    }
    messages
}

/// Version 2 of messages: sessions of clients among them, some without packet identifiers, and a broker's.
fn messages_v2() -> Vec<Message> {
    let mut messages = messages_v1();
    for (index, message) in (0u32..).zip(&mut messages) {
        message.session = match index % 7 {
            0 => SessionId::NONE,
            1 => SessionId(u32::MAX),
            n => SessionId(n * n),
        };
        if index % 7 > 1 && message.pkid != 0 {
            // Each session counts for itself, and begins anew.
            message.pkid = (65_530 + index / 7) as u16 % u16::MAX + 1;
        }
    }
    messages
}

fn dictionary_v1() -> BTreeMap<SeriesId, SeriesEntry> {
    let entry = |number: u32| SeriesEntry {
        name: format!("hall/press {number}/température"),
        unit: if number.is_multiple_of(5) { String::new() } else { "°C".into() },
        labels: [("line".to_string(), (number / 3).to_string())]
            .into_iter()
            .take(number as usize % 2)
            .collect(),
    };
    (1..40).map(|number| (SeriesId(number * number), entry(number))).collect()
}

fn envelopes_v1() -> Vec<(&'static str, Envelope)> {
    let readings = readings_v1();
    let rows = readings.chunks(5).map(|five| WindowRow {
        series: five[0].series,
        start: five[0].time.div_euclid(60 * SECOND) * 60 * SECOND,
        count: five.len() as u32,
        min: five[0].value,
        max: five[five.len() - 1].value,
        first: five[five.len() / 2].value,
        last: five[0].value,
        sum: Value::Float(five.iter().map(|reading| reading.value.as_f64() / 8.0).sum()),
        std_dev: five[0].series.0 as f32 / 3.0,
        late: five[0].series.0 % 3,
        duplicates: u32::from(five.len() < 5),
        gap: if five[0].series.0 == 7 { u32::MAX } else { 0 },
    });
    let alarm = |number: u32| Alarm {
        series: SeriesId(number),
        time: START + i64::from(number),
        active: number.is_multiple_of(2),
        name: "too hot".into(),
        message: format!("press {number} is at 91.5 °C, limit 90 °C"),
        value: 91.5,
    };
    let envelope = |clock, rows| Envelope { stream: "press".into(), clock, series: dictionary_v1(), rows };
    vec![
        ("envelope-raw", envelope(WireClock::Sensor, Rows::Raw(readings_v1()))),
        (
            "envelope-windows",
            envelope(WireClock::Arrival, Rows::Windows { length: 60 * SECOND, rows: rows.collect() }),
        ),
        (
            "envelope-alarms",
            envelope(
                WireClock::Estimated { boot: "0b5f-11".into() },
                Rows::Alarms((1..6).map(alarm).collect()),
            ),
        ),
    ]
}

/// A reducer with open windows on every timeline, late readings and duplicates waiting.
fn reducer_v1() -> Reducer {
    let mut reducer = Reducer::new(60 * SECOND, 5 * SECOND);
    for message in messages_v1() {
        for reading in message.readings {
            reducer.push(message.timeline, reading, 0);
        }
    }
    for reading in readings_v1().into_iter().filter(|reading| reading.series.0 > 6) {
        reducer.push(Timeline::Sensor, reading, 0);
    }
    reducer.take_closed();
    reducer
}

/// What tells apart two readings that compare equal: -0.0 from 0.0.
fn bits(readings: &[Reading]) -> Vec<(u32, Nanos, bool, u64)> {
    let bits = |reading: &Reading| match reading.value {
        Value::Int(int) => (reading.series.0, reading.time, true, int as u64),
        Value::Float(float) => (reading.series.0, reading.time, false, float.to_bits()),
    };
    readings.iter().map(bits).collect()
}

fn blocks_v1() -> Vec<(&'static str, Vec<u8>)> {
    let mut blocks = vec![
        ("readings", encode_readings(&readings_v1())),
        ("messages", encode_messages(&messages_v1())),
        ("reducer", reducer_v1().snapshot()),
    ];
    blocks.push(("messages", encode_messages(&messages_v2())));
    blocks.extend(envelopes_v1().iter().map(|(name, envelope)| (*name, encode_envelope(envelope))));
    blocks
}

#[test]
fn golden_files_are_written_on_request() {
    // Only with the variable set, and only files that are not there: what a released version wrote is never overwritten.
    let wanted = std::env::var_os("FROND_WRITE_GOLDEN").is_some();
    for (name, block) in blocks_v1() {
        let path = golden(block[0], name);
        if wanted && !path.exists() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, block).unwrap();
        }
    }
}

#[test]
fn readings_of_version_1_are_read() {
    // The file holds the sample, to the bit.
    assert_eq!(bits(&decode_readings(&read(1, "readings")).unwrap()), bits(&readings_v1()));
}

#[test]
fn messages_of_version_1_are_read() {
    // The file holds the sample; the digests say so to the bit.
    let (decoded, expected) = (decode_messages(&read(1, "messages")).unwrap(), messages_v1());
    assert_eq!(decoded, expected);
    let digests = |messages: &[Message]| messages.iter().map(Message::digest).collect::<Vec<_>>();
    assert_eq!(digests(&decoded), digests(&expected));
}

#[test]
fn messages_of_version_2_are_read() {
    // The file holds the sample, sessions included; and messages without sessions are written as before.
    assert_eq!(decode_messages(&read(2, "messages")).unwrap(), messages_v2());
    assert_eq!(encode_messages(&messages_v1())[0], 1);
}

#[test]
fn envelopes_of_version_1_are_read() {
    // Raw readings, windows and alarms, each with its dictionary.
    for (name, expected) in envelopes_v1() {
        assert_eq!(decode_envelope(&read(1, name)).unwrap(), expected, "{name}");
    }
}

#[test]
fn reducers_of_version_1_are_restored() {
    // A restored reducer closes the rows that the one it was taken of closes.
    let mut restored = Reducer::restore(&read(1, "reducer"), 0).unwrap();
    let mut expected = reducer_v1();
    restored.flush();
    expected.flush();
    let rows = expected.take_closed();
    assert_eq!(restored.take_closed(), rows);
    let reports = |report: fn(&WindowRow) -> u32| rows.iter().any(|closed| report(&closed.row) > 0);
    assert!(
        reports(|row| row.late) && reports(|row| row.duplicates),
        "the sample has counts that wait for a row"
    );
}
