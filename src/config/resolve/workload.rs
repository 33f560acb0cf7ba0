//! `[[component]]` with `kind = "wasmcloud"`, and its links.

use std::collections::BTreeMap;

use super::{FileKind, Judge};
use crate::config::diagnose::nearest;
use crate::config::fault::Fault;
use crate::config::raw::{self, Interface, Provider};
use crate::config::tree::KeyPath;
use crate::config::workload::{
    BLOB_BYTES, BLOB_BYTES_MAX, BLOB_BYTES_MIN, BLOB_OBJECTS, BLOB_OBJECTS_MAX, CONNECTIONS_OUT, DEADLINE,
    EVERY_MAX, EVERY_MIN, INBOX_BYTES, INBOX_MESSAGES, KEYVALUE_BYTES, KEYVALUE_BYTES_MAX,
    KEYVALUE_BYTES_MIN, KEYVALUE_KEYS, KEYVALUE_KEYS_MAX, LINKS_MAX, MAP_MAX, MESSAGES_IN_PER_SECOND,
    MESSAGES_OUT_PER_SECOND, TOPICS_MAX, WORKLOADS_MAX,
};
use crate::config::{
    Access, Component, Config, Inbox, Link, LinkEnd, Overflow, SecretFile, Source, Target, Workload, names,
};

/// Most secrets of one, and the longest name for one.
const SECRETS_MAX: usize = 32;
const SECRET_NAME_CHARS_MAX: usize = 128;

const MESSAGES_PER_SECOND_MAX: u32 = 100_000;
const CONNECTIONS_OUT_MAX: usize = 64;

