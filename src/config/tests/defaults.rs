//! `config/frond.toml` documents every key, and what it says is what counts.

use std::path::Path;
use std::time::Duration;

use super::super::de;
use super::super::fault::Fault;
use super::super::raw::Document;
use super::super::tree::{KeyPath, Layer, Node, Tree, Value};
use super::{parse, valid};
use crate::config::{
    Artifacts, Broker, Caps, Clients, Clock, Component, DEFAULT, Decode, Fallback, Fields, FullPolicy,
    Gateway, Journal, LatticeHost, LatticeMode, LatticeShape, Leaf, LogLevel, Outbox, Reduce, Site, Slot,
    Stream, TimeSource, TopicRules, Trust, Uplink,
};
use crate::sample::{Durability, Lane};

/// The default with its examples: lines that begin with `#` and no space are keys.
fn uncommented() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    DEFAULT.lines().map(line).collect()
}

fn tree(text: &str) -> Tree {
    let (tree, problems) = Tree::merge(&[Layer { origin: "default".to_owned(), text: text.to_owned() }]);
    assert_eq!(problems, []);
    tree
}

#[test]
fn the_default_is_what_its_documentation_says() {
    // Goal: nobody changes a default without noticing. Method: every documented default, spelt out.
    let config = valid("mqtt.broker.url = \"mqtt://h\"");
    let seconds = Duration::from_secs;
    assert_eq!(
        config.gateway,
        Gateway {
            name: "gateway".to_owned(),
            data_dir: "/var/lib/frond".into(),
            cache_dir: "/var/cache/frond".into(),
            run_dir: "/run/frond".into(),
            log: LogLevel::Info,
        }
    );
    let synchronized_file = Path::new("/run/systemd/timesync/synchronized").to_owned();
    assert_eq!(config.clock, Clock { trust: Trust::Auto, synchronized_file });
    assert_eq!(
        config.broker,
        Some(Broker {
            host: "h".to_owned(),
            port: 1883,
            client_id: "frond-gateway".to_owned(),
            username: None,
            password_file: None,
            keep_alive: seconds(15),
            inflight_max: 4000,
            packet_bytes_max: 262_144 + 65_544,
        })
    );
    let leaf = Leaf { listen: "127.0.0.1:4222".to_owned(), hub: None, credentials: None, ca: None };
    assert_eq!(config.lattice.mode, LatticeMode::Leaf(leaf));
    assert_eq!((config.lattice.subject.as_str(), config.lattice.jetstream_domain), ("frond", None));
    assert_eq!(
        config.lattice.host,
        LatticeHost {
            serve: true,
            shape: LatticeShape::Own,
            lattice: "gateway".to_owned(),
            friendly_name: "gateway".to_owned(),
            prefix: "wasmbus.ctl".to_owned(),
            heartbeat: seconds(30),
            auctions: true,
            probation: Duration::from_secs(600),
            http_addresses: Vec::new(),
            labels: Default::default(),
        }
    );
    assert_eq!(
        config.journal,
        Journal {
            commit_interval: seconds(1),
            commit_interval_max: seconds(10),
            commit_readings_max: 16_384,
            checkpoint_interval: seconds(60),
            checkpoint_interval_min: seconds(5),
            ring_bytes_max: 256 << 20,
            wear_bytes_per_day: 1_640_000_000,
        }
    );
    assert_eq!(config.outbox, Outbox { bytes_max: 512 << 20, age_max: None });
    assert_eq!(
        config.uplink,
        Uplink {
            ack_timeout: seconds(30),
            inflight_bytes_max: 4 << 20,
            backlog_share_percent: 25,
            recall_bytes_per_second: 256 << 10,
        }
    );
    assert_eq!(
        config.artifacts,
        Artifacts {
            folders: vec!["/usr/share/frond/components".into()],
            bytes_max: 256 << 20,
            allow_unsigned: false,
            ca: None,
        }
    );
    assert_eq!((config.registries, config.signers, config.secrets), (vec![], vec![], vec![]));
    assert_eq!(config.slot, Slot { confirm_after: seconds(300) });
    assert_eq!((config.components.len(), config.streams.len()), (0, 0));
    assert_eq!(
        config.site,
        Site {
            listeners: Vec::new(),
            users: Vec::new(),
            anonymous: TopicRules { publish: vec!["#".to_owned()], subscribe: vec!["#".to_owned()] },
            clients: Clients {
                sessions_max: 1000,
                session_expiry_max: seconds(7 * 86_400),
                subscriptions_max: 64,
                queue_messages_max: 1000,
                queue_bytes_max: 1 << 20,
                retained_max: 10_000,
                retained_bytes_max: 4 << 20,
            },
        }
    );
}

