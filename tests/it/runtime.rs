//! Real components in the real runtime: what works, what misbehaves, and what becomes of the stream meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use frond::block::SeriesEntry;
use frond::config;
use frond::runtime::{Counters, Host, OpenError, Outcome, Processed, Processor, Reason, Restored};
use frond::sample::{Nanos, Reading, SECOND, SeriesId, Value};

/// Deadline of a call, for a machine that is busy with other tests; and that of calls that are meant to exceed it.
const DEADLINE: Duration = Duration::from_secs(20);
const DEADLINE_SHORT: Duration = Duration::from_millis(200);

/// After this at the latest a call must have ended that is meant to exceed [`DEADLINE_SHORT`].
const PATIENCE: Duration = Duration::from_secs(10);

/// The value that makes `misbehave` do what its option says.
const TRIGGER: f64 = 666.0;

fn compiler() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_frond"))
}

/// A compiler that cannot be run, for when nothing may be compiled.
fn no_compiler() -> &'static Path {
    Path::new("/nowhere/frond")
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
    config::Component {
        name: name.into(),
        path: guest(name),
        memory_bytes_max: 16 << 20,
        deadline: DEADLINE,
        config: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    }
}

fn open(host: &Host, name: &str, options: &[(&str, &str)]) -> Processor {
    Processor::open(host, &component(name, options), compiler(), &shared_cache()).expect("it opens")
}

fn float(series: u32, time: Nanos, value: f64) -> Reading {
    Reading { series: SeriesId(series), time, value: Value::Float(value) }
}

fn int(series: u32, time: Nanos, value: i64) -> Reading {
    Reading { series: SeriesId(series), time, value: Value::Int(value) }
}

fn describe(id: SeriesId) -> SeriesEntry {
    SeriesEntry { name: format!("line/{}/temperature", id.0), unit: "°C".into(), labels: BTreeMap::new() }
}

/// One batch at second `at`, with no series to be registered.
fn process(processor: &mut Processor, at: i64, readings: &[Reading]) -> Processed {
    processor.process(at * SECOND, readings, describe, |_, _| Err("no more series".into()))
}

fn values(processed: &Processed) -> Vec<f64> {
    processed.readings.iter().map(|reading| reading.value.as_f64()).collect()
}

