//! Two gateways in one lattice, each behind a leaf node of its own, and somebody at the hub who writes as a host or wash would.

use std::net::{Ipv4Addr, SocketAddr};

use async_nats::jetstream;
use async_nats::jetstream::stream::Stream;
use async_nats::{Client, HeaderMap, Subscriber};
use frond::console;
use frond::control::{Command, Overview};
use frond::runtime::Answer;
use futures_util::StreamExt as _;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::rig::{PATIENCE, controller};
use crate::nats::{eventually, free_port};
use crate::whole::site::{QUICK, Role, Site};
use crate::whole::wire::{self, Wire};
use crate::workload::guest;

const LOOK: std::time::Duration = std::time::Duration::from_millis(20);

/// A gateway with its leaf node.
pub struct Gateway {
    pub site: Site,
    /// Between its leaf node and the hub.
    pub wire: watch::Sender<Wire>,
    /// Public key of the host.
    pub host: String,
    _tasks: JoinSet<()>,
}

/// All of it.
pub struct Plant {
    pub gateways: [Gateway; 2],
    pub hub: Client,
    /// Everything that is told on the lattice, as the hub hears it.
    pub events: Subscriber,
}

// === impl Gateway ===

impl Gateway {
    async fn prepare(name: &str, hub: Option<&Site>, toml: &str) -> Gateway {
        let listener = format!("[[listener]]\nname = \"site\"\nbind = \"127.0.0.1:{}\"\n", free_port());
        let site = Site::prepare(&format!("{QUICK}{listener}{toml}")).await;
        let folder = site.folder.join("components");
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(guest("postman"), folder.join("postman.wasm")).unwrap();
        site.write(
            "conf.d/host.toml",
            &format!(
                "gateway.name = \"{name}\"\n[artifacts]\nfolders = [\"{}\"]\nallow_unsigned = true\n",
                folder.display()
            ),
        );
        site.write("conf.d/shape.toml", "[lattice.host]\nshape = \"shared\"\n");
        let mut tasks = JoinSet::new();
        // The second gateway's leaf goes by a wire of its own to the first one's hub.
        let wire = match hub {
            None => site.wire.clone(),
            Some(hub) => {
                let target = SocketAddr::from((Ipv4Addr::LOCALHOST, hub.ports.hub_leaf));
                let (uplink, wire) = wire::lay(target, &mut tasks).await;
                let text = std::fs::read_to_string(site.folder.join("leaf.conf")).unwrap();
                let (head, rest) = text.split_once("url: \"").unwrap();
                let (_, rest) = rest.split_once('"').unwrap();
                let text =
                    format!("{head}url: \"nats-leaf://{uplink}\"{rest}").replace("\"whole\"", "\"second\"");
                site.write("leaf.conf", &text);
                wire
            }
        };
        Gateway { site, wire, host: String::new(), _tasks: tasks }
    }

    /// What the local socket tells.
    pub async fn overview(&self) -> Overview {
        let socket = console::socket_path(&self.site.folder.join("run"));
        let asked = async {
            loop {
                match console::ask(&socket, console::Request::Overview).await {
                    Ok(overview) => return overview,
                    // It is starting.
                    Err(_) => sleep(LOOK).await,
                }
            }
        };
        timeout(PATIENCE, asked).await.expect("an answer in time")
    }

