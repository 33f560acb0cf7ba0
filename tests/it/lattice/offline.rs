//! Without the lattice: what was decided stays, is restored, and works.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::rig::{PATIENCE, Rig, controller, listen};
use super::work::link_press;
use crate::nats::eventually;
use crate::whole::site::{Role, complains};
use crate::workload::Client;

/// An answer that has not come by then does not come: an answer takes milliseconds.
const KILLED: std::time::Duration = std::time::Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_restored_and_works_after_a_cut_with_no_network() {
    // Goal: what was answered survives the power and needs nobody. Method: an application by the lattice; SIGKILL right
    // after the last answer; the leaf node gone; the gateway alone does the work, and when the lattice is back it is the
    // same host with the same of everything.
    let mut rig = Rig::start("").await;
    link_press(&rig).await;
    rig.link("press", "kv", "wasi:keyvalue", "store", json!([])).await;
    rig.config("press", json!({ "out": "press/out" })).await;
    let reference = rig.file("clerk");
    let annotations = json!({ "wasmcloud.dev/managed-by": "wadm" });
    let scale = json!({
        "component_id": "press", "component_ref": reference, "count": 3, "config": ["press"], "annotations": annotations,
    });
    rig.done("component.scale.HOST", &scale).await;
    rig.data("component_scaled").await;
    let links = rig.ask("link.get", &Value::Null).await;
    let inventory = rig.inventory().await;
    rig.done("label.put.HOST", &json!({ "key": "last", "value": "word" })).await;
    rig.site.kill(Role::Gateway).await;
    rig.site.kill(Role::Leaf).await;

    rig.site.run(Role::Gateway).await;
    rig.state("press", "ready").await;
    let mut site = Client::subscribe(rig.mqtt, &["press/out"]).await;
    rig.site
        .wait("both at the listener", |status| {
            status.listener.as_ref().is_some_and(|clients| clients.connected >= 2)
        })
        .await;
    assert_eq!(site.ask("orders/a", "add n 4").await, "4");
    let overview = rig.overview().await;
    assert_eq!(overview.labels["last"], "word");
    assert_eq!(overview.desired.components["press"].spec.limit, 3);

    rig.site.run(Role::Leaf).await;
    rig.client = controller(&rig.site).await;
    rig.events = listen(&rig.client).await;
    // Whether this listener or the gateway was first to come back is not said; the next heartbeat or start is.
    rig.site.stop(Role::Gateway, Signal::SIGTERM).await;
    rig.site.run(Role::Gateway).await;
    let started = rig.told("host_started", |_| true).await;
    assert_eq!((&started["source"], &started["data"]["labels"]["last"]), (&json!(rig.host), &json!("word")));
    rig.state("press", "ready").await;
    assert_eq!(rig.ask("link.get", &Value::Null).await["response"], links["response"]);
    let again = rig.inventory().await;
    assert_eq!(
        (&again["components"], &again["providers"]),
        (&inventory["components"], &inventory["providers"])
    );
    assert_eq!(again["components"][0]["annotations"], annotations);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_state_is_told_by_status_and_history_until_its_file_is_taken_away() {
    // Goal: nobody has to find out from what is not there any more. Method: noise in place of state.db; two starts; the file
    // that was set aside taken away, and another start.
    let mut rig = Rig::start("").await;
    rig.done("label.put.HOST", &json!({ "key": "last", "value": "word" })).await;
    rig.site.kill(Role::Gateway).await;
    let data = rig.site.folder.join("data");
    let _ = std::fs::remove_file(data.join("state.db-wal"));
    std::fs::write(data.join("state.db"), [7; 5_000]).unwrap();
    let aside = data.join("state.db.aside");
    for _ in 0..2 {
        rig.site.run(Role::Gateway).await;
        let texts = ["state.db was damaged", "is set aside since 20", "state.db.aside", "put again"];
        rig.site.wait("it is complained of", |status| complains(status, &texts)).await;
        eventually("it is in the history, once", PATIENCE, async || {
            let history = rig.site.frond(&["history", "--config", "frond.toml"]).await;
            history.matches("state.db was damaged").count() == 1
        })
        .await;
        rig.site.kill(Role::Gateway).await;
    }
    std::fs::remove_file(aside).unwrap();
    rig.site.run(Role::Gateway).await;
    let status = rig.site.wait("a status", |_| true).await;
    assert!(!complains(&status, &["state.db"]), "{:?}", status.complaints);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_says_so_at_once_when_it_is_back_and_nothing_late() {
    // Goal: controllers at the hub learn at once that a gateway is back, and never get what was said into the void. Method: a
    // controller at the hub; a leaf node that goes and comes back, with changes by the local socket in between; what the hub
    // hears first is the start, then a heartbeat of now.
    let mut rig = Rig::start("").await;
    rig.site.run(Role::Hub).await;
    let hub = rig.site.hub_client().await;
    rig.events = listen(&hub).await;
    rig.told("host_started", |_| true).await;
    rig.site.kill(Role::Leaf).await;
    rig.site.wait("the link is down", |status| status.link.state == "connecting").await;
    let socket = frond::console::socket_path(&rig.site.folder.join("run"));
    for n in 0..5 {
        let command = frond::control::Command::PutLabel { key: "n".into(), value: n.to_string() };
        let request = frond::console::Request::Control { command };
        let answer: frond::runtime::Answer = frond::console::ask(&socket, request).await.unwrap();
        assert_eq!(answer, frond::runtime::Answer::Done("successfully put label".into()));
    }
    rig.site.run(Role::Leaf).await;
    let started = rig.told("host_started", |_| true).await;
    assert_eq!(started["data"]["labels"]["n"], "4");
    let beat = rig.told("host_heartbeat", |_| true).await;
    assert_eq!(beat["data"]["labels"]["n"], "4");
    let status = rig.site.wait("a status", |_| true).await;
    assert!(status.host.unwrap().events_dropped >= 5, "what was told to nobody is counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_on_site_sees_and_changes_the_same_state() {
    // Goal: `frond link`, `config`, `label`, `component ls` and `history` work with no lattice at all, and tell who said
    // what. Method: the gateway alone; each command, and what it prints.
    let mut rig = Rig::start("[lattice.host]\nlabels = { site = \"plant-1\" }\n").await;
    let start = json!({ "provider_id": "kv", "provider_ref": "frond+builtin://keyvalue-sqlite" });
    rig.done("provider.start.HOST", &start).await;
    rig.site.kill(Role::Leaf).await;
    let gateway = ["--config", "frond.toml"];
    let frond = async |words: &str| {
        let words: Vec<&str> = words.split(' ').chain(gateway).collect();
        rig.site.frond(&words).await
    };
    assert_eq!(frond("config put small keys_max=3 bytes_max=64KiB").await, "successfully put config\n");
    assert_eq!(frond("config ls").await, "small (site, revision 2)\n  bytes_max = 64KiB\n  keys_max = 3\n");
    let put = "link put press kv wasi:keyvalue --interface store --interface atomics --target-config small";
    assert_eq!(frond(put).await, "successfully set link\n");
    assert_eq!(
        frond("link ls").await,
        "press -> kv wasi:keyvalue/store,atomics \"default\", configurations - -> small (site, revision 3)\n  \
         trouble: there is no component press here, link default\n"
    );
    let elsewhere = "link put press nowhere wasi:http --interface outgoing-handler --name other";
    assert_eq!(frond(elsewhere).await, "successfully set link\n");
    assert!(frond("link ls").await.contains("  trouble: neither press nor nowhere is a provider"));
    assert_eq!(frond("link rm press wasi:http --name other").await, "successfully deleted link\n");
    assert_eq!(frond("label put line=7").await, "successfully put label\n");
    let labels = frond("label ls").await;
    assert!(
        labels.contains("line = 7 (site)\n") && labels.contains("site = plant-1 (local file)\n"),
        "{labels}"
    );
    assert_eq!(frond("label put site=x").await, "", "the file's");
    assert_eq!(frond("label rm line").await, "successfully deleted label\n");
    assert_eq!(frond("component ls").await, "");
    let links: Value = serde_json::from_str(&frond("link ls --json").await).unwrap();
    assert_eq!((&links[0]["origin"], &links[0]["spec"]["target"]), (&json!("site"), &json!("kv")));
    assert_eq!(
        (&links[0]["pending"], &links[0]["trouble"]),
        (&json!(false), &json!("there is no component press here"))
    );
    let labels: Value = serde_json::from_str(&frond("label ls --json").await).unwrap();
    assert_eq!(labels["site"], json!({ "value": "plant-1", "origin": "local-file" }));
    let history = frond("history --count 3").await;
    let told: Vec<&str> =
        history.lines().map(|line| line.split_once("site").map_or(line, |(_, text)| text)).collect();
    assert_eq!(
        told.iter().map(|text| text.trim()).collect::<Vec<_>>(),
        ["link other of press (wasi:http) is gone", "label line is 7", "label line is gone"]
    );
    let all: Value = serde_json::from_str(&frond("history --json").await).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 7);
    assert_eq!(
        (&all[0]["origin"], &all[0]["text"]),
        (&json!("lattice"), &json!("provider kv is frond+builtin://keyvalue-sqlite"))
    );
    assert_eq!(frond("provider ls").await, "kv frond+builtin://keyvalue-sqlite (lattice, revision 1)\n");
    let put = "provider put clock frond+builtin://timer --with small --with none";
    assert_eq!(frond(put).await, "successfully started provider\n");
    let providers = frond("provider ls").await;
    assert!(
        providers.starts_with("clock frond+builtin://timer (site, revision ")
            && providers.contains(
                ")\n  configurations small,none\n  trouble: there is no configuration none\nkv frond+builtin"
            ),
        "{providers}"
    );
    let put = format!("component put press {} --with small", rig.file("postman"));
    let said = frond(&put).await;
    assert!(
        said.starts_with("kept\nit waits, and is tried again by itself: ") && said.contains("grants it"),
        "{said}"
    );
    rig.state("press", "absent").await;
    let components = frond("component ls").await;
    assert!(
        components.contains(" (site): absent\n  configurations small\n") && components.contains("grants it"),
        "{components}"
    );
    assert_eq!(frond("component rm press").await, "gone\n");
    assert_eq!(frond("component ls").await, "");
    assert_eq!(frond("provider rm clock").await, "successfully stopped provider\n");
    assert_eq!(frond("config rm small").await, "successfully deleted config\n");
    // Neither does a value command a terminal, nor is it taken for entries of a list, also not by what reads a pipe.
    frond("config put esc k=v\u{1b}[2J\u{7}\nforged").await;
    let configs = frond("config ls").await;
    assert!(configs.ends_with("\n  k = v\\u{1b}[2J\\u{7}\\nforged\n"), "{configs}");
    frond("label put line=x\u{1b}[31m\nsite").await;
    let labels = frond("label ls").await;
    assert!(labels.contains("line = x\\u{1b}[31m\\nsite (site)\n"), "{labels}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_identity_stops_the_host_and_nothing_else() {
    // Goal: never silently another host, and readings do not wait for it. Method: one letter of the seed is lost; the gateway
    // runs, says what to do, and answers nobody on the lattice; with the letter back it is the same host.
    let mut rig = Rig::start("").await;
    let path = rig.site.folder.join("data/identity/host.seed");
    let seed = std::fs::read_to_string(&path).unwrap();
    rig.site.stop(Role::Gateway, Signal::SIGTERM).await;
    rig.told("host_stopped", |_| true).await;
    std::fs::write(&path, &seed[..40]).unwrap();
    rig.site.run(Role::Gateway).await;
    let status = rig.site.wait("a status", |status| status.link.state != "connecting").await;
    assert!(crate::whole::site::complains(
        &status,
        &["is no host of its lattice", "restore it from a backup"]
    ));
    assert_eq!((status.host, rig.overview().await.desired.revision), (None, 0));
    rig.is_silent("host.ping", &Value::Null).await;
    rig.site.stop(Role::Gateway, Signal::SIGTERM).await;
    std::fs::write(&path, &seed).unwrap();
    rig.site.run(Role::Gateway).await;
    assert_eq!(rig.told("host_started", |_| true).await["source"], rig.host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_a_promise_whenever_the_gateway_is_killed() {
    // Goal: nothing that was answered with yes is missing after a kill at any moment, and revisions never go back. Method:
    // changes one after the other, a SIGKILL in the middle of them, at another moment each time, a look after the restart; a few times.
    let mut rig = Rig::start("").await;
    let mut number = 0u64;
    let mut revision = 0;
    for round in 0..5u64 {
        let (client, subject) = (rig.client.clone(), rig.subject("label.put.HOST"));
        let answered = tokio::sync::Notify::new();
        let begun = number;
        let putting = async {
            loop {
                let label = json!({ "key": "n", "value": (number + 1).to_string() }).to_string();
                let asked = tokio::time::timeout(KILLED, client.request(subject.clone(), label.into())).await;
                let Ok(Ok(answer)) = asked else { return };
                let said = String::from_utf8_lossy(&answer.payload);
                if said.contains("too many changes") {
                    return;
                }
                assert_eq!(said, r#"{"success":true,"message":"successfully put label"}"#);
                number += 1;
                answered.notify_one();
            }
        };
        let killing = async {
            answered.notified().await;
            tokio::time::sleep(std::time::Duration::from_millis(13 * round)).await;
            rig.site.kill(Role::Gateway).await;
        };
        tokio::join!(putting, killing);
        assert!(number > begun, "round {round}: killed before the first answer");
        rig.site.run(Role::Gateway).await;
        rig.told("host_started", |_| true).await;
        let overview = rig.overview().await;
        let kept: u64 = overview.labels["n"].parse().unwrap();
        assert!((number..=number + 1).contains(&kept), "{number} was promised, {kept} is kept");
        assert!(overview.desired.revision > revision);
        (number, revision) = (kept, overview.desired.revision);
    }
}
