//! Bytes and CPU time per reading: zstd and pco alone against the codec's mix, on W1 and on recorded series.
//!
//! `cargo bench --bench codec`. Recorded series are taken from the folder `FROND_DATA` (`skab/*.csv`, semicolons, and
//! `nab/*.csv`, commas), if it is set. CPU time is that of the thread, the least of several runs: the machine may be busy.
//! The baselines get the same columns: numbers of series, times, values, with the kinds of values in a column of their
//! own; zstd packs their little-endian bytes, column after column, pco packs each as it sees fit.

mod recorded;
mod w1;

use std::hint::black_box;
use std::time::Duration;

use frond::block::{
    Envelope, Rows, SeriesEntry, WireClock, decode_envelope, decode_messages, decode_readings,
    encode_envelope, encode_messages, encode_readings,
};
use frond::reduce::Reducer;
use frond::sample::{Message, Reading, SECOND, SeriesId, Timeline, Value};
use nix::time::{ClockId, clock_gettime};
use pco::ChunkConfig;

use w1::Whole;

/// Runs of which the fastest counts.
const RUNS: usize = 15;

/// Readings of one message of a recording that go into one group commit: a commit at W1 has 1,000.
const COMMIT: usize = 1_000;

const ZSTD_LEVELS: [i32; 3] = [1, 3, 9];
const PCO_LEVELS: [usize; 3] = [4, 8, 12];

/// One load: the ring's readings, the journal's group commits.
struct Load {
    name: String,
    readings: Vec<Reading>,
    commits: Vec<Vec<Message>>,
}

fn main() {
    let w1 = |name: &str, whole| Load {
        name: name.into(),
        readings: w1::readings(1_000, 60, whole),
        commits: w1::commits(1_000, 60, whole),
    };
    let mut loads = vec![w1("W1, 21.0", Whole::AsFloat), w1("W1, 21", Whole::AsInt)];
    for (name, readings) in recorded::series() {
        let commits = recorded::commits(&readings, COMMIT);
        loads.push(Load { name, readings, commits });
    }
    println!("{:<28}{:<22}{:>9}{:>12}{:>12}", "load", "method", "B/reading", "ns/reading", "ns back");
    for load in &loads {
        ring(load);
        journal(load);
        hub(load);
    }
    reduction(&loads[0].readings);
}

fn ring(load: &Load) {
    let count = load.readings.len();
    let columns = Columns::of(&load.readings);
    for level in ZSTD_LEVELS {
        let packed = columns.zstd(level);
        let back = || zstd::bulk::decompress(&packed, 21 * count).expect("just packed").len();
        report(load, &format!("ring: zstd {level}"), packed.len(), count, || columns.zstd(level).len(), back);
    }
    for level in PCO_LEVELS {
        let packed = columns.pco(level);
        let bytes = packed.iter().map(Vec::len).sum();
        let pack = || columns.pco(level).iter().map(Vec::len).sum();
        report(load, &format!("ring: pco {level}"), bytes, count, pack, || Columns::unpacked(&packed));
    }
    let block = encode_readings(&load.readings);
    let back = || decode_readings(&block).expect("just encoded").len();
    report(load, "ring: frond", block.len(), count, || encode_readings(&load.readings).len(), back);
}

fn journal(load: &Load) {
    let count = load.commits.iter().flatten().map(|message| message.readings.len()).sum();
    let readings = |commit: &Vec<Message>| {
        commit.iter().flat_map(|message| &message.readings).copied().collect::<Vec<_>>()
    };
    let columns: Vec<Columns> = load.commits.iter().map(|commit| Columns::of(&readings(commit))).collect();
    for level in ZSTD_LEVELS {
        let pack = || columns.iter().map(|columns| columns.zstd(level).len()).sum();
        report(load, &format!("journal: zstd {level}"), pack(), count, pack, || 0);
    }
    for level in PCO_LEVELS {
        let pack = || columns.iter().flat_map(|columns| columns.pco(level)).map(|column| column.len()).sum();
        report(load, &format!("journal: pco {level}"), pack(), count, pack, || 0);
    }
    let blocks: Vec<Vec<u8>> = load.commits.iter().map(|commit| encode_messages(commit)).collect();
    let bytes = blocks.iter().map(Vec::len).sum();
    let encode = || load.commits.iter().map(|commit| encode_messages(commit).len()).sum();
    let back = || blocks.iter().map(|block| decode_messages(block).expect("just encoded").len()).sum();
    report(load, "journal: frond", bytes, count, encode, back);
}