fn count(processor: &Processor, of: impl Fn(&Counters) -> &AtomicU64) -> u64 {
    of(processor.counters()).load(Ordering::Relaxed)
}

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
fn check_opens_every_component_and_says_which_cannot_be() {
    // Goal: nobody learns from a running plant that a component's options are wrong. Method: the program's own check, with a
    // right option, a wrong one, and without opening.
    let dir = tempfile::tempdir().unwrap();
    let check = |option: &str, more: &[&str]| {
        let stream = "[[stream]]\nname = \"s\"\ntopics = [\"t\"]\ncomponent = \"limits\"\n";
        let path = guest("limits");
        let text = format!(
            "gateway.name = \"g\"\nlattice.mode = \"off\"\n{stream}[[component]]\nname = \"limits\"\npath = {path:?}\nconfig = {{ {option} = \"*: 1\" }}\n"
        );
        fs::write(dir.path().join("frond.toml"), text).unwrap();
        let file = dir.path().join("frond.toml");
        let output =
            Command::new(compiler()).arg("check").arg("--config").arg(&file).args(more).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = check("high", &[]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = check("hihg", &[]);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("component \"limits\" cannot be opened") && said.contains("known are calibrate"),
        "{said}"
    );
    assert!(said.contains("refused: 1 problem\n"), "{said}");
    assert_eq!(check("hihg", &["--skip-components"]).0, Some(0));
}

#[test]
fn vibration_gives_features_under_series_of_its_own() {
    // Goal: the shipped component does what its documentation says, through the real contract, across a restart in the middle
    // of a block. Method: a sine of 100 in blocks of 256 beside a counter that passes; snapshot and restore after 100 rows.
    let host = Host::new().unwrap();
    let options = [("series", "line/1/*"), ("block", "256"), ("bands", "400-600")];
    let sine = |n: i64| 100.0 * (2.0 * std::f64::consts::PI * n as f64 / 20.0).sin();
    let row = |n: i64| float(1, n * SECOND / 10_000, sine(n));
    let mut registered: Vec<(String, String)> = Vec::new();
    let mut work = |processor: &mut Processor, rows: &[Reading]| {
        processor.process(SECOND, rows, describe, |name, unit| {
            registered.push((name.to_owned(), unit.to_owned()));
            Ok(SeriesId(100 + registered.len() as u32))
        })
    };
    let mut first = open(&host, "vibration", &options);
    let rows: Vec<Reading> = (0..100).map(row).chain([int(2, 1, 7)]).collect();
    assert_eq!(work(&mut first, &rows).readings, [int(2, 1, 7)]);
    let mut second = open(&host, "vibration", &options);
    assert_eq!(second.restore_from(first.snapshot().unwrap()), Restored::Taken);
    let processed = work(&mut second, &(100..300).map(row).collect::<Vec<_>>());
    assert_eq!(processed.outcome, Outcome::Processed);
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
    let mut asked = Vec::new();
    let processed = guest.process(0, &rows, describe, |name, unit| {
        asked.push((name.to_owned(), unit.to_owned()));
        Ok(SeriesId(100 + asked.len() as u32))
    });
    assert_eq!(processed.readings, [float(101, 1, TRIGGER), float(102, 1, 1.0)]);
    assert_eq!(asked, [("derived/7".into(), "m".into()), ("derived/8".into(), "m".into())]);
    assert_eq!(process(&mut guest, 0, &rows).readings, rows);

    let mut flood = open(&host, "misbehave", &[("mode", "register-flood")]);
    let mut next = 100;
    let processed = flood.process(0, &rows, describe, |_, _| {
        next += 1;
        Ok(SeriesId(next))
    });
    assert_eq!(values(&processed), [5000.0 - 4096.0, 1.0]);
    assert_eq!(next, 100 + 4096);
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
fn a_component_that_cannot_be_used_is_refused_with_the_reason() {
    // Goal: whoever configured it learns what to change. Method: one component of each kind of uselessness.
    let host = Host::new().unwrap();
    let refused = |component: &config::Component| {
        let error = Processor::open(&host, component, compiler(), &shared_cache()).unwrap_err();
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    };
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        config::Component { path, ..component("misbehave", &[]) }
    };
    let whole = fs::read(guest("misbehave")).unwrap();

    for (component, said) in [
        (component("ungranted", &[]), "imports test:ungranted/door, which is not granted"),
        (component("misbehave", &[("mode", "refuse")]), "refuses its configuration: option \"mode\" is"),
        (component("misbehave", &[("mode", "trap-in-configure")]), "does not start: trap"),
        (component("limits", &[("hihg", "*: 1")]), "\"hihg\" is not known"),
        (config::Component { memory_bytes_max: 64 << 10, ..component("limits", &[]) }, "more memory than"),
        (config::Component { path: dir.path().join("none"), ..component("limits", &[]) }, "cannot read"),
        (file("empty", b"\0asm\x0d\0\x01\0"), "does not fit the contract"),
        (file("core", b"\0asm\x01\0\0\0"), "does not compile"),
        (file("text", b"not wasm at all"), "does not compile"),
        (file("cut", &whole[..whole.len() / 2]), "does not compile"),
    ] {
        let reason = refused(&component);
        assert!(reason.contains(said), "{reason:?} does not say {said:?}");
    }
    let large = file("large", b"");
    fs::File::options().write(true).open(&large.path).unwrap().set_len(100 << 20).unwrap();
    assert!(refused(&large).contains("more than the 33554432"));
    let missing = Processor::open(&host, &file("new", &[]), no_compiler(), dir.path());
    assert!(matches!(missing, Err(OpenError::Compile { .. })), "{missing:?}");
}

#[test]
fn a_compiled_component_is_kept_checked_and_may_be_deleted() {
    // Goal: the second start compiles nothing; a flipped bit is noticed wherever it is; deletion costs a compilation and
    // nothing else, even while the file is mapped. Method: a cache of its own, and a compiler that cannot run.
    let host = Host::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let limits = component("limits", &[("high", "*: 50")]);
    let open = |compiler: &Path| Processor::open(&host, &limits, compiler, dir.path());
    let files = |extension: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir.path().join("components")).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().unwrap() == extension)
            .collect()
    };
    let works =
        |processor: &mut Processor| assert_eq!(process(processor, 0, &[float(1, 1, 60.0)]).alarms.len(), 1);

    let mut first = open(compiler()).unwrap();
    assert_eq!(count(&first, |c| &c.compilations), 1);
    works(&mut first);
    works(&mut open(no_compiler()).unwrap());
    assert_eq!((files("cwasm").len(), files("sha256").len(), files("tmp").len()), (1, 1, 0));

    let cwasm = files("cwasm").remove(0);
    let sound = fs::read(&cwasm).unwrap();
    for at in [0, sound.len() / 2, sound.len() - 1] {
        // Not in place: the file is mapped.
        let mut flipped = sound.clone();
        flipped[at] ^= 4;
        fs::remove_file(&cwasm).unwrap();
        fs::write(&cwasm, flipped).unwrap();
        let mut again = open(compiler()).unwrap();
        let counted = (count(&again, |c| &c.cache_rejected), count(&again, |c| &c.compilations));
        assert_eq!(counted, (1, 1), "byte {at}");
        works(&mut again);
        works(&mut open(no_compiler()).unwrap());
    }
    fs::remove_file(files("sha256").remove(0)).unwrap();
    assert_eq!(count(&open(compiler()).unwrap(), |c| &c.cache_rejected), 1);

    fs::remove_dir_all(dir.path().join("components")).unwrap();
    assert_eq!(process(&mut first, 0, &[float(1, 2, 10.0)]).alarms.len(), 1);
    assert!(matches!(open(no_compiler()), Err(OpenError::Compile { .. })));
    works(&mut open(compiler()).unwrap());

    fs::set_permissions(dir.path().join("components"), fs::Permissions::from_mode(0o770)).unwrap();
    assert!(matches!(open(compiler()), Err(OpenError::Artifact { .. })));
}

