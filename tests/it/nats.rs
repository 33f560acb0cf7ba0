//! Real nats-servers on free loopback ports, and a proxy that is a bad link between them.
//!
//! The servers live in a folder of their own, are ready when `start` returns, and are stopped by pid when dropped. The
//! binary is `$FROND_NATS_SERVER`, or `nats-server` from the PATH.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream as StdStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// How long a server may take to listen.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// The JetStream domain of every test hub.
pub const DOMAIN: &str = "hub";

/// A nats-server process.
pub struct NatsServer {
    /// Where clients connect.
    pub port: u16,
    config: PathBuf,
    child: Option<Child>,
    _folder: TempDir,
}

/// What a hub has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JetStream {
    /// JetStream in the domain [`DOMAIN`].
    On,
    /// Core NATS only.
    Off,
}

/// The server's version, as `2.10.27`.
pub fn nats_version() -> String {
    let told = Command::new(binary()).arg("--version").output().expect("nats-server says its version");
    let text = String::from_utf8(told.stdout).expect("a version is text");
    text.trim().trim_start_matches("nats-server: v").to_owned()
}

/// A port nobody listens on.
pub fn free_port() -> u16 {
    frond::platform::ports::free().expect("loopback has a free port")
}

// === impl NatsServer ===

impl NatsServer {
    /// A hub that takes leaf connections on `leaf_port`.
    pub fn hub(leaf_port: u16, jetstream: JetStream) -> NatsServer {
        NatsServer::hub_at(free_port(), leaf_port, jetstream)
    }

    /// As [`NatsServer::hub`], for leaf nodes that reach it through a proxy on `proxy_port`.
    pub fn hub_behind(proxy_port: u16, leaf_port: u16, jetstream: JetStream) -> NatsServer {
        NatsServer::hub_found_at(proxy_port, free_port(), leaf_port, jetstream)
    }

    /// As [`NatsServer::hub`], with a chosen client port.
    pub fn hub_at(port: u16, leaf_port: u16, jetstream: JetStream) -> NatsServer {
        NatsServer::hub_found_at(leaf_port, port, leaf_port, jetstream)
    }

    fn hub_found_at(found_at: u16, port: u16, leaf_port: u16, jetstream: JetStream) -> NatsServer {
        let jetstream = match jetstream {
            JetStream::On => format!("jetstream {{ store_dir: \"FOLDER/js\", domain: {DOMAIN} }}"),
            JetStream::Off => String::new(),
        };
        // The hub tells leaf nodes where it is to be found, and they would go around a proxy.
        let config = format!(
            "server_name: hub-{port}\n{jetstream}\nleafnodes {{ listen: \"127.0.0.1:{leaf_port}\", advertise: \"127.0.0.1:{found_at}\" }}\n"
        );
        NatsServer::start(port, &config)
    }

    /// The leaf node beside a gateway, whose hub takes leaf connections on `remote_port`.
    pub fn leaf(remote_port: u16) -> NatsServer {
        NatsServer::leaf_at(free_port(), remote_port)
    }

    /// As [`NatsServer::leaf`], with a chosen client port.
    pub fn leaf_at(port: u16, remote_port: u16) -> NatsServer {
        // Blocks are compressed already; as in config/nats-leaf.conf.
        let config = format!(
            "server_name: leaf-{port}\n\
             leafnodes {{ remotes: [ {{ url: \"nats-leaf://127.0.0.1:{remote_port}\", compression: off }} ] }}\n"
        );
        NatsServer::start(port, &config)
    }

    /// Any server; `FOLDER` in `config` becomes its folder.
    pub fn start(port: u16, config: &str) -> NatsServer {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("nats.conf");
        let config = config.replace("FOLDER", &folder.path().display().to_string());
        std::fs::write(&path, format!("listen: \"127.0.0.1:{port}\"\n{config}"))
            .expect("the folder is writable");
        let mut server = NatsServer { port, config: path, child: None, _folder: folder };
        server.resume();
        server
    }

