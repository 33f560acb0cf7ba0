//! Who gets a message: topic filters, with their subscribers, as a tree of levels.
//!
//! ```text
//!            (root)          subscribed: plant/+/temp, plant/#, $share/night/plant/a/temp
//!              │ plant ── rest: plant/#
//!        ┌─────┴─────┐
//!        a           +
//!        │ temp      │ temp ── here: plant/+/temp
//!        └─ here: group "night"
//! ```
//! What for: a message must find its subscribers among thousands of filters in the time of its levels, not of the filters.
//! Pure; the listener's desk owns the one tree, `K` is whatever it calls a client. The rules are those of MQTT 5, 4.7 and
//! 4.8: a wildcard at the start does not match topics that begin with `$`; `a/#` matches `a`.
//! Power loss: nothing is kept here; sessions that are kept subscribe again from what the store has.
//! Bounds: [`Bounds`] and the constants below. Nothing is dropped: what goes beyond a bound is refused.

mod node;
mod routes;
mod seats;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use node::{Node, Wildcards};
use routes::Routes;

use crate::ingest::topic;

/// Levels of a filter. A plant names its topics in five to ten; the tree is walked by recursion, 128 frames of 200 bytes.
pub const LEVELS_MAX: usize = 128;
/// Longest filter. Topics of sensors have up to a few hundred bytes.
pub const FILTER_BYTES_MAX: usize = 4096;
/// Levels in the whole tree: 65,536 nodes of about 200 bytes are 13 MB, whatever clients subscribe to.
pub const NODES_MAX: usize = 65_536;
/// Bytes of all filters: with [`NODES_MAX`] the bound of what subscriptions cost.
pub const FILTERS_BYTES_MAX: usize = 8 << 20;

/// How many subscriptions there may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Of one client.
    pub per_client: usize,
    /// Of all clients.
    pub total: usize,
}

/// What a subscriber asked for, beside the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Highest quality of service it is sent.
    pub qos: u8,
    /// It does not want what it has published itself.
    pub no_local: bool,
    /// It wants to see whether a message was published as retained.
    pub retain_as_published: bool,
    /// Number it wants to see with every message of this subscription.
    pub identifier: Option<u32>,
}

/// Why a subscription is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a topic filter.
    #[error("the filter is not valid")]
    Filter(#[from] topic::FilterError),
    /// `$share` without a group or a filter.
    #[error("a shared subscription has the form $share/group/filter, and wildcards only in the filter")]
    Share,
    /// Too many levels or bytes.
    #[error("the filter has more than {LEVELS_MAX} levels or {FILTER_BYTES_MAX} bytes")]
    Size,
    /// The client has its maximum.
    #[error("the client has its maximum of {0} subscriptions")]
    Client(usize),
    /// All clients together have theirs.
    #[error("there is no room for further subscriptions")]
    Total,
}

/// What became of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscribed {
    /// It is new.
    New,
    /// The client had one with this filter; its options are replaced.
    Replaced,
}

/// A client that gets a message, once, whatever the number of its subscriptions that match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit<K> {
    /// Which client.
    pub client: K,
    /// The highest quality of service of its matching subscriptions.
    pub qos: u8,
    /// Whether one of them wants to see the retain flag as it was published.
    pub retain_as_published: bool,
    /// The numbers of its matching subscriptions.
    pub identifiers: Vec<u32>,
}

/// A filter as it was asked for, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The group of a shared subscription.
    pub group: Option<&'a str>,
    /// What topics are matched with.
    pub filter: &'a str,
}

/// All subscriptions.
#[derive(Debug)]
pub struct Tree<K> {
    root: Node<K>,
    clients: HashMap<K, BTreeSet<Box<str>>>,
    bounds: Bounds,
    subscriptions: usize,
    nodes: usize,
    filter_bytes: usize,
    generation: u64,
    routes: Routes<K>,
}

/// Takes a filter apart and checks it.
pub fn parse(filter: &str) -> Result<Asked<'_>, Refused> {
    let asked = match filter.strip_prefix("$share/") {
        None => Asked { group: None, filter },
        Some(shared) => {
            let (group, filter) = shared.split_once('/').ok_or(Refused::Share)?;
            if group.is_empty() || group.contains(['+', '#', '\0']) || filter.is_empty() {
                return Err(Refused::Share);
            }
            Asked { group: Some(group), filter }
        }
    };
    topic::validate_filter(asked.filter)?;
    if filter.len() > FILTER_BYTES_MAX || asked.filter.split('/').count() > LEVELS_MAX {
        return Err(Refused::Size);
    }
    Ok(asked)
}

// === impl Tree ===

impl<K: Copy + Ord + Hash> Tree<K> {
    /// Without subscriptions.
    pub fn new(bounds: Bounds) -> Tree<K> {
        Tree {
            root: Node::new(),
            clients: HashMap::new(),
            bounds,
            subscriptions: 0,
            nodes: 0,
            filter_bytes: 0,
            generation: 0,
            routes: Routes::new(),
        }
    }

