//! What a component costs: each figure beside its peer, in the same run.
//!
//! - A batch of 64, and one of 1,024, through [`Processor::process`], against the same Rust code called natively: once on
//!   columns that are there already, once with the columns made from the readings, as any caller would have to. And
//!   against the bare call below, which shows what of it is the sandbox and what is Frond.
//! - A batch of one, against a bare wasmtime component call with the same row: default engine, synchronous call, no
//!   deadline, no limits, no checks, nothing announced.
//! - Ten components ready from the cache, against compiling ten.
//! - Memory of an instance that has worked and waits.
//!
//! Method: processor time of the thread, in rounds of the two in turn, so that a busy machine is busy for both; the
//! median of the rounds counts. `just guests` first.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use frond::block::SeriesEntry;
use frond::config;
use frond::runtime::{Host, Outcome, Processor, Registrar};
use frond::sample::{Reading, SeriesId, Value};
use nix::time::{ClockId, clock_gettime};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

// The components' sources, as they stand: what they find in their crate `kit` is a module here.
extern crate self as kit;
#[allow(dead_code, missing_docs, unused_imports)]
#[path = "../components/vibration/src/blocks.rs"]
mod blocks;
#[allow(dead_code, missing_docs, unused_imports)]
#[path = "../components/vibration/src/features.rs"]
mod features;
#[allow(dead_code, missing_docs, unused_imports)]
#[path = "../components/kit/src/linear.rs"]
pub mod linear;
#[allow(dead_code, missing_docs, unused_imports)]
#[path = "../components/limits/src/monitor.rs"]
mod monitor;
#[allow(dead_code, missing_docs, unused_imports)]
#[path = "../components/kit/src/options.rs"]
pub mod options;
#[allow(dead_code, missing_docs, unused_imports)]
#[path = "../components/limits/src/rules.rs"]
mod rules;
#[allow(dead_code, missing_docs, unused_imports)]
#[path = "../components/vibration/src/settings.rs"]
mod settings;

mod rig;

mod bare {
    wasmtime::component::bindgen!({ path: "wit/frond-telemetry.wit", world: "stateful" });
}

use bare::exports::frond::telemetry::processor::{Batch, Series};

const ROUNDS: usize = 31;
const CALLS: usize = 2000;
const SERIES: u32 = 16;

fn main() {
    let (unchanged, calibrated) = (
        options(&[("high", "*: 80, hysteresis 2")]),
        options(&[("high", "*: 80, hysteresis 2"), ("calibrate", "*: scale 1.5, offset -1")]),
    );
    for (name, options) in [("limits only", &unchanged), ("limits and calibration", &calibrated)] {
        println!("{name}");
        batch::<64>(options);
        batch::<1024>(options);
        single(options);
    }
    println!("vibration, blocks of 4096");
    vibration();
    ten_components(&unchanged);
    idle(&unchanged);
}

fn batch<const ROWS: u32>(options: &[(String, String)]) {
    let host = Host::new().expect("host");
    let mut processor = open(&host, "limits", options, &cache());
    let rows: Vec<Reading> = (0..ROWS).map(reading).collect();
    let mut native = native(options);
    let mut native_columns = native_monitor(options);
    let mut registrar = Registrar::refusing("none is made here");
    let mut through = || {
        let processed = processor.process(0, black_box(&rows), describe, &mut registrar);
        assert_eq!((processed.outcome, processed.readings.len()), (Outcome::Processed, ROWS as usize));
        black_box(processed);
    };
    let (series, times, values) = columns(&rows);
    let mut on_columns = || {
        let rows = monitor::Rows { series: &series, times: &times, values: &values };
        black_box(native_columns.judge(black_box(rows)));
    };
    let mut with_columns = || {
        black_box(native(black_box(&rows)));
    };
    let (mut store, guest) = bare_guest(options);
    let batch = Batch {
        series: series.clone(),
        times: times.clone(),
        values: values.clone(),
        integer_rows: Vec::new(),
        integers: Vec::new(),
    };
    let mut bare = || {
        black_box(guest.call_process(&mut store, black_box(&batch)).expect("process"));
    };
    let [through, on_columns, with_columns, bare] =
        compare([&mut through, &mut on_columns, &mut with_columns, &mut bare])
            .map(|time| time / f64::from(ROWS));
    println!("  batch of {ROWS}, per reading: {through:.1} ns");
    println!("    native, columns to columns: {on_columns:.1} ns, ratio {:.2}", through / on_columns);
    println!("    native, readings to readings: {with_columns:.1} ns, ratio {:.2}", through / with_columns);
    println!("    bare wasmtime call: {bare:.1} ns, ratio {:.2}", through / bare);
}

