//! A link's configuration, texts by name, to what the same link grants in the gateway's file. Pure.
//!
//! Lists are separated by commas: `topics = "orders/#, state/+"`; a map is `"subject = topic, …"`. What a provider does not
//! know is passed over, and told by [`oddity`]: manifests written for wasmCloud's own providers say more than a gateway needs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;

use super::builtin::Builtin;
use super::command::Pairs;
use crate::artifact::trust::Policy;
use crate::config::workload as bounds;
use crate::config::workload::http;
use crate::config::{self, Access, HttpHost, HttpSource, HttpTarget, LinkEnd, Source, Target};

/// Interfaces of the packages that links may be of.
const INTERFACES: [(&str, &[&str]); 5] = [
    ("wasmcloud:messaging", &["handler", "consumer", "types"]),
    ("wasi:keyvalue", &["store", "atomics", "batch"]),
    ("wasi:blobstore", &["blobstore", "container", "types"]),
    ("wasi:http", &["incoming-handler", "outgoing-handler", "types"]),
    ("frond:device", &["modbus", "serial", "gpio", "types"]),
];

/// Where links may lead on this gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// There is a listener or a broker.
    pub has_mqtt: bool,
    /// Names of the devices.
    pub devices: Vec<String>,
    /// Where components may be asked by HTTP, beside loopback.
    pub http_addresses: Vec<SocketAddr>,
    /// Sockets that are somebody's already, and whose.
    pub taken: Vec<(SocketAddr, String)>,
    /// Whose components run, and what these may have.
    pub policy: Policy,
    /// Secrets for components.
    pub secrets: Vec<config::Secret>,
}

/// Which way messages go by a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From a provider to a component.
    In,
    /// From a component to a provider.
    Out,
}

/// What a link by a provider grants, with one sentence when it grants nothing.
pub(super) fn grant(
    builtin: Builtin,
    direction: Direction,
    package: &str,
    values: &Pairs,
    surroundings: &Surroundings,
) -> Result<LinkEnd, String> {
    match (builtin, direction, package) {
        (Builtin::Mqtt, _, "wasmcloud:messaging") if !surroundings.has_mqtt => {
            Err("this gateway has neither a listener nor a broker".to_owned())
        }
        (Builtin::Mqtt, Direction::In, "wasmcloud:messaging") => {
            let (topics, qos, map) = (topics(values)?, qos(values)?, map(values)?);
            Ok(LinkEnd::Source(Source::Mqtt { topics, qos, map }))
        }
        (Builtin::Mqtt, Direction::Out, "wasmcloud:messaging") => {
            let (topics, qos, map) = (topics(values)?, qos(values)?, map(values)?);
            let retain = parsed(values, "retain", false, "true or false")?;
            Ok(LinkEnd::Target(Target::Mqtt { topics, qos, retain, map }))
        }
        (Builtin::Nats, Direction::In, "wasmcloud:messaging") => {
            // The one name is the gateway's, the other wasmCloud's.
            let key = if values.contains_key("subjects") { "subjects" } else { "subscriptions" };
            let subjects = subjects(values, key)?;
            match subjects.is_empty() {
                true => Err("its source_config has no subscriptions".to_owned()),
                false => Ok(LinkEnd::Source(Source::Nats { subjects })),
            }
        }
        // Without subjects it may answer what it is asked, and nothing else.
        (Builtin::Nats, Direction::Out, "wasmcloud:messaging") => {
            Ok(LinkEnd::Target(Target::Nats { subjects: subjects(values, "subjects")? }))
        }
        (Builtin::Timer, Direction::In, "wasmcloud:messaging") => {
            let text = values.get("every").ok_or("its source_config has no every")?;
            let every = config::parse_duration(text)
                .filter(|every| (bounds::EVERY_MIN..=bounds::EVERY_MAX).contains(every))
                .ok_or_else(|| format!("every is {text:?} and not \"10ms\" to \"24h\""))?;
            Ok(LinkEnd::Source(Source::Timer { every }))
        }
        (Builtin::KeyValue, Direction::Out, "wasi:keyvalue") => Ok(LinkEnd::KeyValue {
            bytes_max: bytes(
                values,
                "bytes_max",
                bounds::KEYVALUE_BYTES,
                (bounds::KEYVALUE_BYTES_MIN, bounds::KEYVALUE_BYTES_MAX),
            )?,
            keys_max: number(values, "keys_max", bounds::KEYVALUE_KEYS as u64, bounds::KEYVALUE_KEYS_MAX)?,
        }),
        (Builtin::Blobs, Direction::Out, "wasi:blobstore") => Ok(LinkEnd::Blobs {
            bytes_max: bytes(
                values,
                "bytes_max",
                bounds::BLOB_BYTES,
                (bounds::BLOB_BYTES_MIN, bounds::BLOB_BYTES_MAX),
            )?,
            objects_max: number(
                values,
                "objects_max",
                bounds::BLOB_OBJECTS as u64,
                bounds::BLOB_OBJECTS_MAX,
            )?,
        }),
        (Builtin::HttpServer, Direction::In, "wasi:http") => http_source(values, surroundings),
        (Builtin::HttpClient, Direction::Out, "wasi:http") => http_target(values),
        (Builtin::Devices, Direction::Out, "frond:device") => devices(values, surroundings),
        (_, direction, package) => Err(format!(
            "this provider has nothing for {package} {}",
            if direction == Direction::In { "as a source" } else { "as a target" }
        )),
    }
}

