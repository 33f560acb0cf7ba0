//! The processes of the demonstration: a hub, a leaf node, a gateway and perhaps a broker, in one folder, on loopback.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::config;
use crate::console::{self, Request, Status};
use crate::platform::{ports, spawn};

/// A process that does not listen within this time is not going to.
const START_MAX: Duration = Duration::from_secs(20);
/// A gateway whose doors are not open within this time will not open them.
const DOOR_MAX: Duration = Duration::from_secs(60);
/// Between two looks whether a process listens.
const LOOK: Duration = Duration::from_millis(20);

/// Everything that runs, and where it listens.
#[derive(Debug)]
pub struct Plant {
    /// The folder of every file.
    pub folder: PathBuf,
    /// Ports.
    pub ports: Ports,
    programs: Programs,
    broker: Option<Child>,
    hub: Option<Child>,
    leaf: Option<Child>,
    gateway: Option<Child>,
}

/// Where things listen, all on 127.0.0.1.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// MQTT: the broker's, or the gateway's own listener.
    pub broker: u16,
    /// The hub, for its clients.
    pub hub: u16,
    /// The hub, for leaf nodes.
    pub hub_leaf: u16,
    /// The leaf node, for the gateway.
    pub leaf: u16,
}

/// How readings come to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Machines connect to the gateway.
    Listener,
    /// Machines connect to a broker, and the gateway is its client.
    Broker,
}

/// Programs the demonstration runs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// mosquitto, if the broker's door is shown.
    pub mosquitto: Option<PathBuf>,
    /// nats-server.
    pub nats_server: PathBuf,
    /// frond itself.
    pub frond: PathBuf,
}

