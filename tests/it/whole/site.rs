//! A site for tests: broker, leaf node, hub and gateway as real processes in one folder, on free loopback ports. Each can
//! be stopped, changed and started again; all end with the test.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use frond::cli::demo::{Door, Ports, Programs};
use frond::console::{self, Request, Status};
use frond::platform::spawn;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::books::Books;
use super::wire::{self, Wire};

/// A fact that has not come about within this time will not.
const FACT_MAX: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Windows of a second, and commits every tenth of one: what most tests need of the journal.
pub const QUICK: &str = r#"
[journal]
commit_interval = "100ms"
checkpoint_interval_min = "200ms"
checkpoint_interval = "1s"
wear_bytes_per_day = 0
[uplink]
ack_timeout = "1s"
"#;

/// The stream that most tests use.
pub const STREAM: &str = r#"
[[stream]]
name = "machines"
topics = ["plant/+/state"]
time = { field = "ts", format = "ms" }
reduce = { window = "1s", lateness = "1s" }
"#;

/// Who runs on the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Broker,
    Hub,
    Leaf,
    Gateway,
}

/// The site.
pub struct Site {
    pub folder: PathBuf,
    pub ports: Ports,
    /// Where the wire begins, which the leaf node takes for the hub.
    uplink: SocketAddr,
    /// The wire between the leaf node and the hub.
    pub wire: watch::Sender<Wire>,
    /// Started in place of frond, with frond's own command line behind it.
    pub wrapper: Vec<String>,
    programs: Programs,
    children: std::collections::BTreeMap<Role, Child>,
    kept: Option<TempDir>,
    _tasks: JoinSet<()>,
}

/// Whether the hub runs JetStream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JetStream {
    On,
    Off,
}

