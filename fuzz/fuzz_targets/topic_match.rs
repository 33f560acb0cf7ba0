//! Any filters and topics: validation, matching, and what is said of two filters, never panic and never contradict.
//!
//! The input is split at NUL bytes into two filters and a topic.

#![no_main]

use frond::ingest::naming::{NAME_BYTES_MAX, Template};
use frond::ingest::topic::{covers, matches, overlap, subscriptions, validate_filter, validate_topic};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.splitn(3, '\0');
    let (a, b, topic) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let _ = validate_filter(topic);
    if let Ok(template) = Template::parse(a) {
        let mut name = String::new();
        if template.render(topic, b, &mut name).is_ok() {
            assert!(!name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control));
        }
    }
    if validate_filter(a).is_err() || validate_filter(b).is_err() || validate_topic(topic).is_err() {
        return;
    }
    let (in_a, in_b) = (matches(a, topic), matches(b, topic));
    assert!(!covers(a, b) || !in_b || in_a);
    assert!(!(in_a && in_b) || overlap(a, b));
    assert_eq!(overlap(a, b), overlap(b, a));
    let kept = subscriptions([(a, 0), (b, 1)]);
    assert_eq!(kept.iter().any(|(filter, _)| matches(filter, topic)), in_a || in_b);
});