#[test]
fn a_stream_of_name_and_topics_has_the_documented_defaults() {
    // Goal: as above, for what no layer lies below. Method: the smallest stream and component, spelt out.
    let text = "[[stream]]\nname = \"s\"\ntopics = [\"a\"]\ncomponent = \"c\"\n[[component]]\nname = \"c\"\npath = \"/c\"";
    let mut config = valid(text);
    assert_eq!(
        config.streams.remove(0),
        Stream {
            name: "s".to_owned(),
            topics: vec!["a".to_owned()],
            qos: 1,
            decode: Decode::Json(Fields::default()),
            time: TimeSource::Arrival,
            series: "{topic}/{field}".to_owned(),
            unit: String::new(),
            labels: Default::default(),
            component: Some("c".to_owned()),
            reduce: Reduce::Window { length: Duration::from_secs(60), lateness: Duration::from_secs(5) },
            durability: Durability::Reading,
            lane: Lane::Data,
            full: FullPolicy::DropOldest,
            caps: Caps {
                payload_bytes_max: 256 << 10,
                depth_max: 16,
                samples_max: 65_536,
                series_max: 10_000,
                outbox_bytes_max: None,
            },
            expect_readings_per_second: None,
            expect_series: None,
        }
    );
    let component = config.components.remove(0);
    assert_eq!(
        component,
        Component {
            name: "c".to_owned(),
            path: "/c".into(),
            digest: None,
            memory_bytes_max: 16 << 20,
            deadline: Duration::from_millis(500),
            cpu_share_percent: 25,
            readings_in_per_second: 500_000,
            readings_out_per_second: 10_000,
            alarms_per_second: 100,
            commands: Vec::new(),
            commands_per_second: 10,
            log_lines_per_second: 10,
            state_bytes_max: 1 << 20,
            fallback: Fallback::Pass,
            hold_readings_max: 65_536,
            quarantine_failures: 10,
            quarantine_within: Duration::from_secs(600),
            trial: Duration::from_secs(30),
            trial_batches: 100,
            probation: Duration::from_secs(600),
            timer: Duration::from_secs(1),
            config: Default::default(),
        }
    );
}

#[test]
fn the_first_examples_show_the_defaults_of_their_keys() {
    // Goal: what the file shows as a default of a stream or component is one. Method: the example against the smallest
    // stream of the same name.
    let shown = valid(&uncommented());
    let smallest = valid("[[stream]]\nname = \"press\"\ntopics = [\"plant/press/#\"]");
    assert_eq!(shown.streams[0], smallest.streams[0]);
    let smallest =
        valid("[[listener]]\nname = \"local\"\nbind = \"127.0.0.1:1883\"\npacket_bytes_max = \"1MiB\"");
    assert_eq!(shown.site.listeners[0], smallest.site.listeners[0]);
    let path = "/usr/share/frond/components/spike_filter.wasm";
    let smallest =
        valid(&format!("[[component]]\nname = \"spike-filter\"\npath = \"{path}\"")).components.remove(0);
    let mut shown = shown.components[0].clone();
    assert_eq!(shown.config.remove("threshold").as_deref(), Some("4.5"));
    assert_eq!(shown, smallest);
}

#[test]
fn the_examples_of_the_default_are_valid() {
    // Goal: whoever removes a '#' gets something that works. Method: remove all of them.
    let config = parse(&uncommented(), "frond.toml").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((config.streams.len(), config.site.listeners.len(), config.site.users.len()), (3, 2, 1));
    assert_eq!(config.gateway.name, "press-hall-3");
}

