//! mosquitto_pub and mosquitto_sub: a technician's tools.

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::listener_rig::{FACT_MAX, Gateway};
use crate::peers::{Mosquitto, program};

pub fn publish(gateway: &Gateway) -> Command {
    command("mosquitto_pub", gateway)
}

pub fn subscribe(gateway: &Gateway) -> Command {
    command("mosquitto_sub", gateway)
}

fn command(name: &str, gateway: &Gateway) -> Command {
    let mut command = Command::new(program(&format!("FROND_{}", name.to_uppercase()), name));
    command.args(["-h", "localhost", "-p", &gateway.port.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

pub async fn run(command: &mut Command) -> Output {
    tokio::time::timeout(FACT_MAX, command.output()).await.expect("it ends in time").unwrap()
}

pub async fn output(child: Child) -> String {
    let output =
        tokio::time::timeout(FACT_MAX, child.wait_with_output()).await.expect("it ends in time").unwrap();
    String::from_utf8(output.stdout).unwrap()
}

pub fn is_installed() -> bool {
    let there = ["mosquitto_pub", "mosquitto_sub"].iter().all(|name| {
        std::process::Command::new(program(&format!("FROND_{}", name.to_uppercase()), name))
            .arg("--help")
            .output()
            .is_ok()
    });
    if !there {
        eprintln!("left out: mosquitto_pub and mosquitto_sub are not on this machine");
    }
    there
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquittos_tools_publish_and_subscribe_in_both_versions() {
    // Goal: a technician's laptop works. Method: retained and live messages of every quality, versions 3.1.1 and 5 crossed.
    if !is_installed() {
        return;
    }
    let gateway = Gateway::start("").await;
    for (n, (sender, receiver)) in [("311", "5"), ("5", "311"), ("5", "5")].into_iter().enumerate() {
        let topic = format!("tool/{n}/x");
        for qos in ["0", "1", "2"] {
            let retained = format!("tool/{n}/{qos}");
            let publish =
                run(publish(&gateway).args(["-V", sender, "-q", qos, "-r", "-t", &retained, "-m", "kept"]))
                    .await;
            assert!(publish.status.success(), "{publish:?}");
        }
        let mut watch = subscribe(&gateway);
        let filter = format!("tool/{n}/#");
        watch.args(["-V", receiver, "-q", "1", "-t", &filter, "-C", "4", "-W", "20", "-F", "%t %p"]);
        let watching = watch.spawn().unwrap();
        // It has subscribed when it has had the retained ones; the live one is repeated until it has ended.
        let mut reading = Box::pin(output(watching));
        let text = loop {
            tokio::select! {
                text = &mut reading => break text,
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
            let live =
                run(publish(&gateway).args(["-V", sender, "-q", "1", "-t", &topic, "-m", "live"])).await;
            assert!(live.status.success(), "{live:?}");
        };
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        let kept = [0, 1, 2].map(|qos| format!("tool/{n}/{qos} kept"));
        assert_eq!(lines[..3], kept, "{text}");
        assert_eq!(lines[3], format!("{topic} live"));
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_readings_is_published_line_by_line() {
    // Goal: mosquitto_pub -l loses nothing. Method: 2,000 lines at QoS 1; the journal counts them.
    if !is_installed() {
        return;
    }
    let gateway = Gateway::start("").await;
    let lines: String =
        (0..2000u64).map(|n| format!("{{\"ts\":{},\"v\":{n}}}\n", 1_700_000_000_000 + n)).collect();
    let file = gateway.folder.join("readings");
    std::fs::write(&file, lines).unwrap();
    let mut command = publish(&gateway);
    command.args(["-q", "1", "-t", "plant/file/state", "-l"]);
    command.stdin(std::fs::File::open(file).unwrap());
    let published = run(&mut command).await;
    assert!(published.status.success(), "{published:?}");
    gateway.journalled(2000).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_on_site_bridges_to_the_listener() {
    // Goal: a plant that keeps its mosquitto forwards to frond, and gets commands back. Method: a bridge that speaks plain MQTT
    // 3.1.1, without a version of its own and without telling of itself in $SYS, as README says.
    if !is_installed() {
        return;
    }
    let gateway = Gateway::start("").await;
    let lines = format!(
        "connection frond\naddress 127.0.0.1:{}\ntry_private false\nnotifications false\nrestart_timeout 1\ntopic plant/# out 1\ntopic command/# in 1\n",
        gateway.port
    );
    let broker = Mosquitto::start(&lines).await;
    let mut panel = Command::new(program("FROND_MOSQUITTO_SUB", "mosquitto_sub"));
    panel.args(["-p", &broker.port.to_string(), "-t", "command/#", "-q", "1", "-C", "1", "-W", "25"]);
    let panel = panel.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut reading = Command::new(program("FROND_MOSQUITTO_PUB", "mosquitto_pub"));
    let payload = r#"{"ts":1700000000000,"v":1}"#;
    reading.args(["-p", &broker.port.to_string(), "-q", "1", "-t", "plant/bridged/state", "-m", payload]);
    assert!(run(&mut reading).await.status.success());
    gateway.journalled(1).await;
    // The bridge has subscribed before it forwards; the panel may still be on its way, and a retained command waits for it.
    let sent = run(publish(&gateway).args(["-q", "1", "-r", "-t", "command/x", "-m", "start"])).await;
    assert!(sent.status.success(), "{sent:?}");
    assert_eq!(output(panel).await, "start\n", "{}", broker.log());
    gateway.stop().await;
}
