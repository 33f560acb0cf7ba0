//! Links of `wasi:http`, resolved: where a component may ask, and where it is asked.
//!
//! Values only. What they mean is in `crate::workload`; how they are written down is in `config/frond.toml`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// By which requests come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSource {
    /// Where the gateway listens for them.
    pub address: SocketAddr,
    /// Connections at a time, 1 to 256. Default 16.
    pub connections_max: usize,
    /// Largest body of a request, up to 16 MiB. Default 256 KiB.
    pub body_bytes_max: usize,
    /// Largest body of an answer, up to 64 MiB. Default 1 MiB.
    pub answer_bytes_max: usize,
}

/// By which requests go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTarget {
    /// Where they may go, and nowhere else.
    pub hosts: Vec<HttpHost>,
    /// Root certificates in place of the system's.
    pub ca: Option<PathBuf>,
    /// Bytes taken of the body of an answer, up to 1 GiB. Default 4 MiB.
    pub answer_bytes_max: u64,
}

/// A host that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpHost {
    /// How.
    pub scheme: HttpScheme,
    /// Name or address, in small letters; an IPv6 address without its brackets.
    pub name: String,
    /// At which port.
    pub port: u16,
}

/// How a host is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpScheme {
    /// With TLS, which is meant when nothing is said.
    Https,
    /// In the clear, which has to be said.
    Http,
}

// === impl HttpScheme ===

impl HttpScheme {
    /// The port that is meant when none is said.
    pub fn port(self) -> u16 {
        match self {
            HttpScheme::Https => 443,
            HttpScheme::Http => 80,
        }
    }
}

// === impl HttpHost ===

impl fmt::Display for HttpHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            HttpScheme::Https => "https",
            HttpScheme::Http => "http",
        };
        match self.name.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.name, self.port),
            false => write!(f, "{scheme}://{}:{}", self.name, self.port),
        }
    }
}