    /// `nats://…` for clients.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Kills the process; its folder stays.
    pub fn halt(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The pid is our child's: it has not been waited for.
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
            let _ = child.wait();
        }
    }

    /// Starts it (again) with the same folder and ports.
    pub fn resume(&mut self) {
        assert!(self.child.is_none(), "it is running");
        let child = Command::new(binary())
            .arg("-c")
            .arg(&self.config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server starts: put it in the PATH or set FROND_NATS_SERVER");
        self.child = Some(child);
        self.wait_until_ready();
    }

    fn wait_until_ready(&mut self) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let deadline = std::time::Instant::now() + READY_TIMEOUT;
        loop {
            let pid = self.child.as_ref().expect("it was started").id();
            if frond::platform::ports::listens(pid, self.port).unwrap_or(false)
                && let Ok(stream) = StdStream::connect_timeout(&address, Duration::from_secs(1))
            {
                let mut line = String::new();
                stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a positive timeout is allowed");
                if BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("INFO") {
                    return;
                }
            }
            let child = self.child.as_mut().expect("it was started");
            assert!(
                child.try_wait().expect("it is our child").is_none(),
                "nats-server ended: {:?}",
                self.config
            );
            assert!(std::time::Instant::now() < deadline, "nats-server does not listen on {address}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.halt();
    }
}

fn binary() -> PathBuf {
    std::env::var_os("FROND_NATS_SERVER").map_or_else(|| Path::new("nats-server").to_owned(), PathBuf::from)
}

/// What happens to bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// They pass.
    Pass,
    /// They wait: the silent stall.
    Stall,
    /// They vanish; the connection has to be cut afterwards, or it would go on in the middle of a message.
    Vanish,
}

/// How the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Whether there are connections at all.
    pub cut: bool,
    /// From the leaf to the hub.
    pub up: Flow,
    /// From the hub to the leaf.
    pub down: Flow,
    /// Bytes per second in each direction; 0: as many as come.
    pub rate: u64,
    /// Delay in each direction.
    pub delay: Duration,
}

/// A link without faults.
pub const FAIR: Weather =
    Weather { cut: false, up: Flow::Pass, down: Flow::Pass, rate: 0, delay: Duration::ZERO };

/// A TCP proxy whose behaviour can be changed while connections run through it.
pub struct Proxy {
    /// Where to connect.
    pub port: u16,
    weather: watch::Sender<Weather>,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Copy)]
enum Direction {
    Up,
    Down,
}

// === impl Proxy ===

impl Proxy {
    /// A proxy to `target` on loopback.
    pub async fn start(target: u16) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let (weather, seen) = watch::channel(FAIR);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, seen));
        Proxy { port, weather, _tasks: tasks }
    }

    /// Changes the weather.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Ends every connection and lets none in.
    pub fn cut(&self) {
        self.set(Weather { cut: true, ..FAIR });
    }

    /// Undoes everything.
    pub fn restore(&self) {
        self.set(FAIR);
    }
}

async fn accept(listener: TcpListener, target: u16, weather: watch::Receiver<Weather>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if !weather.borrow().cut {
            connections.spawn(carry(near, target, weather.clone()));
        }
    }
}

/// Carries one connection until either side ends it or it is cut.
async fn carry(near: TcpStream, target: u16, mut weather: watch::Receiver<Weather>) {
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::select! {
        () = pump(near_read, far_write, weather.clone(), Direction::Up) => {}
        () = pump(far_read, near_write, weather.clone(), Direction::Down) => {}
        _ = weather.wait_for(|weather| weather.cut) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    to: OwnedWriteHalf,
    weather: watch::Receiver<Weather>,
    direction: Direction,
) {
    // 64 chunks of 4 KiB: the queue of a modest router.
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>(64);
    let reader = async {
        let mut chunk = vec![0; 4096];
        while let Ok(read @ 1..) = from.read(&mut chunk).await {
            let due = Instant::now() + weather.borrow().delay;
            if sender.send((due, chunk[..read].to_vec())).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reader => {}
        () = deliver(receiver, to, weather.clone(), direction) => {}
    }
}

async fn deliver(
    mut chunks: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    direction: Direction,
) {
    let flow = |weather: &Weather| match direction {
        Direction::Up => weather.up,
        Direction::Down => weather.down,
    };
    let mut free_at = Instant::now();
    while let Some((due, chunk)) = chunks.recv().await {
        sleep_until(due).await;
        let now = match weather.wait_for(|weather| flow(weather) != Flow::Stall).await {
            Ok(weather) => *weather,
            Err(_) => return,
        };
        if now.rate > 0 {
            free_at = free_at.max(Instant::now() - Duration::from_millis(5))
                + Duration::from_secs_f64(chunk.len() as f64 / now.rate as f64);
            sleep_until(free_at).await;
        }
        if flow(&now) == Flow::Pass && to.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

/// A promise about speed holds on a machine that has time for it: a trial that other work disturbs is made again, three times
/// at most. Panics with what the last one says.
pub async fn in_one_of_three(mut trial: impl AsyncFnMut() -> Result<(), String>) {
    for round in 1.. {
        match trial().await {
            Ok(()) => return,
            Err(why) if round == 3 => panic!("in none of three trials: {why}"),
            Err(why) => println!("trial {round}: {why}"),
        }
    }
}

/// Waits for a fact, looking every 20 ms; panics with `what` when it does not come true in time.
pub async fn eventually(what: &str, patience: Duration, mut fact: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !fact().await {
        assert!(Instant::now() < deadline, "{what}: not within {patience:?}");
        sleep(Duration::from_millis(20)).await;
    }
}
