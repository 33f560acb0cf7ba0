//! Events: CloudEvents 1.0 as structured JSON on `wasmbus.evt.<lattice>.<type>`. Pure.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::control::{Event, Pairs, Scaled};
use crate::sample::Nanos;

/// An event before it is somebody's: its type and what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Last token of the subject.
    pub kind: &'static str,
    /// What it says.
    pub data: Value,
}

/// What is told of a provider's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It has become well.
    Passed,
    /// It is as well as before.
    Still,
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: &'a str,
    #[serde(rename = "type")]
    kind: String,
    datacontenttype: &'static str,
    time: String,
    data: &'a Value,
}

/// What makes an event somebody's, and this one.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// Public key of the host.
    pub host: &'a str,
    /// Random.
    pub id: [u8; 16],
    /// When, as the gateway's clock has it.
    pub time: Nanos,
}

// === impl Notice ===

impl Notice {
    /// The host has come, or come back.
    pub fn host_started(friendly_name: &str, labels: &Pairs, version: &str) -> Notice {
        let data = json!({
            "friendly_name": friendly_name, "labels": labels, "uptime_seconds": 0, "version": version,
        });
        Notice { kind: "host_started", data }
    }

    /// The host goes.
    pub fn host_stopped(labels: &Pairs) -> Notice {
        Notice { kind: "host_stopped", data: json!({ "labels": labels }) }
    }

    /// The host is there; `inventory` is what runs on it.
    pub fn heartbeat(inventory: impl Serialize) -> Notice {
        let data = serde_json::to_value(inventory).expect("an inventory is JSON");
        Notice { kind: "host_heartbeat", data }
    }

    /// A provider is well. The gateway's own are as long as frond runs, but controllers wait to be told.
    pub fn health(health: Health, host: &str, provider: &str) -> Notice {
        let kind = match health {
            Health::Passed => "health_check_passed",
            Health::Still => "health_check_status",
        };
        Notice { kind, data: json!({ "host_id": host, "provider_id": provider }) }
    }

    /// What control tells of.
    pub fn of(event: &Event, host: &str, labels: &Pairs) -> Notice {
        let (kind, data) = match event {
            Event::ComponentScaled(of) => ("component_scaled", scaled(of, host)),
            Event::ComponentScaleFailed { scaled: of, error } => {
                ("component_scale_failed", with_error(scaled(of, host), error))
            }
            Event::ProviderStarted { id, provider } => (
                "provider_started",
                json!({
                    "host_id": host, "provider_id": id, "image_ref": provider.reference,
                    "annotations": provider.annotations,
                }),
            ),
            Event::ProviderStartFailed { id, reference, error } => (
                "provider_start_failed",
                json!({
                    "provider_ref": reference, "provider_id": id, "host_id": host, "error": error,
                    "link_name": "default",
                }),
            ),
            Event::ProviderStopped { id, annotations } => (
                "provider_stopped",
                json!({
                    "host_id": host, "provider_id": id, "annotations": annotations, "reason": "stop",
                    "instance_id": id, "public_key": id, "link_name": "default",
                }),
            ),
            Event::LinkSet(link) => ("linkdef_set", json!(link)),
            Event::LinkSetFailed { link, error } => ("linkdef_set_failed", with_error(json!(link), error)),
            Event::LinkDeleted { key, was } => {
                let mut data = json!({
                    "source_id": key.source_id, "name": key.name, "wit_namespace": key.wit_namespace,
                    "wit_package": key.wit_package,
                });
                if let Some(link) = was {
                    data["target"] = json!(link.target);
                    data["interfaces"] = json!(link.interfaces);
                }
                ("linkdef_deleted", data)
            }
            Event::ConfigSet { name } => ("config_set", json!({ "config_name": name })),
            Event::ConfigDeleted { name } => ("config_deleted", json!({ "config_name": name })),
            Event::LabelsChanged => ("labels_changed", json!({ "host_id": host, "labels": labels })),
        };
        Notice { kind, data }
    }

    /// Where it is published.
    pub fn subject(&self, lattice: &str) -> String {
        format!("wasmbus.evt.{lattice}.{}", self.kind)
    }