    /// How many subscriptions there are.
    pub fn len(&self) -> usize {
        self.subscriptions
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.subscriptions == 0
    }

    /// Changes with every subscription made or ended: what was found for a topic holds until then, shared ones apart.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The filters a client has subscribed to, as it asked for them.
    pub fn filters(&self, client: K) -> impl Iterator<Item = &str> {
        self.clients.get(&client).into_iter().flatten().map(|filter| &**filter)
    }

    /// Subscribes a client, or changes the options of a subscription it has.
    pub fn subscribe(&mut self, client: K, filter: &str, options: Options) -> Result<Subscribed, Refused> {
        let asked = parse(filter)?;
        let known = self.clients.get(&client).is_some_and(|filters| filters.contains(filter));
        if !known {
            self.room_for(client, filter)?;
        }
        let (seats, made) = self.root.seats(asked.filter);
        seats.put(client, asked.group, options);
        self.nodes += made;
        self.generation += 1;
        if known {
            return Ok(Subscribed::Replaced);
        }
        self.clients.entry(client).or_default().insert(filter.into());
        self.subscriptions += 1;
        self.filter_bytes += filter.len();
        Ok(Subscribed::New)
    }

    fn room_for(&self, client: K, filter: &str) -> Result<(), Refused> {
        let own = self.clients.get(&client).map_or(0, BTreeSet::len);
        if own >= self.bounds.per_client {
            return Err(Refused::Client(self.bounds.per_client));
        }
        let full = self.subscriptions >= self.bounds.total
            || self.filter_bytes + filter.len() > FILTERS_BYTES_MAX
            || self.nodes + filter.split('/').count() > NODES_MAX;
        if full { Err(Refused::Total) } else { Ok(()) }
    }

    /// Ends a subscription. Returns whether there was one.
    pub fn unsubscribe(&mut self, client: K, filter: &str) -> bool {
        let Some(filters) = self.clients.get_mut(&client) else { return false };
        if !filters.remove(filter) {
            return false;
        }
        if filters.is_empty() {
            self.clients.remove(&client);
        }
        self.unseat(client, filter);
        true
    }

    /// Ends all subscriptions of a client. Returns how many there were.
    pub fn forget(&mut self, client: K) -> usize {
        let filters = self.clients.remove(&client).unwrap_or_default();
        for filter in &filters {
            self.unseat(client, filter);
        }
        filters.len()
    }

    fn unseat(&mut self, client: K, filter: &str) {
        let asked = parse(filter).expect("what is subscribed to was parsed before");
        let mut freed = 0;
        self.root.unseat(Some(asked.filter), client, asked.group, &mut freed);
        self.nodes -= freed;
        self.subscriptions -= 1;
        self.filter_bytes -= filter.len();
        self.generation += 1;
    }

    /// Finds who gets a message that `from` has published; `hits` is emptied first. Of a group one member gets it, the
    /// next in turn that `can_take` it, or, when none can, the next in turn.
    pub fn route(
        &mut self,
        topic: &str,
        from: Option<K>,
        can_take: impl Fn(K) -> bool,
        hits: &mut Vec<Hit<K>>,
    ) {
        hits.clear();
        if self.subscriptions == 0 {
            return;
        }
        if self.routes.generation != self.generation {
            self.routes.clear(self.generation);
        }
        if let Some(known) = self.routes.by_topic.get(topic) {
            return hits.extend_from_slice(known);
        }
        // Whether every message of the topic goes to the same clients, whoever publishes it.
        let mut lasting = true;
        let mut shared = Vec::new();
        self.root.visit(Some(topic), Wildcards::at_start(topic), &mut |seats| {
            lasting &= seats.groups.is_empty() && !seats.single.iter().any(|(_, options)| options.no_local);
            let wants = |(client, options): &&(K, Options)| !(options.no_local && from == Some(*client));
            hits.extend(
                seats.single.iter().filter(wants).map(|(client, options)| Hit::new(*client, options)),
            );
            shared.extend(seats.groups.iter_mut().map(|group| group.pick(&can_take)));
        });
        merge(hits);
        if lasting {
            self.routes.remember(topic, hits);
        }
        hits.append(&mut shared);
    }
}

/// Makes one hit of those of one client.
fn merge<K: Copy + Ord>(hits: &mut Vec<Hit<K>>) {
    if hits.len() < 2 {
        return;
    }
    hits.sort_by_key(|hit| hit.client);
    hits.dedup_by(|later, kept| {
        let same = later.client == kept.client;
        if same {
            kept.qos = kept.qos.max(later.qos);
            kept.retain_as_published |= later.retain_as_published;
            kept.identifiers.append(&mut later.identifiers);
        }
        same
    });
}

// === impl Hit ===

impl<K> Hit<K> {
    fn new(client: K, options: &Options) -> Hit<K> {
        Hit {
            client,
            qos: options.qos,
            retain_as_published: options.retain_as_published,
            identifiers: options.identifier.into_iter().collect(),
        }
    }
}