impl Site {
    /// Writes every configuration; nothing runs yet. `toml` is laid over the gateway's base configuration.
    pub async fn prepare(toml: &str) -> Site {
        let kept = TempDir::new().unwrap();
        let folder = kept.path().to_owned();
        let ports = Ports::pick().unwrap();
        let mut tasks = JoinSet::new();
        let hub_leaf = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.hub_leaf));
        let (uplink, wire) = wire::lay(hub_leaf, &mut tasks).await;
        let programs = Programs {
            frond: PathBuf::from(env!("CARGO_BIN_EXE_frond")),
            ..Programs::find(Door::Broker).unwrap()
        };
        let site = Site {
            folder,
            ports,
            uplink,
            wire,
            wrapper: Vec::new(),
            programs,
            children: Default::default(),
            kept: Some(kept),
            _tasks: tasks,
        };
        site.write_broker("allow_anonymous true\nmax_inflight_messages 4000");
        site.write_hub(JetStream::On, "");
        site.write(
            "frond.toml",
            &format!(
                "[gateway]\nname = \"whole\"\ndata_dir = \"{0}/data\"\ncache_dir = \"{0}/cache\"\nrun_dir = \"{0}/run\"\n\
                 [clock]\ntrust = \"always\"\n[mqtt.broker]\nurl = \"mqtt://127.0.0.1:{1}\"\n\
                 [lattice]\njetstream_domain = \"hub\"\n\
                 [lattice.leaf]\nlisten = \"127.0.0.1:{2}\"\nhub = \"nats-leaf://{uplink}\"\n",
                site.folder.display(),
                ports.broker,
                ports.leaf
            ),
        );
        let config = frond::config::load_file(&site.folder.join("frond.toml")).unwrap();
        site.write("leaf.conf", &frond::lattice::leaf_conf::render(&config).unwrap());
        site.lay_over(toml);
        site
    }

    /// As [`Site::prepare`], and everything runs, the hub has its stream, and the gateway's doors are open.
    pub async fn start(toml: &str) -> (Site, Books) {
        Site::start_with(toml, -1).await
    }

    /// As [`Site::start`], with a bound for the hub's stream.
    pub async fn start_with(toml: &str, hub_bytes_max: i64) -> (Site, Books) {
        let mut site = Site::prepare(toml).await;
        let books = site.open_with(hub_bytes_max).await;
        (site, books)
    }

    /// Starts everything that was prepared.
    pub async fn open(&mut self) -> Books {
        self.open_with(-1).await
    }

    async fn open_with(&mut self, hub_bytes_max: i64) -> Books {
        for role in [Role::Broker, Role::Hub, Role::Leaf] {
            self.run(role).await;
        }
        let books = Books::open(self.hub_client().await, hub_bytes_max).await;
        self.run(Role::Gateway).await;
        self.wait_for_doors().await;
        self.wait("link up", |status| status.link.state == "up").await;
        books
    }

    /// A client of the hub.
    pub async fn hub_client(&self) -> async_nats::Client {
        async_nats::connect(format!("127.0.0.1:{}", self.ports.hub)).await.unwrap()
    }

    /// Writes a file into the site's folder.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Lays keys over the gateway's configuration.
    pub fn lay_over(&self, toml: &str) {
        self.write("conf.d/test.toml", toml);
    }

    /// Writes the broker's configuration, with these lines in it.
    pub fn write_broker(&self, lines: &str) {
        let (port, folder) = (self.ports.broker, self.folder.display());
        self.write(
            "mosquitto.conf",
            &format!(
                "listener {port} 127.0.0.1\nuser root\nset_tcp_nodelay true\nmax_queued_messages 0\n\
                 persistence true\npersistence_location {folder}/\nlog_dest stdout\nlog_type all\n{}\n",
                lines.replace("{folder}", &folder.to_string())
            ),
        );
    }

    /// Writes the hub's configuration, with these lines in it.
    pub fn write_hub(&self, jetstream: JetStream, lines: &str) {
        let (hub, leaf, folder) = (self.ports.hub, self.ports.hub_leaf, self.folder.display());
        let jetstream = match jetstream {
            JetStream::On => format!("jetstream {{ store_dir: \"{folder}/hub\", domain: hub }}\n"),
            JetStream::Off => String::new(),
        };
        self.write(
            "hub.conf",
            &format!(
                "listen: \"127.0.0.1:{hub}\"\nserver_name: hub\n{jetstream}\
                 leafnodes {{ listen: \"127.0.0.1:{leaf}\", advertise: \"{}\" }}\n{lines}\n",
                self.uplink
            ),
        );
    }

    /// Starts one, and waits until it listens; the gateway is not waited for.
    pub async fn run(&mut self, role: Role) {
        self.run_with(role, &[]).await;
    }

    /// As [`Site::run`], with variables in its environment.
    pub async fn run_with(&mut self, role: Role, variables: &[(&str, &str)]) {
        let Ports { broker, hub, leaf, .. } = self.ports;
        let (program, arguments, port): (&Path, &[&str], _) = match role {
            Role::Broker => {
                (self.programs.mosquitto.as_ref().unwrap(), &["-c", "mosquitto.conf"], Some(broker))
            }
            Role::Hub => (&self.programs.nats_server, &["-c", "hub.conf"], Some(hub)),
            Role::Leaf => (&self.programs.nats_server, &["-c", "leaf.conf"], Some(leaf)),
            Role::Gateway => (&self.programs.frond, &["run", "--config", "frond.toml"], None),
        };
        let mut command = match (role, self.wrapper.split_first()) {
            (Role::Gateway, Some((first, rest))) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            _ => Command::new(program),
        };
        let log = File::options().create(true).append(true).open(self.log_path(role)).unwrap();
        command
            .args(arguments)
            .envs(variables.iter().copied())
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true);
        spawn::bind_to_parent(command.as_std_mut());
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + FACT_MAX;
        if let Some(port) = port {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
                let ended = child.try_wait().unwrap();
                assert!(
                    ended.is_none() && Instant::now() < deadline,
                    "{role:?}: {}",
                    tail(&self.log_path(role))
                );
                sleep(LOOK).await;
            }
        }
        self.children.insert(role, child);
    }

    /// Its process.
    pub fn pid(&self, role: Role) -> Pid {
        let pid = self.children[&role].id().expect("it runs");
        Pid::from_raw(i32::try_from(pid).unwrap())
    }

    /// Sends it a signal and waits for its end.
    pub async fn stop(&mut self, role: Role, signal: Signal) -> std::process::ExitStatus {
        kill(self.pid(role), signal).unwrap();
        let mut child = self.children.remove(&role).unwrap();
        tokio::time::timeout(FACT_MAX, child.wait()).await.expect("it ends in time").unwrap()
    }

    /// Waits for its end, which it comes to by itself.
    pub async fn ended(&mut self, role: Role) -> std::process::ExitStatus {
        let mut child = self.children.remove(&role).unwrap();
        tokio::time::timeout(FACT_MAX, child.wait()).await.expect("it ends in time").unwrap()
    }

    /// Stops it with SIGKILL, as a power cut does.
    pub async fn kill(&mut self, role: Role) {
        self.stop(role, Signal::SIGKILL).await;
    }

    fn log_path(&self, role: Role) -> PathBuf {
        self.folder.join(format!("{role:?}.log").to_lowercase())
    }

    /// Everything the gateway has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path(Role::Gateway)).unwrap_or_default()
    }

    /// How many messages the gateway's door of this durability has acknowledged, as the broker tells.
    pub fn acknowledged(&self, door: &str) -> usize {
        let log = fs::read_to_string(self.log_path(Role::Broker)).unwrap_or_default();
        log.matches(&format!("Received PUBACK from frond-whole-{door} ")).count()
    }

    /// The gateway's status, if it answers.
    pub async fn status(&self) -> Option<Status> {
        console::ask(&console::socket_path(&self.folder.join("run")), Request::Status).await.ok()
    }

    /// What frond prints when it is called with these arguments, in the site's folder.
    pub async fn frond(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.programs.frond).args(arguments).current_dir(&self.folder).output();
        String::from_utf8(output.await.unwrap().stdout).unwrap()
    }

    /// Waits until the status satisfies.
    pub async fn wait(&self, what: &str, satisfies: impl Fn(&Status) -> bool) -> Status {
        self.wait_for(FACT_MAX, what, satisfies).await
    }

    /// As [`Site::wait`], with another patience.
    pub async fn wait_for(
        &self,
        patience: Duration,
        what: &str,
        satisfies: impl Fn(&Status) -> bool,
    ) -> Status {
        let deadline = Instant::now() + patience;
        loop {
            let status = self.status().await;
            if let Some(status) = status.as_ref().filter(|status| satisfies(status)) {
                return status.clone();
            }
            if Instant::now() > deadline {
                panic!("not seen: {what}; status {status:#?}\n{}", tail(&self.log_path(Role::Gateway)));
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until every door is connected.
    pub async fn wait_for_doors(&self) -> Status {
        self.wait("open doors", |status| {
            !status.doors.is_empty() && status.doors.iter().all(|door| door.is_open())
        })
        .await
    }

    /// Waits until a line of the gateway's log holds all of these texts.
    pub async fn logged(&self, texts: &[&str]) {
        let deadline = Instant::now() + FACT_MAX;
        while !self.log().lines().any(|line| texts.iter().all(|text| line.contains(text))) {
            assert!(Instant::now() < deadline, "no log line with {texts:?} in\n{}", self.log());
            sleep(LOOK).await;
        }
    }

    /// Keeps the folder, for a look after a failure.
    #[allow(dead_code, reason = "for the one who looks into a failure")]
    pub fn keep(&mut self) {
        if let Some(kept) = self.kept.take() {
            println!("kept: {}", kept.keep().display());
        }
    }
}

/// Whether one of the status's complaints holds all of these texts.
pub fn complains(status: &Status, texts: &[&str]) -> bool {
    status.complaints.iter().any(|complaint| texts.iter().all(|text| complaint.contains(text)))
}

/// The last lines of a log.
fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
