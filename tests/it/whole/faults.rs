//! Components in the path of a whole gateway, and a buffer that is full.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use frond::block::Rows;
use frond::platform::clock;
use frond::sample::Lane;
use tokio::time::sleep;

use super::sensor::{Plan, publish};
use super::site::{QUICK, STREAM, Site, complains};
use super::wire::Wire;

pub fn guest(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let path = target.join("guests/wasm32-wasip2/release").join(name).with_extension("wasm");
    assert!(path.exists(), "{} is not there: run `just guests` first", path.display());
    path
}

/// Streams with a component: the sensors' topics and one more for what the test itself sends.
fn with_component(name: &str, config: &str) -> String {
    let stream = STREAM.replace("\"plant/+/state\"", "\"plant/+/state\", \"own/+/state\"");
    format!(
        "{QUICK}[[component]]\nname = \"{name}\"\npath = \"{}\"\ndeadline = \"20s\"\nconfig = {{ {config} }}\n{stream}component = \"{name}\"\n",
        guest(name).display()
    )
}

pub fn reading(value: u64) -> Vec<(String, Vec<u8>)> {
    let payload = format!(r#"{{"ts":{},"v":{value}}}"#, clock::realtime() / 1_000_000);
    vec![("own/a/state".to_owned(), payload.into_bytes())]
}

#[tokio::test]
async fn an_alarm_reaches_the_hub_ahead_of_a_backlog() {
    // Goal: the shipped component's alarm takes its own lane. Method: the link is cut, a backlog grows, an alarm is raised,
    // and the link comes back slow: the alarm is first, or nearly.
    let (site, mut books) = Site::start(&with_component("limits", "high = \"own/*: 50\"")).await;
    let mut sensors = Plan::new("a", 50, 100).start(site.ports.broker);
    sensors.acknowledged(100).await;
    site.wait("readings through the component", |status| {
        status.pipeline.components.get("limits").is_some_and(|limits| limits.readings_out > 0)
    })
    .await;
    site.wire.send_replace(Wire::Cut);
    site.wait("a backlog", |status| status.store.outbox_rows >= 10 && status.link.state != "up").await;
    books.read().await;
    let before = books.messages.len();
    publish(site.ports.broker, reading(77)).await;
    let position = site.wait("an alarm", |status| status.pipeline.alarms >= 1).await.pipeline.position;
    site.wait("the alarm in the buffer", |status| status.store.checkpoint_position >= position).await;
    site.wire.send_replace(Wire::Whole);
    books.settle(&sensors.finish().await).await;
    let at = books.messages.iter().position(|message| message.stamp.origin.lane == Lane::Alarm);
    let at = at.expect("the alarm is at the hub");
    let Rows::Alarms(alarms) = &books.messages[at].envelope.rows else {
        panic!("an alarm is in the alarm lane")
    };
    assert_eq!((alarms[0].value, alarms[0].active, &*alarms[0].name), (77.0, true, "high"));
    assert!(at <= before + 2, "the alarm is number {at}, the backlog begins at {before}");
    assert!(books.messages.len() >= before + 10, "there was a backlog");
}

#[tokio::test]
async fn a_component_that_traps_is_passed_by_counted_and_complained_of() {
    // Goal: the stream goes on and is complete. Method: the guest that traps on the value 666, and sensors that go on.
    let (site, mut books) = Site::start(&with_component("misbehave", "mode = \"trap\"")).await;
    let mut sensors = Plan::new("a", 5, 20).start(site.ports.broker);
    sensors.acknowledged(100).await;
    publish(site.ports.broker, reading(666)).await;
    let status = site
        .wait("a trap", |status| {
            status.pipeline.components.get("misbehave").is_some_and(|guest| guest.traps >= 1)
        })
        .await;
    assert!(status.pipeline.components["misbehave"].passed_by >= 1);
    assert!(complains(&status, &["component misbehave failed", "passed it by"]), "{:?}", status.complaints);
    site.logged(&["WARN", "component discarded, its readings pass through", "misbehave"]).await;
    site.wait("a new instance", |status| status.pipeline.components["misbehave"].restarts >= 1).await;
    books.settle(&sensors.finish().await).await;
}

#[tokio::test]
async fn a_component_that_is_not_there_is_complained_of_and_taken_when_it_is() {
    // Goal: a gateway whose component cannot be opened works, says why readings pass it by, and takes it once it can be.
    // Method: a file that is no component, then one that is; the first pause is half a minute.
    let mut site = Site::prepare("").await;
    site.write("broken.wasm", "this is no component");
    site.lay_over(&format!(
        "{QUICK}[[component]]\nname = \"broken\"\npath = \"{}/broken.wasm\"\n{STREAM}component = \"broken\"\n",
        site.folder.display()
    ));
    let mut books = site.open().await;
    let mut sensors = Plan::new("a", 5, 20).start(site.ports.broker);
    sensors.acknowledged(100).await;
    site.wait("a complaint", |status| {
        complains(status, &["component broken does not run", "readings have passed it by", "tried again"])
    })
    .await;
    site.logged(&["ERROR", "component cannot be opened; readings pass it by", "broken"]).await;
    std::fs::copy(guest("misbehave"), site.folder.join("broken.wasm")).unwrap();
    site.wait_for(Duration::from_secs(90), "the component", |status| {
        let component = &status.pipeline.components["broken"];
        component.absent.is_none() && component.calls > 0 && component.passed_by > 0
    })
    .await;
    books.settle(&sensors.finish().await).await;
}

/// Some 60 kB a second of windows.
fn flood(full: &str) -> String {
    format!(
        "{QUICK}{}full = \"{full}\"\noutbox_bytes_max = \"64KiB\"\n",
        STREAM.replace("window = \"1s\"", "window = \"100ms\"")
    )
}

#[tokio::test]
async fn what_a_full_buffer_drops_is_counted_and_the_hole_is_explained_at_the_hub() {
    // Goal: sequences missing at the hub are as many as the gateway says it dropped, no more. Method: 64 KiB for a stream that
    // makes more while the link is cut.
    let (site, mut books) = Site::start(&flood("drop-oldest")).await;
    let mut sensors = Plan::new("a", 300, 100).start(site.ports.broker);
    sensors.acknowledged(300).await;
    site.wire.send_replace(Wire::Cut);
    let dropped = site.wait("drops", |status| status.store.outbox_dropped >= 5).await;
    assert!(dropped.store.outbox_bytes <= 64 << 10);
    site.logged(&[
        "ERROR",
        "buffer is full; the oldest outputs are dropped and counted",
        "raise outbox.bytes_max",
    ])
    .await;
    site.wire.send_replace(Wire::Whole);
    let ledger = sensors.finish().await;
    let status = site
        .wait("an empty buffer", |status| status.store.outbox_rows == 0 && status.link.state == "up")
        .await;
    books.read().await;
    // What was lost on the wire is sent again behind what came through, so the last sequence need not come last.
    let seqs: BTreeSet<u64> = books.messages.iter().map(|message| message.stamp.seq).collect();
    let last = books.messages.iter().max_by_key(|message| message.stamp.seq).unwrap();
    assert_eq!(seqs.len(), books.messages.len(), "each once");
    let missing = last.stamp.seq - seqs.len() as u64;
    assert_eq!(missing, last.stamp.dropped, "the hole is explained");
    assert_eq!(missing, status.store.outbox_dropped);
    let verdict = books.verdict(&ledger);
    assert_eq!(verdict.counted_twice, 0);
    assert!(verdict.lost > 0, "what was dropped is not at the hub");
}

#[tokio::test]
async fn a_full_buffer_that_rejects_makes_the_broker_wait_and_loses_nothing() {
    // Goal: nothing is dropped, nothing is acknowledged, the status says so, and all is told once the link is back. Method: as
    // above, with "reject".
    let (site, mut books) = Site::start(&flood("reject")).await;
    let mut sensors = Plan::new("a", 300, 100).start(site.ports.broker);
    sensors.acknowledged(300).await;
    site.wire.send_replace(Wire::Cut);
    let full = site.wait("rejection", |status| status.store.rejecting).await;
    assert!(complains(&full, &["buffer is full", "messages are not taken"]), "{:?}", full.complaints);
    site.logged(&["WARN", "buffer is full; messages are not taken", "raise outbox.bytes_max"]).await;
    // What was already on its way is acknowledged within a moment.
    sleep(Duration::from_millis(500)).await;
    let acknowledged = site.acknowledged("reading");
    sensors.measured(1_500).await;
    assert_eq!(
        site.acknowledged("reading"),
        acknowledged,
        "nothing is acknowledged while the buffer is full"
    );
    site.wire.send_replace(Wire::Whole);
    site.wait("room", |status| !status.store.rejecting).await;
    books.settle(&sensors.finish().await).await;
    assert_eq!(site.status().await.unwrap().store.outbox_dropped, 0);
}