    /// Waits until what the local socket tells is as wanted.
    pub async fn sees(&self, what: &str, wanted: impl Fn(&Overview) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let overview = self.overview().await;
            if wanted(&overview) {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "not seen: {what}; {overview:#?}\n{}",
                self.site.log()
            );
            sleep(LOOK).await;
        }
    }

    /// Waits until its copy is the hub's word of now, or until it knows that it is not.
    pub async fn is_held(&self, held: bool) {
        self.sees("the copy is held", |overview| {
            overview.copy.as_ref().is_some_and(|copy| copy.is_held == held)
        })
        .await;
    }

    /// Ends the gateway and starts it again in the shared lattice, until what it brings along is settled there.
    pub async fn moves_into_the_shared_lattice(&mut self) {
        self.site.stop(Role::Gateway, Signal::SIGTERM).await;
        self.site.write("conf.d/shape.toml", "[lattice.host]\nshape = \"shared\"\n");
        self.site.run(Role::Gateway).await;
        self.sees("it is there", |overview| {
            overview.copy.as_ref().is_some_and(|copy| copy.is_held && copy.pending.is_empty())
        })
        .await;
    }

    /// Commands by the local socket.
    pub async fn on_site(&self, command: Command) -> Result<String, String> {
        let socket = console::socket_path(&self.site.folder.join("run"));
        match console::ask(&socket, console::Request::Control { command }).await.expect("the gateway runs") {
            Answer::Done(said) => Ok(said),
            Answer::Refused(why) => Err(why),
        }
    }

    /// Puts a configuration by the local socket.
    pub async fn put(&self, name: &str, value: &str) -> String {
        let values = [("k".to_owned(), value.to_owned())].into();
        self.on_site(Command::PutConfig { name: name.to_owned(), values }).await.unwrap()
    }

    /// What it holds of a configuration made by [`Gateway::put`] or [`Plant::write_config`].
    pub async fn config(&self, name: &str) -> Option<String> {
        let overview = self.overview().await;
        overview.desired.configs.get(name).and_then(|item| item.spec.get("k").cloned())
    }

    /// What `frond` prints when it is called with these words.
    pub async fn frond(&self, words: &str) -> String {
        let words: Vec<&str> = words.split(' ').chain(["--config", "frond.toml"]).collect();
        self.site.frond(&words).await
    }

    /// A client of its leaf node.
    pub async fn client(&self) -> Client {
        controller(&self.site).await
    }

    /// The reference of the component in its folder.
    pub fn file(&self) -> String {
        format!("file://{}/components/postman.wasm", self.site.folder.display())
    }
}

// === impl Plant ===

impl Plant {
    /// Both gateways run and answer for the lattice; `toml` is laid over their configurations.
    pub async fn start(toml: &str) -> Plant {
        let mut plant = Plant::prepare(toml).await;
        for gateway in &mut plant.gateways {
            gateway.site.run(Role::Gateway).await;
        }
        for gateway in &mut plant.gateways {
            let status = gateway.site.wait("a host", |status| status.host.is_some()).await;
            gateway.host = status.host.unwrap().host;
            gateway.is_held(true).await;
        }
        plant
    }

    /// Hub and leaf nodes run.
    pub async fn prepare(toml: &str) -> Plant {
        let mut first = Gateway::prepare("first", None, toml).await;
        let mut second = Gateway::prepare("second", Some(&first.site), toml).await;
        first.site.run(Role::Hub).await;
        first.site.run(Role::Leaf).await;
        second.site.run(Role::Leaf).await;
        let hub = first.site.hub_client().await;
        let events = hub.subscribe("wasmbus.evt.default.>").await.unwrap();
        hub.flush().await.unwrap();
        Plant { gateways: [first, second], hub, events }
    }

    /// The component, its provider and the two links between them on one of the gateways, with what they need in the lattice.
    pub async fn work(&mut self, index: usize) {
        let host = self.gateways[index].host.clone();
        let client = self.gateways[index].client().await;
        let start = json!({
            "provider_id": "nats", "provider_ref": "wasmcloud+builtin://messaging-nats", "host_id": host,
        });
        done(&client, &format!("provider.start.{host}"), &start).await;
        done(&client, "config.put.asked", &json!({ "subscriptions": format!("press.in.{index}") })).await;
        done(&client, "config.put.press", &json!({ "out": "press/out" })).await;
        done(&client, "link.put", &link("nats", "press", &["asked"])).await;
        let mut answers = link("press", "nats", &[]);
        answers["interfaces"] = json!(["consumer"]);
        done(&client, "link.put", &answers).await;
        let reference = self.gateways[index].file();
        let scale = json!({
            "component_id": "press", "component_ref": reference, "count": 1, "host_id": host, "config": ["press"],
        });
        done(&client, &format!("component.scale.{host}"), &scale).await;
        self.gateways[index]
            .sees("press is ready", |overview| overview.components.iter().any(|one| one.state == "ready"))
            .await;
    }

