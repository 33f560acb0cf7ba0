//! How long a gateway takes to accept readings again, with little and with much in its buffer.
//!
//! Method. Two databases are filled through the library with 10 thousand and with 10 million readings, each reading in
//! the ring and in the outbox, and the last 5,000 of both in the journal only, as a crash leaves them. Then the gateway is
//! started on each in turn, killed with SIGKILL in between. Measured: from exec until the local socket says that the doors
//! are open (subscribed at a mosquitto), and the CPU time used until then. Files are in the page cache, as after a crash of
//! the process; after a power cut the pages that are read come from flash: `Store::open` reads as many in both cases, as
//! the last column shows.
//!
//! `FROND_BENCH_READINGS` is the larger number (10,000,000), `FROND_BENCH_ROUNDS` the starts of each (9).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use frond::console::{self, Request, Status};
use frond::sample::Reading;
use frond::store::Store;
use tokio::time::Instant;

use rig::{Peer, median, setting};

mod rig;
#[path = "w1/mod.rs"]
#[allow(dead_code)]
mod w1;

const FEW: u64 = 10_000;
const TAIL: usize = 5_000;

fn main() {
    let many = setting("FROND_BENCH_READINGS", 1e7) as u64;
    let rounds = setting("FROND_BENCH_ROUNDS", 9.0) as usize;
    rig::headline("restart", "exec to open doors, with few and with many readings buffered");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(bench(many, rounds));
}

struct Case {
    readings: u64,
    folder: PathBuf,
    bytes: u64,
    wall: Vec<f64>,
    cpu: Vec<f64>,
    open: Vec<f64>,
}

async fn bench(many: u64, rounds: usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_broker, port) = rig::mosquitto(folder.path()).await;
    let rows: Vec<Reading> = w1::readings(1_000, 65, w1::Whole::AsFloat);
    let mut cases = Vec::new();
    for readings in [FEW, many] {
        let folder = folder.path().join(readings.to_string());
        std::fs::create_dir(&folder).expect("the folder is writable");
        let started = Instant::now();
        rig::store::fill(&folder.join("data"), readings, TAIL, &rows).await;
        configure(&folder, port);
        let bytes = rig::size_of(&folder.join("data"));
        println!(
            "{readings} readings buffered in {:.1} s, {}",
            started.elapsed().as_secs_f64(),
            rig::mib(bytes)
        );
        cases.push(Case { readings, folder, bytes, wall: Vec::new(), cpu: Vec::new(), open: Vec::new() });
    }
    println!();
    for round in 0..rounds {
        for index in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let case = &mut cases[index];
            let (wall, cpu) = start(&case.folder).await;
            case.wall.push(wall);
            case.cpu.push(cpu);
            case.open.push(open(&case.folder));
        }
    }
    let row = |case: &Case| {
        let part = |figures: fn(&Case) -> &Vec<f64>| median(figures(case)) / median(figures(&cases[0]));
        vec![
            case.readings.to_string(),
            rig::mib(case.bytes),
            format!("{:.0} ms", median(&case.wall) * 1e3),
            format!("{:.2}", part(|case| &case.wall)),
            format!("{:.1} ms", median(&case.cpu) * 1e3),
            format!("{:.2}", part(|case| &case.cpu)),
            format!("{:.2} ms", median(&case.open) * 1e3),
            format!("{:.2}", part(|case| &case.open)),
        ]
    };
    let rows: Vec<Vec<String>> = cases.iter().map(row).collect();
    let head = [
        "readings buffered",
        "on disk",
        "exec to open doors",
        "ratio",
        "CPU until then",
        "ratio",
        "Store::open",
        "ratio",
    ];
    rig::table(&format!("Restart, medians of {rounds}"), &head, &rows);
}

fn configure(folder: &Path, port: u16) {
    let toml = format!(
        "[gateway]\nname = \"bench\"\ndata_dir = \"{0}/data\"\ncache_dir = \"{0}/cache\"\nrun_dir = \"{0}/run\"\n\
         [clock]\ntrust = \"always\"\n[mqtt.broker]\nurl = \"mqtt://127.0.0.1:{port}\"\n[lattice]\nmode = \"off\"\n\
         [journal]\nring_bytes_max = \"4GiB\"\n[outbox]\nbytes_max = \"4GiB\"\n\
         [[stream]]\nname = \"{1}\"\ntopics = [\"plant/#\"]\nreduce = \"none\"\n",
        folder.display(),
        rig::store::STREAM
    );
    std::fs::write(folder.join("frond.toml"), toml).expect("the folder is writable");
}

/// Starts the gateway, waits for its doors and kills it: before its first checkpoint, so that the next start finds what
/// this one found.
async fn start(folder: &Path) -> (f64, f64) {
    let socket = console::socket_path(&folder.join("run"));
    let _ = std::fs::remove_file(&socket);
    let mut command = Command::new(env!("CARGO_BIN_EXE_frond"));
    let started = Instant::now();
    let peer = Peer::start("frond", command.args(["run", "--config", "frond.toml"]), folder);
    loop {
        let status = console::ask::<Status>(&socket, Request::Status).await;
        if status
            .is_ok_and(|status| !status.doors.is_empty() && status.doors.iter().all(|door| door.is_open()))
        {
            return (started.elapsed().as_secs_f64(), rig::cpu_of(peer.pid()));
        }
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "the doors do not open: see the log in {}",
            folder.display()
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The part of the start that could depend on the backlog.
fn open(folder: &Path) -> f64 {
    let policy = rig::store::policy(&folder.join("data"), 1_000, Duration::from_secs(1));
    let started = Instant::now();
    let opened = Store::open(policy).expect("the store opens");
    let took = started.elapsed().as_secs_f64();
    drop(opened);
    took
}