/// The component that computes most: spectra.
fn vibration() {
    let options = options(&[("series", "*"), ("block", "4096"), ("bands", "10-100; 100-400")]);
    let host = Host::new().expect("host");
    let mut processor = open(&host, "vibration", &options, &cache());
    let settings = || settings::Settings::parse(&options).expect("options");
    let mut native = blocks::Blocks::new(settings());
    for id in 0..SERIES {
        assert_eq!(native.announce(id, describe(SeriesId(id)).name, "g".into()), blocks::Announced::Well);
    }
    // A millisecond between the samples of a series, four in a batch; time goes on from batch to batch.
    let sample = |n: i64| Reading {
        series: SeriesId((n % i64::from(SERIES)) as u32),
        time: n / i64::from(SERIES) * 1_000_000,
        value: Value::Float((n as f64 * 0.37).sin()),
    };
    let later = |rows: &mut Vec<Reading>| rows.iter_mut().for_each(|row| row.time += 4_000_000);
    let mut there: Vec<Reading> = (0..64).map(sample).collect();
    let mut here = there.clone();
    let mut numbers = 1000;
    let mut registrar = Registrar::new(move |_, _, _| {
        numbers += 1;
        Ok(SeriesId(numbers))
    });
    let mut through = || {
        later(&mut there);
        let processed = processor.process(0, black_box(&there), describe, &mut registrar);
        assert_eq!(processed.outcome, Outcome::Processed);
        black_box(processed);
    };
    let mut natively = || {
        later(&mut here);
        for row in black_box(&here) {
            black_box(native.take(row.series.0, row.time, row.value.as_f64()));
        }
    };
    let [through, natively] = compare([&mut through, &mut natively]).map(|time| time / 64.0);
    println!("  batch of 64, per sample: {through:.1} ns");
    println!("    native: {natively:.1} ns, ratio {:.2}", through / natively);
}

fn single(options: &[(String, String)]) {
    let host = Host::new().expect("host");
    let mut processor = open(&host, "limits", options, &cache());
    let row = [reading(0)];
    let mut registrar = Registrar::refusing("none is made here");
    let mut through = || {
        black_box(processor.process(0, black_box(&row), describe, &mut registrar));
    };

    let (mut store, guest) = bare_guest(options);
    let (series, times, values) = columns(&row);
    let batch = Batch { series, times, values, integer_rows: Vec::new(), integers: Vec::new() };
    let mut bare = || {
        black_box(guest.call_process(&mut store, black_box(&batch)).expect("process"));
    };
    let [through, bare] = compare([&mut through, &mut bare]);
    println!("  single call: {through:.0} ns");
    println!("    bare wasmtime call: {bare:.0} ns, ratio {:.2}", through / bare);
}

fn ten_components(options: &[(String, String)]) {
    let host = Host::new().expect("host");
    drop(open(&host, "limits", options, &cache()));
    let started = processor_time();
    let ten: Vec<Processor> = (0..10).map(|_| open(&host, "limits", options, &cache())).collect();
    let cached = processor_time() - started;
    drop(ten);

    let engine = Engine::default();
    let started = processor_time();
    for _ in 0..10 {
        black_box(Component::from_file(&engine, wasm("limits")).expect("component"));
    }
    let compiled = processor_time() - started;
    println!("ten cached components ready: {:.1} ms", ms(cached));
    println!(
        "  ten compiled: {:.1} ms, 1/{:.0}",
        ms(compiled),
        compiled.as_secs_f64() / cached.as_secs_f64()
    );
}

/// Memory of an instance that has worked and waits.
fn idle(options: &[(String, String)]) {
    const INSTANCES: usize = 32;
    let host = Host::new().expect("host");
    let work = |mut processor: Processor| {
        let rows: Vec<Reading> = (0..64).map(reading).collect();
        let mut registrar = Registrar::refusing("none is made here");
        for _ in 0..100 {
            processor.process(0, &rows, describe, &mut registrar);
        }
        processor
    };
    // The first one pays for what they share.
    let first = work(open(&host, "limits", options, &cache()));
    let before = rig::pss_of(std::process::id());
    let others: Vec<Processor> =
        (0..INSTANCES).map(|_| work(open(&host, "limits", options, &cache()))).collect();
    let each = rig::pss_of(std::process::id()).saturating_sub(before) / INSTANCES as u64;
    println!("an idle instance of limits that has worked on 100 batches: {} KiB of PSS", each >> 10);
    drop((first, others));
}

