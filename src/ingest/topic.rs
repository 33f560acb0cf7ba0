//! MQTT topic filters: which are valid, which topics they match, how two of them relate, and which stream a topic is for.
//!
//! Pure; the rules are those of MQTT 3.1.1 §4.7. [`validate_filter`] is also what the configuration is checked with.
//! Which stream is first is decided here for every door; what a door remembers of a topic is in
//! [`crate::ingest::intake`].

use std::iter::Peekable;
use std::str::Split;

/// Longest topic or filter MQTT can carry: its length is a 16-bit number.
pub const TOPIC_BYTES_MAX: usize = 65_535;

/// Why a topic filter is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Nothing in it.
    #[error("a topic filter must not be empty")]
    Empty,
    /// Longer than MQTT can carry.
    #[error("a topic filter has at most {TOPIC_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A NUL character.
    #[error("character {at} of the topic filter is NUL, which MQTT forbids")]
    Nul {
        /// Byte position.
        at: usize,
    },
    /// `#` before the last level.
    #[error("`#` at character {at} must be the last level of the topic filter")]
    HashNotLast {
        /// Byte position.
        at: usize,
    },
    /// `#` or `+` beside other characters.
    #[error("`{wildcard}` at character {at} must be a level of its own, between slashes")]
    NotAlone {
        /// Which of the two.
        wildcard: char,
        /// Byte position.
        at: usize,
    },
    /// `$share/…`: the topics that arrive would not match it, and the other group members would get a part of the data.
    #[error("shared subscriptions (`$share/…`) are not possible: a gateway needs every message")]
    Shared,
}

/// Why a topic that arrived cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Nothing in it.
    #[error("the topic is empty")]
    Empty,
    /// A wildcard or NUL.
    #[error("the topic contains a wildcard or NUL at character {at}")]
    Forbidden {
        /// Byte position.
        at: usize,
    },
}

/// The filters of all streams, in the order of the file.
#[derive(Debug, Clone)]
pub struct Routes {
    filters: Vec<(usize, String)>,
}

/// Checks a topic filter.
pub fn validate_filter(filter: &str) -> Result<(), FilterError> {
    if filter.is_empty() {
        return Err(FilterError::Empty);
    }
    if filter.len() > TOPIC_BYTES_MAX {
        return Err(FilterError::TooLong { bytes: filter.len() });
    }
    if filter == "$share" || filter.starts_with("$share/") {
        return Err(FilterError::Shared);
    }
    if let Some(at) = filter.find('\0') {
        return Err(FilterError::Nul { at });
    }
    let mut start = 0;
    for level in filter.split('/') {
        let end = start + level.len();
        if let Some(offset) = level.find(['#', '+']) {
            let wildcard = if level[offset..].starts_with('#') { '#' } else { '+' };
            if level.len() > 1 {
                return Err(FilterError::NotAlone { wildcard, at: start + offset });
            }
            if wildcard == '#' && end != filter.len() {
                return Err(FilterError::HashNotLast { at: start });
            }
        }
        start = end + 1;
    }
    Ok(())
}

/// Checks a topic that came with a message. That it is UTF-8 was seen to before.
pub fn validate_topic(topic: &str) -> Result<(), TopicError> {
    if topic.is_empty() {
        return Err(TopicError::Empty);
    }
    match topic.find(['#', '+', '\0']) {
        Some(at) => Err(TopicError::Forbidden { at }),
        None => Ok(()),
    }
}

/// Whether a valid filter matches a valid topic. A wildcard in the first level does not match topics that begin with
/// `$`: those are the broker's own.
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['#', '+']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Whether `wide` certainly matches every topic that `narrow` matches. `false` may also mean that it was not found out.
pub fn covers(wide: &str, narrow: &str) -> bool {
    if narrow.starts_with('$') && wide.starts_with(['#', '+']) {
        return false;
    }
    let mut narrow = narrow.split('/');
    for outer in wide.split('/') {
        if outer == "#" {
            return true;
        }
        match narrow.next() {
            Some("#") | None => return false,
            Some(inner) if outer == "+" || outer == inner => {}
            Some(_) => return false,
        }
    }
    narrow.next().is_none()
}

