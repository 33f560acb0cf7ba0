//! Who sits at the end of a filter: single subscribers, and groups that share.

use super::{Hit, Options};

#[derive(Debug)]
pub(super) struct Seats<K> {
    /// Sorted by client.
    pub single: Vec<(K, Options)>,
    pub groups: Vec<Group<K>>,
}

#[derive(Debug)]
pub(super) struct Group<K> {
    name: Box<str>,
    members: Vec<(K, Options)>,
    /// Whose turn it is.
    turn: usize,
}

// === impl Seats ===

impl<K: Copy + Ord> Seats<K> {
    pub fn new() -> Seats<K> {
        Seats { single: Vec::new(), groups: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.single.is_empty() && self.groups.is_empty()
    }

    pub fn put(&mut self, client: K, group: Option<&str>, options: Options) {
        let members = match group {
            None => &mut self.single,
            Some(name) => {
                let at = self.groups.iter().position(|group| &*group.name == name).unwrap_or_else(|| {
                    self.groups.push(Group { name: name.into(), members: Vec::new(), turn: 0 });
                    self.groups.len() - 1
                });
                &mut self.groups[at].members
            }
        };
        match members.binary_search_by_key(&client, |(member, _)| *member) {
            Ok(at) => members[at].1 = options,
            Err(at) => members.insert(at, (client, options)),
        }
    }

    pub fn remove(&mut self, client: K, group: Option<&str>) {
        let take = |members: &mut Vec<(K, Options)>| {
            if let Ok(at) = members.binary_search_by_key(&client, |(member, _)| *member) {
                members.remove(at);
            }
        };
        let Some(name) = group else { return take(&mut self.single) };
        if let Some(at) = self.groups.iter().position(|group| &*group.name == name) {
            take(&mut self.groups[at].members);
            if self.groups[at].members.is_empty() {
                self.groups.remove(at);
            }
        }
    }
}

// === impl Group ===

impl<K: Copy> Group<K> {
    /// The member that gets the next message. A group without members does not exist.
    pub fn pick(&mut self, can_take: impl Fn(K) -> bool) -> Hit<K> {
        let count = self.members.len();
        let in_turn = (0..count).map(|n| (self.turn + n) % count);
        let at = in_turn.clone().find(|at| can_take(self.members[*at].0)).unwrap_or(self.turn % count);
        self.turn = (at + 1) % count;
        let (client, options) = &self.members[at];
        Hit::new(*client, options)
    }
}
