//! The listener: CPU and system calls per reading from socket to synced journal, readings a second on one core, latency of
//! acknowledgements, memory of connections; beside mosquitto, which forwards the same stream to a subscriber that drops.
//!
//! Method. The system under test is pinned to one core, everything else to another. Senders put bytes together once and
//! only change time stamps and packet identifiers, so that they are not the limit: 20 connections, 1,000 messages of 40
//! bytes of JSON in flight on each, W1's thousand series. Windows go in the order frond, mosquitto, mosquitto, frond. CPU is
//! the scheduler's account of the process over the window, divided by what was committed (frond) or what arrived at the
//! subscriber (mosquitto) in it. System calls are counted by strace in a run of its own, which is not timed.
//! Latency is open loop at W1: from the time a reading was due to be sent to the PUBACK at the sender.
//!
//! `FROND_BENCH_SECONDS` is the length of a window (8), `FROND_BENCH_ROUNDS` how often the order is gone through (1).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use frond::console::{self, Request, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use rig::{Peer, median, mib, percentile, setting};

mod rig;

/// Core of the system under test, and of everything else.
const CORES: (usize, usize) = (0, 1);
const CONNECTIONS: usize = 20;
const SERIES: usize = 50;
const WINDOW: usize = 1_000;
const IDLE_CONNECTIONS: usize = 5_000;
const WARM_UP: Duration = Duration::from_secs(2);
const START_MAX: Duration = Duration::from_secs(60);

fn main() {
    rig::headline(
        "listener",
        "20 senders, 1,000 in flight each, QoS 1, 40 B of JSON; the system under test on one core",
    );
    pin(std::process::id(), CORES.1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(tokio::task::LocalSet::new().run_until(bench()));
}

fn pin(pid: u32, core: usize) {
    let status = Command::new("taskset")
        .args(["-a", "-p", "-c", &core.to_string(), &pid.to_string()])
        .stdout(Stdio::null())
        .status();
    assert!(status.is_ok_and(|status| status.success()), "taskset pins the process");
}

async fn bench() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let seconds = Duration::from_secs_f64(setting("FROND_BENCH_SECONDS", 8.0));
    let rounds = setting("FROND_BENCH_ROUNDS", 1.0) as usize;
    let gateway = Gateway::start(folder.path(), "gateway").await;
    let idle = rig::pss_of(gateway.peer.pid());
    let (broker, broker_port) = rig::mosquitto(folder.path()).await;
    pin(broker.pid(), CORES.0);
    let dropped = Rc::new(Cell::new(0u64));
    let count = dropped.clone();
    let dropping = tokio::task::spawn_local(async move {
        let outcome =
            rig::mqtt::drop_everything(broker_port, |messages| count.set(count.get() + messages)).await;
        panic!("the dropping subscriber ended: {outcome:?}");
    });
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(
            saturate(gateway.port, gateway.peer.pid(), seconds, async || gateway.readings().await).await,
        );
        for _ in 0..2 {
            theirs.push(saturate(broker_port, broker.pid(), seconds, async || dropped.get()).await);
        }
        ours.push(
            saturate(gateway.port, gateway.peer.pid(), seconds, async || gateway.readings().await).await,
        );
    }
    let of = |windows: &[Figures], figure: fn(&Figures) -> f64| {
        median(&windows.iter().map(figure).collect::<Vec<_>>())
    };
    let row = |name: &str, windows: &[Figures]| {
        vec![
            name.to_owned(),
            format!("{:.0}", of(windows, |w| w.readings / w.seconds)),
            format!("{:.2} µs", of(windows, |w| w.cpu / w.readings) * 1e6),
            format!("{:.0} %", of(windows, |w| w.cpu / w.seconds) * 100.0),
            format!("{:.2} µs", of(windows, |w| w.sender / w.readings) * 1e6),
        ]
    };
    let head = ["", "readings/s", "CPU per reading", "of its core", "senders' CPU"];
    rig::table("Saturated", &head, &[row("frond, durable", &ours), row("mosquitto, forwarded", &theirs)]);
    let ratio = of(&ours, |w| w.cpu / w.readings) / of(&theirs, |w| w.cpu / w.readings);
    println!("frond ÷ mosquitto: {ratio:.2} (target 1.0)\n");
    for part in &ours[0].threads {
        println!("  thread {:<16} {:.2} µs per reading", part.0, part.1 * 1e6);
    }
    println!();
    dropping.abort();
    drop(broker);
    syscalls(&gateway).await;
    let loaded = rig::pss_of(gateway.peer.pid());
    latency(&gateway, seconds).await;
    drop(gateway);
    memory(folder.path(), idle, loaded).await;
}

