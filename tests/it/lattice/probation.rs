//! Another version of a component, while it has not proven itself.

use frond::console::Status;
use frond::control::Told;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::time::timeout;

use super::rig::{PATIENCE, Rig};
use super::work::link_press;
use crate::nats::eventually;
use crate::whole::site::Role;

/// A gateway with `press` at work from the first of two files, on a probation of `time` after that.
async fn start(time: &str) -> (Rig, String, String) {
    let mut rig = Rig::start(&format!("[lattice.host]\nprobation = \"{time}\"\n")).await;
    link_press(&rig).await;
    rig.config("press", json!({ "out": "press/out" })).await;
    let (first, second) = (rig.file("postman"), rig.file("successor"));
    let folder = rig.site.folder.join("components");
    std::fs::copy(folder.join("postman.wasm"), folder.join("successor.wasm")).unwrap();
    let scale = json!({ "component_id": "press", "component_ref": first, "count": 1, "config": ["press"] });
    rig.done("component.scale.HOST", &scale).await;
    rig.data("component_scaled").await;
    assert_eq!(rig.request("press.in", "echo first").await, "press.in first");
    (rig, first, second)
}

async fn update(rig: &mut Rig, reference: &str) {
    let update = json!({ "component_id": "press", "host_id": rig.host, "new_component_ref": reference });
    rig.done("component.update.HOST", &update).await;
    assert_eq!(rig.data("component_scaled").await["image_ref"], reference);
}

/// What it was before, as long as it is on probation.
async fn former(rig: &Rig) -> Option<String> {
    let overview = rig.overview().await;
    overview.components.into_iter().find(|one| one.id == "press").and_then(|one| one.former)
}

async fn history(rig: &Rig) -> Vec<String> {
    let socket = frond::console::socket_path(&rig.site.folder.join("run"));
    let told: Vec<Told> =
        frond::console::ask(&socket, frond::console::Request::History { newest: 9 }).await.unwrap();
    told.into_iter().map(|told| told.text).collect()
}

/// Has it fail once.
async fn break_it(rig: &Rig) {
    rig.client.publish("press.in", "trap".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_fails_on_probation_gives_way_to_the_one_before_it() {
    // Goal: an update that breaks after it began is undone by the gateway alone, also when the power was gone in between.
    // Method: a version that opens, works, and then traps, after a SIGKILL; the events, the history,
    // and the old version at work again; the same failure of a version that is not on probation is left to an operator.
    let (mut rig, first, second) = start("1h").await;
    update(&mut rig, &second).await;
    assert_eq!(rig.request("press.in", "echo second").await, "press.in second");
    assert_eq!(former(&rig).await, Some(first.clone()));
    rig.site.kill(Role::Gateway).await;
    rig.site.run(Role::Gateway).await;
    rig.told("host_started", |_| true).await;
    rig.state("press", "ready").await;
    assert_eq!(former(&rig).await, Some(first.clone()), "it is remembered");
    break_it(&rig).await;
    let told = rig.data("component_scale_failed").await;
    assert_eq!(told["image_ref"], second);
    assert_eq!(rig.data("component_scaled").await["image_ref"], first);
    assert_eq!(rig.request("press.in", "echo again").await, "press.in again");
    assert_eq!(
        (former(&rig).await, rig.inventory().await["components"][0]["image_ref"].as_str()),
        (None, Some(&*first))
    );
    let said = &history(&rig).await[0];
    assert!(said.starts_with("component press has failed its probation and is taken back: "), "{said}");

    break_it(&rig).await;
    rig.site.wait("it failed again", |status| status.workloads["press"].traps == 1).await;
    assert_eq!(rig.request("press.in", "echo all the same").await, "press.in all the same");
    assert_eq!(rig.inventory().await["components"][0]["image_ref"], first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_lost_on_probation_gives_way_to_the_one_before_it() {
    // Goal: after a restart the version that is here works, and not none. Method: the file of the version on probation is gone
    // when the gateway starts.
    let (mut rig, first, second) = start("1h").await;
    update(&mut rig, &second).await;
    rig.site.kill(Role::Gateway).await;
    std::fs::remove_file(rig.site.folder.join("components/successor.wasm")).unwrap();
    rig.site.run(Role::Gateway).await;
    rig.told("host_started", |_| true).await;
    assert_eq!(rig.data("component_scale_failed").await["image_ref"], second);
    assert_eq!(rig.data("component_scaled").await["image_ref"], first);
    assert_eq!(rig.request("press.in", "echo again").await, "press.in again");
    assert_eq!(former(&rig).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_works_passes_its_probation() {
    // Goal: the version before it is forgotten once the new one has worked for its time, and no sooner than it was called.
    // Method: a probation of a second; a message; what the history says.
    let (mut rig, first, second) = start("1s").await;
    update(&mut rig, &second).await;
    assert_eq!(former(&rig).await, Some(first));
    assert_eq!(rig.request("press.in", "echo second").await, "press.in second");
    eventually("it has passed", PATIENCE, async || former(&rig).await.is_none()).await;
    assert_eq!(history(&rig).await[0], "component press has passed its probation");
    assert_eq!(rig.inventory().await["components"][0]["image_ref"], second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_one_version_is_handled_by_the_next() {
    // Goal: an update costs the message in hand and no other, and that one is counted. Method: a call that sleeps until it is
    // ended, with three messages behind it; an update; the answers, in order, and the account.
    let (mut rig, first, second) = start("1h").await;
    let patient = json!({
        "component_id": "press", "component_ref": first, "count": 1, "config": ["press"],
        "component_limits": { "max_execution_time": "60" },
    });
    rig.done("component.scale.HOST", &patient).await;
    rig.data("component_scaled").await;
    assert_eq!(rig.request("press.in", "echo again").await, "press.in again");
    rig.client.publish("press.in", "sleep".into()).await.unwrap();
    let inbox = rig.client.new_inbox();
    let mut answers = rig.client.subscribe(inbox.clone()).await.unwrap();
    for n in 0..3 {
        let text = format!("echo {n}");
        rig.client.publish_with_reply("press.in", inbox.clone(), text.into()).await.unwrap();
    }
    let before = rig.site.wait("all of them wait", |status| status.workloads["press"].received == 5).await;
    let before = &before.workloads["press"];
    assert_eq!((before.handled, before.lost), (1, 0), "the first of them sleeps");
    update(&mut rig, &second).await;
    for n in 0..3 {
        let answer = timeout(PATIENCE, answers.next()).await.expect("an answer in time").unwrap();
        assert_eq!(answer.payload, format!("press.in {n}"));
    }
    let handled = |status: &Status| status.workloads["press"].handled == 3;
    let after = rig.site.wait("they are handled", handled).await;
    let after = &after.workloads["press"];
    assert_eq!((after.received, after.lost, after.dropped), (4, 1, 0));
}
