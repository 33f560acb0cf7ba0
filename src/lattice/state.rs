//! Where the link to the hub stands, and what somebody should do about it.
//!
//! ```text
//!   Off                        lattice.mode = "off"
//!
//!            connected                 JetStream has our stream
//!   Connecting ──────▶ LocalOnly ─────────────────────────────▶ Up
//!      ▲  ▲                ▲  │                                  │
//!      │  └────────────────┼──┘ connection lost                  │
//!      │                   └───────── probe fails ───────────────┤
//!      │◀──────────────────────────── connection lost ───────────┘
//!      └──▶ Refused           credentials, certificates or addresses are wrong; tried again, but somebody must act
//! ```
//! Pure: types, their sentences, and the judgement of a probe. The link's task owns the state and shows it in a `watch`.

use std::fmt;

use tokio::time::Instant;

use super::api::ApiError;

/// Where the link stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LinkState {
    /// Not wanted.
    Off,
    /// No connection to a NATS server yet, or no longer.
    #[default]
    Connecting,
    /// As [`LinkState::Connecting`], and at least one attempt has failed.
    Retrying(Trouble),
    /// Connected to a NATS server, but JetStream at the hub cannot be used.
    LocalOnly {
        /// Since when, and for this reason.
        since: Instant,
        /// Why.
        reason: Trouble,
    },
    /// The hub takes our rows.
    Up {
        /// Since when; a new time means that the hub was away in between.
        since: Instant,
    },
    /// The server does not let us in, and will not until somebody changes something.
    Refused(Trouble),
}

/// What is wrong with the link. `Display` says what, [`Trouble::advice`] what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing listens where the leaf node should be.
    NoServer {
        /// The address.
        at: String,
        /// What the system said.
        cause: String,
    },
    /// The hub cannot be reached.
    Unreachable {
        /// The address.
        at: String,
        /// What the system said.
        cause: String,
    },
    /// Connected, nothing heard from JetStream yet.
    Unprobed,
    /// The nats-server beside frond has no leaf connection.
    LeafDown,
    /// A leaf connection exists, but nobody answers for JetStream beyond it.
    NoJetStream {
        /// The configured domain.
        domain: Option<String>,
    },
    /// The hub runs JetStream, but does not answer under the configured domain.
    WrongDomain {
        /// The configured domain.
        domain: Option<String>,
    },
    /// The hub answers, but no stream takes our subjects.
    NoStream {
        /// The subjects without a stream.
        subjects: Vec<String>,
    },
    /// Requests to the hub vanish.
    Silent,
    /// JetStream refuses even a question.
    Api(String),
    /// The server denies a subject.
    Denied(String),
    /// The server does not accept the credentials (or wants some).
    Credentials {
        /// The configured file.
        file: Option<String>,
    },
    /// The credentials file cannot be used.
    CredentialsFile {
        /// Which.
        file: String,
        /// Why.
        cause: String,
    },
    /// No TLS session.
    Tls {
        /// The address.
        at: String,
        /// What rustls said.
        cause: String,
    },
    /// The URL cannot be used.
    BadUrl {
        /// Which.
        url: String,
        /// Why.
        cause: String,
    },
}

/// What the nats-server beside frond says of its leaf connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeafFact {
    /// Not asked, or no answer.
    Unknown,
    /// None.
    Down,
    /// At least one; nobody beyond it says that it runs JetStream.
    Up,
    /// At least one, and a server beyond it says that it runs JetStream.
    UpWithJetStream,
}

// === impl LinkState ===

impl LinkState {
    /// Whether the hub takes our rows.
    pub fn is_up(&self) -> bool {
        matches!(self, LinkState::Up { .. })
    }

    /// Whether something proves that messages get to the hub: it takes our rows, or an answer says why it does not.
    pub fn reaches_hub(&self) -> bool {
        match self {
            LinkState::Up { .. } => true,
            LinkState::LocalOnly { reason, .. } => matches!(
                reason,
                Trouble::NoStream { .. }
                    | Trouble::NoJetStream { .. }
                    | Trouble::WrongDomain { .. }
                    | Trouble::Api(_)
            ),
            _ => false,
        }
    }

