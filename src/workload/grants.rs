//! What a workload is given: what everybody gets, what links grant, and nothing else. Pure.

use crate::config::{Link, LinkEnd};

/// Interfaces that every workload may import, without their version. There are no files, arguments or environment behind
/// those of `wasi:cli` and `wasi:filesystem`: a standard library imports them whether it uses them or not.
const EVERYBODY: [&str; 26] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:http/types",
    "wasi:config/runtime",
    "wasi:config/store",
    "wasi:logging/logging",
    "wasmcloud:bus/lattice",
    "wasmcloud:messaging/types",
];

/// Interfaces that links grant, with the word that the link says.
const BY_LINK: [(&str, &str); 5] = [
    ("wasmcloud:messaging/consumer", "wasmcloud:messaging/consumer"),
    ("wasi:keyvalue/store", "wasi:keyvalue"),
    ("wasi:keyvalue/atomics", "wasi:keyvalue"),
    ("wasi:keyvalue/batch", "wasi:keyvalue"),
    ("wasi:http/outgoing-handler", "wasi:http/outgoing-handler"),
];

/// Whether an import is granted; if not, what would grant it.
pub(super) fn judge(import: &str, links: &[Link]) -> Result<(), String> {
    let interface = import.split_once('@').map_or(import, |(interface, _)| interface);
    if EVERYBODY.contains(&interface) {
        return Ok(());
    }
    let Some((_, word)) = BY_LINK.iter().find(|(name, _)| *name == interface) else {
        return Err("nothing grants it: a gateway does not have it".to_owned());
    };
    let has_link = links.iter().any(|link| match link.end {
        LinkEnd::Source(_) | LinkEnd::HttpSource(_) => false,
        LinkEnd::HttpTarget(_) => *word == "wasi:http/outgoing-handler",
        LinkEnd::Target(_) => *word == "wasmcloud:messaging/consumer",
        LinkEnd::KeyValue { .. } => *word == "wasi:keyvalue",
    });
    match has_link {
        true => Ok(()),
        false => Err(format!("[[component.link]] with interface = \"{word}\" grants it")),
    }
}

/// Whether a NATS subject matches one with wildcards.
pub(super) fn subject_matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    let mut wanted = pattern.split('.');
    loop {
        match (wanted.next(), tokens.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(want), Some(token)) if want == token => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HttpTarget, Target};

    #[test]
    fn only_what_a_link_grants_is_granted_and_the_refusal_says_which() {
        // Goal: the sentence is one to act on. Method: the interfaces with and without their link, and a stranger.
        let keyvalue = Link { name: "default".into(), end: LinkEnd::KeyValue { bytes_max: 1, keys_max: 1 } };
        let target = Link {
            name: "default".into(),
            end: LinkEnd::Target(Target::Nats { subjects: vec![">".into()] }),
        };
        let hosts = HttpTarget { hosts: Vec::new(), ca: None, answer_bytes_max: 1 };
        let http = Link { name: "default".into(), end: LinkEnd::HttpTarget(hosts) };
        assert_eq!(judge("wasi:logging/logging", &[]), Ok(()));
        assert_eq!(judge("wasi:http/types@0.2.2", &[]), Ok(()));
        assert_eq!(judge("wasi:cli/stdout@0.2.6", &[]), Ok(()));
        for (import, link, word) in [
            ("wasi:keyvalue/atomics@0.2.0-draft", &keyvalue, "wasi:keyvalue"),
            ("wasmcloud:messaging/consumer@0.2.0", &target, "wasmcloud:messaging/consumer"),
            ("wasi:http/outgoing-handler@0.2.2", &http, "wasi:http/outgoing-handler"),
        ] {
            assert_eq!(judge(import, std::slice::from_ref(link)), Ok(()));
            let refusal = format!("[[component.link]] with interface = \"{word}\" grants it");
            assert_eq!(judge(import, &[]), Err(refusal));
        }
        assert!(judge("wasi:sockets/tcp@0.2.0", &[keyvalue, target]).is_err());
    }

    #[test]
    fn subjects_match_as_nats_matches_them() {
        // Goal: nothing is published where the operator did not allow it. Method: every wildcard, hit and missed.
        for (pattern, subject, hit) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*.c", "a.b.c", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
        ] {
            assert_eq!(subject_matches(pattern, subject), hit, "{pattern} {subject}");
        }
    }
}
