//! The river from sensor to flash: CPU per reading, readings a second, latency, memory; each beside its peer.
//!
//! Method. W1 (1,000 series at 1 Hz, 40 bytes of JSON, QoS 1) and the same without pause (W1s) go in turn, in the order
//! 1 2 3 4 4 3 2 1, to four brokers (mosquitto, all alike), each with its own receiver:
//! 1. frond, one stream, every reading journalled and acknowledged after the sync, one-minute windows;
//! 2. the same with three streams, each through the `limits` component;
//! 3. a subscriber that acknowledges and drops: what mosquitto spends on forwarding is the peer;
//! 4. a rumqttc subscriber that decodes the JSON and drops it: the floor for a gateway made of the same library.
//!
//! CPU is the scheduler's account of each process over the window, divided by the readings that arrived at the far end in
//! it: committed ones for frond, acknowledged ones for the others. Everything shares the machine's cores with the senders,
//! so CPU time is what counts; rates are what this machine gave.
//! Latency: from the time a reading was due to be sent to the gateway's acknowledgement of it, seen on the wire between
//! broker and gateway: with the broker door the sender's own PUBACK comes from mosquitto's memory, before anything is safe.
//!
//! `FROND_BENCH_SECONDS` is the length of a window (8), `FROND_BENCH_ROUNDS` how often the order is gone through (1).

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use frond::console::{self, Request, Status};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::sync::oneshot;
use tokio::time::Instant;

use rig::mqtt::{Pace, Progress, Session};
use rig::{Peer, median, mib, percentile, setting};

mod rig;

/// Longest time until a gateway's doors are open; a component may have to be compiled first.
const DOOR_MAX: Duration = Duration::from_secs(60);
/// How far the saturated senders may be ahead: a queue that is never empty, and small beside a broker's memory.
const AHEAD_MAX: u64 = 20_000;
/// Before a window is measured.
const WARM_UP: Duration = Duration::from_secs(3);

fn main() {
    rig::headline("river", "sensor to flash, W1 = 1,000 series at 1 Hz, 40 B of JSON, QoS 1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(tokio::task::LocalSet::new().run_until(bench()));
}

async fn bench() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let seconds = setting("FROND_BENCH_SECONDS", 8.0);
    let rounds = setting("FROND_BENCH_ROUNDS", 1.0) as usize;
    let lines = [
        Line::frond(folder.path(), "frond", &one_stream(), "1s").await,
        Line::frond(folder.path(), "frond, 3 components", &three_components(), "1s").await,
        Line::subscriber(folder.path(), "mosquitto + dropping subscriber", Receiver::drop).await,
        Line::subscriber(folder.path(), "mosquitto + rumqttc decode, drop", Receiver::decode).await,
    ];
    let idle: Vec<Option<u64>> = lines.iter().map(Line::pss).collect();
    for (title, pace, seconds) in [
        ("CPU at W1, per reading", Pace::W1, seconds),
        ("CPU at W1 saturated, per reading", Pace::Saturated { ahead_max: AHEAD_MAX }, seconds),
    ] {
        let mut windows: [Vec<Window>; 4] = Default::default();
        let mut loaded: [Option<u64>; 4] = [None; 4];
        for _ in 0..rounds {
            for index in [0, 1, 2, 3, 3, 2, 1, 0] {
                windows[index].push(lines[index].window(pace, Duration::from_secs_f64(seconds)).await);
                loaded[index] = lines[index].pss().max(loaded[index]);
            }
        }
        print_cpu(title, &lines, &windows);
        print_memory(&lines, &idle, &loaded);
    }
    drop(lines);
    latency(folder.path(), seconds).await;
}

/// What one window gave.
struct Window {
    readings: f64,
    seconds: f64,
    broker: f64,
    receiver: f64,
    /// Seconds for which components were called, to the millisecond each, so that it is at most 3 ms more.
    calls: f64,
}