/// Whether some topic is matched by both filters. A broker may deliver such a message once for each of them, and to a
/// subscriber these copies look like two messages.
pub fn overlap(a: &str, b: &str) -> bool {
    let reserved = |filter: &str| filter.starts_with('$');
    let wild = |filter: &str| filter.starts_with(['#', '+']);
    if (reserved(a) && wild(b)) || (reserved(b) && wild(a)) {
        return false;
    }
    let (mut a, mut b) = (a.split('/').peekable(), b.split('/').peekable());
    let hash = |levels: &mut Peekable<Split<'_, char>>| levels.peek() == Some(&"#");
    loop {
        if hash(&mut a) || hash(&mut b) {
            return true;
        }
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(x), Some(y)) if x == y || x == "+" || y == "+" => {}
            _ => return false,
        }
    }
}

/// The filters that a broker has to be asked for so that every one of `wanted` is served, each with the highest QoS asked
/// for. Those covered by another are left out, because a broker may deliver a message once per matching filter.
pub fn subscriptions<'a>(wanted: impl IntoIterator<Item = (&'a str, u8)>) -> Vec<(String, u8)> {
    let mut kept: Vec<(String, u8)> = Vec::new();
    for (filter, qos) in wanted {
        if let Some((_, highest)) = kept.iter_mut().find(|(wide, _)| covers(wide, filter)) {
            *highest = qos.max(*highest);
            continue;
        }
        let mut highest = qos;
        kept.retain(|(narrow, qos)| {
            let covered = covers(filter, narrow);
            if covered {
                highest = highest.max(*qos);
            }
            !covered
        });
        kept.push((filter.to_owned(), highest));
    }
    kept
}

// === impl Routes ===

