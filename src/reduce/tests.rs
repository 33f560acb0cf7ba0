mod model;

use super::*;
use crate::block::DecodeError;
use crate::sample::{BootId, SECOND, Value};

const LENGTH: Nanos = 60 * SECOND;
const LATENESS: Nanos = 5 * SECOND;

fn reducer() -> Reducer {
    Reducer::new(LENGTH, LATENESS)
}

fn at(seconds: f64, value: f64) -> Reading {
    Reading { series: SeriesId(1), time: (seconds * SECOND as f64) as Nanos, value: Value::Float(value) }
}

fn whole_at(seconds: i64, value: i64) -> Reading {
    Reading { series: SeriesId(1), time: seconds * SECOND, value: Value::Int(value) }
}

/// Pushes readings of the sensor's own times, and gives the rows that closed.
fn rows_of(reducer: &mut Reducer, readings: impl IntoIterator<Item = Reading>) -> Vec<WindowRow> {
    for reading in readings {
        reducer.push(Timeline::Sensor, reading, 0);
    }
    taken(reducer)
}

fn taken(reducer: &mut Reducer) -> Vec<WindowRow> {
    reducer.take_closed().into_iter().map(|closed| closed.row).collect()
}

fn flushed(reducer: &mut Reducer) -> Vec<WindowRow> {
    reducer.flush();
    taken(reducer)
}

// === the arrows of the diagram ===

#[test]
fn a_window_holds_its_start_and_not_its_end() {
    // Readings on both edges of one window; the second edge belongs to the next.
    let mut reducer = reducer();
    rows_of(&mut reducer, [at(60.0, 1.0), at(119.9, 2.0), at(120.0, 3.0)]);
    let rows = flushed(&mut reducer);
    assert_eq!([rows[0].start, rows[1].start], [60 * SECOND, 120 * SECOND]);
    assert_eq!([rows[0].count, rows[1].count], [2, 1]);
}

#[test]
fn a_window_closes_when_the_watermark_reaches_its_end_and_lateness() {
    // One nanosecond before, nothing; at it, the row.
    let mut reducer = reducer();
    assert_eq!(rows_of(&mut reducer, [at(0.0, 1.0), at(64.999_999_999, 2.0)]), []);
    let rows = rows_of(&mut reducer, [at(65.0, 3.0)]);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].start, rows[0].count, rows[0].last), (0, 1, Value::Float(1.0)));
}

#[test]
fn an_idle_series_closes_after_length_and_lateness_of_monotonic_time() {
    // Only what is taken counts as life: a duplicate and a late reading do not keep a window open.
    let mut reducer = reducer();
    reducer.push(Timeline::Sensor, at(100.0, 1.0), 0);
    reducer.push(Timeline::Sensor, at(100.0, 1.0), 64 * SECOND);
    reducer.push(Timeline::Sensor, at(0.0, 1.0), 64 * SECOND);
    reducer.advance(65 * SECOND - 1);
    assert_eq!(taken(&mut reducer), []);
    reducer.advance(65 * SECOND);
    let rows = taken(&mut reducer);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].late, rows[0].duplicates), (1, 1));
    reducer.push(Timeline::Sensor, at(101.0, 1.0), 66 * SECOND);
    assert_eq!(reducer.counters().late, 2, "the idle window is closed for good");
}

#[test]
fn a_late_reading_is_in_no_window_and_in_the_next_rows_count() {
    // Late by a window; the row after it says so, the one after that does not.
    let mut reducer = reducer();
    let rows =
        rows_of(&mut reducer, [at(0.0, 1.0), at(70.0, 1.0), at(10.0, 99.0), at(140.0, 1.0), at(200.0, 1.0)]);
    assert_eq!(rows.iter().map(|row| (row.count, row.late)).collect::<Vec<_>>(), [(1, 0), (1, 1), (1, 0)]);
    assert_eq!(reducer.counters(), Counters { late: 1, ..Counters::default() });
}

#[test]
fn a_reading_within_lateness_belongs_to_its_window() {
    // The next window has begun, the previous one is still open.
    let mut reducer = reducer();
    let rows = rows_of(&mut reducer, [at(59.0, 1.0), at(63.0, 2.0), at(58.0, 3.0), at(65.0, 4.0)]);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].count, rows[0].first, rows[0].last), (2, Value::Float(3.0), Value::Float(1.0)));
}

