//! The last message of each topic that was published to be retained: what a subscriber is sent when it subscribes.
//!
//! What for: an operator's panel shows the last state at once. Pure; the listener's desk owns it and hands what changes
//! to the store with the messages, so that it is on flash when the publisher gets its acknowledgement; read back at start.
//! Bounds: topics and bytes, see [`Bounds`]. A message that would go beyond either is passed on and not retained, counted;
//! what was retained of the topic before ends then, because it is no longer the last.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::ingest::topic;
use crate::journal::{RetainedChange, RetainedRow};
use crate::sample::Nanos;

/// Bytes that a retained message costs beside topic, payload and properties: its place in the map.
const ENTRY_BYTES: u64 = 128;

/// Topics looked at for one page: 16,384 comparisons of about 60 ns are a millisecond.
pub const SCAN_MAX: usize = 16_384;

/// How much may be retained.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Topics.
    pub topics: usize,
    /// Bytes, topics included.
    pub bytes: u64,
}

/// A retained message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Quality of service it was published with.
    pub qos: u8,
    /// When it is no longer to be had, by the trusted clock.
    pub expires: Option<Nanos>,
    /// What it says.
    pub payload: Bytes,
    /// Properties passed on to subscribers, in the listener's format.
    pub properties: Bytes,
}

/// Some of the messages a subscriber is sent.
#[derive(Debug)]
pub struct Page<'a> {
    /// Topics and messages.
    pub found: Vec<(&'a str, &'a Kept)>,
    /// Where to go on; `None` at the end.
    pub next: Option<Box<str>>,
}

/// All of them.
#[derive(Debug)]
pub struct Retained {
    bounds: Bounds,
    topics: BTreeMap<Box<str>, Kept>,
    bytes: u64,
    refused: u64,
}

// === impl Retained ===

impl Retained {
    /// What an earlier process retained. What goes beyond narrower bounds is left out, and ends when its topic changes.
    pub fn new(bounds: Bounds, rows: Vec<RetainedRow>) -> Retained {
        let mut retained = Retained { bounds, topics: BTreeMap::new(), bytes: 0, refused: 0 };
        for RetainedRow { topic, qos, expires, payload, properties } in rows {
            retained.put(&topic, Kept { qos, expires, payload, properties });
        }
        retained
    }

    /// Topics with a retained message.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether nothing is retained.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Messages that were not retained for want of room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// A message was published to be retained. Returns what is to be written, if anything changes. An empty payload ends
    /// the retaining (MQTT 5, 3.3.1.3).
    pub fn publish(&mut self, topic: &str, kept: Kept) -> Option<RetainedChange> {
        if kept.payload.is_empty() {
            return self.end(topic);
        }
        if self.topics.get(topic) == Some(&kept) {
            return None;
        }
        let Kept { qos, expires, payload, properties } = kept.clone();
        if !self.put(topic, kept) {
            return self.end(topic);
        }
        let topic = topic.to_owned();
        Some(RetainedChange::Keep(RetainedRow { topic, qos, expires, payload, properties }))
    }

    fn end(&mut self, topic: &str) -> Option<RetainedChange> {
        let kept = self.topics.remove(topic)?;
        self.bytes -= cost(topic, &kept);
        Some(RetainedChange::End(topic.to_owned()))
    }

    fn put(&mut self, topic: &str, kept: Kept) -> bool {
        let before = self.topics.get(topic);
        let bytes = self.bytes - before.map_or(0, |kept| cost(topic, kept)) + cost(topic, &kept);
        let topics = self.topics.len() + usize::from(before.is_none());
        if topics > self.bounds.topics || bytes > self.bounds.bytes {
            self.refused += 1;
            return false;
        }
        self.bytes = bytes;
        self.topics.insert(topic.into(), kept);
        true
    }

    /// What a new subscriber is sent, in the order of topics: up to `count` messages behind the topic `after`. `now` is the
    /// trusted time, if it is known: without it nothing is taken for expired. At most [`SCAN_MAX`] topics are looked at.
    pub fn page(&self, filter: &str, after: Option<&str>, now: Option<Nanos>, count: usize) -> Page<'_> {
        // Every topic that matches begins with the filter's levels before its first wildcard.
        let fixed = filter.find(['+', '#']).map_or(filter, |at| filter[..at].trim_end_matches('/'));
        let from = after.map_or(Bound::Included(fixed), Bound::Excluded);
        let mut page = Page { found: Vec::new(), next: None };
        let topics = self.topics.range::<str, _>((from, Bound::Unbounded));
        for (n, (topic, kept)) in topics.take_while(|(topic, _)| topic.starts_with(fixed)).enumerate() {
            if topic::matches(filter, topic) && !is_expired(kept, now) {
                page.found.push((topic, kept));
            }
            if page.found.len() == count || n + 1 == SCAN_MAX {
                page.next = Some(topic.clone());
                break;
            }
        }
        page
    }

    /// Ends what has expired, at most `count` of them. To be called now and then.
    pub fn expire(&mut self, now: Nanos, count: usize) -> Vec<RetainedChange> {
        let expired = self.topics.iter().filter(|(_, kept)| is_expired(kept, Some(now)));
        let topics: Vec<Box<str>> = expired.take(count).map(|(topic, _)| topic.clone()).collect();
        topics.iter().filter_map(|topic| self.end(topic)).collect()
    }
}

fn is_expired(kept: &Kept, now: Option<Nanos>) -> bool {
    kept.expires.zip(now).is_some_and(|(expires, now)| expires <= now)
}