#[test]
fn the_compiler_confines_itself() {
    // Goal: whoever starts it, the compiler has limits before it looks at the component; a process that runs out of them
    // fails and leaves nothing that could be loaded. Method: hold its input back and read its limits; then so little memory
    // that not even the program fits.
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.cwasm");
    let mut child = Command::new(compiler())
        .args([Path::new("compile"), Path::new("/dev/stdin"), &out])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let limits = loop {
        let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
        if limits.contains("1073741824") || started.elapsed() > PATIENCE {
            break limits;
        }
        std::thread::yield_now();
    };
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max address space"), "1073741824");
    let mut input = child.stdin.take().unwrap();
    input.write_all(&fs::read(guest("limits")).unwrap()).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
    assert!(out.exists());

    let starved = Command::new("sh")
        .args(["-c", "ulimit -v 16384 && exec \"$@\"", "sh"])
        .arg(compiler())
        .args([Path::new("compile"), &guest("limits"), &dir.path().join("none.cwasm")])
        .output()
        .unwrap();
    assert!(!starved.status.success(), "{starved:?}");
    assert!(!dir.path().join("none.cwasm").exists());
}

#[test]
fn everything_works_in_one_gib_of_address_space() {
    // Goal: small boards limit the address space. Method: tests above, compilation included, in a process with
    // `ulimit -v` of 1 GiB, one after the other, as the pipeline thread would.
    let tests = [
        "limits_calibrates_raises_and_clears",
        "a_component_that_fails_is_passed_by_discarded_and_comes_back",
        "a_compiled_component_is_kept_checked_and_may_be_deleted",
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