/// What of a link that grants something is passed over: somebody may have meant another word.
pub(super) fn oddity(
    builtin: Builtin,
    package: &str,
    interfaces: &[String],
    values: &Pairs,
) -> Option<String> {
    let has = INTERFACES.iter().find(|(name, _)| *name == package).map_or(&[][..], |(_, has)| has);
    let strange = |known: &[&str], name: &&String| !known.contains(&name.as_str());
    if let Some(name) = interfaces.iter().find(|name| strange(has, name)) {
        return Some(format!("{name:?} is no interface of {package} here; it has {}", has.join(", ")));
    }
    let options = builtin.options();
    let key = values.keys().find(|key| strange(options, key))?;
    Some(format!("{key:?} is no option of {}; it has {}", builtin.name(), options.join(", ")))
}

fn http_source(values: &Pairs, surroundings: &Surroundings) -> Result<LinkEnd, String> {
    let text = values.get("address").ok_or("its source_config has no address, as in \"127.0.0.1:8080\"")?;
    let address: SocketAddr = text
        .trim()
        .parse()
        .map_err(|_| format!("{text:?} is no address and port, as in \"127.0.0.1:8080\""))?;
    if address.port() == 0 {
        return Err(format!("{text:?} has no port"));
    }
    if !address.ip().is_loopback() && !surroundings.http_addresses.contains(&address) {
        return Err(format!(
            "this gateway's components are not asked at {address}; lattice.host.http_addresses would allow it"
        ));
    }
    if let Some((_, by)) = surroundings.taken.iter().find(|(other, _)| http::collide(*other, address)) {
        return Err(format!("{address} is the address of {by}"));
    }
    let in_memory = |key, usual, most| {
        let bytes = bytes(values, key, usual, (1 << 10, most))?;
        usize::try_from(bytes).map_err(|_| format!("{key} is more than the memory of this gateway"))
    };
    let connections =
        number(values, "connections_max", http::CONNECTIONS as u64, http::CONNECTIONS_MAX as u64)?;
    Ok(LinkEnd::HttpSource(HttpSource {
        address,
        connections_max: connections as usize,
        body_bytes_max: in_memory("body_bytes_max", http::BODY_BYTES, http::BODY_BYTES_MAX)?,
        answer_bytes_max: in_memory("answer_bytes_max", http::ANSWER_BYTES, http::ANSWER_BYTES_MAX)?,
    }))
}

