//! Links that fail: towards the hub and towards the broker.

use std::time::Duration;

use frond::console::Status;
use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::sensor::Plan;
use super::site::{JetStream, QUICK, Role, STREAM, Site, complains};
use super::wire::Wire;

fn toml(rest: &str) -> String {
    format!("{QUICK}{STREAM}{rest}")
}

#[tokio::test]
async fn a_leaf_link_that_is_cut_and_then_flaps_costs_nothing() {
    // Goal: down is told with its reason and advice, and everything arrives once. Method: cut, look, restore, then a cut
    // every few hundred milliseconds.
    let (site, mut books) = Site::start(&toml("")).await;
    let mut sensors = Plan::new("a", 5, 20).start(site.ports.broker);
    sensors.acknowledged(200).await;
    site.wire.send_replace(Wire::Cut);
    let down = site.wait("leaf link down", |status| status.link.state == "local-only").await;
    assert!(
        complains(&down, &["link: the leaf link to the hub is down", "check the network"]),
        "{:?}",
        down.complaints
    );
    assert_eq!(down.uplink.mode, "offline");
    site.logged(&["WARN", "link down", "the leaf link to the hub is down", "check the network"]).await;
    site.wait("a backlog", |status| status.store.outbox_rows >= 3).await;
    site.wire.send_replace(Wire::Whole);
    site.wait("link up", |status| status.link.state == "up").await;
    for flap in 0..8 {
        // The times are the fault that is played: long enough to connect, or not quite.
        sleep(Duration::from_millis(100 + 150 * (flap % 4))).await;
        site.wire.send_replace(if flap % 2 == 0 { Wire::Cut } else { Wire::Whole });
    }
    site.wire.send_replace(Wire::Whole);
    books.settle(&sensors.finish().await).await;
    let well = |status: &Status| status.complaints.is_empty() && status.store.outbox_rows == 0;
    assert_eq!(site.wait("an empty buffer and nothing to complain of", well).await.link.state, "up");
}

#[tokio::test]
async fn a_link_that_falls_silent_is_noticed_without_a_reset() {
    // Goal: acknowledgements that do not come put the link in doubt, and it is told so. Method: the wire stops carrying.
    let (site, mut books) = Site::start(&toml("")).await;
    let mut sensors = Plan::new("a", 5, 20).start(site.ports.broker);
    sensors.acknowledged(200).await;
    site.wait("a steady link", |status| status.uplink.mode == "normal" && status.uplink.acked_rows >= 4)
        .await;
    site.wire.send_replace(Wire::Silent);
    let silent = site.wait("silence", |status| status.link.state == "local-only").await;
    assert!(
        complains(&silent, &["the hub does not answer", "stalled network path"]),
        "{:?}",
        silent.complaints
    );
    assert!(silent.uplink.doubts >= 1, "{:?}", silent.uplink);
    site.logged(&["WARN", "acknowledgements are missing"]).await;
    site.logged(&["WARN", "link down", "the hub does not answer", "stalled network path"]).await;
    site.wire.send_replace(Wire::Whole);
    site.wait("link up", |status| status.link.state == "up").await;
    books.settle(&sensors.finish().await).await;
}

#[tokio::test]
async fn a_slow_link_is_called_slow_and_loses_nothing() {
    // Goal: the mode says so while acknowledgements lag, and everything arrives. Method: a wire of 1 kB/s, several times
    // that to carry, then a whole one.
    let (site, mut books) =
        Site::start(&toml("").replace("ack_timeout = \"1s\"", "ack_timeout = \"10s\"")).await;
    let mut sensors = Plan::new("a", 200, 500).start(site.ports.broker);
    sensors.acknowledged(200).await;
    site.wire.send_replace(Wire::Slow(1_000));
    let slow = site.wait("slowness", |status| status.uplink.mode == "slow").await;
    assert_eq!(slow.link.state, "up");
    assert!(complains(&slow, &["uplink: the hub acknowledges late"]), "{:?}", slow.complaints);
    site.logged(&["uplink", "to=slow", "the hub acknowledges late"]).await;
    site.wire.send_replace(Wire::Whole);
    books.settle(&sensors.finish().await).await;
}

#[tokio::test]
async fn a_hub_without_jetstream_is_told_from_a_link_that_is_down() {
    // Goal: the reason and the advice name JetStream. Method: the hub restarts without it, and with it again.
    let (mut site, mut books) = Site::start(&toml("")).await;
    let mut sensors = Plan::new("a", 5, 20).start(site.ports.broker);
    sensors.acknowledged(200).await;
    site.stop(Role::Hub, Signal::SIGTERM).await;
    site.write_hub(JetStream::Off, "");
    site.run(Role::Hub).await;
    let without = site.wait("no JetStream", |status| complains(status, &["the hub has no JetStream"])).await;
    assert_eq!(without.link.state, "local-only");
    assert!(
        complains(&without, &["enable JetStream at the hub: jetstream { domain: hub }"]),
        "{:?}",
        without.complaints
    );
    site.logged(&["WARN", "link down", "the hub has no JetStream", "enable JetStream at the hub"]).await;
    site.stop(Role::Hub, Signal::SIGTERM).await;
    site.write_hub(JetStream::On, "");
    site.run(Role::Hub).await;
    site.wait("link up", |status| status.link.state == "up").await;
    books.settle(&sensors.finish().await).await;
}