/// What one window gave.
struct Figures {
    readings: f64,
    seconds: f64,
    cpu: f64,
    sender: f64,
    threads: Vec<(String, f64)>,
}

/// Sends as fast as the other side takes it, and measures the last part.
async fn saturate(port: u16, pid: u32, length: Duration, received: impl AsyncFn() -> u64) -> Figures {
    let stop = Rc::new(Cell::new(false));
    let mut senders = JoinSet::new();
    for number in 0..CONNECTIONS {
        senders.spawn_local(sender(port, number, stop.clone()));
    }
    tokio::time::sleep(WARM_UP).await;
    let before = (received().await, rig::cpu_of(pid), rig::cpu_of(std::process::id()), threads(pid));
    let started = Instant::now();
    tokio::time::sleep(length).await;
    let after = (received().await, rig::cpu_of(pid), rig::cpu_of(std::process::id()), threads(pid));
    let seconds = started.elapsed().as_secs_f64();
    stop.set(true);
    while let Some(ended) = senders.join_next().await {
        ended.expect("senders do not panic").expect("the connection is kept");
    }
    let readings = (after.0 - before.0) as f64;
    let threads = after.3.into_iter().map(|(name, cpu)| {
        let earlier = before.3.iter().find(|(known, _)| *known == name).map_or(0.0, |(_, cpu)| *cpu);
        (name, (cpu - earlier) / readings)
    });
    Figures {
        readings,
        seconds,
        cpu: after.1 - before.1,
        sender: after.2 - before.2,
        threads: threads.collect(),
    }
}

/// CPU time of each thread, by name.
fn threads(pid: u32) -> Vec<(String, f64)> {
    let mut by_name: HashMap<String, f64> = HashMap::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs").flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let nanos =
            read("schedstat").split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0);
        *by_name.entry(read("comm").trim().to_owned()).or_default() += nanos / 1e9;
    }
    let mut all: Vec<_> = by_name.into_iter().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all
}

/// One of a connection's messages: where its time stamp and its packet identifier are.
struct Template {
    bytes: Vec<u8>,
    /// By message: (identifier, time stamp), offsets into `bytes`.
    marks: Vec<(usize, usize)>,
}

fn template(number: usize) -> Template {
    let (mut bytes, mut marks) = (Vec::new(), Vec::new());
    for index in 0..SERIES {
        let series = number * SERIES + index;
        let topic = format!("plant/d{:03}/m{}", series / 5, series % 5);
        let payload = format!("{{\"ts\":0000000000000,\"value\":{:>11}}}", format!("{}.5", 20 + series % 50));
        bytes.extend([0x32, (4 + topic.len() + payload.len()) as u8]);
        bytes.extend((topic.len() as u16).to_be_bytes());
        bytes.extend(topic.as_bytes());
        marks.push((bytes.len(), bytes.len() + 2 + "{\"ts\":".len()));
        bytes.extend([0, 0]);
        bytes.extend(payload.as_bytes());
    }
    Template { bytes, marks }
}

async fn connect(port: u16, name: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let mut packet = vec![0x10, (12 + name.len()) as u8, 0, 4];
    packet.extend(b"MQTT");
    // A kept session: what frond then remembers of each message is part of the price.
    packet.extend([4, 0, 0, 0, 0, name.len() as u8]);
    packet.extend(name.as_bytes());
    stream.write_all(&packet).await?;
    let mut answer = [0u8; 4];
    stream.read_exact(&mut answer).await?;
    assert_eq!((answer[0], answer[3]), (0x20, 0), "let in");
    Ok(stream)
}

