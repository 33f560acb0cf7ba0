//! A million readings wait for the hub, the link comes back: how fast do they go, and what do live readings suffer?
//!
//! Method. A database is filled through the library with a backlog of forwarded readings (`reduce = "none"`: every reading
//! crosses the link). The gateway is started on it with the wire between leaf node and hub cut; the wire is a relay of
//! this bench with a token bucket. A sensor sends ten readings a second to a stream of its own all the while. Then the
//! wire is restored. Measured at a consumer of the hub: the first message after that, the rate on the wire until the
//! backlog is complete (bytes that the relay carried, protocol included, against what its rate allows), and for every live
//! reading the time from its sensor's stamp to the hub: during the drain, and in a quiet time after it.
//!
//! The link's rates are in `FROND_BENCH_MBIT`, by default `1,10,0`, where 0 is no limit. `FROND_BENCH_READINGS` is the
//! backlog (1,000,000).

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream::{self, consumer};
use frond::block::{self, Rows};
use frond::cli::demo::{Plant, Ports, Programs, ensure_stream};
use frond::sample::{Reading, SECOND};
use futures_util::StreamExt as _;
use rumqttc::{AsyncClient, MqttOptions, QoS};
use tokio::time::Instant;

use rig::mqtt::now_ms;
use rig::wire::Shaped;
use rig::{median, percentile, setting};

mod rig;
#[path = "w1/mod.rs"]
#[allow(dead_code)]
mod w1;

const DRAIN_MAX: Duration = Duration::from_secs(120);
const LIVE_EVERY: Duration = Duration::from_millis(100);
/// How long live readings are watched after the drain.
const QUIET: Duration = Duration::from_secs(8);

const STREAMS: &str = r#"
[journal]
commit_interval = "100ms"
checkpoint_interval_min = "200ms"
wear_bytes_per_day = 0
[[stream]]
name = "live"
topics = ["live"]
time = { field = "ts", format = "ms" }
reduce = "none"
[[stream]]
name = "w1"
topics = ["plant/#"]
reduce = "none"
"#;

/// What the hub has seen.
#[derive(Default)]
struct Hub {
    first: Cell<Option<Instant>>,
    backlog: Cell<u64>,
    body_bytes: Cell<u64>,
    complete: Cell<Option<Instant>>,
    /// When a live reading arrived, and how long it took, milliseconds.
    live: RefCell<Vec<(Instant, f64)>>,
}

fn main() {
    rig::headline("drain", "a backlog over a shaped link, and live readings meanwhile");
    let readings = setting("FROND_BENCH_READINGS", 1e6) as u64;
    let rates = std::env::var("FROND_BENCH_MBIT").unwrap_or_else(|_| "1,10,0".into());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut rows = Vec::new();
    for mbit in rates.split(',').filter_map(|rate| rate.trim().parse::<f64>().ok()) {
        let drained = runtime.block_on(drain(readings, mbit));
        rows.push(drained);
    }
    let head = [
        "link",
        "backlog",
        "body B/reading",
        "first message",
        "drained in",
        "readings/s",
        "wire Mbit/s",
        "of the link",
        "live p50/p99 draining",
        "live p50/p99 after",
    ];
    rig::table("Drain (time of the drain from the first message on)", &head, &rows);
}

async fn drain(readings: u64, mbit: f64) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rows: Vec<Reading> = w1::readings(1_000, 65, w1::Whole::AsFloat);
    rig::store::fill(&folder.path().join("data"), readings, 0, &rows).await;
    let ports = Ports::pick().expect("free ports");
    let hub_leaf = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.hub_leaf));
    let rate = if mbit > 0.0 { mbit * 1e6 } else { f64::INFINITY };
    let (wire, uplink, switch) = Shaped::bind(hub_leaf, rate).await.expect("a free port");
    let programs = Programs {
        frond: PathBuf::from(env!("CARGO_BIN_EXE_frond")),
        mosquitto: Some(rig::program("FROND_MOSQUITTO", "mosquitto")),
        nats_server: rig::program("FROND_NATS_SERVER", "nats-server"),
    };
    let mut plant = Plant::prepare(folder.path(), programs, ports, uplink, STREAMS).expect("a plant");
    plant.start_peers().await.expect("the peers start");
    let (hub, carried) = (Hub::default(), wire.carried.clone());
    let cells = {
        let script = async {
            plant.start_gateway(&[]).await.expect("the gateway starts");
            plant.wait_for_door().await.expect("the doors open");
            // Some live readings are behind the backlog when the wire comes back.
            tokio::time::sleep(Duration::from_secs(3)).await;
            let restored = Instant::now();
            switch.send_replace(true);
            wait(DRAIN_MAX, || hub.first.get().is_some()).await;
            let first = hub.first.get().expect("it came");
            let carried_before = carried.get();
            wait(DRAIN_MAX, || hub.backlog.get() >= readings).await;
            let complete = hub.complete.get().expect("it is complete");
            let bytes = carried.get() - carried_before;
            tokio::time::sleep(QUIET).await;
            assert_eq!(hub.backlog.get(), readings, "every reading of the backlog arrived once");
            figures(&hub, readings, mbit, (restored, first, complete), bytes)
        };
        tokio::select! {
            cells = script => cells,
            () = consume(ports.hub, readings, &hub) => panic!("the hub's consumer ended"),
            () = wire.run() => panic!("the wire ended"),
            () = sense(ports.broker) => panic!("the sensor ended"),
        }
    };
    plant.stop().await;
    cells
}

