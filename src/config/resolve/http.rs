//! Links of `wasi:http`.

use std::net::{IpAddr, SocketAddr};

use super::{FileKind, Judge};
use crate::config::fault::{Doubt, Fault};
use crate::config::names::{self, Endpoint};
use crate::config::raw::{self, Interface};
use crate::config::tree::KeyPath;
use crate::config::{Config, HttpHost, HttpScheme, HttpSource, HttpTarget, LatticeMode};

/// Most hosts of a link; each is compared with every request.
const HOSTS_MAX: usize = 64;
/// Browsers open six at a time: two of them, and a script.
const CONNECTIONS: i64 = 16;
const CONNECTIONS_MAX: usize = 256;
/// With the connections' default, 4 MiB of bodies at the very worst, and 16 MiB of answers.
const BODY_BYTES: u64 = 256 << 10;
const BODY_BYTES_MAX: u64 = 16 << 20;
const ANSWER_BYTES: u64 = 1 << 20;
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// It goes through piece by piece, and takes no more memory for being longer.
const TAKEN_BYTES: u64 = 4 << 20;
const TAKEN_BYTES_MAX: u64 = 1 << 30;

impl Judge<'_> {
    pub(super) fn http_source(
        &mut self,
        path: &KeyPath,
        raw: Option<&raw::SourceConfig>,
    ) -> Option<HttpSource> {
        let none = raw::SourceConfig::default();
        let raw = raw.unwrap_or(&none);
        let Some(text) = &raw.address else {
            self.missing(path, "address");
            return None;
        };
        let at = path.key("address");
        let address: Option<SocketAddr> = text.parse().ok().filter(|address: &SocketAddr| address.port() > 0);
        let Some(address) = address else {
            self.refuse(&at, Fault::Bind { bind: text.clone() });
            return None;
        };
        if !address.ip().is_loopback() {
            self.doubt(&at, Doubt::AskedFromAfar { address });
        }
        let mut bytes = |key: &str, said: Option<raw::Bytes>, usual: u64, most: u64| {
            let bytes = self.bytes(&path.key(key), said.map_or(usual, |bytes| bytes.0), 1 << 10, most);
            usize::try_from(bytes).unwrap_or(usize::MAX)
        };
        Some(HttpSource {
            address,
            body_bytes_max: bytes("body_bytes_max", raw.body_bytes_max, BODY_BYTES, BODY_BYTES_MAX),
            answer_bytes_max: bytes("answer_bytes_max", raw.answer_bytes_max, ANSWER_BYTES, ANSWER_BYTES_MAX),
            connections_max: self.whole_number(
                &path.key("connections_max"),
                raw.connections_max.unwrap_or(CONNECTIONS),
                1,
                CONNECTIONS_MAX,
            ),
        })
    }

    pub(super) fn http_target(&mut self, path: &KeyPath, raw: Option<&raw::TargetConfig>) -> HttpTarget {
        let none = raw::TargetConfig::default();
        let raw = raw.unwrap_or(&none);
        if raw.hosts.is_empty() {
            self.missing(path, "hosts");
        }
        let at = path.key("hosts");
        self.count(&at, raw.hosts.len(), HOSTS_MAX);
        let mut hosts = Vec::new();
        for (n, text) in raw.hosts.iter().enumerate() {
            match http_host(text) {
                Some(host) => hosts.push(host),
                None => self.refuse(&at.item(n), Fault::HttpHost { host: text.clone() }),
            }
        }
        let ca = raw.ca.as_ref().map(|text| self.credential(&path.key("ca"), text, FileKind::Certificate));
        let taken = raw.answer_bytes_max.map_or(TAKEN_BYTES, |bytes| bytes.0);
        let answer_bytes_max = self.bytes(&path.key("answer_bytes_max"), taken, 1 << 10, TAKEN_BYTES_MAX);
        HttpTarget { hosts, ca, answer_bytes_max }
    }

    /// Two that would listen at one address, as far as the configuration tells.
    pub(super) fn http_addresses(&mut self, raw: &[raw::Component], config: &Config) {
        let listeners = config.site.listeners.iter();
        let mut taken: Vec<(SocketAddr, String)> =
            listeners.map(|listener| (listener.bind, format!("listener {:?}", listener.name))).collect();
        if let LatticeMode::Leaf(leaf) = &config.lattice.mode
            && let Ok(listen) = leaf.listen.parse()
        {
            taken.push((listen, "the leaf node (lattice.leaf.listen)".to_owned()));
        }
        for (n, component) in raw.iter().enumerate() {
            let links = KeyPath::of("component").item(n).key("link");
            for (m, link) in component.link.iter().enumerate() {
                let said = link.source_config.as_ref().and_then(|config| config.address.as_ref());
                let address = said.and_then(|text| text.parse().ok());
                let Some(address) = address.filter(|_| link.interface == Some(Interface::IncomingHttp))
                else {
                    continue;
                };
                if let Some((_, by)) = taken.iter().find(|(other, _)| collide(*other, address)) {
                    let at = links.item(m).key("source_config").key("address");
                    self.refuse(&at, Fault::AddressTaken { by: by.clone() });
                }
                let name = component.name.as_deref().unwrap_or_default();
                taken.push((address, format!("component {name:?}")));
            }
        }
    }
}

/// `host`, `host:port`, and either with `https://` or `http://` before it.
fn http_host(text: &str) -> Option<HttpHost> {
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

/// Whether the second of two sockets could not be had. The address that stands for all of them collides with each.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
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
            assert_eq!(http_host(text).map(|host| host.to_string()).as_deref(), Some(shown), "{text}");
        }
        for text in
            ["", "*.example.com", "ftp://a", "http://a/path", "a:0", "https://u:p@a", "a b", "http://"]
        {
            assert_eq!(http_host(text), None, "{text}");
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