fn http_target(values: &Pairs) -> Result<LinkEnd, String> {
    let hosts = list(values, "hosts")?;
    if hosts.is_empty() {
        return Err(
            "its target_config has no hosts, as in \"api.example.com, http://10.0.0.5:8080\"".to_owned()
        );
    }
    let host = |text: &String| HttpHost::parse(text).ok_or_else(|| format!("{text:?} is no host"));
    let answer_bytes_max =
        bytes(values, "answer_bytes_max", http::TAKEN_BYTES, (1 << 10, http::TAKEN_BYTES_MAX))?;
    Ok(LinkEnd::HttpTarget(HttpTarget {
        hosts: hosts.iter().map(host).collect::<Result<_, String>>()?,
        // The system's: a path in a manifest would be a file of somebody else's.
        ca: None,
        answer_bytes_max,
    }))
}

fn devices(values: &Pairs, surroundings: &Surroundings) -> Result<LinkEnd, String> {
    let devices = list(values, "devices")?;
    if devices.is_empty() {
        return Err("its target_config has no devices".to_owned());
    }
    if let Some(unknown) = devices.iter().find(|name| !surroundings.devices.contains(name)) {
        return Err(format!("this gateway has no device {unknown}"));
    }
    let access = if parsed(values, "write", false, "true or false")? { Access::Write } else { Access::Read };
    Ok(LinkEnd::Device { devices, access })
}

fn topics(values: &Pairs) -> Result<Vec<String>, String> {
    let topics = list(values, "topics")?;
    if topics.is_empty() {
        return Err("its configuration has no topics".to_owned());
    }
    match topics.iter().find(|filter| config::topic_filter(filter).is_err()) {
        Some(bad) => Err(format!("{bad:?} is no topic filter")),
        None => Ok(topics),
    }
}

fn subjects(values: &Pairs, key: &str) -> Result<Vec<String>, String> {
    let subjects = list(values, key)?;
    match subjects.iter().find(|subject| !config::is_subject(subject)) {
        Some(bad) => Err(format!("{bad:?} is no subject")),
        None => Ok(subjects),
    }
}

fn qos(values: &Pairs) -> Result<u8, String> {
    let qos = parsed(values, "qos", 1, "0 or 1")?;
    if qos <= 1 { Ok(qos) } else { Err(format!("qos is {qos} and not 0 or 1")) }
}

fn map(values: &Pairs) -> Result<BTreeMap<String, String>, String> {
    let pairs = list(values, "map")?;
    let pair = |text: &String| {
        let (subject, topic) =
            text.split_once('=').ok_or_else(|| format!("{text:?} is no \"subject = topic\""))?;
        Ok((subject.trim().to_owned(), topic.trim().to_owned()))
    };
    pairs.iter().map(pair).collect()
}

fn list(values: &Pairs, key: &str) -> Result<Vec<String>, String> {
    let text = values.get(key).map_or("", String::as_str);
    let items: Vec<String> =
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect();
    match items.len() <= bounds::TOPICS_MAX {
        true => Ok(items),
        false => Err(format!("{key} has more than {} entries", bounds::TOPICS_MAX)),
    }
}

fn bytes(values: &Pairs, key: &str, usual: u64, (least, most): (u64, u64)) -> Result<u64, String> {
    let Some(text) = values.get(key) else { return Ok(usual) };
    let bytes = text.parse().ok().or_else(|| config::parse_bytes(text));
    bytes
        .filter(|bytes| (least..=most).contains(bytes))
        .ok_or_else(|| format!("{key} is {text:?} and not {least} to {most} bytes"))
}

fn number(values: &Pairs, key: &str, usual: u64, most: u64) -> Result<u64, String> {
    let number = parsed(values, key, usual, "a number")?;
    match (1..=most).contains(&number) {
        true => Ok(number),
        false => Err(format!("{key} is {number} and not 1 to {most}")),
    }
}

