//! Every operation of the control protocol, through the client that `wash` is made of: its types, its timeouts, its checks.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::join;
use tokio::time::Instant;
use wasmcloud_control_interface::{Client, CtlResponse, HostInventory, Link, RegistryCredential};

use crate::bus::{Events, control};
use crate::site::{LATTICE, Role, Site};

/// Long enough for a bid that must not come: a bid takes milliseconds.
const BIDS: Duration = Duration::from_millis(700);
/// Within this a host is told of; its first heartbeat by the clock comes later.
const AT_ONCE: Duration = Duration::from_secs(10);
const MANAGED: &str = "wasmcloud.dev/managed-by";

/// A gateway, and one who drives it.
struct Bench {
    site: Site,
    control: Client,
    events: Events,
    host: String,
}

type Labels = BTreeMap<String, String>;
type Answer<T> = Result<CtlResponse<T>, Box<dyn std::error::Error + Send + Sync>>;

fn map(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// What an operation said, which was done.
fn done<T>(answer: Answer<T>) -> String {
    let answer = answer.unwrap();
    assert!(answer.succeeded(), "{}", answer.message());
    answer.message().to_owned()
}

/// Why an operation was not done.
fn refused<T>(answer: Answer<T>) -> String {
    let answer = answer.unwrap();
    assert!(!answer.succeeded(), "{}", answer.message());
    answer.message().to_owned()
}

// === impl Bench ===

impl Bench {
    async fn start(toml: &str) -> Bench {
        let mut site = Site::prepare(toml).await;
        let client = site.client().await;
        let mut events = Events::watch(&client).await;
        let began = Instant::now();
        site.run(Role::Gateway).await;
        let started = events.told("host_started", |_| true).await;
        assert!(began.elapsed() < AT_ONCE, "controllers would wait for a heartbeat");
        let host = started["source"].as_str().unwrap().to_owned();
        Bench { site, control: control(&client, BIDS), events, host }
    }

    async fn inventory(&self) -> HostInventory {
        self.control.get_host_inventory(&self.host).await.unwrap().into_data().unwrap()
    }

    /// Scales, and returns what was answered and the data of the event that follows.
    async fn scale(&mut self, image: &str, limit: u32, config: &[&str], update: bool) -> (String, Value) {
        let config = config.iter().map(|name| (*name).to_owned()).collect();
        let annotations = Some(map(&[(MANAGED, "test"), ("ü", "ß/%20 \"")]));
        let asked =
            self.control.scale_component(&self.host, image, "press", limit, annotations, config, update);
        let said = done(asked.await);
        (said, self.events.data("component_scaled").await)
    }

    /// The event that follows when `press` is scaled.
    fn scaled(&self, image: &str, limit: u32) -> Value {
        json!({
            "host_id": self.host, "component_id": "press", "image_ref": image, "max_instances": limit,
            "annotations": { MANAGED: "test", "ü": "ß/%20 \"" },
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_is_done_as_the_control_interface_expects() {
    // Goal: each operation of the protocol works with the client's own types, and the events say what was done. Method: one
    // gateway's life, from its first word to its farewell, each step a function below.
    let mut bench = Bench::start("[lattice.host]\nheartbeat = \"2s\"\n").await;
    a_host_is_found_and_described(&mut bench).await;
    configurations_are_put_got_and_deleted(&mut bench).await;
    auctions_are_won_or_silent(&mut bench).await;
    providers_are_started_and_stopped(&mut bench).await;
    links_are_put_got_and_deleted(&mut bench).await;
    components_are_scaled_and_updated(&mut bench).await;
    what_cannot_run_is_told(&mut bench).await;
    labels_are_put_and_deleted(&mut bench).await;
    claims_and_registries_are_answered(&mut bench).await;
    the_host_is_stopped(bench).await;
}

async fn a_host_is_found_and_described(bench: &mut Bench) {
    let hosts = bench.control.get_hosts().await.unwrap();
    let host = hosts[0].data().unwrap();
    assert_eq!((hosts.len(), host.id(), host.lattice()), (1, bench.host.as_str(), LATTICE));
    assert_eq!((host.friendly_name(), host.js_domain()), (LATTICE, Some("hub")));
    assert!(host.version().is_some() && host.ctl_host().is_some() && host.uptime_human().is_some());
    let inventory = bench.inventory().await;
    assert_eq!((inventory.host_id(), inventory.friendly_name()), (bench.host.as_str(), LATTICE));
    assert_eq!((inventory.labels(), host.labels()["site"].as_str()), (host.labels(), "plant-1"));
    assert!(inventory.components().is_empty() && inventory.providers().is_empty());
    let beat = bench.events.told("host_heartbeat", |data| data["uptime_seconds"].as_u64() > Some(0)).await;
    assert_eq!(beat["source"], bench.host);
    let beat: HostInventory = serde_json::from_value(beat["data"].clone()).unwrap();
    assert_eq!((beat.labels(), beat.version()), (inventory.labels(), inventory.version()));
}

async fn configurations_are_put_got_and_deleted(bench: &mut Bench) {
    let missing = bench.control.get_config("answers").await.unwrap();
    assert!(missing.succeeded() && missing.data().is_none(), "missing is no error");
    let values = HashMap::from([("out".to_owned(), "press/out".to_owned()), ("ü".to_owned(), String::new())]);
    assert_eq!(done(bench.control.put_config("answers", values.clone()).await), "successfully put config");
    assert_eq!(bench.events.data("config_set").await, json!({ "config_name": "answers" }));
    assert_eq!(bench.control.get_config("answers").await.unwrap().data(), Some(&values));
    assert_eq!(refused(bench.control.put_config("with.dot", values.clone()).await), "unsupported subject");
    done(bench.control.put_config("other", values).await);
    assert_eq!(done(bench.control.delete_config("other").await), "successfully deleted config");
    assert_eq!(bench.events.data("config_deleted").await, json!({ "config_name": "other" }));
    assert!(bench.control.get_config("other").await.unwrap().data().is_none());
}

async fn auctions_are_won_or_silent(bench: &mut Bench) {
    let (control, image) = (&bench.control, bench.site.reference("desk"));
    let (mqtt, fits) = ("frond+builtin://mqtt", map(&[("site", "plant-1"), ("hostcore.os", "linux")]));
    let elsewhere = map(&[("site", "plant-1"), ("line", "9")]);
    let (won, silent, provider, no_provider, binary) = join!(
        control.perform_component_auction(&image, "press", fits.clone()),
        control.perform_component_auction(&image, "press", elsewhere.clone()),
        control.perform_provider_auction(mqtt, "mqtt", fits.clone()),
        control.perform_provider_auction(mqtt, "mqtt", elsewhere),
        control.perform_provider_auction("ghcr.io/wasmcloud/http-server:0.26.0", "http", fits.clone()),
    );
    // Through JSON: this version's getter of the component's identifier returns the reference.
    let said = |bids: Vec<Value>| bids.into_iter().map(|mut bid| bid["response"].take()).collect::<Vec<_>>();
    let bids = won.unwrap().iter().map(|bid| serde_json::to_value(bid).unwrap()).collect();
    let bid = json!({ "host_id": bench.host, "component_ref": image, "component_id": "press", "constraints": fits });
    assert_eq!(said(bids), [bid]);
    let bids = provider.unwrap().iter().map(|bid| serde_json::to_value(bid).unwrap()).collect();
    let bid =
        json!({ "host_id": bench.host, "provider_ref": mqtt, "provider_id": "mqtt", "constraints": fits });
    assert_eq!(said(bids), [bid]);
    assert!(silent.unwrap().is_empty() && no_provider.unwrap().is_empty() && binary.unwrap().is_empty());
}

async fn providers_are_started_and_stopped(bench: &mut Bench) {
    let (host, reference) = (bench.host.clone(), "frond+builtin://mqtt");
    let start = |reference: &'static str, id: &'static str| {
        let (control, host) = (bench.control.clone(), host.clone());
        async move { control.start_provider(&host, reference, id, Some(map(&[(MANAGED, "test")])), vec![]).await }
    };
    for id in ["mqtt", "spare"] {
        assert_eq!(done(start(reference, id).await), "successfully started provider");
        let told = json!({
            "host_id": host, "provider_id": id, "image_ref": reference, "annotations": { MANAGED: "test" },
        });
        assert_eq!(bench.events.data("provider_started").await, told);
        let well = json!({ "host_id": host, "provider_id": id });
        assert_eq!(bench.events.data("health_check_passed").await, well);
    }
    assert_eq!(refused(start(reference, "mqtt").await), "provider with that ID is already running");
    let why = refused(start("ghcr.io/wasmcloud/http-server:0.26.0", "http").await);
    assert!(why.contains("frond+builtin://messaging-nats"), "{why}");
    assert_eq!(bench.events.data("provider_start_failed").await["error"], why);
    let providers = bench.inventory().await;
    let [mqtt, _] = providers.providers().as_slice() else { panic!("two providers") };
    assert_eq!(
        (mqtt.id(), mqtt.image_ref(), mqtt.annotations().unwrap()[MANAGED].as_str()),
        ("mqtt", Some(reference), "test")
    );
    assert_eq!(done(bench.control.stop_provider(&host, "spare").await), "successfully stopped provider");
    let told = bench.events.data("provider_stopped").await;
    assert_eq!((&told["provider_id"], &told["reason"]), (&json!("spare"), &json!("stop")));
    assert_eq!(
        refused(bench.control.stop_provider(&host, "spare").await),
        "provider with that ID is not running"
    );
    assert_eq!(bench.inventory().await.providers().len(), 1);
}

async fn links_are_put_got_and_deleted(bench: &mut Bench) {
    let link = |target: &str, config: &[&str]| {
        let config = config.iter().map(|name| (*name).to_owned()).collect();
        let link = Link::builder().source_id("press").target(target).name("default");
        let link =
            link.wit_namespace("wasmcloud").wit_package("messaging").interfaces(vec!["consumer".to_owned()]);
        link.target_config(config).build().unwrap()
    };
    let put = link("mqtt", &["answers"]);
    assert_eq!(done(bench.control.put_link(put.clone()).await), "successfully set link");
    assert_eq!(bench.events.data("linkdef_set").await, serde_json::to_value(&put).unwrap());
    assert_eq!(bench.control.get_links().await.unwrap().into_data().unwrap(), std::slice::from_ref(&put));
    assert_eq!(done(bench.control.put_link(put.clone()).await), "successfully set link", "the same again");
    let conflict = "link already exists with different target, consider deleting the existing link or using a different link name";
    assert_eq!(refused(bench.control.put_link(link("other", &[])).await), conflict);
    assert_eq!(bench.events.data("linkdef_set_failed").await["error"], conflict);
    let why = refused(bench.control.put_link(link("mqtt", &["none"])).await);
    assert!(why.contains("Configuration none not found"), "{why}");
    let delete = || bench.control.delete_link("press", "default", "wasmcloud", "messaging");
    assert_eq!(done(delete().await), "successfully deleted link");
    // Nothing is told of the second: there was no link of this source any more.
    assert_eq!(done(delete().await), "successfully deleted link (spec doesn't exist)");
    let told = bench.events.data("linkdef_deleted").await;
    assert_eq!((&told["source_id"], &told["target"]), (&json!("press"), &json!("mqtt")));
    assert_eq!(bench.control.get_links().await.unwrap().into_data().unwrap(), []);
    done(bench.control.put_link(put).await);
}

async fn components_are_scaled_and_updated(bench: &mut Bench) {
    let [desk, desk2] = ["desk", "desk2"].map(|name| bench.site.reference(name));
    for limit in [1, 5, 0] {
        let (said, told) = bench.scale(&desk, limit, &["answers"], false).await;
        assert_eq!((said.as_str(), told), ("", bench.scaled(&desk, limit)));
        let inventory = bench.inventory().await;
        let seen: Vec<_> = inventory
            .components()
            .iter()
            .map(|one| (one.id(), one.image_ref(), one.max_instances()))
            .collect();
        assert_eq!(seen, if limit == 0 { vec![] } else { vec![("press", desk.as_str(), limit)] });
    }
    bench.scale(&desk, 1, &["answers"], false).await;
    let taken = bench.control.perform_component_auction(&desk, "press", Labels::new()).await;
    assert!(taken.unwrap().is_empty(), "it is here already");
    // Not the reference host's: there the event keeps the old reference while the inventory shows the new one.
    let (said, told) = bench.scale(&desk2, 2, &["answers"], false).await;
    assert!(
        said.starts_with("Requested to scale existing component to a different image reference: "),
        "{said}"
    );
    assert_eq!(told, bench.scaled(&desk, 2));
    assert_eq!(bench.inventory().await.components()[0].image_ref(), desk);
    // Nor this: there the update never happens if the limit changes with it.
    let (said, told) = bench.scale(&desk2, 3, &["answers"], true).await;
    assert!(said.starts_with("Requested to scale existing component, with a changed image"), "{said}");
    assert_eq!(told, bench.scaled(&desk2, 3));
    assert_eq!(bench.inventory().await.components()[0].image_ref(), desk2);
    let update = async |image: &str| bench.control.update_component(&bench.host, "press", image, None).await;
    assert_eq!(done(update(&desk).await), format!("component press updating from {desk2} to {desk}"));
    assert_eq!(bench.events.data("component_scaled").await["image_ref"], desk);
    assert_eq!(
        done(bench.control.update_component(&bench.host, "press", &desk, None).await),
        format!("component press already updated to {desk}")
    );
    let missing = bench.control.update_component(&bench.host, "nobody", &desk, None).await;
    assert_eq!(refused(missing), "component nobody not found");
    let inventory = bench.inventory().await;
    assert_eq!(inventory.components()[0].annotations().unwrap()[MANAGED], "test");
}

async fn what_cannot_run_is_told(bench: &mut Bench) {
    let [none, desk] = ["none", "desk"].map(|name| bench.site.reference(name));
    let outside = "file:///etc/passwd";
    for (reference, why) in [(none.as_str(), "cannot be read"), (outside, "is outside of the folder")] {
        let asked = bench.control.scale_component(
            &bench.host,
            reference,
            "broken",
            1,
            Some(map(&[(MANAGED, "test")])),
            vec![],
            false,
        );
        done(asked.await);
        let told = bench.events.data("component_scale_failed").await;
        assert!(told["error"].as_str().unwrap().contains(why), "{told}");
        assert_eq!((&told["component_id"], &told["image_ref"]), (&json!("broken"), &json!(reference)));
        assert_eq!(
            (&told["host_id"], &told["annotations"]),
            (&json!(bench.host), &json!({ MANAGED: "test" }))
        );
    }
    let inventory = bench.inventory().await;
    let left: Vec<_> = inventory.components().iter().map(|one| (one.id(), one.image_ref())).collect();
    assert_eq!(left, [("press", desk.as_str())]);
}

async fn labels_are_put_and_deleted(bench: &mut Bench) {
    let (control, host) = (&bench.control, bench.host.clone());
    assert_eq!(done(control.put_label(&host, "line", "7").await), "successfully put label");
    assert_eq!(bench.events.data("labels_changed").await["labels"]["line"], "7");
    assert_eq!(bench.inventory().await.labels()["line"], "7");
    let control = &bench.control;
    assert_eq!(
        refused(control.put_label(&host, "hostcore.os", "x").await),
        "hostcore.* labels cannot be set dynamically"
    );
    done(control.delete_label(&host, "line").await);
    done(control.delete_label(&host, "line").await);
    assert_eq!(bench.inventory().await.labels().get("line"), None);
}

async fn claims_and_registries_are_answered(bench: &mut Bench) {
    assert_eq!(bench.control.get_claims().await.unwrap().into_data().unwrap(), []);
    let credentials = RegistryCredential::from_username_password("user", "hunter2", "oci");
    done(bench.control.put_registries(HashMap::from([("registry.example".to_owned(), credentials)])).await);
    bench.inventory().await;
    let history = bench.site.frond(&["history", "--config", "frond.toml", "--json"]);
    let told = [history, bench.site.log(Role::Gateway)].concat();
    assert!(!told.contains("hunter2"), "it is on the bus in clear, and nowhere else");
}

async fn the_host_is_stopped(mut bench: Bench) {
    assert_eq!(
        done(bench.control.stop_host(&bench.host, Some(1_000)).await),
        "successfully handled stop host"
    );
    let told = bench.events.told("host_stopped", |_| true).await;
    assert_eq!((&told["source"], &told["data"]["labels"]["site"]), (&json!(bench.host), &json!("plant-1")));
    bench.site.ended(Role::Gateway).await;
    assert!(bench.control.get_hosts().await.unwrap().is_empty());
}
