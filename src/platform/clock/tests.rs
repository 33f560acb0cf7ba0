//! The arrows of the diagram, and what stamps are worth.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::keeper::Wanted;
use super::policy::{Effect, Evidence, Observation, Pace, RELEARN_MIN, Rules, STEP_MIN, State, step};
use super::*;
use crate::config::{Clock, Trust};
use crate::sample::SECOND;

const FLOOR: Nanos = 1_800_000_000 * SECOND;
const MS: Nanos = SECOND / 1_000;

fn rules(trust: Trust) -> Rules {
    Rules { trust, floor: FLOOR }
}

fn look(boottime: Nanos, realtime: Nanos, evidence: Evidence) -> Observation {
    Observation { boottime, realtime, evidence }
}

const NOTHING: Evidence =
    Evidence { synchronized_file: false, kernel_synchronised: false, hardware_clock: None };
const FILE: Evidence = Evidence { synchronized_file: true, ..NOTHING };
const KERNEL: Evidence = Evidence { kernel_synchronised: true, ..NOTHING };
const HARDWARE: Evidence = Evidence { hardware_clock: Some(FLOOR + SECOND), ..NOTHING };
const FLAT: Evidence = Evidence { hardware_clock: Some(SECOND), ..NOTHING };

#[test]
fn each_rule_trusts_what_it_names_and_nothing_else() {
    // Goal: config::Trust means what its documentation says. Method: every rule with every kind of evidence, with a system
    // clock in 1970, at the floor and behind it.
    let (long_ago, later) = (SECOND, FLOOR + SECOND);
    let cases = [
        (Trust::Always, NOTHING, long_ago, true),
        (Trust::Synchronized, NOTHING, later, false),
        (Trust::Synchronized, KERNEL, later, false),
        (Trust::Synchronized, HARDWARE, later, false),
        (Trust::Synchronized, FILE, long_ago, true),
        (Trust::Auto, NOTHING, later, false),
        (Trust::Auto, FILE, later, true),
        (Trust::Auto, KERNEL, later, true),
        (Trust::Auto, HARDWARE, later, true),
        (Trust::Auto, HARDWARE, FLOOR, false),
        (Trust::Auto, HARDWARE, long_ago, false),
        (Trust::Auto, FLAT, later, false),
    ];
    for (trust, evidence, realtime, expected) in cases {
        let start = State::Estimating { offset: 0 };
        let (state, effect) = step(start, &look(SECOND, realtime, evidence), &rules(trust));
        assert_eq!(state != start, expected, "{trust:?} {evidence:?} {realtime}");
        assert_eq!(effect.is_some(), expected);
    }
}

#[test]
fn estimating_becomes_trusted_with_a_correction_that_puts_estimates_right() {
    // Goal: estimate + correction = the time. Method: one step with numbers that can be checked by hand.
    let estimate = FLOOR - 5 * SECOND;
    let observation = look(90 * SECOND, FLOOR + 1_000 * SECOND, FILE);
    let (state, effect) = step(State::Estimating { offset: estimate }, &observation, &rules(Trust::Auto));
    let offset = FLOOR + 910 * SECOND;
    assert_eq!(effect, Some(Effect::Trust { offset, correction: offset - estimate }));
    assert_eq!(state, State::Trusted { offset, seen: 90 * SECOND, pace: Pace::Following });
}

/// A trusted clock a second after its last look, when the system clock is off by `difference`.
fn a_second_later(difference: Nanos, pace: Pace) -> (Nanos, Option<Effect>, Pace) {
    let state = State::Trusted { offset: FLOOR, seen: 10 * SECOND, pace };
    let observation = look(11 * SECOND, FLOOR + 11 * SECOND + difference, NOTHING);
    match step(state, &observation, &rules(Trust::Auto)) {
        (State::Trusted { offset, seen, pace }, effect) => {
            assert_eq!(seen, 11 * SECOND);
            (offset - FLOOR, effect, pace)
        }
        other => panic!("trust is for life: {other:?}"),
    }
}

#[test]
fn small_differences_are_followed_at_500_ppm() {
    // Goal: the slew, both ways, and its end. Method: a second's worth of each.
    assert_eq!(a_second_later(0, Pace::Following), (0, None, Pace::Following));
    for difference in [-100, 100] {
        assert_eq!(a_second_later(difference, Pace::Following).0, difference);
    }
    for (difference, moved) in [(STEP_MIN, MS / 2), (-STEP_MIN, -MS / 2), (-3 * MS, -MS / 2)] {
        let (offset, effect, pace) = a_second_later(difference, Pace::Waiting);
        assert_eq!((offset, pace), (moved, Pace::Following));
        assert_eq!(effect, Some(Effect::Follow { offset: FLOOR + moved }));
    }
}

