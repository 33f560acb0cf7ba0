//! Who may enter and what they may do, with mosquitto's tools on a TLS listener and a plain one.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::mosquitto::{is_installed, publish, run, subscribe};
use crate::listener_rig::{FACT_MAX, Gateway};

const GUARDED: &str = r#"
[[listener]]
name = "local"
anonymous = "never"
[[listener]]
name = "lan"
bind = "127.0.0.1:{tls}"
anonymous = "never"
tls = { certificate = "{folder}/server.pem", key = "{folder}/server-key.pem", client_ca = "{folder}/ca.pem" }
[[user]]
name = "press"
password_hash_file = "{folder}/press-hash"
publish = ["plant/{user}/state", "log/{client}"]
[[user]]
name = "press-7"
certificate = "press-7"
publish = ["plant/{user}/state"]
"#;

/// A certificate or key of the tests'.
pub fn throwaway(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/throwaway_tls").join(name)
}

/// What `frond password` prints.
async fn hash(password: &str) -> Output {
    hash_with(&[], password).await
}

async fn hash_with(arguments: &[&str], password: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_frond"));
    command
        .arg("password")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).await.unwrap();
    tokio::time::timeout(FACT_MAX, child.wait_with_output()).await.expect("it ends in time").unwrap()
}

async fn guarded() -> Gateway {
    let hashed = hash("secret").await;
    assert!(hashed.status.success(), "{hashed:?}");
    Gateway::start_with(GUARDED, |folder| {
        for file in ["server.pem", "server-key.pem", "ca.pem"] {
            std::fs::copy(throwaway(file), folder.join(file)).unwrap();
        }
        std::fs::write(folder.join("press-hash"), hashed.stdout).unwrap();
    })
    .await
}

fn over_tls(gateway: &Gateway) -> Command {
    let mut command = publish(gateway);
    command.args(["-p", &gateway.tls_port.to_string(), "--cafile"]).arg(throwaway("ca.pem"));
    command
}