impl Judge<'_> {
    /// What stands in a `[[component]]` beside what every component has.
    pub(super) fn workload(
        &mut self,
        table: &KeyPath,
        raw: &raw::Component,
        mut component: Component,
    ) -> Workload {
        let key = |key: &str| table.key(key);
        if raw.deadline.is_none() {
            component.deadline = DEADLINE;
        }
        let said = [
            ("readings_in_per_second", raw.readings_in_per_second.is_some()),
            ("readings_out_per_second", raw.readings_out_per_second.is_some()),
            ("alarms_per_second", raw.alarms_per_second.is_some()),
            ("commands", !raw.commands.is_empty()),
            ("commands_per_second", raw.commands_per_second.is_some()),
            ("state_bytes_max", raw.state_bytes_max.is_some()),
            ("fallback", raw.fallback.is_some()),
            ("hold_readings_max", raw.hold_readings_max.is_some()),
            ("trial", raw.trial.is_some()),
            ("trial_batches", raw.trial_batches.is_some()),
            ("probation", raw.probation.is_some()),
            ("timer", raw.timer.is_some()),
        ];
        for (key, _) in said.into_iter().filter(|(_, said)| *said) {
            self.refuse(&table.key(key), Fault::OnlyTelemetry);
        }
        let inbox = Inbox {
            messages_max: self.whole_number(
                &key("inbox_messages_max"),
                raw.inbox_messages_max.unwrap_or(INBOX_MESSAGES),
                1,
                1 << 16,
            ),
            bytes_max: usize::try_from(self.bytes(
                &key("inbox_bytes_max"),
                raw.inbox_bytes_max.map_or(INBOX_BYTES as u64, |bytes| bytes.0),
                1 << 10,
                64 << 20,
            ))
            .unwrap_or(usize::MAX),
            overflow: match raw.overflow {
                None | Some(raw::Overflow::DropOldest) => Overflow::DropOldest,
                Some(raw::Overflow::DropNewest) => Overflow::DropNewest,
            },
        };
        let mut rate = |name: &str, said: Option<i64>, usual: i64| -> u32 {
            self.whole_number(&key(name), said.unwrap_or(usual), 1, MESSAGES_PER_SECOND_MAX)
        };
        let messages_in_per_second =
            rate("messages_in_per_second", raw.messages_in_per_second, MESSAGES_IN_PER_SECOND);
        let messages_out_per_second =
            rate("messages_out_per_second", raw.messages_out_per_second, MESSAGES_OUT_PER_SECOND);
        let connections_out_max = self.whole_number(
            &key("connections_out_max"),
            raw.connections_out_max.unwrap_or(CONNECTIONS_OUT),
            1,
            CONNECTIONS_OUT_MAX,
        );
        let links = key("link");
        self.count(&links, raw.link.len(), LINKS_MAX);
        let path = links;
        let mut links: Vec<Link> = Vec::new();
        for (n, raw) in raw.link.iter().enumerate() {
            let Some(link) = self.link(&path.item(n), raw) else { continue };
            let is_timer = |link: &Link| matches!(link.end, LinkEnd::Source(Source::Timer { .. }));
            if is_timer(&link) && links.iter().any(|other| is_timer(other) && other.name == link.name) {
                self.refuse(&path.item(n), Fault::SameTimer { name: link.name.clone() });
            }
            links.push(link);
        }
        let secrets = self.secrets(&key("secrets"), &raw.secrets);
        let workload = Workload {
            component,
            inbox,
            messages_in_per_second,
            messages_out_per_second,
            connections_out_max,
            secrets,
            links,
        };
        let is_called =
            |link: &raw::Link| matches!(link.interface, Some(Interface::Handler | Interface::IncomingHttp));
        if !raw.link.iter().any(is_called) && !self.taken_out.contains(&key("link")) {
            self.refuse(table, Fault::NeverCalled);
        }
        workload
    }

    /// Keys that mean nothing to a telemetry processor.
    pub(super) fn no_workload(&mut self, table: &KeyPath, raw: &raw::Component) {
        let said = [
            ("inbox_messages_max", raw.inbox_messages_max.is_some()),
            ("inbox_bytes_max", raw.inbox_bytes_max.is_some()),
            ("overflow", raw.overflow.is_some()),
            ("messages_in_per_second", raw.messages_in_per_second.is_some()),
            ("messages_out_per_second", raw.messages_out_per_second.is_some()),
            ("connections_out_max", raw.connections_out_max.is_some()),
            ("secrets", !raw.secrets.is_empty()),
            ("link", !raw.link.is_empty()),
        ];
        for (key, _) in said.into_iter().filter(|(_, said)| *said) {
            self.refuse(&table.key(key), Fault::NotWithKind);
        }
    }

    fn secrets(&mut self, table: &KeyPath, raw: &BTreeMap<String, String>) -> BTreeMap<String, SecretFile> {
        self.count(table, raw.len(), SECRETS_MAX);
        let mut secrets = BTreeMap::new();
        for (name, said) in raw {
            let path = table.key(name);
            self.text(&path, name, SECRET_NAME_CHARS_MAX);
            let file = self.credential(&path, said, FileKind::Secret);
            secrets.insert(name.clone(), SecretFile { said: said.clone(), path: file });
        }
        secrets
    }

    fn link(&mut self, table: &KeyPath, raw: &raw::Link) -> Option<Link> {
        let name = match &raw.name {
            Some(name) => self.name(&table.key("name"), name),
            None => "default".to_owned(),
        };
        let Some(interface) = raw.interface else {
            self.missing(table, "interface");
            return None;
        };
        let unused = match interface {
            Interface::Handler | Interface::IncomingHttp => ("target_config", raw.target_config.is_some()),
            Interface::Consumer
            | Interface::KeyValue
            | Interface::Blobs
            | Interface::Device
            | Interface::OutgoingHttp => ("source_config", raw.source_config.is_some()),
        };
        if unused.1 {
            self.refuse(&table.key(unused.0), Fault::OtherEnd { instead: other(unused.0) });
        }
        let has_provider = matches!(interface, Interface::Handler | Interface::Consumer);
        if has_provider && raw.provider.is_none() {
            self.missing(table, "provider");
            return None;
        }
        let provider = raw.provider.unwrap_or(Provider::Mqtt);
        let end = match interface {
            Interface::Handler => {
                self.source(&table.key("source_config"), raw.source_config.as_ref(), provider)
            }
            Interface::Consumer => {
                self.target(&table.key("target_config"), raw.target_config.as_ref(), provider)
            }
            Interface::KeyValue => self.keyvalue(&table.key("target_config"), raw.target_config.as_ref()),
            Interface::Blobs => self.blobs(&table.key("target_config"), raw.target_config.as_ref()),
            Interface::Device => self.device_link(&table.key("target_config"), raw.target_config.as_ref()),
            Interface::IncomingHttp => LinkEnd::HttpSource(
                self.http_source(&table.key("source_config"), raw.source_config.as_ref())?,
            ),
            Interface::OutgoingHttp => {
                LinkEnd::HttpTarget(self.http_target(&table.key("target_config"), raw.target_config.as_ref()))
            }
        };
        Some(Link { name, end })
    }

    fn source(&mut self, path: &KeyPath, raw: Option<&raw::SourceConfig>, provider: Provider) -> LinkEnd {
        let none = raw::SourceConfig::default();
        let raw = raw.unwrap_or(&none);
        LinkEnd::Source(match provider {
            Provider::Mqtt => Source::Mqtt {
                topics: self.mqtt_topics(path, &raw.topics),
                qos: self.whole_number(&path.key("qos"), raw.qos.unwrap_or(1), 0, 1),
                map: self.topic_map(path, &raw.map),
            },
            Provider::Nats => Source::Nats { subjects: self.subjects(path, &raw.subjects) },
            Provider::Timer => match raw.every {
                Some(every) => {
                    Source::Timer { every: self.duration(&path.key("every"), every, EVERY_MIN, EVERY_MAX) }
                }
                None => {
                    self.missing(path, "every");
                    Source::Timer { every: EVERY_MAX }
                }
            },
        })
    }

    fn target(&mut self, path: &KeyPath, raw: Option<&raw::TargetConfig>, provider: Provider) -> LinkEnd {
        let none = raw::TargetConfig::default();
        let raw = raw.unwrap_or(&none);
        LinkEnd::Target(match provider {
            Provider::Mqtt => Target::Mqtt {
                topics: self.mqtt_topics(path, &raw.topics),
                qos: self.whole_number(&path.key("qos"), raw.qos.unwrap_or(1), 0, 1),
                retain: raw.retain.unwrap_or(false),
                map: self.topic_map(path, &raw.map),
            },
            Provider::Nats => Target::Nats { subjects: self.subjects(path, &raw.subjects) },
            Provider::Timer => {
                self.refuse(path, Fault::TimerTarget);
                Target::Nats { subjects: Vec::new() }
            }
        })
    }

    fn keyvalue(&mut self, path: &KeyPath, raw: Option<&raw::TargetConfig>) -> LinkEnd {
        let none = raw::TargetConfig::default();
        let raw = raw.unwrap_or(&none);
        let bytes = raw.bytes_max.map_or(KEYVALUE_BYTES, |bytes| bytes.0);
        LinkEnd::KeyValue {
            bytes_max: self.bytes(&path.key("bytes_max"), bytes, KEYVALUE_BYTES_MIN, KEYVALUE_BYTES_MAX),
            keys_max: self.whole_number(
                &path.key("keys_max"),
                raw.keys_max.unwrap_or(KEYVALUE_KEYS),
                1,
                KEYVALUE_KEYS_MAX,
            ),
        }
    }

    fn blobs(&mut self, path: &KeyPath, raw: Option<&raw::TargetConfig>) -> LinkEnd {
        let none = raw::TargetConfig::default();
        let raw = raw.unwrap_or(&none);
        let bytes = raw.bytes_max.map_or(BLOB_BYTES, |bytes| bytes.0);
        let objects = raw.objects_max.unwrap_or(BLOB_OBJECTS);
        LinkEnd::Blobs {
            bytes_max: self.bytes(&path.key("bytes_max"), bytes, BLOB_BYTES_MIN, BLOB_BYTES_MAX),
            objects_max: self.whole_number(&path.key("objects_max"), objects, 1, BLOB_OBJECTS_MAX),
        }
    }

    fn device_link(&mut self, path: &KeyPath, raw: Option<&raw::TargetConfig>) -> LinkEnd {
        let none = raw::TargetConfig::default();
        let raw = raw.unwrap_or(&none);
        if raw.devices.is_empty() {
            self.missing(path, "devices");
        }
        for (n, name) in raw.devices.iter().enumerate() {
            if !self.device_names.contains(name) {
                let nearest = nearest(name, self.device_names.iter().map(String::as_str)).map(str::to_owned);
                let fault = Fault::NoDevice { name: name.clone(), nearest };
                self.refuse(&path.key("devices").item(n), fault);
            }
        }
        let access = if raw.write == Some(true) { Access::Write } else { Access::Read };
        LinkEnd::Device { devices: raw.devices.clone(), access }
    }

    fn mqtt_topics(&mut self, path: &KeyPath, topics: &[String]) -> Vec<String> {
        if topics.is_empty() {
            self.missing(path, "topics");
        }
        self.filters(&path.key("topics"), topics)
    }

    /// Filters of MQTT.
    pub(super) fn filters(&mut self, path: &KeyPath, filters: &[String]) -> Vec<String> {
        self.count(path, filters.len(), TOPICS_MAX);
        for (n, filter) in filters.iter().enumerate() {
            if let Err(fault) = names::topic_filter(filter) {
                self.refuse(&path.item(n), Fault::Filter { filter: filter.clone(), fault });
            }
        }
        filters.to_vec()
    }

    fn subjects(&mut self, path: &KeyPath, subjects: &[String]) -> Vec<String> {
        if subjects.is_empty() {
            self.missing(path, "subjects");
        }
        let path = path.key("subjects");
        self.count(&path, subjects.len(), TOPICS_MAX);
        for (n, subject) in subjects.iter().enumerate() {
            if !names::is_subject(subject) {
                self.refuse(&path.item(n), Fault::Subject { subject: subject.clone() });
            }
        }
        subjects.to_vec()
    }

    fn topic_map(&mut self, path: &KeyPath, map: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        self.count(&path.key("map"), map.len(), MAP_MAX);
        map.clone()
    }

    /// What can only be told of the whole configuration.
    pub(super) fn workloads_whole(&mut self, config: &Config) {
        let table = KeyPath::of("component");
        self.count(&table, config.workloads.len(), WORKLOADS_MAX);
        let has_mqtt = config.broker.is_some() || !config.site.listeners.is_empty();
        let needs_mqtt = |link: &Link| {
            matches!(link.end, LinkEnd::Source(Source::Mqtt { .. }) | LinkEnd::Target(Target::Mqtt { .. }))
        };
        if !has_mqtt && config.workloads.iter().any(|workload| workload.links.iter().any(needs_mqtt)) {
            self.refuse(&table, Fault::NoDoor);
        }
    }
}

/// The other of the two ends of a link.
fn other(key: &str) -> &'static str {
    if key == "target_config" { "source_config" } else { "target_config" }
}
