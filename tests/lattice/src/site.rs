//! A site: hub, leaf node and gateway as processes in one folder, on loopback ports nobody listens on. All end with the test.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// A fact that has not come about within this time will not.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Name of the gateway, and so of its lattice.
pub const LATTICE: &str = "hall";
/// Components that every site has in the folder that the gateway takes them from: the name, and the guest that it is.
const COMPONENTS: [(&str, &str); 3] = [("desk", "postman"), ("desk2", "postman"), ("clerk", "clerk")];

/// Who runs on the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Hub,
    Leaf,
    Gateway,
}

/// The site.
pub struct Site {
    /// Where clients of the hub connect.
    pub hub: u16,
    /// Where sensors connect.
    pub mqtt: u16,
    folder: TempDir,
    leaf: u16,
    children: BTreeMap<Role, Child>,
}

// === impl Site ===

impl Site {
    /// Hub and leaf node run, the gateway does not yet; `toml` is laid over its configuration.
    pub async fn prepare(toml: &str) -> Site {
        let [hub, uplink, leaf, mqtt] = [(); 4].map(|()| free_port());
        let folder = TempDir::new().unwrap();
        let mut site = Site { hub, mqtt, folder, leaf, children: BTreeMap::new() };
        for (name, guest) in COMPONENTS {
            fs::create_dir_all(site.path("components")).unwrap();
            fs::copy(
                target().join(format!("guests/wasm32-wasip2/release/{guest}.wasm")),
                site.component(name),
            )
            .expect("the components are built first: `just guests`");
        }
        let place = site.folder.path().display().to_string();
        site.write(
            "hub.conf",
            &format!(
                "listen: \"127.0.0.1:{hub}\"\nserver_name: hub-{hub}\njetstream {{ store_dir: \"{place}/hub\", domain: hub }}\n\
                 leafnodes {{ listen: \"127.0.0.1:{uplink}\", advertise: \"127.0.0.1:{uplink}\" }}\n"
            ),
        );
        site.write(
            "frond.toml",
            &format!(
                "[gateway]\nname = \"{LATTICE}\"\ndata_dir = \"{place}/data\"\ncache_dir = \"{place}/cache\"\nrun_dir = \"{place}/run\"\n\
                 [clock]\ntrust = \"always\"\n[[listener]]\nname = \"site\"\nbind = \"127.0.0.1:{mqtt}\"\n\
                 [lattice]\njetstream_domain = \"hub\"\n\
                 [lattice.leaf]\nlisten = \"127.0.0.1:{leaf}\"\nhub = \"nats-leaf://127.0.0.1:{uplink}\"\n\
                 [artifacts]\nfolders = [\"{place}/components\"]\nallow_unsigned = true\n\
                 [lattice.host]\nlabels = {{ site = \"plant-1\" }}\n"
            ),
        );
        site.write("conf.d/test.toml", toml);
        let leaf_conf = site.frond(&["leaf-conf", "--config", "frond.toml"]);
        site.write("leaf.conf", &leaf_conf);
        site.run(Role::Hub).await;
        site.run(Role::Leaf).await;
        site
    }

    /// A file of the site.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The file of a component.
    pub fn component(&self, name: &str) -> PathBuf {
        self.path("components").join(name).with_extension("wasm")
    }

    /// The reference of a component.
    pub fn reference(&self, name: &str) -> String {
        format!("file://{}", self.component(name).display())
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Starts one, and waits until it listens; the gateway is not waited for.
    pub async fn run(&mut self, role: Role) {
        let frond = frond();
        let nats_server = std::env::var_os("FROND_NATS_SERVER").unwrap_or_else(|| "nats-server".into());
        let (program, arguments, port): (&Path, &[&str], _) = match role {
            Role::Hub => (nats_server.as_ref(), &["-c", "hub.conf"], Some(self.hub)),
            Role::Leaf => (nats_server.as_ref(), &["-c", "leaf.conf"], Some(self.leaf)),
            Role::Gateway => (&frond, &["run", "--config", "frond.toml"], None),
        };
        let log = File::options().create(true).append(true).open(self.log_path(role)).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        self.children.insert(role, child);
        let Some(port) = port else { return };
        eventually(&format!("{role:?} listens"), PATIENCE, async || {
            let child = self.children.get_mut(&role).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "{role:?} has ended: {}", self.log(role));
            greets(port)
        })
        .await;
    }

    /// Stops one with SIGKILL, as a power cut does.
    pub fn kill(&mut self, role: Role) {
        if let Some(mut child) = self.children.remove(&role) {
            // It may have ended; it has not been waited for, so that the pid is still its own.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits for the end that one comes to by itself.
    pub async fn ended(&mut self, role: Role) -> ExitStatus {
        let mut child = self.children.remove(&role).unwrap();
        let mut status = None;
        eventually("its end", PATIENCE, async || {
            status = child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// A connection to the hub.
    pub async fn client(&self) -> async_nats::Client {
        async_nats::connect(format!("127.0.0.1:{}", self.hub)).await.unwrap()
    }

    /// What frond prints when it is called with these arguments.
    pub fn frond(&self, arguments: &[&str]) -> String {
        let output = Command::new(frond()).args(arguments).current_dir(self.folder.path()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "frond {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until a component of the lattice has this state.
    pub async fn state(&self, id: &str, state: &str) {
        eventually(&format!("{id} is {state}"), PATIENCE, async || {
            let call = Command::new(frond())
                .args(["component", "ls", "--json", "--config", "frond.toml"])
                .current_dir(self.folder.path())
                .output();
            let listed: Vec<Value> = serde_json::from_slice(&call.unwrap().stdout).unwrap_or_default();
            listed.iter().any(|one| one["id"] == id && one["state"] == state)
        })
        .await;
    }

    fn log_path(&self, role: Role) -> PathBuf {
        self.path(&format!("{role:?}.log").to_lowercase())
    }

    /// Everything that one has logged.
    pub fn log(&self, role: Role) -> String {
        fs::read_to_string(self.log_path(role)).unwrap_or_default()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the gateway's log:\n{}", self.log(Role::Gateway));
        }
        for role in [Role::Gateway, Role::Leaf, Role::Hub] {
            self.kill(role);
        }
    }
}

/// The target folder of the product.
fn target() -> PathBuf {
    match (std::env::var_os("FROND"), std::env::var_os("CARGO_TARGET_DIR")) {
        (Some(frond), _) => Path::new(&frond).ancestors().nth(2).unwrap().to_owned(),
        (None, Some(folder)) => folder.into(),
        (None, None) => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
    }
}

fn frond() -> PathBuf {
    std::env::var_os("FROND").map_or_else(|| target().join("debug/frond"), PathBuf::from)
}

/// Whether a nats-server speaks on a port.
fn greets(port: u16) -> bool {
    let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("INFO")
}

/// A port that nobody listens on, and that this process has not been given before; below those that the kernel hands out.
fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // A hasher that has hashed nothing is the standard library's random number.
    let beginning = (RandomState::new().build_hasher().finish() as u16) | 1;
    let _ = TAKEN.compare_exchange(0, beginning, Ordering::Relaxed, Ordering::Relaxed);
    let next = || 16_384 + TAKEN.fetch_add(1, Ordering::Relaxed) % 16_000;
    std::iter::repeat_with(next).find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).unwrap()
}

/// Waits for a fact; panics with `what` when it does not come true in time.
pub async fn eventually(what: &str, patience: Duration, mut fact: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !fact().await {
        assert!(Instant::now() < deadline, "{what}: not within {patience:?}");
        sleep(LOOK).await;
    }
}
