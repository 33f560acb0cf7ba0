//! Components that fail, or give back what does not hold.

use std::time::Instant;

use frond::config;
use frond::runtime::{Host, Outcome, Processor, Reason, Restored};

use super::{
    DEADLINE_SHORT, PATIENCE, TRIGGER, compiler, component, count, float, int, open, process, process_with,
    recording, shared_cache, values,
};

#[test]
fn a_component_that_fails_is_passed_by_discarded_and_comes_back() {
    // Goal: each kind of failure ends within its deadline, is counted as what it is, costs no reading, and the component
    // works again after its pause, with its series announced anew. Method: one processor for each kind; time is injected.
    let host = Host::new().unwrap();
    for (mode, reason) in [
        ("trap", Reason::Trap),
        ("exit", Reason::Trap),
        ("recurse", Reason::Trap),
        ("sleep", Reason::Trap),
        ("many-bytes", Reason::Trap),
        ("loop", Reason::Deadline),
        ("grow", Reason::Memory),
    ] {
        let mut guest = open(&host, "misbehave", &[("mode", mode)]);
        if reason == Reason::Deadline {
            let hurried =
                config::Component { deadline: DEADLINE_SHORT, ..component("misbehave", &[("mode", mode)]) };
            guest = Processor::open(&host, &hurried, compiler(), &shared_cache()).unwrap();
        }
        let sound = [float(1, 1, 10.0), int(2, 1, 20)];
        let fatal = [float(1, 2, TRIGGER), int(2, 2, i64::MAX), float(3, 2, 0.5)];
        assert_eq!(values(&process(&mut guest, 0, &sound)), [11.0, 21.0], "{mode}");

        let started = Instant::now();
        let processed = process(&mut guest, 1, &fatal);
        assert!(started.elapsed() < PATIENCE, "{mode} took {:?}", started.elapsed());
        assert_eq!(processed.outcome, Outcome::PassedThrough(reason), "{mode}");
        assert_eq!(processed.readings, fatal, "{mode}");

        let processed = process(&mut guest, 1, &sound);
        assert_eq!(
            (processed.outcome, &processed.readings[..]),
            (Outcome::PassedThrough(Reason::BackingOff), &sound[..])
        );
        assert_eq!(values(&process(&mut guest, 2, &sound)), [11.0, 21.0], "{mode} did not come back");

        assert_eq!(count(&guest, |c| &c.passed_by), 5, "{mode}");
        assert_eq!(count(&guest, |c| &c.restarts), 1, "{mode}");
        let faults = [
            count(&guest, |c| &c.traps),
            count(&guest, |c| &c.deadlines),
            count(&guest, |c| &c.memory_faults),
        ];
        let expected = [reason == Reason::Trap, reason == Reason::Deadline, reason == Reason::Memory];
        assert_eq!(faults, expected.map(u64::from), "{mode}");
    }
}

#[test]
fn a_component_that_always_fails_is_tried_less_and_less() {
    // Goal: pauses double, and every batch passes. Method: the fatal batch each second for half a minute.
    let host = Host::new().unwrap();
    let mut guest = open(&host, "misbehave", &[("mode", "trap")]);
    let failed: Vec<i64> = (0..33)
        .filter(|second| {
            let processed = process(&mut guest, *second, &[float(1, *second, TRIGGER)]);
            assert_eq!(values(&processed), [TRIGGER]);
            processed.outcome == Outcome::PassedThrough(Reason::Trap)
        })
        .collect();
    assert_eq!(failed, [0, 1, 3, 7, 15, 31]);
}

#[test]
fn what_does_not_hold_is_dropped_and_counted_and_the_component_lives() {
    // Goal: bad rows and alarms cost nothing but themselves. Method: one processor for each kind of bad result.
    let host = Host::new().unwrap();
    let rows = [float(1, 1, TRIGGER), float(1, 2, 1.0), float(1, 3, 2.0), float(1, 4, 3.0)];
    for (mode, rejected, kept) in [
        ("not-finite", 2, vec![2.0, 3.0]),
        ("unknown-series", 1, vec![1.0, 2.0, 3.0]),
        ("unequal", 2, vec![TRIGGER, 1.0]),
        ("integers-astray", 3, vec![42.0, 1.0, 2.0, 3.0]),
        ("many-rows", 100, vec![1.0; 4 * 4 + 1024]),
    ] {
        let mut guest = open(&host, "misbehave", &[("mode", mode)]);
        let processed = process(&mut guest, 0, &rows);
        assert_eq!(processed.outcome, Outcome::Processed, "{mode}");
        assert_eq!(values(&processed), kept, "{mode}");
        assert_eq!(count(&guest, |c| &c.rows_rejected), rejected, "{mode}");
        assert_eq!(values(&process(&mut guest, 0, &[float(1, 5, 1.0)])), [2.0], "{mode}");
    }
    for (mode, rejected, kept) in [("bad-alarms", 2, 1), ("alarm-flood", 10, 4 * 4 + 64)] {
        let mut guest = open(&host, "misbehave", &[("mode", mode)]);
        let processed = process(&mut guest, 0, &rows);
        assert_eq!((processed.outcome, &processed.readings[..]), (Outcome::Processed, &rows[..]), "{mode}");
        assert_eq!(processed.alarms.len(), kept, "{mode}");
        assert_eq!(count(&guest, |c| &c.alarms_rejected), rejected, "{mode}");
        assert!(
            processed.alarms.iter().all(|alarm| alarm.name.len() <= 64 && alarm.message.len() <= 512),
            "{mode}"
        );
    }
}

