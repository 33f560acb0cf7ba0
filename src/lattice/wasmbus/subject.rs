//! Subjects: `<prefix>.v1.<lattice>.<noun>.<verb>[.<name>]`. Pure.

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operation<'a> {
    HostPing,
    HostGet,
    HostStop,
    ComponentAuction,
    ComponentScale,
    ComponentUpdate,
    ProviderAuction,
    ProviderStart,
    ProviderStop,
    LabelPut,
    LabelDel,
    LinkPut,
    LinkDel,
    LinkGet,
    ConfigPut { name: &'a str },
    ConfigGet { name: &'a str },
    ConfigDel { name: &'a str },
    ClaimsGet,
    RegistryPut,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// With wildcards.
    pub subject: String,
    /// Of several members one hears a message.
    pub group: Option<String>,
}

/// Who hosts what.
#[derive(Debug, Clone, Copy)]
pub struct Address<'a> {
    /// `wasmbus.ctl`, unless configured otherwise.
    pub prefix: &'a str,
    /// Name of the lattice.
    pub lattice: &'a str,
    /// Public key of the host.
    pub host: &'a str,
}

/// Whether the host takes part in auctions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auctions {
    /// It bids.
    On,
    /// It does not hear of them.
    Off,
}

// === impl Address ===

impl Address<'_> {
    /// What every host hears.
    pub fn plain(&self, auctions: Auctions) -> Vec<Subscription> {
        let host = self.host;
        let mut tails = vec![
            "registry.put".to_owned(),
            "host.ping".to_owned(),
            format!("component.*.{host}"),
            format!("provider.*.{host}"),
            format!("label.*.{host}"),
            format!("host.*.{host}"),
        ];
        if auctions == Auctions::On {
            tails.extend(["component.auction".to_owned(), "provider.auction".to_owned()]);
        }
        let base = self.base();
        tails
            .into_iter()
            .map(|tail| Subscription { subject: format!("{base}.{tail}"), group: None })
            .collect()
    }

    /// What one host hears of all that answer for the lattice: of its links, configuration and claims.
    pub fn grouped(&self) -> Vec<Subscription> {
        let base = self.base();
        let grouped = [("link.*", "link"), ("claims.get", "claims"), ("config.>", "config")];
        let subscription = |(tail, group)| Subscription {
            subject: format!("{base}.{tail}"),
            group: Some(format!("{base}.{group}")),
        };
        grouped.into_iter().map(subscription).collect()
    }

    fn base(&self) -> String {
        format!("{}.v1.{}", self.prefix, self.lattice)
    }

    /// What a subject asks for; `None` when there is no such thing.
    pub fn operation<'a>(&self, subject: &'a str) -> Option<Operation<'a>> {
        let tail = subject.strip_prefix(self.prefix)?.strip_prefix(".v1.")?;
        let tail = tail.strip_prefix(self.lattice)?.strip_prefix('.')?;
        let mut tokens = tail.split('.');
        let (noun, verb, name, more) = (tokens.next()?, tokens.next()?, tokens.next(), tokens.next());
        if more.is_some() {
            return None;
        }
        let host = Some(self.host);
        Some(match (noun, verb, name) {
            ("host", "ping", None) => Operation::HostPing,
            ("host", "get", name) if name == host => Operation::HostGet,
            ("host", "stop", name) if name == host => Operation::HostStop,
            ("component", "auction", None) => Operation::ComponentAuction,
            ("component", "scale", name) if name == host => Operation::ComponentScale,
            ("component", "update", name) if name == host => Operation::ComponentUpdate,
            ("provider", "auction", None) => Operation::ProviderAuction,
            ("provider", "start", name) if name == host => Operation::ProviderStart,
            ("provider", "stop", name) if name == host => Operation::ProviderStop,
            ("label", "put", name) if name == host => Operation::LabelPut,
            ("label", "del", name) if name == host => Operation::LabelDel,
            ("link", "put", None) => Operation::LinkPut,
            ("link", "del", None) => Operation::LinkDel,
            ("link", "get", None) => Operation::LinkGet,
            ("config", "put", Some(name)) => Operation::ConfigPut { name },
            ("config", "get", Some(name)) => Operation::ConfigGet { name },
            ("config", "del", Some(name)) => Operation::ConfigDel { name },
            ("claims", "get", None) => Operation::ClaimsGet,
            ("registry", "put", None) => Operation::RegistryPut,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Address<'static> = Address { prefix: "wasmbus.ctl", lattice: "plant", host: "NHOST" };

    fn operation(tail: &'static str) -> Option<Operation<'static>> {
        let subject: &'static str = Box::leak(format!("wasmbus.ctl.v1.plant.{tail}").into_boxed_str());
        ADDRESS.operation(subject)
    }

    #[test]
    fn every_operation_has_its_subject_and_nothing_else_has() {
        // Goal: section 1.3 of the protocol, and refusal of the rest. Method: each operation; then a token more or less,
        // another host, lattice, version, prefix, and a configuration with a dot in its name.
        for (tail, expected) in [
            ("host.ping", Operation::HostPing),
            ("host.get.NHOST", Operation::HostGet),
            ("host.stop.NHOST", Operation::HostStop),
            ("component.auction", Operation::ComponentAuction),
            ("component.scale.NHOST", Operation::ComponentScale),
            ("component.update.NHOST", Operation::ComponentUpdate),
            ("provider.auction", Operation::ProviderAuction),
            ("provider.start.NHOST", Operation::ProviderStart),
            ("provider.stop.NHOST", Operation::ProviderStop),
            ("label.put.NHOST", Operation::LabelPut),
            ("label.del.NHOST", Operation::LabelDel),
            ("link.put", Operation::LinkPut),
            ("link.del", Operation::LinkDel),
            ("link.get", Operation::LinkGet),
            ("config.put.a", Operation::ConfigPut { name: "a" }),
            ("config.get.a", Operation::ConfigGet { name: "a" }),
            ("config.del.a", Operation::ConfigDel { name: "a" }),
            ("claims.get", Operation::ClaimsGet),
            ("registry.put", Operation::RegistryPut),
        ] {
            assert_eq!(operation(tail), Some(expected), "{tail}");
        }
        for tail in [
            "host.ping.NHOST",
            "host.get",
            "host.get.NOTHER",
            "component.auction.NHOST",
            "component.start.NHOST",
            "config.put.a.b",
            "config.put",
            "link.put.x",
            "link",
            "",
            "host.get.NHOST.",
            "x.y.z",
        ] {
            assert_eq!(operation(tail), None, "{tail}");
        }
        for subject in
            ["wasmbus.ctl.v2.plant.host.ping", "wasmbus.ctl.v1.plants.host.ping", "x.v1.plant.host.ping"]
        {
            assert_eq!(ADDRESS.operation(subject), None, "{subject}");
        }
    }

    #[test]
    fn the_subscriptions_are_those_of_a_host() {
        // Goal: section 1.1. Method: word for word; without auctions two less.
        let shown: Vec<String> = ADDRESS
            .plain(Auctions::On)
            .into_iter()
            .chain(ADDRESS.grouped())
            .map(|s| s.subject + &s.group.map_or(String::new(), |group| format!(" [{group}]")))
            .collect();
        let base = |tail: &str| format!("wasmbus.ctl.v1.plant.{tail}");
        assert_eq!(
            shown,
            [
                base("registry.put"),
                base("host.ping"),
                base("component.*.NHOST"),
                base("provider.*.NHOST"),
                base("label.*.NHOST"),
                base("host.*.NHOST"),
                base("component.auction"),
                base("provider.auction"),
                base("link.*") + " [wasmbus.ctl.v1.plant.link]",
                base("claims.get") + " [wasmbus.ctl.v1.plant.claims]",
                base("config.>") + " [wasmbus.ctl.v1.plant.config]",
            ]
        );
        assert_eq!(ADDRESS.plain(Auctions::Off).len(), 6);
    }
}