#[test]
fn a_clock_that_is_ahead_is_followed_at_once() {
    // Goal: the forward step. Method: just beyond the bound, and very far.
    for by in [STEP_MIN + 1, 3_600 * SECOND] {
        let (offset, effect, _) = a_second_later(by, Pace::Following);
        assert_eq!((offset, effect), (by, Some(Effect::StepForward { offset: FLOOR + by, by })));
    }
}

#[test]
fn a_clock_that_is_a_little_behind_is_waited_for_and_reported_once() {
    // Goal: the slow way back. Method: the first look reports, the second only follows.
    for behind in [STEP_MIN + 1, RELEARN_MIN - 1] {
        let (offset, effect, pace) = a_second_later(-behind, Pace::Following);
        assert_eq!((offset, pace), (-MS / 2, Pace::Waiting));
        assert_eq!(effect, Some(Effect::Wait { offset: FLOOR - MS / 2, behind }));
        let (_, effect, pace) = a_second_later(-behind, pace);
        assert_eq!((effect, pace), (Some(Effect::Follow { offset: FLOOR - MS / 2 }), Pace::Waiting));
    }
}

#[test]
fn a_clock_that_is_far_behind_is_learnt_again() {
    // Goal: the step back. Method: at the bound, and years.
    for by in [RELEARN_MIN, 100_000_000 * SECOND] {
        let (offset, effect, _) = a_second_later(-by, Pace::Following);
        assert_eq!((offset, effect), (-by, Some(Effect::StepBack { offset: FLOOR - by, by })));
    }
}

#[test]
fn a_long_pause_does_not_make_a_long_slew() {
    // Goal: stamps can be held for a moment only. Method: a machine that slept for a day and woke half a second off.
    let state = State::Trusted { offset: FLOOR, seen: 0, pace: Pace::Following };
    let day = 86_400 * SECOND;
    let (state, _) = step(state, &look(day, FLOOR + day - SECOND / 2, NOTHING), &rules(Trust::Auto));
    assert_eq!(state, State::Trusted { offset: FLOOR - 30 * MS, seen: day, pace: Pace::Following });
}

/// Clocks that a test sets; time since boot goes on with tokio's.
struct Machine {
    started: tokio::time::Instant,
    realtime_offset: AtomicI64,
    evidence: std::sync::Mutex<Evidence>,
}

impl Machine {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            started: tokio::time::Instant::now(),
            realtime_offset: AtomicI64::new(0),
            evidence: std::sync::Mutex::new(NOTHING),
        })
    }

    fn boottime(&self) -> Nanos {
        self.started.elapsed().as_nanos() as Nanos
    }

    fn set(&self, realtime_offset: Nanos, evidence: Evidence) {
        self.realtime_offset.store(realtime_offset, Ordering::Relaxed);
        *self.evidence.lock().unwrap() = evidence;
    }

    fn keeper(
        self: &Arc<Self>,
        beginning: Beginning,
    ) -> (ClockKeeper, WallClock, tokio::sync::watch::Receiver<Option<Nanos>>) {
        let machine = Arc::clone(self);
        let look = move |wanted| {
            let boottime = machine.boottime();
            let evidence = match wanted {
                Wanted::ClocksAndEvidence => *machine.evidence.lock().unwrap(),
                Wanted::Clocks => NOTHING,
            };
            look(boottime, boottime + machine.realtime_offset.load(Ordering::Relaxed), evidence)
        };
        ClockKeeper::looking(rules(Trust::Auto), beginning, Box::new(look))
    }
}

const FIRST: Beginning = Beginning { boot: BootId(4), newest: None, estimate: None };

