//! Real input: every recording of the data folder, replayed as MQTT sensors through a real broker, gateway, leaf node and
//! hub; min, max, mean and count of every window equal an independent computation.
//!
//! The recordings are not part of the project. `FROND_DATA` names their folder, otherwise it is looked for beside the
//! checkout; where there is none, generated recordings of the same shape take their place, and the test says so.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream::{self, consumer};
use frond::block::{self, Rows, WindowRow};
use frond::cli::demo::{
    Door, Link, Plant, Ports, Programs, Random, Recording, Source, Tally, ensure_stream, send_until,
};
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

const WINDOW_MS: i64 = 20_000;
const LATENESS_MS: i64 = 2_000;
/// All recordings together are some 46,000 rows; the hub has their windows within this time or never.
const REPLAY_MAX: Duration = Duration::from_secs(240);

const STREAMS: &str = r#"
[journal]
commit_interval = "100ms"
checkpoint_interval_min = "500ms"
[[stream]]
name = "recordings"
topics = ["plant/+/state"]
time = { field = "ts", format = "ms" }
reduce = { window = "20s", lateness = "2s" }
"#;

/// One window as computed here, or as told by the hub.
#[derive(Debug, Clone, PartialEq)]
struct Expected {
    count: u64,
    min: f64,
    max: f64,
    mean: f64,
    first: f64,
    last: f64,
}

type Windows = BTreeMap<(String, i64), Expected>;

#[test]
fn every_window_of_every_recording_equals_an_independent_computation() {
    // Goal and method: see above. Means may differ by rounding, everything else must be equal.
    let recordings = recordings();
    let (expected, late) = expect(&recordings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (told, told_late) = runtime.block_on(replay(recordings, expected.len()));
    for (key, window) in &expected {
        let at_hub = told.get(key).unwrap_or_else(|| panic!("the hub lacks the window {key:?}: {window:?}"));
        let close = (at_hub.mean - window.mean).abs() <= 1e-9 * window.mean.abs().max(1e-9);
        assert!(close, "mean of {key:?}: {} at the hub, {} expected", at_hub.mean, window.mean);
        assert_eq!(&Expected { mean: window.mean, ..at_hub.clone() }, window, "window {key:?}");
    }
    let extra: Vec<_> = told.keys().filter(|key| !expected.contains_key(*key)).collect();
    assert!(extra.is_empty(), "windows nobody sent: {extra:?}");
    assert_eq!(told_late, late, "late readings");
    println!("{} windows are equal, {late} readings were late", expected.len());
}

async fn replay(recordings: Vec<Recording>, windows: usize) -> (Windows, u64) {
    let folder = tempfile::tempdir().unwrap();
    let ports = Ports::pick().unwrap();
    let (link, uplink, _switch) =
        Link::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, ports.hub_leaf))).await.unwrap();
    let programs = Programs {
        frond: PathBuf::from(env!("CARGO_BIN_EXE_frond")),
        ..Programs::find(Door::Broker).unwrap()
    };
    let mut plant = Plant::prepare(folder.path(), programs, ports, uplink, STREAMS).unwrap();
    plant.start_peers().await.unwrap();
    let (tally, never) = (RefCell::new(Tally::default()), CancellationToken::new());
    let told = {
        let play = async {
            plant.start_gateway(&[]).await.unwrap();
            plant.wait_for_door().await.unwrap();
            let senders = recordings.into_iter().map(|recording| {
                let name = recording.name.clone();
                let behind_ms = 3 * WINDOW_MS;
                let source = Source::Recording { recording, rows_per_second: 1e6, behind_ms };
                send_until(ports.broker, name, source, &tally, &never)
            });
            futures_util::future::try_join_all(senders).await.unwrap();
            // From here on only the hub has something to do.
            std::future::pending::<()>().await
        };
        let collect = tokio::time::timeout(REPLAY_MAX, collect(ports.hub, windows));
        tokio::select! {
            told = collect => told.expect("the hub has every window in time"),
            () = play => unreachable!("the players wait for ever"),
            () = link.run() => panic!("the wire ended"),
        }
    };
    plant.stop().await;
    told
}

