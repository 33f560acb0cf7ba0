//! The files in `config/` that other programs read: the leaf node's and mosquitto's are tried with the real programs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use frond::config::{LatticeMode, parse};
use frond::lattice::leaf_conf::render;

/// Programs start, connect and stop in well under a second; a loaded machine takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A child that does not outlive its test, and what it writes to standard error.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(program: &Path, args: &[&str]) -> Running {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Running { child, lines }
    }

    /// Waits for a line, and says how long it took.
    fn expect(&self, wanted: &str, patience: Duration) -> Duration {
        let start = Instant::now();
        let mut seen = Vec::new();
        while let Some(left) = patience.checked_sub(start.elapsed()) {
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(wanted) => return start.elapsed(),
                Ok(line) => seen.push(line),
                Err(_) => break,
            }
        }
        panic!("no {wanted:?} within {patience:?}, but:\n{}", seen.join("\n"));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program by its variable, or from the PATH.
fn program(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not in the PATH; install it, or set {variable}"))
}

fn nats_server() -> PathBuf {
    program("FROND_NATS_SERVER", "nats-server")
}

fn free_port() -> u16 {
    frond::platform::ports::free().expect("loopback has free ports")
}

fn rendered(text: &str) -> String {
    let config = parse(text, "test").unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(config.lattice.mode, LatticeMode::Leaf(_)));
    render(&config).expect("it has a leaf node")
}

#[test]
fn nats_server_accepts_every_leaf_conf_that_is_rendered() {
    // Goal: whatever frond.toml sets, nats-server takes the result. Method: its own check (-t) of the variants: nothing
    // set, a hub on this machine, everything set, paths with characters that mean something to nats-server.
    let folder = tempfile::tempdir().expect("a folder for the test");
    let strange = folder.path().join("a \"b\" $HOME {c} \\d");
    std::fs::create_dir(&strange).expect("a folder of the test's own");
    let ca = strange.join("ca.pem");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/hub-ca.pem"), &ca)
        .expect("it is in the repository");
    let everything = format!(
        "[lattice.leaf]\nlisten = \"[::1]:4222\"\nhub = \"tls://hub.example\"\ncredentials = '{}'\nca = '{}'",
        strange.join("hub.creds").display(),
        ca.display()
    );
    for text in
        ["", "lattice.leaf.hub = \"nats-leaf://127.0.0.1\"", "lattice.leaf.hub = \"tls://hub\"", &everything]
    {
        let file = folder.path().join("leaf.conf");
        std::fs::write(&file, rendered(text)).expect("a folder of the test's own");
        let output =
            Command::new(nats_server()).arg("-c").arg(&file).arg("-t").output().expect("it can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{}", rendered(text));
        assert!(said.contains("is valid"), "{said}");
    }
}

#[test]
fn a_hub_link_that_falls_silent_is_noticed_within_twenty_seconds() {
    // Goal: a link that is dead without a reset does not stay "up". Method: a rendered leaf behind a relay to a hub; the
    // relay stops relaying and keeps the connections open; the leaf must close its own as stale.
    let folder = tempfile::tempdir().expect("a folder for the test");
    let hub_port = free_port();
    let hub_conf = folder.path().join("hub.conf");
    let text = format!("listen: \"127.0.0.1:-1\"\nleafnodes {{ listen: \"127.0.0.1:{hub_port}\" }}\n");
    std::fs::write(&hub_conf, text).expect("a folder of the test's own");
    let hub = Running::start(&nats_server(), &["-c", &hub_conf.to_string_lossy()]);
    hub.expect("Server is ready", PATIENCE);

    let relay = Relay::start(hub_port);
    let leaf_conf = folder.path().join("leaf.conf");
    let text = format!(
        "[lattice.leaf]\nlisten = \"127.0.0.1:{}\"\nhub = \"nats-leaf://127.0.0.1:{}\"",
        free_port(),
        relay.port
    );
    std::fs::write(&leaf_conf, rendered(&text)).expect("a folder of the test's own");
    let leaf = Running::start(&nats_server(), &["-c", &leaf_conf.to_string_lossy()]);
    // The last thing it says of a link that is up.
    leaf.expect("JetStream using domains", PATIENCE);

    relay.fall_silent();
    let took = leaf.expect("Stale Connection", Duration::from_secs(40));
    assert!(took < Duration::from_secs(20), "it took {took:?}");
}

