//! Components that fail too often, and what becomes of their readings.

use std::time::Duration;

use frond::config::{self, Fallback};
use frond::runtime::{Host, Outcome, Processor, Reason};

use super::{TRIGGER, compiler, component, count, float, process, shared_cache, values};

/// The guest that traps, quarantined after so many failures.
fn trapping(failures: usize, fallback: Fallback) -> config::Component {
    config::Component {
        quarantine_failures: failures,
        quarantine_within: Duration::from_secs(600),
        fallback,
        ..component("misbehave", &[("mode", "trap")])
    }
}

fn open(host: &Host, component: &config::Component) -> Processor {
    Processor::open(host, component, compiler(), &shared_cache()).unwrap()
}

#[test]
fn too_many_failures_quarantine_a_component_until_it_is_released() {
    // Goal: it costs nothing any more, its state is kept, and an operator's word brings it back with it. Method: three
    // failures; then a day; then the word.
    let host = Host::new().unwrap();
    let mut guest = open(&host, &trapping(3, Fallback::Pass));
    process(&mut guest, 0, &[float(1, 0, 0.0)]);
    let snapshot = guest.snapshot();
    let outcomes: Vec<Outcome> =
        [1, 2, 4].map(|second| process(&mut guest, second, &[float(1, second, TRIGGER)]).outcome).into();
    assert_eq!(outcomes, [Outcome::PassedThrough(Reason::Trap); 3]);
    assert!(guest.is_quarantined() && !guest.is_running());
    let processed = process(&mut guest, 86_400, &[float(1, 5, 1.0)]);
    assert_eq!(processed.outcome, Outcome::PassedThrough(Reason::Quarantined));
    assert_eq!(values(&processed), [1.0]);
    assert_eq!((count(&guest, |c| &c.quarantines), count(&guest, |c| &c.traps)), (1, 3));
    assert_eq!(guest.snapshot(), snapshot, "its state goes into every checkpoint");
    assert!(guest.last_fault().starts_with("trap"), "{}", guest.last_fault());

    assert!(guest.release() && !guest.release());
    assert_eq!(values(&process(&mut guest, 86_401, &[float(1, 6, -1.0)])), [2.0], "with its state");
    process(&mut guest, 86_402, &[float(1, 7, TRIGGER)]);
    assert!(!guest.is_quarantined(), "what was before the release is forgotten");
}

#[test]
fn the_fallback_decides_what_becomes_of_readings_that_a_component_misses() {
    // Goal: passed, dropped or held, each counted, for the batch it failed on and those while it is away. Method: each
    // fallback; a batch of more than one call, whose second call fails.
    let host = Host::new().unwrap();
    let rows: Vec<_> = (0..10_000).map(|n| float(1, n, if n == 9_000 { TRIGGER } else { 0.0 })).collect();
    let later = [float(1, 10_000, 5.0)];
    for fallback in [Fallback::Pass, Fallback::Drop, Fallback::Hold] {
        let mut guest = open(&host, &trapping(10, fallback));
        let processed = process(&mut guest, 0, &rows);
        assert_eq!(processed.outcome, Outcome::PassedThrough(Reason::Trap));
        assert!(processed.readings[..8_192].iter().all(|reading| reading.value.as_f64() == 1.0));
        let missed = &rows[8_192..];
        let held = if fallback == Fallback::Hold { missed } else { &[] };
        assert_eq!(processed.held, held, "{fallback:?}");
        let passed = if fallback == Fallback::Pass { missed } else { &[] };
        assert_eq!(&processed.readings[8_192..], passed, "{fallback:?}");
        assert_eq!(processed.failed_on, missed.len());
        let away = process(&mut guest, 0, &later);
        assert_eq!((away.outcome, away.failed_on), (Outcome::PassedThrough(Reason::BackingOff), 0));
        assert_eq!(away.held.len() + away.readings.len(), usize::from(fallback != Fallback::Drop));
        let counted = [count(&guest, |c| &c.passed_by), count(&guest, |c| &c.dropped)];
        let missed = missed.len() as u64 + 1;
        let expected = match fallback {
            Fallback::Pass => [missed, 0],
            Fallback::Drop => [0, missed],
            Fallback::Hold => [0, 0],
        };
        assert_eq!(counted, expected, "{fallback:?}");
    }
}
