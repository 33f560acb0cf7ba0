//! The listener door: `[[listener]]`, `[[user]]` and `[mqtt.clients]`, with the defaults of the first two: no layer lies
//! below them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::link::{KEEP_ALIVE_MAX, PEER_CHARS_MAX};
use super::{FileKind, Judge};
use crate::config::fault::{Doubt, Fault, TemplateFault};
use crate::config::names;
use crate::config::raw;
use crate::config::tree::KeyPath;
use crate::config::{
    ANONYMOUS, Anonymous, ClientCertificates, Clients, Framing, LISTENER_BIND, Listener, ListenerTls, Site,
    Stream, TopicRules, User,
};

/// Most listeners: plain and TLS, on each network a gateway is in.
const LISTENERS_MAX: usize = 16;
/// Most users: a plant's sensors with a name each. 1,024 hashes of 100 bytes are read at start.
const USERS_MAX: usize = 1024;
/// Most rules of a user, for each of the two; each is compared with every new topic.
const RULES_MAX: usize = 64;

const CONNECTIONS: i64 = 1000;
/// Idle connections cost 20 KiB each: 65,536 are 1.3 GB, more than any gateway has.
const CONNECTIONS_MAX: usize = 65_536;
const RECEIVE: i64 = 1000;
/// A session costs about 1 KiB while its client is away.
const SESSIONS_MAX: usize = 100_000;
const SUBSCRIPTIONS_MAX: usize = 4096;
const QUEUE_MESSAGES_MAX: usize = 1 << 20;
const QUEUE_BYTES_MAX: u64 = 256 << 20;
const RETAINED_MAX: usize = 1 << 20;
const RETAINED_BYTES_MAX: u64 = 256 << 20;
/// MQTT 5 counts the expiry of a session in seconds, in 32 bits, of which the last means for ever; a year is plenty.
const EXPIRY_MAX: Duration = Duration::from_secs(365 * 86_400);

const KIB: u64 = 1 << 10;