fn figures(
    hub: &Hub,
    readings: u64,
    mbit: f64,
    (restored, first, complete): (Instant, Instant, Instant),
    bytes: u64,
) -> Vec<String> {
    let live = hub.live.borrow();
    let within = |from: Instant, to: Instant| -> String {
        // A reading from before the wire came back waited for the wire, not for the backlog.
        let sent = |at: Instant, took: f64| at.checked_sub(Duration::from_secs_f64(took / 1e3));
        let waits: Vec<f64> = live
            .iter()
            .filter(|(at, took)| {
                *at >= from && *at < to && sent(*at, *took).is_some_and(|sent| sent >= restored)
            })
            .map(|(_, took)| *took)
            .collect();
        format!("{:.0}/{:.0} ms ({})", median(&waits), percentile(&waits, 0.99), waits.len())
    };
    let seconds = (complete - first).as_secs_f64();
    let on_wire = bytes as f64 * 8.0 / seconds / 1e6;
    vec![
        if mbit > 0.0 { format!("{mbit} Mbit/s") } else { "unlimited".into() },
        readings.to_string(),
        format!("{:.2}", hub.body_bytes.get() as f64 / readings as f64),
        format!("{:.2} s", (first - restored).as_secs_f64()),
        format!("{seconds:.2} s"),
        format!("{:.0}", readings as f64 / seconds),
        format!("{on_wire:.2}"),
        if mbit > 0.0 { format!("{:.0} %", 100.0 * on_wire / mbit) } else { "-".into() },
        within(restored, complete),
        within(complete, complete + QUIET),
    ]
}

async fn wait(most: Duration, done: impl Fn() -> bool) {
    let deadline = Instant::now() + most;
    while !done() {
        assert!(Instant::now() < deadline, "it takes longer than {} s", most.as_secs());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The hub's consumer, on this side of the wire's far end.
async fn consume(port: u16, readings: u64, hub: &Hub) {
    let client = async_nats::connect(format!("127.0.0.1:{port}")).await.expect("the hub is there");
    let stream = ensure_stream(&jetstream::new(client)).await.expect("a stream");
    let consumer =
        stream.create_consumer(consumer::pull::OrderedConfig::default()).await.expect("a consumer");
    let mut messages = consumer.messages().await.expect("messages");
    while let Some(message) = messages.next().await {
        let message = message.expect("the hub stays");
        let now = Instant::now();
        hub.first.set(hub.first.get().or(Some(now)));
        let envelope = block::decode_envelope(&message.payload).expect("a block");
        let Rows::Raw(rows) = envelope.rows else { continue };
        if envelope.stream == "live" {
            let now_ms = now_ms();
            let waits = rows.iter().map(|row| (now, (now_ms - row.time / (SECOND / 1_000)) as f64));
            hub.live.borrow_mut().extend(waits);
        } else {
            hub.backlog.set(hub.backlog.get() + rows.len() as u64);
            hub.body_bytes.set(hub.body_bytes.get() + message.payload.len() as u64);
            if hub.backlog.get() >= readings && hub.complete.get().is_none() {
                hub.complete.set(Some(now));
            }
        }
    }
}

/// Ten readings a second.
async fn sense(port: u16) {
    let (client, mut events) = AsyncClient::new(MqttOptions::new("live", "127.0.0.1", port), 100);
    let send = async {
        let mut interval = tokio::time::interval(LIVE_EVERY);
        loop {
            interval.tick().await;
            let payload = format!("{{\"ts\":{},\"value\":21.5}}", now_ms());
            client.publish("live", QoS::AtLeastOnce, false, payload).await.expect("the client lives");
        }
    };
    let poll = async { while events.poll().await.is_ok() {} };
    tokio::select! {
        () = send => {}
        () = poll => {}
    }
}
