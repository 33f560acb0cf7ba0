//! A gateway with its leaf node, and a controller that speaks the protocol by hand.

use std::time::Duration;

use async_nats::{Client, Subscriber};
use frond::control::Overview;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::nats::{eventually, free_port};
use crate::whole::site::{QUICK, Role, Site};
use crate::workload::guest;

/// What has not come by then does not come.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for an answer that must not come: a bid takes milliseconds.
pub const SILENCE: Duration = Duration::from_millis(700);
/// Name of the gateway, and so of its lattice.
pub const LATTICE: &str = "whole";

/// The site, and the controller.
pub struct Rig {
    pub site: Site,
    pub client: Client,
    /// Public key of the host.
    pub host: String,
    /// Everything that is told on the lattice.
    pub events: Subscriber,
    /// Where the site's MQTT clients connect.
    pub mqtt: u16,
}

// === impl Rig ===

impl Rig {
    /// A gateway that serves; `toml` is laid over its configuration.
    pub async fn start(toml: &str) -> Rig {
        let mqtt = free_port();
        let listener = format!("[[listener]]\nname = \"site\"\nbind = \"127.0.0.1:{mqtt}\"\n");
        let mut site = Site::prepare(&format!("{QUICK}{listener}{toml}")).await;
        let folder = site.folder.join("components");
        std::fs::create_dir(&folder).unwrap();
        for name in ["postman", "clerk", "dashboard"] {
            std::fs::copy(guest(name), folder.join(name).with_extension("wasm")).unwrap();
        }
        std::fs::write(folder.join("noise.wasm"), b"no component").unwrap();
        // Its own table, so that a test may lay others of [artifacts] over it.
        let artifacts = format!("[artifacts]\nfolders = [\"{}\"]\nallow_unsigned = true\n", folder.display());
        site.write("conf.d/a-rig.toml", &artifacts);
        site.run(Role::Leaf).await;
        let client = controller(&site).await;
        let events = listen(&client).await;
        site.run(Role::Gateway).await;
        let mut rig = Rig { site, client, host: String::new(), events, mqtt };
        rig.host = rig.told("host_started", |_| true).await["source"].as_str().unwrap().to_owned();
        rig
    }

    /// The reference of a component in the allowed folder.
    pub fn file(&self, name: &str) -> String {
        format!("file://{}/components/{name}.wasm", self.site.folder.display())
    }

    /// Asks, and returns the text of the answer. `HOST` in the subject is the host.
    pub async fn raw(&self, tail: &str, payload: impl Into<Vec<u8>>) -> String {
        let subject = self.subject(tail);
        let asked = timeout(PATIENCE, self.client.request(subject, payload.into().into()));
        let answer = asked.await.expect("an answer in time").expect("an answer");
        String::from_utf8(answer.payload.to_vec()).unwrap()
    }

    /// As [`Rig::raw`], in JSON both ways.
    pub async fn ask(&self, tail: &str, payload: &Value) -> Value {
        serde_json::from_str(&self.raw(tail, payload.to_string()).await).unwrap()
    }

    /// Asks, and is told that it is done.
    pub async fn done(&self, tail: &str, payload: &Value) -> String {
        let answer = self.ask(tail, payload).await;
        assert_eq!(answer["success"], true, "{tail} {payload}: {answer}");
        answer["message"].as_str().unwrap().to_owned()
    }

    /// Asks, and hears nothing.
    pub async fn is_silent(&self, tail: &str, payload: &Value) {
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await.unwrap();
        let subject = self.subject(tail);
        self.client.publish_with_reply(subject, inbox, payload.to_string().into()).await.unwrap();
        let heard = timeout(SILENCE, answers.next()).await;
        // Nobody subscribes, and the server says so.
        let is_nobody = |message: &Option<async_nats::Message>| {
            message
                .as_ref()
                .is_some_and(|message| message.status == Some(async_nats::StatusCode::NO_RESPONDERS))
        };
        assert!(!heard.as_ref().is_ok_and(|message| !is_nobody(message)), "{tail} {payload}: {heard:?}");
    }

    pub fn subject(&self, tail: &str) -> String {
        format!("wasmbus.ctl.v1.{LATTICE}.{}", tail.replace("HOST", &self.host))
    }

    /// Waits for an event of this type that is as wanted.
    pub async fn told(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let subject = format!("wasmbus.evt.{LATTICE}.{kind}");
        let heard = async {
            loop {
                let message = self.events.next().await.expect("the connection holds");
                if message.subject.as_str() != subject {
                    continue;
                }
                let event: Value = serde_json::from_slice(&message.payload).unwrap();
                if wanted(&event) {
                    return event;
                }
            }
        };
        match timeout(PATIENCE, heard).await {
            Ok(event) => event,
            Err(_) => panic!("no {kind} was told; the gateway's log:\n{}", self.site.log()),
        }
    }

    /// The data of the next event of this type.
    pub async fn data(&mut self, kind: &str) -> Value {
        self.told(kind, |_| true).await["data"].take()
    }

    /// The inventory.
    pub async fn inventory(&self) -> Value {
        self.ask("host.get.HOST", &Value::Null).await["response"].take()
    }

    /// Scales, and returns the data of the event that follows.
    pub async fn scale(&mut self, id: &str, reference: &str, count: u32) -> Value {
        let request =
            json!({ "component_id": id, "component_ref": reference, "count": count, "host_id": self.host });
        self.done("component.scale.HOST", &request).await;
        let scaled = |event: &Value| event["data"]["component_id"] == id;
        self.told("component_scaled", scaled).await["data"].take()
    }

    /// Puts a configuration.
    pub async fn config(&self, name: &str, values: Value) {
        self.done(&format!("config.put.{name}"), &values).await;
    }

    /// Puts a link.
    pub async fn link(&self, source: &str, target: &str, package: &str, interface: &str, config: Value) {
        let (namespace, package) = package.split_once(':').unwrap();
        let mut link = json!({
            "source_id": source, "target": target, "name": "default", "wit_namespace": namespace,
            "wit_package": package, "interfaces": [interface],
        });
        let side = if interface.ends_with("handler") && interface != "outgoing-handler" {
            "source_config"
        } else {
            "target_config"
        };
        link[side] = config;
        self.done("link.put", &link).await;
    }

    /// What the local socket tells of the desired state.
    pub async fn overview(&self) -> Overview {
        let socket = frond::console::socket_path(&self.site.folder.join("run"));
        let asked = async {
            loop {
                match frond::console::ask(&socket, frond::console::Request::Overview).await {
                    Ok(overview) => return overview,
                    // The gateway is starting.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        timeout(PATIENCE, asked).await.expect("an answer in time")
    }

    /// Waits until a component is in this state.
    pub async fn state(&self, id: &str, state: &str) {
        eventually(&format!("{id} is {state}"), PATIENCE, async || {
            self.overview().await.components.iter().any(|one| one.id == id && one.state == state)
        })
        .await;
    }

    /// Asks a component over the lattice until it answers.
    pub async fn request(&self, subject: &str, text: &str) -> String {
        crate::workload::request(&self.client, subject, text).await
    }
}

/// A connection of the controller's to the leaf node.
pub async fn controller(site: &Site) -> Client {
    async_nats::connect(format!("nats://127.0.0.1:{}", site.ports.leaf)).await.unwrap()
}

/// Everything that is told on the lattice from now on.
pub async fn listen(client: &Client) -> Subscriber {
    let events = client.subscribe(format!("wasmbus.evt.{LATTICE}.>")).await.unwrap();
    client.flush().await.unwrap();
    events
}