#[test]
fn a_repeated_time_of_a_sensor_is_counted_once() {
    // The newest time again, and an older one again; on arrival times the same are readings of their own.
    let mut sensor = reducer();
    rows_of(&mut sensor, [at(1.0, 1.0), at(2.0, 2.0), at(3.0, 3.0), at(3.0, 30.0), at(1.0, 10.0)]);
    let row = flushed(&mut sensor)[0];
    assert_eq!((row.count, row.duplicates, row.sum), (3, 2, Value::Float(6.0)));

    let mut arrival = reducer();
    for reading in [at(1.0, 1.0), at(1.0, 2.0)] {
        arrival.push(Timeline::Arrival, reading, 0);
    }
    let row = flushed(&mut arrival)[0];
    assert_eq!((row.count, row.duplicates), (2, 0));
    assert_eq!((row.first, row.last), (Value::Float(1.0), Value::Float(2.0)), "in the order they came");
}

#[test]
fn a_gap_is_the_number_of_empty_windows_between_rows() {
    // Windows 0, 1 and 4; the first row has none before it.
    let mut reducer = reducer();
    let mut rows = rows_of(&mut reducer, [at(0.0, 1.0), at(60.0, 1.0), at(240.0, 1.0)]);
    rows.extend(flushed(&mut reducer));
    assert_eq!(rows.iter().map(|row| row.gap).collect::<Vec<_>>(), [0, 0, 2]);
}

#[test]
fn a_series_that_changes_its_timeline_starts_afresh() {
    // Two open windows close at once; the new timeline knows no watermark, no gap; waiting counts are kept.
    let mut reducer = reducer();
    rows_of(&mut reducer, [at(55.0, 1.0), at(61.0, 2.0), at(61.0, 2.0)]);
    reducer.push(Timeline::Boot(BootId(3)), at(-600.0, 5.0), 0);
    let rows = taken(&mut reducer);
    assert_eq!(rows.iter().map(|row| (row.start, row.duplicates)).collect::<Vec<_>>(), [(0, 1), (LENGTH, 0)]);
    reducer.flush();
    let closed = reducer.take_closed();
    assert_eq!(closed.len(), 1);
    assert_eq!((closed[0].timeline, closed[0].row.gap), (Timeline::Boot(BootId(3)), 0));

    reducer.push(Timeline::Boot(BootId(3)), at(-600.0, 5.0), 0);
    assert_eq!(reducer.counters().late, 1, "nothing is open for the next change to report it");
    reducer.push(Timeline::Arrival, at(0.0, 5.0), 0);
    assert_eq!(flushed(&mut reducer)[0].late, 1);
}

#[test]
fn a_fast_clock_spoils_only_its_own_series() {
    // One series jumps a year ahead; its neighbour is not late.
    let mut reducer = reducer();
    rows_of(&mut reducer, [at(0.0, 1.0), at(365.0 * 86_400.0, 1.0)]);
    let neighbour = |seconds| Reading { series: SeriesId(2), ..at(seconds, 1.0) };
    let rows = rows_of(&mut reducer, [neighbour(0.0), neighbour(1.0), neighbour(65.0)]);
    assert_eq!(rows.iter().map(|row| (row.series, row.count)).collect::<Vec<_>>(), [(SeriesId(2), 2)]);
    assert_eq!(reducer.counters().late, 0);
}

// === values ===

#[test]
fn integers_keep_every_digit() {
    // Beyond 2^53, where floats cannot tell neighbours apart.
    let big = 1i64 << 60;
    let mut reducer = reducer();
    rows_of(&mut reducer, [whole_at(1, big + 1), whole_at(2, big + 3), whole_at(3, big + 2)]);
    let row = flushed(&mut reducer)[0];
    assert_eq!([row.min, row.max], [Value::Int(big + 1), Value::Int(big + 3)]);
    assert_eq!([row.first, row.last], [Value::Int(big + 1), Value::Int(big + 2)]);
    assert_eq!(row.sum, Value::Int(3 * big + 6));
    assert!((f64::from(row.std_dev) - (2.0f64 / 3.0).sqrt()).abs() < 1e-6, "{}", row.std_dev);
}

#[test]
fn a_sum_of_integers_that_does_not_fit_becomes_a_float() {
    // Two of the largest.
    let mut reducer = reducer();
    rows_of(&mut reducer, [whole_at(1, i64::MAX), whole_at(2, i64::MAX)]);
    let row = flushed(&mut reducer)[0];
    assert_eq!(row.sum, Value::Float(2.0 * i64::MAX as f64));
    assert_eq!(row.mean(), i64::MAX as f64);
}

#[test]
fn small_floats_survive_beside_large_ones() {
    // Plain addition gives 0, the compensated sum 2.
    let mut reducer = reducer();
    rows_of(&mut reducer, [at(1.0, 1.0), at(2.0, 1e100), at(3.0, 1.0), at(4.0, -1e100)]);
    assert_eq!(flushed(&mut reducer)[0].sum, Value::Float(2.0));
}