/// Median nanoseconds of a call of each.
fn compare<const N: usize>(mut calls: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut rounds: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
    for round in 0..=ROUNDS {
        for (call, times) in calls.iter_mut().zip(&mut rounds) {
            let started = processor_time();
            (0..CALLS).for_each(|_| call());
            // The first round warms up.
            if round > 0 {
                times.push((processor_time() - started).as_nanos() as f64 / CALLS as f64);
            }
        }
    }
    rounds.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the thread has a clock").into()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn options(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn reading(n: u32) -> Reading {
    Reading {
        series: SeriesId(n % SERIES),
        time: i64::from(n),
        value: Value::Float(20.0 + f64::from(n) / 7.0),
    }
}

fn describe(id: SeriesId) -> SeriesEntry {
    SeriesEntry { name: format!("line4/press/{}", id.0), unit: "bar".into(), labels: BTreeMap::new() }
}

fn columns(rows: &[Reading]) -> (Vec<u32>, Vec<i64>, Vec<f64>) {
    let series = rows.iter().map(|row| row.series.0).collect();
    (series, rows.iter().map(|row| row.time).collect(), rows.iter().map(|row| row.value.as_f64()).collect())
}

fn native_monitor(options: &[(String, String)]) -> monitor::Monitor {
    let mut monitor = monitor::Monitor::new(rules::Rules::parse(options).expect("options"));
    (0..SERIES).for_each(|id| monitor.announce(id, describe(SeriesId(id)).name, String::new()));
    monitor
}

/// The component's code as a function from readings to readings.
fn native(
    options: &[(String, String)],
) -> impl for<'r> FnMut(&'r [Reading]) -> (Cow<'r, [Reading]>, Vec<monitor::Event>) {
    let mut monitor = native_monitor(options);
    move |rows| {
        let (series, times, values) = columns(rows);
        let verdict = monitor.judge(monitor::Rows { series: &series, times: &times, values: &values });
        let mut readings = Cow::Borrowed(rows);
        if let Some(calibrated) = verdict.calibrated {
            let readings = readings.to_mut();
            for row in calibrated.rows {
                readings[row as usize].value = Value::Float(calibrated.values[row as usize]);
            }
        }
        (readings, verdict.events)
    }
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from)
}

fn wasm(name: &str) -> PathBuf {
    let path = target().join(format!("guests/wasm32-wasip2/release/{name}.wasm"));
    assert!(path.exists(), "{} is not there: run `just guests` first", path.display());
    path
}

fn cache() -> PathBuf {
    target().join("tmp/cache")
}

fn open(host: &Host, name: &str, options: &[(String, String)], cache: &Path) -> Processor {
    let mut component = config::Component::of(name.into(), wasm(name));
    component.config = options.iter().cloned().collect();
    // The clock stands still, and nothing is earned anew.
    (component.readings_in_per_second, component.cpu_share_percent) = (100_000_000, 100);
    Processor::open(host, &component, Path::new(env!("CARGO_BIN_EXE_frond")), cache).expect("open")
}

struct Bare {
    context: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Bare {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.context, table: &mut self.table }
    }
}

fn bare_guest(
    options: &[(String, String)],
) -> (Store<Bare>, bare::exports::frond::telemetry::processor::Guest) {
    let engine = Engine::default();
    let component = Component::from_file(&engine, wasm("limits")).expect("component");
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker).expect("linker");
    let mut store =
        Store::new(&engine, Bare { context: WasiCtx::builder().build(), table: ResourceTable::new() });
    // `limits` imports neither log nor registry.
    let instance = linker.instantiate(&mut store, &component).expect("instance");
    let guest =
        bare::Stateful::new(&mut store, &instance).expect("exports").frond_telemetry_processor().clone();
    guest.call_configure(&mut store, options).expect("configure").expect("options");
    let series = |id| {
        let SeriesEntry { name, unit, .. } = describe(SeriesId(id));
        Series { id, name, unit, labels: Vec::new() }
    };
    guest.call_announce(&mut store, &(0..SERIES).map(series).collect::<Vec<_>>()).expect("announce");
    (store, guest)
}
