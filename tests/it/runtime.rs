//! Real components in the real runtime: what works, what misbehaves, and what becomes of the stream meanwhile.

mod commands;
mod deployment;
mod faults;
mod opening;
mod quarantine;
mod quota;
mod shipped;
mod timer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use frond::block::{Alarm, SeriesEntry};
use frond::config;
use frond::runtime::{Counters, Host, Outcome, Processed, Processor, Registrar};
use frond::sample::{Nanos, Reading, SECOND, SeriesId, Value};

/// Deadline of a call, for a machine that is busy with other tests; and that of calls that are meant to exceed it.
const DEADLINE: Duration = Duration::from_secs(20);
const DEADLINE_SHORT: Duration = Duration::from_millis(200);

/// After this at the latest a call must have ended that is meant to exceed [`DEADLINE_SHORT`].
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of a batch, whose readings may be gone.
struct Done {
    readings: Vec<Reading>,
    alarms: Vec<Alarm>,
    commands: Vec<frond::runtime::Command>,
    held: Vec<Reading>,
    failed_on: usize,
    outcome: Outcome,
}

/// The value that makes `misbehave` do what its option says.
const TRIGGER: f64 = 666.0;

fn compiler() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_frond"))
}

/// The cache that tests share, so that each guest is compiled once. That it may be shared is part of what is tested.
fn shared_cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

fn guest(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let path = target.join("guests/wasm32-wasip2/release").join(name).with_extension("wasm");
    assert!(path.exists(), "{} is not there: run `just guests` first", path.display());
    path
}

fn component(name: &str, options: &[(&str, &str)]) -> config::Component {
    let config = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    config::Component { deadline: DEADLINE, config, ..config::Component::of(name.into(), guest(name)) }
}

fn open(host: &Host, name: &str, options: &[(&str, &str)]) -> Processor {
    Processor::open(host, &component(name, options), compiler(), &shared_cache()).expect("it opens")
}

fn float(series: u32, time: Nanos, value: f64) -> Reading {
    Reading { series: SeriesId(series), time, value: Value::Float(value) }
}

impl From<Processed<'_>> for Done {
    fn from(processed: Processed<'_>) -> Done {
        let Processed { readings, alarms, commands, held, failed_on, outcome } = processed;
        Done { readings: readings.into_owned(), alarms, commands, held, failed_on, outcome }
    }
}

fn int(series: u32, time: Nanos, value: i64) -> Reading {
    Reading { series: SeriesId(series), time, value: Value::Int(value) }
}

fn describe(id: SeriesId) -> SeriesEntry {
    SeriesEntry { name: format!("line/{}/temperature", id.0), unit: "°C".into(), labels: BTreeMap::new() }
}

/// One batch at second `at`, with no series to be registered.
fn process(processor: &mut Processor, at: i64, readings: &[Reading]) -> Done {
    process_with(&mut Registrar::refusing("no more series"), processor, at, readings)
}

/// As [`process`], with series that may be registered.
fn process_with(registrar: &mut Registrar, processor: &mut Processor, at: i64, readings: &[Reading]) -> Done {
    processor.process(at * SECOND, readings, describe, registrar).into()
}

/// Names and units that a component asked for.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// Numbers series from 101 on, and tells which were asked for.
fn recording() -> (Registrar, Asked) {
    let asked = Asked::default();
    let record = asked.clone();
    let registrar = Registrar::new(move |_, name, unit| {
        let mut asked = record.lock().unwrap();
        asked.push((name.to_owned(), unit.to_owned()));
        Ok(SeriesId(100 + asked.len() as u32))
    });
    (registrar, asked)
}

fn values(processed: &Done) -> Vec<f64> {
    processed.readings.iter().map(|reading| reading.value.as_f64()).collect()
}

fn count(processor: &Processor, of: impl Fn(&Counters) -> &AtomicU64) -> u64 {
    of(processor.counters()).load(Ordering::Relaxed)
}

#[test]
fn a_batch_of_any_length_is_worked_on_in_order() {
    // Goal: more rows than fit one call come back whole and in order. Method: 20,000 rows, of ints and floats in turn.
    let host = Host::new().unwrap();
    let mut guest = open(&host, "misbehave", &[]);
    let row = |n: i64, more: i64| {
        if n % 2 == 0 { int(1, n, n + 1000 + more) } else { float(2, n, (n + 1000 + more) as f64) }
    };
    let rows: Vec<Reading> = (0..20_000).map(|n| row(n, 0)).collect();
    let processed = process(&mut guest, 0, &rows);
    assert_eq!(processed.outcome, Outcome::Processed);
    assert_eq!(processed.readings.len(), rows.len());
    for (n, reading) in (0..).zip(&processed.readings) {
        let expected = row(n, 1);
        assert_eq!((reading.series, reading.time), (expected.series, expected.time));
        assert_eq!(reading.value.as_f64(), expected.value.as_f64());
    }
    assert_eq!(count(&guest, |c| &c.calls), 3);
    assert_eq!(process(&mut guest, 0, &[]).readings, []);
}

#[test]
fn everything_works_in_one_gib_of_address_space() {
    // Goal: small boards limit the address space. Method: tests above, compilation included, in a process with
    // `ulimit -v` of 1 GiB, one after the other, as the pipeline thread would.
    let tests = [
        "shipped::limits_calibrates_raises_and_clears",
        "faults::a_component_that_fails_is_passed_by_discarded_and_comes_back",
        "opening::a_compiled_component_is_kept_checked_and_may_be_deleted",
    ];
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 1048576 && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--test-threads=1"])
        .args(tests.map(|test| format!("runtime::{test}")))
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("3 passed"), "{said}{errors}");
}
