//! One attempt to connect, with the reason when it fails, and how long to wait before the next.
//!
//! Frond dials itself rather than leave it to async-nats' endless reconnection: only the error of a single attempt tells
//! a refused password from a closed port, the credentials file is read afresh each time, and nothing that was queued for
//! a connection hours ago leaves with the next one. Owns nothing.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerAddr, rustls};
use tokio::sync::mpsc;

use super::state::Trouble;
use crate::config::{Lattice, LatticeMode};

/// A server that takes longer for its greeting and the TLS handshake is not one to talk to.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Two unanswered pings, 40 to 60 s, end a connection that an idle gateway would not notice to be dead.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Commands waiting for the connection: the uplink's messages in flight (2,048), recall chunks and probes fit, so that
/// publishing never waits for a place.
const CLIENT_CAPACITY: usize = 4096;

/// Messages waiting in one subscription: every acknowledgement of the uplink's messages in flight, twice over.
const SUBSCRIPTION_CAPACITY: usize = 4096;

/// First attempts come after about this long …
const DELAY_FIRST: Duration = Duration::from_secs(1);

/// … as often as this …
const ATTEMPTS_QUICK: u32 = 3;

/// … then doubled up to this, so that a fleet that lost its hub does not trample it.
pub(super) const DELAY_MAX_DIRECT: Duration = Duration::from_secs(30);

/// The nats-server beside frond is ours alone: nothing to trample.
pub(super) const DELAY_MAX_LEAF: Duration = Duration::from_secs(1);

/// Whom to dial, and how to introduce oneself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `nats://` or `tls://`; a user and password in it are used.
    pub url: String,
    /// NATS credentials file.
    pub credentials: Option<PathBuf>,
    /// Root certificates instead of the system's.
    pub ca: Option<PathBuf>,
    /// Client certificate and key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// What a refused connection means.
    pub peer: Peer,
    /// The name the server shows for the connection.
    pub name: String,
}

/// Who should be at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The nats-server on this machine.
    Leaf,
    /// The hub.
    Hub,
}

/// What becomes of a connection that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconnect {
    /// One attempt by async-nats, then the caller dials again.
    Dial,
    /// async-nats tries for ever: for the command line's tools.
    Forever,
}

// === impl Target ===

impl Target {
    /// The target the configuration names; `None` when the link is off.
    pub fn configured(lattice: &Lattice, gateway: &str) -> Option<Target> {
        let name = format!("frond {gateway}");
        match &lattice.mode {
            LatticeMode::Off => None,
            LatticeMode::Leaf(leaf) => Some(Target {
                url: format!("nats://{}", leaf.listen),
                credentials: None,
                ca: None,
                client_certificate: None,
                peer: Peer::Leaf,
                name,
            }),
            LatticeMode::Direct(direct) => Some(Target {
                url: direct.url.clone(),
                credentials: direct.credentials.clone(),
                ca: direct.ca.clone(),
                client_certificate: direct.client_certificate.clone(),
                peer: Peer::Hub,
                name,
            }),
        }
    }

    /// Longest pause between two attempts.
    pub(super) fn delay_max(&self) -> Duration {
        match self.peer {
            Peer::Leaf => DELAY_MAX_LEAF,
            Peer::Hub => DELAY_MAX_DIRECT,
        }
    }

    /// Connects once. Events of the connection go into `events`, as many as fit.
    pub async fn dial(&self, events: mpsc::Sender<Event>, reconnect: Reconnect) -> Result<Client, Trouble> {
        let address: ServerAddr = self.url.parse().map_err(|error: io::Error| self.bad_url(&error))?;
        let options = self.options(&address, reconnect).await?.event_callback(move |event| {
            // A full channel loses an event; the link's own probes notice what matters.
            let _ = events.try_send(event);
            std::future::ready(())
        });
        options.connect(address).await.map_err(|error| self.diagnose(&error))
    }

