//! Links as wasmCloud's own providers hear of them: `wasmbus.rpc.<lattice>.<end>.linkdefs.put` and `.del`. Pure.
//!
//! The gateway runs no provider of somebody else's, but one may run beside it on the same NATS server. It is told of links
//! with the values of their configurations, as the reference host does for back compatibility; nothing waits for an answer.

use serde::Serialize;
use serde_json::Value;

use crate::control::{Desired, Event, Link, Pairs};

/// Names of configurations that are secrets begin with it: a link that has one is not told of in the clear.
const SECRET_PREFIX: &str = "SECRET";

/// What is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Where.
    pub subject: String,
    /// JSON.
    pub body: Vec<u8>,
}

#[derive(Serialize)]
struct Resolved<'a> {
    source_id: &'a str,
    target: &'a str,
    name: &'a str,
    wit_namespace: &'a str,
    wit_package: &'a str,
    interfaces: &'a [String],
    source_config: Pairs,
    target_config: Pairs,
    source_secrets: Option<Value>,
    target_secrets: Option<Value>,
}

/// What both ends of a link are told of an event: nothing of most.
pub fn told(event: &Event, lattice: &str, desired: &Desired) -> Vec<Told> {
    let (link, verb, with_values) = match event {
        Event::LinkSet(link) => (link, "put", true),
        Event::LinkDeleted { was: Some(link), .. } => (link, "del", false),
        _ => return Vec::new(),
    };
    let mut names = link.source_config.iter().chain(&link.target_config);
    if names.any(|name| name.starts_with(SECRET_PREFIX)) {
        return Vec::new();
    }
    let body = serde_json::to_vec(&resolved(link, desired, with_values)).expect("texts are JSON");
    let ends = [&link.source_id, &link.target];
    let told = |end: &String| Told {
        subject: format!("wasmbus.rpc.{lattice}.{end}.linkdefs.{verb}"),
        body: body.clone(),
    };
    // An identifier with a dot would be somebody else's subject.
    ends.into_iter().filter(|end| !end.contains('.')).map(told).collect()
}

fn resolved<'a>(link: &'a Link, desired: &Desired, with_values: bool) -> Resolved<'a> {
    let values = |names: &[String]| match with_values {
        // A configuration that was deleted meanwhile is told of by its own event.
        true => desired.merged(names).unwrap_or_default(),
        false => Pairs::new(),
    };
    Resolved {
        source_id: &link.source_id,
        target: &link.target,
        name: &link.name,
        wit_namespace: &link.wit_namespace,
        wit_package: &link.wit_package,
        interfaces: &link.interfaces,
        source_config: values(&link.source_config),
        target_config: values(&link.target_config),
        source_secrets: None,
        target_secrets: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Change, Key, LinkKey, Origin, Spec};

    fn link() -> Link {
        Link {
            source_id: "press".into(),
            target: "broker".into(),
            name: "default".into(),
            wit_namespace: "wasmcloud".into(),
            wit_package: "messaging".into(),
            interfaces: vec!["consumer".into()],
            target_config: vec!["usual".into(), "own".into()],
            ..Link::default()
        }
    }

    #[test]
    fn both_ends_are_told_of_a_link_with_its_values() {
        // Goal: a provider beside the gateway hears what the reference host would tell it. Method: a link that is set, and
        // one that goes, as text.
        let mut desired = Desired::default();
        for (name, values) in
            [("usual", [("qos", "1"), ("topics", "a")]), ("own", [("qos", "0"), ("map", "")])]
        {
            let values = values.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
            desired.make(&Change::Put(Key::Config(name.into()), Spec::Config(values)), 1, Origin::Lattice);
        }
        let set = told(&Event::LinkSet(link()), "hall", &desired);
        let subjects: Vec<&str> = set.iter().map(|told| told.subject.as_str()).collect();
        assert_eq!(subjects, ["wasmbus.rpc.hall.press.linkdefs.put", "wasmbus.rpc.hall.broker.linkdefs.put"]);
        assert_eq!(
            std::str::from_utf8(&set[1].body).unwrap(),
            r#"{"source_id":"press","target":"broker","name":"default","wit_namespace":"wasmcloud","wit_package":"messaging","interfaces":["consumer"],"source_config":{},"target_config":{"map":"","qos":"0","topics":"a"},"source_secrets":null,"target_secrets":null}"#
        );
        let key = LinkKey { target: String::new(), ..link().key() };
        let gone = told(&Event::LinkDeleted { key: key.clone(), was: Some(link()) }, "hall", &desired);
        assert_eq!(gone[0].subject, "wasmbus.rpc.hall.press.linkdefs.del");
        assert!(told(&Event::LinkDeleted { key, was: None }, "hall", &desired).is_empty(), "nobody had it");
    }

    #[test]
    fn secrets_and_odd_names_are_told_to_nobody() {
        // Goal: no secret goes out in the clear, and no identifier leads to another subject. Method: one of each.
        let secret = Link { source_config: vec!["SECRET_key".into()], ..link() };
        assert!(told(&Event::LinkSet(secret), "hall", &Desired::default()).is_empty());
        let odd = Link { target: "a.b".into(), ..link() };
        let told = told(&Event::LinkSet(odd), "hall", &Desired::default());
        assert_eq!(told.len(), 1);
    }
}