fn print_cpu(title: &str, lines: &[Line; 4], windows: &[Vec<Window>; 4]) {
    let of = |index: usize, figure: fn(&Window) -> f64| {
        median(&windows[index].iter().map(figure).collect::<Vec<_>>())
    };
    let forwarding = of(2, |w| w.broker / w.readings);
    let rows: Vec<Vec<String>> = (0..4)
        .map(|index| {
            let receiver = of(index, |w| w.receiver / w.readings);
            let both = of(index, |w| (w.receiver + w.broker) / w.readings);
            vec![
                lines[index].name.clone(),
                format!("{:.0}", of(index, |w| w.readings / w.seconds)),
                format!("{:.2} µs", of(index, |w| w.broker / w.readings) * 1e6),
                format!("{:.2} µs", receiver * 1e6),
                format!("{:.2} µs", both * 1e6),
                format!("{:.2}", receiver / forwarding),
                format!("{:.2}", receiver / of(3, |w| w.receiver / w.readings)),
            ]
        })
        .collect();
    let head = [
        "",
        "readings/s",
        "broker",
        "receiver",
        "both",
        "receiver ÷ forwarding",
        "receiver ÷ rumqttc decode",
    ];
    rig::table(title, &head, &rows);
    let (calls, whole) = (of(1, |w| w.calls / w.readings), of(1, |w| w.receiver / w.readings));
    println!(
        "calls of the three components, exchange of columns included: at most {:.0} ns a reading, {:.1} % of the \
         gateway's CPU time\n",
        calls * 1e9,
        100.0 * calls / whole
    );
}

fn print_memory(lines: &[Line; 4], idle: &[Option<u64>], loaded: &[Option<u64>]) {
    let cell = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), mib);
    let rows: Vec<Vec<String>> = (0..4)
        .filter(|index| idle[*index].is_some())
        .map(|index| vec![lines[index].name.clone(), cell(idle[index]), cell(loaded[index])])
        .collect();
    rig::table("Memory of the gateway process (PSS)", &["", "idle", "after the load above, most"], &rows);
}

/// One broker with its receiver.
struct Line {
    name: String,
    port: u16,
    broker: Peer,
    receiver: Receiver,
}

enum Receiver {
    Gateway {
        peer: Peer,
        socket: PathBuf,
    },
    /// A thread with an account of its own.
    Thread {
        received: Arc<AtomicU64>,
        cpu: Arc<AtomicU64>,
    },
}

impl Line {
    async fn frond(folder: &Path, name: &str, streams: &str, interval: &str) -> Line {
        let folder = folder.join(name.replace(' ', "-"));
        std::fs::create_dir(&folder).expect("the folder is writable");
        let (broker, port) = rig::mosquitto(&folder).await;
        let receiver = gateway(&folder, port, streams, interval).await;
        Line { name: name.to_owned(), port, broker, receiver }
    }

    async fn subscriber(
        folder: &Path,
        name: &str,
        start: fn(u16) -> (Receiver, oneshot::Receiver<()>),
    ) -> Line {
        let (broker, port) = rig::mosquitto(folder).await;
        let (receiver, ready) = start(port);
        ready.await.expect("the subscriber subscribes");
        Line { name: name.to_owned(), port, broker, receiver }
    }

    fn pss(&self) -> Option<u64> {
        match &self.receiver {
            Receiver::Gateway { peer, .. } => Some(rig::pss_of(peer.pid())),
            Receiver::Thread { .. } => None,
        }
    }

    /// Sends for a while and measures the last part of it.
    async fn window(&self, pace: Pace, length: Duration) -> Window {
        let progress = Rc::new(Progress::default());
        let begun = self.receiver.received().await;
        let sending =
            tokio::task::spawn_local(rig::mqtt::send(self.port, pace, Session::Clean, progress.clone()));
        let watch = |until: Instant| {
            let progress = progress.clone();
            async move {
                while Instant::now() < until {
                    let pause = if pace == Pace::W1 { 500 } else { 25 };
                    tokio::time::sleep(Duration::from_millis(pause).min(until - Instant::now())).await;
                    progress.received.set(self.receiver.received().await - begun);
                }
            }
        };
        watch(Instant::now() + WARM_UP).await;
        let before = self.accounts().await;
        let started = Instant::now();
        watch(started + length).await;
        let after = self.accounts().await;
        let seconds = started.elapsed().as_secs_f64();
        progress.stop.set(true);
        sending.await.expect("the senders do not panic");
        self.settle(&progress, begun).await;
        Window {
            readings: after.0 - before.0,
            seconds,
            broker: after.1 - before.1,
            receiver: after.2 - before.2,
            calls: after.3 - before.3 + 0.003,
        }
    }