/// Keeps a thousand messages in flight until it is told to stop.
async fn sender(port: u16, number: usize, stop: Rc<Cell<bool>>) -> io::Result<()> {
    let mut stream = connect(port, &format!("sender-{number}")).await?;
    let mut template = template(number);
    let per_turn = template.bytes.len();
    let (mut pkid, mut flying, mut time_ms) = (0u16, 0usize, rig::mqtt::now_ms());
    let mut acks = vec![0u8; 64 << 10];
    let mut odd = 0;
    let mut out = Vec::with_capacity(WINDOW / SERIES * per_turn);
    loop {
        out.clear();
        while flying + SERIES <= WINDOW && !stop.get() {
            time_ms += 1_000;
            let digits = time_ms.to_string();
            for (id, time) in &template.marks {
                pkid = pkid % u16::MAX + 1;
                template.bytes[*id..id + 2].copy_from_slice(&pkid.to_be_bytes());
                template.bytes[*time..time + digits.len()].copy_from_slice(digits.as_bytes());
            }
            out.extend_from_slice(&template.bytes);
            flying += SERIES;
        }
        if !out.is_empty() {
            stream.write_all(&out).await?;
        }
        if flying == 0 {
            return Ok(());
        }
        let read = stream.read(&mut acks).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        odd += read;
        flying -= odd / 4;
        odd %= 4;
    }
}

/// Counts system calls of the gateway with strace, while it is saturated.
async fn syscalls(gateway: &Gateway) {
    let pid = gateway.peer.pid().to_string();
    let report = gateway.folder.join("strace.txt");
    let strace = Command::new("strace")
        .args(["-f", "-c", "-o"])
        .arg(&report)
        .args(["-p", &pid])
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut strace) = strace else {
        println!("system calls: strace is not installed\n");
        return;
    };
    let before = gateway.readings().await;
    let stop = Rc::new(Cell::new(false));
    let mut senders = JoinSet::new();
    for number in 0..CONNECTIONS {
        senders.spawn_local(sender(gateway.port, number, stop.clone()));
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    stop.set(true);
    while senders.join_next().await.is_some() {}
    let readings = (gateway.readings().await - before) as f64;
    let _ = Command::new("kill").args(["-INT", &strace.id().to_string()]).status();
    let _ = strace.wait();
    let text = std::fs::read_to_string(&report).unwrap_or_default();
    let calls = |line: &str| line.split_whitespace().nth(3).and_then(|calls| calls.parse::<f64>().ok());
    let total = text.lines().find(|line| line.ends_with(" total")).and_then(calls).unwrap_or(f64::NAN);
    println!(
        "system calls under strace: {total:.0} for {readings:.0} readings: {:.3} per reading (target 0.2)",
        total / readings
    );
    for line in text.lines().skip(2).take(6) {
        println!("    {:>9}  {}", calls(line).unwrap_or(0.0), line.split_whitespace().last().unwrap_or(""));
    }
    println!();
}

