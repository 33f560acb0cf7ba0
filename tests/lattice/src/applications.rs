//! An application's life, as wadm drives it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bus::control;
use crate::controller::{Controller, desk, here, link};
use crate::sensor::Sensor;
use crate::site::{LATTICE, PATIENCE, Role, Site, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wadm_deploys_scales_updates_and_undeploys_an_application() {
    // Goal: an ordinary manifest describes a gateway's application. Method: a component, an MQTT link each way and their
    // configuration; more instances; another image; another one with another provider and configuration; then nothing. A
    // sensor says whether it works, the gateway's inventory what there is, wadm's status whether wadm is content.
    let mut site = Site::prepare("").await;
    let wadm = Controller::start(&site).await;
    site.run(Role::Gateway).await;
    wadm.discovers().await;
    let mut sensor = Sensor::connect(site.mqtt, &["press/#"]);
    let desk1 = site.reference("desk");

    wadm.deploy(&desk("v1", &desk1, 1, "press/out")).await;
    sensor.is_answered("orders/a", "echo hello", ("press/out", "orders/a hello")).await;
    wadm.reaches("desk", "deployed", PATIENCE).await;
    let inventory = inventory(&site).await;
    let press = &inventory["components"][0];
    assert_eq!((&press["id"], &press["image_ref"]), (&json!("desk-press"), &json!(desk1)));
    assert_eq!(press["max_instances"], 1);
    assert_eq!(press["annotations"]["wasmcloud.dev/managed-by"], "wadm");
    assert_eq!(press["annotations"]["wasmcloud.dev/appspec"], "desk");
    let mqtt = &inventory["providers"][0];
    assert_eq!((&mqtt["id"], &mqtt["image_ref"]), (&json!("desk-mqtt"), &json!("frond+builtin://mqtt")));

    wadm.deploy(&desk("v2", &desk1, 5, "press/out")).await;
    has_component(&site, &desk1, 5).await;
    wadm.reaches("desk", "deployed", PATIENCE).await;
    sensor.is_answered_once("press/out").await;

    // With the image wadm deletes the configuration, which is the same in both: it has to come back.
    let desk2 = site.reference("desk2");
    wadm.deploy(&desk("v3", &desk2, 5, "press/out")).await;
    has_component(&site, &desk2, 5).await;
    sensor.is_answered("orders/a", "echo anew", ("press/out", "orders/a anew")).await;
    let control = control(&site.client().await, Duration::from_secs(1));
    eventually("the configuration is back", PATIENCE, async || {
        control.get_config("desk-answers").await.unwrap().data().is_some()
    })
    .await;
    wadm.reaches("desk", "deployed", PATIENCE).await;

    let clerk = site.reference("clerk");
    wadm.deploy(&ledger("v4", &clerk)).await;
    has_component(&site, &clerk, 2).await;
    sensor.is_answered("orders/a", "put n 3", ("press/ledger", "done")).await;
    sensor.is_answered("orders/a", "get n", ("press/ledger", "3")).await;
    wadm.reaches("desk", "deployed", PATIENCE).await;

    wadm.undeploy("desk").await;
    eventually("nothing of it is left", PATIENCE, async || {
        let inventory = self::inventory(&site).await;
        let links = control.get_links().await.unwrap().into_data().unwrap();
        (&inventory["components"], &inventory["providers"], links.len()) == (&json!([]), &json!([]), 0)
    })
    .await;
    for name in ["desk-answers", "desk-messaging-source", "desk-messaging-target", "desk-keyvalue-target"] {
        eventually(&format!("configuration {name} is gone"), PATIENCE, async || {
            control.get_config(name).await.unwrap().data().is_none()
        })
        .await;
    }
    wadm.reaches("desk", "undeployed", PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifest_in_readme_is_deployed_as_it_stands() {
    // Goal: whoever copies it gets what is promised there. Method: the only YAML of the section, with the folder of the test
    // in place of the gateway's; a sensor's question.
    let readme = include_str!("../../../README.md");
    let section = readme.split("### Managing a gateway with wash and wadm").nth(1).unwrap();
    let manifest = section.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let mut site = Site::prepare("").await;
    let image = "file:///usr/share/frond/components/desk.wasm";
    assert!(manifest.contains(image), "README says where components are");
    let wadm = Controller::start(&site).await;
    site.run(Role::Gateway).await;
    wadm.discovers().await;
    wadm.deploy_text("desk", &manifest.replace(image, &site.reference("desk"))).await;
    let mut sensor = Sensor::connect(site.mqtt, &["press/#"]);
    sensor.is_answered("orders/a", "echo hello", ("press/out", "orders/a hello")).await;
    wadm.reaches("desk", "deployed", PATIENCE).await;
}

/// The gateway's inventory, as the control interface reads it.
pub async fn inventory(site: &Site) -> Value {
    let control = control(&site.client().await, Duration::from_millis(300));
    let mut hosts = Vec::new();
    eventually("a host answers", PATIENCE, async || {
        hosts = control.get_hosts().await.unwrap();
        !hosts.is_empty()
    })
    .await;
    let host = hosts[0].data().unwrap();
    assert_eq!((hosts.len(), host.lattice()), (1, LATTICE));
    let inventory = control.get_host_inventory(host.id()).await.unwrap().into_data().unwrap();
    serde_json::to_value(inventory).unwrap()
}

async fn has_component(site: &Site, image: &str, limit: u32) {
    let mut seen = Value::Null;
    eventually(&format!("{image} with {limit} instances"), PATIENCE, async || {
        seen = inventory(site).await["components"].take();
        let one = &seen[0];
        seen.as_array().unwrap().len() == 1 && one["image_ref"] == image && one["max_instances"] == limit
    })
    .await;
}

/// The application, with a component that keeps values and a provider that keeps them.
fn ledger(version: &str, image: &str) -> Value {
    let mut manifest = desk(version, image, 2, "press/ledger");
    let components = manifest["spec"]["components"].as_array_mut().unwrap();
    let keyvalue = link("kv", "wasi:keyvalue", "store", "target", json!({ "keys_max": "100" }));
    components[0]["traits"].as_array_mut().unwrap().push(keyvalue);
    components.push(json!({
        "name": "kv",
        "type": "capability",
        "properties": { "image": "frond+builtin://keyvalue-sqlite" },
        "traits": [here(1)],
    }));
    manifest
}