    async fn accounts(&self) -> (f64, f64, f64, f64) {
        let (received, calls) = self.receiver.received_and_called().await;
        (received as f64, rig::cpu_of(self.broker.pid()), self.receiver.cpu(), calls)
    }

    /// Waits until everything sent has arrived: a window with a loss is void.
    async fn settle(&self, progress: &Progress, begun: u64) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.receiver.received().await - begun < progress.sent.get() {
            assert!(Instant::now() < deadline, "{}: not everything sent has arrived", self.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(
            self.receiver.received().await - begun,
            progress.sent.get(),
            "{}: more than was sent",
            self.name
        );
    }
}

impl Receiver {
    async fn received(&self) -> u64 {
        self.received_and_called().await.0
    }

    /// Readings, and seconds for which components were called.
    async fn received_and_called(&self) -> (u64, f64) {
        match self {
            Receiver::Gateway { socket, .. } => {
                let status = console::ask::<Status>(socket, Request::Status).await;
                let status = status.expect("the gateway answers");
                let calls: u64 = status.pipeline.components.values().map(|stats| stats.call_ms).sum();
                (status.store.readings, calls as f64 / 1e3)
            }
            Receiver::Thread { received, .. } => (received.load(Ordering::Relaxed), 0.0),
        }
    }

    fn cpu(&self) -> f64 {
        match self {
            Receiver::Gateway { peer, .. } => rig::cpu_of(peer.pid()),
            // The thread tells it with each read.
            Receiver::Thread { cpu, .. } => cpu.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }

    fn drop(port: u16) -> (Receiver, oneshot::Receiver<()>) {
        Receiver::on_thread(move |received, account, ready| async move {
            let ready = Cell::new(Some(ready));
            let count = |messages: u64| {
                if let Some(ready) = ready.take() {
                    let _ = ready.send(());
                }
                received.fetch_add(messages, Ordering::Relaxed);
                account.store((rig::cpu_of_thread() * 1e9) as u64, Ordering::Relaxed);
            };
            rig::mqtt::drop_everything(port, count).await.expect("the broker keeps the connection");
        })
    }

    fn decode(port: u16) -> (Receiver, oneshot::Receiver<()>) {
        Receiver::on_thread(move |received, account, ready| async move {
            let mut options = MqttOptions::new("decoder", "127.0.0.1", port);
            options.set_keep_alive(Duration::from_secs(60));
            let (client, mut events) = AsyncClient::new(options, 10);
            client.subscribe("plant/#", QoS::AtLeastOnce).await.expect("the client is new");
            let (mut ready, mut messages) = (Some(ready), 0u64);
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => {
                        let _ = ready.take().map(|ready| ready.send(()));
                    }
                    Event::Incoming(Packet::Publish(publish)) => {
                        let json: serde_json::Value =
                            serde_json::from_slice(&publish.payload).expect("it is JSON");
                        std::hint::black_box((json["ts"].as_i64(), json["value"].as_f64()));
                        received.fetch_add(1, Ordering::Relaxed);
                        messages += 1;
                        if messages % 50 == 0 {
                            account.store((rig::cpu_of_thread() * 1e9) as u64, Ordering::Relaxed);
                        }
                    }
                    _ => {}
                }
            }
        })
    }

    fn on_thread<F: Future<Output = ()>>(
        make: impl FnOnce(Arc<AtomicU64>, Arc<AtomicU64>, oneshot::Sender<()>) -> F + Send + 'static,
    ) -> (Receiver, oneshot::Receiver<()>) {
        let (received, cpu) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (ready, subscribed) = oneshot::channel();
        let shared = (received.clone(), cpu.clone());
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(make(shared.0, shared.1, ready));
        });
        (Receiver::Thread { received, cpu }, subscribed)
    }
}

