//! Components of the lattice at work: started, linked, scaled, updated, stopped, and taken back when they do not work.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::rig::{PATIENCE, Rig};
use crate::nats::eventually;
use crate::whole::site::Role;
use crate::workload::{Client, guest};

/// Providers and links by which `press` is asked on the lattice and on site.
pub async fn link_press(rig: &Rig) {
    for (id, reference) in [
        ("nats", "wasmcloud+builtin://messaging-nats"),
        ("mqtt", "frond+builtin://mqtt"),
        ("kv", "frond+builtin://keyvalue-sqlite"),
    ] {
        let start = json!({ "provider_id": id, "provider_ref": reference, "host_id": rig.host });
        rig.done("provider.start.HOST", &start).await;
    }
    rig.config("asked", json!({ "subscriptions": "press.in" })).await;
    rig.config("orders", json!({ "topics": "orders/#" })).await;
    rig.config("replies", json!({ "topics": "press/out" })).await;
    rig.link("nats", "press", "wasmcloud:messaging", "handler", json!(["asked"])).await;
    rig.link("mqtt", "press", "wasmcloud:messaging", "handler", json!(["orders"])).await;
    rig.link("press", "mqtt", "wasmcloud:messaging", "consumer", json!(["replies"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_is_started_scaled_updated_and_stopped_by_the_lattice() {
    // Goal: the whole life of a component as wash and wadm drive it, with events that echo annotations and references byte
    // for byte, and a component that does work. Method: literal requests; messages over the lattice and over MQTT.
    let mut rig = Rig::start("").await;
    link_press(&rig).await;
    rig.config("press", json!({ "out": "press/out" })).await;
    let (reference, other) = (rig.file("postman"), rig.file("successor"));
    let folder = rig.site.folder.join("components");
    std::fs::copy(folder.join("postman.wasm"), folder.join("successor.wasm")).unwrap();
    let annotations = json!({ "wasmcloud.dev/managed-by": "wadm", "wasmcloud.dev/scaler": "ü/ß" });
    let scale = |reference: &str, count: u32, update: bool| {
        json!({
            "component_id": "press", "component_ref": reference, "count": count, "host_id": "", "config": ["press"],
            "annotations": annotations, "allow_update": update,
        })
    };
    let told = |reference: &str, count: u32, host: &str| {
        json!({
            "host_id": host, "component_id": "press", "image_ref": reference, "max_instances": count,
            "annotations": annotations,
        })
    };
    let host = rig.host.clone();
    assert_eq!(rig.done("component.scale.HOST", &scale(&reference, 1, false)).await, "");
    assert_eq!(rig.data("component_scaled").await, told(&reference, 1, &host));
    assert_eq!(rig.request("press.in", "echo hello").await, "press.in hello");
    let line = json!({
        "id": "press", "image_ref": reference, "annotations": annotations, "revision": 0, "max_instances": 1, "limits": null,
    });
    assert_eq!(rig.inventory().await["components"], json!([line]));

    let mut site = Client::subscribe(rig.mqtt, &["press/out"]).await;
    // The component's own connection to the listener may come later than that to the lattice.
    rig.site
        .wait("both at the listener", |status| {
            status.listener.as_ref().is_some_and(|clients| clients.connected >= 2)
        })
        .await;
    assert_eq!(site.ask("orders/a", "echo over mqtt").await, "orders/a over mqtt");

    assert_eq!(rig.done("component.scale.HOST", &scale(&reference, 5, false)).await, "");
    assert_eq!(rig.data("component_scaled").await, told(&reference, 5, &host));
    let kept = rig.done("component.scale.HOST", &scale(&other, 5, false)).await;
    assert!(
        kept.starts_with("Requested to scale existing component to a different image reference: "),
        "{kept}"
    );
    assert_eq!(rig.data("component_scaled").await, told(&reference, 5, &host));
    let update = json!({ "component_id": "press", "host_id": host, "new_component_ref": other });
    assert_eq!(
        rig.done("component.update.HOST", &update).await,
        format!("component press updating from {reference} to {other}")
    );
    assert_eq!(rig.data("component_scaled").await, told(&other, 5, &host));
    assert_eq!(rig.inventory().await["components"][0]["image_ref"], other);
    assert_eq!(
        rig.done("component.update.HOST", &update).await,
        format!("component press already updated to {other}")
    );
    let changed = rig.done("component.scale.HOST", &scale(&reference, 2, true)).await;
    assert!(changed.starts_with("Requested to scale existing component, with a changed image"), "{changed}");
    assert_eq!(rig.data("component_scaled").await, told(&reference, 2, &host));
    assert_eq!(rig.request("press.in", "echo still").await, "press.in still");

    assert_eq!(rig.done("component.scale.HOST", &scale(&reference, 0, false)).await, "");
    assert_eq!(rig.data("component_scaled").await, told(&reference, 0, &host));
    assert_eq!(rig.inventory().await["components"], json!([]));
    let unheard = timeout(Duration::from_millis(500), rig.client.request("press.in", "echo x".into())).await;
    assert!(!matches!(unheard, Ok(Ok(_))), "it is gone");
    let missing = json!({ "component_id": "other", "host_id": host, "new_component_ref": other });
    assert_eq!(rig.ask("component.update.HOST", &missing).await["message"], "component other not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_work_is_told_and_taken_back() {
    // Goal: a bad reference gives an event, never silence; what ran before runs on; nothing that never worked is tried for
    // ever. Method: a registry that is not there, no such file, a file outside of the folder, no component, components that
    // nobody would call, a missing configuration, first as a new component and then as the update of one that works.
    let mut rig = Rig::start("").await;
    link_press(&rig).await;
    rig.config("press", json!({})).await;
    let good = rig.file("postman");
    let outside = format!("file://{}/frond.toml", rig.site.folder.display());
    let bad = [
        ("oci://127.0.0.1:1/a:1".to_owned(), "was not fetched from its registry"),
        (rig.file("none"), "cannot be read"),
        (outside, "is outside of the folders"),
        (rig.file("noise"), "it is no WebAssembly component"),
        (rig.file("stranger"), "it exports nothing that a gateway calls"),
        (rig.file("ungranted"), "it is made for a stream"),
    ];
    for name in ["stranger", "ungranted"] {
        let file = rig.site.folder.join("components").join(name).with_extension("wasm");
        std::fs::copy(guest(name), file).unwrap();
    }
    let request = |reference: &str, config: &[&str]| {
        json!({
            "component_id": "press", "component_ref": reference, "count": 1, "config": config, "allow_update": true,
            "annotations": { "by": "test" },
        })
    };
    for round in ["new", "an update"] {
        for (reference, why) in &bad {
            rig.done("component.scale.HOST", &request(reference, &["press"])).await;
            let told = rig.data("component_scale_failed").await;
            let error = told["error"].as_str().unwrap();
            assert!(error.contains(why), "{round}: {error} does not say {why}");
            assert_eq!((&told["image_ref"], &told["annotations"]["by"]), (&json!(reference), &json!("test")));
            let after = rig.overview().await.desired;
            let left = after.components.get("press").map(|item| item.spec.reference.clone());
            assert_eq!(left, (round == "an update").then(|| good.clone()), "taken back");
        }
        rig.done("component.scale.HOST", &request(&good, &["none"])).await;
        let told = rig.data("component_scale_failed").await;
        assert_eq!(told["error"], "there is no configuration none");
        if round == "new" {
            rig.done("component.scale.HOST", &request(&good, &["press"])).await;
            rig.data("component_scaled").await;
        }
    }
    assert_eq!(rig.request("press.in", "echo all the same").await, "press.in all the same");
    let update = json!({ "component_id": "press", "new_component_ref": rig.file("noise") });
    rig.done("component.update.HOST", &update).await;
    rig.data("component_scale_failed").await;
    assert_eq!(rig.request("press.in", "echo as before").await, "press.in as before");
    rig.site.wait("the same instance all along", |status| status.workloads["press"].handled == 2).await;
    let socket = frond::console::socket_path(&rig.site.folder.join("run"));
    let told: Vec<frond::control::Told> =
        frond::console::ask(&socket, frond::console::Request::History { newest: 1 }).await.unwrap();
    assert!(told[0].text.starts_with("component press is taken back: "), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slip_takes_nothing_away_that_was_wanted() {
    // Goal: a component that does not run for want of its file is still wanted after somebody has asked for it with a wrong
    // one. Method: its file is away at a start; the slip; the file is back and it is asked for again; the slip once more.
    let mut rig = Rig::start("").await;
    link_press(&rig).await;
    rig.config("press", json!({ "out": "press/out" })).await;
    let (good, typo) = (rig.file("postman"), rig.file("pstman"));
    let request = |reference: &str| {
        json!({
            "component_id": "press", "component_ref": reference, "count": 1, "config": ["press"], "allow_update": true,
        })
    };
    rig.done("component.scale.HOST", &request(&good)).await;
    rig.data("component_scaled").await;
    rig.site.kill(Role::Gateway).await;
    let (file, away) = (rig.site.folder.join("components/postman.wasm"), rig.site.folder.join("away.wasm"));
    std::fs::rename(&file, &away).unwrap();
    rig.site.run(Role::Gateway).await;
    rig.told("host_started", |_| true).await;
    rig.state("press", "absent").await;
    for is_away in [true, false] {
        rig.done("component.scale.HOST", &request(&typo)).await;
        assert_eq!(rig.data("component_scale_failed").await["image_ref"], typo);
        let wanted = rig.overview().await.desired.components;
        assert_eq!(wanted.get("press").map(|item| &item.spec.reference), Some(&good), "away: {is_away}");
        if is_away {
            std::fs::rename(&away, &file).unwrap();
            rig.done("component.scale.HOST", &request(&good)).await;
            rig.data("component_scaled").await;
        }
        assert_eq!(rig.request("press.in", "echo again").await, "press.in again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_may_come_after_their_component_and_change_under_it() {
    // Goal: any order works, as with wash, and what a link grants counts at once. Method: a component that imports a store
    // without any link, then its links one after the other, then a smaller quota.
    let mut rig = Rig::start("").await;
    let reference = rig.file("clerk");
    let scale = json!({ "component_id": "press", "component_ref": reference, "count": 1, "config": [] });
    rig.done("component.scale.HOST", &scale).await;
    assert_eq!(rig.data("component_scaled").await["component_id"], "press");
    assert_eq!(rig.inventory().await["components"][0]["id"], "press", "it is here, and waits");
    rig.state("press", "absent").await;
    link_press(&rig).await;
    rig.link("press", "kv", "wasi:keyvalue", "store", json!([])).await;
    rig.state("press", "ready").await;
    rig.config("press", json!({ "out": "press/out" })).await;
    let mut scale = scale;
    scale["config"] = json!(["press"]);
    rig.done("component.scale.HOST", &scale).await;
    rig.data("component_scaled").await;
    let mut site = Client::subscribe(rig.mqtt, &["press/out"]).await;
    rig.site
        .wait("both at the listener", |status| {
            status.listener.as_ref().is_some_and(|clients| clients.connected >= 2)
        })
        .await;
    assert_eq!(site.ask("orders/a", "add n 3").await, "3");
    rig.config("small", json!({ "keys_max": "1" })).await;
    rig.link("press", "kv", "wasi:keyvalue", "store", json!(["small"])).await;
    // The component is made anew, and so is its connection: messages until then are nobody's.
    eventually("a smaller quota counts", PATIENCE, async || {
        let publish = site.client.publish("orders/a", QoS::AtLeastOnce, false, "put other x");
        publish.await.unwrap();
        let said = timeout(Duration::from_millis(500), site.hear()).await;
        said.is_ok_and(|(_, text)| text.contains("keys_max"))
    })
    .await;
    assert_eq!(site.ask("orders/a", "get n").await, "3", "what it kept is still there");
    let links = rig.ask("link.get", &Value::Null).await;
    assert_eq!(links["response"].as_array().unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_waits_for_a_configuration_that_was_taken_away() {
    // Goal: a component whose configuration was there a moment ago is neither run without it nor given up: it is here, and
    // what is missing is told until it is put; one that runs goes on, and waits after a cut. Method: wadm's own order, which
    // takes the configuration away in the middle of an update; then the same while the component runs, and a SIGKILL.
    let mut rig = Rig::start("[lattice.host]\nheartbeat = \"1s\"\n").await;
    link_press(&rig).await;
    let reference = rig.file("postman");
    let scale =
        json!({ "component_id": "press", "component_ref": reference, "count": 1, "config": ["press"] });
    rig.config("press", json!({ "out": "press/old" })).await;
    rig.done("config.del.press", &Value::Null).await;
    rig.done("component.scale.HOST", &scale).await;
    assert_eq!(rig.data("config_deleted").await, json!({ "config_name": "press" }));
    assert_eq!(rig.data("component_scaled").await["component_id"], "press");
    assert_eq!(rig.data("config_deleted").await, json!({ "config_name": "press" }), "again");
    assert_eq!(rig.inventory().await["components"][0]["id"], "press", "it is here, and waits");
    let overview = rig.overview().await;
    let (state, reason) = (&overview.components[0].state, &overview.components[0].reason);
    assert_eq!((state.as_str(), reason.as_deref()), ("absent", Some("there is no configuration press")));
    let complaint = "component press does not run: there is no configuration press; put that, it is tried again by itself";
    rig.site
        .wait("who looks at the status sees it", |status| status.complaints.contains(&complaint.to_owned()))
        .await;
    rig.data("host_heartbeat").await;
    assert_eq!(rig.data("config_deleted").await["config_name"], "press", "and with each heartbeat");
    rig.config("press", json!({ "out": "press/out" })).await;
    rig.state("press", "ready").await;
    assert_eq!(rig.request("press.in", "echo hello").await, "press.in hello");

    rig.done("config.del.press", &Value::Null).await;
    assert_eq!(rig.request("press.in", "echo still").await, "press.in still");
    rig.site.kill(Role::Gateway).await;
    rig.site.run(Role::Gateway).await;
    rig.told("host_started", |_| true).await;
    rig.data("config_deleted").await;
    rig.state("press", "absent").await;
    rig.config("press", json!({ "out": "press/out" })).await;
    rig.state("press", "ready").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_file_configures_is_shown_and_left_alone() {
    // Goal: a component of the file is in the inventory, and the lattice is told where to change it. Method: one with a
    // timer, so that it needs nobody; scale, update, auction.
    let path = crate::workload::guest("postman");
    let toml = format!(
        "[[component]]\nname = \"filed\"\nkind = \"wasmcloud\"\npath = \"{}\"\n\
         [[component.link]]\ninterface = \"wasmcloud:messaging/handler\"\nname = \"t\"\nprovider = \"timer\"\n\
         source_config = {{ every = \"1h\" }}\n\
         [[component.link]]\ninterface = \"wasmcloud:messaging/consumer\"\nprovider = \"nats\"\n\
         target_config = {{ subjects = [\"x\"] }}\n",
        path.display()
    );
    let rig = Rig::start(&toml).await;
    rig.state("filed", "ready").await;
    let line = json!({
        "id": "filed", "image_ref": format!("file://{}", path.display()), "annotations": { "origin": "local file" },
        "revision": 0, "max_instances": 1, "limits": null,
    });
    assert_eq!(rig.inventory().await["components"], json!([line]));
    let scale = json!({ "component_id": "filed", "component_ref": rig.file("postman"), "count": 0 });
    assert_eq!(
        rig.ask("component.scale.HOST", &scale).await["message"],
        "component filed is set by the gateway's own configuration file and is changed there"
    );
    let bid = json!({ "component_ref": "x", "component_id": "filed", "constraints": {} });
    rig.is_silent("component.auction", &bid).await;
}
