//! paho-mqtt (Python) and mqtt.js (node), each with a script of its own that does the same.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::security::throwaway;
use crate::listener_rig::{FACT_MAX, Gateway};
use crate::peers::program;

/// Readings that each script publishes in each version.
const READINGS: u64 = 200;

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/listener_clients").join(name)
}

fn can(interpreter: &Path, probe: [&str; 2], client: &str) -> bool {
    let found = std::process::Command::new(interpreter).args(probe).stderr(Stdio::null()).status();
    let there = found.is_ok_and(|status| status.success());
    if !there {
        eprintln!("left out: {client} is not on this machine ({} cannot load it)", interpreter.display());
    }
    there
}

async fn runs(interpreter: &Path, name: &str, more: &[&str]) {
    let gateway = Gateway::start("").await;
    talks(&gateway, gateway.port, interpreter, name, more).await;
    gateway.journalled(2 * READINGS).await;
    gateway.stop().await;
}

async fn talks(gateway: &Gateway, port: u16, interpreter: &Path, name: &str, more: &[&str]) {
    let mut command = Command::new(interpreter);
    command.arg(script(name)).arg(port.to_string()).arg(READINGS.to_string()).args(more);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(FACT_MAX, command.output()).await.expect("it ends in time").unwrap();
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paho_mqtt_publishes_and_subscribes_in_both_versions() {
    // Goal: the library most Python sensors use works. Method: see the script; the journal counts what it published.
    let python = program("FROND_PYTHON", "python3");
    if can(&python, ["-c", "import paho.mqtt.client"], "paho-mqtt") {
        runs(&python, "paho_client.py", &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_js_publishes_and_subscribes_in_both_versions() {
    // Goal: the library most panels use works. Method: as above.
    let node = program("FROND_NODE", "node");
    if can(&node, ["-e", "require('mqtt')"], "mqtt.js") {
        runs(&node, "mqttjs_client.cjs", &["mqtt"]).await;
    }
}

/// A listener for panels beside the usual one, with these lines.
fn panels(more: &str) -> String {
    format!("[[listener]]\nname = \"panels\"\nbind = \"127.0.0.1:{{tls}}\"\nwebsocket = true\n{more}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_js_speaks_websocket_plain_and_with_tls() {
    // Goal: a panel in a browser works. Method: the same script over ws and wss.
    let node = program("FROND_NODE", "node");
    if !can(&node, ["-e", "require('mqtt')"], "mqtt.js") {
        return;
    }
    let gateway = Gateway::start(&panels("")).await;
    talks(&gateway, gateway.tls_port, &node, "mqttjs_client.cjs", &["ws"]).await;
    gateway.journalled(2 * READINGS).await;
    gateway.stop().await;
    let tls = panels("tls = { certificate = \"{folder}/server.pem\", key = \"{folder}/server-key.pem\" }\n");
    let gateway = Gateway::start_with(&tls, |folder| {
        for file in ["server.pem", "server-key.pem"] {
            std::fs::copy(throwaway(file), folder.join(file)).unwrap();
        }
    })
    .await;
    let authority = throwaway("ca.pem").display().to_string();
    talks(&gateway, gateway.tls_port, &node, "mqttjs_client.cjs", &["wss", &authority]).await;
    gateway.journalled(2 * READINGS).await;
    gateway.stop().await;
}
