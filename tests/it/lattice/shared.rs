//! Two gateways and a hub in one lattice: who has the word, and what becomes of it when a link is cut.

use std::cell::Cell;
use std::time::Duration;

use frond::control::{Command, Link};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::rig::PATIENCE;
use super::shared_rig::{Gateway, Plant, answer, ask, done, link};
use crate::nats::eventually;
use crate::whole::site::Role;
use crate::whole::wire::Wire;

fn delete_config(name: &str) -> Command {
    Command::DeleteConfig { name: name.to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_gateway_answers_the_lattice_is_the_same_everywhere() {
    // Goal: 10.3 point 8, and that an answer means that the hub has it. Method: clients at the hub and at both leaf nodes put
    // configurations and links; each is in the bucket when it is answered; a leaf's own gateway answers there; one event each;
    // both gateways tell the same of the whole lattice, and hold what concerns them and nothing else.
    let mut plant = Plant::start("").await;
    let hosts = plant.gateways.each_ref().map(|gateway| gateway.host.clone());
    let clients = [plant.gateways[0].client().await, plant.gateways[1].client().await, plant.hub.clone()];
    for (index, client) in clients.iter().enumerate() {
        let name = format!("from{index}");
        assert_eq!(
            done(client, &format!("config.put.{name}"), &json!({ "k": name })).await,
            "successfully put config"
        );
        assert_eq!(plant.config(&name).await.as_deref(), Some(name.as_str()));
        let (told, source) = plant.told("config_set").await;
        assert_eq!(told, json!({ "config_name": name }));
        assert!(hosts.contains(&source));
        if let Some(host) = hosts.get(index) {
            assert_eq!(source, *host, "the gateway beside the leaf node answers");
        }
        let wanted = link(&format!("source{index}"), "target", &[&name]);
        assert_eq!(done(client, "link.put", &wanted).await, "successfully set link");
        assert_eq!(plant.links(&format!("source{index}")).await, json!([wanted]));
        assert_eq!(plant.told("linkdef_set").await.0, wanted);
    }
    let rival = link("source0", "elsewhere", &[]);
    let said = answer(&clients[1], "link.put", &rival).await;
    let conflict = "link already exists with different target, consider deleting the existing link or using a different link name";
    assert_eq!((&said["success"], said["message"].as_str()), (&json!(false), Some(conflict)));
    let said = answer(&clients[0], "link.put", &link("a", "b", &["none"])).await;
    assert_eq!(
        said["message"],
        "Failed to validate configuration and secrets. Configuration none not found in config store. "
    );
    let all = |index: usize| link(&format!("source{index}"), "target", &[&format!("from{index}")]);
    for client in &clients {
        let links = answer(client, "link.get", &Value::Null).await["response"].take();
        assert_eq!(links, json!([all(0), all(1), all(2)]));
        let values = answer(client, "config.get.from1", &Value::Null).await;
        assert_eq!(values["response"], json!({ "k": "from1" }));
        let missing = answer(client, "config.get.none", &Value::Null).await;
        assert_eq!(missing, json!({ "success": true, "message": "Configuration not found" }));
    }
    for gateway in &plant.gateways {
        let desired = gateway.overview().await.desired;
        assert_eq!((desired.links.len(), desired.configs.len()), (0, 0), "none of it concerns a gateway");
        assert_eq!(desired.revision, 1, "nothing was written to flash but that it is in this lattice");
    }
    let claims = r#"{"call_alias":"","issuer":"A1","name":"echo","revision":"4","subject":"M1","tags":[],"version":"1"}"#;
    plant.write("LATTICEDATA", "CLAIMS_M1", claims).await;
    let told = answer(&clients[0], "claims.get", &Value::Null).await;
    assert_eq!(told["response"][0]["sub"], "M1");
    done(&clients[0], "link.del", &link("source1", "", &[])).await;
    done(&clients[1], "config.del.from0", &Value::Null).await;
    assert_eq!((plant.links("source1").await, plant.config("from0").await), (json!([]), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_reaches_the_component_it_concerns() {
    // Goal: a host, wadm or wash at the hub changes links and configuration, and the component here is made anew from them.
    // Method: a component at work, asked over the lattice; then its link's configuration is written into the bucket, its link
    // taken away and put back, and an entry of another component, which nobody here takes.
    let mut plant = Plant::start("").await;
    plant.work(0).await;
    let asked = async |subject: &str| crate::workload::request(&plant.hub, subject, "echo hello").await;
    assert_eq!(asked("press.in.0").await, "press.in.0 hello");
    let revision = plant.gateways[0].overview().await.desired.revision;
    plant.write("LATTICEDATA", "COMPONENT_other", r#"{"url":"x","links":[]}"#).await;
    plant.write("CONFIGDATA", "other", r#"{"a":"b"}"#).await;
    plant.write("CONFIGDATA", "asked", r#"{"subscriptions":"press.new"}"#).await;
    assert_eq!(asked("press.new").await, "press.new hello");
    plant.write("LATTICEDATA", "COMPONENT_nats", r#"{"url":"","links":[]}"#).await;
    plant.gateways[0].sees("the link is gone", |overview| overview.desired.links.len() == 1).await;
    let entry = json!({ "url": "", "links": [link("nats", "press", &["asked"])] });
    plant.write("LATTICEDATA", "COMPONENT_nats", entry.to_string()).await;
    assert_eq!(asked("press.new").await, "press.new hello");
    let desired = plant.gateways[0].overview().await.desired;
    let names: Vec<&str> = desired.configs.keys().map(String::as_str).collect();
    assert_eq!(names, ["asked", "press"]);
    assert!(desired.revision <= revision + 6, "what concerns nobody here is written nowhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_link_and_changes_at_both_ends_end_as_the_rule_says() {
    // Goal: the rule of src/control/merge.rs with real servers, and that pending changes survive a kill. Method: both gateways
    // hold the same; the first one's link is cut; its operator changes, removes and adds; the hub's side changes some of the
    // same and others, one with every trace wiped; kill -9 and a start offline; the link comes back.
    let plant = &mut Plant::start("").await;
    let names = ["ours", "both", "same", "mine", "theirs", "wiped", "new"];
    for gateway in &plant.gateways {
        // Something on both that needs all of them.
        let start =
            json!({ "provider_id": "timer", "provider_ref": "frond+builtin://timer", "config": names });
        done(&gateway.client().await, &format!("provider.start.{}", gateway.host), &start).await;
    }
    for name in &names[..6] {
        plant.gateways[0].put(name, "1").await;
        plant.agree(name, Some("1")).await;
    }
    plant.gateways[0].wire.send_replace(Wire::Cut);
    plant.gateways[0].is_held(false).await;
    let first = &plant.gateways[0];
    for (name, value) in [("ours", "2"), ("both", "2"), ("same", "2"), ("new", "2")] {
        assert!(first.put(name, value).await.ends_with("the lattice has it once its hub can be reached"));
    }
    first.on_site(delete_config("mine")).await.unwrap();
    let ours = Link {
        source_id: "desk".into(),
        target: "kv".into(),
        name: "default".into(),
        wit_namespace: "wasi".into(),
        wit_package: "keyvalue".into(),
        interfaces: vec!["store".into()],
        source_config: vec!["new".into()],
        ..Link::default()
    };
    first.on_site(Command::PutLink { link: ours.clone() }).await.unwrap();
    let listed = first.frond("config ls").await;
    assert!(
        listed.contains("both (site, pending, revision ") && listed.contains("theirs (site, revision "),
        "{listed}"
    );
    assert!(listed.contains("mine is taken away (site, pending)"), "{listed}");
    assert!(first.frond("link ls").await.contains("(site, pending, revision "));
    plant.write_config("both", "3").await;
    plant.write_config("same", "2").await;
    done(&plant.hub, "config.put.theirs", &json!({ "k": "3" })).await;
    plant.delete("CONFIGDATA", "wiped").await;
    plant.gateways[1].sees("it is deleted", |overview| !overview.desired.configs.contains_key("wiped")).await;
    plant.wipe("CONFIGDATA", "wiped").await;
    assert_eq!(plant.config("ours").await.as_deref(), Some("1"), "nothing got through");

    plant.gateways[0].site.kill(Role::Gateway).await;
    plant.gateways[0].site.run(Role::Gateway).await;
    let overview = plant.gateways[0].overview().await;
    assert_eq!(overview.copy.as_ref().unwrap().pending.len(), 6, "{overview:#?}");
    assert_eq!(overview.desired.configs["ours"].spec["k"], "2");

    plant.gateways[0].wire.send_replace(Wire::Whole);
    for (name, value) in [
        ("ours", Some("2")),
        ("both", Some("3")),
        ("same", Some("2")),
        ("mine", None),
        ("theirs", Some("3")),
        ("wiped", None),
    ] {
        plant.agree(name, value).await;
    }
    eventually("the new ones are at the hub", PATIENCE, async || {
        plant.config("new").await.as_deref() == Some("2") && plant.links("desk").await == json!([ours])
    })
    .await;
    let first = &plant.gateways[0];
    first.sees("nothing is pending", |overview| overview.copy.as_ref().unwrap().pending.is_empty()).await;
    let history = first.frond("history --count 40").await;
    for line in [
        "configuration both: the change made on site is dropped, the lattice has another one than this gateway knew of",
        "configuration same: the lattice has the change made on site",
        "configuration ours: the lattice has the change made on site",
        "configuration mine: the lattice has the change made on site",
        "link default of desk to kv (wasi:keyvalue): the lattice has the change made on site",
    ] {
        assert!(history.contains(line), "{line} is not in\n{history}");
    }
    // The gateway has joined again, and what is put on site goes to the hub first.
    assert_eq!(first.put("ours", "4").await, "successfully put config");
    assert_eq!(plant.config("ours").await.as_deref(), Some("4"));
    plant.agree("ours", Some("4")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_on_site_stays_while_another_gateway_writes() {
    // Goal: a key that goes back and forth, and so in and out of scope, costs no other its place. Method: both gateways put one
    // and the same, the first puts others beside it; all of these are in its copy, and at the hub.
    let plant = Plant::start("").await;
    let [first, second] = &plant.gateways;
    let same = async |gateway: &Gateway, from: &str| {
        for n in 0..30 {
            gateway.put("same", &format!("{from}{n}")).await;
        }
    };
    let others = async {
        for n in 0..30 {
            first.put(&format!("other{n}"), "1").await;
        }
    };
    tokio::join!(same(first, "a"), same(second, "b"), others);
    first
        .sees("nothing is pending", |overview| {
            overview.copy.as_ref().is_some_and(|copy| copy.is_held && copy.pending.is_empty())
        })
        .await;
    for n in 0..30 {
        let name = format!("other{n}");
        assert_eq!(first.config(&name).await.as_deref(), Some("1"), "{name}");
        assert_eq!(plant.config(&name).await.as_deref(), Some("1"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_boots_and_works_from_its_copy_with_the_hub_away() {
    // Goal: everything that a component needs is on flash. Method: a component at work; the gateway is killed, and so are hub
    // and leaf node; it starts alone, and the component is linked as it was; with the leaf node back it answers.
    let mut plant = Plant::start("").await;
    plant.work(0).await;
    let before = plant.gateways[0].overview().await.desired;
    let site = &mut plant.gateways[0].site;
    site.kill(Role::Gateway).await;
    site.kill(Role::Leaf).await;
    site.kill(Role::Hub).await;
    site.run(Role::Gateway).await;
    let first = &mut plant.gateways[0];
    first.sees("press is ready", |overview| overview.components.iter().any(|one| one.state == "ready")).await;
    let overview = first.overview().await;
    assert_eq!((&overview.desired.links, &overview.desired.configs), (&before.links, &before.configs));
    assert!(!overview.copy.unwrap().is_held && overview.troubles.is_empty());
    first.site.run(Role::Leaf).await;
    let client = first.client().await;
    assert_eq!(crate::workload::request(&client, "press.in.0", "echo alone").await, "press.in.0 alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_while_the_hub_is_away_is_refused_and_nothing_is_kept() {
    // Goal: never swallow what the others would not see. Method: the first gateway's link falls silent; it is asked at its
    // leaf node before it knows; later, with the link cut, it is no member of the groups any more and nobody answers there,
    // while the other gateway answers at the hub; when the link is back, nothing of it is anywhere.
    let plant = &mut Plant::start("").await;
    let near = plant.gateways[0].client().await;
    done(&near, "config.put.before", &json!({})).await;
    assert_eq!(plant.told("config_set").await.0["config_name"], "before");
    plant.gateways[0].wire.send_replace(Wire::Silent);
    let said = answer(&near, "config.put.lost", &json!({ "k": "1" })).await;
    assert_eq!(said["success"], false);
    let why = said["message"].as_str().unwrap();
    assert!(why.contains("the hub has not acknowledged") || why.contains("cannot be reached"), "{why}");
    plant.gateways[0].wire.send_replace(Wire::Cut);
    plant.gateways[0].is_held(false).await;
    eventually("nobody answers at the leaf", PATIENCE, async || {
        ask(&near, "config.put.lost", &json!({ "k": "2" })).await.is_none()
    })
    .await;
    assert!(ask(&near, "link.put", &link("a", "b", &[])).await.is_none());
    // Nobody here can say whether the lattice has it: "deleted" would be a lie.
    let refused = plant.gateways[0].on_site(delete_config("before")).await.unwrap_err();
    assert!(refused.contains("this gateway's copy of the lattice does not have it"), "{refused}");
    done(&plant.hub, "config.put.meanwhile", &json!({ "k": "1" })).await;
    let (told, source) = plant.told("config_set").await;
    assert_eq!((told["config_name"].as_str(), &source), (Some("meanwhile"), &plant.gateways[1].host));
    plant.gateways[0].wire.send_replace(Wire::Whole);
    plant.gateways[0].is_held(true).await;
    let values = answer(&near, "config.get.meanwhile", &Value::Null).await;
    assert_eq!(values["response"], json!({ "k": "1" }));
    for gateway in &plant.gateways {
        let overview = gateway.overview().await;
        assert!(!overview.desired.configs.contains_key("lost"), "{overview:#?}");
        assert!(overview.copy.unwrap().pending.is_empty());
    }
    assert_eq!((plant.config("lost").await, plant.links("a").await), (None, json!([])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_in_the_buckets_harms_nothing() {
    // Goal: a lattice is written by many, and by mistake. Method: a component at work; its entries become no JSON, other JSON,
    // too large, a link of somebody else; a thousand entries of others and keys of every form; it works on, says what it
    // passes over, refuses to write over what it cannot read, and takes the next good word.
    let mut plant = Plant::start("").await;
    plant.work(0).await;
    let asked = async |subject: &str| crate::workload::request(&plant.hub, subject, "echo hello").await;
    let first = &plant.gateways[0];
    let passes_over = async |what: &str, is: bool| {
        first
            .sees(&format!("{what} is passed over: {is}"), |overview| {
                overview.copy.as_ref().unwrap().passed_over.iter().any(|(entry, _)| entry == what) == is
            })
            .await;
    };
    let large: serde_json::Map<String, Value> =
        (0..60_000).map(|n| (n.to_string(), Value::String("x".into()))).collect();
    let large = Value::Object(large).to_string();
    let foreign = json!({ "links": [link("other", "press", &[])] }).to_string();
    for bad in ["", "no JSON", "[]", "{\"links\":7}", &"[".repeat(100_000), &foreign, &large] {
        plant.write("LATTICEDATA", "COMPONENT_nats", bad).await;
        plant.write("CONFIGDATA", "asked", bad).await;
        passes_over("links of nats", true).await;
        // Without its link nothing here needs the configuration.
        passes_over("configuration asked", bad != foreign).await;
        let good = json!({ "url": "", "links": [link("nats", "press", &["asked"])] });
        if bad == foreign {
            // It can be read, and no link of this source is in it.
            first.sees("the link is gone", |overview| overview.desired.links.len() == 1).await;
        } else {
            assert_eq!(first.overview().await.desired.links.len(), 2);
            let said = answer(&plant.hub, "link.put", &link("nats", "x", &[])).await;
            let why = "the lattice's entry COMPONENT_nats cannot be read, and is not written over";
            assert_eq!((&said["success"], said["message"].as_str()), (&json!(false), Some(why)));
        }
        plant.write("LATTICEDATA", "COMPONENT_nats", good.to_string()).await;
        plant.write("CONFIGDATA", "asked", r#"{"subscriptions":"press.in.0"}"#).await;
        passes_over("links of nats", false).await;
        passes_over("configuration asked", false).await;
    }
    for n in 0..1_000 {
        let entry = json!({ "url": "", "links": [link(&format!("o{n}"), "t", &["a.b"])] }).to_string();
        plant.write("LATTICEDATA", &format!("COMPONENT_o{n}"), entry).await;
    }
    for key in ["LINKDEF_x", "REFMAP_x", "COMPONENT_", "COMPONENT_a.b", "x.y.z"] {
        plant.write("LATTICEDATA", key, "?").await;
        plant.write("CONFIGDATA", key, "?").await;
    }
    assert_eq!(asked("press.in.0").await, "press.in.0 hello");
    let near = first.client().await;
    let links = answer(&near, "link.get", &Value::Null).await;
    assert_eq!(links["response"].as_array().map(Vec::len), Some(1_002));
    let desired = first.overview().await.desired;
    assert_eq!((desired.links.len(), desired.configs.len()), (2, 2));
    let dotted = answer(&near, "config.put.a.b", &json!({})).await;
    assert_eq!(dotted, json!({ "success": false, "message": "unsupported subject" }));
    let wild = json!({ "source_id": "a b", "target": "t", "wit_namespace": "n", "wit_package": "p", "interfaces": [] });
    let said = answer(&near, "link.put", &wild).await;
    assert!(said["message"].as_str().unwrap().contains("cannot be a key of the lattice's buckets"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_brings_what_it_had_of_its_own_into_a_shared_lattice() {
    // Goal: nobody loses what was put on site by changing one line of the file, and the lattice's word wins there, too. Method:
    // a gateway with a lattice of its own; then in the shared one, where another host has one of its configurations already;
    // then in its own again, with what it had last; there it changes one, the lattice deletes another, and both hold when it
    // is back.
    let mut plant = Plant::prepare("").await;
    plant.gateways[1].site.run(Role::Gateway).await;
    plant.gateways[1].is_held(true).await;
    plant.write_config("both", "theirs").await;
    let first = &mut plant.gateways[0];
    first.site.write("conf.d/shape.toml", "[lattice.host]\nshape = \"own\"\n");
    first.site.run(Role::Gateway).await;
    first.site.wait("a host", |status| status.host.is_some()).await;
    assert_eq!(first.put("mine", "1").await, "successfully put config");
    first.put("both", "ours").await;
    first.put("gone", "1").await;
    assert!(first.overview().await.copy.is_none());
    first.moves_into_the_shared_lattice().await;
    assert_eq!(plant.config("mine").await.as_deref(), Some("1"));
    assert_eq!(plant.config("both").await.as_deref(), Some("theirs"));
    let first = &mut plant.gateways[0];
    let told = first.frond("history").await;
    assert!(
        told.contains(
            "the gateway is in the shared lattice default; 3 links and configurations are brought along"
        ),
        "{told}"
    );
    first.site.stop(Role::Gateway, Signal::SIGTERM).await;
    first.site.write("conf.d/shape.toml", "[lattice.host]\nshape = \"own\"\n");
    first.site.run(Role::Gateway).await;
    first.site.wait("a host", |status| status.host.is_some()).await;
    assert_eq!(first.config("mine").await.as_deref(), Some("1"));
    assert!(first.frond("history").await.contains("the lattice is the gateway's own again"));
    assert_eq!(first.put("mine", "2").await, "successfully put config");
    plant.delete("CONFIGDATA", "gone").await;
    let first = &mut plant.gateways[0];
    first.moves_into_the_shared_lattice().await;
    assert_eq!(plant.config("mine").await.as_deref(), Some("2"));
    assert_eq!((plant.config("gone").await, plant.gateways[0].config("gone").await), (None, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_about_a_pending_change_is_a_promise_whenever_the_gateway_is_killed() {
    // Goal: kill -9 loses no change that was answered on site, nor the mark that it waits, and one that the hub has got is
    // settled after a restart. Method: offline, changes one after the other until a kill, a few times; then the link comes back
    // while the gateway is killed once more; hub and gateway agree on the last promise.
    let mut plant = Plant::start("").await;
    plant.gateways[0].put("n", "0").await;
    plant.gateways[0].wire.send_replace(Wire::Cut);
    plant.gateways[0].is_held(false).await;
    let promised = Cell::new(0u32);
    for round in 0..3u64 {
        let first = &mut plant.gateways[0];
        let socket = frond::console::socket_path(&first.site.folder.join("run"));
        let begun = promised.get();
        let putting = async {
            loop {
                let values = [("k".to_owned(), (promised.get() + 1).to_string())].into();
                let command = Command::PutConfig { name: "n".into(), values };
                let request = frond::console::Request::Control { command };
                match frond::console::ask::<frond::runtime::Answer>(&socket, request).await {
                    Ok(frond::runtime::Answer::Done(_)) => promised.set(promised.get() + 1),
                    _ => return,
                }
            }
        };
        let killing = async {
            eventually("some are answered", PATIENCE, async || promised.get() > begun + 2).await;
            tokio::time::sleep(Duration::from_millis(7 * round)).await;
            first.site.kill(Role::Gateway).await;
        };
        tokio::join!(putting, killing);
        first.site.run(Role::Gateway).await;
        let kept: u32 = first.config("n").await.unwrap().parse().unwrap();
        let told = promised.get();
        assert!((told..=told + 1).contains(&kept), "{told} was promised, {kept} is kept");
        assert_eq!(first.overview().await.copy.unwrap().pending.len(), 1);
        promised.set(kept);
    }
    plant.gateways[0].wire.send_replace(Wire::Whole);
    eventually("the hub has it", PATIENCE, async || {
        plant.config("n").await == Some(promised.get().to_string())
    })
    .await;
    let first = &mut plant.gateways[0];
    first.site.kill(Role::Gateway).await;
    first.site.run(Role::Gateway).await;
    first
        .sees("it is settled", |overview| {
            overview.copy.as_ref().is_some_and(|copy| copy.is_held && copy.pending.is_empty())
        })
        .await;
    assert_eq!(first.config("n").await, Some(promised.get().to_string()));
}
