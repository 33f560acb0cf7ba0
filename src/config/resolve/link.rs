//! Links to the outside: `[mqtt.broker]` and `[lattice]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{FileKind, Judge};
use crate::config::fault::{Doubt, Fault};
use crate::config::names::{self, Endpoint, EndpointFault};
use crate::config::raw;
use crate::config::tree::KeyPath;
use crate::config::{Broker, Direct, Lattice, LatticeHost, LatticeMode, LatticeShape, Leaf, Stream};

const BROKER_PORT: u16 = 1883;
const CLIENT_PORT: u16 = 4222;
const LEAF_PORT: u16 = 7422;

/// What a PUBLISH may have around its payload: 5 bytes of fixed header, a topic of up to 65,535 bytes with its length, a
/// packet identifier.
const PACKET_OVERHEAD_BYTES: u64 = 5 + 2 + 65_535 + 2;

/// The largest packet MQTT can express: a remaining length of 268,435,455 and its header.
const PACKET_BYTES_MAX: u64 = 268_435_460;

/// Longest client identifier, user name or host we hand to a peer; the protocols allow more, no broker needs it.
pub(super) const PEER_CHARS_MAX: usize = 256;

/// MQTT 3.1.1, 3.1.2.10: a 16-bit number of seconds, 18 hours in round figures.
pub(super) const KEEP_ALIVE_MAX: Duration = Duration::from_secs(18 * 3600);

/// Shortest and longest time between two heartbeats. wadm forgets a host after 70 s.
const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
const HEARTBEAT_MAX: Duration = Duration::from_secs(60);
/// As for telemetry's components.
const PROBATION_MIN: Duration = Duration::from_secs(1);
const PROBATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most labels of the host, and the longest value of one.
const HOST_LABELS_MAX: usize = 32;
const LABEL_CHARS_MAX: usize = 256;
const HTTP_ADDRESSES_MAX: usize = 16;
/// The lattice that wash, wadm and wasmCloud's hosts are in when nobody names one.
const SHARED_LATTICE: &str = "default";