fn cost(topic: &str, kept: &Kept) -> u64 {
    (topic.len() + kept.payload.len() + kept.properties.len()) as u64 + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOMY: Bounds = Bounds { topics: 1000, bytes: 1 << 20 };

    fn kept(payload: &str) -> Kept {
        Kept { qos: 1, expires: None, payload: payload.to_owned().into(), properties: Bytes::new() }
    }

    fn retained(topics: &[&str]) -> Retained {
        let mut retained = Retained::new(ROOMY, Vec::new());
        for topic in topics {
            retained.publish(topic, kept(topic)).unwrap();
        }
        retained
    }

    /// All that matches, in pages of two.
    fn found(retained: &Retained, filter: &str) -> Vec<String> {
        let (mut found, mut after): (Vec<String>, Option<Box<str>>) = (Vec::new(), None);
        loop {
            let page = retained.page(filter, after.as_deref(), None, 2);
            found.extend(page.found.iter().map(|(topic, _)| (*topic).to_owned()));
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    }

    #[test]
    fn a_subscriber_gets_what_its_filter_matches() {
        // Goal: the right messages, without looking at all of them. Method: filters with wildcards in each place.
        let retained = retained(&["a", "a/b", "a/b/c", "ab/b", "b/b", "$SYS/x"]);
        assert_eq!(found(&retained, "#"), ["a", "a/b", "a/b/c", "ab/b", "b/b"]);
        assert_eq!(found(&retained, "a/#"), ["a", "a/b", "a/b/c"]);
        assert_eq!(found(&retained, "+/b"), ["a/b", "ab/b", "b/b"]);
        assert_eq!(found(&retained, "a/+"), ["a/b"]);
        assert_eq!(found(&retained, "a/b"), ["a/b"]);
        assert_eq!(found(&retained, "$SYS/#"), ["$SYS/x"]);
    }

    #[test]
    fn the_last_message_counts_and_an_empty_one_ends_it() {
        // Goal: MQTT 5, 3.3.1.3. Method: publish, again, the same again, then nothing.
        let mut retained = retained(&["a"]);
        let change = retained.publish("a", kept("2"));
        assert!(matches!(&change, Some(RetainedChange::Keep(row)) if row.payload == "2" && row.topic == "a"));
        assert_eq!(retained.publish("a", kept("2")), None, "flash is not worn for what it holds");
        assert_eq!(retained.publish("a", kept("")), Some(RetainedChange::End("a".to_owned())));
        assert_eq!(retained.publish("a", kept("")), None);
        assert_eq!((retained.len(), retained.bytes()), (0, 0));
    }

    #[test]
    fn what_does_not_fit_is_not_retained_and_nothing_stale_stays() {
        // Goal: both bounds, and no message that is not the last. Method: too many topics; a topic that grows too large.
        let mut retained = Retained::new(Bounds { topics: 2, bytes: 1000 }, Vec::new());
        for topic in ["a", "b"] {
            assert!(retained.publish(topic, kept("1")).is_some());
        }
        assert_eq!(retained.publish("c", kept("1")), None);
        assert_eq!(retained.refused(), 1);
        let change = retained.publish("a", kept(&"x".repeat(2000)));
        assert_eq!(change, Some(RetainedChange::End("a".to_owned())));
        assert_eq!(found(&retained, "#"), ["b"]);
        assert!(retained.publish("c", kept("1")).is_some());
    }

    #[test]
    fn what_has_expired_is_not_sent_and_ends() {
        // Goal: MQTT 5, 3.3.2.3.3. Method: before, at, and without the time.
        let mut retained = retained(&["b"]);
        retained.publish("a", Kept { expires: Some(100), ..kept("1") });
        let count = |retained: &Retained, now| retained.page("#", None, now, 10).found.len();
        assert_eq!(
            (count(&retained, Some(99)), count(&retained, Some(100)), count(&retained, None)),
            (2, 1, 2)
        );
        assert_eq!(retained.expire(99, 10), []);
        assert_eq!(retained.expire(100, 10), [RetainedChange::End("a".to_owned())]);
        assert_eq!(retained.len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_range_finds_what_a_list_finds(
            topics in prop::collection::btree_set("[ab$!0](/[ab/!0]{0,2}){0,3}", 0..40),
            filter in prop_oneof!["([ab+$]|a/b)(/[ab+]){0,3}(/#)?", Just("#".to_owned())],
        ) {
            // Goal: no topic is missed by beginning in the middle. Method: every topic, one by one.
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            let retained = retained(&topics);
            prop_assume!(topic::validate_filter(&filter).is_ok());
            let expected: Vec<&str> = topics.iter().copied().filter(|topic| topic::matches(&filter, topic)).collect();
            prop_assert_eq!(found(&retained, &filter), expected);
        }

        #[test]
        fn the_bounds_hold_and_changes_rebuild_it(
            steps in prop::collection::vec(("[a-f]", 0usize..300), 0..60),
        ) {
            // Goal: memory and database say the same. Method: apply the changes to a map; begin again from it.
            let bounds = Bounds { topics: 4, bytes: 1000 };
            let mut retained = Retained::new(bounds, Vec::new());
            let mut rows: BTreeMap<String, RetainedRow> = BTreeMap::new();
            for (topic, size) in steps {
                match retained.publish(&topic, kept(&"x".repeat(size))) {
                    Some(RetainedChange::Keep(row)) => drop(rows.insert(row.topic.clone(), row)),
                    Some(RetainedChange::End(topic)) => prop_assert!(rows.remove(&topic).is_some()),
                    None => {}
                }
                prop_assert!(retained.len() <= bounds.topics && retained.bytes() <= bounds.bytes);
            }
            let again = Retained::new(bounds, rows.into_values().collect());
            prop_assert_eq!((again.bytes(), again.refused()), (retained.bytes(), 0));
            prop_assert_eq!(again.topics, retained.topics);
        }
    }
}
