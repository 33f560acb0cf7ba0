//! What can be asked for, why it is refused, and what is told afterwards. No protocol is named here: the local socket and
//! the lattice both speak this.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::desired::{Change, Component, Key, Link, LinkKey, Provider, Spec};
use super::merge::EntryKey;
use crate::artifact::claims::Claims;

/// Names and values.
pub type Pairs = BTreeMap<String, String>;

/// Who asked. The numbers are in `state.db`: append only, never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Origin {
    /// The gateway's configuration.
    LocalFile = 1,
    /// Controllers of the lattice.
    Lattice = 2,
    /// Somebody at the gateway, by its local socket.
    Site = 3,
    /// Configuration that came with the image, and changes with the image only.
    Image = 4,
}

/// What may be done to the reference of a component that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replacing {
    /// It becomes the one that is given.
    Allowed,
    /// It stays.
    NotAllowed,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
#[allow(missing_docs)]
pub enum Command {
    /// A component is to run, with at most so many calls at a time; 0 stops it.
    Scale { id: String, component: Component, replacing: Replacing },
    /// A component that is there is to run from another artifact. Without annotations it keeps those it has.
    Update { id: String, reference: String, annotations: Option<Pairs> },
    /// A provider is to be there.
    StartProvider { id: String, provider: Provider },
    /// A provider is not to be there.
    StopProvider { id: String },
    /// A link is to be there.
    PutLink { link: Link },
    /// A link is not.
    DeleteLink { source_id: String, name: String, wit_namespace: String, wit_package: String },
    /// A named configuration is to have these values.
    PutConfig { name: String, values: Pairs },
    /// A named configuration is not to be there.
    DeleteConfig { name: String },
    /// A label is to have this value.
    PutLabel { key: String, value: String },
    /// A label is not to be there.
    DeleteLabel { key: String },
}

/// Why a command is refused; it has changed nothing. The texts of wasmCloud's hosts are theirs, word for word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error("component {id} not found")]
    NoComponent { id: String },
    #[error("provider with that ID is already running")]
    ProviderRuns,
    #[error("provider with that ID is not running")]
    ProviderRunsNot,
    #[error(
        "link already exists with different target, consider deleting the existing link or using a different link name"
    )]
    LinkTaken,
    #[error("Failed to validate configuration and secrets. {missing}")]
    NoConfig { missing: String },
    #[error("hostcore.* labels cannot be set dynamically")]
    HostCore,
    #[error("{what} {name} is set by the gateway's own configuration file and is changed there")]
    OfTheFile { what: &'static str, name: String },
    #[error("component {name} is set by the gateway's image and changes with it")]
    OfTheImage { name: String },
    #[error(
        "a component's identifier is its folder and its name at the broker here: 1 to 64 of A-Z a-z 0-9 _ -, which {id:?} is not"
    )]
    ComponentId { id: String },
    #[error("{id:?} is a {what} here already, and links could not tell them apart; take another identifier")]
    IdTaken { id: String, what: &'static str },
    #[error("{what} has a name of 1 to 256 bytes without control characters")]
    Name { what: &'static str },
    #[error("the name of a configuration is one token of a subject: no dot, space or wildcard")]
    ConfigName,
    #[error("a reference has 1 to 4096 bytes without control characters")]
    Reference,
    #[error("a gateway takes {count_max} {what} at most")]
    Full { what: &'static str, count_max: usize },
    #[error(
        "a gateway runs no provider binaries: they are built for servers, and hold the lattice's credentials; it has {has}"
    )]
    Binary { has: String },
    #[error("a gateway has no provider {name:?}; it has {has}")]
    NoBuiltin { name: String, has: String },
    #[error("{limit} is {value:?}; a gateway takes {least} to {most}")]
    Limit { limit: &'static str, value: String, least: u64, most: u64 },
    #[error("too many changes in a short time: each is written to flash; try again in a minute")]
    TooFast,
    #[error(
        "the lattice's buckets at the hub cannot be reached from this gateway now; nothing is changed, try again later"
    )]
    HubAway,
    #[error(
        "the hub has not acknowledged the change; nothing is kept here, ask for it to see whether the hub took it"
    )]
    NotAcknowledged,
    #[error("the hub refuses the change: {0}")]
    HubRefuses(String),
    #[error(
        "this gateway's copy of the lattice does not have it, and the hub cannot be asked now; nothing is changed, try \
         again once the hub can be reached"
    )]
    NotInCopy,
    #[error("others change the same entry of the lattice at the same time; try again")]
    Contended,
    #[error("the lattice's entry {entry} cannot be read, and is not written over")]
    EntryUnreadable { entry: String },
    #[error("{name:?} cannot be a key of the lattice's buckets: A-Z a-z 0-9 - _ = / and single dots within")]
    EntryKey { name: String },
    #[error("it cannot be kept: {0}")]
    NotKept(String),
    #[error("the gateway is stopping")]
    Stopping,
}

