//! The port for components of this gateway: loopback, for this process alone.
//!
//! A component for wasmCloud is a client of the listener like any other, with a session, a bounded queue and the journal
//! before its subscribers; but it comes without a login that somebody would have to configure. What tells it from other
//! processes of the machine is a random number that is made at each start and never leaves the process. Which topics it
//! may use is decided where its links are, in `crate::workload`, before anything is sent here.
//! Nothing is kept; a connection without the secret is refused and counted like any other login.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};

use super::users::{Pass, Permissions};
use crate::config::{self, Anonymous, Framing, TopicRules};

/// Their user, in front of the component's name. No `[[user]]` can be called so: names are without control characters.
const USER: char = '\u{1}';
/// The name by which commands of all components come; no component's, which have no dots.
pub const COMMANDER: &str = "frond.commands";
/// Components, and as many connections that are being given up.
const CONNECTIONS_MAX: usize = 32;
/// Messages one of them may have unacknowledged.
const RECEIVE_MAX: u16 = 64;
/// Longest keep-alive; they ask for 15 s.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(60);
const SECRET_BYTES: usize = 32;

/// The socket, bound, and what opens it.
#[derive(Debug)]
pub struct Inside {
    /// Bound to loopback.
    pub socket: TcpListener,
    /// What a component shows.
    pub secret: Secret,
}

/// What a component shows as its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

// === impl Inside ===

impl Inside {
    /// Binds a free port of loopback.
    pub fn bind() -> std::io::Result<Inside> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        let mut bytes = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| std::io::Error::other("no random numbers"))?;
        let secret = Secret(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        Ok(Inside { socket, secret })
    }

    /// Where it is.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The port as one more `[[listener]]`.
    pub(super) fn port(&self, site: &config::Site) -> config::Listener {
        let packet_bytes_max = site.listeners.iter().map(|listener| listener.packet_bytes_max).max();
        config::Listener {
            name: "components".to_owned(),
            bind: self.address().unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            tls: None,
            framing: Framing::Mqtt,
            anonymous: Anonymous::Never,
            connections_max: CONNECTIONS_MAX,
            receive_max: RECEIVE_MAX,
            packet_bytes_max: packet_bytes_max.unwrap_or(1 << 20),
            keep_alive_max: KEEP_ALIVE_MAX,
        }
    }
}

/// Whether a session's user is a component of this gateway, or what publishes their commands.
pub(super) fn is_component(user: &str) -> bool {
    user.starts_with(USER)
}

/// Whether a session's user is what publishes commands: its messages are for actuators, and wait for no journal.
pub(super) fn is_commander(user: &str) -> bool {
    user.strip_prefix(USER) == Some(COMMANDER)
}

// === impl Secret ===

impl Secret {
    /// The secret itself, for whoever connects.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What a client that shows it may do.
    pub(super) fn admits(&self, name: Option<&str>, password: Option<&[u8]>) -> Option<Pass> {
        let shown = password.unwrap_or_default();
        let differs = shown.iter().zip(self.0.as_bytes()).fold(0, |differs, (a, b)| differs | (a ^ b));
        if shown.len() != self.0.len() || std::hint::black_box(differs) != 0 {
            return None;
        }
        let everything = TopicRules { publish: vec!["#".to_owned()], subscribe: vec!["#".to_owned()] };
        let user = format!("{USER}{}", name.unwrap_or_default());
        Some(Pass { permissions: Permissions::fill(&everything, None, ""), user: Some(user.into()) })
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_of_this_process_opens_the_port() {
        // Goal: no other process of the machine gets in. Method: nothing, a beginning, one wrong digit, the secret.
        let inside = Inside::bind().unwrap();
        let secret = inside.secret.reveal().as_bytes().to_vec();
        assert_eq!(secret.len(), 2 * SECRET_BYTES);
        let mut wrong = secret.clone();
        wrong[63] ^= 1;
        for shown in [None, Some(&secret[..10]), Some(&wrong[..])] {
            assert_eq!(inside.secret.admits(Some("x"), shown), None);
        }
        let pass = inside.secret.admits(Some("x"), Some(&secret)).unwrap();
        assert_eq!(pass.user.as_deref(), Some("\u{1}x"));
        assert!(pass.permissions.may_publish("a/b") && pass.permissions.may_subscribe("a/#"));
        assert_eq!(format!("{:?}", inside.secret), "Secret(…)");
    }
}