/// Why the demonstration cannot be set up.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PlantError {
    #[error("{name} is not installed, or not on the PATH; `just demo` installs it")]
    Missing { name: &'static str },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("no free port on loopback")]
    Port(#[source] std::io::Error),
    #[error("cannot start {name}")]
    Start { name: &'static str, source: std::io::Error },
    #[error("somebody else took the port of {name} before it could listen")]
    PortTaken { name: &'static str },
    #[error("{name} does not listen; its log {log} says why:\n{tail}")]
    Silent { name: &'static str, log: PathBuf, tail: String },
    #[error("the demonstration's own configuration is not accepted")]
    Config(#[source] config::ConfigError),
    #[error("the leaf node's configuration cannot be rendered")]
    LeafConf(#[source] crate::lattice::leaf_conf::LeafConfError),
}

// === impl Programs ===

impl Programs {
    /// Finds the programs: by `FROND_MOSQUITTO` and `FROND_NATS_SERVER`, or on the PATH.
    pub fn find(door: Door) -> Result<Programs, PlantError> {
        let frond = std::env::current_exe().map_err(|source| PlantError::Start { name: "frond", source })?;
        Ok(Programs {
            mosquitto: match door {
                Door::Listener => None,
                Door::Broker => Some(find("mosquitto", "FROND_MOSQUITTO")?),
            },
            nats_server: find("nats-server", "FROND_NATS_SERVER")?,
            frond,
        })
    }
}

fn find(name: &'static str, variable: &str) -> Result<PathBuf, PlantError> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or(PlantError::Missing { name })
}

// === impl Ports ===

impl Ports {
    /// Four ports that are free now.
    pub fn pick() -> Result<Ports, PlantError> {
        let free = || ports::free().map_err(PlantError::Port);
        Ok(Ports { broker: free()?, hub: free()?, hub_leaf: free()?, leaf: free()? })
    }
}

// === impl Plant ===

impl Plant {
    /// Writes the configurations. `uplink` is where the leaf node reaches the hub: the wire with the switch in it.
    pub fn prepare(
        folder: &Path,
        programs: Programs,
        ports: Ports,
        uplink: SocketAddr,
        gateway_toml: &str,
    ) -> Result<Plant, PlantError> {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|source| PlantError::Write { path, source })
        };
        let Ports { broker, hub, hub_leaf, leaf } = ports;
        write(
            "mosquitto.conf",
            &format!(
                "user root\nlistener {broker} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n\
                 max_inflight_messages 4000\nmax_queued_messages 0\n"
            ),
        )?;
        let store = folder.join("hub");
        // A hub tells leaf nodes where it is to be found, nats-server 2.10 even with no_advertise, and they would go around
        // the switch.
        write(
            "hub.conf",
            &format!(
                "listen: \"127.0.0.1:{hub}\"\nserver_name: hub\njetstream {{ store_dir: \"{}\", domain: hub }}\n\
                 leafnodes {{ listen: \"127.0.0.1:{hub_leaf}\", advertise: \"{uplink}\" }}\n",
                store.display()
            ),
        )?;
        let door = match &programs.mosquitto {
            Some(_) => format!("[mqtt.broker]\nurl = \"mqtt://127.0.0.1:{broker}\"\n"),
            None => format!("[[listener]]\nname = \"plant\"\nbind = \"127.0.0.1:{broker}\"\n"),
        };
        let toml = format!(
            "[gateway]\nname = \"demo\"\ndata_dir = \"{0}/data\"\ncache_dir = \"{0}/cache\"\nrun_dir = \"{0}/run\"\n\
             [clock]\ntrust = \"always\"\n\
             {door}\
             [lattice]\nmode = \"leaf\"\njetstream_domain = \"hub\"\n\
             [lattice.leaf]\nlisten = \"127.0.0.1:{leaf}\"\nhub = \"nats-leaf://{uplink}\"\n{gateway_toml}",
            folder.display()
        );
        write("frond.toml", &toml)?;
        let config = config::load_file(&folder.join("frond.toml")).map_err(PlantError::Config)?;
        write("leaf.conf", &crate::lattice::leaf_conf::render(&config).map_err(PlantError::LeafConf)?)?;
        Ok(Plant {
            folder: folder.to_owned(),
            ports,
            programs,
            broker: None,
            hub: None,
            leaf: None,
            gateway: None,
        })
    }

    /// Starts the broker, if there is one, the hub and the leaf node, and waits until each listens. [`PlantError::PortTaken`]
    /// asks for another try with other ports.
    pub async fn start_peers(&mut self) -> Result<(), PlantError> {
        let Ports { broker, hub, leaf, .. } = self.ports;
        let peer = |program: &Path, conf| {
            let mut command = Command::new(program);
            command.args(["-c", conf]);
            command
        };
        let nats = &self.programs.nats_server;
        if let Some(mosquitto) = &self.programs.mosquitto {
            self.broker =
                Some(self.start("mosquitto", peer(mosquitto, "mosquitto.conf"), Some(broker)).await?);
        }
        self.hub = Some(self.start("hub", peer(nats, "hub.conf"), Some(hub)).await?);
        self.leaf = Some(self.start("leaf", peer(nats, "leaf.conf"), Some(leaf)).await?);
        Ok(())
    }

    /// Starts the gateway, with variables in its environment. Its local socket says when it is ready.
    pub async fn start_gateway(&mut self, variables: &[(&str, &str)]) -> Result<(), PlantError> {
        let mut command = Command::new(&self.programs.frond);
        command.args(["run", "--config", "frond.toml"]).envs(variables.iter().copied());
        self.gateway = Some(self.start("frond", command, None).await?);
        Ok(())
    }

    /// Waits until the gateway's doors are open: until it has subscribed, a broker keeps nothing for it.
    pub async fn wait_for_door(&self) -> Result<(), PlantError> {
        let deadline = Instant::now() + DOOR_MAX;
        let log = self.folder.join("frond.log");
        while Instant::now() < deadline {
            if let Ok(status) = console::ask::<Status>(&self.socket(), Request::Status).await
                && !status.doors.is_empty()
                && status.doors.iter().all(|door| door.is_open())
            {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(PlantError::Silent { name: "frond", tail: tail(&log), log })
    }

    /// Kills the gateway with SIGKILL, as a power cut or the kernel would, and waits until it is gone.
    pub async fn kill_gateway(&mut self) {
        stop(self.gateway.take()).await;
    }

    /// Whether the gateway process has ended by itself.
    pub fn gateway_ended(&mut self) -> bool {
        self.gateway.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))))
    }

    /// The local socket of the gateway.
    pub fn socket(&self) -> PathBuf {
        crate::console::socket_path(&self.folder.join("run"))
    }

    /// The processes that run on the gateway, with their numbers.
    pub fn pids(&self) -> Vec<(&'static str, u32)> {
        let all = [("frond", &self.gateway), ("mosquitto", &self.broker), ("leaf", &self.leaf)];
        all.into_iter().filter_map(|(name, child)| Some((name, child.as_ref()?.id()?))).collect()
    }

    /// Stops everything.
    pub async fn stop(mut self) {
        for child in [self.gateway.take(), self.leaf.take(), self.hub.take(), self.broker.take()] {
            stop(child).await;
        }
    }

    async fn start(
        &self,
        name: &'static str,
        mut command: Command,
        port: Option<u16>,
    ) -> Result<Child, PlantError> {
        let path = self.folder.join(format!("{name}.log"));
        let failed = |source| PlantError::Start { name, source };
        let log = File::options().create(true).append(true).open(&path).map_err(failed)?;
        command
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .kill_on_drop(true);
        spawn::bind_to_parent(command.as_std_mut());
        let mut child = command.spawn().map_err(failed)?;
        let deadline = Instant::now() + START_MAX;
        if let Some(port) = port {
            while !child.id().is_some_and(|pid| ports::listens(pid, port).unwrap_or(false)) {
                if Instant::now() > deadline || matches!(child.try_wait(), Ok(Some(_))) {
                    let tail = tail(&path);
                    let taken = tail.to_lowercase().contains("address already in use");
                    return Err(if taken {
                        PlantError::PortTaken { name }
                    } else {
                        PlantError::Silent { name, tail, log: path }
                    });
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(child)
    }
}

async fn stop(child: Option<Child>) {
    if let Some(mut child) = child {
        // The process may have ended by itself: then there is nothing to kill.
        let _ = child.kill().await;
    }
}

/// The last lines of a log.
pub fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