    /// The data of the next event of this type, and whose it is.
    pub async fn told(&mut self, kind: &str) -> (Value, String) {
        let subject = format!("wasmbus.evt.default.{kind}");
        let heard = async {
            loop {
                let message = self.events.next().await.expect("the connection holds");
                if message.subject.as_str() == subject {
                    let mut event: Value = serde_json::from_slice(&message.payload).unwrap();
                    return (event["data"].take(), event["source"].as_str().unwrap().to_owned());
                }
            }
        };
        timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("no {kind} was told"))
    }

    async fn stream(&self, bucket: &str) -> Stream {
        jetstream::new(self.hub.clone())
            .get_stream(format!("KV_{bucket}_default"))
            .await
            .expect("the bucket is there")
    }

    /// Writes an entry as another host would: `LATTICEDATA` or `CONFIGDATA`.
    pub async fn write(&self, bucket: &str, key: &str, value: impl Into<Vec<u8>>) {
        let subject = format!("$KV.{bucket}_default.{key}");
        let jetstream = jetstream::new(self.hub.clone());
        jetstream.publish(subject, value.into().into()).await.unwrap().await.unwrap();
    }

    /// Writes a configuration as another host would.
    pub async fn write_config(&self, name: &str, value: &str) {
        self.write("CONFIGDATA", name, json!({ "k": value }).to_string()).await;
    }

    /// Deletes an entry as another host would.
    pub async fn delete(&self, bucket: &str, key: &str) {
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        let subject = format!("$KV.{bucket}_default.{key}");
        let jetstream = jetstream::new(self.hub.clone());
        jetstream.publish_with_headers(subject, headers, Default::default()).await.unwrap().await.unwrap();
    }

    /// Removes an entry with everything that tells of it.
    pub async fn wipe(&self, bucket: &str, key: &str) {
        let stream = self.stream(bucket).await;
        stream.purge().filter(format!("$KV.{bucket}_default.{key}")).await.unwrap();
    }

    /// What the bucket holds under a key; nothing when it was deleted.
    pub async fn entry(&self, bucket: &str, key: &str) -> Option<String> {
        let stream = self.stream(bucket).await;
        let message =
            stream.get_last_raw_message_by_subject(&format!("$KV.{bucket}_default.{key}")).await.ok()?;
        let is_gone = message.headers.get("KV-Operation").is_some_and(|word| word.as_str() != "PUT");
        (!is_gone).then(|| String::from_utf8_lossy(&message.payload).into_owned())
    }

    /// The value of a configuration made by [`Plant::write_config`] or [`Gateway::put`].
    pub async fn config(&self, name: &str) -> Option<String> {
        let value: Value = serde_json::from_str(&self.entry("CONFIGDATA", name).await?).unwrap();
        value["k"].as_str().map(str::to_owned)
    }

    /// The links of a source, as the bucket has them.
    pub async fn links(&self, source: &str) -> Value {
        match self.entry("LATTICEDATA", &format!("COMPONENT_{source}")).await {
            Some(entry) => serde_json::from_str::<Value>(&entry).unwrap()["links"].take(),
            None => json!([]),
        }
    }

    /// Waits until the hub and both gateways say the same of a configuration.
    pub async fn agree(&self, name: &str, value: Option<&str>) {
        eventually(&format!("all say {value:?} of {name}"), PATIENCE, async || {
            let mut said = vec![self.config(name).await];
            for gateway in &self.gateways {
                said.push(gateway.config(name).await);
            }
            said.iter().all(|said| said.as_deref() == value)
        })
        .await;
    }
}

/// A link for messages, as its request says it.
pub fn link(source: &str, target: &str, configs: &[&str]) -> Value {
    json!({
        "source_id": source, "target": target, "name": "default", "wit_namespace": "wasmcloud",
        "wit_package": "messaging", "interfaces": ["handler"], "source_config": configs, "target_config": [],
    })
}

/// Asks the lattice, once; nothing when nobody answers.
pub async fn ask(client: &Client, tail: &str, payload: &Value) -> Option<Value> {
    let payload = if payload.is_null() { String::new() } else { payload.to_string() };
    let answer = client.request(format!("wasmbus.ctl.v1.default.{tail}"), payload.into()).await.ok()?;
    Some(serde_json::from_slice(&answer.payload).unwrap())
}

/// Asks until somebody answers: a gateway that has just come back joins those who do a moment later.
pub async fn answer(client: &Client, tail: &str, payload: &Value) -> Value {
    let asked = async {
        loop {
            match ask(client, tail, payload).await {
                Some(answer) => return answer,
                None => sleep(LOOK).await,
            }
        }
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("nobody answers {tail}"))
}

/// As [`answer`], and is told that it is done.
pub async fn done(client: &Client, tail: &str, payload: &Value) -> String {
    let answer = answer(client, tail, payload).await;
    assert_eq!(answer["success"], true, "{tail} {payload}: {answer}");
    answer["message"].as_str().unwrap().to_owned()
}
