//! Behaves until it is told not to.
//!
//! It adds 1 to every value, so that readings that went through it differ from readings that went past it. When a batch
//! contains the value of option `trigger` (default 666), or any batch if option `always` is "yes", it does what option `mode`
//! says; some modes show elsewhere than in `process`. Its state is the number of
//! batches it has worked on since its state was empty; a batch with the value of option `count-at` (default -1) has that
//! value replaced by the number.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit/frond-telemetry.wit",
        world: "stateful",
    });
    use super::Component;
    export!(Component);
}

use bindings::exports::frond::telemetry::processor::{Batch, Output, Series};
use bindings::exports::frond::telemetry::{processor, state};
use bindings::frond::telemetry::types::{Alarm, Edge, Readings};
use bindings::frond::telemetry::{log, registry};

struct Component;

#[derive(Default)]
struct State {
    options: BTreeMap<String, String>,
    announced: Vec<u32>,
    batches: u64,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

fn option(name: &str, default: &str) -> String {
    STATE.with_borrow(|state| state.options.get(name).cloned().unwrap_or_else(|| default.to_owned()))
}

fn number(name: &str, default: f64) -> f64 {
    option(name, "").parse().unwrap_or(default)
}

impl processor::Guest for Component {
    fn configure(options: Vec<(String, String)>) -> Result<(), String> {
        STATE.with_borrow_mut(|state| state.options = options.into_iter().collect());
        match option("mode", "").as_str() {
            "refuse" => Err("option \"mode\" is \"refuse\", which is refused".into()),
            "trap-in-configure" => panic!("asked to panic in configure"),
            "loop-in-configure" => endless(),
            "bad-text-in-configure" => Err(bad_text()),
            _ => Ok(()),
        }
    }

    fn announce(series: Vec<Series>) {
        match option("mode", "").as_str() {
            "trap-in-announce" => panic!("asked to panic in announce"),
            "loop-in-announce" => endless(),
            _ => {}
        }
        STATE.with_borrow_mut(|state| {
            for one in series {
                assert!(!state.announced.contains(&one.id), "series {} was announced twice", one.id);
                state.announced.push(one.id);
            }
        });
    }

    fn process(readings: Batch) -> Output {
        let batches = STATE.with_borrow_mut(|state| {
            assert!(
                readings.series.iter().all(|id| state.announced.contains(id)),
                "a series was not announced"
            );
            state.batches += 1;
            state.batches
        });
        if option("always", "") == "yes" || readings.values.contains(&number("trigger", 666.0)) {
            return misbehave(readings);
        }
        let count_at = number("count-at", -1.0);
        let mut batch = readings;
        for value in &mut batch.values {
            *value = if *value == count_at { batches as f64 } else { *value + 1.0 };
        }
        (batch.integer_rows, batch.integers) = (Vec::new(), Vec::new());
        replaced(batch)
    }
}

impl state::Guest for Component {
    fn snapshot() -> Vec<u8> {
        match option("mode", "").as_str() {
            "huge-snapshot" => vec![7; 2 << 20],
            "trap-in-snapshot" => panic!("asked to panic in snapshot"),
            "loop-in-snapshot" => endless(),
            _ => STATE.with_borrow(|state| state.batches.to_le_bytes().to_vec()),
        }
    }