    /// Its bytes.
    pub fn encode(&self, stamp: Stamp<'_>) -> Vec<u8> {
        let time = Timestamp::from_nanosecond(i128::from(stamp.time)).unwrap_or(Timestamp::UNIX_EPOCH);
        let event = CloudEvent {
            specversion: "1.0",
            id: uuid(stamp.id),
            source: stamp.host,
            kind: format!("com.wasmcloud.lattice.{}", self.kind),
            datacontenttype: "application/json",
            time: time.to_string(),
            data: &self.data,
        };
        serde_json::to_vec(&event).expect("texts and JSON are JSON")
    }
}

fn scaled(scaled: &Scaled, host: &str) -> Value {
    let mut data = json!({
        "annotations": scaled.annotations, "host_id": host, "image_ref": scaled.reference,
        "max_instances": scaled.limit, "component_id": scaled.id,
    });
    if let Some(claims) = &scaled.claims {
        data["public_key"] = json!(claims.subject);
        data["claims"] = json!({
            "call_alias": claims.call_alias, "issuer": claims.issuer, "tags": claims.tags,
            "name": claims.name.clone().unwrap_or_default(), "version": claims.version, "revision": claims.revision,
            "not_before_human": human(claims.not_before, "immediately"),
            "expires_human": human(claims.expires, "never"),
        });
    }
    data
}

/// Seconds since 1970 as people write them.
fn human(seconds: Option<u64>, none: &str) -> String {
    let second = seconds.and_then(|seconds| Timestamp::from_second(i64::try_from(seconds).ok()?).ok());
    second.map_or_else(|| none.to_owned(), |second| second.to_string())
}

fn with_error(mut data: Value, error: &str) -> Value {
    data["error"] = json!(error);
    data
}

