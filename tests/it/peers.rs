//! Real peers for tests: a mosquitto on a free loopback port, in a folder of its own, killed by its pid when dropped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// Longest time a peer may take to start or to stop.
const PEER_TIMEOUT: Duration = Duration::from_secs(20);

/// Attempts to find a port that nobody takes between choosing and listening.
const PORT_ATTEMPTS: usize = 5;

/// A loopback port nobody listens on.
pub fn free_port() -> u16 {
    frond::platform::ports::free().expect("a free loopback port")
}

/// Finds a program: the variable's value, the search path, then the folders of system daemons.
pub fn program(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed, and {variable} does not name it"))
}

/// A running mosquitto.
pub struct Mosquitto {
    /// Where it listens.
    pub port: u16,
    folder: TempDir,
    child: Option<Child>,
}

/// How a mosquitto is stopped.
pub enum Stop {
    /// SIGTERM: it writes its database, if it has one.
    Properly,
    /// SIGKILL.
    AtOnce,
}

impl Mosquitto {
    /// Starts one that lets everybody in, with these lines at the end of its configuration.
    pub async fn start(lines: &str) -> Mosquitto {
        Mosquitto::start_with(&format!("allow_anonymous true\n{lines}"), |_| ()).await
    }

    /// Starts one whose configuration may name files that `prepare` puts into its folder; `{folder}` stands for it.
    pub async fn start_with(lines: &str, prepare: impl FnOnce(&Path)) -> Mosquitto {
        let folder = TempDir::new().expect("a temporary folder");
        prepare(folder.path());
        let mut mosquitto = Mosquitto { port: 0, folder, child: None };
        for _ in 0..PORT_ATTEMPTS {
            mosquitto.port = free_port();
            mosquitto.render(lines);
            if mosquitto.launch().await.is_ok() {
                return mosquitto;
            }
        }
        panic!("mosquitto does not start: {}", mosquitto.log());
    }

    fn render(&self, lines: &str) {
        let folder = self.folder.path().display().to_string();
        let config = format!(
            "listener {} 127.0.0.1\nuser root\nset_tcp_nodelay true\nmax_inflight_messages 1000\nmax_queued_messages 0\n\
             max_queued_bytes 0\nlog_dest file {folder}/log\nlog_type all\n{}\n",
            self.port,
            lines.replace("{folder}", &folder)
        );
        std::fs::write(self.folder.path().join("mosquitto.conf"), config).expect("the folder is writable");
    }

    async fn launch(&mut self) -> io::Result<()> {
        let config = self.folder.path().join("mosquitto.conf");
        let mut child = Command::new(program("FROND_MOSQUITTO", "mosquitto"))
            .arg("-c")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let deadline = Instant::now() + PEER_TIMEOUT;
        while Instant::now() < deadline {
            if child.try_wait()?.is_some() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let listens = child.id().map(|pid| frond::platform::ports::listens(pid, self.port));
            if matches!(listens, Some(Ok(true))) {
                self.child = Some(child);
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Stops it, and waits until it is gone.
    pub async fn stop(&mut self, how: Stop) {
        let Some(mut child) = self.child.take() else { return };
        let pid = child.id().expect("it has not been waited for");
        let signal = match how {
            Stop::Properly => Signal::SIGTERM,
            Stop::AtOnce => Signal::SIGKILL,
        };
        kill(Pid::from_raw(pid as i32), signal).expect("it is our child");
        timeout(PEER_TIMEOUT, child.wait()).await.expect("mosquitto stops in time").expect("it is our child");
    }

    /// Starts it again, on the same port and with the same folder.
    pub async fn restart(&mut self) {
        self.launch().await.expect("mosquitto starts again");
    }
}
