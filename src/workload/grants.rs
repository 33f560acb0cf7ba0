//! What a workload is given: what everybody gets, what links grant, and nothing else. Pure.

use std::collections::BTreeMap;

use crate::config::{Link, LinkEnd, SecretFile};

/// Interfaces that every workload may import, without their version. There are no files, arguments or environment behind
/// those of `wasi:cli` and `wasi:filesystem`: a standard library imports them whether it uses them or not.
const EVERYBODY: [&str; 27] = [
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
    "frond:device/types",
];

/// Interfaces that links grant, with the word that the link says.
const BY_LINK: [(&str, &str); 11] = [
    ("wasmcloud:messaging/consumer", "wasmcloud:messaging/consumer"),
    ("wasi:keyvalue/store", "wasi:keyvalue"),
    ("wasi:keyvalue/atomics", "wasi:keyvalue"),
    ("wasi:keyvalue/batch", "wasi:keyvalue"),
    ("wasi:blobstore/blobstore", "wasi:blobstore"),
    ("wasi:blobstore/container", "wasi:blobstore"),
    ("wasi:blobstore/types", "wasi:blobstore"),
    ("frond:device/modbus", "frond:device"),
    ("frond:device/serial", "frond:device"),
    ("frond:device/gpio", "frond:device"),
    ("wasi:http/outgoing-handler", "wasi:http/outgoing-handler"),
];

/// Interfaces that a secret grants.
const BY_SECRET: [&str; 2] = ["wasmcloud:secrets/reveal", "wasmcloud:secrets/store"];

/// What it takes to be given an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Nothing.
    Everybody,
    /// A link with this word for its `interface`.
    Link(&'static str),
    /// An entry in `secrets`.
    Secret,
    /// A gateway does not have it.
    Nobody,
}

/// What it takes to be given an import.
pub(crate) fn grant(import: &str) -> Grant {
    let interface = import.split_once('@').map_or(import, |(interface, _)| interface);
    if EVERYBODY.contains(&interface) {
        return Grant::Everybody;
    }
    if BY_SECRET.contains(&interface) {
        return Grant::Secret;
    }
    let by_link = BY_LINK.iter().find(|(name, _)| *name == interface);
    by_link.map_or(Grant::Nobody, |(_, word)| Grant::Link(word))
}

/// How a secret is granted.
pub(crate) const SECRET: &str = "secrets = { its-name = \"credential\" } in its [[component]]";

/// Whether an import is granted; if not, what would grant it.
pub(super) fn judge(
    import: &str,
    links: &[Link],
    secrets: &BTreeMap<String, SecretFile>,
) -> Result<(), String> {
    let word = match grant(import) {
        Grant::Everybody => return Ok(()),
        Grant::Secret if secrets.is_empty() => {
            return Err(format!(
                "{SECRET} grants it; a component of the lattice wants a configuration SECRET_its-name, with backend=frond and \
                 key=NAME of a [[secret]]"
            ));
        }
        Grant::Secret => return Ok(()),
        Grant::Nobody => return Err("nothing grants it: a gateway does not have it".to_owned()),
        Grant::Link(word) => word,
    };
    let has_link = links.iter().any(|link| match link.end {
        LinkEnd::Source(_) | LinkEnd::HttpSource(_) => false,
        LinkEnd::Target(_) => word == "wasmcloud:messaging/consumer",
        LinkEnd::KeyValue { .. } => word == "wasi:keyvalue",
        LinkEnd::Blobs { .. } => word == "wasi:blobstore",
        LinkEnd::Device { .. } => word == "frond:device",
        LinkEnd::HttpTarget(_) => word == "wasi:http/outgoing-handler",
    });
    match has_link {
        true => Ok(()),
        false => Err(format!(
            "[[component.link]] with interface = \"{word}\" grants it; a component of the lattice wants a link to a provider"
        )),
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
    use crate::config::{Access, HttpTarget, Target};

    #[test]
    fn only_what_a_link_grants_is_granted_and_the_refusal_says_which() {
        // Goal: the sentence is one to act on. Method: the interfaces with and without their link, and a stranger.
        let keyvalue = Link { name: "default".into(), end: LinkEnd::KeyValue { bytes_max: 1, keys_max: 1 } };
        let target = Link {
            name: "default".into(),
            end: LinkEnd::Target(Target::Nats { subjects: vec![">".into()] }),
        };
        let none = BTreeMap::new();
        assert_eq!(judge("wasi:logging/logging", &[], &none), Ok(()));
        assert_eq!(judge("frond:device/types@0.1.0", &[], &none), Ok(()));
        assert_eq!(judge("wasi:cli/stdout@0.2.6", &[], &none), Ok(()));
        assert_eq!(judge("wasi:http/types@0.2.2", &[], &none), Ok(()));
        let hosts = HttpTarget { hosts: Vec::new(), ca: None, answer_bytes_max: 1 };
        let http = Link { name: "default".into(), end: LinkEnd::HttpTarget(hosts) };
        let blobs = Link { name: "default".into(), end: LinkEnd::Blobs { bytes_max: 1, objects_max: 1 } };
        let device = Link {
            name: "default".into(),
            end: LinkEnd::Device { devices: vec!["meter".into()], access: Access::Read },
        };
        for (import, link, word) in [
            ("wasi:blobstore/container@0.2.0-draft", &blobs, "wasi:blobstore"),
            ("wasi:keyvalue/atomics@0.2.0-draft", &keyvalue, "wasi:keyvalue"),
            ("wasmcloud:messaging/consumer@0.2.0", &target, "wasmcloud:messaging/consumer"),
            ("wasi:http/outgoing-handler@0.2.2", &http, "wasi:http/outgoing-handler"),
            ("frond:device/modbus@0.1.0", &device, "frond:device"),
            ("frond:device/gpio@0.1.0", &device, "frond:device"),
        ] {
            assert_eq!(judge(import, std::slice::from_ref(link), &none), Ok(()));
            let refusal = judge(import, &[], &none).unwrap_err();
            assert!(
                refusal.starts_with(&format!("[[component.link]] with interface = \"{word}\" grants it"))
            );
        }
        let secret = SecretFile { said: "key".into(), path: "/key".into() };
        let secrets = BTreeMap::from([("api-key".to_owned(), secret)]);
        for import in ["wasmcloud:secrets/store@0.1.0-draft", "wasmcloud:secrets/reveal@0.1.0-draft"] {
            assert_eq!(judge(import, &[], &secrets), Ok(()));
            let refusal = judge(import, std::slice::from_ref(&keyvalue), &none).unwrap_err();
            for part in ["secrets = {", "grants it; a component of the lattice wants a configuration SECRET_"]
            {
                assert!(refusal.contains(part), "{refusal}");
            }
        }
        assert!(judge("wasi:sockets/tcp@0.2.0", &[keyvalue, target], &secrets).is_err());
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
