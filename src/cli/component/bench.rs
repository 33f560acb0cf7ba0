//! `frond component bench`: how long a component takes, and what memory.
//!
//! Batches go through the gateway's own runtime, checks included; what is measured is what a gateway would spend. Nothing is
//! counted inside the component, so that it runs as fast here as there.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::progress::Progress;
use super::recording::{Recording, TimeUnit};
use super::roster::{Roster, Shared};
use super::workbench::{ComponentArgs, Workbench, refused};
use crate::cli::exit::Exit;
use crate::cli::{output, render};
use crate::config::LogLevel;
use crate::platform::log;
use crate::runtime::{Outcome, Processor, Registrar};
use crate::sample::{Nanos, Reading, SECOND, SeriesId, Value};

/// Series of the readings made up when there is no recording, and what times they begin at.
const SERIES: u32 = 16;
const BEGIN: Nanos = 1_764_000_000 * SECOND;

/// Calls that are measured at most: 16 bytes each, 16 MiB.
const CALLS_MAX: usize = 1 << 20;

/// Part of the time that goes by before anything is measured.
const WARM_UP: u32 = 10;

/// Arguments of `frond component bench`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Without a recording, readings are made up: 16 series named bench/0 … bench/15, a wave each, ten a second. Options that \
    fit none of them make the component look faster than it is.\n\n\
    Exit codes: 0 when it was measured; 4 when the component failed meanwhile; 78 when it refuses its options; 1 when it or the \
    recording cannot be read."
)]
pub struct BenchArgs {
    #[command(flatten)]
    component: ComponentArgs,
    /// A recording, which is repeated as if it went on: .csv or JSON lines
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// What numbers in the recording's time count since 1970
    #[arg(long, value_enum, default_value = "s")]
    time: TimeUnit,
    /// Put before the name of every series
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Readings in a batch
    #[arg(long, value_name = "READINGS", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=8192))]
    batch: u32,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was measured.
struct Measured {
    /// Of each call, ascending.
    calls: Vec<Duration>,
    readings: u64,
    open: Duration,
    /// What the process grew by: code, stack and memories of the component.
    memory_bytes: Option<u64>,
    snapshot: Option<(usize, Duration)>,
    /// Batches that went past it.
    failed: u64,
}

/// Measures a component.
pub fn run(args: &BenchArgs) -> anyhow::Result<Exit> {
    log::init(LogLevel::Warn)?;
    let bench = Workbench::new(&args.component)?;
    let recording = match &args.input {
        Some(path) => Recording::read(path, &args.prefix, args.time)?,
        None => waves(&args.prefix),
    };
    // Compiled here, so that opening below takes what it takes a gateway.
    let progress = Progress::of(format!("compiling {}", args.component.file.display()));
    if let Err(error) = bench.open() {
        return Ok(refused(&error));
    }
    drop(progress);
    let before = proportional_bytes();
    let started = Instant::now();
    let processor = match bench.open() {
        Ok(processor) => processor,
        Err(error) => return Ok(refused(&error)),
    };
    let open = started.elapsed();
    let mut mill = Mill::new(processor, recording);
    let (rows, length) = (args.batch as usize, Duration::from_secs(args.seconds.into()));
    mill.turn(rows, length / WARM_UP, |_, _| true);
    let memory_bytes = before.zip(proportional_bytes()).map(|(before, after)| after.saturating_sub(before));
    let (mut calls, mut readings) = (Vec::new(), 0);
    let failed = mill.turn(rows, length, |took, rows| {
        calls.push(took);
        readings += rows as u64;
        calls.len() < CALLS_MAX
    });
    calls.sort_unstable();
    let begun = Instant::now();
    let snapshot = mill.processor.snapshot().map(|snapshot| (snapshot.len(), begun.elapsed()));
    let measured = Measured { calls, readings, open, memory_bytes, snapshot, failed };
    match args.json {
        true => output::line(format_args!("{:#}", measured.json(args))),
        false => output::lines(measured.text(args)),
    }
    Ok(if measured.failed == 0 { Exit::Ok } else { Exit::Degraded })
}

/// A component and the readings it is given over and over.
struct Mill {
    processor: Processor,
    roster: Shared,
    registrar: Registrar,
    readings: Vec<Reading>,
    /// How far the times move on from one round to the next.
    round: Nanos,
    now: Nanos,
}

// === impl Mill ===

impl Mill {
    fn new(processor: Processor, Recording { roster, readings }: Recording) -> Mill {
        let times = readings.iter().map(|reading| reading.time);
        let (from, to) =
            times.fold((Nanos::MAX, Nanos::MIN), |(from, to), time| (from.min(time), to.max(time)));
        let round = to.saturating_sub(from).saturating_add(SECOND / 10);
        let roster = Shared::new(roster);
        let registrar = roster.registrar();
        Mill { processor, roster, registrar, readings, round, now: 0 }
    }