/// Reads the hub's stream until it has as many windows as are expected, and the closing windows that follow them.
async fn collect(port: u16, expected: usize) -> (Windows, u64) {
    let client = async_nats::connect(format!("127.0.0.1:{port}")).await.unwrap();
    let stream = ensure_stream(&jetstream::new(client)).await.unwrap();
    let consumer = stream.create_consumer(consumer::pull::OrderedConfig::default()).await.unwrap();
    let mut messages = consumer.messages().await.unwrap();
    let (mut told, mut late) = (Windows::new(), 0);
    while told.len() < expected {
        let message = messages.next().await.unwrap().unwrap();
        let envelope = block::decode_envelope(&message.payload).unwrap();
        let Rows::Windows { rows, .. } = envelope.rows else { panic!("only windows are sent") };
        for row in rows {
            late += u64::from(row.late);
            let name = envelope.series[&row.series].name.clone();
            let known = told.insert((name.clone(), row.start / 1_000_000), of(&row));
            assert!(known.is_none(), "window {} of {name} was told twice", row.start);
        }
    }
    (told, late)
}

fn of(row: &WindowRow) -> Expected {
    Expected {
        count: u64::from(row.count),
        min: row.min.as_f64(),
        max: row.max.as_f64(),
        mean: row.sum.as_f64() / f64::from(row.count),
        first: row.first.as_f64(),
        last: row.last.as_f64(),
    }
}

/// The computation of the test's own: readings by window, those that came after their window had closed left out.
fn expect(recordings: &[Recording]) -> (Windows, u64) {
    let mut windows: BTreeMap<(String, i64), BTreeMap<i64, f64>> = BTreeMap::new();
    let mut late = 0;
    for recording in recordings {
        let mut newest: BTreeMap<String, i64> = BTreeMap::new();
        let rows = (0..).map_while(|index| recording.message(index));
        for sent in rows.chain(recording.finish(3 * WINDOW_MS)) {
            for (field, value) in &sent.values {
                let name = format!("{}/{field}", sent.topic);
                let newest = newest.entry(name.clone()).or_insert(i64::MIN);
                let start = sent.time_ms.div_euclid(WINDOW_MS) * WINDOW_MS;
                if newest.saturating_sub(LATENESS_MS) >= start + WINDOW_MS {
                    late += 1;
                    continue;
                }
                *newest = (*newest).max(sent.time_ms);
                windows.entry((name, start)).or_default().entry(sent.time_ms).or_insert(*value);
            }
        }
    }
    let summary = |readings: BTreeMap<i64, f64>| Expected {
        count: readings.len() as u64,
        min: readings.values().copied().fold(f64::INFINITY, f64::min),
        max: readings.values().copied().fold(f64::NEG_INFINITY, f64::max),
        mean: readings.values().sum::<f64>() / readings.len() as f64,
        first: *readings.first_key_value().unwrap().1,
        last: *readings.last_key_value().unwrap().1,
    };
    (windows.into_iter().map(|(key, readings)| (key, summary(readings))).collect(), late)
}

fn recordings() -> Vec<Recording> {
    let folder = std::env::var_os("FROND_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let mut files = Vec::new();
    for group in ["skab", "nab"] {
        let Ok(entries) = std::fs::read_dir(folder.join(group)) else { continue };
        files.extend(
            entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|e| e == "csv")),
        );
    }
    files.sort();
    if files.is_empty() {
        println!("no recordings at hand (FROND_DATA): generated ones take their place");
        return (0..3).map(generated).collect();
    }
    files.iter().map(|file| Recording::read(file).unwrap()).collect()
}

/// An hour at one row a second, with gaps, steps, and one step back in time as a change of the clock makes.
fn generated(number: u64) -> Recording {
    let mut random = Random::new(number + 1);
    let mut time = 1_600_000_000_000;
    let mut rows = Vec::new();
    for row in 0..3_600 {
        time += if random.chance(0.01) { 90_000 } else { 1_000 };
        if row == 2_000 {
            time -= 3_600_000;
        }
        rows.push((
            time,
            vec![Some((random.unit() * 1_000.0).round() / 10.0), random.chance(0.9).then_some(7.0)],
        ));
    }
    Recording { name: format!("generated_{number}"), fields: vec!["noise".into(), "level".into()], rows }
}
