//! What the codec is tried on: ordinary columns, odd ones, and the ends of every range.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::super::*;
use crate::sample::{BootId, DoorId, Message, Reading, SECOND, SessionId, StreamId, Timeline};

fn ints() -> impl Strategy<Value = i64> {
    let edges = [i64::MIN, i64::MIN + 1, -1, 0, 1, 1 << 53, (1 << 53) + 1, i64::MAX - 1, i64::MAX];
    prop_oneof![4 => -1000i64..1000, 1 => any::<i64>(), 1 => proptest::sample::select(edges.to_vec())]
}

fn floats() -> impl Strategy<Value = f64> {
    let edges =
        [0.0, -0.0, 5e-324, -5e-324, f64::MIN_POSITIVE, f64::MAX, f64::MIN, 0.1 + 0.2, 1e15, 1e22, 1e-14];
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::from_bits(0xfff8_0000_0000_0001)];
    prop_oneof![
        6 => (-100_000i64..100_000, 0..6i32).prop_map(|(mantissa, places)| mantissa as f64 / 10f64.powi(places)),
        1 => any::<f64>(),
        1 => any::<f32>().prop_map(f64::from),
        1 => proptest::sample::select(edges.to_vec()),
        1 => proptest::sample::select(odd.to_vec()),
    ]
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![ints().prop_map(Value::Int), floats().prop_map(Value::Float)]
}

fn times() -> impl Strategy<Value = Nanos> {
    prop_oneof![4 => 0i64..100, 1 => ints()].prop_map(|time| time.wrapping_mul(1_000_000))
}

/// Runs of a few series, of one sort of value each or of all, in and out of order.
pub(super) fn readings() -> impl Strategy<Value = Vec<Reading>> {
    let sort = prop_oneof![
        vec(ints().prop_map(Value::Int), 1..40).boxed(),
        vec(floats().prop_map(Value::Float), 1..40).boxed(),
        vec(values(), 1..40).boxed(),
        (values(), 1..300usize).prop_map(|(value, count)| vec![value; count]).boxed(),
        (0i64..100, 1..300i64)
            .prop_map(|(from, count)| (0..count).map(|step| tenths(from + step)).collect())
            .boxed(),
    ];
    let series = prop_oneof![0u32..5, any::<u32>()].prop_map(SeriesId);
    let run = (series, sort, times(), 0i64..3 * SECOND).prop_map(|(series, values, start, step)| {
        let time = |index: usize| start.wrapping_add(step.wrapping_mul(index as i64));
        values
            .iter()
            .enumerate()
            .map(|(index, &value)| Reading { series, time: time(index), value })
            .collect()
    });
    (vec(run, 0..8), any::<bool>()).prop_map(|(runs, sorted): (Vec<Vec<Reading>>, bool)| {
        let mut readings = runs.concat();
        if sorted {
            readings.sort_by_key(|reading| (reading.series, reading.time));
        }
        readings
    })
}

/// "21.3" as a float, "21" as an integer.
fn tenths(tenths: i64) -> Value {
    if tenths % 10 == 0 { Value::Int(tenths / 10) } else { Value::Float(tenths as f64 / 10.0) }
}

fn timelines() -> impl Strategy<Value = Timeline> {
    let boot = any::<u32>().prop_map(|boot| Timeline::Boot(BootId(boot)));
    prop_oneof![Just(Timeline::Sensor), Just(Timeline::Arrival), boot]
}

pub(super) fn messages() -> impl Strategy<Value = Vec<Message>> {
    let session = prop_oneof![2 => Just(0u32), 2 => 1u32..4, 1 => any::<u32>()];
    let origin = (0u8..3, session, prop_oneof![0u32..3, any::<u32>()], timelines());
    let pkid = prop_oneof![Just(None), any::<u16>().prop_map(Some)];
    let few = vec(readings(), 0..2).prop_map(|readings| readings.concat().into_iter().take(12).collect());
    vec((origin, pkid, few), 0..60).prop_map(|parts| {
        let mut next = 65_500u16;
        let mut messages = Vec::new();
        for ((door, session, stream, timeline), pkid, readings) in parts {
            next = pkid.unwrap_or(next % u16::MAX + 1);
            let (door, stream) = (DoorId(door), StreamId(stream));
            let session = SessionId(session);
            messages.push(Message { door, ticket: 0, session, pkid: next, stream, timeline, readings });
        }
        messages
    })
}

fn window_rows() -> impl Strategy<Value = Vec<WindowRow>> {
    let row = (
        0u32..4,
        times(),
        any::<[u32; 4]>(),
        [values(), values(), values(), values(), values()],
        any::<u32>(),
    );
    vec(row, 0..50).prop_map(|rows| {
        let mut made = Vec::new();
        for (series, start, [count, late, duplicates, gap], [min, max, first, last, sum], std_dev) in rows {
            let (series, std_dev) = (SeriesId(series), f32::from_bits(std_dev));
            made.push(WindowRow {
                series,
                start,
                count,
                min,
                max,
                first,
                last,
                sum,
                std_dev,
                late,
                duplicates,
                gap,
            });
        }
        made
    })
}

fn alarms() -> impl Strategy<Value = Vec<Alarm>> {
    let alarm = (any::<u32>(), any::<i64>(), any::<bool>(), ".{0,20}", ".{0,60}", any::<f64>());
    vec(alarm, 0..20).prop_map(|alarms| {
        let alarm = |(series, time, active, name, message, value)| Alarm {
            series: SeriesId(series),
            time,
            active,
            name,
            message,
            value,
        };
        alarms.into_iter().map(alarm).collect()
    })
}

pub(super) fn envelopes() -> impl Strategy<Value = Envelope> {
    let text = || prop_oneof!["(line|cell)/[0-9]{1,3}/(temp|rpm)", ".{0,12}"];
    let entry = (text(), ".{0,3}", btree_map(text(), text(), 0..3))
        .prop_map(|(name, unit, labels)| SeriesEntry { name, unit, labels });
    let clock = prop_oneof![
        Just(WireClock::Sensor),
        Just(WireClock::Arrival),
        ".{0,36}".prop_map(|boot| WireClock::Estimated { boot })
    ];
    let rows = prop_oneof![
        readings().prop_map(Rows::Raw),
        (any::<i64>(), window_rows()).prop_map(|(length, rows)| Rows::Windows { length, rows }),
        alarms().prop_map(Rows::Alarms),
    ];
    let series = btree_map(any::<u32>().prop_map(SeriesId), entry, 0..30);
    (".{0,64}", clock, series, rows).prop_map(|(stream, clock, series, rows)| Envelope {
        stream,
        clock,
        series,
        rows,
    })
}
