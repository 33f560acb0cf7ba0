//! `frond component test`: a recording through a component, as a stream would send it, and what comes out.
//!
//! The component runs in the gateway's own runtime, with its limits and checks. Batches are what a group commit of a gateway
//! would give: the readings of one second of the recording. The clock that its pauses after faults go by is the recording's,
//! so that a run gives the same result every time, however fast it is.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::output::{Form, Rows};
use super::plot::Plot;
use super::recording::{Recording, TimeUnit};
use super::roster::{Roster, Shared};
use super::summary::{Restart, Summary, Tally, carry};
use super::workbench::{ComponentArgs, Workbench, refused};
use crate::block::SeriesEntry;
use crate::cli::exit::Exit;
use crate::config::LogLevel;
use crate::platform::log;
use crate::runtime::{OpenError, Processed, Processor, Restored};
use crate::sample::{Nanos, Reading, SECOND, SeriesId};

/// Arguments of `frond component test`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "A recording is a table (time,line4/temperature [°C],…), JSON lines ({\"time\": …, \"motor\": {\"rpm\": 1480}}), or what \
    frond recall, tail and hub give. Times are RFC 3339, YYYY-MM-DD hh:mm:ss, or numbers. Rows go to standard output, or to \
    --output; the summary goes to standard error, or, with --output, to standard output.\n\n\
    The timer of a component that has one ticks by the recording's clock, as often as `--set timer=2s` says, the first 3,600 of \
    each gap, too; not behind its last row. With --batch those that fall into a batch come before it.\n\n\
    Exit codes: 0 when the component worked on all of it; 4 when it failed, gave rows that do not hold, or went on differently \
    after a restart (printed what); 78 when it refuses its options; 1 when it or the recording cannot be read."
)]
pub struct TestArgs {
    #[command(flatten)]
    component: ComponentArgs,
    /// The recording: .csv or JSON lines
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// What numbers in the recording's time count since 1970
    #[arg(long, value_enum, default_value = "s")]
    time: TimeUnit,
    /// Put before the name of every series, as in plant/7/press/
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Readings in a batch, instead of those of each second
    #[arg(long, value_name = "READINGS", value_parser = clap::value_parser!(u32).range(1..=8192))]
    batch: Option<u32>,
    /// After so many readings take a snapshot, start the component afresh with it, and compare with a run without
    #[arg(long, value_name = "READINGS")]
    restart_at: Option<usize>,
    /// Where rows go instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Rows and summary as JSON
    #[arg(long)]
    json: bool,
    /// Draw what comes out, with the summary
    #[arg(long)]
    plot: bool,
    /// Draw what goes in and comes out into a file
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
}

/// Most ticks in one gap of a recording: an hour of one a second. In a longer one the first of them come.
const TICKS_MAX: i64 = 3_600;

/// A recording on its way through a component.
struct Run<'a> {
    bench: &'a Workbench,
    processor: Processor,
    /// The same without a restart, for comparison.
    steady: Option<Processor>,
    restart_at: Option<u64>,
    roster: Shared,
    /// Time of the first reading, and how far the recording has come since.
    first: Nanos,
    now: Nanos,
    /// When the timer was due last.
    ticked: Nanos,
    tally: Tally,
}

