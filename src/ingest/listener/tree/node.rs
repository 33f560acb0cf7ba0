//! One level of the tree: its branches, and who sits where a filter ends.
//!
//! Owned by the [`super::Tree`], which counts nodes; nothing here is bounded by itself, kept, or dropped. The recursion is
//! as deep as a filter has levels.

use super::seats::Seats;

#[derive(Debug)]
pub(super) struct Node<K> {
    /// By level, sorted.
    below: Vec<(Box<str>, Box<Node<K>>)>,
    /// Behind a `+`.
    any: Option<Box<Node<K>>>,
    /// Filters that end here.
    here: Seats<K>,
    /// Filters that end with `#` behind this.
    rest: Seats<K>,
}

/// Whether wildcards count at a level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wildcards {
    Match,
    /// The topic begins with `$`: it belongs to the server.
    Pass,
}

// === impl Wildcards ===

impl Wildcards {
    pub fn at_start(topic: &str) -> Wildcards {
        if topic.starts_with('$') { Wildcards::Pass } else { Wildcards::Match }
    }
}

// === impl Node ===

impl<K: Copy + Ord> Node<K> {
    pub fn new() -> Node<K> {
        Node { below: Vec::new(), any: None, here: Seats::new(), rest: Seats::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.below.is_empty() && self.any.is_none() && self.here.is_empty() && self.rest.is_empty()
    }

    fn find(&self, level: &str) -> Result<usize, usize> {
        self.below.binary_search_by(|(name, _)| (**name).cmp(level))
    }

    /// Where a filter's subscribers sit; the way there is made, and how many nodes that took is returned, too.
    pub fn seats(&mut self, filter: &str) -> (&mut Seats<K>, usize) {
        let (mut node, mut made) = (self, 0);
        for level in filter.split('/') {
            node = match level {
                "#" => return (&mut node.rest, made),
                "+" => {
                    made += usize::from(node.any.is_none());
                    node.any.get_or_insert_with(|| Box::new(Node::new()))
                }
                level => {
                    let at = node.find(level).unwrap_or_else(|at| {
                        made += 1;
                        node.below.insert(at, (level.into(), Box::new(Node::new())));
                        at
                    });
                    &mut node.below[at].1
                }
            };
        }
        (&mut node.here, made)
    }

    /// Takes a subscriber away, and with it the nodes nobody needs any more.
    pub fn unseat(&mut self, filter: Option<&str>, client: K, group: Option<&str>, freed: &mut usize) {
        let Some(filter) = filter else { return self.here.remove(client, group) };
        let (level, further) = split(filter);
        match level {
            "#" => self.rest.remove(client, group),
            "+" => {
                let Some(below) = &mut self.any else { return };
                below.unseat(further, client, group, freed);
                if below.is_empty() {
                    self.any = None;
                    *freed += 1;
                }
            }
            level => {
                let Ok(at) = self.find(level) else { return };
                let below = &mut self.below[at].1;
                below.unseat(further, client, group, freed);
                if below.is_empty() {
                    self.below.remove(at);
                    *freed += 1;
                }
            }
        }
    }

    /// Shows `found` the seats of every filter that matches what is left of a topic.
    pub fn visit(&mut self, rest: Option<&str>, wildcards: Wildcards, found: &mut impl FnMut(&mut Seats<K>)) {
        if wildcards == Wildcards::Match && !self.rest.is_empty() {
            found(&mut self.rest);
        }
        let Some(rest) = rest else {
            if !self.here.is_empty() {
                found(&mut self.here);
            }
            return;
        };
        let (level, further) = split(rest);
        if let Ok(at) = self.find(level) {
            self.below[at].1.visit(further, Wildcards::Match, found);
        }
        if let (Wildcards::Match, Some(below)) = (wildcards, &mut self.any) {
            below.visit(further, Wildcards::Match, found);
        }
    }
}

/// The first level, and what comes behind its slash.
fn split(levels: &str) -> (&str, Option<&str>) {
    levels.split_once('/').map_or((levels, None), |(level, further)| (level, Some(further)))
}
