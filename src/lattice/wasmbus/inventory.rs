//! How a host describes itself: to a ping, in its inventory, in its heartbeat. Pure.

use serde::Serialize;

use crate::control::{Pairs, Present, Provider};

/// The answer to a ping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ping<'a> {
    /// Where its control connection goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_host: Option<&'a str>,
    /// See `rpc_host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctl_host: Option<&'a str>,
    /// For people.
    pub friendly_name: &'a str,
    /// Its public key.
    pub id: &'a str,
    /// The hub's JetStream domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub js_domain: Option<&'a str>,
    /// What it is and where.
    pub labels: Pairs,
    /// The lattice.
    pub lattice: &'a str,
    /// For people.
    pub uptime_human: String,
    /// For programs.
    pub uptime_seconds: u64,
    /// Frond's.
    pub version: &'a str,
}

/// What runs on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inventory<'a> {
    /// Components.
    pub components: Vec<ComponentLine>,
    /// Providers.
    pub providers: Vec<ProviderLine>,
    /// Its public key.
    pub host_id: &'a str,
    /// For people.
    pub friendly_name: &'a str,
    /// What it is and where.
    pub labels: Pairs,
    /// Frond's.
    pub version: &'a str,
    /// For people.
    pub uptime_human: String,
    /// For programs.
    pub uptime_seconds: u64,
}

/// A component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComponentLine {
    id: String,
    image_ref: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    annotations: Pairs,
    revision: i32,
    max_instances: u32,
    limits: Option<Pairs>,
}

/// A provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProviderLine {
    id: String,
    image_ref: String,
    revision: i32,
    annotations: Pairs,
}

// === impl ComponentLine ===

impl ComponentLine {
    /// As the lattice is told.
    pub fn of(present: Present) -> ComponentLine {
        let Present { id, reference, limit, annotations, limits, provenance, .. } = present;
        let claims = provenance.and_then(|provenance| provenance.claims);
        // Name and revision are those of an artifact's claims; without claims the revision is 0.
        let revision = claims.as_ref().and_then(|claims| claims.revision).unwrap_or_default();
        let name = claims.and_then(|claims| claims.name);
        ComponentLine { id, image_ref: reference, name, annotations, revision, max_instances: limit, limits }
    }
}

// === impl ProviderLine ===

impl ProviderLine {
    /// As the lattice is told.
    pub fn of(id: &str, provider: &Provider) -> ProviderLine {
        let Provider { reference, annotations, .. } = provider.clone();
        ProviderLine { id: id.to_owned(), image_ref: reference, revision: 0, annotations }
    }
}

/// Seconds for people: `3days 4h 5m 6s`, without what is zero.
pub fn uptime_human(seconds: u64) -> String {
    let days = seconds / 86_400;
    let day = if days == 1 { "day" } else { "days" };
    let parts = [(days, day), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let said: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if said.is_empty() { "0s".to_owned() } else { said.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Origin;

    #[test]
    fn a_host_describes_itself_in_these_bytes() {
        // Goal: section 1.4, field by field. Method: one component and one provider, then a ping with little.
        let labels = Pairs::from([("site".to_owned(), "plant".to_owned())]);
        let present = Present {
            id: "c".into(),
            reference: "file:///c.wasm".into(),
            limit: 3,
            config: Vec::new(),
            annotations: labels.clone(),
            limits: None,
            origin: Origin::Lattice,
            revision: 7,
            state: "ready".into(),
            reason: None,
            former: None,
            is_here: true,
            is_behind: false,
            provenance: None,
        };
        let provider = Provider { reference: "frond+builtin://mqtt".into(), ..Provider::default() };
        let inventory = Inventory {
            components: vec![ComponentLine::of(present)],
            providers: vec![ProviderLine::of("p", &provider)],
            host_id: "N1",
            friendly_name: "press-7",
            labels: labels.clone(),
            version: "0.1.0",
            uptime_human: uptime_human(61),
            uptime_seconds: 61,
        };
        assert_eq!(
            serde_json::to_string(&inventory).unwrap(),
            r#"{"components":[{"id":"c","image_ref":"file:///c.wasm","annotations":{"site":"plant"},"revision":0,"max_instances":3,"limits":null}],"providers":[{"id":"p","image_ref":"frond+builtin://mqtt","revision":0,"annotations":{}}],"host_id":"N1","friendly_name":"press-7","labels":{"site":"plant"},"version":"0.1.0","uptime_human":"1m 1s","uptime_seconds":61}"#
        );
        let ping = Ping {
            rpc_host: None,
            ctl_host: None,
            friendly_name: "press-7",
            id: "N1",
            js_domain: None,
            labels,
            lattice: "press-7",
            uptime_human: uptime_human(0),
            uptime_seconds: 0,
            version: "0.1.0",
        };
        assert_eq!(
            serde_json::to_string(&ping).unwrap(),
            r#"{"friendly_name":"press-7","id":"N1","labels":{"site":"plant"},"lattice":"press-7","uptime_human":"0s","uptime_seconds":0,"version":"0.1.0"}"#
        );
    }

    #[test]
    fn an_uptime_is_read_by_people() {
        // Goal: no zeros, one day without an s. Method: around each unit.
        for (seconds, said) in
            [(0, "0s"), (59, "59s"), (3_600, "1h"), (86_400 + 61, "1day 1m 1s"), (3 * 86_400, "3days")]
        {
            assert_eq!(uptime_human(seconds), said);
        }
    }
}