impl Routes {
    /// Routes of streams, each with its filters, in the order in which they are tried.
    pub fn new<'a>(streams: impl IntoIterator<Item = &'a [String]>) -> Routes {
        let filters = streams
            .into_iter()
            .enumerate()
            .flat_map(|(stream, filters)| filters.iter().map(move |filter| (stream, filter.clone())))
            .collect();
        Routes { filters }
    }

    /// Position of the first stream one of whose filters matches.
    pub fn first(&self, topic: &str) -> Option<usize> {
        self.filters.iter().find(|(_, filter)| matches(filter, topic)).map(|(stream, _)| *stream)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        // Goal: the examples of MQTT 3.1.1 §4.7.1 and §4.7.2, both ways.
        for (filter, topic) in [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
            ("sport/#", "sport"),
            ("#", "sport/tennis"),
            ("#", "/"),
            ("sport/tennis/+", "sport/tennis/player1"),
            ("sport/+", "sport/"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("$SYS/#", "$SYS/broker/load"),
            ("$SYS/monitor/+", "$SYS/monitor/Clients"),
            ("a/$b", "a/$b"),
            ("+/b", "a/b"),
        ] {
            assert!(matches(filter, topic), "{filter} should match {topic}");
        }
        for (filter, topic) in [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("#", "$SYS/broker/load"),
            ("+/monitor/Clients", "$SYS/monitor/Clients"),
            ("sport", "sport/"),
            ("ACCOUNTS", "Accounts"),
            ("a/b/#", "a"),
        ] {
            assert!(!matches(filter, topic), "{filter} should not match {topic}");
        }
    }

    #[test]
    fn a_bad_filter_is_refused_with_the_place() {
        // Goal: every rule has its own error, and the position is that of the offending character.
        assert_eq!(validate_filter(""), Err(FilterError::Empty));
        assert_eq!(validate_filter(&"x".repeat(65_536)), Err(FilterError::TooLong { bytes: 65_536 }));
        assert_eq!(validate_filter("a\0b"), Err(FilterError::Nul { at: 1 }));
        assert_eq!(validate_filter("a/#/b"), Err(FilterError::HashNotLast { at: 2 }));
        assert_eq!(validate_filter("a/b#"), Err(FilterError::NotAlone { wildcard: '#', at: 3 }));
        assert_eq!(validate_filter("a/+b/c"), Err(FilterError::NotAlone { wildcard: '+', at: 2 }));
        assert_eq!(validate_filter("$share/group/a"), Err(FilterError::Shared));
        for good in ["#", "+", "a", "/", "+/#", "a/+/c/#", "$SYS/#", "ä/+"] {
            assert_eq!(validate_filter(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_topic_with_a_wildcard_is_none() {
        // Goal: what a broken broker might deliver is recognised.
        assert_eq!(validate_topic(""), Err(TopicError::Empty));
        assert_eq!(validate_topic("a/+"), Err(TopicError::Forbidden { at: 2 }));
        assert_eq!(validate_topic("a\0"), Err(TopicError::Forbidden { at: 1 }));
        assert_eq!(validate_topic("a/$b//c"), Ok(()));
    }

    #[test]
    fn the_first_matching_stream_takes_a_topic() {
        // Goal: order decides, not precision.
        let (wide, exact) = (vec!["plant/#".to_owned()], vec!["x".to_owned(), "plant/press".to_owned()]);
        let routes = Routes::new([wide.as_slice(), exact.as_slice()]);
        assert_eq!(routes.first("plant/press"), Some(0));
        assert_eq!(routes.first("x"), Some(1));
        assert_eq!(routes.first("y"), None);
    }

    #[test]
    fn a_covered_filter_is_not_subscribed_twice() {
        // Goal: covered filters disappear whichever comes first, and the higher QoS wins.
        assert_eq!(
            subscriptions([("a/+", 0), ("a/b", 1), ("c", 0)]),
            vec![("a/+".into(), 1), ("c".into(), 0)]
        );
        assert_eq!(subscriptions([("a/b", 1), ("a/c", 0), ("a/#", 0)]), vec![("a/#".into(), 1)]);
        assert_eq!(subscriptions([("#", 0), ("$SYS/x", 0)]).len(), 2);
    }

    /// The definition, level by level, as slowly as possible.
    fn matches_by_definition(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) => true,
            ([], []) => true,
            (["+", f @ ..], [_, t @ ..]) => matches_by_definition(f, t),
            ([a, f @ ..], [b, t @ ..]) => a == b && matches_by_definition(f, t),
            _ => false,
        }
    }

    fn filters() -> impl Strategy<Value = String> {
        let level = prop_oneof![Just("a"), Just("b"), Just(""), Just("+"), Just("$s")];
        (prop::collection::vec(level, 1..5), any::<bool>()).prop_map(|(mut levels, hash)| {
            if hash {
                levels.push("#");
            }
            levels.join("/")
        })
    }

    fn topics() -> impl Strategy<Value = String> {
        prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just(""), Just("$s")], 1..6)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("a topic is not empty", |topic| !topic.is_empty())
    }

    proptest! {
        #[test]
        fn matching_is_its_definition(filter in filters(), topic in topics()) {
            // Goal: the loop equals the recursive definition with the rule on `$` put before it.
            let f: Vec<&str> = filter.split('/').collect();
            let t: Vec<&str> = topic.split('/').collect();
            let reserved = topic.starts_with('$') && (f[0] == "#" || f[0] == "+");
            prop_assert_eq!(matches(&filter, &topic), !reserved && matches_by_definition(&f, &t));
        }

        #[test]
        fn covering_and_overlapping_follow_from_matching(a in filters(), b in filters(), topic in topics()) {
            // Goal: no topic contradicts what was said about two filters.
            let (in_a, in_b) = (matches(&a, &topic), matches(&b, &topic));
            if covers(&a, &b) && in_b {
                prop_assert!(in_a, "{} covers {} but not {}", a, b, topic);
            }
            if in_a && in_b {
                prop_assert!(overlap(&a, &b), "{} and {} share {}", a, b, topic);
            }
            prop_assert_eq!(overlap(&a, &b), overlap(&b, &a));
        }

        #[test]
        fn subscriptions_serve_exactly_what_is_wanted(
            wanted in prop::collection::vec((filters(), 0u8..2), 0..6),
            topic in topics(),
        ) {
            // Goal: leaving filters out loses no topic and no QoS.
            let kept = subscriptions(wanted.iter().map(|(filter, qos)| (filter.as_str(), *qos)));
            let best = |of: &mut dyn Iterator<Item = (&str, u8)>| {
                of.filter(|(filter, _)| matches(filter, &topic)).map(|(_, qos)| qos).max()
            };
            let before = best(&mut wanted.iter().map(|(f, q)| (f.as_str(), *q)));
            let after = best(&mut kept.iter().map(|(f, q)| (f.as_str(), *q)));
            prop_assert!(after >= before && after.is_some() == before.is_some());
        }

        #[test]
        fn any_text_is_judged_without_panic(filter in ".{0,40}", topic in ".{0,40}") {
            // Goal: arbitrary Unicode is either refused or matched.
            if validate_filter(&filter).is_ok() && validate_topic(&topic).is_ok() {
                let _ = matches(&filter, &topic);
            }
        }
    }
}