    fn restore(snapshot: Vec<u8>) -> Result<(), String> {
        match option("mode", "").as_str() {
            "trap-in-restore" => panic!("asked to panic in restore"),
            "loop-in-restore" => endless(),
            "bad-text-in-restore" => return Err(bad_text()),
            _ => {}
        }
        let bytes = snapshot.try_into().map_err(|_| "a state has eight bytes".to_owned())?;
        STATE.with_borrow_mut(|state| state.batches = u64::from_le_bytes(bytes));
        Ok(())
    }
}

fn replaced(batch: Batch) -> Output {
    Output { readings: Readings::Replaced(batch), alarms: Vec::new() }
}

#[expect(clippy::disallowed_methods, reason = "sleeping is one of the things to be stopped")]
fn misbehave(mut batch: Batch) -> Output {
    let rows = batch.series.len();
    match option("mode", "").as_str() {
        "trap" => panic!("asked to panic"),
        "exit" => std::process::exit(3),
        "loop" => endless(),
        "leak" => std::mem::forget(black_box(vec![1u8; 1 << 20])),
        "bad-text" => {
            let alarm = alarm(&batch, bad_text(), bad_text());
            return Output { readings: Readings::Unchanged, alarms: vec![alarm] };
        }
        "bad-text-in-log" => log::write(log::Level::Info, &bad_text()),
        "bad-text-in-register" => drop(registry::register(&bad_text(), "")),
        "trap-in-restore" | "loop-in-restore" | "bad-text-in-restore" => {
            panic!("asked to panic, to be restored")
        }
        // These misbehave elsewhere.
        "trap-in-snapshot" | "loop-in-snapshot" | "huge-snapshot" => {}
        "grow" => {
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            loop {
                hoard.push(black_box(vec![1; 1 << 20]));
            }
        }
        "recurse" => {
            black_box(recurse(rows as u64));
        }
        "sleep" => std::thread::sleep(std::time::Duration::from_secs(3600)),
        "not-finite" => {
            batch.values[0] = f64::NAN;
            if rows > 1 {
                batch.values[1] = f64::INFINITY;
            }
        }
        "unknown-series" => batch.series[0] = 4_000_000_000,
        "unequal" => batch.times.truncate(rows / 2),
        "integers-astray" => {
            batch.integer_rows = vec![0, 0, rows as u32];
            batch.integers = vec![42, 43, 44, 45];
        }
        "many-rows" => {
            let rows = rows * 4 + 1024 + 100;
            let (series, time) = (batch.series[0], batch.times[0]);
            batch = Batch {
                series: vec![series; rows],
                times: vec![time; rows],
                values: vec![1.0; rows],
                integer_rows: Vec::new(),
                integers: Vec::new(),
            };
        }
        "many-bytes" => {
            // Half a million rows are 10 MB, more than the gateway takes over in one call.
            batch.series = vec![batch.series[0]; 500_000];
            batch.times = vec![0; 500_000];
            batch.values = vec![0.0; 500_000];
        }
        "alarm-flood" => {
            let alarm = alarm(&batch, "x".repeat(1000), "é".repeat(1000));
            return Output { readings: Readings::Unchanged, alarms: vec![alarm; rows * 4 + 64 + 10] };
        }
        "bad-alarms" => {
            let good = alarm(&batch, "good".into(), "said".into());
            let stranger = Alarm { series: 4_000_000_000, ..good.clone() };
            let not_a_number = Alarm { value: f64::NAN, ..good.clone() };
            return Output { readings: Readings::Unchanged, alarms: vec![stranger, good, not_a_number] };
        }
        "log-flood" => {
            for n in 0..1000 {
                log::write(log::Level::Info, &format!("line {n}\nsecond line"));
                println!("stdout {n}");
                eprintln!("stderr {n}");
            }
        }
        "derive" => {
            for row in 0..rows {
                match registry::register(&format!("derived/{}", batch.series[row]), "m") {
                    Ok(id) => batch.series[row] = id,
                    Err(why) => log::write(log::Level::Warn, &why),
                }
            }
        }
        "register-flood" => {
            let refused =
                (0..5000).filter(|n| registry::register(&format!("series {n}"), "").is_err()).count();
            batch.values[0] = refused as f64;
        }
        other => panic!("there is no mode {other:?}"),
    }
    replaced(batch)
}

fn endless() -> ! {
    loop {
        black_box(0);
    }
}

/// Text that is none: bytes that occur nowhere in UTF-8.
fn bad_text() -> String {
    // SAFETY: nothing looks at it but the lowering of results, which copies bytes. That a toolchain may hand over anything
    // as text is the point.
    unsafe { String::from_utf8_unchecked(vec![b'x', 0xff, 0xfe]) }
}

fn alarm(batch: &Batch, name: String, message: String) -> Alarm {
    Alarm {
        series: batch.series[0],
        time: batch.times[0],
        edge: Edge::Raised,
        name,
        message,
        value: batch.values[0],
    }
}

fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if black_box(depth) == u64::MAX { 0 } else { recurse(depth + 1) + frame[(depth % 64) as usize] }
}
