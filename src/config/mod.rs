//! The gateway's configuration, resolved: typed, validated, with every default filled in.
//!
//! Two shapes (STYLE 21): `raw` is what a TOML file may say, all optional, unknown keys refused; [`Config`] is what the
//! rest of the program sees. A `Config` that exists is valid: nothing downstream checks it again. Files are read in
//! order, later ones winning key by key: the documented default embedded in the binary, `frond.toml`, then
//! `conf.d/*.toml` sorted by name. Secrets are paths, never values; relative ones are looked up under
//! `$CREDENTIALS_DIRECTORY`.

mod artifact;
mod component;
mod de;
mod device;
mod diagnose;
mod fault;
mod host;
mod load;
mod names;
mod raw;
mod resolve;
mod site;
mod text;
mod tree;
mod units;
pub mod wear;
pub(crate) mod workload;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::sample::{Durability, Lane};

pub use artifact::{Artifacts, Registry, RegistryScheme, Secret, Signer, is_listed};
pub use component::{Component, Fallback};
pub use device::{Bias, Device, DeviceEnd, Direction, GpioLine, Parity, Polarity, SerialLine};
pub use diagnose::{ConfigError, Finding, Position, Problem, Warning};
pub use fault::{Doubt, Fault, FilterFault, TemplateFault};
pub use host::{LatticeHost, LatticeShape};
pub use load::{DEFAULT, Inspection, MainFile, Paths, inspect, load, load_file, parse};
pub(crate) use names::{is_name, is_subject, topic_filter};
pub use site::{
    ANONYMOUS, Anonymous, ClientCertificates, Clients, Framing, LISTENER_BIND, Listener, ListenerTls, Site,
    TopicRules, User,
};
pub(crate) use units::{parse_bytes, parse_duration, show_duration};
pub use workload::{Access, Inbox, Link, LinkEnd, Overflow, SecretFile, Source, Target, Workload};
pub use workload::{HttpHost, HttpScheme, HttpSource, HttpTarget};

/// The local socket's name in [`Gateway::run_dir`].
pub const SOCKET_NAME: &str = "frond.sock";

/// Longest path of a local socket: `sun_path` of unix(7), without the zero at its end.
pub(crate) const SOCKET_PATH_MAX: usize = 107;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Who this gateway is and where it keeps things.
    pub gateway: Gateway,
    /// When the wall clock may be believed.
    pub clock: Clock,
    /// The broker door; `None` when `mqtt.broker.url` is not set.
    pub broker: Option<Broker>,
    /// The listener door.
    pub site: Site,
    /// The link to the lattice.
    pub lattice: Lattice,
    /// The journal and the raw ring.
    pub journal: Journal,
    /// The buffer towards the cloud.
    pub outbox: Outbox,
    /// How the buffer is drained.
    pub uplink: Uplink,
    /// Updates on a machine with slots.
    pub slot: Slot,
    /// Devices wired to the gateway.
    pub devices: Vec<Device>,
    /// Components, by name.
    pub components: Vec<Component>,
    /// Components written for wasmCloud.
    pub workloads: Vec<Workload>,
    /// In which file each component of both kinds stands, by its name.
    pub component_files: BTreeMap<String, PathBuf>,
    /// Where components of the lattice come from.
    pub artifacts: Artifacts,
    /// Registries that more is to be said about than their names.
    pub registries: Vec<Registry>,
    /// Whose artifacts run.
    pub signers: Vec<Signer>,
    /// Secrets for components of the lattice.
    pub secrets: Vec<Secret>,
    /// Streams, in the order of the file: the first whose topics match takes a message.
    pub streams: Vec<Stream>,
}

/// Who this gateway is and where it keeps things.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// The device's name in subjects: 1 to 64 of `A-Z a-z 0-9 _ -`. Default: the host name, other characters replaced by `-`.
    pub name: String,
    /// Databases. Default `/var/lib/frond`.
    pub data_dir: PathBuf,
    /// Compiled components and other things that may be deleted at any time. Default `/var/cache/frond`.
    pub cache_dir: PathBuf,
    /// The local socket and rendered configuration of the sidecar. Default `/run/frond`.
    pub run_dir: PathBuf,
    /// `error` to `trace`, as in `tracing`. Default `info`.
    pub log: LogLevel,
}

impl Gateway {
    /// The local socket, which `frond status` asks.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join(SOCKET_NAME)
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// When the wall clock may be believed.
#[derive(Debug, Clone, PartialEq)]
pub struct Clock {
    /// See [`Trust`].
    pub trust: Trust,
    /// The file whose existence says that the time was synchronised. Default `/run/systemd/timesync/synchronized`.
    pub synchronized_file: PathBuf,
}

/// What makes the wall clock trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The synchronized file exists, or the kernel says that its clock is disciplined, or there is a hardware clock and
    /// its time is later than the newest time in the database. The default.
    Auto,
    /// Only once the synchronized file exists.
    Synchronized,
    /// At once: for machines whose clock is somebody else's business, and for tests.
    Always,
}

