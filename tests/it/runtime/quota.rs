//! Components that take more than they may.

use frond::config::{self, Fallback};
use frond::runtime::{Host, Outcome, Processor, Reason, Registrar};
use frond::sample::{Reading, SECOND};

use super::{TRIGGER, compiler, component, count, describe, float, process, shared_cache};

fn open(host: &Host, component: &config::Component) -> Processor {
    Processor::open(host, component, compiler(), &shared_cache()).unwrap()
}

fn rows(count: i64) -> Vec<Reading> {
    (0..count).map(|n| float(1, n, 0.0)).collect()
}

#[test]
fn beyond_its_share_of_the_time_a_component_is_not_called() {
    // Goal: a component that takes long leaves its batches to its fallback, and is called again once time has paid.
    // Method: a hundredth of the time, one hundred milliseconds ahead; calls of the real one until they are used up; the
    // clock is injected.
    let host = Host::new().unwrap();
    let slow = config::Component {
        cpu_share_percent: 1,
        readings_in_per_second: 100_000_000,
        ..component("misbehave", &[])
    };
    let mut guest = open(&host, &slow);
    let batch = rows(8_192);
    let calls =
        (0..10_000).take_while(|_| process(&mut guest, 0, &batch).outcome == Outcome::Processed).count();
    assert!((1..10_000).contains(&calls), "{calls} calls of 8,192 readings fit into 100 ms");
    let processed = process(&mut guest, 0, &batch);
    assert_eq!(processed.outcome, Outcome::PassedThrough(Reason::OverShare));
    assert_eq!(processed.readings, batch);
    assert_eq!(count(&guest, |c| &c.over_share), 2 * 8_192);
    assert_eq!(count(&guest, |c| &c.passed_by), 2 * 8_192);
    assert_eq!(process(&mut guest, 3_600, &batch).outcome, Outcome::Processed);
    let spent = count(&guest, |c| &c.call_ns);
    assert!(spent > 100_000_000, "{spent} ns");
}

#[test]
fn beyond_its_rates_readings_fall_back_and_results_are_dropped() {
    // Goal: each rate has its counter, and what is within passes. Method: a hundred readings in, a thousand ahead; ten
    // readings more than it is given out; ten alarms.
    let host = Host::new().unwrap();
    let limited = |mode: &str, fallback| config::Component {
        readings_in_per_second: 100,
        readings_out_per_second: 10,
        alarms_per_second: 1,
        fallback,
        ..component("misbehave", &[("mode", mode)])
    };
    let mut guest = open(&host, &limited("", Fallback::Drop));
    assert_eq!(process(&mut guest, 0, &rows(1_500)).outcome, Outcome::Processed);
    assert_eq!(process(&mut guest, 4, &rows(1)).outcome, Outcome::PassedThrough(Reason::OverRate));
    assert_eq!(process(&mut guest, 6, &rows(1)).outcome, Outcome::Processed);
    assert_eq!((count(&guest, |c| &c.over_rate), count(&guest, |c| &c.dropped)), (1, 1));
    assert_eq!(count(&guest, |c| &c.readings_over), 0, "as many out as in");

    let mut guest = open(&host, &limited("many-rows", Fallback::Pass));
    let processed = process(&mut guest, 0, &[float(1, 0, TRIGGER)]);
    assert_eq!((processed.outcome, processed.readings.len()), (Outcome::Processed, 101));
    assert_eq!(count(&guest, |c| &c.readings_over), 4 + 1_024 - 101);

    let mut guest = open(&host, &limited("alarm-flood", Fallback::Pass));
    assert_eq!(process(&mut guest, 0, &[float(1, 0, TRIGGER)]).alarms.len(), 10);
    assert_eq!(process(&mut guest, 2, &[float(1, 1, TRIGGER)]).alarms.len(), 2);
    assert_eq!(count(&guest, |c| &c.alarms_over), 68 - 10 + 68 - 2);
}

#[test]
fn a_state_larger_than_it_may_be_is_not_stored() {
    // Goal: stored bytes are limited as configured; the state before stays. Method: `vibration` collects a block of samples
    // in its state, which grows beyond the limit.
    let host = Host::new().unwrap();
    let options = [("series", "*"), ("block", "4096")];
    let limited = config::Component { state_bytes_max: 4_096, ..component("vibration", &options) };
    let mut vibration = open(&host, &limited);
    let mut work = |from: i64, to: i64| {
        let rows: Vec<Reading> = (from..to).map(|n| float(1, n * SECOND / 10_000, 1.0)).collect();
        vibration.process(0, &rows, describe, &mut Registrar::refusing("no more series"));
        vibration.snapshot()
    };
    let small = work(0, 10);
    assert!(small.as_ref().is_some_and(|state| state.len() <= 4_096));
    assert_eq!(work(10, 4_000), small);
    assert_eq!(count(&vibration, |c| &c.snapshots_rejected), 1);
}
