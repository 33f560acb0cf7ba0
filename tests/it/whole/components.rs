//! What a plant sees of components that fail too often: quarantine, fallbacks, an operator's word.

use std::fs;
use std::io::Write;

use frond::block::Rows;
use frond::console::Status;
use frond::runtime::Standing;
use frond::sample::Lane;

use super::books::AtHub;
use super::faults::{guest, reading};
use super::sensor::{Plan, publish};
use super::site::{QUICK, Role, STREAM, Site, complains};

/// The stream of the sensors and of the test itself, with a component whose file is the site's own and which is quarantined
/// by its second failure. `keys` are more of its keys.
async fn site(keys: &str) -> Site {
    let site = Site::prepare("").await;
    fs::copy(guest("misbehave"), site.folder.join("guest.wasm")).unwrap();
    configure(&site, "trap", keys);
    site
}

fn configure(site: &Site, mode: &str, keys: &str) {
    let stream = STREAM.replace("\"plant/+/state\"", "\"plant/+/state\", \"own/+/state\"");
    site.lay_over(&format!(
        "{QUICK}[[component]]\nname = \"guest\"\npath = \"{}/guest.wasm\"\ndeadline = \"20s\"\n{keys}\
         quarantine_failures = 2\nconfig = {{ mode = \"{mode}\" }}\n{stream}component = \"guest\"\n",
        site.folder.display()
    ));
}

/// Makes it fail twice. A reading that waits makes it fail again by itself.
async fn quarantine(site: &Site) {
    let standing = |status: &Status| status.pipeline.components["guest"].standing;
    let listed = site.wait("the component", |status| status.pipeline.components.contains_key("guest")).await;
    let before = listed.pipeline.components["guest"].traps;
    publish(site.ports.broker, reading(666)).await;
    let after = |status: &Status| {
        status.pipeline.components["guest"].traps > before && standing(status) != Standing::Restarting
    };
    let status = site.wait("a failure, and what follows", after).await;
    if standing(&status) == Standing::Running {
        publish(site.ports.broker, reading(666)).await;
    }
    let status = site.wait("a quarantine", |status| standing(status) == Standing::Quarantined).await;
    assert!(
        complains(&status, &["component guest is quarantined", "frond component release guest"]),
        "{:?}",
        status.complaints
    );
    site.logged(&["ERROR", "component has failed too often and is quarantined", "guest"]).await;
}

/// Whether it is the alarm about the quarantine, raised or cleared.
fn tells(message: &AtHub, raised: bool) -> bool {
    let Rows::Alarms(alarms) = &message.envelope.rows else { return false };
    let named = |alarm: &frond::block::Alarm| {
        message.envelope.series[&alarm.series].name == "frond/component/guest" && alarm.name == "quarantined"
    };
    message.stamp.origin.lane == Lane::Alarm
        && alarms.iter().any(|alarm| named(alarm) && alarm.active == raised)
}

#[tokio::test]
async fn a_quarantine_reaches_operator_and_hub_and_ends_by_a_word_or_another_file() {
    // Goal: what the documentation says of quarantine. Method: two traps; another file; two traps; the operator's command.
    // The fallback lets readings pass, so that the hub has every one.
    let mut site = site("").await;
    let mut books = site.open().await;
    let mut sensors = Plan::new("a", 5, 20).start(site.ports.broker);
    sensors.acknowledged(100).await;
    quarantine(&site).await;
    books.until("the alarm", |message| tells(message, true)).await;
    assert!(site.frond(&["status", "--config", "frond.toml"]).await.contains("guest: quarantined"));

    // The same code under another digest: a section of its own that says nothing.
    let changed = site.folder.join("changed.wasm");
    fs::copy(guest("misbehave"), &changed).unwrap();
    fs::File::options().append(true).open(&changed).unwrap().write_all(b"\0\x04\x03new").unwrap();
    fs::rename(&changed, site.folder.join("guest.wasm")).unwrap();
    site.wait("the new file at work", |status| {
        status.pipeline.components["guest"].standing == Standing::Running
    })
    .await;
    books.until("the alarm cleared", |message| tells(message, false)).await;

    quarantine(&site).await;
    let refused = site.frond(&["component", "release", "nobody", "--config", "frond.toml"]).await;
    assert_eq!(refused, "");
    let said = site.frond(&["component", "release", "guest", "--config", "frond.toml"]).await;
    assert!(said.contains("component guest is released"), "{said}");
    site.wait("the component", |status| status.pipeline.components["guest"].standing == Standing::Running)
        .await;
    let said = site.frond(&["component", "release", "guest", "--config", "frond.toml"]).await;
    assert_eq!(said, "", "it is not quarantined any more");
    books.settle(&sensors.finish().await).await;
}

#[tokio::test]
async fn readings_held_for_a_component_outlive_a_kill_and_reach_their_windows_in_order() {
    // Goal: with `hold` nothing that the component has not seen reaches the hub, and once it works everything does, into
    // the windows it belongs to, whatever the power does. Method: quarantine; a while; a kill; a configuration under which
    // the fatal reading is none.
    let keys = "fallback = \"hold\"\n";
    let mut site = site(keys).await;
    let mut books = site.open().await;
    let mut sensors = Plan::new("a", 5, 20).start(site.ports.broker);
    sensors.acknowledged(100).await;
    quarantine(&site).await;
    sensors.acknowledged(500).await;
    let held = site.wait("readings held", |status| status.pipeline.components["guest"].held > 500).await;
    let position = held.pipeline.position;
    let held = &held.pipeline.components["guest"];
    assert_eq!((held.passed_by, held.dropped), (0, 0));
    assert!(
        held.hold_dropped <= 1,
        "only the fatal reading itself may have been found and dropped: {held:?}"
    );
    site.wait("a checkpoint", |status| status.store.checkpoint_position >= position).await;
    site.kill(Role::Gateway).await;
    configure(&site, "log-flood", keys);
    site.run(Role::Gateway).await;
    site.wait("everything given out", |status| {
        status
            .pipeline
            .components
            .get("guest")
            .is_some_and(|guest| guest.readings_in > 500 && guest.held == 0)
    })
    .await;
    let verdict = books.settle(&sensors.finish().await).await;
    assert_eq!(verdict.late, 0, "{verdict:?}");
    books.until("the alarm cleared", |message| tells(message, false)).await;
}

#[tokio::test]
async fn readings_dropped_or_held_beyond_the_bound_are_counted() {
    // Goal: every reading that does not go on is counted, and nothing else. Method: `drop`, then `hold` with room for few:
    // what the sensors sent is what the component got, and what was dropped or waits.
    for (keys, held) in
        [("fallback = \"drop\"\n", 0), ("fallback = \"hold\"\nhold_readings_max = 100\n", 100)]
    {
        let mut site = site(keys).await;
        let _books = site.open().await;
        let mut sensors = Plan::new("a", 5, 20).start(site.ports.broker);
        sensors.acknowledged(100).await;
        quarantine(&site).await;
        sensors.acknowledged(300).await;
        drop(sensors.finish().await);
        site.wait("an account of every reading", |status| {
            let guest = &status.pipeline.components["guest"];
            let sent: u64 =
                status.doors.iter().flat_map(|door| door.streams.values()).map(|s| s.readings).sum();
            let told = guest.readings_out + guest.dropped + guest.hold_dropped + guest.held;
            guest.held == held && told == sent && guest.dropped + guest.hold_dropped > 200
        })
        .await;
    }
}