#[tokio::test]
async fn a_full_stream_at_the_hub_is_waited_for() {
    // Goal: rows are kept, the status and the log say who has to make room, and then everything arrives. Method: a stream
    // of 4 kB that discards what is new, enlarged later.
    let (site, mut books) = Site::start_with(&toml(""), 4_000).await;
    let mut sensors = Plan::new("a", 5, 20).start(site.ports.broker);
    sensors.acknowledged(100).await;
    let full = site.wait("a full hub", |status| status.uplink.refusal.is_some()).await;
    assert!(
        complains(&full, &["hub: JetStream at the hub is full", "make room at the hub"]),
        "{:?}",
        full.complaints
    );
    site.logged(&["WARN", "rows are kept", "JetStream at the hub is full", "make room at the hub"]).await;
    site.wait("refused", |status| status.uplink.mode == "refused by the hub" && status.store.outbox_rows > 1)
        .await;
    books.resize(-1).await;
    books.settle(&sensors.finish().await).await;
    site.logged(&["the hub takes rows again"]).await;
    site.wait("no refusal", |status| {
        status.uplink.refusal.is_none() && status.uplink.mode != "refused by the hub"
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_restarts_or_stays_away_loses_nothing_it_acknowledged() {
    // Goal: the door is down and says why; sensors get no acknowledgement meanwhile; the session is taken up again.
    // Method: a broker with persistence, restarted at once, then gone until hundreds of readings wait at the sensors.
    let (mut site, mut books) = Site::start(&toml("")).await;
    let mut sensors = Plan::new("a", 5, 20).start(site.ports.broker);
    sensors.acknowledged(200).await;
    site.stop(Role::Broker, Signal::SIGTERM).await;
    site.run(Role::Broker).await;
    site.wait("reconnection", |status| status.doors[0].disconnects >= 1 && status.doors[0].is_open()).await;
    sensors.acknowledged(200).await;
    site.stop(Role::Broker, Signal::SIGTERM).await;
    let down = site.wait("door down", |status| status.doors[0].state == "down").await;
    assert!(complains(&down, &["see that the broker runs"]), "{:?}", down.complaints);
    assert!(complains(&down, &["door reading: "]), "{:?}", down.complaints);
    site.logged(&["WARN", "no connection to the broker; retrying"]).await;
    let before = sensors.progress.borrow().acknowledged;
    sensors.measured(500).await;
    assert_eq!(
        sensors.progress.borrow().acknowledged,
        before,
        "nobody acknowledges while the broker is away"
    );
    site.run(Role::Broker).await;
    site.wait_for_doors().await;
    books.settle(&sensors.finish().await).await;
    site.wait("nothing to complain of", |status| status.complaints.is_empty()).await;
}

#[tokio::test]
async fn credentials_that_the_broker_refuses_are_put_right_without_a_restart() {
    // Goal: refused, with the keys to look at; a corrected password file is used at the next attempt, 30 s later. Method: the
    // broker restarts with another password for frond, then the file gets it.
    let mut site = Site::prepare(&toml("")).await;
    let folder = site.folder.display().to_string();
    let toml = toml(&format!("[mqtt.broker]\nusername = \"frond\"\npassword_file = \"{folder}/password\"\n"));
    site.lay_over(&toml);
    site.write("password", "first\n");
    site.write_broker("allow_anonymous false\npassword_file {folder}/users");
    let users = |site: &Site, password: &str| {
        let file = site.folder.join("users");
        site.write("users", &format!("frond:{password}\nsensor:sensor\n"));
        let hashed = std::process::Command::new("mosquitto_passwd").arg("-U").arg(&file).status().unwrap();
        assert!(hashed.success(), "mosquitto_passwd is part of mosquitto");
    };
    users(&site, "first");
    let mut books = site.open().await;
    let mut sensors = Plan::new("a", 5, 20).start(site.ports.broker);
    sensors.acknowledged(200).await;
    site.stop(Role::Broker, Signal::SIGTERM).await;
    users(&site, "second");
    site.run(Role::Broker).await;
    let refused = site.wait("a refusal", |status| status.doors[0].state == "refused").await;
    let advice = "check mqtt.broker.username and mqtt.broker.password_file";
    assert!(complains(&refused, &["does not accept the credentials", advice]), "{:?}", refused.complaints);
    site.logged(&["ERROR", "the broker refuses", "does not accept the credentials", advice]).await;
    site.write("password", "second\n");
    site.wait_for(Duration::from_secs(40), "the door", |status| status.doors[0].is_open()).await;
    books.settle(&sensors.finish().await).await;
}
