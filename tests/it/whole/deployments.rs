//! Another version of a component on a whole gateway: under load, taken back, and killed in every phase.

use std::fs;

use frond::console::Status;
use frond::runtime::{DeploymentStats, How, Stage};

use super::faults::{guest, reading};
use super::sensor::{Plan, publish};
use super::site::{QUICK, Role, STREAM, Site, complains};

/// The value on which `successor` traps.
const TRIGGER: u64 = 777;

/// The sensors' stream and the test's own, with a component whose file is the site's own. `keys` are more of its keys.
async fn site(keys: &str) -> Site {
    let site = Site::prepare("").await;
    for name in ["misbehave", "successor"] {
        fs::copy(guest(name), site.folder.join(name).with_extension("wasm")).unwrap();
    }
    let stream = STREAM.replace("\"plant/+/state\"", "\"plant/+/state\", \"own/+/state\"");
    site.lay_over(&format!(
        "{QUICK}[[component]]\nname = \"guest\"\npath = \"{}/misbehave.wasm\"\ndeadline = \"20s\"\n{keys}{stream}\
         component = \"guest\"\n",
        site.folder.display()
    ));
    site
}

fn deployment(status: &Status) -> Option<&DeploymentStats> {
    status.pipeline.components.get("guest")?.deployment.as_ref()
}

async fn until_stage(site: &Site, stage: Stage) -> DeploymentStats {
    let here = |status: &Status| deployment(status).is_some_and(|one| one.stage == stage);
    deployment(&site.wait(&format!("{stage:?}"), here).await).unwrap().clone()
}

async fn until_ended(site: &Site, how: How) -> DeploymentStats {
    let ended = |status: &Status| {
        deployment(status).is_some_and(|one| one.stage == Stage::Current && one.last == Some(how))
    };
    deployment(&site.wait(&format!("{how:?}"), ended).await).unwrap().clone()
}

async fn deploy(site: &Site, arguments: &[&str]) -> String {
    let mut all = vec!["component", "deploy", "guest", "successor.wasm", "--config", "frond.toml"];
    all.extend(arguments);
    site.frond(&all).await
}

#[tokio::test]
async fn a_new_version_comes_to_work_under_load_without_a_reading_lost() {
    // Goal: what the documentation promises of a deployment, from the operator's command to its confirmation and over a
    // restart. Method: sensors that go on all the while; their ledger in the end, and the component's own count.
    let mut site = site("trial = \"2s\"\nprobation = \"2s\"\n").await;
    let mut books = site.open().await;
    let mut sensors = Plan::new("a", 50, 20).start(site.ports.broker);
    sensors.acknowledged(500).await;
    let said = deploy(&site, &[]).await;
    assert!(said.contains("on trial") && said.contains("at work, on probation"), "{said}");
    let probation = until_stage(&site, Stage::Probation).await;
    assert!(probation.switch_us.unwrap() < 100_000, "less than a commit interval: {probation:?}");
    println!("the switch took {} us", probation.switch_us.unwrap());
    let confirmed = until_ended(&site, How::Confirmed).await;
    assert_eq!((confirmed.begun, confirmed.confirmed, confirmed.deployed), (1, 1, true));
    assert!(
        site.frond(&["status", "--config", "frond.toml"])
            .await
            .contains("confirmed: it has passed its probation")
    );
    site.logged(&["new version of a component is at work", "guest"]).await;
    sensors.acknowledged(500).await;
    let status = site.status().await.unwrap();
    let component = &status.pipeline.components["guest"];
    assert_eq!((component.passed_by, component.traps, component.readings_in), (0, 0, component.readings_out));
    site.kill(Role::Gateway).await;
    site.run(Role::Gateway).await;
    assert!(until_stage(&site, Stage::Current).await.deployed, "it is there after a kill");
    let verdict = books.settle(&sensors.finish().await).await;
    assert_eq!(verdict.late, 0, "{verdict:?}");
}

#[tokio::test]
async fn a_version_that_fails_on_probation_goes_without_a_reading_lost() {
    // Goal: its first failure brings the old version back, nothing passes it by, and the operator is told what happened, what
    // was lost and what to do. Method: a reading on which it traps, among those of sensors that go on.
    let mut site = site("trial_batches = 2\nprobation = \"1h\"\n").await;
    let mut books = site.open().await;
    let mut sensors = Plan::new("a", 50, 20).start(site.ports.broker);
    sensors.acknowledged(200).await;
    deploy(&site, &[]).await;
    until_stage(&site, Stage::Probation).await;
    sensors.acknowledged(500).await;
    publish(site.ports.broker, reading(TRIGGER)).await;
    let ended = until_ended(&site, How::RolledBack).await;
    assert!(ended.last_why.unwrap().starts_with("trap"));
    site.logged(&["ERROR", "failed on probation, no reading is lost", "deploy it again", "guest"]).await;
    sensors.acknowledged(500).await;
    let status = site.status().await.unwrap();
    let component = &status.pipeline.components["guest"];
    assert_eq!((component.passed_by, component.dropped, component.traps), (0, 0, 1), "{component:?}");
    assert!(!complains(&status, &["guest"]), "{:?}", status.complaints);
    assert!(site.frond(&["status", "--config", "frond.toml"]).await.contains("was taken back: trap"));
    let verdict = books.settle(&sensors.finish().await).await;
    assert_eq!(verdict.late, 0, "{verdict:?}");
}

#[tokio::test]
async fn a_kill_in_any_phase_of_a_deployment_loses_no_reading() {
    // Goal: the next start is in the phase of the last checkpoint, or with the old version. Method: a kill while the new
    // version is being opened, on trial, and on probation, while sensors go on; in the end an operator takes it back.
    let mut site = site("trial = \"3s\"\ntrial_batches = 1000000\nprobation = \"1h\"\n").await;
    let mut books = site.open().await;
    let mut sensors = Plan::new("a", 20, 20).start(site.ports.broker);
    sensors.acknowledged(200).await;
    deploy(&site, &["--detach"]).await;
    site.kill(Role::Gateway).await;
    site.run(Role::Gateway).await;
    site.wait_for_doors().await;
    site.wait("the component", |status| status.pipeline.components.contains_key("guest")).await;
    // The order is forgotten, or the trial begins, as the kill came before or after the file was on the shelf.
    let status = site.status().await.unwrap();
    if deployment(&status).is_none_or(|one| one.stage == Stage::Current) {
        deploy(&site, &["--detach"]).await;
    }
    let trial = until_stage(&site, Stage::Trial).await;
    sensors.acknowledged(200).await;
    site.kill(Role::Gateway).await;
    site.run(Role::Gateway).await;
    let again = until_stage(&site, Stage::Trial).await;
    assert_eq!(again.beside, trial.beside, "the same version");
    let before = until_stage(&site, Stage::Probation).await;
    sensors.acknowledged(200).await;
    site.kill(Role::Gateway).await;
    site.run(Role::Gateway).await;
    let after = until_stage(&site, Stage::Probation).await;
    assert_eq!((&after.at_work, &after.beside), (&before.at_work, &before.beside), "both versions");
    sensors.acknowledged(200).await;
    let said = site.frond(&["component", "rollback", "guest", "--config", "frond.toml"]).await;
    assert!(said.contains("the version before is back at work, with its state"), "{said}");
    until_ended(&site, How::RolledBack).await;
    sensors.acknowledged(200).await;
    let verdict = books.settle(&sensors.finish().await).await;
    assert_eq!(verdict.late, 0, "{verdict:?}");
}