/// Publishes one reading at QoS 1 as MQTT 5, where a refusal is told.
async fn says(command: &mut Command, topic: &str, time: u64) -> (bool, String) {
    let payload = format!(r#"{{"ts":{time},"v":1}}"#);
    let output = run(command.args(["-V", "5", "-q", "1", "-t", topic, "-m", &payload])).await;
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_enter_by_password_or_certificate_and_stay_within_their_topics() {
    // Goal: every way in, and every way out. Method: each with mosquitto_pub; the journal has what was let through, only.
    if !is_installed() {
        return;
    }
    let gateway = guarded().await;
    let login = ["-u", "press", "-P", "secret", "-i", "p-1"];
    let with_certificate = |gateway: &Gateway| {
        let mut command = over_tls(gateway);
        command.arg("--cert").arg(throwaway("client.pem")).arg("--key").arg(throwaway("client-key.pem"));
        command
    };
    for (mut command, topic, allowed) in [
        (publish(&gateway), "plant/press/state", false),
        (over_tls(&gateway), "plant/press/state", false),
        (with_certificate(&gateway), "plant/press-7/state", true),
        (with_certificate(&gateway), "plant/press/state", false),
    ] {
        let (succeeded, told) = says(&mut command, topic, 1_700_000_000_001).await;
        let refused = told.to_lowercase().contains("not authori");
        assert_eq!(succeeded && !refused, allowed, "{topic}: {told}");
    }
    for (arguments, topic, allowed) in [
        (login, "plant/press/state", true),
        (login, "plant/oven/state", false),
        (login, "log/p-1", true),
        (login, "log/p-2", false),
        (["-u", "press", "-P", "wrong", "-i", "p-1"], "plant/press/state", false),
        (["-u", "nobody", "-P", "secret", "-i", "p-1"], "plant/press/state", false),
    ] {
        for mut command in [publish(&gateway), over_tls(&gateway)] {
            let (succeeded, told) = says(command.args(arguments), topic, 1_700_000_000_002).await;
            let refused = told.to_lowercase().contains("not authori");
            assert_eq!(succeeded && !refused, allowed, "{arguments:?} {topic}: {told}");
        }
    }
    // One by certificate, and one over each of plain TCP and TLS.
    gateway.journalled(3).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_change_without_a_restart_and_a_broken_one_leaves_the_old() {
    // Goal: renewal costs no connection. Method: break the file, then mend it, and connect after each.
    if !is_installed() {
        return;
    }
    let gateway = guarded().await;
    let login = ["-u", "press", "-P", "secret", "-i", "p-1"];
    let enters = async |time| says(over_tls(&gateway).args(login), "plant/press/state", time).await.0;
    assert!(enters(1_700_000_000_001).await);
    std::fs::write(gateway.folder.join("server.pem"), "broken").unwrap();
    gateway.logged("changed certificates cannot be used").await;
    assert!(enters(1_700_000_000_002).await, "the old one stays");
    std::fs::copy(throwaway("server.pem"), gateway.folder.join("server.pem")).unwrap();
    gateway.logged("certificates are read again").await;
    assert!(enters(1_700_000_000_003).await);
    gateway.journalled(3).await;
    gateway.stop().await;
}

#[tokio::test]
async fn frond_password_hashes_what_it_reads_and_refuses_nothing_at_all() {
    // Goal: the hash fits the password, and an empty one is a mistake. Method: both, over a pipe; and into a file, which
    // nobody else may read, twice.
    let hashed = hash("correct horse").await;
    let text = String::from_utf8(hashed.stdout).unwrap();
    let hash_of = frond::ingest::listener::password::Hash::parse(text.trim_end()).unwrap();
    assert!(hash_of.is_of(b"correct horse") && !hash_of.is_of(b"correct"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hash");
    for password in ["first", "second"] {
        let written = hash_with(&["--output", &file.display().to_string()], password).await;
        assert!(written.status.success() && written.stdout.is_empty(), "{written:?}");
        let hash = std::fs::read_to_string(&file).unwrap();
        let hash = frond::ingest::listener::password::Hash::parse(hash.trim_end()).unwrap();
        assert!(hash.is_of(password.as_bytes()));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
    let empty = hash("").await;
    assert!(!empty.status.success() && empty.stdout.is_empty());
    assert!(String::from_utf8_lossy(&empty.stderr).contains("a password has 1 to 1024 bytes"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_stops_reading_costs_no_cpu() {
    // Goal: what waits for a socket waits, with and without TLS. Method: mosquitto_sub is stopped (SIGSTOP), and is sent more
    // than sockets and its queue hold; then the gateway's CPU time over two seconds.
    if !is_installed() {
        return;
    }
    let text = r#"
[[listener]]
name = "lan"
bind = "127.0.0.1:{tls}"
tls = { certificate = "{folder}/server.pem", key = "{folder}/server-key.pem" }
"#;
    let gateway = Gateway::start_with(text, |folder| {
        for file in ["server.pem", "server-key.pem"] {
            std::fs::copy(throwaway(file), folder.join(file)).unwrap();
        }
    })
    .await;
    for over_tls in [false, true] {
        let mut command = subscribe(&gateway);
        if over_tls {
            command.args(["-p", &gateway.tls_port.to_string(), "--cafile"]).arg(throwaway("ca.pem"));
        }
        let subscribed = gateway.status().await.listener.unwrap().connected;
        let child = command.args(["-t", "flood/#", "-q", "0"]).spawn().unwrap();
        let deadline = tokio::time::Instant::now() + FACT_MAX;
        while gateway.status().await.listener.unwrap().connected == subscribed {
            assert!(tokio::time::Instant::now() < deadline, "{}", gateway.log());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
        let lines = gateway.folder.join("lines");
        std::fs::write(&lines, format!("{}\n", "x".repeat(10_000)).repeat(2_000)).unwrap();
        let mut flood = publish(&gateway);
        flood.args(["-q", "1", "-t", "flood/x", "-l"]).stdin(std::fs::File::open(lines).unwrap());
        assert!(run(&mut flood).await.status.success());
        let before = gateway.cpu();
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let spent = gateway.cpu() - before;
        assert!(
            spent < std::time::Duration::from_millis(500),
            "{spent:?} of CPU for nothing, TLS {over_tls}"
        );
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    gateway.stop().await;
}
