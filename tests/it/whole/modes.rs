//! What the configuration chooses: how durable a stream is, whose clock counts, and a hub without a leaf between.

use std::path::Path;
use std::time::Duration;

use async_nats::ConnectOptions;
use frond::block::{Rows, WireClock};
use frond::sample::SECOND;
use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::books::{AtHub, Books};
use super::sensor::Plan;
use super::site::{JetStream, QUICK, Role, STREAM, Site, complains};
use super::wire::Wire;

/// A checkpoint every five seconds.
const RARE: &str = r#"
[journal]
commit_interval = "100ms"
checkpoint_interval_min = "5s"
checkpoint_interval = "5s"
"#;

#[tokio::test]
async fn a_window_stream_is_acknowledged_by_its_checkpoint_and_survives_a_kill_before_it() {
    // Goal: what is in no checkpoint is not acknowledged, so that the broker has it still. Method: checkpoints every five
    // seconds; between two of them readings come in, none is acknowledged, and the gateway is killed.
    let (mut site, mut books) = Site::start(&format!("{RARE}{STREAM}durability = \"window\"\n")).await;
    let mut sensors = Plan::new("a", 5, 20).start(site.ports.broker);
    sensors.acknowledged(100).await;
    let position = site.status().await.unwrap().store.checkpoint_position;
    let status = site.wait("a checkpoint", |status| status.store.checkpoint_position > position).await;
    // What the checkpoint has let go is on the broker's record within a moment.
    let mut before = usize::MAX;
    while before != site.acknowledged("window") {
        before = site.acknowledged("window");
        sleep(Duration::from_millis(700)).await;
    }
    assert!(before > 0, "the checkpoint has acknowledged something");
    let taken = site.status().await.unwrap().pipeline.readings;
    site.wait("readings between two checkpoints", |status| status.pipeline.readings > taken + 300).await;
    let acknowledged = site.acknowledged("window");
    let now = site.status().await.unwrap().store.checkpoint_position;
    assert_eq!(now, status.store.checkpoint_position, "no checkpoint came in between");
    assert_eq!(acknowledged, before, "nothing is acknowledged before its checkpoint");
    site.kill(Role::Gateway).await;
    site.run(Role::Gateway).await;
    site.wait_for_doors().await;
    sensors.acknowledged(100).await;
    let verdict = books.settle(&sensors.finish().await).await;
    assert!(verdict.sent > 400);
    assert!(site.acknowledged("window") > before);
}

#[tokio::test]
async fn a_stream_without_durability_is_acknowledged_at_once() {
    // Goal: no acknowledgement waits for a commit. Method: commits every twenty seconds, and acknowledgements before one.
    let toml = format!("{RARE}{STREAM}durability = \"none\"\n")
        .replace("commit_interval = \"100ms\"", "commit_interval = \"10s\"");
    let (site, mut books) = Site::start(&toml).await;
    let commits = site.status().await.unwrap().store.commits;
    let mut sensors = Plan::new("a", 5, 20).start(site.ports.broker);
    sensors.acknowledged(200).await;
    let told = async {
        while site.acknowledged("none") < 200 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), told).await.expect("acknowledgements come at once");
    assert_eq!(site.status().await.unwrap().store.commits, commits, "before any commit");
    books.settle(&sensors.finish().await).await;
}

/// A window of 200 ms holds readings of that time, and a little more on a busy machine.
const KEPT_MS: f64 = 500.0;

/// How far the times of a message's windows are behind the system's clock: `ts`, a reading itself, tells it. `None` if the
/// window holds readings that the broker had kept: those arrived late.
fn behind(message: &AtHub) -> Option<i64> {
    let Rows::Windows { rows, .. } = &message.envelope.rows else { return None };
    let row = rows.iter().find(|row| message.envelope.series[&row.series].name.ends_with("/ts"))?;
    let kept = row.max.as_f64() - row.min.as_f64() > KEPT_MS;
    (!kept).then(|| row.first.as_f64() as i64 * 1_000_000 - row.start)
}

