//! The rule of a shared lattice: what of the hub's word is kept here, and what becomes of changes that were made on site
//! while the hub was away. Pure.
//!
//! An item is one link or one configuration. In a shared lattice the hub's buckets have the word on both; what is held
//! here is a copy, for cold boots without the hub. An item that was changed on site while the hub was away is pending,
//! with a digest of what the lattice had said of it ([`Base`]). When the hub is back, [`judge`] compares three things:
//!
//! ```text
//!   the hub has                    then
//!   what it had when we changed    ours is written there, by compare-and-set, and is pending until it is acknowledged
//!   the same as we                 it is pending no longer: somebody had the same idea, or our write got there before
//!                                  its acknowledgement got here
//!   anything else                  the lattice's word wins; ours is dropped, and the history says so
//! ```
//! A gateway that leaves the lattice for one of its own keeps what the lattice had, of everything ([`bases`]); when it comes
//! back, what is not as the lattice had it then is pending, as if the hub had been away all the time ([`join`]).
//!
//! The comparison is of values, item by item: two people may change two links of one component at the two ends, and both
//! changes stay. Whoever changes an item and changes it back has, by this rule, not changed it.
//!
//! Held are the entries of [`scope`] and no others: links whose source is a component or provider of this gateway or that
//! were put on site, and configurations that these, components or providers name or that were put on site. A lattice with
//! ten thousand other components costs nothing here, neither memory nor flash nor the link: the hub sends what is in scope
//! only. At most it is what [`bounds`] allows a gateway of its own: 256 links of 2 KiB and 1 MiB of configuration, once in
//! memory and once in `state.db`; scope itself is at most 48 + 256 + 256 keys of 256 B, 140 KiB. What is beyond the bounds
//! or cannot be read is passed over, and what was held of it before stays: a controller's slip does not stop a machine.

mod entry;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::apply::{config_fits, link_fits};
use super::bounds;
use super::command::{Event, Origin, Refusal};
use super::desired::{Change, Desired, Key, LinkKey, Spec};

pub use entry::{Content, Entry, EntryKey, Scope};

/// Changes made on site that wait for the hub: as many as there may be links, or a refusal. 256 keys of 1.5 KiB are 384 KiB.
pub const PENDING_MAX: usize = 256;

/// What the lattice had said of an item before it was changed on site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base(Option<String>);

/// Items that were changed on site and that the hub does not have yet.
pub type Pending = BTreeMap<Key, Base>;

/// An item to be written to the hub, if it still has what it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Which.
    pub key: Key,
    /// What the hub must have.
    pub base: Base,
    /// What it is to have.
    pub ours: Option<Spec>,
}

/// Who has the word on an item that is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Both say the same.
    Same,
    /// The hub has not changed it: ours is to be written.
    Ours,
    /// The hub has.
    Theirs,
}

/// One transaction: what is changed, which items are pending no longer, and how it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Of the copy.
    pub changes: Vec<Change>,
    /// Pending no longer.
    pub settled: Vec<Key>,
    /// For the history.
    pub text: String,
    /// Whose word it is.
    pub origin: Origin,
    /// What the lattice is told.
    pub event: Option<Event>,
}

/// What becomes of entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Merged {
    /// In this order.
    pub turns: Vec<Turn>,
    /// Passed over, and why; of entries without anything passed over `None`.
    pub passed_over: BTreeMap<EntryKey, Option<String>>,
}

// === impl Base ===

impl Base {
    /// What is remembered of an item.
    pub fn of(spec: Option<&Spec>) -> Base {
        Base(spec.map(|spec| {
            let json = serde_json::to_vec(spec).expect("texts, numbers and lists of them are JSON");
            Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
        }))
    }
}

/// Who has the word.
pub fn judge(base: &Base, ours: Option<&Spec>, theirs: Option<&Spec>) -> Verdict {
    match ours == theirs {
        true => Verdict::Same,
        false if *base == Base::of(theirs) => Verdict::Ours,
        false => Verdict::Theirs,
    }
}

/// What is held of an item.
pub fn held(desired: &Desired, key: &Key) -> Option<Spec> {
    match key {
        Key::Link(key) => desired.links.get(key).map(|item| Spec::Link(item.spec.clone())),
        Key::Config(name) => desired.configs.get(name).map(|item| Spec::Config(item.spec.clone())),
        Key::Component(_) | Key::Former(_) | Key::Provider(_) | Key::Label(_) => None,
    }
}

/// Links and configurations that are held.
fn keys(desired: &Desired) -> impl Iterator<Item = Key> {
    let links = desired.links.keys().cloned().map(Key::Link);
    links.chain(desired.configs.keys().cloned().map(Key::Config))
}

