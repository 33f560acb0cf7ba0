//! Memory of the whole gateway over time, with either door: does it stay flat, and what does a door cost?
//!
//! Method. Two gateways with a leaf node each run beside each other under the same load, each with a hub that acknowledges:
//! one with the listener, one with the broker door behind a mosquitto. The load is W1 (1,000 series at 1 Hz, 40 bytes of
//! JSON, QoS 1, kept sessions) with a panel that subscribes to all of it at QoS 1, and a client under a new name every
//! second that leaves a retained value on one of a hundred topics and goes. PSS of each process is read every ten seconds;
//! each runs from a copy of its program of its own, so that none shares pages with its like. After a warm-up (fifteen
//! minutes, or a quarter of a shorter run) a straight line is laid through each minute's mean (least squares); its slope
//! is the answer, the medians of the first and last quarter after the warm-up check it. At the end everything that was
//! sent must have been committed and the hub must have taken every output but those of the last window, or the run is void.
//!
//! `FROND_BENCH_MINUTES` is its length (4); README has one of 64. Figures appear as they come.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use async_nats::jetstream;
use frond::cli::demo::{Plant, Ports, Programs, ensure_stream};
use frond::console::{self, Request, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval};

use rig::mqtt::{Pace, Progress, Session};
use rig::{median, mib, setting};

mod rig;

const SAMPLE_EVERY: Duration = Duration::from_secs(10);
const WARM_UP_MAX: f64 = 900.0;
const RETAINED_TOPICS: u64 = 100;
/// A window has 60 s, 5 s of lateness and 5 s of checkpoint.
const DRAIN_MAX: Duration = Duration::from_secs(90);

const STREAMS: &str = r#"
[[stream]]
name = "w1"
topics = ["plant/#"]
series = "{topic}/{field}"
time = { field = "ts", format = "ms" }
"#;

fn main() {
    rig::headline("steady", "PSS of the gateway over time under W1, a panel and clients that come and go");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(tokio::task::LocalSet::new().run_until(bench()));
}

/// A gateway, its peers, and what was seen of them.
struct Site {
    name: &'static str,
    plant: Plant,
    progress: Rc<Progress>,
    live: Rc<Cell<u64>>,
    visits: Rc<Cell<u64>>,
    /// Seconds since the start, and PSS of frond, of mosquitto and of the leaf node.
    samples: Vec<(f64, [u64; 3])>,
}

async fn bench() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let minutes = setting("FROND_BENCH_MINUTES", 4.0);
    let mut sites = [
        Site::start(folder.path(), "listener", None).await,
        Site::start(folder.path(), "broker", Some(rig::program("FROND_MOSQUITTO", "mosquitto"))).await,
    ];
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(minutes * 60.0);
    let sending: Vec<_> = sites.iter().map(Site::load).collect();
    let mut ticks = interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    println!("seconds  listener: frond  leaf   broker: frond  mosquitto  leaf   MiB");
    while Instant::now() < until {
        ticks.tick().await;
        let seconds = started.elapsed().as_secs_f64();
        for site in &mut sites {
            site.sample(seconds);
        }
        let at =
            |site: usize, part: usize| in_mib(sites[site].samples.last().map_or(0, |(_, pss)| pss[part]));
        println!(
            "{seconds:7.0}  {:>15.2}  {:>4.1}  {:>14.2}  {:>9.2}  {:>4.1}",
            at(0, 0),
            at(0, 2),
            at(1, 0),
            at(1, 1),
            at(1, 2)
        );
    }
    for site in &sites {
        site.progress.stop.set(true);
    }
    for task in sending {
        task.await.expect("the senders do not panic");
    }
    for site in &sites {
        site.account().await;
    }
    report(&sites, (minutes * 15.0).min(WARM_UP_MAX));
    for site in sites {
        site.plant.stop().await;
    }
}

fn in_mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

