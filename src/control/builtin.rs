//! The providers that a gateway has in itself, by the references that controllers start them with. Pure.

use super::command::Refusal;

/// A provider of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builtin {
    /// Messages by the gateway's listener or the broker on site.
    Mqtt,
    /// Messages by the lattice.
    Nats,
    /// Messages by the gateway's clock.
    Timer,
    /// Values in `state.db`.
    KeyValue,
    /// Objects in files.
    Blobs,
    /// Requests by HTTP that come in.
    HttpServer,
    /// Requests by HTTP that go out.
    HttpClient,
    /// Devices wired to the gateway.
    Devices,
}

const NAMES: [(&str, Builtin); 8] = [
    ("mqtt", Builtin::Mqtt),
    ("messaging-nats", Builtin::Nats),
    ("timer", Builtin::Timer),
    ("keyvalue-sqlite", Builtin::KeyValue),
    ("blobstore-fs", Builtin::Blobs),
    ("http-server", Builtin::HttpServer),
    ("http-client", Builtin::HttpClient),
    ("devices", Builtin::Devices),
];

// === impl Builtin ===

impl Builtin {
    /// The provider that a reference means, or why a gateway does not have it.
    pub fn of(reference: &str) -> Result<Builtin, Refusal> {
        let ours = reference.strip_prefix("frond+builtin://");
        let Some(name) = ours.or_else(|| reference.strip_prefix("wasmcloud+builtin://")) else {
            return Err(Refusal::Binary { has: has() });
        };
        let found = NAMES.iter().find(|(known, _)| *known == name).map(|(_, builtin)| *builtin);
        // Under wasmCloud's scheme only what wasmCloud has there: anything else is somebody's mistake.
        let theirs = [Builtin::Nats, Builtin::HttpServer, Builtin::HttpClient];
        let found = found.filter(|builtin| ours.is_some() || theirs.contains(builtin));
        found.ok_or_else(|| Refusal::NoBuiltin { name: name.chars().take(80).collect(), has: has() })
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, builtin)| *builtin == self).map_or("", |(name, _)| name)
    }

    /// What the configuration of its links may say, whichever way they lead.
    pub fn options(self) -> &'static [&'static str] {
        match self {
            Builtin::Mqtt => &["topics", "qos", "map", "retain"],
            Builtin::Nats => &["subscriptions", "subjects"],
            Builtin::Timer => &["every"],
            Builtin::KeyValue => &["bytes_max", "keys_max"],
            Builtin::Blobs => &["bytes_max", "objects_max"],
            Builtin::HttpServer => &["address", "connections_max", "body_bytes_max", "answer_bytes_max"],
            Builtin::HttpClient => &["hosts", "answer_bytes_max"],
            Builtin::Devices => &["devices", "write"],
        }
    }
}

fn has() -> String {
    NAMES.map(|(name, _)| format!("frond+builtin://{name}")).join(", ")
}
