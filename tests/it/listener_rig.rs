//! A gateway with a listener, as a real process on free loopback ports, without broker, leaf node or hub.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use frond::console::{self, Request, Status};
use frond::platform::spawn;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::peers::free_port;

/// A fact that has not come about within this time will not.
pub const FACT_MAX: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Commits every twentieth of a second, and the stream that sensors publish to.
const BASE: &str = r#"
[journal]
commit_interval = "50ms"
wear_bytes_per_day = 0
[[stream]]
name = "machines"
topics = ["plant/+/state"]
time = { field = "ts", format = "ms" }
series_max = 2000
"#;

/// A running gateway.
pub struct Gateway {
    pub port: u16,
    /// With TLS; nobody listens there unless the test says so.
    pub tls_port: u16,
    pub folder: PathBuf,
    child: Child,
    _kept: TempDir,
}

impl Gateway {
    /// Starts one. `toml` is laid over its configuration; `{port}`, `{tls}` and `{folder}` are filled in. `prepare` may put
    /// files into its folder.
    pub async fn start_with(toml: &str, prepare: impl FnOnce(&std::path::Path)) -> Gateway {
        let kept = TempDir::new().unwrap();
        let folder = kept.path().to_owned();
        let (port, tls_port) = (free_port(), free_port());
        let at = folder.display();
        let base = format!(
            "[gateway]\nname = \"site\"\ndata_dir = \"{at}/data\"\ncache_dir = \"{at}/cache\"\nrun_dir = \"{at}/run\"\n\
             [clock]\ntrust = \"always\"\n[lattice]\nmode = \"off\"\n{BASE}\
             [[listener]]\nname = \"local\"\nbind = \"127.0.0.1:{port}\"\n"
        );
        let toml = toml
            .replace("{port}", &port.to_string())
            .replace("{tls}", &tls_port.to_string())
            .replace("{folder}", &at.to_string());
        fs::create_dir(folder.join("conf.d")).unwrap();
        fs::write(folder.join("frond.toml"), base).unwrap();
        fs::write(folder.join("conf.d/test.toml"), toml).unwrap();
        prepare(&folder);
        let child = spawn_gateway(&folder);
        let mut gateway = Gateway { port, tls_port, folder, child, _kept: kept };
        gateway.listens().await;
        gateway
    }

    /// As [`Gateway::start_with`], without files.
    pub async fn start(toml: &str) -> Gateway {
        Gateway::start_with(toml, |_| {}).await
    }

    async fn listens(&mut self) {
        let deadline = Instant::now() + FACT_MAX;
        while TcpStream::connect(self.address()).await.is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{}", self.log());
            sleep(LOOK).await;
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Its status.
    pub async fn status(&self) -> Status {
        let socket = console::socket_path(&self.folder.join("run"));
        let deadline = Instant::now() + FACT_MAX;
        loop {
            match console::ask(&socket, Request::Status).await {
                Ok(status) => return status,
                Err(err) => assert!(Instant::now() < deadline, "{err}: {}", self.log()),
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until the journal holds so many readings, and asserts that it holds no more.
    pub async fn journalled(&self, readings: u64) {
        let deadline = Instant::now() + FACT_MAX;
        loop {
            let now = self.status().await.store.readings;
            assert!(now <= readings, "{now} readings in the journal, {readings} were acknowledged");
            if now == readings {
                return;
            }
            assert!(Instant::now() < deadline, "{now} of {readings} readings in the journal");
            sleep(LOOK).await;
        }
    }

    /// Waits until a line of its log holds this text.
    pub async fn logged(&self, text: &str) {
        let deadline = Instant::now() + FACT_MAX;
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in\n{}", self.log());
            sleep(LOOK).await;
        }
    }

    /// Memory that is its own, in bytes.
    pub fn memory(&self) -> u64 {
        let pid = self.child.id().expect("it runs");
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let line = text.lines().find(|line| line.starts_with("Pss:")).expect("the kernel sums it up");
        let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().unwrap();
        kib * 1024
    }

    /// CPU time it has used.
    pub fn cpu(&self) -> Duration {
        let pid = self.child.id().expect("it runs");
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let nanos = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Stops it properly.
    pub async fn stop(mut self) {
        self.end(Signal::SIGTERM).await;
    }

    /// Kills it, and starts it again in the same folder.
    pub async fn kill_and_restart(&mut self) {
        self.end(Signal::SIGKILL).await;
        self.child = spawn_gateway(&self.folder);
        self.listens().await;
    }

    async fn end(&mut self, signal: Signal) {
        let pid = self.child.id().expect("it has not been waited for");
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
        tokio::time::timeout(FACT_MAX, self.child.wait()).await.expect("it ends in time").unwrap();
    }
}

fn spawn_gateway(folder: &std::path::Path) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_frond"));
    command
        .args(["run", "--config", "frond.toml"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true);
    spawn::bind_to_parent(command.as_std_mut());
    command.spawn().unwrap()
}
