//! Components that act of their own accord. `watchman` raises an alarm for a series that is silent, and counts its ticks.

use frond::block::{self, Alarm, Rows, SeriesEntry, WireClock};
use frond::runtime::{Answer, Host, How, Inheritance, Processed, Processor, Stage};
use frond::sample::{Nanos, Reading, SECOND, SeriesId};

use super::deployment::rig::{Kept, SERIES, Site, wasm};
use super::{count, describe, float, open, process};

/// What the hub gets: of ticks, each of one reading, time and value; alarms; and whose clock it was.
#[derive(Debug, Default)]
struct Left {
    beats: Vec<(Nanos, f64)>,
    alarms: Vec<Alarm>,
}

fn left(kept: &[Kept]) -> Left {
    let mut left = Left::default();
    for output in kept.iter().flat_map(|kept| &kept.checkpoint.outputs) {
        let envelope = block::decode_envelope(&output.body).unwrap();
        match (envelope.rows, envelope.clock) {
            (Rows::Raw(readings), WireClock::Arrival) => {
                left.beats.extend(readings.iter().map(|reading| (reading.time, reading.value.as_f64())));
            }
            // What the sensor sent.
            (Rows::Raw(_), _) => {}
            (Rows::Alarms(alarms), _) => left.alarms.extend(alarms),
            (rows, _) => panic!("the stream is not reduced: {rows:?}"),
        }
    }
    left
}

fn tick(processor: &mut Processor, second: i64, everyone: &[u32]) -> Option<Processed<'static>> {
    let entry = |id: &u32| (SeriesId(*id), describe(SeriesId(*id)));
    processor.tick(second * SECOND, second * SECOND, || everyone.iter().map(entry).collect())
}

fn raised(processed: &Processed<'_>) -> Vec<(u32, bool)> {
    processed.alarms.iter().map(|alarm| (alarm.series.0, alarm.active)).collect()
}

#[test]
fn a_silent_series_is_noticed_whether_it_had_a_reading_or_not() {
    // Goal: an alarm without a reading, for every series that there is. Method: two series, one of which has readings now and
    // then; the whole roster is asked for once; a component without a timer is never called.
    let host = Host::new().unwrap();
    let mut guest = open(&host, "watchman", &[]);
    process(&mut guest, 0, &[float(1, 1, 0.0)]);
    assert_eq!(raised(&tick(&mut guest, 1, &[1, 2]).unwrap()), []);
    process(&mut guest, 1, &[float(1, 2, 0.0)]);
    let never = || -> Vec<(SeriesId, SeriesEntry)> { panic!("it knows everybody") };
    let second = guest.tick(2 * SECOND, 2 * SECOND, never).unwrap();
    assert_eq!(raised(&second), [(2, true)]);
    assert_eq!(second.alarms[0].message, "line/2/temperature is silent");
    assert_eq!(raised(&tick(&mut guest, 3, &[]).unwrap()), [(1, true)]);
    let back = process(&mut guest, 3, &[float(2, 3, 0.0)]);
    assert_eq!((back.alarms.len(), back.alarms[0].active, back.alarms[0].series), (1, false, SeriesId(2)));
    assert_eq!((count(&guest, |c| &c.ticks), count(&guest, |c| &c.ticks_missed)), (3, 0));

    let mut other = open(&host, "misbehave", &[]);
    assert!(!other.has_timer() && tick(&mut other, 1, &[1]).is_none());
    assert_eq!((count(&other, |c| &c.ticks), count(&other, |c| &c.ticks_missed)), (0, 0));
}

#[test]
fn a_tick_may_give_readings_and_alarms_of_its_own_series_and_register_none() {
    // Goal: what a tick gives is checked like the rest, and a series belongs to a batch. Method: a reading with every tick,
    // and an attempt to register.
    let host = Host::new().unwrap();
    let options = [("beat", "line/2/temperature"), ("register", "yes"), ("silent", "1000")];
    let mut guest = open(&host, "watchman", &options);
    let given = tick(&mut guest, 7, &[1, 2]).unwrap();
    assert_eq!(given.readings.as_ref(), [float(2, 7 * SECOND, 1.0)]);
    assert_eq!(given.alarms[0].message, "series are registered in process only");
}