fn parsed<T: FromStr>(values: &Pairs, key: &str, usual: T, form: &str) -> Result<T, String> {
    match values.get(key) {
        None => Ok(usual),
        Some(text) => text.trim().parse().map_err(|_| format!("{key} is {text:?} and not {form}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(
        builtin: Builtin,
        direction: Direction,
        package: &str,
        values: &[(&str, &str)],
    ) -> Result<LinkEnd, String> {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let surroundings = Surroundings {
            has_mqtt: true,
            devices: vec!["meter".into()],
            http_addresses: vec!["0.0.0.0:8080".parse().unwrap()],
            taken: vec![("127.0.0.1:1883".parse().unwrap(), "listener \"plant\"".into())],
            ..Surroundings::default()
        };
        grant(builtin, direction, package, &values, &surroundings)
    }

    #[test]
    fn texts_become_what_the_file_would_grant() {
        // Goal: a manifest's texts grant what [[component.link]] grants, not more. Method: each provider, with its keys and
        // with as few as there may be.
        let messaging = "wasmcloud:messaging";
        let values = [("topics", "orders/#, state/+"), ("qos", "0"), ("map", "orders.new = orders/new")];
        let map = BTreeMap::from([("orders.new".to_owned(), "orders/new".to_owned())]);
        let topics = vec!["orders/#".to_owned(), "state/+".to_owned()];
        assert_eq!(
            ask(Builtin::Mqtt, Direction::In, messaging, &values),
            Ok(LinkEnd::Source(Source::Mqtt { topics: topics.clone(), qos: 0, map: map.clone() }))
        );
        assert_eq!(
            ask(Builtin::Mqtt, Direction::Out, messaging, &values),
            Ok(LinkEnd::Target(Target::Mqtt { topics, qos: 0, retain: false, map }))
        );
        let values = [("subscriptions", "a.b|group,c.>"), ("cluster_uris", "nats://elsewhere")];
        let subjects = vec!["a.b|group".to_owned(), "c.>".to_owned()];
        assert_eq!(
            ask(Builtin::Nats, Direction::In, messaging, &values),
            Ok(LinkEnd::Source(Source::Nats { subjects }))
        );
        assert_eq!(
            ask(Builtin::Nats, Direction::Out, messaging, &[]),
            Ok(LinkEnd::Target(Target::Nats { subjects: Vec::new() })),
            "it may answer, and nothing else"
        );
        assert_eq!(
            ask(Builtin::KeyValue, Direction::Out, "wasi:keyvalue", &[("bytes_max", "2MiB")]),
            Ok(LinkEnd::KeyValue { bytes_max: 2 << 20, keys_max: 10_000 })
        );
        assert_eq!(
            ask(Builtin::Blobs, Direction::Out, "wasi:blobstore", &[]),
            Ok(LinkEnd::Blobs { bytes_max: 64 << 20, objects_max: 1_000 })
        );
        assert_eq!(
            ask(Builtin::Devices, Direction::Out, "frond:device", &[("devices", "meter"), ("write", "true")]),
            Ok(LinkEnd::Device { devices: vec!["meter".into()], access: Access::Write })
        );
        for address in ["127.0.0.1:9000", "0.0.0.0:8080"] {
            let end = ask(Builtin::HttpServer, Direction::In, "wasi:http", &[("address", address)]).unwrap();
            let LinkEnd::HttpSource(source) = end else { panic!("{end:?}") };
            assert_eq!(source.address.to_string(), address);
            assert_eq!((source.connections_max, source.body_bytes_max), (16, 256 << 10), "as in the file");
        }
        let hosts = [("hosts", "api.example.com, http://10.0.0.5:8080")];
        let end = ask(Builtin::HttpClient, Direction::Out, "wasi:http", &hosts).unwrap();
        let LinkEnd::HttpTarget(target) = end else { panic!("{end:?}") };
        let shown: Vec<String> = target.hosts.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["https://api.example.com:443", "http://10.0.0.5:8080"]);
        let every = std::time::Duration::from_secs(2);
        assert_eq!(
            ask(Builtin::Timer, Direction::In, messaging, &[("every", "2s")]),
            Ok(LinkEnd::Source(Source::Timer { every }))
        );
    }

    #[test]
    fn what_cannot_be_granted_is_told_in_a_sentence() {
        // Goal: bounds and rules of the file hold for manifests. Method: one breach of each.
        let messaging = "wasmcloud:messaging";
        for (builtin, direction, package, values, why) in [
            (Builtin::Mqtt, Direction::In, messaging, vec![], "has no topics"),
            (Builtin::Mqtt, Direction::In, messaging, vec![("topics", "a/#/b")], "is no topic filter"),
            (Builtin::Mqtt, Direction::In, messaging, vec![("topics", "a"), ("qos", "2")], "not 0 or 1"),
            (
                Builtin::Mqtt,
                Direction::Out,
                messaging,
                vec![("topics", "a"), ("map", "b")],
                "subject = topic",
            ),
            (Builtin::Nats, Direction::In, messaging, vec![], "has no subscriptions"),
            (Builtin::Nats, Direction::Out, messaging, vec![("subjects", "a b")], "is no subject"),
            (Builtin::Timer, Direction::In, messaging, vec![("every", "1ms")], "\"10ms\" to \"24h\""),
            (Builtin::KeyValue, Direction::Out, "wasi:keyvalue", vec![("bytes_max", "9GiB")], "not 1024 to"),
            (Builtin::Devices, Direction::Out, "frond:device", vec![("devices", "pump")], "no device pump"),
            (Builtin::KeyValue, Direction::Out, "wasi:http", vec![], "nothing for wasi:http as a target"),
            (Builtin::HttpServer, Direction::In, "wasi:http", vec![], "has no address"),
            (
                Builtin::HttpServer,
                Direction::In,
                "wasi:http",
                vec![("address", "8080")],
                "no address and port",
            ),
            (
                Builtin::HttpServer,
                Direction::In,
                "wasi:http",
                vec![("address", "0.0.0.0:80")],
                "lattice.host.http_addresses would allow it",
            ),
            (
                Builtin::HttpServer,
                Direction::In,
                "wasi:http",
                vec![("address", "127.0.0.1:1883")],
                "is the address of listener \"plant\"",
            ),
            (Builtin::HttpClient, Direction::Out, "wasi:http", vec![], "has no hosts"),
            (Builtin::HttpClient, Direction::Out, "wasi:http", vec![("hosts", "ftp://a")], "is no host"),
            (
                Builtin::Timer,
                Direction::Out,
                messaging,
                vec![],
                "nothing for wasmcloud:messaging as a target",
            ),
        ] {
            let error = ask(builtin, direction, package, &values).unwrap_err();
            assert!(error.contains(why), "{error} does not say {why}");
        }
        let many = vec!["a"; bounds::TOPICS_MAX + 1].join(",");
        assert!(ask(Builtin::Mqtt, Direction::In, messaging, &[("topics", &many)]).is_err());
    }

    #[test]
    fn what_a_link_says_in_vain_is_told() {
        // Goal: a misspelt word is seen. Method: an interface and a key that there are not; all that a provider knows, both ways.
        let odd = |interfaces: &[&str], keys: &[&str]| {
            let interfaces: Vec<String> = interfaces.iter().map(|one| (*one).to_owned()).collect();
            let values = keys.iter().map(|key| ((*key).to_owned(), String::new())).collect();
            oddity(Builtin::Mqtt, "wasmcloud:messaging", &interfaces, &values)
        };
        assert_eq!(odd(&["handler", "consumer"], Builtin::Mqtt.options()), None);
        assert_eq!(
            odd(&["handler", "nonsense"], &[]).unwrap(),
            "\"nonsense\" is no interface of wasmcloud:messaging here; it has handler, consumer, types"
        );
        assert_eq!(
            odd(&["handler"], &["qso", "topics"]).unwrap(),
            "\"qso\" is no option of mqtt; it has topics, qos, map, retain"
        );
    }
}
