//! `[[component]]` and its links.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Bytes, Span};
use crate::config::component::Fallback;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a [[component]] table")]
pub(in crate::config) struct Component {
    pub name: Option<String>,
    pub path: Option<String>,
    pub memory_bytes_max: Option<Bytes>,
    pub deadline: Option<Span>,
    pub cpu_share_percent: Option<i64>,
    pub readings_in_per_second: Option<i64>,
    pub readings_out_per_second: Option<i64>,
    pub alarms_per_second: Option<i64>,
    #[serde(default)]
    pub commands: Vec<String>,
    pub commands_per_second: Option<i64>,
    pub log_lines_per_second: Option<i64>,
    pub state_bytes_max: Option<Bytes>,
    pub fallback: Option<Fallback>,
    pub hold_readings_max: Option<i64>,
    pub quarantine_failures: Option<i64>,
    pub quarantine_within: Option<Span>,
    pub trial: Option<Span>,
    pub trial_batches: Option<i64>,
    pub probation: Option<Span>,
    pub timer: Option<Span>,
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    pub kind: Option<Kind>,
    pub inbox_messages_max: Option<i64>,
    pub inbox_bytes_max: Option<Bytes>,
    pub overflow: Option<Overflow>,
    pub messages_in_per_second: Option<i64>,
    pub messages_out_per_second: Option<i64>,
    pub connections_out_max: Option<i64>,
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    #[serde(default)]
    pub link: Vec<Link>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Kind {
    Telemetry,
    Wasmcloud,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Overflow {
    DropOldest,
    DropNewest,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a [[component.link]] table")]
pub(in crate::config) struct Link {
    pub interface: Option<Interface>,
    pub name: Option<String>,
    pub provider: Option<Provider>,
    pub source_config: Option<SourceConfig>,
    pub target_config: Option<TargetConfig>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(in crate::config) enum Interface {
    #[serde(rename = "wasmcloud:messaging/handler")]
    Handler,
    #[serde(rename = "wasmcloud:messaging/consumer")]
    Consumer,
    #[serde(rename = "wasi:keyvalue")]
    KeyValue,
    #[serde(rename = "wasi:blobstore")]
    Blobs,
    #[serde(rename = "frond:device")]
    Device,
    #[serde(rename = "wasi:http/incoming-handler")]
    IncomingHttp,
    #[serde(rename = "wasi:http/outgoing-handler")]
    OutgoingHttp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Provider {
    Mqtt,
    Nats,
    Timer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(in crate::config) struct SourceConfig {
    #[serde(default)]
    pub topics: Vec<String>,
    #[serde(default)]
    pub subjects: Vec<String>,
    pub qos: Option<i64>,
    #[serde(default)]
    pub map: BTreeMap<String, String>,
    pub every: Option<Span>,
    pub address: Option<String>,
    pub connections_max: Option<i64>,
    pub body_bytes_max: Option<Bytes>,
    pub answer_bytes_max: Option<Bytes>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(in crate::config) struct TargetConfig {
    #[serde(default)]
    pub topics: Vec<String>,
    #[serde(default)]
    pub subjects: Vec<String>,
    pub qos: Option<i64>,
    pub retain: Option<bool>,
    #[serde(default)]
    pub map: BTreeMap<String, String>,
    pub bytes_max: Option<Bytes>,
    pub keys_max: Option<i64>,
    pub objects_max: Option<i64>,
    #[serde(default)]
    pub devices: Vec<String>,
    pub write: Option<bool>,
    #[serde(default)]
    pub hosts: Vec<String>,
    pub ca: Option<String>,
    pub answer_bytes_max: Option<Bytes>,
}
