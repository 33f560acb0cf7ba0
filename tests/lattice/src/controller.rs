//! wadm, at the hub, and what one says to it.

use std::time::Duration;

use async_nats::jetstream;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use wadm::config::WadmConfig;

use crate::site::{LATTICE, PATIENCE, Site, eventually};

/// wadm's server and observer, until dropped.
pub struct Controller {
    client: async_nats::Client,
    _tasks: JoinSet<anyhow::Result<()>>,
}

// === impl Controller ===

impl Controller {
    /// Starts it with the settings that it has by itself.
    pub async fn start(site: &Site) -> Controller {
        let config = WadmConfig { nats_server: format!("127.0.0.1:{}", site.hub), ..WadmConfig::default() };
        let tasks = wadm::start_wadm(config).await.unwrap();
        Controller { client: site.client().await, _tasks: tasks }
    }

    async fn ask(&self, tail: &str, request: String) -> Value {
        let subject = format!("wadm.api.{LATTICE}.model.{tail}");
        let answer = self.client.request(subject, request.into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    /// Puts a manifest and deploys it; both are taken.
    pub async fn deploy(&self, manifest: &Value) {
        self.deploy_text(manifest["metadata"]["name"].as_str().unwrap(), &manifest.to_string()).await;
    }

    /// As [`Controller::deploy`], with a manifest in YAML.
    pub async fn deploy_text(&self, name: &str, manifest: &str) {
        let put = self.ask("put", manifest.to_owned()).await;
        assert!(put["result"] == "created" || put["result"] == "newversion", "{put}");
        let deployed = self.ask(&format!("deploy.{name}"), r#"{"version":null}"#.to_owned()).await;
        assert_eq!(deployed["result"], "acknowledged", "{deployed}");
    }

    /// Undeploys an application.
    pub async fn undeploy(&self, name: &str) {
        let undeployed = self.ask(&format!("undeploy.{name}"), "{}".to_owned()).await;
        assert_eq!(undeployed["result"], "acknowledged", "{undeployed}");
    }

    /// What `wash app status` shows.
    pub async fn status(&self, name: &str) -> Value {
        self.ask(&format!("status.{name}"), String::new()).await["status"].take()
    }

    /// Waits until an application has this status, as a whole and in every part.
    pub async fn reaches(&self, name: &str, status: &str, patience: Duration) {
        let mut seen = Value::Null;
        let reached = async || {
            seen = self.status(name).await;
            let parts = seen["scalers"].as_array().into_iter().flatten();
            seen["status"]["type"] == status
                && parts.map(|part| &part["status"]["type"]).all(|is| is == status)
        };
        let looked = tokio::time::timeout(patience, eventually("a status", patience * 2, reached)).await;
        assert!(looked.is_ok(), "{name} is not {status} within {patience:?}: {seen:#}");
    }

    /// Waits until the status of an application gives this reason.
    pub async fn complains(&self, name: &str, reason: &str) {
        eventually(&format!("{name} {reason}"), PATIENCE, async || {
            self.status(name).await.to_string().contains(reason)
        })
        .await;
    }

    /// The hosts, components or providers that wadm believes in.
    pub async fn believes(&self, kind: &str) -> Value {
        let bucket = jetstream::new(self.client.clone()).get_key_value("wadm_state").await.unwrap();
        let held = bucket.get(format!("{kind}_{LATTICE}")).await.unwrap();
        held.map_or(json!({}), |held| serde_json::from_slice(&held).unwrap())
    }

    /// Waits until wadm has forgotten every host.
    pub async fn forgets(&self, patience: Duration) {
        eventually("wadm forgets the host", patience, async || self.believes("host").await == json!({}))
            .await;
    }

    /// Waits until wadm knows a host.
    pub async fn discovers(&self) {
        eventually("wadm knows the host", PATIENCE, async || self.believes("host").await != json!({})).await;
    }
}

/// An application: a component that answers over MQTT, the link each way, and configuration for all three.
pub fn desk(version: &str, image: &str, instances: u32, out: &str) -> Value {
    json!({
        "apiVersion": "core.oam.dev/v1beta1",
        "kind": "Application",
        "metadata": { "name": "desk", "annotations": { "version": version, "description": "Answers orders" } },
        "spec": { "components": [
            {
                "name": "press",
                "type": "component",
                "properties": { "image": image, "config": [{ "name": "answers", "properties": { "out": out } }] },
                "traits": [
                    here(instances),
                    link("mqtt", "wasmcloud:messaging", "consumer", "target", json!({ "topics": out })),
                ],
            },
            {
                "name": "mqtt",
                "type": "capability",
                "properties": { "image": "frond+builtin://mqtt" },
                "traits": [
                    here(1),
                    link("press", "wasmcloud:messaging", "handler", "source", json!({ "topics": "orders/#" })),
                ],
            },
        ] },
    })
}

/// A spread that only this gateway is eligible for.
pub fn here(instances: u32) -> Value {
    let spread = json!([{ "name": "hall", "requirements": { "site": "plant-1" } }]);
    json!({ "type": "spreadscaler", "properties": { "instances": instances, "spread": spread } })
}

/// A link with a configuration of this side, which is named after the side.
pub fn link(target: &str, package: &str, interface: &str, side: &str, values: Value) -> Value {
    let (namespace, package) = package.split_once(':').unwrap();
    let mut properties = json!({
        "target": { "name": target }, "namespace": namespace, "package": package, "interfaces": [interface],
    });
    if values != Value::Null {
        properties[side]["config"] = json!([{ "name": format!("{package}-{side}"), "properties": values }]);
    }
    json!({ "type": "link", "properties": properties })
}
