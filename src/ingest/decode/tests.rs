use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::{Fields, PackedType, TimeFormat};
use crate::sample::SECOND;

const NOW: Nanos = 1_700_000_000 * SECOND;
const MOMENT: Moment = Moment { arrival: NOW, trusted: None };

fn caps() -> Caps {
    Caps { payload_bytes_max: 4_096, depth_max: 8, samples_max: 100, series_max: 100, outbox_bytes_max: None }
}

fn time_field(field: &str, format: TimeFormat) -> TimeSource {
    TimeSource::Field { field: field.into(), format }
}

fn json_plain() -> Decoder {
    Decoder::new(&Decode::Json(Fields::default()), &TimeSource::Arrival, &caps())
}

fn json_timed(samples: Option<&str>) -> Decoder {
    let fields = Fields { samples: samples.map(str::to_owned), ..Fields::default() };
    Decoder::new(&Decode::Json(fields), &time_field("t", TimeFormat::Seconds), &caps())
}

/// What a payload decodes to: rows by field name, and the reasons.
type Found = (Vec<(String, Nanos, Value)>, Vec<(&'static str, u32)>);

fn found(decoder: &Decoder, payload: impl AsRef<[u8]>) -> Found {
    let mut batch = Batch::default();
    found_in(&mut batch, decoder, payload.as_ref())
}

fn found_in(batch: &mut Batch, decoder: &Decoder, payload: &[u8]) -> Found {
    let _ = decoder.decode(payload, MOMENT, batch);
    let rows = batch
        .rows()
        .iter()
        .map(|row| (batch.field(row.field as usize).to_owned(), row.time, row.value))
        .collect();
    (rows, batch.tally().iter().map(|(reason, count)| (reason.name(), count)).collect())
}

fn values(decoder: &Decoder, payload: &str) -> Vec<(String, Value)> {
    let (rows, reasons) = found(decoder, payload);
    assert_eq!(reasons, [], "{payload}");
    rows.into_iter().map(|(field, _, value)| (field, value)).collect()
}

fn reasons(decoder: &Decoder, payload: impl AsRef<[u8]>) -> Vec<(&'static str, u32)> {
    let (rows, reasons) = found(decoder, payload);
    assert_eq!(rows, []);
    reasons
}

fn int(field: &str, value: i64) -> (String, Value) {
    (field.to_owned(), Value::Int(value))
}

fn float(field: &str, value: f64) -> (String, Value) {
    (field.to_owned(), Value::Float(value))
}

#[test]
fn objects_are_flattened() {
    // Goal: nesting, arrays by position, booleans, order of the payload.
    assert_eq!(
        values(&json_plain(), r#"{"a":{"b":[1,{"c":2.5}]},"on":true,"off":false,"nil":null,"e":{},"l":[]}"#),
        [int("a.b.0", 1), float("a.b.1.c", 2.5), int("on", 1), int("off", 0)]
    );
    assert_eq!(values(&json_plain(), " 42 "), [int("", 42)]);
    assert_eq!(values(&json_plain(), "\u{feff}{\"a\":1}"), [int("a", 1)]);
    assert_eq!(values(&json_plain(), r#"{"\u00e4\ud83d\ude00\n\"":1}"#), [int("ä😀\n\"", 1)]);
}

#[test]
fn integers_are_exact_or_refused() {
    // Goal: 2^53 + 1 and the ends of i64 keep every digit; one beyond is refused and its neighbour is not.
    assert_eq!(
        values(&json_plain(), r#"{"a":9007199254740993,"b":9223372036854775807,"c":-9223372036854775808}"#),
        [int("a", 9_007_199_254_740_993), int("b", i64::MAX), int("c", i64::MIN)]
    );
    let (rows, reasons) = found(
        &json_plain(),
        r#"{"a":9223372036854775808,"b":1,"c":99999999999999999999999,"d":-9223372036854775809}"#,
    );
    assert_eq!(rows, [("b".to_owned(), NOW, Value::Int(1))]);
    assert_eq!(reasons, [("integer_out_of_range", 3)]);
}

#[test]
fn floats_are_rounded_correctly() {
    // Goal: seventeen digits come back as the double they stand for, which best-effort parsers miss by one unit.
    for text in
        ["0.1", "123.45678901234567", "2.2250738585072014e-308", "9.5e-7", "1.7976931348623157e308", "-0.0"]
    {
        assert_eq!(values(&json_plain(), text), [float("", text.parse().unwrap())]);
    }
}

#[test]
fn a_value_that_is_not_finite_does_not_take_its_neighbours_along() {
    // Goal: 1e999 and what Python writes are counted one by one.
    let (rows, reasons) =
        found(&json_plain(), r#"{"a":1e999,"b":NaN,"c":-Infinity,"d":Infinity,"e":-1e999,"f":3}"#);
    assert_eq!(rows, [("f".to_owned(), NOW, Value::Int(3))]);
    assert_eq!(reasons, [("not_finite", 5)]);
}

#[test]
fn text_is_counted_and_null_is_nothing() {
    // Goal: neither keeps the numbers from being taken.
    let (rows, reasons) = found(&json_plain(), r#"{"unit":"bar","v":1.5,"n":null}"#);
    assert_eq!(rows, [("v".to_owned(), NOW, Value::Float(1.5))]);
    assert_eq!(reasons, [("text", 1)]);
    assert_eq!(super::tests::reasons(&json_plain(), r#""hello""#), [("text", 1)]);
}

#[test]
fn a_payload_with_nothing_in_it_is_empty() {
    // Goal: every way of saying nothing has the same reason.
    for payload in ["", "{}", "[]", "null", r#"{"a":null}"#, "[{},{}]"] {
        assert_eq!(reasons(&json_plain(), payload), [("empty", 1)], "{payload}");
    }
}

#[test]
fn broken_json_rejects_all_of_it() {
    // Goal: one rejection per payload, whatever was read before the break.
    for payload in [
        "{",
        "}",
        "[",
        "{\"a\":1",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{a:1}",
        "[1,]",
        "[1 2]",
        "[,1]",
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "1e",
        "tru",
        "nul",
        "\"a",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0020\"",
        "\"\u{1}\"",
        "1 2",
        "{\"a\":1}x",
        "{,\"a\":1}",
        "{\"a\":}",
        "Nan",
        "-Infinite",
        "[1}",
        "{\"a\":1]",
    ] {
        assert_eq!(reasons(&json_plain(), payload), [("malformed", 1)], "{payload}");
    }
    assert_eq!(reasons(&json_plain(), b"{\"a\xff\":1}"), [("malformed", 1)]);
    assert_eq!(reasons(&json_plain(), r#"{"a":1,"b":"x","c":1e999,"d":]"#), [("malformed", 1)]);
}

#[test]
fn bounds_reject_the_payload() {
    // Goal: one payload at each bound passes, one beyond it is refused.
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(values(&json_plain(), &nested(8)).len(), 1);
    assert_eq!(reasons(&json_plain(), nested(9)), [("too_deep", 1)]);
    let list = |length: usize| format!("[{}]", vec!["1"; length].join(","));
    assert_eq!(values(&json_plain(), &list(100)).len(), 100);
    assert_eq!(reasons(&json_plain(), list(101)), [("too_many_samples", 1)]);
    assert_eq!(values(&json_plain(), &format!("1{}", " ".repeat(4_095))), [int("", 1)]);
    assert_eq!(reasons(&json_plain(), format!("1{}", " ".repeat(4_096))), [("too_large", 1)]);
    let long = format!(r#"{{"{}":1,"b":2}}"#, "k".repeat(257));
    let (rows, reasons) = found(&json_plain(), long);
    assert_eq!((rows.len(), reasons), (1, vec![("series_name", 1)]));
}

#[test]
fn nesting_costs_no_call_stack() {
    // Goal: a megabyte of brackets is refused at the bound, and skipped nowhere.
    let deep = Decoder::new(
        &Decode::Json(Fields::default()),
        &TimeSource::Arrival,
        &Caps { payload_bytes_max: 1 << 20, depth_max: usize::MAX, ..caps() },
    );
    assert_eq!(reasons(&deep, "[".repeat(1 << 20)), [("too_deep", 1)]);
    assert_eq!(reasons(&deep, r#"{"a":"#.repeat(200_000)), [("too_deep", 1)]);
}

#[test]
fn only_the_wanted_fields_count() {
    // Goal: others are neither read nor counted, text among them.
    let fields = Fields { only: vec!["x.y".into(), "b".into()], samples: None };
    let decoder = Decoder::new(&Decode::Json(fields), &TimeSource::Arrival, &caps());
    assert_eq!(
        values(&decoder, r#"{"a":1,"b":2,"x":{"y":3,"z":"text"},"c":1e999}"#),
        [int("b", 2), int("x.y", 3)]
    );
}

fn at(field: &str, seconds: i64, value: i64) -> (String, Nanos, Value) {
    (field.to_owned(), seconds * SECOND, Value::Int(value))
}

#[test]
fn every_sample_has_its_own_time_wherever_it_stands() {
    // Goal: before and behind the values; a sample of the list has no time of another.
    let (rows, reasons) =
        found(&json_timed(None), r#"[{"t":10,"a":1,"b":2},{"a":3,"b":4,"t":"11"},{"a":5}]"#);
    assert_eq!(rows, [at("a", 10, 1), at("b", 10, 2), at("a", 11, 3), at("b", 11, 4)]);
    assert_eq!(reasons, [("time_missing", 1)]);
}

#[test]
fn a_sample_without_time_takes_that_of_its_payload() {
    // Goal: the enclosing time may come after the samples; a sample's own wins; what is around the samples is no reading.
    let payload = r#"{"seq":7,"d":{"s":[{"a":1},{"a":2,"t":20},3]},"t":10,"unit":"bar"}"#;
    let (rows, reasons) = found(&json_timed(Some("d.s")), payload);
    assert_eq!(rows, [at("a", 10, 1), at("a", 20, 2), at("", 10, 3)]);
    assert_eq!(reasons, []);
}

#[test]
fn samples_that_are_lists_are_read_by_position() {
    // Goal: `[[time, value], …]`, as many historians write it.
    let decoder =
        Decoder::new(&Decode::Json(Fields::default()), &time_field("0", TimeFormat::Milliseconds), &caps());
    let (rows, reasons) = found(&decoder, "[[1000,5],[2000.5,6]]");
    assert_eq!(rows[0], at("1", 1, 5));
    assert_eq!(rows[1], ("1".into(), 2_000_500_000, Value::Int(6)));
    assert_eq!(reasons, []);
}

#[test]
fn a_missing_time_is_said() {
    // Goal: no reading gets an arrival stamp when its stream has a time field.
    assert_eq!(reasons(&json_timed(None), r#"{"a":1,"b":2}"#), [("time_missing", 2)]);
    assert_eq!(reasons(&json_timed(None), r#"{"a":1,"t":null}"#), [("time_missing", 1)]);
    assert_eq!(reasons(&json_timed(None), r#"{"a":1,"t":{"x":1}}"#), [("time_missing", 2)]);
    assert_eq!(reasons(&json_timed(Some("s")), r#"{"t":10,"a":1}"#), [("empty", 1)]);
}

#[test]
fn a_wrong_time_rejects_its_sample_only() {
    // Goal: negative, huge and unreadable times; neighbours stand.
    let payload =
        r#"[{"t":-1,"a":1,"b":1},{"t":1e300,"a":2},{"t":"noon","a":3},{"t":true,"a":4},{"t":5,"a":5}]"#;
    let (rows, reasons) = found(&json_timed(None), payload);
    assert_eq!(rows, [at("a", 1, 4), at("a", 5, 5)]);
    assert_eq!(reasons, [("time_malformed", 1), ("time_out_of_range", 3)]);
}

#[test]
fn a_time_beyond_a_trusted_clock_is_refused() {
    // Goal: the clock counts only when it is trusted.
    let (decoder, mut batch) = (json_timed(None), Batch::default());
    let payload = format!(r#"{{"t":{},"a":1}}"#, NOW / SECOND + 90_000);
    decoder.decode(payload.as_bytes(), MOMENT, &mut batch).unwrap();
    assert_eq!(batch.rows().len(), 1);
    let trusted = Moment { trusted: Some(NOW), ..MOMENT };
    decoder.decode(payload.as_bytes(), trusted, &mut batch).unwrap();
    assert_eq!(batch.tally().of(Reason::TimeOutOfRange), 1);
}

#[test]
fn fields_of_like_samples_are_named_once() {
    // Goal: a thousand samples cost three names, and samples that leave out fields still do.
    let caps = Caps { samples_max: 10_000, payload_bytes_max: 1 << 20, ..caps() };
    let decoder = Decoder::new(&Decode::Json(Fields::default()), &TimeSource::Arrival, &caps);
    let mut batch = Batch::default();
    let samples: Vec<_> = (0..1_000).map(|n| json!({"a": n, "b": n, "c": n})).collect();
    decoder.decode(json!(samples).to_string().as_bytes(), MOMENT, &mut batch).unwrap();
    assert_eq!((batch.rows().len(), batch.field_count()), (3_000, 3));
    decoder
        .decode(br#"[{"a":1,"b":2,"c":3},{"a":1,"c":3},{"c":3},{"a":1,"b":2,"c":3}]"#, MOMENT, &mut batch)
        .unwrap();
    assert_eq!((batch.rows().len(), batch.field_count()), (9, 3));
}

#[test]
fn a_long_key_around_a_long_list_stays_cheap() {
    // Goal: names too long for a series are not copied per element.
    let caps = Caps { samples_max: 65_536, payload_bytes_max: 1 << 20, ..caps() };
    let decoder = Decoder::new(&Decode::Json(Fields::default()), &TimeSource::Arrival, &caps);
    let payload = format!(r#"{{"{}":[{}]}}"#, "k".repeat(100_000), vec!["1"; 60_000].join(","));
    let mut batch = Batch::default();
    decoder.decode(payload.as_bytes(), MOMENT, &mut batch).unwrap();
    assert_eq!(batch.tally().of(Reason::SeriesName), 60_000);
    assert!(batch.names.capacity() < 1_000);
}

fn cbor(build: impl FnOnce(&mut minicbor::Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    build(&mut minicbor::Encoder::new(&mut bytes));
    bytes
}

fn cbor_decoder(time: TimeSource) -> Decoder {
    Decoder::new(&Decode::Cbor(Fields::default()), &time, &caps())
}

#[test]
fn cbor_follows_the_rules_of_json() {
    // Goal: every type of CBOR, containers with and without a length, keys of both kinds.
    let payload = cbor(|e| {
        e.begin_map().unwrap();
        e.str("a").unwrap().map(1).unwrap().u8(1).unwrap().i64(-5).unwrap();
        e.str("l").unwrap().begin_array().unwrap().f32(0.5).unwrap().bool(true).unwrap().end().unwrap();
        e.str("u").unwrap().u64(u64::MAX).unwrap();
        e.str("n").unwrap().f64(f64::NAN).unwrap().str("i").unwrap().f16(f32::INFINITY).unwrap();
        e.str("s").unwrap().str("text").unwrap().str("b").unwrap().bytes(b"raw").unwrap();
        e.str("z").unwrap().null().unwrap().str("q").unwrap().undefined().unwrap();
        e.begin_str().unwrap().str("in").unwrap().str("def").unwrap().end().unwrap().u8(9).unwrap();
        e.str("big").unwrap().tag(minicbor::data::Tag::new(2)).unwrap().bytes(&[1; 9]).unwrap();
        e.end().unwrap();
    });
    let (rows, reasons) = found(&cbor_decoder(TimeSource::Arrival), payload);
    let rows: Vec<_> = rows.into_iter().map(|(field, _, value)| (field, value)).collect();
    assert_eq!(rows, [int("a.1", -5), float("l.0", 0.5), int("l.1", 1), int("indef", 9)]);
    assert_eq!(reasons, [("not_finite", 2), ("integer_out_of_range", 2), ("text", 2)]);
}

#[test]
fn cbor_times_may_be_tagged() {
    // Goal: tag 0 around text, tag 1 around a number, and a time behind the samples.
    let rfc = cbor(|e| {
        e.map(2).unwrap().str("t").unwrap().tag(minicbor::data::Tag::new(0)).unwrap();
        e.str("1970-01-01T00:00:10Z").unwrap().str("a").unwrap().u8(1).unwrap();
    });
    assert_eq!(
        found(&cbor_decoder(time_field("t", TimeFormat::Rfc3339)), rfc),
        (vec![at("a", 10, 1)], vec![])
    );
    let epoch = cbor(|e| {
        e.array(1).unwrap().map(2).unwrap().str("a").unwrap().u8(1).unwrap();
        e.str("t").unwrap().tag(minicbor::data::Tag::new(1)).unwrap().f64(10.0).unwrap();
    });
    assert_eq!(
        found(&cbor_decoder(time_field("t", TimeFormat::Seconds)), epoch),
        (vec![at("a", 10, 1)], vec![])
    );
}

#[test]
fn broken_cbor_rejects_all_of_it() {
    // Goal: truncation, stray breaks, claims beyond the payload, trailing bytes, keys that are none.
    let decoder = cbor_decoder(TimeSource::Arrival);
    for payload in [
        &[0xff][..],
        &[0x82, 1],
        &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x61, b'a', 1],
        &[0x7b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x81, 0xff],
        &[0xa1, 0x61, b'a'],
        &[0xbf, 0x61, b'a', 0xff],
        &[0xa1, 0x80, 1],
        &[0x01, 0x02],
        &[0x1c],
        &[0x61, 0xff],
        &[0x7f, 0x41, 0, 0xff],
        &[0xc1],
    ] {
        assert_eq!(reasons(&decoder, payload), [("malformed", 1)], "{payload:02x?}");
    }
    assert_eq!(reasons(&decoder, [0x81; 9]), [("too_deep", 1)]);
    assert_eq!(reasons(&decoder, [0x80]), [("empty", 1)]);
}

#[test]
fn a_bare_number_is_taken_as_sensors_write_it() {
    // Goal: forms that pass, forms that do not.
    let decoder = Decoder::new(&Decode::Number, &TimeSource::Arrival, &caps());
    assert_eq!(values(&decoder, " 23.5\r\n"), [float("", 23.5)]);
    assert_eq!(values(&decoder, "+5"), [int("", 5)]);
    assert_eq!(values(&decoder, ".5"), [float("", 0.5)]);
    assert_eq!(values(&decoder, "-9007199254740993"), [int("", -9_007_199_254_740_993)]);
    for (payload, reason) in [
        ("", "empty"),
        ("  ", "empty"),
        ("23,5", "malformed"),
        ("23 bar", "malformed"),
        ("-", "malformed"),
        ("nan", "not_finite"),
        ("-inf", "not_finite"),
        ("1e999", "not_finite"),
        ("9223372036854775808", "integer_out_of_range"),
    ] {
        assert_eq!(reasons(&decoder, payload), [(reason, 1)], "{payload}");
    }
    let timed = Decoder::new(&Decode::Number, &time_field("t", TimeFormat::Seconds), &caps());
    assert_eq!(reasons(&timed, "1"), [("time_missing", 1)]);
}

fn packed(sample: PackedType, rate: f64, scale: f64) -> Decoder {
    Decoder::new(&Decode::Packed(Packed { sample, rate, scale }), &TimeSource::Arrival, &caps())
}

#[test]
fn packed_samples_are_counted_back_from_the_last() {
    // Goal: every type, with times at the declared rate.
    let bytes: Vec<u8> = [1i16, -2, 3].iter().flat_map(|v| v.to_le_bytes()).collect();
    let (rows, reasons) = found(&packed(PackedType::I16, 1_000.0, 1.0), bytes);
    assert_eq!(
        rows,
        [
            (String::new(), NOW - 2_000_000, Value::Int(1)),
            (String::new(), NOW - 1_000_000, Value::Int(-2)),
            (String::new(), NOW, Value::Int(3)),
        ]
    );
    assert_eq!(reasons, []);
    let (rows, _) = found(&packed(PackedType::I32, 3.0, 0.5), 7i32.to_le_bytes());
    assert_eq!(rows, [(String::new(), NOW, Value::Float(3.5))]);
    let bytes: Vec<u8> = [1.5f32, f32::NAN, 2.5].iter().flat_map(|v| v.to_le_bytes()).collect();
    let (rows, reasons) = found(&packed(PackedType::F32, 1.0, 1.0), bytes);
    assert_eq!(rows.iter().map(|row| row.1).collect::<Vec<_>>(), [NOW - 2 * SECOND, NOW]);
    assert_eq!(reasons, [("not_finite", 1)]);
    let (_, reasons) = found(&packed(PackedType::F64, 1.0, 1e300), 1e300f64.to_le_bytes());
    assert_eq!(reasons, [("not_finite", 1)]);
}

#[test]
fn packed_samples_of_a_wrong_length_are_refused() {
    // Goal: half a sample, none, too many, and a rate that would lead before the epoch.
    let decoder = packed(PackedType::I32, 1.0, 1.0);
    assert_eq!(reasons(&decoder, [0; 7]), [("malformed", 1)]);
    assert_eq!(reasons(&decoder, []), [("empty", 1)]);
    assert_eq!(reasons(&decoder, [0; 404]), [("too_many_samples", 1)]);
    let (rows, reasons) = found(&packed(PackedType::I16, 1e-12, 1.0), [0; 4]);
    assert_eq!((rows.len(), reasons), (1, vec![("time_out_of_range", 1)]));
}

/// The rules in a few lines over a tree, to test the scanner against.
fn flatten(path: &str, value: &serde_json::Value, into: &mut Vec<(String, Value)>) {
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        serde_json::Value::Object(map) => map.iter().for_each(|(key, v)| flatten(&join(key), v, into)),
        serde_json::Value::Array(list) => {
            list.iter().enumerate().for_each(|(n, v)| flatten(&join(&n.to_string()), v, into));
        }
        serde_json::Value::Bool(v) => into.push((path.to_owned(), Value::Int((*v).into()))),
        serde_json::Value::Number(n) => match n.as_i64() {
            Some(v) => into.push((path.to_owned(), Value::Int(v))),
            None => into.push((path.to_owned(), Value::Float(n.as_f64().unwrap()))),
        },
        serde_json::Value::String(_) | serde_json::Value::Null => {}
    }
}

fn trees() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_filter("finite", |v| v.is_finite()).prop_map(Into::into),
        ".{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map("[a-z\"\\\\é]{1,4}", inner, 0..6)
                .prop_map(|map: BTreeMap<String, serde_json::Value>| json!(map)),
        ]
    })
}

/// The same tree in CBOR.
fn encode(value: &serde_json::Value, e: &mut minicbor::Encoder<&mut Vec<u8>>) {
    match value {
        serde_json::Value::Null => e.null().map(drop),
        serde_json::Value::Bool(v) => e.bool(*v).map(drop),
        serde_json::Value::Number(n) => match n.as_i64() {
            Some(v) => e.i64(v).map(drop),
            None => e.f64(n.as_f64().unwrap()).map(drop),
        },
        serde_json::Value::String(v) => e.str(v).map(drop),
        serde_json::Value::Array(list) => {
            e.array(list.len() as u64).unwrap();
            list.iter().for_each(|v| encode(v, e));
            Ok(())
        }
        serde_json::Value::Object(map) => {
            e.map(map.len() as u64).unwrap();
            map.iter().for_each(|(key, v)| {
                e.str(key).unwrap();
                encode(v, e);
            });
            Ok(())
        }
    }
    .unwrap();
}

proptest! {
    #[test]
    fn any_tree_is_flattened_alike_from_json_and_cbor(tree in trees()) {
        // Goal: both scanners agree with the rules applied to a tree (an object around it, so that a list is no list of
        // samples).
        let tree = json!({ "x": tree });
        let mut expected = Vec::new();
        flatten("", &tree, &mut expected);
        let plain = |(rows, _): Found| rows.into_iter().map(|(f, _, v)| (f, v)).collect::<Vec<_>>();
        let roomy = Caps { payload_bytes_max: 1 << 24, depth_max: 32, samples_max: 1 << 20, ..caps() };
        let json = Decoder::new(&Decode::Json(Fields::default()), &TimeSource::Arrival, &roomy);
        prop_assert_eq!(&plain(found(&json, tree.to_string())), &expected);
        prop_assert_eq!(&plain(found(&json, serde_json::to_string_pretty(&tree).unwrap())), &expected);
        let bytes = cbor(|e| encode(&tree, e));
        let cbor = Decoder::new(&Decode::Cbor(Fields::default()), &TimeSource::Arrival, &roomy);
        prop_assert_eq!(&plain(found(&cbor, bytes)), &expected);
    }

    #[test]
    fn json_is_accepted_exactly_when_serde_json_accepts_it(text in "[\\[\\]{}:,\"\\\\ue0-2.+\\-tflns a\n]{0,24}") {
        // Goal: the grammar, by random text over its alphabet.
        let accepted = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        let refused = found(&json_plain(), &text).1.contains(&("malformed", 1));
        let deep = found(&json_plain(), &text).1.contains(&("too_deep", 1));
        // An escape of half a surrogate pair is let through by IgnoredAny, which reads no text.
        if !text.contains("\\u") && !deep && !text.is_empty() {
            prop_assert_eq!(accepted, !refused, "{:?}", text);
        }
    }

    #[test]
    fn damaged_json_never_panics_and_is_judged_alike(tree in trees(), place in any::<prop::sample::Index>(), byte: u8) {
        // Goal: the grammar again, by one wrong byte in a valid text.
        let mut text = json!({ "x": tree }).to_string().into_bytes();
        let at = place.index(text.len());
        text[at] = byte;
        let accepted = serde_json::from_slice::<serde_json::Value>(&text);
        let (_, reasons) = found(&json_plain(), &text);
        let refused = reasons.contains(&("malformed", 1));
        // serde_json's tree has no place for numbers beyond a double, and refuses the payload.
        let huge = accepted.as_ref().is_err_and(|e| e.to_string().contains("out of range"));
        if !huge && !reasons.contains(&("too_deep", 1)) {
            prop_assert_eq!(accepted.is_ok(), !refused, "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn any_bytes_are_decoded_without_panic_and_within_bounds(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        // Goal: all decoders, with one batch reused, keep their promises on noise.
        let mut batch = Batch::default();
        for time in [TimeSource::Arrival, time_field("t", TimeFormat::Rfc3339), time_field("0", TimeFormat::Nanoseconds)] {
            for decode in [
                Decode::Json(Fields::default()),
                Decode::Cbor(Fields::default()),
                Decode::Cbor(Fields { only: vec![], samples: Some("s".into()) }),
                Decode::Number,
                Decode::Packed(Packed { sample: PackedType::F32, rate: 10.0, scale: 2.0 }),
            ] {
                let decoder = Decoder::new(&decode, &time, &caps());
                let result = decoder.decode(&payload, MOMENT, &mut batch);
                prop_assert!(batch.rows().len() <= 100);
                prop_assert!(result.is_ok() || batch.rows().is_empty());
                prop_assert!(!batch.rows().is_empty() || !batch.tally().is_clean(), "something is always said");
                for row in batch.rows() {
                    prop_assert!((0..TIME_END).contains(&row.time));
                    prop_assert!(row.value.as_f64().is_finite());
                    prop_assert!((row.field as usize) < batch.field_count());
                }
            }
        }
    }
}