fn report(sites: &[Site; 2], warm_up: f64) {
    let parts: [(usize, &str, &[usize]); 5] = [
        (0, "listener: frond", &[0]),
        (0, "listener: whole gateway", &[0, 2]),
        (1, "broker door: frond", &[0]),
        (1, "broker door: mosquitto", &[1]),
        (1, "broker door: whole gateway", &[0, 1, 2]),
    ];
    let rows: Vec<Vec<String>> = parts
        .iter()
        .map(|(site, name, processes)| {
            let points: Vec<(f64, f64)> = sites[*site]
                .samples
                .iter()
                .filter(|(seconds, _)| *seconds >= warm_up)
                .map(|(seconds, pss)| (*seconds, processes.iter().map(|part| in_mib(pss[*part])).sum()))
                .collect();
            let start = sites[*site]
                .samples
                .first()
                .map_or(0, |(_, pss)| processes.iter().map(|part| pss[*part]).sum());
            let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
            let quarter = values.len() / 4;
            let (slope, error) = line(&minutes(&points));
            vec![
                (*name).to_owned(),
                mib(start),
                format!("{:.2}", median(&values[..quarter])),
                format!("{:.2}", median(&values[values.len() - quarter..])),
                format!("{:.2}", values.iter().copied().fold(0.0, f64::max)),
                format!("{:+.0} ± {:.0}", slope * 3_600.0 * 1_024.0, error * 3_600.0 * 1_024.0),
            ]
        })
        .collect();
    let head = ["PSS", "at the start", "first quarter", "last quarter", "most, MiB", "slope, KiB an hour"];
    rig::table(&format!("After a warm-up of {warm_up:.0} s"), &head, &rows);
}

/// The mean of each minute: windows have one, and memory goes up and down with them.
fn minutes(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let same = |a: &(f64, f64), b: &(f64, f64)| (a.0 / 60.0).floor() == (b.0 / 60.0).floor();
    let mean = |of: fn(&(f64, f64)) -> f64, minute: &[(f64, f64)]| {
        minute.iter().map(of).sum::<f64>() / minute.len() as f64
    };
    points
        .chunk_by(same)
        .map(|minute| (mean(|point| point.0, minute), mean(|point| point.1, minute)))
        .collect()
}

/// Slope of the line of least squares, and its standard error. Neighbouring figures are alike, so the error is too small.
fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
    let rest: f64 = points.iter().map(|point| (point.1 - y - slope * (point.0 - x)).powi(2)).sum();
    (slope, (rest / (count - 2.0) / spread).sqrt())
}

// === impl Site ===

impl Site {
    async fn start(folder: &Path, name: &'static str, mosquitto: Option<PathBuf>) -> Site {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).expect("the folder is writable");
        let ports = Ports::pick().expect("free ports");
        let hub = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.hub_leaf));
        let programs = own_programs(&folder, mosquitto.as_deref());
        let mut plant = Plant::prepare(&folder, programs, ports, hub, STREAMS).expect("a plant");
        plant.start_peers().await.expect("the peers start");
        let client = async_nats::connect(format!("127.0.0.1:{}", ports.hub)).await.expect("the hub is there");
        ensure_stream(&jetstream::new(client)).await.expect("a stream");
        plant.start_gateway(&[]).await.expect("the gateway starts");
        plant.wait_for_door().await.expect("the doors open");
        let (progress, live, visits) = Default::default();
        Site { name, plant, progress, live, visits, samples: Vec::new() }
    }

    /// Starts what goes on all the time; the senders are waited for.
    fn load(&self) -> tokio::task::JoinHandle<()> {
        let (port, live, visits) = (self.plant.ports.broker, self.live.clone(), self.visits.clone());
        let (name, progress) = (self.name, self.progress.clone());
        tokio::task::spawn_local(async move {
            let count = |messages| live.set(live.get() + messages);
            let outcome = rig::mqtt::drop_everything(port, count).await;
            eprintln!("{name}: the panel has gone: {outcome:?}");
        });
        tokio::task::spawn_local(async move {
            let mut seconds = interval(Duration::from_secs(1));
            while !progress.stop.get() {
                seconds.tick().await;
                visit(port, visits.get()).await.expect("a visitor is let in");
                visits.set(visits.get() + 1);
            }
        });
        tokio::task::spawn_local(rig::mqtt::send(port, Pace::W1, Session::Kept, self.progress.clone()))
    }

    fn sample(&mut self, seconds: f64) {
        let pids = self.plant.pids();
        let of = |wanted| {
            let pid = pids.iter().find(|(name, _)| *name == wanted);
            pid.map_or(0, |(_, pid)| rig::pss_of(*pid))
        };
        self.samples.push((seconds, [of("frond"), of("mosquitto"), of("leaf")]));
    }

    /// Everything sent is committed, and the hub takes it: otherwise the run says nothing.
    async fn account(&self) {
        let deadline = Instant::now() + DRAIN_MAX;
        let status = loop {
            let status = console::ask::<Status>(&self.plant.socket(), Request::Status).await;
            let status = status.expect("the gateway answers");
            let drained = status.store.outbox_rows == 0 && status.uplink.acked_rows > 0;
            if drained && status.store.readings >= self.progress.sent.get() {
                break status;
            }
            assert!(Instant::now() < deadline, "{}: not everything arrived: {status:?}", self.name);
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        assert_eq!(
            status.store.readings,
            self.progress.sent.get(),
            "{}: each reading counts once",
            self.name
        );
        println!(
            "{}: {} readings sent and committed, {} outputs acknowledged by the hub, {} messages to the panel, {} visits",
            self.name,
            status.store.readings,
            status.uplink.acked_rows,
            self.live.get(),
            self.visits.get()
        );
    }
}