fn estimated(message: &AtHub) -> bool {
    matches!(message.envelope.clock, WireClock::Estimated { .. })
}

#[tokio::test]
async fn times_are_estimates_until_the_clock_is_trusted_and_then_corrected() {
    // Goal: the life of a gateway without a clock: estimates are marked, one estimate holds for the boot over a kill, what
    // has not left is corrected, what comes later needs no correction. Method: the file that makes the clock trusted comes
    // while the link is cut; each reading's value is the system's time.
    let mut site = Site::prepare("").await;
    let file = site.folder.join("synchronized");
    site.lay_over(&format!(
        "{QUICK}[clock]\ntrust = \"synchronized\"\nsynchronized_file = \"{}\"\n[[stream]]\nname = \"machines\"\n\
         topics = [\"plant/+/state\"]\nreduce = {{ window = \"200ms\", lateness = \"200ms\" }}\n",
        file.display()
    ));
    let mut books = site.open().await;
    let mut sensors = Plan::new("a", 2, 50).start(site.ports.broker);
    let first = books.until("an estimate", |message| estimated(message) && behind(message).is_some()).await;
    assert_eq!(first.stamp.clock_correction, None, "nothing is known yet");
    assert!(!site.status().await.unwrap().clock_trusted);
    let said = site.frond(&["status", "--config", "frond.toml"]).await;
    assert!(said.contains("clock not trusted yet"), "{said}");

    site.kill(Role::Gateway).await;
    // Long enough to tell one estimate from another.
    sleep(Duration::from_secs(2)).await;
    books.read().await;
    let last = books.messages.iter().map(|message| message.stamp.seq).max().unwrap();
    site.run(Role::Gateway).await;
    site.wait_for_doors().await;
    let offset = behind(&first).unwrap();
    let same = |message: &AtHub| {
        let of = behind(message).filter(|_| message.stamp.seq > last && estimated(message));
        of.is_some_and(|behind| (behind - offset).abs() < SECOND)
    };
    // Outputs made before the kill may still come: a few more than those is enough.
    sensors.acknowledged(60).await;
    books.until("the same estimate after the kill", same).await;
    site.wire.send_replace(Wire::Cut);
    site.wait("a backlog", |status| status.store.outbox_rows >= 5 && status.link.state != "up").await;
    books.read().await;
    let uncorrected = books.messages.len();
    std::fs::write(&file, "").unwrap();
    site.wait("trust", |status| status.clock_trusted).await;
    site.logged(&["INFO", "clock is trusted; estimated times of this boot"]).await;
    site.wire.send_replace(Wire::Whole);
    let arrival = books.until("a trusted time", |message| message.envelope.clock == WireClock::Arrival).await;
    assert!(behind(&arrival).is_none_or(|behind| behind.abs() < SECOND));
    assert!(books.messages[..uncorrected].iter().all(|m| estimated(m) && m.stamp.clock_correction.is_none()));
    // What was in flight when the link was cut goes again as it went before.
    let estimates = books.messages[uncorrected..].iter().filter(|m| estimated(m));
    let corrected: Vec<&AtHub> = estimates.skip_while(|m| m.stamp.clock_correction.is_none()).collect();
    assert!(corrected.len() >= 3, "estimates that had not left: {}", corrected.len());
    for message in corrected {
        let correction = message.stamp.clock_correction.expect("it is known");
        let Some(behind) = behind(message) else { continue };
        let error = behind - correction;
        assert!(error.abs() < SECOND, "still {error} ns behind");
    }
    let said = site.frond(&["status", "--config", "frond.toml"]).await;
    assert!(said.contains("clock trusted"), "{said}");
    sensors.finish().await;
}