#[test]
fn a_tick_that_traps_costs_the_instance_and_the_next_one_goes_on_from_its_state() {
    // Goal: as after a batch: pause, new instance, its state, all series announced again; ticks of the pause are counted.
    // Method: the third tick traps.
    let host = Host::new().unwrap();
    let mut guest = open(&host, "watchman", &[("trap-at", "3"), ("beat", "line/1/temperature")]);
    for second in 1..3 {
        tick(&mut guest, second, &[1]).unwrap();
    }
    assert_eq!(guest.snapshot(), Some(2_u64.to_le_bytes().to_vec()));
    assert!(tick(&mut guest, 3, &[1]).is_none() && !guest.is_running());
    assert!(guest.last_fault().starts_with("trap"), "{}", guest.last_fault());
    assert!(guest.tick(3 * SECOND + SECOND / 2, 0, || panic!("its pause is not over")).is_none());
    assert_eq!(count(&guest, |c| &c.ticks_missed), 1);
    let mut asked = false;
    let again = guest.tick(5 * SECOND, 0, || {
        asked = true;
        vec![(SeriesId(1), describe(SeriesId(1)))]
    });
    assert!(
        again.is_none() && asked,
        "it is called with its state, in which the third tick is still to come"
    );
    assert_eq!((count(&guest, |c| &c.traps), count(&guest, |c| &c.ticks)), (2, 4));
    let rows: [Reading; 1] = [float(1, 6, 4.0)];
    assert_eq!(process(&mut guest, 60, &rows).readings, rows, "batches are worked on");
}

#[test]
fn ticks_come_without_a_reading_and_their_results_outlive_a_restart() {
    // Goal: the pipeline calls it on time, what it gives goes to the hub on the gateway's clock, and its state goes on.
    // Method: nothing but silence; then a restart from the last checkpoint.
    let site = Site::new("watchman", "timer = \"500ms\"", "beat = \"a\", silent = \"2\"");
    let mut life = site.start(None);
    life.until("three ticks", |stats| stats.ticks >= 3);
    let mut kept = life.stop();
    let first = left(&kept);
    let ticks: Vec<f64> = first.beats.iter().map(|beat| beat.1).collect();
    assert!(ticks.len() >= 3 && ticks.iter().zip(1..).all(|(tick, n)| *tick == f64::from(n)), "{ticks:?}");
    assert!(first.beats.is_sorted_by(|a, b| b.0 - a.0 >= SECOND / 4), "{first:?}");
    let [silent] = &first.alarms[..] else { panic!("one alarm: {first:?}") };
    assert_eq!((silent.series, silent.active, silent.name.as_str()), (SERIES, true, "silent"));

    let mut life = site.start(kept.last());
    life.until("another tick", |stats| stats.ticks >= 1);
    kept = life.stop();
    assert_eq!(left(&kept).beats.first().map(|beat| beat.1), Some(ticks.len() as f64 + 1.0));
}

#[test]
fn what_a_tick_changes_is_stored_though_nothing_comes_of_it() {
    // Goal: the state is that of the last tick, not of the last reading. Method: ticks that give nothing; an ordinary restart.
    let site = Site::new("watchman", "timer = \"500ms\"", "silent = \"1000\"");
    let mut life = site.start(None);
    let ticks = life.until("four ticks", |stats| stats.ticks >= 4).ticks;
    let kept = life.stop();
    let mut life = site.start(kept.last());
    let stats = life.until("its state", |stats| stats.ticks >= 1 && stats.state_bytes == 8);
    assert_eq!(stats.restores_failed, 0);
    let kept = life.stop();
    let state = &kept.last().expect("a checkpoint").checkpoint.state;
    let counts = (ticks + 1..ticks + 100).map(u64::to_le_bytes);
    assert!(counts.into_iter().any(|count| state.windows(8).any(|bytes| bytes == count)), "{state:?}");
}

#[test]
fn a_new_version_that_fails_in_a_tick_is_taken_back_without_a_reading() {
    // Goal: a probation finds out what no batch shows. Method: a version with a timer takes over from one without, and traps
    // at its second tick, while no reading comes.
    let keys = "timer = \"500ms\"\nprobation = \"1h\"";
    let mut site = Site::new("misbehave", keys, "trap-at = \"2\"");
    let mut life = site.start(None);
    life.feed(&mut site, &[1.0]);
    assert!(matches!(life.deploy_with(wasm("watchman"), Inheritance::Fresh), Answer::Done(_)));
    life.until_stage(Stage::Trial);
    for _ in 0..3 {
        life.feed(&mut site, &[2.0]);
    }
    let ended = life.until_ended();
    assert_eq!(ended.last, Some(How::RolledBack), "{ended:?}");
    life.feed(&mut site, &[3.0]);
    let stats = life.until("the old version", |stats| stats.readings_in == site.committed().len() as u64);
    assert_eq!((stats.passed_by, stats.deadlines), (0, 0), "{stats:?}");
    life.stop();
}