/// Whether the copy is not so already, in value or in who has put it: what was put on site is held also when nothing here
/// needs it, and the hub may have told of it before it acknowledged it.
pub fn is_news(desired: &Desired, change: &Change, by: Origin) -> bool {
    let (key, after) = match change {
        Change::Put(key, spec) => (key, Some(spec)),
        Change::Remove(key) => (key, None),
    };
    let origin = match key {
        Key::Link(key) => desired.links.get(key).map(|item| item.origin),
        Key::Config(name) => desired.configs.get(name).map(|item| item.origin),
        Key::Component(_) | Key::Former(_) | Key::Provider(_) | Key::Label(_) => None,
    };
    let is_anothers = by == Origin::Site && origin.is_some_and(|origin| origin != by);
    held(desired, key).as_ref() != after || is_anothers
}

/// The entries that matter here.
pub fn scope<'a>(desired: &Desired, pending: impl IntoIterator<Item = &'a Key>) -> Scope {
    let on_site = desired.links.values().filter(|item| item.origin == Origin::Site);
    let sources = desired
        .components
        .keys()
        .chain(desired.providers.keys())
        .chain(on_site.map(|item| &item.spec.source_id));
    let links = desired
        .links
        .values()
        .flat_map(|item| item.spec.source_config.iter().chain(&item.spec.target_config));
    let on_site = desired.configs.iter().filter(|(_, item)| item.origin == Origin::Site);
    let configs = desired
        .components
        .values()
        .chain(desired.formers.values())
        .flat_map(|item| &item.spec.config)
        .chain(desired.providers.values().flat_map(|item| &item.spec.config))
        .chain(links)
        .chain(on_site.map(|(name, _)| name));
    let sources = sources.cloned().map(EntryKey::Links);
    let configs = configs.cloned().map(EntryKey::Config).take(2 * bounds::CONFIGS_MAX);
    let waiting = pending.into_iter().filter_map(EntryKey::of);
    sources.chain(configs).chain(waiting).filter(EntryKey::is_possible).collect()
}

/// What is held of what is out of scope: it goes. What is pending stays. Scope is that of now: while the hub was read,
/// something may have been put on site that was in nobody's scope when the reading began.
pub fn prune(desired: &Desired, pending: &Pending) -> Vec<Change> {
    let scope = scope(desired, pending.keys());
    let is_out = |key: &Key| {
        let entry = EntryKey::of(key);
        !pending.contains_key(key) && entry.is_none_or(|entry| !scope.contains(&entry))
    };
    keys(desired).filter(is_out).map(Change::Remove).collect()
}

/// What the lattice had of everything, when it is left: of 512 items at most, and of those that are pending. It is kept in
/// `state.db` only.
pub fn bases(desired: &Desired, pending: &Pending) -> Pending {
    let mut bases = pending.clone();
    for key in keys(desired) {
        let base = Base::of(held(desired, &key).as_ref());
        bases.entry(key).or_insert(base);
    }
    bases
}

/// What is pending when a lattice is joined: what is not as it was when that was left. The first time there is nothing that
/// it had, and everything is pending.
pub fn join(desired: &Desired, bases: &Pending) -> Pending {
    let mut pending = bases.clone();
    for key in keys(desired) {
        pending.entry(key).or_insert(Base::of(None));
    }
    pending.retain(|key, base| *base != Base::of(held(desired, key).as_ref()));
    pending
}

/// What is pending after changes on site: `Some` is written, `None` taken away.
pub fn mark(
    desired: &Desired,
    pending: &Pending,
    changes: &[Change],
) -> Result<Vec<(Key, Option<Base>)>, Refusal> {
    let mut marks = Vec::new();
    for change in changes {
        let (key, after) = match change {
            Change::Put(key, spec) => (key, Some(spec)),
            Change::Remove(key) => (key, None),
        };
        match pending.get(key) {
            None => marks.push((key.clone(), Some(Base::of(held(desired, key).as_ref())))),
            // It is as the lattice had it again.
            Some(base) if *base == Base::of(after) => marks.push((key.clone(), None)),
            Some(_) => {}
        }
    }
    let more = marks.iter().filter(|(_, base)| base.is_some()).count();
    bounds::count("changes that wait for the lattice", pending.len() + more, PENDING_MAX)?;
    Ok(marks)
}

/// What waits to be written, configurations first: links name them.
pub fn offers(desired: &Desired, pending: &Pending) -> Vec<Offer> {
    let offer =
        |(key, base): (&Key, &Base)| Offer { key: key.clone(), base: base.clone(), ours: held(desired, key) };
    let is_config = |key: &Key| matches!(key, Key::Config(_));
    // A configuration that goes goes last: the hub's hosts would miss what their links name.
    let (configs, links): (Vec<_>, Vec<_>) =
        pending.iter().map(offer).partition(|offer| is_config(&offer.key));
    let (puts, removals): (Vec<_>, Vec<_>) = configs.into_iter().partition(|offer| offer.ours.is_some());
    puts.into_iter().chain(links).chain(removals).collect()
}