/// What is told to whoever watches the lattice.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Event {
    /// A component runs as asked, or stopped when the limit is 0.
    ComponentScaled(Scaled),
    /// It does not.
    ComponentScaleFailed {
        scaled: Scaled,
        error: String,
    },
    ProviderStarted {
        id: String,
        provider: Provider,
    },
    ProviderStartFailed {
        id: String,
        reference: String,
        error: String,
    },
    ProviderStopped {
        id: String,
        annotations: Pairs,
    },
    LinkSet(Link),
    LinkSetFailed {
        link: Link,
        error: String,
    },
    /// With what the link was, if there was one.
    LinkDeleted {
        key: LinkKey,
        was: Option<Link>,
    },
    ConfigSet {
        name: String,
    },
    ConfigDeleted {
        name: String,
    },
    LabelsChanged,
}

/// What an event about a component says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaled {
    /// The component.
    pub id: String,
    /// Its artifact, as it was given.
    pub reference: String,
    /// Calls at a time.
    pub limit: u32,
    /// Of whoever asked.
    pub annotations: Pairs,
    /// What its signer says of the artifact, once that is known.
    pub claims: Option<Claims>,
}

// === impl Scaled ===

impl Scaled {
    /// Of a component as it is asked for.
    pub(super) fn of(id: &str, component: &Component) -> Scaled {
        Scaled {
            id: id.to_owned(),
            reference: component.reference.clone(),
            limit: component.limit,
            annotations: component.annotations.clone(),
            claims: None,
        }
    }
}

// === impl Command ===

impl Command {
    /// The entry of the lattice's buckets that it changes, where a lattice is shared.
    pub fn entry(&self) -> Option<EntryKey> {
        match self {
            Command::PutLink { link } => Some(EntryKey::Links(link.source_id.clone())),
            Command::DeleteLink { source_id, .. } => Some(EntryKey::Links(source_id.clone())),
            Command::PutConfig { name, .. } | Command::DeleteConfig { name } => {
                Some(EntryKey::Config(name.clone()))
            }
            _ => None,
        }
    }

    /// The item of the lattice's that it puts.
    pub(super) fn put(&self) -> Option<Change> {
        match self {
            Command::PutLink { link } => Some(Change::Put(Key::Link(link.key()), Spec::Link(link.clone()))),
            Command::PutConfig { name, values } => {
                Some(Change::Put(Key::Config(name.clone()), Spec::Config(values.clone())))
            }
            _ => None,
        }
    }
}

// === impl Origin ===

impl Origin {
    /// What its number in `state.db` stands for.
    pub(super) fn of_number(number: u8) -> Option<Origin> {
        [Origin::LocalFile, Origin::Lattice, Origin::Site, Origin::Image]
            .into_iter()
            .find(|origin| *origin as u8 == number)
    }

    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Origin::LocalFile => "local file",
            Origin::Image => "image",
            Origin::Lattice => "lattice",
            Origin::Site => "site",
        }
    }
}
