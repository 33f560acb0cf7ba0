//! What was found for topics, remembered until a subscription changes.

use std::collections::HashMap;

use super::Hit;

/// Topics whose subscribers are remembered until a subscription changes, the longest of them, and the subscribers of all
/// of them: 1,024 × 300 bytes and 16,384 × 40 bytes are 1 MB. When they are more, the remembering begins anew.
pub(super) const ROUTES_MAX: usize = 1024;
pub(super) const ROUTE_TOPIC_BYTES_MAX: usize = 256;
pub(super) const ROUTE_HITS_MAX: usize = 16_384;

/// What was found for topics since a subscription changed. A topic that matches thousands of wildcards is searched for
/// once, not for each of its messages.
#[derive(Debug)]
pub(super) struct Routes<K> {
    pub generation: u64,
    pub by_topic: HashMap<Box<str>, Vec<Hit<K>>>,
    pub hits: usize,
}

// === impl Routes ===

impl<K: Copy> Routes<K> {
    pub fn new() -> Routes<K> {
        Routes { generation: 0, by_topic: HashMap::new(), hits: 0 }
    }

    pub fn clear(&mut self, generation: u64) {
        self.generation = generation;
        self.by_topic.clear();
        self.hits = 0;
    }

    pub fn remember(&mut self, topic: &str, hits: &[Hit<K>]) {
        if topic.len() > ROUTE_TOPIC_BYTES_MAX || hits.len() > ROUTE_HITS_MAX {
            return;
        }
        if self.by_topic.len() >= ROUTES_MAX || self.hits + hits.len() > ROUTE_HITS_MAX {
            self.clear(self.generation);
        }
        self.hits += hits.len();
        self.by_topic.insert(topic.into(), hits.to_vec());
    }
}