/// What becomes of entries that the hub has told of.
pub fn merge(desired: &Desired, pending: &Pending, entries: &[Entry]) -> Merged {
    let mut merged = Merged::default();
    let mut after = desired.clone();
    let mut plain = Vec::new();
    for entry in entries {
        let mut why = None;
        for (key, theirs) in items(&after, pending, entry, &mut why) {
            let ours = held(&after, &key);
            match pending.get(&key).map(|base| judge(base, ours.as_ref(), theirs.as_ref())) {
                Some(Verdict::Ours) => {}
                Some(Verdict::Same) => merged.turns.push(taken(key, ours)),
                None if ours == theirs => {}
                verdict => match fits(&after, &key, theirs.as_ref()) {
                    Ok(()) => {
                        let change = change(key.clone(), theirs);
                        after.make(&change, desired.revision, Origin::Lattice);
                        match verdict {
                            Some(_) => merged.turns.push(dropped(key, change)),
                            None => plain.push(change),
                        }
                    }
                    Err(refusal) => why = Some(refusal.to_string()),
                },
            }
        }
        merged.passed_over.insert(entry.key.clone(), why);
    }
    if !plain.is_empty() {
        let told: Vec<String> = plain.iter().map(words).collect();
        let text = format!("the lattice: {}", told.join("; "));
        let origin = Origin::Lattice;
        merged.turns.push(Turn { changes: plain, settled: Vec::new(), text, origin, event: None });
    }
    merged
}

/// Items of an entry, with what the hub says of them: those it names, and those held or pending that it does not.
fn items(
    desired: &Desired,
    pending: &Pending,
    entry: &Entry,
    why: &mut Option<String>,
) -> Vec<(Key, Option<Spec>)> {
    let known = |key: &Key| EntryKey::of(key).as_ref() == Some(&entry.key);
    let here = keys(desired).chain(pending.keys().cloned()).filter(known);
    let mut items: BTreeMap<Key, Option<Spec>> = here.map(|key| (key, None)).collect();
    match (&entry.key, &entry.content) {
        (_, Content::Nothing) => {}
        (EntryKey::Links(source), Content::Links(links)) => {
            for link in links {
                match link.source_id == *source {
                    true => drop(items.insert(Key::Link(link.key()), Some(Spec::Link(link.clone())))),
                    false => *why = Some("a link in it is of another source".to_owned()),
                }
            }
        }
        (EntryKey::Config(name), Content::Config(values)) => {
            items.insert(Key::Config(name.clone()), Some(Spec::Config(values.clone())));
        }
        (_, Content::Unreadable(reason)) => {
            *why = Some((*reason).to_owned());
            items.clear();
        }
        (_, Content::Links(_) | Content::Config(_)) => {
            *why = Some("it is of another kind than its key".to_owned());
            items.clear();
        }
    }
    items.into_iter().collect()
}

fn fits(desired: &Desired, key: &Key, theirs: Option<&Spec>) -> Result<(), Refusal> {
    match (key, theirs) {
        (_, Some(Spec::Link(link))) => link_fits(desired, link),
        (Key::Config(name), Some(Spec::Config(values))) => config_fits(desired, name, values),
        _ => Ok(()),
    }
}

fn change(key: Key, theirs: Option<Spec>) -> Change {
    match theirs {
        Some(spec) => Change::Put(key, spec),
        None => Change::Remove(key),
    }
}

fn taken(key: Key, ours: Option<Spec>) -> Turn {
    let text = format!("{}: the lattice has the change made on site", name(&key));
    let event = match (&key, ours) {
        (_, Some(Spec::Link(link))) => Some(Event::LinkSet(link)),
        (Key::Config(name), Some(_)) => Some(Event::ConfigSet { name: name.clone() }),
        (Key::Config(name), None) => Some(Event::ConfigDeleted { name: name.clone() }),
        (Key::Link(link), None) => {
            Some(Event::LinkDeleted { key: LinkKey { target: String::new(), ..link.clone() }, was: None })
        }
        _ => None,
    };
    Turn { changes: Vec::new(), settled: vec![key], text, origin: Origin::Site, event }
}

fn dropped(key: Key, change: Change) -> Turn {
    let text = format!(
        "{}: the change made on site is dropped, the lattice has another one than this gateway knew of",
        name(&key)
    );
    Turn { changes: vec![change], settled: vec![key], text, origin: Origin::Lattice, event: None }
}

/// An item in the history's words.
fn name(key: &Key) -> String {
    match key {
        Key::Config(name) => format!("configuration {name}"),
        Key::Link(LinkKey { source_id, wit_namespace, wit_package, name, target }) => {
            format!("link {name} of {source_id} to {target} ({wit_namespace}:{wit_package})")
        }
        Key::Component(name) | Key::Former(name) | Key::Provider(name) | Key::Label(name) => name.clone(),
    }
}

fn words(change: &Change) -> String {
    match change {
        Change::Put(key, Spec::Config(values)) => format!("{} has {} values", name(key), values.len()),
        Change::Put(key, _) => format!("{} is set", name(key)),
        Change::Remove(key) => format!("{} is gone", name(key)),
    }
}

#[cfg(test)]
mod tests;
