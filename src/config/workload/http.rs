//! Links of `wasi:http`, resolved: where a component may ask, and where it is asked.
//!
//! Values only. What they mean is in `crate::workload`; how they are written down is in `config/frond.toml`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::config::names::{self, Endpoint};
use crate::config::{Config, LatticeMode, LinkEnd};

/// Most hosts of a link; each is compared with every request.
pub(crate) const HOSTS_MAX: usize = 64;
/// Browsers open six at a time: two of them, and a script.
pub(crate) const CONNECTIONS: i64 = 16;
pub(crate) const CONNECTIONS_MAX: usize = 256;
/// With the connections' default, 4 MiB of bodies at the very worst, and 16 MiB of answers.
pub(crate) const BODY_BYTES: u64 = 256 << 10;
pub(crate) const BODY_BYTES_MAX: u64 = 16 << 20;
pub(crate) const ANSWER_BYTES: u64 = 1 << 20;
pub(crate) const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// It goes through piece by piece, and takes no more memory for being longer.
pub(crate) const TAKEN_BYTES: u64 = 4 << 20;
pub(crate) const TAKEN_BYTES_MAX: u64 = 1 << 30;

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

impl HttpHost {
    /// `host`, `host:port`, and either with `https://` or `http://` before it; nothing for anything else.
    pub(crate) fn parse(text: &str) -> Option<HttpHost> {
        let (scheme, name, port) = match text.contains("://") {
            true => {
                let Endpoint { scheme, host, port } = Endpoint::parse(text).ok()?;
                let scheme = match scheme.as_str() {
                    "https" => HttpScheme::Https,
                    "http" => HttpScheme::Http,
                    _ => return None,
                };
                (scheme, host, port)
            }
            false => {
                let (host, port) = names::host_port(text)?;
                (HttpScheme::Https, host, port)
            }
        };
        // An address has several spellings, and a request may use another one than the configuration.
        let name = name.parse().map_or_else(|_| name.to_ascii_lowercase(), |ip: IpAddr| ip.to_string());
        Some(HttpHost { scheme, name, port: port.unwrap_or(scheme.port()) })
    }
}

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

/// Sockets of the gateway itself, with who has them: its listeners, and the leaf node beside it.
pub(crate) fn own_sockets(config: &Config) -> Vec<(SocketAddr, String)> {
    let listeners = config.site.listeners.iter();
    let mut taken: Vec<(SocketAddr, String)> =
        listeners.map(|listener| (listener.bind, format!("listener {:?}", listener.name))).collect();
    if let LatticeMode::Leaf(leaf) = &config.lattice.mode
        && let Ok(listen) = leaf.listen.parse()
    {
        taken.push((listen, "the leaf node (lattice.leaf.listen)".to_owned()));
    }
    taken
}

/// Sockets of the gateway, and of the components that its file has.
pub(crate) fn taken_sockets(config: &Config) -> Vec<(SocketAddr, String)> {
    let mut taken = own_sockets(config);
    for workload in &config.workloads {
        for link in &workload.links {
            if let LinkEnd::HttpSource(source) = &link.end {
                taken.push((source.address, format!("component {:?}", workload.component.name)));
            }
        }
    }
    taken
}

/// Whether the second of two sockets could not be had. The address that stands for all of them collides with each.
pub(crate) fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let same_ip = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() > 0 && same_ip
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_asked_with_tls_unless_it_says_otherwise() {
        // Goal: nothing goes out in the clear by mistake, and the port is the scheme's. Method: each spelling, and slips.
        for (text, shown) in [
            ("api.example.com", "https://api.example.com:443"),
            ("API.example.com:8443", "https://api.example.com:8443"),
            ("10.0.0.5:8080", "https://10.0.0.5:8080"),
            ("http://10.0.0.5", "http://10.0.0.5:80"),
            ("http://meter.plant:8080", "http://meter.plant:8080"),
            ("https://api.example.com", "https://api.example.com:443"),
            ("[0:0::1]:9000", "https://[::1]:9000"),
        ] {
            assert_eq!(HttpHost::parse(text).map(|host| host.to_string()).as_deref(), Some(shown), "{text}");
        }
        for text in
            ["", "*.example.com", "ftp://a", "http://a/path", "a:0", "https://u:p@a", "a b", "http://"]
        {
            assert_eq!(HttpHost::parse(text), None, "{text}");
        }
    }

    #[test]
    fn sockets_collide_where_the_kernel_says_so() {
        // Goal: `frond check` sees what the start would fail on. Method: pairs of addresses.
        let collide = |one: &str, other: &str| collide(one.parse().unwrap(), other.parse().unwrap());
        assert!(collide("127.0.0.1:80", "127.0.0.1:80"));
        assert!(collide("0.0.0.0:80", "127.0.0.1:80"));
        assert!(collide("127.0.0.1:80", "[::]:80"));
        assert!(!collide("127.0.0.1:80", "127.0.0.1:81"));
        assert!(!collide("127.0.0.1:80", "127.0.0.2:80"));
    }
}
