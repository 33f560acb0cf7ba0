//! Components that ask and are asked by HTTP, deployed by the lattice.

use std::sync::atomic::Ordering;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::rig::{PATIENCE, Rig};
use crate::nats::{eventually, free_port};
use crate::workload::hosts::{Host, fetch};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dashboard_is_deployed_by_the_lattice_and_goes_where_the_gateway_lets_it() {
    // Goal: wasmCloud's http-server and http-client as links of a manifest, within what the gateway's file allows. Method: a
    // component that is asked on loopback and asks one host; then links that would open another address, the listener's,
    // and no address.
    let host = Host::plain().await;
    let mut rig = Rig::start("").await;
    for (id, reference) in [
        ("server", "wasmcloud+builtin://http-server"),
        ("client", "frond+builtin://http-client"),
        ("kv", "frond+builtin://keyvalue-sqlite"),
        ("nats", "frond+builtin://messaging-nats"),
    ] {
        let start = json!({ "provider_id": id, "provider_ref": reference, "host_id": rig.host });
        rig.done("provider.start.HOST", &start).await;
    }
    let port = free_port();
    let here = format!("http://127.0.0.1:{}", host.port);
    rig.config("door", json!({ "address": format!("127.0.0.1:{port}") })).await;
    rig.config("allowed", json!({ "hosts": here })).await;
    rig.config("asked", json!({ "subscriptions": "desk.in" })).await;
    rig.link("server", "desk", "wasi:http", "incoming-handler", json!(["door"])).await;
    rig.link("desk", "client", "wasi:http", "outgoing-handler", json!(["allowed"])).await;
    rig.link("desk", "kv", "wasi:keyvalue", "store", json!([])).await;
    rig.link("nats", "desk", "wasmcloud:messaging", "handler", json!(["asked"])).await;
    rig.link("desk", "nats", "wasmcloud:messaging", "consumer", json!([])).await;
    let reference = rig.file("dashboard");
    assert_eq!(rig.scale("desk", &reference, 1).await["max_instances"], 1);
    rig.state("desk", "ready").await;
    assert_eq!(rig.request("desk.in", "put press 71.5").await, "kept");
    assert_eq!(fetch(port, "/value/press", "").await, Ok((200, "71.5".into())));
    assert_eq!(rig.request("desk.in", &format!("ask {here}/hello")).await, "200 hello");
    let stranger = Host::plain().await;
    let denied = rig.request("desk.in", &format!("ask http://127.0.0.1:{}/hello", stranger.port)).await;
    assert_eq!(denied, "error: ErrorCode::HttpRequestDenied");
    assert_eq!(stranger.visitors.all.load(Ordering::Relaxed), 0, "nobody came");

    for (address, why) in [
        (format!("0.0.0.0:{port}"), "lattice.host.http_addresses would allow it"),
        (format!("127.0.0.1:{}", rig.mqtt), "is the address of listener"),
        ("8080".to_owned(), "is no address and port"),
    ] {
        rig.config("door", json!({ "address": address })).await;
        let troubles = rig.overview().await.troubles;
        assert!(troubles.iter().any(|(_, said)| said.contains(why)), "{troubles:?} do not say {why}");
    }
    eventually("nobody listens any more", PATIENCE, async || {
        TcpStream::connect(("127.0.0.1", port)).await.is_err()
    })
    .await;
    rig.config("door", json!({ "address": format!("127.0.0.1:{port}") })).await;
    eventually("it is asked again", PATIENCE, async || {
        fetch(port, "/value/press", "").await == Ok((200, "71.5".into()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn providers_beside_the_gateway_hear_of_links() {
    // Goal: somebody's own provider on the same server hears of its links as the reference host would tell it. Method: what
    // is published for both ends of a link that is put, and deleted.
    let rig = Rig::start("").await;
    let mut heard = rig.client.subscribe("wasmbus.rpc.whole.mine.linkdefs.*").await.unwrap();
    rig.client.flush().await.unwrap();
    rig.config("how", json!({ "speed": "9600" })).await;
    rig.link("press", "mine", "acme:serial", "port", json!(["how"])).await;
    let mut next = async || {
        let told = tokio::time::timeout(PATIENCE, heard.next()).await.expect("in time").unwrap();
        (told.subject.to_string(), serde_json::from_slice::<Value>(&told.payload).unwrap())
    };
    let (subject, link) = next().await;
    assert_eq!(subject, "wasmbus.rpc.whole.mine.linkdefs.put");
    assert_eq!((&link["source_id"], &link["target_config"]), (&json!("press"), &json!({ "speed": "9600" })));
    let delete =
        json!({ "source_id": "press", "name": "default", "wit_namespace": "acme", "wit_package": "serial" });
    rig.done("link.del", &delete).await;
    assert_eq!(next().await.0, "wasmbus.rpc.whole.mine.linkdefs.del");
}
