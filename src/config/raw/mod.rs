//! What a configuration may say, before it is examined: one struct for each table, unknown keys refused.
//!
//! A file may leave out everything. What is read here is the merged document, and the lowest layer, `config/frond.toml`,
//! sets every key that has a default: those are plain fields, and there is one place where a default is written down.
//! Fields that are `Option` have no default, or one that depends on other keys. Streams and components have no layer
//! below them; their defaults are in `resolve`.
//!
//! Integers are `i64` throughout, as in TOML: bounds are checked in one place, with one message.

mod artifact;
mod component;
mod device;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};

use super::units::{BYTES_FORM, DURATION_FORM, parse_bytes, parse_duration};
use crate::sample::{Durability, Lane};

pub(super) use artifact::{Artifacts, Registry, Secret, Signer};
pub(super) use component::{
    Component, Interface, Kind, Link, Overflow, Provider, SourceConfig, TargetConfig,
};
pub(super) use device::{Bias, Device, DeviceKind, Direction, Parity};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Document {
    pub gateway: Gateway,
    pub clock: Clock,
    pub mqtt: Mqtt,
    pub lattice: Lattice,
    pub journal: Journal,
    pub outbox: Outbox,
    pub uplink: Uplink,
    /// `None` and an empty list differ: the one leaves the door at its default, the other shuts it.
    pub listener: Option<Vec<Listener>>,
    #[serde(default)]
    pub user: Vec<User>,
    pub slot: Slot,
    pub artifacts: Artifacts,
    #[serde(default)]
    pub registry: Vec<Registry>,
    #[serde(default)]
    pub signer: Vec<Signer>,
    #[serde(default)]
    pub secret: Vec<Secret>,
    #[serde(default)]
    pub device: Vec<Device>,
    #[serde(default)]
    pub component: Vec<Component>,
    #[serde(default)]
    pub stream: Vec<Stream>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Gateway {
    pub name: Option<String>,
    pub data_dir: String,
    pub cache_dir: String,
    pub run_dir: String,
    pub log: LogLevel,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Clock {
    pub trust: Trust,
    pub synchronized_file: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Trust {
    Auto,
    Synchronized,
    Always,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Mqtt {
    pub broker: Broker,
    pub clients: Clients,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Broker {
    pub url: Option<String>,
    pub client_id: Option<String>,
    pub username: Option<String>,
    pub password_file: Option<String>,
    pub keep_alive: Span,
    pub inflight_max: i64,
    pub packet_bytes_max: Option<Bytes>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Clients {
    pub sessions_max: i64,
    pub session_expiry_max: Span,
    pub subscriptions_max: i64,
    pub queue_messages_max: i64,
    pub queue_bytes_max: Bytes,
    pub retained_max: i64,
    pub retained_bytes_max: Bytes,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a [[listener]] table")]
pub(super) struct Listener {
    pub name: Option<String>,
    pub bind: Option<String>,
    pub tls: Option<ListenerTls>,
    pub websocket: Option<bool>,
    pub anonymous: Option<Anonymous>,
    pub connections_max: Option<i64>,
    pub receive_max: Option<i64>,
    pub packet_bytes_max: Option<Bytes>,
    pub keep_alive_max: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a table such as { certificate = \"server.pem\", key = \"server-key.pem\" }"
)]
pub(super) struct ListenerTls {
    pub certificate: Option<String>,
    pub key: Option<String>,
    pub client_ca: Option<String>,
    pub client_certificate: Option<ClientCertificate>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ClientCertificate {
    Optional,
    Required,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Anonymous {
    Never,
    Loopback,
    Always,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a [[user]] table")]
pub(super) struct User {
    pub name: Option<String>,
    pub password_hash_file: Option<String>,
    pub certificate: Option<String>,
    pub publish: Option<Vec<String>>,
    pub subscribe: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Lattice {
    pub mode: Mode,
    pub subject: String,
    pub jetstream_domain: Option<String>,
    pub leaf: Leaf,
    pub direct: Direct,
    pub host: LatticeHost,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct LatticeHost {
    pub serve: bool,
    pub shape: LatticeShape,
    pub lattice: Option<String>,
    pub friendly_name: Option<String>,
    pub prefix: String,
    pub heartbeat: Span,
    pub auctions: bool,
    pub probation: Span,
    pub http_addresses: Vec<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum LatticeShape {
    Own,
    Shared,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    Off,
    Leaf,
    Direct,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Leaf {
    pub listen: String,
    pub hub: Option<String>,
    pub credentials: Option<String>,
    pub ca: Option<String>,
    pub allow_plaintext: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Direct {
    pub url: Option<String>,
    pub credentials: Option<String>,
    pub ca: Option<String>,
    pub certificate: Option<String>,
    pub key: Option<String>,
    pub allow_plaintext: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Journal {
    pub commit_interval: Span,
    pub commit_interval_max: Span,
    pub commit_readings_max: i64,
    pub checkpoint_interval: Span,
    pub checkpoint_interval_min: Span,
    pub ring_bytes_max: Bytes,
    pub wear_bytes_per_day: Bytes,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Outbox {
    pub bytes_max: Bytes,
    pub age_max: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Uplink {
    pub ack_timeout: Span,
    pub inflight_bytes_max: Bytes,
    pub backlog_share_percent: i64,
    pub recall_bytes_per_second: Bytes,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Slot {
    pub confirm_after: Span,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a [[stream]] table")]
pub(super) struct Stream {
    pub name: Option<String>,
    #[serde(default)]
    pub topics: Vec<String>,
    pub qos: Option<i64>,
    pub decode: Option<Decode>,
    pub fields: Option<Vec<String>>,
    pub samples: Option<String>,
    pub packed: Option<Packed>,
    pub time: Option<Time>,
    pub series: Option<String>,
    pub unit: Option<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub component: Option<String>,
    pub reduce: Option<Reduce>,
    pub durability: Option<Durability>,
    pub lane: Option<Lane>,
    pub full: Option<Full>,
    pub payload_bytes_max: Option<Bytes>,
    pub depth_max: Option<i64>,
    pub samples_max: Option<i64>,
    pub series_max: Option<i64>,
    pub outbox_bytes_max: Option<Bytes>,
    pub expect_per_second: Option<f64>,
    pub expect_series: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Decode {
    Json,
    Cbor,
    Number,
    Packed,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { sample = \"f32\", rate = 25600 }")]
pub(super) struct Packed {
    pub sample: Option<Sample>,
    pub rate: Option<f64>,
    pub scale: Option<f64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Sample {
    I16,
    I32,
    F32,
    F64,
}

/// `"arrival"`, or a table.
#[derive(Debug)]
pub(super) enum Time {
    Arrival,
    Field(TimeField),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct TimeField {
    pub field: Option<String>,
    pub format: Option<TimeFormat>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TimeFormat {
    Rfc3339,
    S,
    Ms,
    Ns,
}

/// `"none"`, or a table.
#[derive(Debug)]
pub(super) enum Reduce {
    None,
    Window(Window),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Window {
    pub window: Option<Span>,
    pub lateness: Option<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Full {
    DropOldest,
    Reject,
}

/// A duration in text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span(pub Duration);

/// A number of bytes, or text with a unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes(pub u64);

// === impl Time ===

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"arrival\" or a table such as { field = \"ts\", format = \"rfc3339\" }")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Time, E> {
                match word {
                    "arrival" => Ok(Time::Arrival),
                    other => Err(E::invalid_value(Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Time, A::Error> {
                TimeField::deserialize(MapAccessDeserializer::new(map)).map(Time::Field)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

// === impl Reduce ===

impl<'de> Deserialize<'de> for Reduce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reduce, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Reduce;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"none\" or a table such as { window = \"60s\", lateness = \"5s\" }")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Reduce, E> {
                match word {
                    "none" => Ok(Reduce::None),
                    other => Err(E::invalid_value(Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Reduce, A::Error> {
                Window::deserialize(MapAccessDeserializer::new(map)).map(Reduce::Window)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

// === impl Span ===

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(DURATION_FORM)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                parse_duration(text).map(Span).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

// === impl Bytes ===

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct NumberOrText;
        impl Visitor<'_> for NumberOrText {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(BYTES_FORM)
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<Bytes, E> {
                u64::try_from(bytes)
                    .map(Bytes)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(bytes), &self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
                parse_bytes(text).map(Bytes).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(NumberOrText)
    }
}