    /// Since when the hub takes our rows.
    pub fn up_since(&self) -> Option<Instant> {
        match self {
            LinkState::Up { since } => Some(*since),
            _ => None,
        }
    }

    /// What is wrong, if something is.
    pub fn trouble(&self) -> Option<&Trouble> {
        match self {
            LinkState::Off | LinkState::Connecting | LinkState::Up { .. } => None,
            LinkState::Retrying(trouble) | LinkState::Refused(trouble) => Some(trouble),
            LinkState::LocalOnly { reason, .. } => Some(reason),
        }
    }

    /// One word, for status and logs.
    pub fn word(&self) -> &'static str {
        match self {
            LinkState::Off => "off",
            LinkState::Connecting | LinkState::Retrying(_) => "connecting",
            LinkState::LocalOnly { .. } => "local only",
            LinkState::Up { .. } => "up",
            LinkState::Refused(_) => "refused",
        }
    }

    /// The state after a probe that said `trouble`, or that all is well. `since` moves only when something changes.
    #[must_use]
    pub fn probed(&self, trouble: Option<Trouble>, now: Instant) -> LinkState {
        match (self, trouble) {
            (LinkState::Up { .. }, None) => self.clone(),
            (_, None) => LinkState::Up { since: now },
            (LinkState::LocalOnly { reason, .. }, Some(trouble)) if *reason == trouble => self.clone(),
            (_, Some(reason)) => LinkState::LocalOnly { since: now, reason },
        }
    }
}

// === impl Trouble ===

