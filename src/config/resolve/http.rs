//! Links of `wasi:http`.

use std::net::SocketAddr;

use super::{FileKind, Judge};
use crate::config::fault::{Doubt, Fault};
use crate::config::raw::{self, Interface};
use crate::config::tree::KeyPath;
use crate::config::workload::http::{
    ANSWER_BYTES, ANSWER_BYTES_MAX, BODY_BYTES, BODY_BYTES_MAX, CONNECTIONS, CONNECTIONS_MAX, HOSTS_MAX,
    TAKEN_BYTES, TAKEN_BYTES_MAX, collide, own_sockets,
};
use crate::config::{Config, HttpHost, HttpSource, HttpTarget};

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
            match HttpHost::parse(text) {
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
        let mut taken = own_sockets(config);
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
