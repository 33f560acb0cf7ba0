//! paho-mqtt (Python) and mqtt.js (node), each with a script of its own that does the same.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

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

async fn runs(interpreter: &Path, name: &str) {
    let gateway = Gateway::start("").await;
    let mut command = Command::new(interpreter);
    command.arg(script(name)).arg(gateway.port.to_string()).arg(READINGS.to_string());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(FACT_MAX, command.output()).await.expect("it ends in time").unwrap();
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    gateway.journalled(2 * READINGS).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paho_mqtt_publishes_and_subscribes_in_both_versions() {
    // Goal: the library most Python sensors use works. Method: see the script; the journal counts what it published.
    let python = program("FROND_PYTHON", "python3");
    if can(&python, ["-c", "import paho.mqtt.client"], "paho-mqtt") {
        runs(&python, "paho_client.py").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_js_publishes_and_subscribes_in_both_versions() {
    // Goal: the library most panels use works. Method: as above.
    let node = program("FROND_NODE", "node");
    if can(&node, ["-e", "require('mqtt')"], "mqtt.js") {
        runs(&node, "mqttjs_client.cjs").await;
    }
}