impl Trouble {
    /// Whether it stays until somebody changes a file or the server's mind.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Trouble::Credentials { .. }
                | Trouble::CredentialsFile { .. }
                | Trouble::Tls { .. }
                | Trouble::BadUrl { .. }
        )
    }

    /// What the answer to a probe means. `domain` is the configured one.
    pub fn of_probe(error: &ApiError, leaf: LeafFact, domain: Option<&str>) -> Trouble {
        let domain = domain.map(str::to_owned);
        match (error, leaf) {
            (ApiError::NoResponders, LeafFact::Down) => Trouble::LeafDown,
            (ApiError::NoResponders, LeafFact::UpWithJetStream) => Trouble::WrongDomain { domain },
            (ApiError::NoResponders, LeafFact::Up | LeafFact::Unknown) => Trouble::NoJetStream { domain },
            (ApiError::Silent | ApiError::Disconnected, _) => Trouble::Silent,
            (ApiError::Refused { description, .. }, _) => Trouble::Api(description.clone()),
            (ApiError::Garbled(_), _) => Trouble::Api("an answer that is not JetStream's".to_owned()),
        }
    }

    /// What to do about it, as a sentence for the log and `frond status`.
    pub fn advice(&self) -> String {
        match self {
            Trouble::NoServer { at, .. } => format!(
                "start nats-server (systemctl start frond-nats where its unit is installed), or set lattice.leaf.listen to where it listens instead of {at}"
            ),
            Trouble::Unreachable { .. } => {
                "check the network and lattice.direct.url; frond keeps trying and buffers meanwhile".to_owned()
            }
            Trouble::Unprobed => "wait a second".to_owned(),
            Trouble::LeafDown => {
                "set lattice.leaf.hub if it is not set; check the network and the leaf's remote (frond leaf-conf); frond buffers \
                 meanwhile".to_owned()
            }
            Trouble::NoJetStream { domain: None } => "enable JetStream at the hub with a domain, jetstream { domain: hub }, and set \
                 lattice.jetstream_domain to it: a leaf reaches JetStream by its domain only"
                .to_owned(),
            Trouble::NoJetStream { domain: Some(domain) } => {
                format!(
                    "enable JetStream at the hub: jetstream {{ domain: {domain} }}; if it has another domain, set lattice.jetstream_domain to that"
                )
            }
            Trouble::WrongDomain { domain: Some(domain) } => {
                format!("set lattice.jetstream_domain to the hub's JetStream domain, or give the hub the domain {domain}")
            }
            Trouble::WrongDomain { domain: None } => {
                "give the hub's JetStream a domain, jetstream { domain: hub }, and set lattice.jetstream_domain to it"
                    .to_owned()
            }
            Trouble::NoStream { subjects } => {
                format!("run `frond hub`, or create a stream with the subjects {}", subjects.join(" and "))
            }
            Trouble::Silent => "wait, or look for a stalled network path; frond buffers meanwhile".to_owned(),
            Trouble::Api(_) => "look at the hub's log; this account must be allowed to use JetStream".to_owned(),
            Trouble::Denied(_) => "allow this gateway's account to publish and subscribe to that subject at the hub".to_owned(),
            Trouble::Credentials { file: Some(file) } => {
                format!("put credentials that the server accepts into {file}; frond reads the file again at every attempt")
            }
            Trouble::Credentials { file: None } => "the server wants credentials: set the credentials file".to_owned(),
            Trouble::CredentialsFile { file, .. } => format!("put a NATS credentials file at {file}"),
            Trouble::Tls { .. } => "check lattice.direct.ca and the client certificate against what the hub expects, and \
                 the hub's certificate against the host name in the URL"
                .to_owned(),
            Trouble::BadUrl { .. } => "correct the URL: nats://host:port or tls://host:port".to_owned(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let under = |f: &mut fmt::Formatter<'_>, what: &str, domain: &Option<String>| match domain {
            Some(domain) => write!(f, "{what} under the domain {domain}"),
            None => write!(f, "{what} without a domain"),
        };
        match self {
            Trouble::NoServer { at, cause } => write!(f, "no nats-server at {at} ({cause})"),
            Trouble::Unreachable { at, cause } => write!(f, "the hub at {at} cannot be reached ({cause})"),
            Trouble::Unprobed => f.write_str("the hub's JetStream has not answered yet"),
            Trouble::LeafDown => f.write_str("the leaf link to the hub is down"),
            Trouble::NoJetStream { domain } => under(f, "the hub has no JetStream", domain),
            Trouble::WrongDomain { domain } => under(f, "the hub's JetStream does not answer", domain),
            Trouble::NoStream { subjects } => {
                write!(f, "the hub has no stream for {}", subjects.join(" and "))
            }
            Trouble::Silent => f.write_str("the hub does not answer"),
            Trouble::Api(text) => write!(f, "the hub's JetStream refuses requests: {text}"),
            Trouble::Denied(text) => write!(f, "the server denies a subject: {text}"),
            Trouble::Credentials { .. } => f.write_str("the server does not accept the credentials"),
            Trouble::CredentialsFile { file, cause } => {
                write!(f, "the credentials file {file} cannot be used ({cause})")
            }
            Trouble::Tls { at, cause } => write!(f, "no TLS session with {at} ({cause})"),
            Trouble::BadUrl { url, cause } => write!(f, "the URL {url} cannot be used ({cause})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    // Goal: each arrow of the picture between LocalOnly and Up. Method: probes with and without trouble.
    #[test]
    fn probes_move_the_link_between_local_only_and_up() {
        let start = Instant::now();
        let later = start + Duration::from_secs(5);
        let local = LinkState::Connecting.probed(Some(Trouble::LeafDown), start);
        assert_eq!(local, LinkState::LocalOnly { since: start, reason: Trouble::LeafDown });
        assert_eq!(local.probed(Some(Trouble::LeafDown), later), local);
        let up = local.probed(None, start);
        assert_eq!(up.up_since(), Some(start));
        assert_eq!(up.probed(None, later), up);
        assert_eq!(up.probed(Some(Trouble::Silent), later).trouble(), Some(&Trouble::Silent));
    }

    // Goal: a hub that does not answer is told from a link that is down, from a wrong domain. Method: every leaf fact.
    #[test]
    fn the_leaf_tells_why_nobody_responds() {
        let judge = |leaf| Trouble::of_probe(&ApiError::NoResponders, leaf, Some("hub"));
        let domain = Some("hub".to_owned());
        assert_eq!(judge(LeafFact::Down), Trouble::LeafDown);
        assert_eq!(judge(LeafFact::Up), Trouble::NoJetStream { domain: domain.clone() });
        assert_eq!(judge(LeafFact::Unknown), Trouble::NoJetStream { domain: domain.clone() });
        assert_eq!(judge(LeafFact::UpWithJetStream), Trouble::WrongDomain { domain });
    }
}