    /// Gives batches for so long; each call's time and readings go to `each`, which says whether to go on. Returns how many
    /// batches the component had no say in.
    fn turn(&mut self, rows: usize, length: Duration, mut each: impl FnMut(Duration, usize) -> bool) -> u64 {
        let started = Instant::now();
        let mut failed = 0;
        loop {
            for batch in self.readings.chunks(rows) {
                let describe = |id| self.roster.get().entry(id).cloned().expect("it is in the recording");
                let begun = Instant::now();
                let processed = self.processor.process(self.now, batch, describe, &mut self.registrar);
                let took = begun.elapsed();
                failed += u64::from(std::hint::black_box(processed).outcome != Outcome::Processed);
                if !each(took, batch.len()) || started.elapsed() >= length {
                    return failed;
                }
            }
            self.now += self.round;
            self.readings
                .iter_mut()
                .for_each(|reading| reading.time = reading.time.saturating_add(self.round));
        }
    }
}

/// Ten seconds of sixteen waves, ten readings a second each.
fn waves(prefix: &str) -> Recording {
    let mut roster = Roster::default();
    let number = |n| roster.number(&format!("{prefix}bench/{n}"), "").expect("there are few");
    let series: Vec<SeriesId> = (0..SERIES).map(number).collect();
    let row = |step: i64, series: &SeriesId| {
        let angle = step as f64 / 7.0 + f64::from(series.0);
        Reading {
            series: *series,
            time: BEGIN + step * SECOND / 10,
            value: Value::Float(50.0 + 40.0 * angle.sin()),
        }
    };
    let readings =
        (0..100).flat_map(|step| series.iter().map(move |series| row(step, series)).collect::<Vec<_>>());
    let readings = readings.collect();
    Recording { roster, readings }
}

/// What this process has of the machine's memory; what it shares counts by its share.
fn proportional_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

// === impl Measured ===

impl Measured {
    /// The time that so many of a thousand calls did not exceed.
    fn per_mille(&self, part: usize) -> Duration {
        let at = (self.calls.len() * part / 1000).min(self.calls.len().saturating_sub(1));
        self.calls.get(at).copied().unwrap_or_default()
    }

    fn per_reading_ns(&self) -> f64 {
        let spent: Duration = self.calls.iter().sum();
        spent.as_nanos() as f64 / self.readings.max(1) as f64
    }

    fn text(&self, args: &BenchArgs) -> String {
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        let memory = self.memory_bytes.map_or_else(|| "unknown".to_owned(), render::bytes);
        let state = self.snapshot.map_or_else(
            || "none".to_owned(),
            |(bytes, time)| format!("{bytes} bytes in {:.1} us", us(time)),
        );
        let failed = match self.failed {
            0 => String::new(),
            failed => {
                format!("{failed} batches went past it; these numbers are not those of a component at work\n")
            }
        };
        format!(
            "{} calls with {} readings, batches of {}\nper reading: {:.1} ns\nper batch: p50 {:.1} us, p90 {:.1} us, p99 {:.1} us, p99.9 {:.1} us, max {:.1} us\nopens in {:.1} ms\nmemory, of its code and data: {memory}\nsnapshot: {state}\n{failed}",
            self.calls.len(),
            self.readings,
            args.batch,
            self.per_reading_ns(),
            us(self.per_mille(500)),
            us(self.per_mille(900)),
            us(self.per_mille(990)),
            us(self.per_mille(999)),
            us(self.per_mille(1000)),
            self.open.as_secs_f64() * 1e3,
        )
    }

    fn json(&self, args: &BenchArgs) -> serde_json::Value {
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        json!({
            "calls": self.calls.len(), "readings": self.readings, "batch": args.batch,
            "per_reading_ns": self.per_reading_ns(),
            "batch_us": {
                "p50": us(self.per_mille(500)), "p90": us(self.per_mille(900)), "p99": us(self.per_mille(990)),
                "p999": us(self.per_mille(999)), "max": us(self.per_mille(1000)),
            },
            "open_ms": self.open.as_secs_f64() * 1e3, "memory_bytes": self.memory_bytes,
            "snapshot_bytes": self.snapshot.map(|snapshot| snapshot.0),
            "snapshot_us": self.snapshot.map(|snapshot| us(snapshot.1)), "failed": self.failed,
        })
    }
}