#[test]
fn a_flood_of_log_lines_is_cut() {
    // Goal: log import, standard output and standard error share one budget. Method: a thousand lines on each.
    let host = Host::new().unwrap();
    let mut guest = open(&host, "misbehave", &[("mode", "log-flood")]);
    assert_eq!(process(&mut guest, 0, &[float(1, 1, TRIGGER)]).outcome, Outcome::Processed);
    assert_eq!(count(&guest, |c| &c.log_lines), 50);
    assert_eq!(count(&guest, |c| &c.log_lines_dropped), 2950);
}

#[test]
fn a_component_registers_series_while_it_works() {
    // Goal: the call waits for the number, which counts for this instance only; refusals and floods are answered.
    // Method: `derive` moves each reading to a registered series; then a store that has no more numbers.
    let host = Host::new().unwrap();
    let mut guest = open(&host, "misbehave", &[("mode", "derive")]);
    let rows = [float(7, 1, TRIGGER), float(8, 1, 1.0)];
    let (mut registrar, asked) = recording();
    let processed = process_with(&mut registrar, &mut guest, 0, &rows);
    assert_eq!(processed.readings, [float(101, 1, TRIGGER), float(102, 1, 1.0)]);
    assert_eq!(*asked.lock().unwrap(), [("derived/7".into(), "m".into()), ("derived/8".into(), "m".into())]);
    assert_eq!(process(&mut guest, 0, &rows).readings, rows);

    let mut flood = open(&host, "misbehave", &[("mode", "register-flood")]);
    let (mut registrar, asked) = recording();
    let processed = process_with(&mut registrar, &mut flood, 0, &rows);
    assert_eq!(values(&processed), [5000.0 - 4096.0, 1.0]);
    assert_eq!(asked.lock().unwrap().len(), 4096);
}

#[test]
fn a_new_instance_goes_on_from_the_last_snapshot() {
    // Goal: state survives a trap up to the last snapshot, and no snapshot is taken of what is not there. Method: the
    // guest counts its batches and tells the count when asked.
    let host = Host::new().unwrap();
    let mut guest = open(&host, "misbehave", &[("mode", "trap")]);
    process(&mut guest, 0, &[float(1, 1, 0.0)]);
    process(&mut guest, 0, &[float(1, 2, 0.0)]);
    let snapshot = guest.snapshot();
    process(&mut guest, 0, &[float(1, 3, 0.0)]);
    process(&mut guest, 0, &[float(1, 4, TRIGGER)]);
    assert_eq!(guest.snapshot(), snapshot);
    assert_eq!(values(&process(&mut guest, 1, &[float(1, 5, -1.0)])), [3.0]);
}

#[test]
fn snapshots_that_fail_leave_the_one_before() {
    // Goal: a snapshot too large is not taken, a trap in snapshot or restore is a fault like any other, and the stream
    // goes on. Method: one processor for each kind.
    let host = Host::new().unwrap();
    let stored = 7u64.to_le_bytes().to_vec();
    let rows = [float(1, 1, 1.0)];

    let mut large = open(&host, "misbehave", &[("mode", "huge-snapshot")]);
    assert_eq!(large.restore_from(stored.clone()), Restored::Taken);
    assert_eq!(large.snapshot(), Some(stored.clone()));
    assert_eq!(count(&large, |c| &c.snapshots_rejected), 1);
    assert_eq!(values(&process(&mut large, 0, &rows)), [2.0]);

    let mut traps = open(&host, "misbehave", &[("mode", "trap-in-snapshot")]);
    assert_eq!(traps.restore_from(stored.clone()), Restored::Taken);
    process(&mut traps, 0, &rows);
    assert_eq!(traps.snapshot(), Some(stored.clone()));
    assert_eq!(process(&mut traps, 0, &rows).outcome, Outcome::PassedThrough(Reason::BackingOff));
    assert_eq!(values(&process(&mut traps, 1, &[float(1, 2, -1.0)])), [8.0]);

    let mut stuck = open(&host, "misbehave", &[("mode", "trap-in-restore")]);
    assert!(matches!(stuck.restore_from(stored), Restored::SetAside(_)));
    assert_eq!(count(&stuck, |c| &c.restores_failed), 1);
    assert_eq!(values(&process(&mut stuck, 0, &rows)), [2.0]);
}