/// Relays connections to a port, until it is told to hold everything back.
struct Relay {
    port: u16,
    silence: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Relay {
    fn start(to: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let port = listener.local_addr().expect("it is bound").port();
        let silence = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let silent = silence.clone();
        // The threads end with the connections, which end with the children.
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                for (from, into) in [(&near, &far), (&far, &near)] {
                    let from = from.try_clone().expect("handles can be cloned");
                    let into = into.try_clone().expect("handles can be cloned");
                    let silent = silent.clone();
                    std::thread::spawn(move || copy(from, into, &silent));
                }
            }
        });
        Relay { port, silence }
    }

    fn fall_silent(&self) {
        self.silence.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

/// Copies; in silence it goes on reading and says nothing, not even that an end has gone.
fn copy(mut from: TcpStream, mut into: TcpStream, silent: &std::sync::atomic::AtomicBool) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if !silent.load(std::sync::atomic::Ordering::SeqCst) && into.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    if !silent.load(std::sync::atomic::Ordering::SeqCst) {
        let _ = into.shutdown(Shutdown::Both);
    }
}

/// `config/mosquitto.conf`, line by line without comments.
fn mosquitto_settings() -> Vec<String> {
    let text = include_str!("../../config/mosquitto.conf");
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

fn mosquitto_number(key: &str) -> u64 {
    let line =
        mosquitto_settings().into_iter().find_map(|line| Some(line.strip_prefix(key)?.trim().to_owned()));
    line.expect("the key is set").parse().expect("its value is a number")
}

#[test]
fn mosquitto_runs_with_its_configuration() {
    // Goal: the file works as it is, and keeps packets away that frond would not take. Method: start mosquitto with it, port
    // and folder apart, connect, and begin a packet that is too large.
    let folder = tempfile::tempdir().expect("a folder for the test");
    let port = free_port();
    let changed = mosquitto_settings().into_iter().map(|line| match line.split(' ').next() {
        Some("listener") => format!("listener {port} 127.0.0.1\n"),
        Some("persistence_location") => format!("persistence_location {}/\n", folder.path().display()),
        _ => format!("{line}\n"),
    });
    // As root it would change to a user who cannot write to the test's folder.
    let text: String = changed.chain(["user root\n".to_owned()]).collect();
    let conf = folder.path().join("mosquitto.conf");
    std::fs::write(&conf, text).expect("a folder of the test's own");
    let mosquitto =
        Running::start(&program("FROND_MOSQUITTO", "mosquitto"), &["-c", &conf.to_string_lossy()]);

    let mut sensor = connect(port, &mosquitto);
    let connect_packet = b"\x10\x12\x00\x04MQTT\x04\x02\x00\x3c\x00\x06sensor";
    sensor.write_all(connect_packet).expect("it is connected");
    let mut answer = [0; 4];
    sensor.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
    sensor.read_exact(&mut answer).expect("CONNACK");
    assert_eq!(answer, [0x20, 2, 0, 0], "accepted");

    let too_large = b"\x32\x80\xb5\x18";
    sensor.write_all(too_large).expect("it is connected");
    assert_eq!(sensor.read(&mut answer).unwrap_or(0), 0, "a packet of 400,000 bytes ends the connection");
}

fn connect(port: u16, server: &Running) -> TcpStream {
    let start = Instant::now();
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return stream,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
        // Whatever it says meanwhile is worth seeing; otherwise this is the pause between two attempts.
        if let Ok(line) = server.lines.recv_timeout(Duration::from_millis(20)) {
            eprintln!("{line}");
        }
    }
}

#[test]
fn mosquitto_conf_agrees_with_the_default_of_frond() {
    // Goal: two files that must fit do. Method: compare what depends on each other.
    let broker =
        parse("mqtt.broker.url = \"mqtt://127.0.0.1\"", "test").expect("valid").broker.expect("a URL");
    assert_eq!(mosquitto_number("max_inflight_messages"), u64::from(broker.inflight_max));
    assert_eq!(mosquitto_number("max_packet_size"), u64::from(broker.packet_bytes_max));
    assert!(mosquitto_settings().contains(&format!("listener {} 127.0.0.1", broker.port)));
}