impl Judge<'_> {
    pub(super) fn broker(&mut self, raw: &raw::Broker, gateway: &str, streams: &[Stream]) -> Option<Broker> {
        let key = |key: &str| KeyPath::of("mqtt.broker").key(key);
        let endpoint = raw.url.as_deref().and_then(|url| self.broker_url(&key("url"), url));
        let client_id = match &raw.client_id {
            Some(id) => self.text(&key("client_id"), id, PEER_CHARS_MAX),
            None => format!("frond-{gateway}"),
        };
        let username = raw.username.as_ref().map(|name| self.text(&key("username"), name, PEER_CHARS_MAX));
        let path = key("password_file");
        let password_file =
            raw.password_file.as_ref().map(|file| self.credential(&path, file, FileKind::Secret));
        if password_file.is_some() && username.is_none() && !self.taken_out.contains(&key("username")) {
            self.refuse(&path, Fault::PasswordAlone);
        }
        let keep_alive =
            self.duration(&key("keep_alive"), raw.keep_alive, Duration::from_secs(1), KEEP_ALIVE_MAX);
        self.whole_seconds(&key("keep_alive"), keep_alive);
        let inflight_max = self.whole_number(&key("inflight_max"), raw.inflight_max, 1, u16::MAX);
        let packet_bytes_max = self.packet_bytes(&key("packet_bytes_max"), raw.packet_bytes_max, streams);
        let endpoint = endpoint?;
        if password_file.is_some() && !endpoint.is_loopback() {
            self.doubt(&path, Doubt::PasswordInClear { host: endpoint.host.clone() });
        }
        Some(Broker {
            port: endpoint.port.unwrap_or(BROKER_PORT),
            host: endpoint.host,
            client_id,
            username,
            password_file,
            keep_alive,
            inflight_max,
            packet_bytes_max,
        })
    }

    /// MQTT's times are numbers of seconds.
    pub(super) fn whole_seconds(&mut self, path: &KeyPath, duration: Duration) {
        if duration.subsec_nanos() != 0 {
            let value = crate::config::units::show_duration(duration);
            self.refuse(path, Fault::WholeSeconds { value });
        }
    }

    fn broker_url(&mut self, path: &KeyPath, url: &str) -> Option<Endpoint> {
        const FORM: &str = "mqtt://host:port";
        if url.starts_with("mqtts://") || url.starts_with("ssl://") {
            self.refuse(path, Fault::Mqtts);
            return None;
        }
        self.endpoint(path, url, &["mqtt"], FORM, "set username and password_file")
    }

    /// The largest packet a door takes, which holds the largest payload that any stream takes.
    pub(super) fn packet_bytes(
        &mut self,
        path: &KeyPath,
        raw: Option<raw::Bytes>,
        streams: &[Stream],
    ) -> u32 {
        let largest = streams.iter().max_by_key(|stream| stream.caps.payload_bytes_max);
        let payload = largest.map_or(super::stream::PAYLOAD_BYTES, |stream| stream.caps.payload_bytes_max);
        let least = payload as u64 + PACKET_OVERHEAD_BYTES;
        let bytes = raw.map_or(least, |raw| self.bytes(path, raw.0, 1024, PACKET_BYTES_MAX));
        if let Some(stream) = largest.filter(|_| bytes < least) {
            self.refuse(
                path,
                Fault::PacketTooSmall { value: bytes, stream: stream.name.clone(), payload, least },
            );
        }
        // Saturates only where a bound has been overstepped, and been refused.
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    pub(super) fn lattice(&mut self, raw: &raw::Lattice, gateway: &str) -> Lattice {
        let table = KeyPath::of("lattice");
        let subject = self.name(&table.key("subject"), &raw.subject);
        let jetstream_domain =
            raw.jetstream_domain.as_ref().map(|domain| self.name(&table.key("jetstream_domain"), domain));
        // Both are examined whatever the mode, so that a mistake shows when it is made; only the mode's files are named.
        let files = self.files.len();
        let leaf = self.leaf(&raw.leaf, raw.mode);
        if raw.mode != raw::Mode::Leaf {
            self.files.truncate(files);
        }
        let files = self.files.len();
        let direct = self.direct(&raw.direct, raw.mode);
        let mode = match raw.mode {
            raw::Mode::Off => LatticeMode::Off,
            raw::Mode::Leaf => LatticeMode::Leaf(leaf),
            raw::Mode::Direct => LatticeMode::Direct(direct),
        };
        if raw.mode != raw::Mode::Direct {
            self.files.truncate(files);
        }
        let host = self.lattice_host(&raw.host, gateway);
        Lattice { mode, subject, jetstream_domain, host }
    }

    fn lattice_host(&mut self, raw: &raw::LatticeHost, gateway: &str) -> LatticeHost {
        let table = KeyPath::of("lattice.host");
        let key = |key: &str| table.key(key);
        let shape = match raw.shape {
            raw::LatticeShape::Own => LatticeShape::Own,
            raw::LatticeShape::Shared => LatticeShape::Shared,
        };
        let lattice = match (&raw.lattice, shape) {
            (Some(name), _) => self.name(&key("lattice"), name),
            (None, LatticeShape::Own) => gateway.to_owned(),
            (None, LatticeShape::Shared) => SHARED_LATTICE.to_owned(),
        };
        let friendly_name = match &raw.friendly_name {
            Some(name) => self.text(&key("friendly_name"), name, LABEL_CHARS_MAX),
            None => gateway.to_owned(),
        };
        if !raw.prefix.split('.').all(names::is_name) {
            self.refuse(&key("prefix"), Fault::Subject { subject: raw.prefix.clone() });
        }
        let labels = key("labels");
        self.count(&labels, raw.labels.len(), HOST_LABELS_MAX);
        for (name, value) in &raw.labels {
            if !names::is_label(name) || name.to_lowercase().starts_with("hostcore.") {
                self.refuse(&labels, Fault::HostLabel { name: name.clone() });
            }
            self.text(&labels.key(name), value, LABEL_CHARS_MAX);
        }
        let addresses = key("http_addresses");
        self.count(&addresses, raw.http_addresses.len(), HTTP_ADDRESSES_MAX);
        let mut http_addresses = Vec::new();
        for (n, text) in raw.http_addresses.iter().enumerate() {
            match text.parse::<SocketAddr>().ok().filter(|address| address.port() > 0) {
                Some(address) => http_addresses.push(address),
                None => self.refuse(&addresses.item(n), Fault::Bind { bind: text.clone() }),
            }
        }
        LatticeHost {
            serve: raw.serve,
            shape,
            lattice,
            friendly_name,
            prefix: raw.prefix.clone(),
            heartbeat: self.duration(&key("heartbeat"), raw.heartbeat, HEARTBEAT_MIN, HEARTBEAT_MAX),
            auctions: raw.auctions,
            probation: self.duration(&key("probation"), raw.probation, PROBATION_MIN, PROBATION_MAX),
            http_addresses,
            labels: raw.labels.clone(),
        }
    }

    fn leaf(&mut self, raw: &raw::Leaf, mode: raw::Mode) -> Leaf {
        let key = |key: &str| KeyPath::of("lattice.leaf").key(key);
        let listens =
            names::host_port(&raw.listen).filter(|(host, port)| names::is_loopback(host) && port.is_some());
        if listens.is_none() {
            self.refuse(&key("listen"), Fault::Listen { listen: raw.listen.clone() });
        }
        let hub = raw.hub.as_deref().and_then(|url| {
            const FORM: &str = "tls://host:7422 or nats-leaf://host:7422";
            let path = key("hub");
            let hub = self.endpoint(&path, url, &["tls", "nats-leaf"], FORM, "set credentials")?;
            if hub.scheme != "tls" && !hub.is_loopback() && !raw.allow_plaintext {
                self.refuse(&path, Fault::Plaintext { allow: "lattice.leaf.allow_plaintext" });
            }
            Some(hub.url(LEAF_PORT))
        });
        let leaf = Leaf {
            listen: raw.listen.clone(),
            hub,
            credentials: self.optional(&key("credentials"), raw.credentials.as_deref(), FileKind::Secret),
            ca: self.optional(&key("ca"), raw.ca.as_deref(), FileKind::Certificate),
        };
        match mode {
            raw::Mode::Leaf if raw.hub.is_none() && !self.taken_out.contains(&key("hub")) => {
                self.doubt(&KeyPath::of("lattice.leaf"), Doubt::NoHub);
            }
            raw::Mode::Off | raw::Mode::Direct if raw.hub.is_some() => {
                self.doubt(&key("hub"), Doubt::UnusedMode { mode: mode_word(mode) });
            }
            _ => {}
        }
        leaf
    }

    fn direct(&mut self, raw: &raw::Direct, mode: raw::Mode) -> Direct {
        let table = KeyPath::of("lattice.direct");
        let key = |key: &str| table.key(key);
        let url = raw.url.as_deref().and_then(|url| {
            let path = key("url");
            let hub = self.endpoint(&path, url, &["tls", "nats"], "tls://host:4222", "set credentials")?;
            if hub.scheme != "tls" && !hub.is_loopback() && !raw.allow_plaintext {
                self.refuse(&path, Fault::Plaintext { allow: "lattice.direct.allow_plaintext" });
            }
            Some(hub.url(CLIENT_PORT))
        });
        match mode {
            raw::Mode::Direct if raw.url.is_none() => self.missing(&table, "url"),
            raw::Mode::Off | raw::Mode::Leaf if raw.url.is_some() => {
                self.doubt(&key("url"), Doubt::UnusedMode { mode: mode_word(mode) });
            }
            _ => {}
        }
        let certificate =
            self.optional(&key("certificate"), raw.certificate.as_deref(), FileKind::Certificate);
        let private_key = self.optional(&key("key"), raw.key.as_deref(), FileKind::Secret);
        match (raw.certificate.is_some(), raw.key.is_some()) {
            (true, false) if !self.taken_out.contains(&key("key")) => {
                self.refuse(&key("certificate"), Fault::CertificateHalf { other: "key" });
            }
            (false, true) if !self.taken_out.contains(&key("certificate")) => {
                self.refuse(&key("key"), Fault::CertificateHalf { other: "certificate" });
            }
            _ => {}
        }
        Direct {
            url: url.unwrap_or_default(),
            credentials: self.optional(&key("credentials"), raw.credentials.as_deref(), FileKind::Secret),
            ca: self.optional(&key("ca"), raw.ca.as_deref(), FileKind::Certificate),
            client_certificate: certificate.zip(private_key),
        }
    }

    fn optional(&mut self, path: &KeyPath, text: Option<&str>, kind: FileKind) -> Option<PathBuf> {
        text.map(|text| self.credential(path, text, kind))
    }

    fn endpoint(
        &mut self,
        path: &KeyPath,
        url: &str,
        schemes: &[&str],
        form: &'static str,
        instead: &'static str,
    ) -> Option<Endpoint> {
        match Endpoint::parse(url) {
            Ok(endpoint) if schemes.contains(&endpoint.scheme.as_str()) => Some(endpoint),
            // The URL is not repeated: it holds a secret.
            Err(EndpointFault::User) => {
                self.refuse(path, Fault::UserInUrl { instead });
                None
            }
            Ok(_) | Err(EndpointFault::Form) => {
                self.refuse(path, Fault::Url { url: url.to_owned(), form });
                None
            }
        }
    }
}

fn mode_word(mode: raw::Mode) -> &'static str {
    match mode {
        raw::Mode::Off => "off",
        raw::Mode::Leaf => "leaf",
        raw::Mode::Direct => "direct",
    }
}