#[tokio::test]
async fn a_hub_is_reached_without_a_leaf_and_its_refusals_are_told() {
    // Goal: direct mode carries everything, tells a hub that is away from one that wants credentials, and comes back by
    // itself. Method: a hub on loopback, stopped, started with a password, then without.
    let mut site = Site::prepare("").await;
    site.lay_over(&format!(
        "{QUICK}{STREAM}[lattice]\nmode = \"direct\"\n[lattice.direct]\nurl = \"nats://127.0.0.1:{}\"\n",
        site.ports.hub
    ));
    let mut books = site.open().await;
    let mut sensors = Plan::new("a", 5, 20).start(site.ports.broker);
    sensors.acknowledged(200).await;
    site.stop(Role::Hub, Signal::SIGTERM).await;
    let away = site
        .wait("unreachable", |status| complains(status, &["link: the hub at 127.0.0.1", "cannot be reached"]))
        .await;
    assert_eq!(away.link.state, "connecting");
    site.logged(&["WARN", "link down", "cannot be reached", "check the network and lattice.direct.url"])
        .await;
    site.write_hub(JetStream::On, "authorization { user: somebody, password: else }");
    site.run(Role::Hub).await;
    let refused = site.wait("a refusal", |status| status.link.state == "refused").await;
    assert!(
        complains(&refused, &["does not accept the credentials", "set the credentials file"]),
        "{:?}",
        refused.complaints
    );
    site.logged(&["ERROR", "link refused", "does not accept the credentials"]).await;
    site.stop(Role::Hub, Signal::SIGTERM).await;
    site.write_hub(JetStream::On, "");
    site.run(Role::Hub).await;
    site.wait("link up", |status| status.link.state == "up").await;
    books.settle(&sensors.finish().await).await;
}

#[tokio::test]
async fn a_hub_behind_tls_is_reached_with_certificates_and_a_wrong_authority_is_told() {
    // Goal: TLS both ways in direct mode; an authority that does not vouch for the hub is a refusal that says what to check,
    // and a corrected file is used without a restart. Method: throw-away certificates, first another authority's.
    let mut site = Site::prepare("").await;
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/whole/throwaway");
    let put = |from: &Path, to: &str| std::fs::copy(from, site.folder.join(to)).unwrap();
    for file in ["ca.pem", "hub.pem", "hub-key.pem", "gateway.pem", "gateway-key.pem"] {
        put(&kept.join(file), file);
    }
    put(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/hub-ca.pem"), "trusted.pem");
    let folder = site.folder.display();
    site.lay_over(&format!(
        "{QUICK}{STREAM}[lattice]\nmode = \"direct\"\n[lattice.direct]\nurl = \"tls://127.0.0.1:{}\"\nca = \"{folder}/trusted.pem\"\n\
         certificate = \"{folder}/gateway.pem\"\nkey = \"{folder}/gateway-key.pem\"\n",
        site.ports.hub
    ));
    let tls = "tls { cert_file: \"hub.pem\", key_file: \"hub-key.pem\", ca_file: \"ca.pem\", verify: true }";
    site.write_hub(JetStream::On, tls);
    for role in [Role::Broker, Role::Hub, Role::Gateway] {
        site.run(role).await;
    }
    site.wait_for_doors().await;
    let refused = site.wait("a refusal", |status| status.link.state == "refused").await;
    assert!(
        complains(&refused, &["no TLS session with 127.0.0.1", "check lattice.direct.ca"]),
        "{:?}",
        refused.complaints
    );
    site.logged(&["ERROR", "link refused", "no TLS session", "check lattice.direct.ca"]).await;
    let mut sensors = Plan::new("a", 5, 20).start(site.ports.broker);
    sensors.acknowledged(100).await;
    std::fs::copy(site.folder.join("ca.pem"), site.folder.join("trusted.pem")).unwrap();
    // Another test of this process may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = ConnectOptions::new()
        .add_root_certificates(site.folder.join("ca.pem"))
        .add_client_certificate(site.folder.join("gateway.pem"), site.folder.join("gateway-key.pem"))
        .require_tls(true)
        .connect(format!("tls://127.0.0.1:{}", site.ports.hub))
        .await
        .unwrap();
    let mut books = Books::open(client, -1).await;
    site.wait("link up", |status| status.link.state == "up").await;
    books.settle(&sensors.finish().await).await;
}