    async fn options(&self, address: &ServerAddr, reconnect: Reconnect) -> Result<ConnectOptions, Trouble> {
        let mut options = ConnectOptions::new()
            .name(&self.name)
            .connection_timeout(CONNECTION_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .client_capacity(CLIENT_CAPACITY)
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            .reconnect_delay_callback(|attempts| match attempts {
                0 | 1 => Duration::ZERO,
                more => delay(u32::try_from(more).unwrap_or(u32::MAX), DELAY_MAX_DIRECT, random_unit()),
            });
        if reconnect == Reconnect::Dial {
            options = options.max_reconnects(1);
        }
        if let (Some(user), Some(password)) = (address.username(), address.password()) {
            options = options.user_and_password(user.to_owned(), password.to_owned());
        }
        if let Some(ca) = &self.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let Some((certificate, key)) = &self.client_certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        if let Some(file) = &self.credentials {
            options = options.credentials_file(file).await.map_err(|error| Trouble::CredentialsFile {
                file: file.display().to_string(),
                cause: error.to_string(),
            })?;
        }
        Ok(options)
    }

    fn diagnose(&self, error: &ConnectError) -> Trouble {
        let at = self.address();
        if let Some(tls) = tls_cause(error) {
            return Trouble::Tls { at, cause: tls };
        }
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                Trouble::Credentials {
                    file: self.credentials.as_ref().map(|file| file.display().to_string()),
                }
            }
            ConnectErrorKind::Tls => Trouble::Tls { at, cause: root_cause(error) },
            ConnectErrorKind::ServerParse => self.bad_url(error),
            _ => match self.peer {
                Peer::Leaf => Trouble::NoServer { at, cause: root_cause(error) },
                Peer::Hub => Trouble::Unreachable { at, cause: root_cause(error) },
            },
        }
    }

    /// Host and port, without a password that the URL may hold.
    fn address(&self) -> String {
        match self.url.parse::<ServerAddr>() {
            Ok(address) => format!("{}:{}", address.host(), address.port()),
            Err(_) => "an unreadable address".to_owned(),
        }
    }

    fn bad_url(&self, error: &dyn std::error::Error) -> Trouble {
        Trouble::BadUrl { url: self.address(), cause: root_cause(error) }
    }
}

/// How long to wait before attempt number `attempt` (from 1): about a second for the first few, then doubling up to
/// `delay_max`, spread by half in both directions with `unit` from 0 to 1.
pub(super) fn delay(attempt: u32, delay_max: Duration, unit: f64) -> Duration {
    let doublings = attempt.saturating_sub(ATTEMPTS_QUICK).min(10);
    let middle = (DELAY_FIRST * (1 << doublings)).min(delay_max.mul_f64(2.0 / 3.0));
    middle.mul_f64(0.5 + unit.clamp(0.0, 1.0)).min(delay_max)
}

/// A number from 0 to 1, different on every machine and at every call: the seeds of std's hash tables are.
pub(super) fn random_unit() -> f64 {
    RandomState::new().hash_one(0u8) as f64 / u64::MAX as f64
}

/// The innermost cause, which is what the system said.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// What rustls said, if it said anything; it hides in an I/O error.
fn tls_cause(error: &ConnectError) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let hidden = error.downcast_ref::<io::Error>().and_then(|io| io.get_ref());
        if let Some(tls) = hidden.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(tls.to_string());
        }
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls.to_string());
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: quick at first, capped later, never two gateways in step. Method: the curve at both ends of the spread.
    #[test]
    fn attempts_become_rarer_up_to_the_cap() {
        let at = |attempt, unit| delay(attempt, DELAY_MAX_DIRECT, unit).as_secs_f64();
        for attempt in 1..=3 {
            assert_eq!((at(attempt, 0.0), at(attempt, 1.0)), (0.5, 1.5));
        }
        assert_eq!((at(4, 0.0), at(4, 1.0)), (1.0, 3.0));
        assert_eq!((at(100, 0.0), at(100, 1.0)), (10.0, 30.0));
        assert!(delay(1_000_000, DELAY_MAX_LEAF, 1.0) <= DELAY_MAX_LEAF);
        assert_ne!(random_unit(), random_unit());
    }
}
