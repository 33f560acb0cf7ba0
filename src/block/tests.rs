mod samples;

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::frame::{self, Kind};
use super::*;
use crate::sample::{Message, Reading, SECOND};

use samples::{envelopes, messages, readings};

// === what is compared: bits, so that -0.0 is not 0.0 and NaN is itself ===

fn bits(value: Value) -> (bool, u64) {
    match value {
        Value::Int(int) => (true, int as u64),
        Value::Float(float) => (false, float.to_bits()),
    }
}

fn reading_bits(reading: &Reading) -> (u32, Nanos, (bool, u64)) {
    (reading.series.0, reading.time, bits(reading.value))
}

fn all_bits(readings: &[Reading]) -> Vec<(u32, Nanos, (bool, u64))> {
    readings.iter().map(reading_bits).collect()
}

fn row_bits(row: &WindowRow) -> impl PartialEq + std::fmt::Debug + use<> {
    let values = [row.min, row.max, row.first, row.last, row.sum].map(bits);
    let counters = [row.count, row.std_dev.to_bits(), row.late, row.duplicates, row.gap];
    (row.series, row.start, values, counters)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn readings_come_back_to_the_bit(readings in readings()) {
        // Any order, any values: what is decoded is what was encoded.
        let decoded = decode_readings(&encode_readings(&readings)).unwrap();
        prop_assert_eq!(all_bits(&decoded), all_bits(&readings));
    }

    #[test]
    fn messages_come_back_with_their_identities(messages in messages()) {
        // Same fields, same readings to the bit, hence the same digests.
        let decoded = decode_messages(&encode_messages(&messages)).unwrap();
        prop_assert_eq!(decoded.len(), messages.len());
        for (decoded, message) in decoded.iter().zip(&messages) {
            prop_assert_eq!(all_bits(&decoded.readings), all_bits(&message.readings));
            prop_assert_eq!(decoded.digest(), message.digest());
            prop_assert_eq!(decoded.identity(), message.identity());
            let origin = |message: &Message| (message.door, message.ticket, message.stream, message.timeline);
            prop_assert_eq!(origin(decoded), origin(message));
        }
    }

    #[test]
    fn envelopes_come_back_whole(envelope in envelopes()) {
        // Names, clock and rows of every kind.
        let decoded = decode_envelope(&encode_envelope(&envelope)).unwrap();
        let heads = |envelope: &Envelope| (envelope.stream.clone(), envelope.clock.clone(), envelope.series.clone());
        prop_assert_eq!(heads(&decoded), heads(&envelope));
        match (&decoded.rows, &envelope.rows) {
            (Rows::Raw(decoded), Rows::Raw(rows)) => prop_assert_eq!(all_bits(decoded), all_bits(rows)),
            (Rows::Windows { length: a, rows: decoded }, Rows::Windows { length: b, rows }) => {
                prop_assert_eq!(a, b);
                let all = |rows: &[WindowRow]| rows.iter().map(row_bits).collect::<Vec<_>>();
                prop_assert_eq!(all(decoded), all(rows));
            }
            (Rows::Alarms(decoded), Rows::Alarms(rows)) => prop_assert_eq!(decoded, rows),
            (decoded, rows) => prop_assert!(false, "{decoded:?} for {rows:?}"),
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_not_obeyed(kind in 1u8..4, body in vec(any::<u8>(), 0..300)) {
        // Bytes behind a correct head, so that the columns themselves must refuse them.
        let block = resealed(kind, &body);
        let _ = decode_envelope(&block);
        let _ = decode_readings(&block);
        let _ = decode_messages(&block);
    }
}

/// A block around any body, check sum included.
fn resealed(kind: u8, body: &[u8]) -> Vec<u8> {
    let kind = match kind {
        1 => Kind::Envelope,
        2 => Kind::Readings,
        _ => Kind::Messages,
    };
    let mut block = frame::open(kind);
    block.extend_from_slice(body);
    frame::seal(block)
}

/// Changes a few bytes of a block's body, or its length, and mends the check sum.
fn damaged(block: &[u8], damage: &[(usize, u8)], length: usize) -> Vec<u8> {
    let mut body = block[6..].to_vec();
    for &(at, byte) in damage {
        if !body.is_empty() {
            let at = at % body.len();
            body[at] = byte;
        }
    }
    body.truncate(length % (body.len() + 1));
    resealed(block[1], &body)
}

#[test]
fn damage_under_a_mended_check_sum_never_panics() {
    // Blocks of every kind, a few bytes changed or cut off, decode to something or to an error.
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) };
    let block = prop_oneof![
        readings().prop_map(|readings| encode_readings(&readings)),
        messages().prop_map(|messages| encode_messages(&messages)),
        envelopes().prop_map(|envelope| encode_envelope(&envelope)),
    ];
    // Most damage where the forms and counts stand, and half of the blocks keep their length.
    let at = prop_oneof![0usize..48, any::<usize>()];
    let length = prop_oneof![Just(usize::MAX), any::<usize>()];
    let damage = (block, vec((at, any::<u8>()), 0..4), length);
    TestRunner::new(config)
        .run(&damage, |(block, damage, length)| {
            let length = if length == usize::MAX { block.len() - 6 } else { length };
            let block = damaged(&block, &damage, length);
            let _ = decode_envelope(&block);
            let _ = decode_readings(&block);
            let _ = decode_messages(&block);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_changed_bit_is_noticed() {
    // Every bit of a block in turn.
    let block = encode_readings(&[Reading { series: SeriesId(7), time: 5, value: Value::Float(21.5) }]);
    for bit in 0..block.len() * 8 {
        let mut block = block.clone();
        block[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_readings(&block).is_err(), "bit {bit} changed and nobody noticed");
    }
}

#[test]
fn every_refusal_says_what_is_wrong() {
    // One damaged block for each error a caller may want to tell apart.
    let block = encode_readings(&[]);
    assert!(matches!(decode_readings(&block[..5]), Err(DecodeError::TooShort { length: 5 })));
    let mut later = block.clone();
    later[0] = 2;
    assert!(matches!(decode_readings(&later), Err(DecodeError::Version { found: 2 })));
    assert!(matches!(decode_messages(&block), Err(DecodeError::Kind { expected: Kind::Messages, found: 2 })));
    let mut longer = block[6..].to_vec();
    longer.push(0);
    assert!(matches!(decode_readings(&resealed(2, &longer)), Err(DecodeError::Trailing { count: 1 })));
    assert!(matches!(decode_readings(&resealed(2, &[])), Err(DecodeError::Truncated)));
    let mut sum = block;
    sum[2] ^= 1;
    assert!(matches!(decode_readings(&sum), Err(DecodeError::Checksum { .. })));
}

#[test]
fn a_count_beyond_the_bound_is_refused_before_anything_is_allocated() {
    // The largest count that may be claimed is ROWS_MAX; one more is an error, and so is a count no bytes stand behind.
    let claim = |count: usize| {
        let mut body = Vec::new();
        cursor::put_count(&mut body, count);
        decode_readings(&resealed(2, &body))
    };
    assert!(matches!(claim(ROWS_MAX + 1), Err(DecodeError::TooMany { limit: ROWS_MAX, .. })));
    assert!(matches!(claim(usize::MAX), Err(DecodeError::TooMany { .. })));
    assert!(matches!(claim(ROWS_MAX), Err(DecodeError::Truncated)));
}

#[test]
fn a_dictionary_cannot_unfold_beyond_its_bound() {
    // A name of a mebibyte that all the others share takes a few hundred bytes and claims 100 GB.
    let name = "n".repeat(1 << 20);
    let entry = |name: &str| SeriesEntry { name: name.into(), unit: String::new(), labels: BTreeMap::new() };
    let series: BTreeMap<_, _> = (0..60).map(|id| (SeriesId(id), entry(&name))).collect();
    let envelope =
        Envelope { stream: "s".into(), clock: WireClock::Sensor, series, rows: Rows::Alarms(vec![]) };
    let honest = encode_envelope(&envelope);
    assert_eq!(decode_envelope(&honest).unwrap(), envelope);

    let mut body = postcard::to_stdvec(&("s", WireClock::Sensor, 2u8, 0u64)).unwrap();
    let count = 100_000;
    cursor::put_count(&mut body, count);
    ints::put_ints(&mut body, &(0..count as i64).collect::<Vec<_>>());
    let mut shared = vec![1 << 20; count];
    shared[0] = 0;
    let mut own = vec![0; count];
    own[0] = 1 << 20;
    ints::put_ints(&mut body, &shared);
    ints::put_ints(&mut body, &own);
    text::put_text(&mut body, name.as_bytes());
    let refused = decode_envelope(&resealed(1, &body));
    assert!(matches!(refused, Err(DecodeError::TooMany { limit: DICTIONARY_BYTES_MAX, .. })), "{refused:?}");
}

#[test]
fn a_text_that_unfolds_to_more_than_it_says_is_refused() {
    // zstd's output is bounded by the length before the frame, whatever the frame claims.
    let mut piece = Vec::new();
    text::put_text(&mut piece, &[b'a'; 1000]);
    let mut cursor = cursor::Cursor::new(&piece);
    cursor.unsigned().unwrap();
    let mut shorter = Vec::new();
    cursor::put_count(&mut shorter, 999);
    shorter.extend_from_slice(cursor.rest);
    let refused = text::take_text(&mut cursor::Cursor::new(&shorter));
    assert!(matches!(refused, Err(DecodeError::Text(_))), "{refused:?}");
}

#[test]
fn pco_still_writes_the_format_we_say_it_does() {
    // Columns leave out pco's own version: this fails when an update of pco raises it, and then so must ours.
    let mut head = Vec::new();
    pco::wrapped::FileCompressor::default().write_header(&mut head).unwrap();
    assert_eq!(head, pack::PCO_FORMAT);
}

#[test]
fn a_thousand_similar_names_take_few_bytes() {
    // Names as a plant has them, with units and labels; at most 4 bytes each.
    let mut series = BTreeMap::new();
    for number in 0..1000u32 {
        let labels = BTreeMap::from([
            ("line".to_string(), (number / 250).to_string()),
            ("vendor".to_string(), "acme".to_string()),
        ]);
        let name = format!("plant7/line{}/machine{:03}/temperature", number / 250, number % 250);
        series.insert(SeriesId(number * 3 + 17), SeriesEntry { name, unit: "degC".into(), labels });
    }
    let envelope =
        Envelope { stream: "press".into(), clock: WireClock::Sensor, series, rows: Rows::Raw(vec![]) };
    let block = encode_envelope(&envelope);
    assert!(block.len() <= 4_000, "{} bytes", block.len());
    assert_eq!(decode_envelope(&block).unwrap(), envelope);
}

#[test]
fn a_series_with_one_odd_value_stays_small() {
    // -0.0 is what rounding gives below zero, and no decimal; it must not cost its series the decimals.
    let mut readings: Vec<Reading> = (0..600)
        .map(|second| Reading {
            series: SeriesId(1),
            time: second * SECOND,
            value: Value::Float((second % 7 - 3) as f64 / 10.0),
        })
        .collect();
    let plain = encode_readings(&readings).len();
    readings[300].value = Value::Float(-0.0);
    readings[400].value = Value::Float(1.0 / 3.0);
    let block = encode_readings(&readings);
    assert!(block.len() < plain + 60, "{} bytes instead of {plain}", block.len());
    assert_eq!(all_bits(&decode_readings(&block).unwrap()), all_bits(&readings));
}

#[test]
fn the_mean_keeps_its_digits_beyond_2_to_the_53() {
    // Three times 2^60 + 1: the sum is exact, and the mean is the float next to the truth.
    let value = Value::Int((1 << 60) + 1);
    let row = WindowRow {
        series: SeriesId(1),
        start: 0,
        count: 3,
        min: value,
        max: value,
        first: value,
        last: value,
        sum: Value::Int(3 * ((1 << 60) + 1)),
        std_dev: 0.0,
        late: 0,
        duplicates: 0,
        gap: 0,
    };
    assert_eq!(row.mean(), ((1i64 << 60) + 1) as f64);
}