/// Starts a gateway on this broker and waits until its doors are open.
async fn gateway(folder: &Path, port: u16, streams: &str, interval: &str) -> Receiver {
    let toml = format!(
        "[gateway]\nname = \"bench\"\ndata_dir = \"{0}/data\"\ncache_dir = \"{0}/cache\"\nrun_dir = \"{0}/run\"\n\
         [clock]\ntrust = \"always\"\n[mqtt.broker]\nurl = \"mqtt://127.0.0.1:{port}\"\n[lattice]\nmode = \"off\"\n\
         [journal]\ncommit_interval = \"{interval}\"\nwear_bytes_per_day = 0\n{streams}",
        folder.display()
    );
    std::fs::write(folder.join("frond.toml"), toml).expect("the folder is writable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_frond"));
    let peer = Peer::start("frond", command.args(["run", "--config", "frond.toml"]), folder);
    let socket = console::socket_path(&folder.join("run"));
    let deadline = Instant::now() + DOOR_MAX;
    loop {
        let status = console::ask::<Status>(&socket, Request::Status).await;
        if status
            .is_ok_and(|status| !status.doors.is_empty() && status.doors.iter().all(|door| door.is_open()))
        {
            return Receiver::Gateway { peer, socket };
        }
        assert!(
            Instant::now() < deadline,
            "the gateway's doors do not open: see its log in {}",
            folder.display()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn one_stream() -> String {
    stream("w1", "plant/#", "")
}

/// A third of the devices each: 67, 67 and 66 cannot be told apart by a filter, the metrics can: 2, 2 and 1 of five.
fn three_components() -> String {
    let wasm = rig::limits_wasm();
    let mut text = String::new();
    for (name, metrics) in [
        ("a", "\"plant/+/m0\", \"plant/+/m1\""),
        ("b", "\"plant/+/m2\", \"plant/+/m3\""),
        ("c", "\"plant/+/m4\""),
    ] {
        text += &format!(
            "[[component]]\nname = \"limits-{name}\"\npath = \"{}\"\nconfig = {{ high = \"*: 1000, hysteresis 2\" }}\n",
            wasm.display()
        );
        text += &stream(name, metrics.trim_matches('"'), &format!("component = \"limits-{name}\"\n"));
    }
    text
}

fn stream(name: &str, topics: &str, more: &str) -> String {
    format!(
        "[[stream]]\nname = \"{name}\"\ntopics = [\"{topics}\"]\nseries = \"{{topic}}/{{field}}\"\n\
         time = {{ field = \"ts\", format = \"ms\" }}\n{more}"
    )
}

async fn latency(folder: &Path, seconds: f64) {
    let mut rows = Vec::new();
    for interval in ["1s", "100ms"] {
        let folder = folder.join(format!("latency-{interval}"));
        std::fs::create_dir(&folder).expect("the folder is writable");
        let (_broker, port) = rig::mosquitto(&folder).await;
        let (watched, watched_port) = rig::wire::Watched::bind(port).await.expect("a free port");
        let waits: Rc<RefCell<Vec<f64>>> = watched.waits.clone();
        let watching = tokio::task::spawn_local(watched.run());
        let receiver = gateway(&folder, watched_port, &one_stream(), interval).await;
        let progress = Rc::new(Progress::default());
        let sending =
            tokio::task::spawn_local(rig::mqtt::send(port, Pace::W1, Session::Clean, progress.clone()));
        tokio::time::sleep(WARM_UP).await;
        waits.borrow_mut().clear();
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        let waits = waits.borrow().clone();
        progress.stop.set(true);
        sending.await.expect("the senders do not panic");
        drop(receiver);
        watching.abort();
        let at = |part| format!("{:.0} ms", percentile(&waits, part));
        rows.push(vec![interval.to_owned(), waits.len().to_string(), at(0.5), at(0.99), at(0.999), at(1.0)]);
    }
    let head = ["commit_interval", "readings", "p50", "p99", "p99.9", "longest"];
    rig::table("W1: from the scheduled send to the gateway's acknowledgement, after the sync", &head, &rows);
}