#[tokio::test(start_paused = true)]
async fn a_gateway_that_learns_the_time_late_corrects_its_estimates() {
    // Goal: the life of a gateway without a clock. Method: a machine in 1970 for a minute, then synchronised; a reading
    // stamped before is put right by the correction.
    let machine = Machine::new();
    let (keeper, clock, mut correction) = machine.keeper(FIRST);
    let stop = CancellationToken::new();
    let running = keeper.run(stop.clone());
    let story = async {
        assert_eq!(clock.stamp_at(machine.boottime()), (FLOOR, Timeline::Boot(BootId(4))));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let (estimated, timeline) = clock.stamp_at(machine.boottime());
        let arrived = machine.boottime();
        assert_eq!((estimated, timeline), (FLOOR + 60 * SECOND, Timeline::Boot(BootId(4))));
        assert_eq!(*correction.borrow(), None);

        let truth = FLOOR + 5_000 * SECOND;
        machine.set(truth, FILE);
        correction.changed().await.unwrap();
        let corrected = estimated + correction.borrow().unwrap();
        assert_eq!(corrected, truth + arrived);
        let now = machine.boottime();
        assert_eq!(clock.stamp_at(now), (truth + now, Timeline::Arrival));
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(running, story);
    ended.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stamps_hold_while_the_clock_is_waited_for_and_go_back_only_when_it_is_learnt_again() {
    // Goal: never backwards, but for the one exception, which is counted. Method: set the clock 5 s back and stamp every
    // 100 us, then an hour back, then forward again.
    let machine = Machine::new();
    machine.set(FLOOR, FILE);
    let (keeper, clock, _) = machine.keeper(FIRST);
    let stop = CancellationToken::new();
    let story = async {
        machine.set(FLOOR - 5 * SECOND, NOTHING);
        let mut last = 0;
        for _ in 0..40_000 {
            let (now, timeline) = clock.stamp_at(machine.boottime());
            assert!(now >= last && timeline == Timeline::Arrival);
            last = now;
            tokio::time::advance(Duration::from_micros(100)).await;
        }
        assert_eq!(clock.steps(), ClockSteps::default());
        for (offset, steps) in [
            (FLOOR - 3_600 * SECOND, ClockSteps { forward: 0, back: 1 }),
            (FLOOR, ClockSteps { forward: 1, back: 1 }),
        ] {
            machine.set(offset, NOTHING);
            tokio::time::sleep(Duration::from_secs(2)).await;
            let now = machine.boottime();
            assert_eq!((clock.stamp_at(now).0, clock.steps()), (offset + now, steps));
        }
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(keeper.run(stop.clone()), story);
    ended.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_process_started_again_goes_on_with_the_estimates_of_its_boot() {
    // Goal: one correction fits all estimates of a boot. Method: a second keeper with what the first one's clock told, at
    // another time; both would estimate the same.
    let machine = Machine::new();
    let (_, first, _) = machine.keeper(FIRST);
    tokio::time::sleep(Duration::from_secs(7)).await;
    let (_, again, _) = machine.keeper(Beginning { estimate: Some(first.estimate()), ..FIRST });
    let now = machine.boottime();
    assert_eq!(first.stamp_at(now), again.stamp_at(now));
    machine.set(FLOOR + SECOND, KERNEL);
    let (_, _, correction) = machine.keeper(Beginning { estimate: Some(first.estimate()), ..FIRST });
    assert_eq!(*correction.borrow(), Some(FLOOR + SECOND - first.estimate()));
}

#[test]
fn stamps_of_many_threads_never_go_backwards() {
    // Goal: the hold is right under contention, while the offset is moved back and forth by what a slew may be. Method:
    // four threads compare each stamp with the newest that any of them had seen before asking.
    let shared = Arc::new(Shared::new(BootId(1), 0));
    shared.trusted.store(FLOOR, Ordering::Release);
    let clock = WallClock { shared: Arc::clone(&shared) };
    let newest = AtomicI64::new(0);
    std::thread::scope(|scope| {
        let stamping = || {
            for _ in 0..200_000 {
                let before = newest.load(Ordering::SeqCst);
                let (now, _) = clock.stamp();
                assert!(now >= before, "{now} is before {before}");
                newest.fetch_max(now, Ordering::SeqCst);
            }
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(stamping)).collect();
        let mut back = 0;
        while threads.iter().any(|thread| !thread.is_finished()) {
            back = 30 * MS - back;
            shared.trusted.store(FLOOR - back, Ordering::Release);
            std::thread::yield_now();
        }
    });
}

#[test]
fn the_machine_this_runs_on_has_a_time() {
    // Goal: the real sources. Method: an always trusted clock is where the system clock is, and the rest is plausible.
    let config = Clock { trust: Trust::Always, synchronized_file: PathBuf::from("/nonexistent") };
    let (_, clock, _) = ClockKeeper::new(&config, FIRST);
    let (_, realtime) = sources::both();
    let now = clock.trusted_now().unwrap();
    assert!((now - realtime).abs() < 10 * SECOND);
    assert!(sources::floor(None) < now && sources::floor(Some(now)) == now);
    assert_eq!(boot_id().unwrap().len(), 36);
    assert!(boottime() > 0);
    sources::evidence(&config.synchronized_file);
}