/// W1 from the senders' side: when the acknowledgement comes.
async fn latency(gateway: &Gateway, length: Duration) {
    let waits: Rc<RefCell<Vec<f64>>> = Rc::default();
    let mut senders = JoinSet::new();
    let started = Instant::now() + Duration::from_millis(200);
    let until = started + WARM_UP + length;
    for number in 0..CONNECTIONS {
        let waits = waits.clone();
        let port = gateway.port;
        senders.spawn_local(async move { paced(port, number, started, until, &waits).await });
    }
    let before = rig::cpu_of(gateway.peer.pid());
    while let Some(ended) = senders.join_next().await {
        ended.expect("senders do not panic").expect("the connection is kept");
    }
    let cpu = (rig::cpu_of(gateway.peer.pid()) - before) / (WARM_UP + length).as_secs_f64();
    let waits = waits.borrow();
    let at = |part| format!("{:.0} ms", percentile(&waits, part));
    let rows = [vec![
        waits.len().to_string(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        format!("{:.1} %", cpu * 100.0),
    ]];
    let head = ["readings", "p50", "p99", "p99.9", "longest", "of a core"];
    rig::table(
        "W1, 1,000 readings/s, commit_interval 1s: from the scheduled send to the sender's PUBACK",
        &head,
        &rows,
    );
}

async fn paced(
    port: u16,
    number: usize,
    start: Instant,
    until: Instant,
    waits: &RefCell<Vec<f64>>,
) -> io::Result<()> {
    let stream = connect(port, &format!("paced-{number}")).await?;
    let (mut read, mut write) = stream.into_split();
    let mut template = template(number);
    let due: RefCell<HashMap<u16, Instant>> = RefCell::default();
    let sending = async {
        let (mut pkid, mut turn) = (0u16, 0u64);
        let length = template.bytes.len() / SERIES;
        loop {
            for index in 0..SERIES {
                let at = start
                    + Duration::from_secs(turn)
                    + Duration::from_millis((index * CONNECTIONS + number) as u64);
                if at >= until {
                    return io::Result::Ok(());
                }
                tokio::time::sleep_until(at).await;
                pkid = pkid % u16::MAX + 1;
                let (id, time) = template.marks[index];
                template.bytes[id..id + 2].copy_from_slice(&pkid.to_be_bytes());
                let digits = rig::mqtt::now_ms().to_string();
                template.bytes[time..time + digits.len()].copy_from_slice(digits.as_bytes());
                due.borrow_mut().insert(pkid, at);
                write.write_all(&template.bytes[index * length..(index + 1) * length]).await?;
            }
            turn += 1;
        }
    };
    let hearing = async {
        let mut held = Vec::new();
        loop {
            if read.read_buf(&mut held).await? == 0 {
                return Err::<(), io::Error>(io::ErrorKind::UnexpectedEof.into());
            }
            let now = Instant::now();
            for ack in held.chunks_exact(4) {
                if let Some(at) = due.borrow_mut().remove(&u16::from_be_bytes([ack[2], ack[3]]))
                    && at > start + WARM_UP
                {
                    waits.borrow_mut().push(now.duration_since(at).as_secs_f64() * 1e3);
                }
            }
            held.drain(..held.len() / 4 * 4);
        }
    };
    tokio::select! {
        outcome = sending => outcome,
        outcome = hearing => outcome,
    }
}

/// Memory of a fresh gateway, and with many connections that say nothing.
async fn memory(folder: &Path, idle: u64, loaded: u64) {
    let gateway = Gateway::start(folder, "idle").await;
    let before = rig::pss_of(gateway.peer.pid());
    let mut held = Vec::new();
    for number in 0..IDLE_CONNECTIONS {
        held.push(connect(gateway.port, &format!("idle-{number}")).await.expect("let in"));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let with = rig::pss_of(gateway.peer.pid());
    let each = with.saturating_sub(before) as f64 / IDLE_CONNECTIONS as f64 / 1024.0;
    let rows = [vec![mib(idle), mib(loaded), mib(with), format!("{each:.1} KiB")]];
    let head = ["idle", "after saturation", "5,000 idle connections", "each (target 20 KiB)"];
    rig::table("Memory of the gateway (PSS)", &head, &rows);
}

struct Gateway {
    peer: Peer,
    port: u16,
    folder: PathBuf,
    socket: PathBuf,
}

impl Gateway {
    async fn start(folder: &Path, name: &str) -> Gateway {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).expect("the folder is writable");
        let port = rig::free_port();
        let toml = format!(
            "[gateway]\nname = \"bench\"\ndata_dir = \"{0}/data\"\ncache_dir = \"{0}/cache\"\nrun_dir = \"{0}/run\"\n\
             [clock]\ntrust = \"always\"\n[lattice]\nmode = \"off\"\n[journal]\nwear_bytes_per_day = 0\n\
             [mqtt.clients]\nsessions_max = 10000\n\
             [[listener]]\nname = \"bench\"\nbind = \"127.0.0.1:{port}\"\nconnections_max = 6000\nreceive_max = 1000\n\
             [[stream]]\nname = \"w1\"\ntopics = [\"plant/#\"]\nseries = \"{{topic}}/{{field}}\"\n\
             time = {{ field = \"ts\", format = \"ms\" }}\n",
            folder.display()
        );
        std::fs::write(folder.join("frond.toml"), toml).expect("the folder is writable");
        let mut command = Command::new("taskset");
        let core = CORES.0.to_string();
        let command =
            command.args(["-c", &core, env!("CARGO_BIN_EXE_frond"), "run", "--config", "frond.toml"]);
        let peer = Peer::start("frond", command, &folder);
        let socket = console::socket_path(&folder.join("run"));
        let gateway = Gateway { peer, port, folder, socket };
        let deadline = Instant::now() + START_MAX;
        while console::ask::<Status>(&gateway.socket, Request::Status).await.is_err() {
            assert!(
                Instant::now() < deadline,
                "the gateway does not start: see its log in {}",
                gateway.folder.display()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        rig::listens(gateway.port).await;
        gateway
    }

    async fn readings(&self) -> u64 {
        let status = console::ask::<Status>(&self.socket, Request::Status).await;
        status.expect("the gateway answers").store.readings
    }
}