#[test]
fn integers_and_floats_share_a_window() {
    // The sum is a float, minimum and maximum are what came, compared exactly.
    let mut reducer = reducer();
    let big = 1i64 << 53;
    rows_of(&mut reducer, [at(1.0, big as f64), whole_at(2, big + 1), at(3.0, 0.5), whole_at(4, -1)]);
    let row = flushed(&mut reducer)[0];
    assert_eq!([row.min, row.max], [Value::Int(-1), Value::Int(big + 1)]);
    assert_eq!(row.sum, Value::Float((big as f64) * 2.0 + 0.5));
}

#[test]
fn the_extremes_do_not_overflow() {
    // The ends of time, of integers and of floats, in windows of a nanosecond and of nearly all time.
    for length in [1, LENGTH, Nanos::MAX] {
        for lateness in [0, LATENESS, Nanos::MAX] {
            let mut reducer = Reducer::new(length, lateness);
            let values =
                [Value::Int(i64::MIN), Value::Int(i64::MAX), Value::Float(f64::MAX), Value::Float(f64::MIN)];
            for value in values {
                for time in [0, Nanos::MIN, Nanos::MAX, -1, Nanos::MIN + 1, Nanos::MAX - 1] {
                    reducer.push(
                        Timeline::Sensor,
                        Reading { series: SeriesId(u32::MAX), time, value },
                        Nanos::MAX,
                    );
                    reducer.push(Timeline::Arrival, Reading { series: SeriesId(0), time, value }, Nanos::MIN);
                }
            }
            reducer.advance(Nanos::MIN);
            reducer.advance(Nanos::MAX);
            reducer.flush();
            for closed in reducer.take_closed() {
                assert!(closed.row.std_dev.is_finite() && closed.row.sum.as_f64().is_finite(), "{closed:?}");
            }
        }
    }
}

// === bounds ===

#[test]
fn duplicates_are_found_exactly_up_to_the_bound_and_counted_beyond() {
    // TIMES_MAX times are remembered; later ones in order are new without a search, older unknown ones are unchecked.
    let mut reducer = Reducer::new(10_000 * SECOND, 0);
    let count = TIMES_MAX as i64 + 10;
    rows_of(&mut reducer, (0..count).map(|second| whole_at(second, second)));
    rows_of(&mut reducer, [whole_at(0, 0), whole_at(4_095, 0), whole_at(count - 1, 0)]);
    assert_eq!(reducer.counters(), Counters { duplicates: 3, ..Counters::default() });
    rows_of(&mut reducer, [whole_at(4_100, 0)]);
    assert_eq!(reducer.counters().unchecked, 1);
    let row = flushed(&mut reducer)[0];
    assert_eq!((row.count as i64, row.duplicates), (count + 1, 3));
}

#[test]
fn a_series_has_a_bounded_number_of_open_windows() {
    // Lateness of an hour over windows of a second: the oldest close before the watermark would close them.
    let mut reducer = Reducer::new(SECOND, 3_600 * SECOND);
    let rows = rows_of(&mut reducer, (0..OPEN_MAX as i64 + 2).map(|second| whole_at(second, second)));
    assert_eq!(rows.iter().map(|row| row.start).collect::<Vec<_>>(), [0, SECOND]);
    rows_of(&mut reducer, [at(1.5, 1.0)]);
    assert_eq!(reducer.counters().late, 1);
    assert_eq!(flushed(&mut reducer).len(), OPEN_MAX);
}

// === snapshots ===

#[test]
fn a_restored_series_is_idle_only_from_its_restoration() {
    // Monotonic time begins anew with the process; the window still closes, counted from there.
    let mut reducer = reducer();
    reducer.push(Timeline::Sensor, at(0.0, 1.0), 900 * SECOND);
    let mut restored = Reducer::restore(&reducer.snapshot(), 3 * SECOND).unwrap();
    restored.advance(67 * SECOND);
    assert_eq!(taken(&mut restored), []);
    restored.advance(68 * SECOND);
    assert_eq!(taken(&mut restored).len(), 1);
}

#[test]
fn waiting_counts_survive_a_snapshot() {
    // Late readings and duplicates of a series without an open window, and the gap to its next row.
    let mut reducer = reducer();
    rows_of(&mut reducer, [at(0.0, 1.0), at(0.0, 1.0)]);
    assert_eq!(flushed(&mut reducer)[0].duplicates, 1);
    rows_of(&mut reducer, [at(1.0, 1.0)]);
    let mut restored = Reducer::restore(&reducer.snapshot(), 0).unwrap();
    rows_of(&mut restored, [at(180.0, 1.0)]);
    let row = flushed(&mut restored)[0];
    assert_eq!((row.late, row.duplicates, row.gap), (1, 0, 2));
}

#[test]
fn a_snapshot_of_the_wrong_kind_is_refused() {
    // A block of readings is no reducer.
    let refused = Reducer::restore(&crate::block::encode_readings(&[]), 0);
    assert!(matches!(refused, Err(DecodeError::Kind { .. })), "{refused:?}");
}