/// The broker door: frond is a client of a broker on site.
#[derive(Debug, Clone, PartialEq)]
pub struct Broker {
    /// Host of `mqtt://host:port`.
    pub host: String,
    /// Port, default 1883.
    pub port: u16,
    /// Client identifier; each durability class in use is a session of its own, with `-reading`, `-window` or `-none`
    /// behind it. Default `frond-<gateway name>`.
    pub client_id: String,
    /// User name, if the broker wants one.
    pub username: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// MQTT keep-alive, 1 s to 18 h. Default 15 s.
    pub keep_alive: Duration,
    /// QoS 1 messages the broker may leave unacknowledged towards one session (its `max_inflight_messages`), 1 to
    /// 65,535. A group is committed early when half of it is waiting. Default 4,000; mosquitto's own default is 20.
    pub inflight_max: u16,
    /// Largest MQTT packet taken; a larger one closes the connection, so it is set above every stream's `payload_bytes_max`.
    pub packet_bytes_max: u32,
}

/// The link to the lattice.
#[derive(Debug, Clone, PartialEq)]
pub struct Lattice {
    /// A leaf node beside frond, or the hub itself.
    pub mode: LatticeMode,
    /// First token of every subject frond uses: `<subject>.<gateway>.data.<stream>`. Default `frond`.
    pub subject: String,
    /// JetStream domain of the hub, if it has one.
    pub jetstream_domain: Option<String>,
    /// The gateway as a host of a wasmCloud lattice.
    pub host: LatticeHost,
}

/// How frond reaches the hub.
#[derive(Debug, Clone, PartialEq)]
pub enum LatticeMode {
    /// No link: everything is buffered. For commissioning, and when `lattice.mode = "off"`.
    Off,
    /// Through a nats-server on this machine that is a leaf node of the hub. The default.
    Leaf(Leaf),
    /// Straight to the hub.
    Direct(Direct),
}

/// The leaf node beside frond; `frond leaf-conf` renders its configuration from this.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    /// Where the leaf listens for local clients, loopback. Default `127.0.0.1:4222`.
    pub listen: String,
    /// The hub's leaf node URL, `tls://host:7422` or `nats-leaf://host:7422`.
    pub hub: Option<String>,
    /// NATS credentials file for the hub, if it wants one.
    pub credentials: Option<PathBuf>,
    /// Root certificates for the hub; the system's when absent.
    pub ca: Option<PathBuf>,
}

/// A hub reached without a leaf.
#[derive(Debug, Clone, PartialEq)]
pub struct Direct {
    /// `tls://host:4222`; `nats://` only to loopback, unless `allow_plaintext` is set.
    pub url: String,
    /// NATS credentials file.
    pub credentials: Option<PathBuf>,
    /// Root certificates; the system's when absent.
    pub ca: Option<PathBuf>,
    /// Client certificate and key, PEM.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

/// The journal and the raw ring.
#[derive(Debug, Clone, PartialEq)]
pub struct Journal {
    /// Longest time a reading waits for its group commit. 10 ms to 60 s, default 1 s.
    pub commit_interval: Duration,
    /// How far the commit interval may stretch when the wear budget is nearly spent. Default 10 s.
    pub commit_interval_max: Duration,
    /// Readings that cause a commit before the interval is over. Default 16,384.
    pub commit_readings_max: usize,
    /// Longest time between checkpoints while readings arrive. Default 60 s.
    pub checkpoint_interval: Duration,
    /// Shortest time between checkpoints that closed windows ask for; alarms do not wait. Default 5 s.
    pub checkpoint_interval_min: Duration,
    /// Bytes of compacted raw readings kept for recall, oldest dropped first. Default 256 MiB.
    pub ring_bytes_max: u64,
    /// Budget of bytes written to the databases per day; 0 means none. Default 1,640,000,000 (an 8 GB eMMC for ten years).
    pub wear_bytes_per_day: u64,
}

/// The buffer towards the cloud.
#[derive(Debug, Clone, PartialEq)]
pub struct Outbox {
    /// Bytes kept for all streams together. Default 512 MiB.
    pub bytes_max: u64,
    /// Outputs older than this are dropped and counted; `None` keeps them until the byte cap. Default `None`.
    pub age_max: Option<Duration>,
}

/// Updates on a machine with slots.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// How long every critical task must have been healthy before a trial is confirmed, 1 s to 1 h. Default 5 minutes.
    pub confirm_after: Duration,
}

/// How the buffer is drained.
#[derive(Debug, Clone, PartialEq)]
pub struct Uplink {
    /// A publication not acknowledged within this time means that the link is down. Default 30 s.
    pub ack_timeout: Duration,
    /// Most bytes that wait for acknowledgement at a time; the controller stays below it when acknowledgements lag.
    /// Default 4 MiB.
    pub inflight_bytes_max: u64,
    /// Part of the link that the backlog is sure of while live data wants more, per cent, 5 to 95. Default 25.
    pub backlog_share_percent: u8,
    /// Raw recall sends at most this many bytes per second. Default 256 KiB.
    pub recall_bytes_per_second: u64,
}

