use proptest::prelude::*;

use super::*;

fn known(ids: &[u32]) -> Known {
    let mut known = Known::default();
    for id in ids {
        assert!(known.insert(*id));
        assert!(!known.insert(*id));
    }
    known
}

fn reading(series: u32, time: i64, value: Value) -> Reading {
    Reading { series: SeriesId(series), time, value }
}

fn empty() -> Batch {
    Batch { series: vec![], times: vec![], values: vec![], integer_rows: vec![], integers: vec![] }
}

#[test]
fn what_goes_in_comes_out_to_the_last_digit_and_in_its_order() {
    // Goal: floats and integers keep their order and their exact value. Method: round trip with integers beyond 2^53.
    let rows = [
        reading(5, 30, Value::Int(i64::MAX)),
        reading(1, 10, Value::Float(0.1)),
        reading(5, 20, Value::Float(-0.0)),
        reading(1, i64::MIN, Value::Int(i64::MIN)),
        reading(1, i64::MAX, Value::Int((1 << 53) + 1)),
    ];
    let mut batch = empty();
    fill(&mut batch, &[reading(9, 9, Value::Int(9))]);
    fill(&mut batch, &rows);
    let mut out = Vec::new();
    assert_eq!(take(&batch, Given(5), &known(&[1, 5]), &mut out), 0);
    assert_eq!(out, rows);
}

#[test]
fn rows_that_do_not_hold_are_dropped_and_counted_and_the_others_taken() {
    // Goal: unknown series, values that are not finite and rows without all columns go, one by one. Method: one of each.
    let batch = Batch {
        series: vec![1, 2, 1, 1, 1, 1],
        times: vec![1, 2, 3, 4, 5],
        values: vec![1.0, 2.0, f64::NAN, f64::NEG_INFINITY, f64::NAN],
        integer_rows: vec![4],
        integers: vec![7],
    };
    let mut out = Vec::new();
    assert_eq!(take(&batch, Given(6), &known(&[1]), &mut out), 4);
    assert_eq!(out, [reading(1, 1, Value::Float(1.0)), reading(1, 5, Value::Int(7))]);
}

#[test]
fn integers_astray_are_counted_and_change_nothing() {
    // Goal: entries without a partner, twice, out of order or beyond the end are ignored. Method: all at once.
    let batch = Batch {
        series: vec![1; 3],
        times: vec![1, 2, 3],
        values: vec![1.0, 2.0, 3.0],
        integer_rows: vec![1, 1, 0, 2, 3, 900],
        integers: vec![10, 11, 12, 13, 14, 15, 16],
    };
    let mut out = Vec::new();
    assert_eq!(take(&batch, Given(3), &known(&[1]), &mut out), 5);
    let values: Vec<Value> = out.iter().map(|reading| reading.value).collect();
    assert_eq!(values, [Value::Float(1.0), Value::Int(10), Value::Int(13)]);
}

#[test]
fn too_many_rows_are_cut() {
    // Goal: four rows for each given and 1,024 more. Method: one row over.
    let rows = 2 * 4 + 1024 + 1;
    let batch = Batch { series: vec![1; rows], times: vec![0; rows], values: vec![0.0; rows], ..empty() };
    let mut out = Vec::new();
    assert_eq!(take(&batch, Given(2), &known(&[1]), &mut out), 1);
    assert_eq!(out.len(), rows - 1);
}

#[test]
fn alarms_are_checked_cut_and_capped() {
    // Goal: unknown series, NaN and excess alarms are counted; long text is cut at a character. Method: one of each.
    let good = Alarm {
        series: 1,
        time: 2,
        edge: Edge::Cleared,
        name: "é".repeat(40),
        message: "m".repeat(600),
        value: 3.0,
    };
    let bad = [Alarm { series: 2, ..good.clone() }, Alarm { value: f64::NAN, ..good.clone() }];
    let alarms = bad.into_iter().chain(vec![good; 100]).collect();
    let mut out = Vec::new();
    assert_eq!(take_alarms(alarms, Given(1), &known(&[1]), &mut out), 2 + (102 - 68));
    assert_eq!(out.len(), 66);
    assert_eq!((out[0].name.len(), out[0].message.len(), out[0].active), (64, 512, false));
}

#[test]
fn numbers_of_any_size_are_remembered() {
    // Goal: no number needs more memory than the map is meant to take. Method: both sides of its end.
    let last = BITS_MAX as u32 - 1;
    let known = known(&[0, 63, 64, last, last + 1, u32::MAX]);
    for (id, expected) in
        [(0, true), (1, false), (64, true), (last, true), (last + 1, true), (last + 2, false)]
    {
        assert_eq!(known.contains(id), expected, "{id}");
    }
    assert!(known.contains(u32::MAX));
}

proptest! {
    #[test]
    fn any_columns_give_bounded_rows_and_every_entry_is_accounted_for(
        series in prop::collection::vec(0u32..4, 0..20),
        times in prop::collection::vec(any::<i64>(), 0..20),
        values in prop::collection::vec(any::<f64>(), 0..20),
        integer_rows in prop::collection::vec(0u32..24, 0..20),
        integers in prop::collection::vec(any::<i64>(), 0..20),
    ) {
        // Goal: no panic, and out + rejected covers every row and every integer entry. Method: arbitrary columns.
        let batch = Batch { series, times, values, integer_rows, integers };
        let rows = batch.series.len().max(batch.times.len()).max(batch.values.len());
        let entries = batch.integer_rows.len().max(batch.integers.len());
        let mut out = Vec::new();
        let rejected = take(&batch, Given(20), &known(&[1, 2]), &mut out);
        prop_assert!(out.iter().all(|r| [1, 2].contains(&r.series.0) && r.value.as_f64().is_finite()));
        prop_assert!(out.len() + rejected >= rows);
        prop_assert!(out.len() + rejected <= rows + entries);
    }
}
