//! Every operation's answer and event, word for word.

use serde_json::{Value, json};

use super::rig::{LATTICE, Rig};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_seen_and_describes_itself() {
    // Goal: what `wash get hosts` and `wash get inventory` read, and what a host says by itself. Method: the gateway's first
    // words, a ping, its inventory, and its heartbeat, which says the same.
    let toml = "[lattice.host]\nheartbeat = \"1s\"\nfriendly_name = \"Press hall\"\nlabels = { site = \"plant-1\" }\n";
    let mut rig = Rig::start(toml).await;
    assert!(rig.host.starts_with('N') && rig.host.len() == 56, "{}", rig.host);
    let labels = json!({
        "hostcore.arch": std::env::consts::ARCH, "hostcore.os": "linux", "hostcore.osfamily": "unix", "site": "plant-1",
    });
    let mut ping = rig.ask("host.ping", &Value::Null).await;
    let response = ping["response"].take();
    assert_eq!(ping, json!({ "success": true, "message": "", "response": null }));
    let leaf = format!("nats://127.0.0.1:{}", rig.site.ports.leaf);
    assert!(response["uptime_seconds"].is_u64() && response["uptime_human"].is_string());
    for (key, value) in [
        ("id", json!(rig.host)),
        ("friendly_name", json!("Press hall")),
        ("labels", labels.clone()),
        ("lattice", json!(LATTICE)),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("ctl_host", json!(leaf)),
        ("rpc_host", json!(leaf)),
        ("js_domain", json!("hub")),
    ] {
        assert_eq!(response[key], value, "{key}");
    }
    let inventory = rig.inventory().await;
    let beat = rig.told("host_heartbeat", |event| event["data"]["uptime_seconds"].as_u64() > Some(0)).await;
    assert_eq!(beat["type"], "com.wasmcloud.lattice.host_heartbeat");
    assert_eq!(
        (beat["source"].as_str(), beat["specversion"].as_str()),
        (Some(rig.host.as_str()), Some("1.0"))
    );
    for said in [&inventory, &beat["data"]] {
        assert_eq!((&said["components"], &said["providers"]), (&json!([]), &json!([])));
        assert_eq!((&said["host_id"], &said["labels"]), (&json!(rig.host), &labels));
        assert_eq!(said["friendly_name"], "Press hall");
    }
    assert_eq!(
        rig.raw("host.nonsense.HOST", "").await,
        r#"{"success":false,"message":"unsupported subject"}"#
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auctions_are_answered_or_met_with_silence() {
    // Goal: a bid if every constraint is a label and nothing of the name is here; otherwise nothing, never an error. Method:
    // bids won and not, for both kinds.
    let mut rig = Rig::start("[lattice.host]\nlabels = { site = \"plant-1\" }\n").await;
    let component = |id: &str, constraints: Value| json!({ "component_ref": "file:///a.wasm", "component_id": id, "constraints": constraints });
    let fits = json!({ "site": "plant-1", "hostcore.os": "linux" });
    let bid = rig.raw("component.auction", component("a", fits.clone()).to_string()).await;
    assert_eq!(
        bid,
        format!(
            r#"{{"success":true,"message":"","response":{{"component_id":"a","component_ref":"file:///a.wasm","constraints":{{"hostcore.os":"linux","site":"plant-1"}},"host_id":"{}"}}}}"#,
            rig.host
        )
    );
    rig.is_silent("component.auction", &component("a", json!({ "site": "plant-2" }))).await;
    rig.is_silent("component.auction", &component("a", json!({ "nothing": "" }))).await;
    let reference = rig.file("postman");
    rig.scale("a", &reference, 1).await;
    rig.is_silent("component.auction", &component("a", fits.clone())).await;
    let provider = |reference: &str| json!({ "provider_ref": reference, "provider_id": "p", "constraints": { "site": "plant-1" } });
    let bid = rig.ask("provider.auction", &provider("frond+builtin://mqtt")).await;
    assert_eq!(
        bid["response"],
        json!({
            "host_id": rig.host, "provider_ref": "frond+builtin://mqtt", "provider_id": "p",
            "constraints": { "site": "plant-1" },
        })
    );
    rig.is_silent("provider.auction", &provider("ghcr.io/wasmcloud/http-server:0.26.0")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_configurations_labels_and_providers_are_kept_and_told() {
    // Goal: section 1.3's answers and section 2's events for everything but components. Method: one of each, put, asked for
    // and taken away, in literal JSON.
    let mut rig = Rig::start("").await;
    let done = |message: &str| format!(r#"{{"success":true,"message":"{message}"}}"#);
    assert_eq!(rig.raw("config.get.c", "").await, done("Configuration not found"));
    assert_eq!(rig.raw("config.put.c", r#"{"topics":"a/#"}"#).await, done("successfully put config"));
    assert_eq!(rig.data("config_set").await, json!({ "config_name": "c" }));
    assert_eq!(
        rig.raw("config.get.c", "").await,
        r#"{"success":true,"message":"","response":{"topics":"a/#"}}"#
    );
    assert_eq!(
        rig.raw("config.put.a.b", "{}").await,
        r#"{"success":false,"message":"unsupported subject"}"#,
        "a name with a dot"
    );

    let annotations = json!({ "wasmcloud.dev/managed-by": "wadm", "wasmcloud.dev/scaler": "ü" });
    let start = json!({
        "provider_id": "p", "provider_ref": "frond+builtin://mqtt", "host_id": rig.host, "config": ["c"],
        "annotations": annotations,
    });
    assert_eq!(rig.done("provider.start.HOST", &start).await, "successfully started provider");
    let told = json!({
        "host_id": rig.host, "provider_id": "p", "image_ref": "frond+builtin://mqtt", "annotations": annotations,
    });
    assert_eq!(rig.data("provider_started").await, told);
    let well = json!({ "host_id": rig.host, "provider_id": "p" });
    assert_eq!(rig.data("health_check_passed").await, well);
    assert_eq!(
        rig.raw("provider.start.HOST", start.to_string()).await,
        r#"{"success":false,"message":"provider with that ID is already running"}"#
    );
    let line =
        json!({ "id": "p", "image_ref": "frond+builtin://mqtt", "revision": 0, "annotations": annotations });
    assert_eq!(rig.inventory().await["providers"], json!([line]));

    let link = json!({
        "source_id": "p", "target": "x", "name": "default", "wit_namespace": "wasmcloud", "wit_package": "messaging",
        "interfaces": ["handler"], "source_config": ["c"], "target_config": [],
    });
    assert_eq!(rig.raw("link.put", link.to_string()).await, done("successfully set link"));
    assert_eq!(rig.data("linkdef_set").await, link);
    let mut rival = link.clone();
    rival["target"] = json!("y");
    let conflict = "link already exists with different target, consider deleting the existing link or using a different link name";
    assert_eq!(rig.ask("link.put", &rival).await["message"], conflict);
    assert_eq!(rig.data("linkdef_set_failed").await["error"], conflict);
    rival["source_config"] = json!(["none"]);
    assert_eq!(
        rig.ask("link.put", &rival).await["message"],
        "Failed to validate configuration and secrets. Configuration none not found in config store. "
    );
    assert_eq!(rig.ask("link.get", &Value::Null).await["response"], json!([link]));
    let gone = json!({ "source_id": "p", "name": "default", "wit_namespace": "wasmcloud", "wit_package": "messaging" });
    assert_eq!(rig.raw("link.del", gone.to_string()).await, done("successfully deleted link"));
    let told = json!({
        "source_id": "p", "target": "x", "name": "default", "wit_namespace": "wasmcloud", "wit_package": "messaging",
        "interfaces": ["handler"],
    });
    assert_eq!(rig.data("linkdef_deleted").await, told);
    assert_eq!(rig.done("link.del", &gone).await, "successfully deleted link (spec doesn't exist)");

    let stop = json!({ "host_id": rig.host, "provider_id": "p" });
    assert_eq!(rig.done("provider.stop.HOST", &stop).await, "successfully stopped provider");
    let told = rig.data("provider_stopped").await;
    assert_eq!(
        (&told["provider_id"], &told["annotations"], &told["reason"]),
        (&json!("p"), &annotations, &json!("stop"))
    );
    assert_eq!(rig.ask("provider.stop.HOST", &stop).await["message"], "provider with that ID is not running");

    assert_eq!(
        rig.raw("label.put.HOST", r#"{"key":"line","value":"7"}"#).await,
        done("successfully put label")
    );
    let told = rig.data("labels_changed").await;
    assert_eq!((&told["host_id"], &told["labels"]["line"]), (&json!(rig.host), &json!("7")));
    let core = json!({ "key": "hostcore.os", "value": "x" });
    assert_eq!(
        rig.ask("label.put.HOST", &core).await["message"],
        "hostcore.* labels cannot be set dynamically"
    );
    assert_eq!(rig.done("label.del.HOST", &json!({ "key": "line" })).await, "successfully deleted label");
    assert_eq!(rig.data("labels_changed").await["labels"]["line"], Value::Null);
    assert_eq!(
        rig.done("label.del.HOST", &json!({ "key": "line" })).await,
        "successfully deleted label (no such label)"
    );
    assert_eq!(rig.done("config.del.c", &Value::Null).await, "successfully deleted config");
    assert_eq!(rig.data("config_deleted").await, json!({ "config_name": "c" }));
    assert_eq!(rig.raw("claims.get", "").await, r#"{"success":true,"message":"","response":[]}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_binary_is_refused_and_told_why() {
    // Goal: whoever writes a manifest for servers learns what a gateway has instead, from the answer and from the event.
    // Method: a registry's reference, and a built-in of wasmCloud's that is not here.
    let mut rig = Rig::start("").await;
    for reference in ["ghcr.io/wasmcloud/messaging-nats:0.27.0", "wasmcloud+builtin://http-server"] {
        let start = json!({ "provider_id": "p", "provider_ref": reference, "host_id": rig.host });
        let answer = rig.ask("provider.start.HOST", &start).await;
        let why = answer["message"].as_str().unwrap();
        assert!(answer["success"] == false && why.contains("frond+builtin://messaging-nats"), "{why}");
        let told = rig.data("provider_start_failed").await;
        assert_eq!((&told["provider_ref"], &told["error"]), (&json!(reference), &json!(why)));
        assert_eq!(told["provider_id"], "p");
    }
    assert_eq!(rig.inventory().await["providers"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_asked_to_stop_says_goodbye_and_ends() {
    // Goal: the answer, the event, then an orderly end with an exit code that has the service manager start it again; the
    // same host comes back. Method: another host's name first, then the real thing.
    let mut rig = Rig::start("").await;
    let wrong = rig.ask("host.stop.HOST", &json!({ "host_id": "NOTHER" })).await;
    assert_eq!(wrong["message"], "invalid host_id [NOTHER]");
    let stop = json!({ "host_id": rig.host, "timeout": 1000 });
    assert_eq!(rig.done("host.stop.HOST", &stop).await, "successfully handled stop host");
    let told = rig.data("host_stopped").await;
    assert_eq!(told["labels"]["hostcore.os"], "linux");
    let ended = rig.site.ended(crate::whole::site::Role::Gateway).await;
    assert_eq!(ended.code(), Some(1), "not a clean end: it is to be started again");
    let host = rig.host.clone();
    rig.site.run(crate::whole::site::Role::Gateway).await;
    assert_eq!(rig.told("host_started", |_| true).await["source"], host);
}