/// One `[[stream]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Unique; 1 to 64 of `A-Z a-z 0-9 _ -`; a token of the subjects.
    pub name: String,
    /// MQTT topic filters, at least one.
    pub topics: Vec<String>,
    /// MQTT QoS asked of the broker, 0 or 1. Default 1.
    pub qos: u8,
    /// How payloads become readings. Default JSON.
    pub decode: Decode,
    /// Where times come from.
    pub time: TimeSource,
    /// Template of a series' name: text with `{topic}` (the whole topic), `{topic.N}` (level N, from 0), `{field}` (the
    /// flattened field, `a.b.0.c`; empty for payloads without fields). Default `{topic}/{field}`, a trailing `/` cut off.
    pub series: String,
    /// Unit of every series of the stream; empty when unknown.
    pub unit: String,
    /// Labels, by name; values are templates with the placeholders of `series`, `{field}` apart.
    pub labels: BTreeMap<String, String>,
    /// Name of the component the readings pass through.
    pub component: Option<String>,
    /// What becomes of the readings.
    pub reduce: Reduce,
    /// When they are on flash and acknowledged.
    pub durability: Durability,
    /// Lane towards the hub.
    pub lane: Lane,
    /// What happens when the buffer is full.
    pub full: FullPolicy,
    /// Bounds.
    pub caps: Caps,
    /// Readings per second that are expected, for the estimate of wear only.
    pub expect_readings_per_second: Option<f64>,
    /// Series that are expected, for the estimate of wear only.
    pub expect_series: Option<usize>,
}

/// How a payload becomes readings.
#[derive(Debug, Clone, PartialEq)]
pub enum Decode {
    /// JSON: objects are flattened (`{"motor":{"rpm":7}}` is field `motor.rpm`); numbers and booleans are values; text
    /// is skipped and counted. A top-level array holds samples, each decoded like a payload of its own.
    Json(Fields),
    /// CBOR with the same rules.
    Cbor(Fields),
    /// The payload is one number in text.
    Number,
    /// Little-endian samples of one type without a header, `rate` per second. The time is that of the last sample, the
    /// earlier ones are counted back from it.
    Packed(Packed),
}

/// Which fields of a structured payload count.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fields {
    /// Only these flattened fields; all numeric ones when empty.
    pub only: Vec<String>,
    /// Dotted path of an array of samples within the payload; each element is decoded on its own.
    pub samples: Option<String>,
}

/// Little-endian samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Packed {
    /// Type of one sample.
    pub sample: PackedType,
    /// Samples per second, more than 0.
    pub rate: f64,
    /// Every sample is multiplied by this (1.0 leaves integers whole).
    pub scale: f64,
}

/// Type of a packed sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PackedType {
    I16,
    I32,
    F32,
    F64,
}

/// Where a reading's time comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum TimeSource {
    /// Arrival at the gateway.
    Arrival,
    /// A field of the payload (dotted path, looked up in the sample first, then in the payload around it). The field
    /// itself is not a reading.
    Field {
        /// Dotted path.
        field: String,
        /// What it holds.
        format: TimeFormat,
    },
}

/// What a time field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TimeFormat {
    /// Text, RFC 3339; without an offset it is taken as UTC, and a space may stand for the `T`.
    Rfc3339,
    Seconds,
    Milliseconds,
    Nanoseconds,
}

/// What becomes of the readings on their way to the hub.
#[derive(Debug, Clone, PartialEq)]
pub enum Reduce {
    /// Every reading is forwarded, compressed.
    None,
    /// Tumbling windows, aligned to the epoch.
    Window {
        /// Length, 100 ms to 24 h. Default 60 s.
        length: Duration,
        /// How long a window stays open behind the newest time of its series. Default 5 s.
        lateness: Duration,
    },
}

/// What happens when a stream's part of the buffer, or the whole buffer, is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullPolicy {
    /// The oldest outputs go, counted. The default.
    DropOldest,
    /// Messages are no longer acknowledged, so that senders keep them.
    Reject,
}

/// Bounds of one stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Caps {
    /// Largest payload decoded. Default 256 KiB.
    pub payload_bytes_max: usize,
    /// Deepest nesting of a structured payload. Default 16.
    pub depth_max: usize,
    /// Most readings out of one message. Default 65,536.
    pub samples_max: usize,
    /// Most series of the stream; readings of further ones are counted and dropped. Default 10,000.
    pub series_max: usize,
    /// Bytes of the outbox this stream may take; `None`: all of it.
    pub outbox_bytes_max: Option<u64>,
}

#[cfg(test)]
mod tests;
