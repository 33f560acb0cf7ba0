//! Components written for wasmCloud, resolved: what they are given, and the links that messages come and go by.
//!
//! Values only. What they mean is in `crate::workload`; how they are written down is in `config/frond.toml`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Component;

mod http;

pub use http::{HttpHost, HttpScheme, HttpSource, HttpTarget};

/// A `[[component]]` with `kind = "wasmcloud"`.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Its file, memory, deadline and configuration. The deadline's default is 5 s here: it counts waiting, too.
    pub component: Component,
    /// What waits for it.
    pub inbox: Inbox,
    /// Messages it is given in a second, over ten seconds, 1 to 100,000. Default 1,000. More of them wait in the inbox.
    pub messages_in_per_second: u32,
    /// Messages it may publish or request in a second, requests by HTTP among them, 1 to 100,000. Default 200.
    pub messages_out_per_second: u32,
    /// Connections it may have to hosts that it asks by HTTP, 1 to 64. Default 4. A further one waits for one of them.
    pub connections_out_max: usize,
    /// Secrets that it may have, by its own names for them.
    pub secrets: BTreeMap<String, SecretFile>,
    /// Its links.
    pub links: Vec<Link>,
}

/// Where a secret is. Never what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// What the configuration says: the name of a credential, or a path.
    pub said: String,
    /// The file that is read.
    pub path: PathBuf,
}

/// Bounds of what waits for a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbox {
    /// Messages, 1 to 65,536. Default 256.
    pub messages_max: usize,
    /// Bytes of their bodies and subjects, 1 KiB to 64 MiB. Default 1 MiB.
    pub bytes_max: usize,
    /// What goes when there are more.
    pub overflow: Overflow,
}

/// What goes when an inbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The message that waits for longest. The default: what a machine said last counts.
    DropOldest,
    /// The one that has just come.
    DropNewest,
}

/// One `[[component.link]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name; several links of one interface are told apart by it. Default `default`.
    pub name: String,
    /// What it leads to.
    pub end: LinkEnd,
}

/// What a link leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEnd {
    /// Messages come in by it.
    Source(Source),
    /// Messages go out by it.
    Target(Target),
    /// Requests come in by it.
    HttpSource(HttpSource),
    /// Requests go out by it.
    HttpTarget(HttpTarget),
    /// Values are kept by it.
    KeyValue {
        /// Bytes of keys and values, and 64 for each. Default 1 MiB.
        bytes_max: u64,
        /// Keys. Default 10,000.
        keys_max: u64,
    },
    /// Objects are kept by it.
    Blobs {
        /// Bytes of objects, in blocks of the disk. Default 64 MiB.
        bytes_max: u64,
        /// Objects and containers. Default 1,000.
        objects_max: u64,
    },
    /// Devices are used by it.
    Device {
        /// Their names.
        devices: Vec<String>,
        /// What it may do with them.
        access: Access,
    },
}

/// What a link allows with the devices it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading. The default.
    Read,
    /// Changing something in the plant, too.
    Write,
}

/// Where messages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// From the gateway's listener or, where there is none, the broker on site.
    Mqtt {
        /// Topic filters.
        topics: Vec<String>,
        /// 0 or 1.
        qos: u8,
        /// Subjects that stand for topics.
        map: BTreeMap<String, String>,
    },
    /// From the lattice.
    Nats {
        /// Subjects, with wildcards; `subject|group` joins a queue group.
        subjects: Vec<String>,
    },
    /// From the gateway's clock; the subject is `timer.` and the link's name.
    Timer {
        /// Between two of them, 10 ms to 24 h.
        every: Duration,
    },
}

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To the gateway's listener or, where there is none, the broker on site.
    Mqtt {
        /// Topics it may publish to, as filters.
        topics: Vec<String>,
        /// 0 or 1.
        qos: u8,
        /// Whether they are retained.
        retain: bool,
        /// Subjects that stand for topics.
        map: BTreeMap<String, String>,
    },
    /// To the lattice.
    Nats {
        /// Subjects it may publish to, with wildcards.
        subjects: Vec<String>,
    },
}
