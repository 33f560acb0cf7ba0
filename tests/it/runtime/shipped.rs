//! The components that ship, through the real contract.

use frond::runtime::{Host, Outcome, Processor, Restored};
use frond::sample::{Reading, SECOND, SeriesId};

use super::{count, float, int, open, process, process_with, recording, values};

#[test]
fn limits_calibrates_raises_and_clears() {
    // Goal: the shipped component does what its documentation says, through the real contract. Method: calibrated and
    // other series in one batch, integers beyond 2^53 among them.
    let host = Host::new().unwrap();
    let options = [("calibrate", "line/1/*: scale 0.5, offset 1"), ("high", "line/1/*: 50, hysteresis 5")];
    let mut limits = open(&host, "limits", &options);
    let whole = (1 << 53) + 1;
    let rows = [float(1, 1, 100.0), int(2, 1, whole), int(1, 2, 80), float(1, 3, 60.0), float(2, 2, 1e9)];
    let processed = process(&mut limits, 0, &rows);
    assert_eq!(processed.outcome, Outcome::Processed);
    let expected =
        [float(1, 1, 51.0), int(2, 1, whole), float(1, 2, 41.0), float(1, 3, 31.0), float(2, 2, 1e9)];
    assert_eq!(processed.readings, expected);
    let [raised, cleared] = &processed.alarms[..] else { panic!("{:?}", processed.alarms) };
    assert_eq!((raised.series, raised.time, raised.active, raised.value), (SeriesId(1), 1, true, 51.0));
    assert_eq!((&*raised.name, &*raised.message), ("high", "line/1/temperature is 51 °C, above 50"));
    assert_eq!((cleared.time, cleared.active), (2, false));
    assert_eq!(count(&limits, |c| &c.rows_rejected), 0);
}

#[test]
fn vibration_gives_features_under_series_of_its_own() {
    // Goal: the shipped component does what its documentation says, through the real contract, across a restart in the middle
    // of a block. Method: a sine of 100 in blocks of 256 beside a counter that passes; snapshot and restore after 100 rows.
    let host = Host::new().unwrap();
    let options = [("series", "line/1/*"), ("block", "256"), ("bands", "400-600")];
    let sine = |n: i64| 100.0 * (2.0 * std::f64::consts::PI * n as f64 / 20.0).sin();
    let row = |n: i64| float(1, n * SECOND / 10_000, sine(n));
    let (mut registrar, registered) = recording();
    let mut work =
        |processor: &mut Processor, rows: &[Reading]| process_with(&mut registrar, processor, 1, rows);
    let mut first = open(&host, "vibration", &options);
    let rows: Vec<Reading> = (0..100).map(row).chain([int(2, 1, 7)]).collect();
    assert_eq!(work(&mut first, &rows).readings, [int(2, 1, 7)]);
    let mut second = open(&host, "vibration", &options);
    assert_eq!(second.restore_from(first.snapshot().unwrap()), Restored::Taken);
    let processed = work(&mut second, &(100..300).map(row).collect::<Vec<_>>());
    assert_eq!(processed.outcome, Outcome::Processed);
    let registered = registered.lock().unwrap();
    let names: Vec<&str> = registered.iter().map(|(name, _)| name.as_str()).collect();
    let expected =
        ["rms", "peak", "crest", "kurtosis", "band.400-600"].map(|f| format!("line/1/temperature/{f}"));
    assert_eq!(names, expected);
    assert_eq!(registered[0].1, "°C");
    assert!(
        processed.readings.iter().all(|reading| reading.time == row(255).time),
        "{:?}",
        processed.readings
    );
    let found = values(&processed);
    let expected = [70.7, 100.0, 1.414, 1.5, 70.7];
    assert!(
        found.iter().zip(expected).all(|(found, expected)| (found / expected - 1.0).abs() < 0.03),
        "{found:?}"
    );
}

#[test]
fn downsample_keeps_what_a_chart_shows() {
    // Goal: the shipped component does what its documentation says, through the real contract; whole numbers stay exact.
    // Method: a window of five readings, one of them late, closed by the next; a series that passes beside it.
    let host = Host::new().unwrap();
    let options = [("series", "line/1/*: 10ms")];
    let mut downsample = open(&host, "downsample", &options);
    let (ms, big) = (SECOND / 1_000, (1 << 53) + 1);
    let held = [
        int(1, 10 * ms, big),
        int(1, 11 * ms, 3),
        int(1, 12 * ms, 5),
        int(1, 19 * ms, 4),
        float(2, 10 * ms, 0.5),
    ];
    assert_eq!(process(&mut downsample, 0, &held).readings, [float(2, 10 * ms, 0.5)]);
    let processed = process(&mut downsample, 1, &[int(1, 20 * ms, 9), int(1, 5 * ms, 1)]);
    assert_eq!(
        processed.readings,
        [int(1, 10 * ms, big), int(1, 11 * ms, 3), int(1, 19 * ms, 4), int(1, 5 * ms, 1)]
    );
}

#[test]
fn an_alarm_stays_raised_across_snapshot_and_restore() {
    // Goal: after a restart an active alarm is not raised again, but is cleared. Method: snapshot in one processor,
    // restore in another.
    let host = Host::new().unwrap();
    let options = [("high", "*: 50")];
    let mut first = open(&host, "limits", &options);
    assert_eq!(process(&mut first, 0, &[float(1, 1, 60.0)]).alarms.len(), 1);
    let snapshot = first.snapshot().unwrap();

    let mut second = open(&host, "limits", &options);
    assert_eq!(second.restore_from(snapshot.clone()), Restored::Taken);
    assert_eq!(process(&mut second, 0, &[float(1, 2, 61.0)]).alarms, []);
    let alarms = process(&mut second, 0, &[float(1, 3, 10.0)]).alarms;
    assert_eq!(alarms.iter().map(|alarm| alarm.active).collect::<Vec<_>>(), [false]);

    let mut third = open(&host, "limits", &options);
    let Restored::SetAside(reason) = third.restore_from(snapshot[1..].to_vec()) else {
        panic!("half a state was taken")
    };
    assert!(reason.contains("cut short"), "{reason}");
    assert_eq!(process(&mut third, 0, &[float(1, 2, 61.0)]).alarms.len(), 1);
}
