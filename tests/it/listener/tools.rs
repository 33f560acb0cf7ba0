//! Clients that others wrote: mosquitto's tools and rumqttc.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

use super::rig::Rig;

fn mosquitto(tool: &str, at: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(tool);
    command.args(["-h", "127.0.0.1", "-p", &at.port().to_string()]).args(arguments);
    command
}

#[test]
fn mosquitto_pub_and_sub_speak_with_the_listener() {
    // Goal: both versions and every QoS. Method: a subscriber that ends after nine messages, and publishers.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path(), "");
    for version in ["mqttv311", "mqttv5"] {
        let id = format!("sub-{version}");
        let arguments = ["-V", version, "-i", &id, "-t", "plant/#", "-q", "1", "-C", "9", "-W", "20", "-v"];
        let mut subscriber = mosquitto("mosquitto_sub", rig.at, &arguments);
        let subscriber = subscriber.stdout(Stdio::piped()).spawn().unwrap();
        let subscribed = |rig: &Rig| rig.view.counters.subscribed.load(std::sync::atomic::Ordering::Relaxed);
        let wanted = if version == "mqttv311" { 1 } else { 2 };
        rig.wait("subscribed", |rig| subscribed(rig) >= wanted);
        for qos in ["0", "1", "2"] {
            for value in ["1", "2", "3"] {
                let arguments = ["-V", version, "-t", "plant/x", "-q", qos, "-m", value];
                assert!(mosquitto("mosquitto_pub", rig.at, &arguments).status().unwrap().success());
            }
        }
        let output = subscriber.wait_with_output().unwrap();
        assert!(output.status.success());
        let lines = String::from_utf8(output.stdout).unwrap();
        assert_eq!(lines, "plant/x 1\nplant/x 2\nplant/x 3\n".repeat(3), "{version}");
    }
    rig.wait("all committed", |rig| rig.values().len() == 18);
    rig.stop();
}

#[test]
fn rumqttc_with_a_full_window_loses_nothing() {
    // Goal: 5,000 messages, 100 in flight, each acknowledged and committed once.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path(), "");
    let mut options = MqttOptions::new("rumqttc", "127.0.0.1", rig.at.port());
    options.set_keep_alive(Duration::from_secs(30)).set_clean_session(false).set_inflight(100);
    let (client, mut connection) = Client::new(options, 10);
    let sending = std::thread::spawn(move || {
        for value in 0..5_000 {
            client.publish("plant/x", QoS::AtLeastOnce, false, value.to_string()).unwrap();
        }
    });
    let mut acknowledged = 0;
    for event in connection.iter() {
        if let Event::Incoming(Packet::PubAck(_)) = event.unwrap() {
            acknowledged += 1;
            if acknowledged == 5_000 {
                break;
            }
        }
    }
    sending.join().unwrap();
    rig.wait("all committed, once and in order", |rig| rig.values() == (0..5_000).collect::<Vec<_>>());
    rig.stop();
}