/// Sixteen random bytes as a UUID of version 4.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = |range: std::ops::Range<usize>| -> String {
        bytes[range].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    format!("{}-{}-{}-{}-{}", hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::claims::Claims;
    use crate::control::{Link, Provider};

    #[test]
    fn an_event_is_these_bytes() {
        // Goal: section 2's envelope. Method: one event with a known stamp.
        let notice = Notice::of(&Event::ConfigSet { name: "c".into() }, "N1", &Pairs::new());
        assert_eq!(notice.subject("plant"), "wasmbus.evt.plant.config_set");
        let stamp = Stamp { host: "N1", id: [0xff; 16], time: 1_790_000_000_250_000_000 };
        assert_eq!(
            String::from_utf8(notice.encode(stamp)).unwrap(),
            r#"{"specversion":"1.0","id":"ffffffff-ffff-4fff-bfff-ffffffffffff","source":"N1","type":"com.wasmcloud.lattice.config_set","datacontenttype":"application/json","time":"2026-09-21T14:13:20.25Z","data":{"config_name":"c"}}"#
        );
    }

    #[test]
    fn an_event_tells_who_signed_the_component() {
        // Goal: section 2's fields of a signed component. Method: claims with all there is, and with little.
        let claims = Claims {
            issuer: "A1".into(),
            subject: "M1".into(),
            name: Some("press".into()),
            revision: Some(3),
            version: Some("1.2".into()),
            call_alias: None,
            tags: vec!["plant".into()],
            not_before: None,
            expires: Some(1_790_000_000),
        };
        let scaled = Scaled {
            id: "c".into(),
            reference: "r".into(),
            limit: 1,
            annotations: Pairs::new(),
            claims: Some(claims),
        };
        assert_eq!(
            Notice::of(&Event::ComponentScaled(scaled), "N1", &Pairs::new()).data.to_string(),
            r#"{"annotations":{},"claims":{"call_alias":null,"expires_human":"2026-09-21T14:13:20Z","issuer":"A1","name":"press","not_before_human":"immediately","revision":3,"tags":["plant"],"version":"1.2"},"component_id":"c","host_id":"N1","image_ref":"r","max_instances":1,"public_key":"M1"}"#
        );
    }

    #[test]
    fn every_event_says_what_controllers_look_for() {
        // Goal: type and data of each, with annotations and references as they were given. Method: literal JSON.
        let annotations = Pairs::from([("wasmcloud.dev/managed-by".to_owned(), "wadm".to_owned())]);
        let of = |event: &Event| {
            let notice = Notice::of(event, "N1", &annotations);
            format!("{} {}", notice.kind, notice.data)
        };
        let scaled = Scaled {
            id: "c".into(),
            reference: "file:///c".into(),
            limit: 5,
            annotations: annotations.clone(),
            claims: None,
        };
        let provider = Provider {
            reference: "frond+builtin://mqtt".into(),
            annotations: annotations.clone(),
            ..Provider::default()
        };
        let link = Link {
            source_id: "s".into(),
            target: "t".into(),
            name: "default".into(),
            wit_namespace: "wasi".into(),
            wit_package: "keyvalue".into(),
            interfaces: vec!["store".into()],
            source_config: vec!["a".into()],
            target_config: vec![],
        };
        let by = r#""annotations":{"wasmcloud.dev/managed-by":"wadm"}"#;
        let fields = r#""interfaces":["store"],"name":"default","source_config":["a"],"source_id":"s","target":"t","target_config":[],"wit_namespace":"wasi","wit_package":"keyvalue""#;
        let failed = fields.replacen(r#","interfaces""#, "", 1);
        for (event, expected) in [
            (
                Event::ComponentScaled(scaled.clone()),
                format!(r#"component_scaled {{{by},"component_id":"c","host_id":"N1","image_ref":"file:///c","max_instances":5}}"#),
            ),
            (
                Event::ComponentScaleFailed { scaled, error: "no".into() },
                format!(r#"component_scale_failed {{{by},"component_id":"c","error":"no","host_id":"N1","image_ref":"file:///c","max_instances":5}}"#),
            ),
            (
                Event::ProviderStarted { id: "p".into(), provider },
                format!(r#"provider_started {{{by},"host_id":"N1","image_ref":"frond+builtin://mqtt","provider_id":"p"}}"#),
            ),
            (
                Event::ProviderStartFailed { id: "p".into(), reference: "r".into(), error: "no".into() },
                r#"provider_start_failed {"error":"no","host_id":"N1","link_name":"default","provider_id":"p","provider_ref":"r"}"#.into(),
            ),
            (
                Event::ProviderStopped { id: "p".into(), annotations: annotations.clone() },
                format!(r#"provider_stopped {{{by},"host_id":"N1","instance_id":"p","link_name":"default","provider_id":"p","public_key":"p","reason":"stop"}}"#),
            ),
            (Event::LinkSet(link.clone()), format!("linkdef_set {{{fields}}}")),
            (
                Event::LinkSetFailed { link: link.clone(), error: "no".into() },
                format!(r#"linkdef_set_failed {{"error":"no",{failed}}}"#),
            ),
            (
                Event::LinkDeleted { key: link.key(), was: Some(link.clone()) },
                r#"linkdef_deleted {"interfaces":["store"],"name":"default","source_id":"s","target":"t","wit_namespace":"wasi","wit_package":"keyvalue"}"#.into(),
            ),
            (
                Event::LinkDeleted { key: link.key(), was: None },
                r#"linkdef_deleted {"name":"default","source_id":"s","wit_namespace":"wasi","wit_package":"keyvalue"}"#.into(),
            ),
            (Event::ConfigDeleted { name: "c".into() }, r#"config_deleted {"config_name":"c"}"#.into()),
            (
                Event::LabelsChanged,
                r#"labels_changed {"host_id":"N1","labels":{"wasmcloud.dev/managed-by":"wadm"}}"#.into(),
            ),
        ] {
            assert_eq!(of(&event), expected);
        }
        let health = Notice::health(Health::Passed, "N1", "p");
        assert_eq!(health.kind, "health_check_passed");
        assert_eq!(health.data.to_string(), r#"{"host_id":"N1","provider_id":"p"}"#);
        assert_eq!(Notice::health(Health::Still, "N1", "p").kind, "health_check_status");
        let started = Notice::host_started("press", &annotations, "0.1.0");
        assert_eq!(
            format!("{} {}", started.kind, started.data),
            r#"host_started {"friendly_name":"press","labels":{"wasmcloud.dev/managed-by":"wadm"},"uptime_seconds":0,"version":"0.1.0"}"#
        );
    }
}