/// Copies of the programs: PSS divides a page by the processes that map it, and on a gateway there is one of each. What
/// frond uses of the system's libraries, too, is shared there as it is here.
fn own_programs(folder: &Path, mosquitto: Option<&Path>) -> Programs {
    let copy = |from: &Path, name: &str| {
        let to = folder.join(name);
        std::fs::copy(from, &to).unwrap_or_else(|err| panic!("{} cannot be copied: {err}", from.display()));
        to.display().to_string()
    };
    let script = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("the folder is writable");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        path
    };
    let nats = rig::program("FROND_NATS_SERVER", "nats-server");
    let (leaf, hub) = (copy(&nats, "nats-leaf"), copy(&nats, "nats-hub"));
    let mosquitto = mosquitto.map(|program| {
        let linked = Command::new("ldd").arg(program).output().expect("ldd is there").stdout;
        for library in String::from_utf8_lossy(&linked).lines().filter_map(|line| line.split(" => ").nth(1)) {
            let library = Path::new(library.split(' ').next().unwrap_or_default());
            let name = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !["libc.", "libm.", "libgcc_s."].iter().any(|shared| name.starts_with(shared)) {
                copy(library, &name);
            }
        }
        let program = copy(program, "mosquitto-copy");
        script("mosquitto", format!("LD_LIBRARY_PATH={} exec {program} \"$@\"", folder.display()))
    });
    Programs {
        mosquitto,
        nats_server: script(
            "nats",
            format!("case \"$2\" in hub.conf) exec {hub} \"$@\" ;; *) exec {leaf} \"$@\" ;; esac"),
        ),
        frond: copy(Path::new(env!("CARGO_BIN_EXE_frond")), "frond-copy").into(),
    }
}

/// A client nobody knows comes, leaves a retained value, is told that it is safe, and goes.
async fn visit(port: u16, number: u64) -> io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let name = format!("visitor-{number:09}");
    let mut packet = vec![0x10, (12 + name.len()) as u8, 0, 4];
    packet.extend(b"MQTT\x04\x02\0\0");
    packet.extend((name.len() as u16).to_be_bytes());
    packet.extend(name.as_bytes());
    let topic = format!("visitors/{:02}", number % RETAINED_TOPICS);
    let payload = format!("{number:020}");
    packet.extend([0x33, (4 + topic.len() + payload.len()) as u8]);
    packet.extend((topic.len() as u16).to_be_bytes());
    packet.extend(topic.as_bytes());
    packet.extend([0, 1]);
    packet.extend(payload.as_bytes());
    stream.write_all(&packet).await?;
    let mut answers = [0u8; 8];
    stream.read_exact(&mut answers).await?;
    if answers != [0x20, 2, 0, 0, 0x40, 2, 0, 1] {
        return Err(io::Error::other(format!("the answer is {answers:?}")));
    }
    stream.write_all(&[0xe0, 0]).await
}
