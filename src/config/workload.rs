//! Components written for wasmCloud, resolved: what they are given, and the links that messages come and go by.
//!
//! Values only. What they mean is in `crate::workload`; how they are written down is in `config/frond.toml`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Component;

mod http;

pub use http::{HttpHost, HttpScheme, HttpSource, HttpTarget};
/// Most of them: each is a task and a connection, and the memory of the smallest board is 512 MiB.
pub(crate) const WORKLOADS_MAX: usize = 16;
/// Most links of one, topics or subjects of a link, and entries of its map.
pub(crate) const LINKS_MAX: usize = 16;
pub(crate) const TOPICS_MAX: usize = 64;
pub(crate) const MAP_MAX: usize = 64;
/// Shortest and longest time between two messages of a timer: a tenth of the rate that a component has by default, a day.
pub(crate) const EVERY_MIN: Duration = Duration::from_millis(10);
pub(crate) const EVERY_MAX: Duration = Duration::from_secs(24 * 3600);
pub(crate) const KEYVALUE_BYTES_MIN: u64 = 1 << 10;
pub(crate) const KEYVALUE_BYTES_MAX: u64 = 256 << 20;
pub(crate) const KEYVALUE_KEYS_MAX: u64 = 1_000_000;
pub(crate) const BLOB_BYTES_MIN: u64 = 64 << 10;
pub(crate) const BLOB_BYTES_MAX: u64 = 1 << 40;
/// Most objects of a link: what is known of each is in memory, some 150 bytes beside its name.
pub(crate) const BLOB_OBJECTS_MAX: u64 = 100_000;

// What counts when nothing is said.
pub(crate) const INBOX_MESSAGES: i64 = 256;
pub(crate) const INBOX_BYTES: usize = 1 << 20;
pub(crate) const MESSAGES_IN_PER_SECOND: i64 = 1_000;
pub(crate) const MESSAGES_OUT_PER_SECOND: i64 = 200;
/// A component works on one thing at a time; four are for those that ask several hosts for it.
pub(crate) const CONNECTIONS_OUT: i64 = 4;
pub(crate) const KEYVALUE_BYTES: u64 = 1 << 20;
pub(crate) const KEYVALUE_KEYS: i64 = 10_000;
pub(crate) const BLOB_BYTES: u64 = 64 << 20;
pub(crate) const BLOB_OBJECTS: i64 = 1_000;
/// Longest time one call may take, waiting included.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

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

// === impl Workload ===

impl Workload {
    /// A workload that nothing more is said about: the defaults of the file, no secrets and no links.
    pub fn of(component: Component) -> Workload {
        let inbox = Inbox {
            messages_max: INBOX_MESSAGES as usize,
            bytes_max: INBOX_BYTES,
            overflow: Overflow::DropOldest,
        };
        Workload {
            component: Component { deadline: DEADLINE, ..component },
            inbox,
            messages_in_per_second: MESSAGES_IN_PER_SECOND as u32,
            messages_out_per_second: MESSAGES_OUT_PER_SECOND as u32,
            connections_out_max: CONNECTIONS_OUT as usize,
            secrets: BTreeMap::new(),
            links: Vec::new(),
        }
    }
}
