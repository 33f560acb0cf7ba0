//! What the gateway serves on site, resolved: its own MQTT listeners, who may enter, and what clients may take.
//!
//! Values only. What they mean is in `ingest::listener`; how they are written down is in `config/frond.toml`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The user whose rules hold for clients that give no name. Nobody can log in as it.
pub const ANONYMOUS: &str = "anonymous";

/// Where the listener is that exists when none is written and no broker is configured.
pub const LISTENER_BIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883);

/// The listener door.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Sockets that clients connect to, in the order of the file; none when the door is shut.
    pub listeners: Vec<Listener>,
    /// Who may enter, beside anonymous clients.
    pub users: Vec<User>,
    /// What anonymous clients may do. Default: publish and subscribe everywhere, `$`-topics apart.
    pub anonymous: TopicRules,
    /// What clients of all listeners together may take.
    pub clients: Clients,
}

/// One `[[listener]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// What logs and counters call it; 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// Address and port. Port 0 takes a free one, which is logged.
    pub bind: SocketAddr,
    /// TLS; `None` is plain TCP.
    pub tls: Option<ListenerTls>,
    /// What is spoken on the connection.
    pub framing: Framing,
    /// Whether clients without a name may enter.
    pub anonymous: Anonymous,
    /// Connections at a time; further ones are closed at once and counted. Default 1,000.
    pub connections_max: usize,
    /// QoS 1 and 2 messages that one client may have unacknowledged (MQTT 5's receive maximum). Default 1,000.
    pub receive_max: u16,
    /// Largest packet taken from a client; a larger one ends the connection. Default: the largest `payload_bytes_max` of
    /// all streams, and room for topic and header.
    pub packet_bytes_max: u32,
    /// Longest keep-alive. MQTT 5 clients that ask for more, or for none, are told this one. Default 18 h, the most
    /// that MQTT can express.
    pub keep_alive_max: Duration,
}

impl Site {
    /// Whether a listener lets in nobody at all: it takes no nameless clients from where they can come, and no user has what
    /// it asks for.
    pub fn shuts_out_everybody(&self, listener: &Listener) -> bool {
        !listener.takes_nameless() && !self.has_users_for(listener)
    }

    /// Whether some user can prove who he is at this listener.
    pub fn has_users_for(&self, listener: &Listener) -> bool {
        let looks_at = listener.tls.as_ref().is_some_and(|tls| tls.clients != ClientCertificates::None);
        self.users
            .iter()
            .any(|user| user.password_hash_file.is_some() || user.certificate.is_some() && looks_at)
    }
}

impl Listener {
    /// Whether clients without a name may enter from somewhere.
    pub fn takes_nameless(&self) -> bool {
        match self.anonymous {
            Anonymous::Never => false,
            Anonymous::Loopback => self.bind.ip().is_loopback() || self.bind.ip().is_unspecified(),
            Anonymous::Always => true,
        }
    }
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// MQTT packets, one behind the other.
    Mqtt,
    /// MQTT in binary WebSocket messages, subprotocol `mqtt`.
    WebSocket,
}

/// Whether clients without a name may enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anonymous {
    /// Never.
    Never,
    /// If they connect from this machine. The default.
    Loopback,
    /// From anywhere.
    Always,
}

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// Certificate chain, PEM, the listener's own first.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Whether clients show certificates.
    pub clients: ClientCertificates,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked.
    None,
    /// They may; one that is shown must be vouched for by these roots, PEM.
    Optional(PathBuf),
    /// They must; likewise.
    Required(PathBuf),
}

/// One `[[user]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User name of CONNECT.
    pub name: String,
    /// File with the hash of the password, as `frond password` prints it.
    pub password_hash_file: Option<PathBuf>,
    /// Common name, or DNS name, of the client certificate that stands for this user.
    pub certificate: Option<String>,
    /// What it may do.
    pub rules: TopicRules,
}

/// Topic filters, with the placeholders `{user}` and `{client}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicRules {
    /// Topics it may publish to: those that match one of these.
    pub publish: Vec<String>,
    /// Filters it may subscribe to: those that one of these covers altogether.
    pub subscribe: Vec<String>,
}

/// What clients of all listeners together may take.
#[derive(Debug, Clone, PartialEq)]
pub struct Clients {
    /// Sessions kept, of connected and absent clients together. Default 1,000.
    pub sessions_max: usize,
    /// Longest time the session of an absent client is kept. Default 7 d.
    pub session_expiry_max: Duration,
    /// Subscriptions of one client. Default 64.
    pub subscriptions_max: usize,
    /// Messages waiting for one client. Default 1,000.
    pub queue_messages_max: usize,
    /// Bytes of the messages waiting for one client. Default 1 MiB.
    pub queue_bytes_max: u64,
    /// Topics whose last message is retained. Default 10,000.
    pub retained_max: usize,
    /// Bytes of retained messages, topics included. Default 4 MiB.
    pub retained_bytes_max: u64,
}
