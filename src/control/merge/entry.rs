//! Entries of a lattice's buckets, as far as they say something here.

use std::collections::BTreeSet;

use crate::control::bounds;
use crate::control::command::Pairs;
use crate::control::desired::{Key, Link};

/// Which entry of the lattice's buckets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKey {
    /// The links of this source.
    Links(String),
    /// The configuration of this name.
    Config(String),
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// It is not there, or not any more.
    Nothing,
    /// Links.
    Links(Vec<Link>),
    /// Values.
    Config(Pairs),
    /// Something that means nothing here, and why.
    Unreadable(&'static str),
}

/// An entry, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub key: EntryKey,
    /// The bucket's number of the write that it rests on, or of the newest there was when there was no entry.
    pub revision: u64,
    /// What it says.
    pub content: Content,
}

/// Entries of which a copy is held.
pub type Scope = BTreeSet<EntryKey>;

// === impl EntryKey ===

impl EntryKey {
    /// The entry that an item belongs to. Components, providers and labels are not the lattice's.
    pub fn of(key: &Key) -> Option<EntryKey> {
        match key {
            Key::Link(link) => Some(EntryKey::Links(link.source_id.clone())),
            Key::Config(name) => Some(EntryKey::Config(name.clone())),
            Key::Component(_) | Key::Former(_) | Key::Provider(_) | Key::Label(_) => None,
        }
    }

    /// Whether a bucket may have it: other names mean something else to NATS, or nothing.
    pub fn is_possible(&self) -> bool {
        let (EntryKey::Links(name) | EntryKey::Config(name)) = self;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-/_=.".contains(c);
        (1..=bounds::NAME_BYTES_MAX).contains(&name.len())
            && name.chars().all(is_plain)
            && !name.split('.').any(str::is_empty)
    }
}

impl std::fmt::Display for EntryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EntryKey::Links(source) => write!(f, "links of {source}"),
            EntryKey::Config(name) => write!(f, "configuration {name}"),
        }
    }
}

// === impl Content ===

impl Content {
    /// Its bytes, roughly.
    pub(in crate::control) fn weight(&self) -> usize {
        match self {
            Content::Nothing | Content::Unreadable(_) => 0,
            Content::Links(links) => {
                let names = |link: &Link| {
                    let lists = [&link.interfaces, &link.source_config, &link.target_config];
                    let listed: usize = lists.iter().flat_map(|list| list.iter()).map(String::len).sum();
                    let plain =
                        [&link.source_id, &link.target, &link.name, &link.wit_namespace, &link.wit_package];
                    listed + plain.iter().map(|text| text.len()).sum::<usize>()
                };
                links.iter().map(names).sum()
            }
            Content::Config(values) => values.iter().map(|(key, value)| key.len() + value.len()).sum(),
        }
    }
}
