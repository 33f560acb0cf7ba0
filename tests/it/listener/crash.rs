//! Kills: the gateway is killed with SIGKILL again and again while clients keep their windows full. Then every reading
//! that was acknowledged is in the database, and none twice, though no reading has a time of its own.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use frond::cli::demo::Random;
use rusqlite::Connection;

use super::client::{Hello, connect_packet, hello, publish_packet};
use super::power::readings;
use super::rig::free_port;

/// Clients, each with a window of its own.
const CLIENTS: u64 = 50;
/// Messages of each: its values are its number times this, and more.
const VALUES: u64 = 1_000_000;
/// Time for everything to be acknowledged at the end.
const SETTLE_MAX: Duration = Duration::from_secs(60);

#[test]
fn with_fifty_clients_at_full_windows_kills_lose_nothing_and_double_nothing() {
    // Goal: zero and zero. Method: see above; `FROND_CRASH_ROUNDS` and `FROND_CRASH_SEED` as in the other crash test.
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = number("FROND_CRASH_ROUNDS").unwrap_or(12);
    let seed = number("FROND_CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("{rounds} rounds, seed {seed}");
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    write_config(folder.path(), port);
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (ends, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let sent = std::thread::scope(|scope| {
        let (ends, acknowledged) = (&ends, &acknowledged);
        let clients: Vec<_> =
            (0..CLIENTS).map(|n| scope.spawn(move || Sensor::new(n).run(at, ends, acknowledged))).collect();
        let mut random = Random::new(seed);
        for _ in 0..rounds {
            let mut gateway = start(folder.path());
            let before = acknowledged.load(Ordering::Relaxed);
            // Something must get through in each round, so that its kill finds work half done.
            let deadline = Instant::now() + SETTLE_MAX;
            while acknowledged.load(Ordering::Relaxed) < before + CLIENTS {
                assert!(Instant::now() < deadline, "no acknowledgements, seed {seed}");
                std::thread::park_timeout(Duration::from_millis(2));
            }
            std::thread::park_timeout(Duration::from_secs_f64(0.4 * random.unit()));
            gateway.kill().unwrap();
            gateway.wait().unwrap();
        }
        let mut gateway = start(folder.path());
        ends.store(true, Ordering::Relaxed);
        let sent: Vec<u64> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(gateway.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(gateway.wait().unwrap().success());
        sent
    });
    let db = Connection::open(folder.path().join("data/telemetry.db")).unwrap();
    let mut held: HashMap<u64, u32> = HashMap::new();
    for value in readings(&db).unwrap() {
        *held.entry(value).or_default() += 1;
    }
    let expected: Vec<u64> = sent
        .iter()
        .enumerate()
        .flat_map(|(n, count)| (0..*count).map(move |m| n as u64 * VALUES + m))
        .collect();
    let lost = expected.iter().filter(|value| !held.contains_key(value)).count();
    let twice = held.values().filter(|count| **count > 1).count();
    println!("{} readings, all acknowledged; lost {lost}, twice {twice}", expected.len());
    assert_eq!((lost, twice, held.len()), (0, 0, expected.len()), "seed {seed}");
}

fn write_config(folder: &Path, port: u16) {
    let folder_name = folder.display();
    let text = format!(
        "[gateway]\nname = \"gw\"\ndata_dir = \"{folder_name}/data\"\ncache_dir = \"{folder_name}/cache\"\n\
         run_dir = \"{folder_name}/run\"\n[lattice]\nmode = \"off\"\n[clock]\ntrust = \"always\"\n\
         [journal]\ncommit_interval = \"50ms\"\ncheckpoint_interval_min = \"200ms\"\ncheckpoint_interval = \"1s\"\n\
         wear_bytes_per_day = 0\n[[stream]]\nname = \"plant\"\ntopics = [\"plant/#\"]\n\
         [[listener]]\nname = \"l\"\nbind = \"127.0.0.1:{port}\"\nreceive_max = 100\n"
    );
    std::fs::write(folder.join("frond.toml"), text).unwrap();
}

fn start(folder: &Path) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_frond"))
        .args(["run", "--config"])
        .arg(folder.join("frond.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// A client that keeps its window full, and sends again what was not acknowledged.
struct Sensor {
    number: u64,
    window: usize,
    next: u64,
    pkid: u16,
    /// Identifier, value.
    flying: VecDeque<(u16, u64)>,
}

impl Sensor {
    fn new(number: u64) -> Sensor {
        Sensor { number, window: 1 + number as usize * 2, next: 0, pkid: 0, flying: VecDeque::new() }
    }

    /// Sends until it is to end and everything is acknowledged. Returns how many values it has sent.
    fn run(mut self, at: SocketAddr, ends: &AtomicBool, acknowledged: &AtomicU64) -> u64 {
        let mut deadline = None;
        while !(ends.load(Ordering::Relaxed) && self.flying.is_empty()) {
            if ends.load(Ordering::Relaxed) {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + SETTLE_MAX);
                assert!(Instant::now() < deadline, "client {} is never done", self.number);
            }
            if self.connection(at, ends, acknowledged).is_err() {
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
        self.next
    }

    fn connection(
        &mut self,
        at: SocketAddr,
        ends: &AtomicBool,
        acknowledged: &AtomicU64,
    ) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(at)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let id = format!("sensor-{}", self.number);
        stream.write_all(&connect_packet(&Hello { clean: false, ..hello(&id) }))?;
        let mut connack = [0; 4];
        stream.read_exact(&mut connack)?;
        let again: Vec<u8> =
            self.flying.iter().flat_map(|(pkid, value)| self.message(0x0a, *pkid, *value)).collect();
        stream.write_all(&again)?;
        loop {
            let mut fresh = Vec::new();
            while self.flying.len() < self.window && !ends.load(Ordering::Relaxed) {
                self.pkid = self.pkid % u16::MAX + 1;
                let value = self.number * VALUES + self.next;
                self.next += 1;
                self.flying.push_back((self.pkid, value));
                fresh.extend(self.message(0x02, self.pkid, value));
            }
            stream.write_all(&fresh)?;
            if self.flying.is_empty() {
                return Ok(());
            }
            let mut puback = [0; 4];
            stream.read_exact(&mut puback)?;
            assert_eq!(puback[..2], [0x40, 2], "an acknowledgement");
            let (pkid, _) = self.flying.pop_front().unwrap();
            assert_eq!(puback[2..], pkid.to_be_bytes(), "in the order they were sent");
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn message(&self, flags: u8, pkid: u16, value: u64) -> Vec<u8> {
        publish_packet(4, flags, &format!("plant/{}", self.number), pkid, value.to_string().as_bytes())
    }
}