/// Runs a recording through a component.
pub fn run(args: &TestArgs) -> anyhow::Result<Exit> {
    // The component's own lines, and how far its compilation has come.
    log::init(LogLevel::Info)?;
    let bench = Workbench::new(&args.component)?;
    let Recording { roster, readings } = Recording::read(&args.input, &args.prefix, args.time)?;
    if args.restart_at.is_some_and(|at| at >= readings.len()) {
        bail!("--restart-at comes behind the {} readings of the recording", readings.len());
    }
    let announced = roster.len();
    let mut run = match Run::begin(&bench, roster, &readings, args.restart_at) {
        Ok(run) => run,
        Err(error) => return Ok(refused(&error)),
    };
    let mut rows = Rows::to(args.output.as_deref(), if args.json { Form::Json } else { Form::Csv })?;
    let mut plot = Plot::default();
    for batch in batches(&readings, args.batch.map(|rows| rows as usize), args.restart_at) {
        let processed = match run.step(batch) {
            Ok(processed) => processed,
            Err(error) => return Ok(refused(&error)),
        };
        rows.write(&processed.readings, &processed.alarms, &run.roster.get())?;
        plot.take(batch, &processed.readings, &processed.alarms);
    }
    rows.finish()?;
    let snapshot_bytes = run.processor.snapshot().map(|snapshot| snapshot.len());
    let Run { processor, roster, tally, .. } = run;
    let roster = roster.get();
    let registered = roster.len() - announced;
    let summary =
        Summary { tally: &tally, counters: processor.counters(), snapshot_bytes, announced, registered };
    let mut text = if args.json { format!("{}\n", summary.json()) } else { summary.text() };
    if args.plot {
        text.push_str(&plot.text(&roster));
    }
    if let Some(path) = &args.svg {
        std::fs::write(path, plot.svg(&roster))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    match args.output {
        Some(_) => crate::cli::output::lines(text),
        None => eprint!("{text}"),
    }
    Ok(if summary.is_sound() { Exit::Ok } else { Exit::Degraded })
}

// === impl Run ===

impl Run<'_> {
    fn begin<'a>(
        bench: &'a Workbench,
        roster: Roster,
        readings: &[Reading],
        restart_at: Option<usize>,
    ) -> Result<Run<'a>, OpenError> {
        Ok(Run {
            bench,
            processor: bench.open()?,
            steady: restart_at.map(|_| bench.open()).transpose()?,
            restart_at: restart_at.map(|at| at as u64),
            roster: Shared::new(roster),
            first: readings.first().map_or(0, |reading| reading.time),
            now: 0,
            ticked: 0,
            tally: Tally::default(),
        })
    }

    /// One batch, behind a restart if it is time for one.
    fn step<'b>(&mut self, batch: &'b [Reading]) -> Result<Processed<'b>, OpenError> {
        if self.restart_at == Some(self.tally.readings_in) && self.tally.restart.is_none() {
            self.restart()?;
        }
        let ages = batch.iter().map(|reading| reading.time.saturating_sub(self.first));
        self.now = ages.fold(self.now, Nanos::max);
        let ticks = self.due_ticks();
        let times = Times { first: self.first, now: self.now, ticks: &ticks };
        let (processed, spent) = work(&mut self.processor, times, batch, &self.roster);
        self.tally.spent += spent;
        if let Some(steady) = &mut self.steady {
            let (expected, _) = work(steady, times, batch, &self.roster);
            if let Some(Restart { difference: first @ None, .. }) = &mut self.tally.restart {
                *first = difference(&expected, &processed, &self.roster.get(), self.tally.readings_in);
            }
        }
        self.tally.count(batch, &processed);
        Ok(processed)
    }

    /// When the timer was due since the last batch.
    fn due_ticks(&mut self) -> Vec<Nanos> {
        let every = self.bench.timer();
        let due = self.now.saturating_sub(self.ticked) / every;
        let before = self.ticked;
        self.ticked += due * every;
        self.tally.ticks_left_out += (due - TICKS_MAX).max(0) as u64;
        (1..=due.min(TICKS_MAX)).map(|n| before + n * every).collect()
    }

    /// As after a power cut right behind a checkpoint: the snapshot, and an instance that has seen nothing else.
    fn restart(&mut self) -> Result<(), OpenError> {
        let snapshot = self.processor.snapshot();
        let mut restarted = self.bench.open()?;
        let snapshot_bytes = snapshot.as_ref().map(Vec::len);
        let set_aside = snapshot.and_then(|snapshot| match restarted.restore_from(snapshot) {
            Restored::Taken => None,
            Restored::SetAside(why) => Some(why),
        });
        carry(self.processor.counters(), restarted.counters());
        restarted.go_on_from(&self.processor);
        self.processor = restarted;
        let after = self.tally.readings_in;
        self.tally.restart = Some(Restart { after, snapshot_bytes, set_aside, difference: None });
        Ok(())
    }
}

/// Times since the first reading, and when that was.
#[derive(Clone, Copy)]
struct Times<'a> {
    first: Nanos,
    now: Nanos,
    ticks: &'a [Nanos],
}