#[test]
fn every_key_stands_in_the_default() {
    // Goal: no key is undocumented. Method: ask each table for its keys, by way of one it cannot know, and look for them
    // in the default with its examples.
    let tree = tree(&uncommented());
    let mut keys = 0;
    let tables: [(&str, &str); 27] = [
        ("", ""),
        ("gateway", "gateway"),
        ("clock", "clock"),
        ("mqtt", "mqtt"),
        ("mqtt.broker", "mqtt.broker"),
        ("mqtt.clients", "mqtt.clients"),
        ("listener", "[[listener]]\n"),
        ("listener.tls", "[[listener]]\ntls."),
        ("user", "[[user]]\n"),
        ("lattice", "lattice"),
        ("lattice.leaf", "lattice.leaf"),
        ("lattice.direct", "lattice.direct"),
        ("journal", "journal"),
        ("outbox", "outbox"),
        ("uplink", "uplink"),
        ("artifacts", "artifacts"),
        ("registry", "[[registry]]\n"),
        ("signer", "[[signer]]\n"),
        ("secret", "[[secret]]\n"),
        ("device", "[[device]]\n"),
        ("component", "[[component]]\n"),
        ("component.link", "[[component]]\n[[component.link]]\n"),
        ("component.link.source_config", "[[component]]\n[[component.link]]\nsource_config."),
        ("component.link.target_config", "[[component]]\n[[component.link]]\ntarget_config."),
        ("stream", "[[stream]]\n"),
        ("stream.packed", "[[stream]]\npacked."),
        ("stream.reduce", "[[stream]]\nreduce."),
    ];
    let time = ("stream.time", "[[stream]]\ntime.");
    for (table, prefix) in tables.into_iter().chain([time]) {
        let dot = if prefix.is_empty() || prefix.ends_with(['\n', '.']) { "" } else { "." };
        for key in keys_of(&format!("{prefix}{dot}qqqqqqqqqqqq = 1")) {
            let found = places(&tree.root, table).iter().any(|node| has_key(node, key));
            assert!(found, "config/frond.toml does not document '{key}' of [{table}]");
            keys += 1;
        }
    }
    assert!(keys > 80, "only {keys} keys were asked for");
}

#[test]
fn every_key_of_the_default_is_explained() {
    // Goal: a key comes with words. Method: each key, or block of keys, follows a comment.
    let mut explained = false;
    let exempt = [
        "name = \"oven\"",
        "topics = [\"plant/+",
        "name = \"vib",
        "topics = [\"plant/press/vib",
        "decode = \"packed\"",
        "name = \"plant\"",
        "bind = \"0.0.0.0",
    ];
    let again = ["series = \"{topic.1}", "labels = { line", "durability = \"window\""];
    for line in DEFAULT.lines() {
        let key = line.strip_prefix('#').unwrap_or(line);
        if line.starts_with("# ") {
            explained = true;
        } else if line.is_empty() {
            explained = false;
        } else if !key.starts_with('[') && !exempt.iter().chain(&again).any(|start| key.starts_with(start)) {
            assert!(explained, "no comment before '{line}'");
        }
    }
}

/// The keys a table takes: what serde says is known when it meets one that is not.
fn keys_of(text: &str) -> &'static [&'static str] {
    let (tree, problems) = Tree::merge(&[
        Layer { origin: "default".to_owned(), text: DEFAULT.to_owned() },
        Layer { origin: "probe".to_owned(), text: text.to_owned() },
    ]);
    assert_eq!(problems, []);
    match de::deserialize::<Document>(&tree.root).expect_err("there is no such key").fault {
        Fault::UnknownKey { known, .. } => known,
        other => panic!("{text}: {other}"),
    }
}

/// Every node at a dotted path; elements of lists are looked through.
fn places<'a>(root: &'a Node, path: &str) -> Vec<&'a Node> {
    let mut nodes = vec![root];
    for key in path.split('.').filter(|key| !key.is_empty()) {
        let step = &KeyPath::of(key).0[0];
        nodes = nodes.into_iter().filter_map(|node| node.get(step)).flat_map(elements).collect();
    }
    nodes
}

fn elements(node: &Node) -> Vec<&Node> {
    match &node.value {
        Value::List(list) => list.iter().collect(),
        _ => vec![node],
    }
}

fn has_key(node: &Node, key: &str) -> bool {
    matches!(&node.value, Value::Table(table) if table.contains_key(key))
}