impl Judge<'_> {
    pub(super) fn site(&mut self, document: &raw::Document, streams: &[Stream]) -> Site {
        let (users, anonymous) = self.users(&document.user);
        let listeners = match (&document.listener, &document.mqtt.broker.url) {
            (Some(written), _) => self.listeners(written, streams),
            // Who configures a broker has one at hand, mostly on the port that the listener would take.
            (None, Some(_)) => Vec::new(),
            (None, None) => vec![self.usual_listener(streams)],
        };
        let site = Site { listeners, users, anonymous, clients: self.clients(&document.mqtt.clients) };
        self.entrances(&site);
        self.unseen_certificates(&document.user, &site.listeners);
        site
    }

    fn clients(&mut self, raw: &raw::Clients) -> Clients {
        let key = |key: &str| KeyPath::of("mqtt.clients").key(key);
        let second = Duration::from_secs(1);
        let expiry = self.duration(&key("session_expiry_max"), raw.session_expiry_max, second, EXPIRY_MAX);
        self.whole_seconds(&key("session_expiry_max"), expiry);
        let [queue, retained] = [raw.queue_bytes_max.0, raw.retained_bytes_max.0];
        Clients {
            sessions_max: self.whole_number(&key("sessions_max"), raw.sessions_max, 1, SESSIONS_MAX),
            session_expiry_max: expiry,
            subscriptions_max: self.whole_number(
                &key("subscriptions_max"),
                raw.subscriptions_max,
                1,
                SUBSCRIPTIONS_MAX,
            ),
            queue_messages_max: self.whole_number(
                &key("queue_messages_max"),
                raw.queue_messages_max,
                1,
                QUEUE_MESSAGES_MAX,
            ),
            queue_bytes_max: self.bytes(&key("queue_bytes_max"), queue, KIB, QUEUE_BYTES_MAX),
            retained_max: self.whole_number(&key("retained_max"), raw.retained_max, 0, RETAINED_MAX),
            retained_bytes_max: self.bytes(&key("retained_bytes_max"), retained, 0, RETAINED_BYTES_MAX),
        }
    }

    fn listeners(&mut self, raw: &[raw::Listener], streams: &[Stream]) -> Vec<Listener> {
        let table = KeyPath::of("listener");
        self.count(&table, raw.len(), LISTENERS_MAX);
        let mut listeners: Vec<Listener> = Vec::new();
        for (n, raw) in raw.iter().enumerate() {
            let listener = self.listener(&table.item(n), raw, streams);
            let twin = listeners.iter().find(|other| other.bind == listener.bind && other.bind.port() > 0);
            if let Some(twin) = twin {
                let other = twin.name.clone();
                self.refuse(&table.item(n).key("bind"), Fault::SameBind { other });
            }
            listeners.push(listener);
        }
        listeners
    }

    fn listener(&mut self, table: &KeyPath, raw: &raw::Listener, streams: &[Stream]) -> Listener {
        let key = |key: &str| table.key(key);
        let keep_alive = raw.keep_alive_max.unwrap_or(raw::Span(KEEP_ALIVE_MAX));
        let keep_alive =
            self.duration(&key("keep_alive_max"), keep_alive, Duration::from_secs(1), KEEP_ALIVE_MAX);
        self.whole_seconds(&key("keep_alive_max"), keep_alive);
        let connections = raw.connections_max.unwrap_or(CONNECTIONS);
        Listener {
            name: self.element_name(table, raw.name.as_deref()),
            bind: self.bind(table, raw.bind.as_deref()),
            tls: raw.tls.as_ref().map(|tls| self.listener_tls(&key("tls"), tls)),
            framing: match raw.websocket {
                Some(true) => Framing::WebSocket,
                Some(false) | None => Framing::Mqtt,
            },
            anonymous: match raw.anonymous {
                Some(raw::Anonymous::Never) => Anonymous::Never,
                Some(raw::Anonymous::Loopback) | None => Anonymous::Loopback,
                Some(raw::Anonymous::Always) => Anonymous::Always,
            },
            connections_max: self.whole_number(&key("connections_max"), connections, 1, CONNECTIONS_MAX),
            receive_max: self.whole_number(
                &key("receive_max"),
                raw.receive_max.unwrap_or(RECEIVE),
                1,
                u16::MAX,
            ),
            packet_bytes_max: self.packet_bytes(&key("packet_bytes_max"), raw.packet_bytes_max, streams),
            keep_alive_max: keep_alive,
        }
    }

    /// The one that is there when nobody has said anything about doors.
    fn usual_listener(&mut self, streams: &[Stream]) -> Listener {
        Listener {
            name: "local".to_owned(),
            bind: LISTENER_BIND,
            tls: None,
            framing: Framing::Mqtt,
            anonymous: Anonymous::Loopback,
            connections_max: CONNECTIONS as usize,
            receive_max: RECEIVE as u16,
            packet_bytes_max: self.packet_bytes(&KeyPath::of("listener"), None, streams),
            keep_alive_max: KEEP_ALIVE_MAX,
        }
    }

    fn bind(&mut self, table: &KeyPath, raw: Option<&str>) -> SocketAddr {
        match raw.map(|text| text.parse().map_err(|_| text)) {
            Some(Ok(bind)) => return bind,
            Some(Err(text)) => self.refuse(&table.key("bind"), Fault::Bind { bind: text.to_owned() }),
            None => self.missing(table, "bind"),
        }
        LISTENER_BIND
    }

    fn listener_tls(&mut self, table: &KeyPath, raw: &raw::ListenerTls) -> ListenerTls {
        let file = |judge: &mut Self, key: &'static str, text: &Option<String>, kind| match text {
            Some(text) => judge.credential(&table.key(key), text, kind),
            None => {
                judge.missing(table, key);
                PathBuf::new()
            }
        };
        let certificate = file(self, "certificate", &raw.certificate, FileKind::Certificate);
        let private_key = file(self, "key", &raw.key, FileKind::Secret);
        let path = table.key("client_ca");
        let roots = raw.client_ca.as_ref().map(|text| self.credential(&path, text, FileKind::Certificate));
        let clients = match (roots, raw.client_certificate) {
            (None, Some(_)) if !self.taken_out.contains(&path) => {
                self.refuse(&table.key("client_certificate"), Fault::NoClientCa);
                ClientCertificates::None
            }
            (None, _) => ClientCertificates::None,
            (Some(roots), Some(raw::ClientCertificate::Required)) => ClientCertificates::Required(roots),
            (Some(roots), Some(raw::ClientCertificate::Optional) | None) => {
                ClientCertificates::Optional(roots)
            }
        };
        ListenerTls { certificate, key: private_key, clients }
    }

    fn users(&mut self, raw: &[raw::User]) -> (Vec<User>, TopicRules) {
        let table = KeyPath::of("user");
        self.count(&table, raw.len(), USERS_MAX);
        let everything = || vec!["#".to_owned()];
        let mut anonymous = TopicRules { publish: everything(), subscribe: everything() };
        let mut users: Vec<User> = Vec::new();
        for (n, raw) in raw.iter().enumerate() {
            let user = self.user(&table.item(n), raw);
            let twin = users
                .iter()
                .find(|other| other.certificate.is_some() && other.certificate == user.certificate);
            if let Some(twin) = twin {
                let other = twin.name.clone();
                self.refuse(&table.item(n).key("certificate"), Fault::SameCertificate { other });
            }
            if user.name == ANONYMOUS {
                anonymous = user.rules;
            } else {
                users.push(user);
            }
        }
        (users, anonymous)
    }

    fn user(&mut self, table: &KeyPath, raw: &raw::User) -> User {
        let key = |key: &str| table.key(key);
        let path = key("password_hash_file");
        let hash = raw.password_hash_file.as_ref().map(|file| self.credential(&path, file, FileKind::Secret));
        let path = key("certificate");
        let certificate = raw.certificate.as_ref().map(|name| self.text(&path, name, PEER_CHARS_MAX));
        let user = User {
            name: self.user_name(table, raw.name.as_deref()),
            password_hash_file: hash,
            certificate,
            rules: TopicRules {
                publish: self.rules(&key("publish"), raw.publish.as_deref()),
                subscribe: self.rules(&key("subscribe"), raw.subscribe.as_deref()),
            },
        };
        let proof = ["password_hash_file", "certificate"].map(key);
        let proven = user.password_hash_file.is_some() || user.certificate.is_some();
        match user.name == ANONYMOUS {
            true if proven => {
                let path = &proof[usize::from(user.password_hash_file.is_none())];
                self.refuse(path, Fault::AnonymousProof);
            }
            false if !proven && !proof.iter().any(|path| self.taken_out.contains(path)) => {
                self.refuse(table, Fault::NoProof);
            }
            false if user.rules == TopicRules::default() => self.doubt(table, Doubt::UserWithoutRules),
            _ => {}
        }
        user
    }

    fn user_name(&mut self, table: &KeyPath, name: Option<&str>) -> String {
        let Some(name) = name else {
            self.missing(table, "name");
            return String::new();
        };
        if !names::is_text(name, PEER_CHARS_MAX) || name.contains(['/', '+', '#']) || name.starts_with('$') {
            let fault = Fault::UserName { name: name.to_owned(), chars_max: PEER_CHARS_MAX };
            self.refuse(&table.key("name"), fault);
        }
        name.to_owned()
    }

    fn rules(&mut self, path: &KeyPath, rules: Option<&[String]>) -> Vec<String> {
        let rules = rules.unwrap_or_default();
        self.count(path, rules.len(), RULES_MAX);
        for (n, rule) in rules.iter().enumerate() {
            match filled(rule) {
                Err(fault) => {
                    self.refuse(&path.item(n), Fault::Template { template: rule.clone(), fault });
                }
                Ok(filter) => {
                    if let Err(fault) = names::topic_filter(&filter) {
                        self.refuse(&path.item(n), Fault::Filter { filter: rule.clone(), fault });
                    }
                }
            }
        }
        rules.to_vec()
    }

    /// What can only be said of listeners and users together.
    fn entrances(&mut self, site: &Site) {
        let passwords = site.users.iter().any(|user| user.password_hash_file.is_some());
        for (n, listener) in site.listeners.iter().enumerate() {
            let table = KeyPath::of("listener").item(n);
            let bind = listener.bind;
            let afar = !bind.ip().is_loopback();
            if afar && listener.anonymous == Anonymous::Always {
                self.doubt(&table.key("anonymous"), Doubt::AnonymousFromAfar { bind });
            }
            if afar && passwords && listener.tls.is_none() {
                self.doubt(&table, Doubt::PasswordsInClear { bind });
            }
            match (listener.takes_nameless(), site.has_users_for(listener)) {
                (false, false) if site.users.is_empty() => self.doubt(&table, Doubt::NobodyEnters),
                (false, false) => self.doubt(&table, Doubt::NobodyProves),
                (true, false) if afar && listener.anonymous == Anonymous::Loopback => {
                    self.doubt(&table, Doubt::NobodyFromAfar { bind });
                }
                _ => {}
            }
        }
    }

    fn unseen_certificates(&mut self, users: &[raw::User], listeners: &[Listener]) {
        let looked_at = |listener: &Listener| {
            listener.tls.as_ref().is_some_and(|tls| tls.clients != ClientCertificates::None)
        };
        if listeners.iter().any(looked_at) {
            return;
        }
        for n in users.iter().enumerate().filter(|(_, user)| user.certificate.is_some()).map(|(n, _)| n) {
            let path = KeyPath::of("user").item(n).key("certificate");
            self.doubt(&path, Doubt::CertificateUnused);
        }
    }
}

/// A rule with something in the place of its placeholders, to be checked as a filter.
fn filled(rule: &str) -> Result<String, TemplateFault> {
    names::user_template(rule)?;
    Ok(rule.replace("{user}", "u").replace("{client}", "c"))
}