/// Ticks, then the batch; with the time that the batch took.
fn work<'a>(
    processor: &mut Processor,
    times: Times<'_>,
    batch: &'a [Reading],
    roster: &Shared,
) -> (Processed<'a>, Duration) {
    let (mut readings, mut alarms, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    for tick in times.ticks {
        let at = times.first.saturating_add(*tick);
        let Some(given) = processor.tick(*tick, at, || roster.get().everyone()) else { continue };
        readings.extend_from_slice(&given.readings);
        alarms.extend(given.alarms);
        commands.extend(given.commands);
    }
    let describe = |id: SeriesId| roster.get().entry(id).cloned().unwrap_or_else(nameless);
    let started = Instant::now();
    let mut processed = processor.process(times.now, batch, describe, &mut roster.registrar());
    let spent = started.elapsed();
    processed.alarms.splice(..0, alarms);
    processed.commands.splice(..0, commands);
    if !readings.is_empty() {
        processed.readings.to_mut().splice(..0, readings);
    }
    (processed, spent)
}

fn nameless() -> SeriesEntry {
    SeriesEntry { name: "?".to_owned(), unit: String::new(), labels: Default::default() }
}

/// The readings of each second, or so many at a time; a restart parts a batch.
fn batches(readings: &[Reading], rows: Option<usize>, restart_at: Option<usize>) -> Vec<&[Reading]> {
    let (before, after) = readings.split_at(restart_at.unwrap_or(0).min(readings.len()));
    let part = |readings: &'_ [Reading]| -> Vec<std::ops::Range<usize>> {
        let mut ranges = Vec::new();
        let mut begin = 0;
        for at in 1..=readings.len() {
            let ends = match rows {
                _ if at == readings.len() => true,
                Some(rows) => at - begin == rows,
                None => readings[at].time.div_euclid(SECOND) != readings[at - 1].time.div_euclid(SECOND),
            };
            if ends {
                ranges.push(begin..at);
                begin = at;
            }
        }
        ranges
    };
    let of = |readings: &'_ [Reading]| part(readings).into_iter();
    of(before).map(|range| &before[range]).chain(of(after).map(|range| &after[range])).collect()
}

/// The first row that is another one.
fn difference(expected: &Processed<'_>, found: &Processed<'_>, roster: &Roster, at: u64) -> Option<String> {
    if expected == found {
        return None;
    }
    let spoken = |reading: Option<&Reading>| {
        reading.map_or_else(
            || "nothing".to_owned(),
            |reading| format!("{} = {}", roster.named(reading.series).0, reading.value),
        )
    };
    let rows = expected.readings.len().max(found.readings.len());
    let row = (0..rows).find(|row| expected.readings.get(*row) != found.readings.get(*row));
    Some(match row {
        Some(row) => format!(
            "in the batch behind reading {at}: {} without a restart, {} with one",
            spoken(expected.readings.get(row)),
            spoken(found.readings.get(row))
        ),
        None if expected.commands != found.commands => format!(
            "in the batch behind reading {at}: {} commands without a restart, {} others with one",
            expected.commands.len(),
            found.commands.len()
        ),
        None => format!(
            "in the batch behind reading {at}: {} alarms without a restart, {} with one",
            expected.alarms.len(),
            found.alarms.len()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Value;

    #[test]
    fn a_batch_is_a_second_and_a_restart_parts_it() {
        // Goal: batches are what a group commit would give, and none is empty. Method: readings of three seconds, cut everywhere.
        let times = [1, 2, SECOND, SECOND + 1, SECOND + 2, 3 * SECOND];
        let row = |time| Reading { series: SeriesId(1), time, value: Value::Int(0) };
        let readings: Vec<Reading> = times.into_iter().map(row).collect();
        let lengths = |rows, restart_at| {
            batches(&readings, rows, restart_at).iter().map(|batch| batch.len()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(None, None), [2, 3, 1]);
        assert_eq!(lengths(Some(4), None), [4, 2]);
        assert_eq!(lengths(None, Some(3)), [2, 1, 2, 1]);
        assert_eq!(lengths(None, Some(2)), [2, 3, 1]);
        assert_eq!(lengths(Some(4), Some(1)), [1, 4, 1]);
        assert_eq!(lengths(None, Some(0)), lengths(None, Some(99)));
    }
}