fn hub(load: &Load) {
    let mut series: Vec<SeriesId> = load.readings.iter().map(|reading| reading.series).collect();
    series.dedup();
    let entry = |id: SeriesId| SeriesEntry {
        name: format!("plant7/line{}/machine{:03}/channel", id.0 / 250, id.0 % 250),
        unit: "degC".into(),
        labels: [("line".to_string(), (id.0 / 250).to_string())].into(),
    };
    let raw = Envelope {
        stream: "press".into(),
        clock: WireClock::Sensor,
        series: series.iter().map(|&id| (id, entry(id))).collect(),
        rows: Rows::Raw(load.readings.clone()),
    };
    let mut reducer = Reducer::new(60 * SECOND, 5 * SECOND);
    for reading in &load.readings {
        reducer.push(Timeline::Sensor, *reading, 0);
    }
    reducer.flush();
    let rows: Vec<_> = reducer.take_closed().into_iter().map(|closed| closed.row).collect();
    let windows = rows.len();
    let reduced = Envelope { rows: Rows::Windows { length: 60 * SECOND, rows }, ..raw.clone() };
    for (method, envelope, count) in
        [("hub: raw, per reading", raw, load.readings.len()), ("hub: windows, per row", reduced, windows)]
    {
        let block = encode_envelope(&envelope);
        let back = || decode_envelope(&block).expect("just encoded").series.len();
        report(load, method, block.len(), count, || encode_envelope(&envelope).len(), back);
    }
}

/// What a push costs, and what a snapshot with a third of a minute in its windows takes.
fn reduction(sorted: &[Reading]) {
    let mut arrivals = sorted.to_vec();
    arrivals.sort_by_key(|reading| reading.time);
    for (order, readings) in [("by series", sorted), ("as they arrive", &arrivals)] {
        for timeline in [Timeline::Sensor, Timeline::Arrival] {
            let push = least(|| {
                let mut reducer = Reducer::new(60 * SECOND, 5 * SECOND);
                for reading in readings {
                    reducer.push(timeline, *reading, 0);
                }
                reducer.counters().late as usize
            });
            println!("reduce: push {order}, {timeline:?}: {:.1} ns", push / readings.len() as f64);
        }
    }
    let start = sorted.iter().map(|reading| reading.time).min().unwrap_or(0);
    for seconds in [10, 20, 50] {
        let mut reducer = Reducer::new(60 * SECOND, 5 * SECOND);
        for reading in arrivals.iter().filter(|reading| reading.time < start + seconds * SECOND) {
            reducer.push(Timeline::Sensor, *reading, 0);
        }
        let bytes = reducer.snapshot().len();
        let time = least(|| reducer.snapshot().len()) / 1_000.0;
        println!("reduce: snapshot of 1,000 windows of {seconds} readings: {bytes} B, {time:.0} us");
    }
}

fn report(
    load: &Load,
    method: &str,
    bytes: usize,
    count: usize,
    pack: impl FnMut() -> usize,
    back: impl FnMut() -> usize,
) {
    let per_reading = |nanos: f64| nanos / count as f64;
    println!(
        "{:<28}{method:<22}{:>9.3}{:>12.1}{:>12.1}",
        load.name,
        bytes as f64 / count as f64,
        per_reading(least(pack)),
        per_reading(least(back)),
    );
}

/// CPU time of the fastest of several runs, in nanoseconds.
fn least(mut run: impl FnMut() -> usize) -> f64 {
    let now = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has it"));
    let mut least = Duration::MAX;
    for _ in 0..RUNS {
        let start = now();
        black_box(run());
        least = least.min(now() - start);
    }
    least.as_nanos() as f64
}

// === the baselines' columns ===

struct Columns {
    series: Vec<u32>,
    times: Vec<i64>,
    is_int: Vec<u8>,
    ints: Vec<i64>,
    floats: Vec<f64>,
}

impl Columns {
    fn of(readings: &[Reading]) -> Columns {
        let kind = |reading: &Reading| u8::from(matches!(reading.value, Value::Int(_)));
        let int = |reading: &Reading| if let Value::Int(int) = reading.value { Some(int) } else { None };
        let float =
            |reading: &Reading| if let Value::Float(float) = reading.value { Some(float) } else { None };
        Columns {
            series: readings.iter().map(|reading| reading.series.0).collect(),
            times: readings.iter().map(|reading| reading.time).collect(),
            is_int: readings.iter().map(kind).collect(),
            ints: readings.iter().filter_map(int).collect(),
            floats: readings.iter().filter_map(float).collect(),
        }
    }

    fn zstd(&self, level: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.series.iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend(self.times.iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend(&self.is_int);
        bytes.extend(self.ints.iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend(self.floats.iter().flat_map(|number| number.to_le_bytes()));
        zstd::bulk::compress(&bytes, level).expect("memory for a compressor")
    }

    fn pco(&self, level: usize) -> [Vec<u8>; 5] {
        let config = ChunkConfig::default().with_compression_level(level).with_enable_8_bit(true);
        [
            pco::standalone::simple_compress(&self.series, &config),
            pco::standalone::simple_compress(&self.times, &config),
            pco::standalone::simple_compress(&self.is_int, &config),
            pco::standalone::simple_compress(&self.ints, &config),
            pco::standalone::simple_compress(&self.floats, &config),
        ]
        .map(|packed| packed.expect("a level within bounds"))
    }

    fn unpacked(packed: &[Vec<u8>; 5]) -> usize {
        fn length<T: pco::data_types::Number>(packed: &[u8]) -> usize {
            black_box(pco::standalone::simple_decompress::<T>(packed).expect("just packed")).len()
        }
        length::<u32>(&packed[0])
            + length::<i64>(&packed[1])
            + length::<u8>(&packed[2])
            + length::<i64>(&packed[3])
            + length::<f64>(&packed[4])
    }
}
