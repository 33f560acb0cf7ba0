//! Entries of the lattice's buckets as bytes: `COMPONENT_<source>` with `{"url","links"}`, `CLAIMS_<key>`, and
//! configurations by their names. Pure.
//!
//! What is written keeps everything in an entry that frond does not know: the reference of a component that another host
//! runs, and fields of later versions.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::control::bounds::{CONFIG_BYTES_MAX, CONFIG_VALUES_MAX, LINKS_MAX};
use crate::control::merge::{Content, Entry, EntryKey};
use crate::control::{Change, Desired, Key, Link, Origin, Pairs, Spec};

/// Largest entry that is looked into: 256 links of 2 KiB.
pub(super) const ENTRY_BYTES_MAX: usize = 512 << 10;

const COMPONENT: &str = "COMPONENT_";
/// Every such key, as a pattern: `*` is one token, and only whole tokens can be left open, so it is picked out here.
const CLAIMS: &str = "CLAIMS_";

/// Which of the two buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// `LATTICEDATA_<lattice>`.
    Lattice,
    /// `CONFIGDATA_<lattice>`.
    Config,
}

/// Where an entry is.
pub(super) fn place(key: &EntryKey) -> (Which, String) {
    match key {
        EntryKey::Links(source) => (Which::Lattice, format!("{COMPONENT}{source}")),
        EntryKey::Config(name) => (Which::Config, name.clone()),
    }
}

/// What is at a place, if it is something for control.
pub(super) fn key(which: Which, name: &str) -> Option<EntryKey> {
    match which {
        Which::Lattice => name.strip_prefix(COMPONENT).map(|source| EntryKey::Links(source.to_owned())),
        Which::Config => Some(EntryKey::Config(name.to_owned())),
    }
}

/// What an entry says; `value` is nothing when it was deleted.
pub(super) fn read(key: EntryKey, revision: u64, value: Option<&[u8]>) -> Entry {
    let content = match (&key, value) {
        (_, None) => Ok(Content::Nothing),
        (_, Some(bytes)) if bytes.len() > ENTRY_BYTES_MAX => Err("it is larger than a gateway looks into"),
        (EntryKey::Links(_), Some(bytes)) => links(bytes).map(Content::Links),
        (EntryKey::Config(_), Some(bytes)) => values(bytes).map(Content::Config),
    };
    Entry { key, revision, content: content.unwrap_or_else(Content::Unreadable) }
}

fn links(bytes: &[u8]) -> Result<Vec<Link>, &'static str> {
    let links = parsed(&object(bytes)?)?;
    match links.len() <= LINKS_MAX {
        true => Ok(links),
        false => Err("it has more links than a gateway takes"),
    }
}

fn values(bytes: &[u8]) -> Result<Pairs, &'static str> {
    let values: Pairs = serde_json::from_slice(bytes).map_err(|_| "it is no map of text to text")?;
    let size: usize = values.iter().map(|(key, value)| key.len() + value.len()).sum();
    match values.len() <= CONFIG_VALUES_MAX && size <= CONFIG_BYTES_MAX {
        true => Ok(values),
        false => Err("it has more values or bytes than a gateway takes"),
    }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, &'static str> {
    serde_json::from_slice(bytes).map_err(|_| "it is no JSON object")
}

fn parsed(object: &Map<String, Value>) -> Result<Vec<Link>, &'static str> {
    match object.get("links") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(links) => serde_json::from_value(links.clone()).map_err(|_| "its links are no list of links"),
    }
}

/// What is desired as far as an entry tells, so that a command can be judged against it. `configs` are those that there are.
pub(super) fn desired(entry: &Entry, configs: impl IntoIterator<Item = String>) -> Desired {
    let mut desired = Desired::default();
    let mut make = |key, spec| desired.make(&Change::Put(key, spec), 0, Origin::Lattice);
    for name in configs {
        make(Key::Config(name), Spec::Config(Pairs::new()));
    }
    match (&entry.key, &entry.content) {
        (_, Content::Links(links)) => {
            links.iter().for_each(|link| make(Key::Link(link.key()), Spec::Link(link.clone())));
        }
        (EntryKey::Config(name), Content::Config(values)) => {
            make(Key::Config(name.clone()), Spec::Config(values.clone()));
        }
        // A configuration that nobody can read is there, and is written over as a whole.
        (EntryKey::Config(name), Content::Unreadable(_)) => {
            let unreadable = Pairs::from([(String::new(), String::new())]);
            make(Key::Config(name.clone()), Spec::Config(unreadable));
        }
        _ => {}
    }
    desired
}

/// The entry after changes; nothing when it is to be deleted.
pub(super) fn render(before: Option<&[u8]>, changes: &[Change]) -> Result<Option<Vec<u8>>, &'static str> {
    let mut links = None;
    for change in changes {
        match change {
            Change::Put(Key::Config(_), Spec::Config(values)) => return Ok(Some(encode(values))),
            Change::Remove(Key::Config(_)) => return Ok(None),
            Change::Put(Key::Link(key), Spec::Link(link)) => {
                let links = opened(&mut links, before)?;
                let link = serde_json::to_value(link).expect("texts and lists of them are JSON");
                match links.1.iter().position(|other| other.key() == *key) {
                    Some(index) => links.0[index] = link,
                    None => links.0.push(link),
                }
            }
            Change::Remove(Key::Link(key)) => {
                let links = opened(&mut links, before)?;
                let index = links.1.iter().position(|other| other.key() == *key);
                if let Some(index) = index {
                    links.0.remove(index);
                    links.1.remove(index);
                }
            }
            _ => {}
        }
    }
    let mut entry = before.map(object).transpose()?.unwrap_or_default();
    entry.entry("url").or_insert_with(|| Value::String(String::new()));
    if let Some((links, _)) = links {
        entry.insert("links".to_owned(), Value::Array(links));
    }
    Ok(Some(encode(&entry)))
}

/// Links as they are written, and as they are read.
type Links = (Vec<Value>, Vec<Link>);

fn opened<'a>(links: &'a mut Option<Links>, before: Option<&[u8]>) -> Result<&'a mut Links, &'static str> {
    if links.is_none() {
        let object = before.map(object).transpose()?.unwrap_or_default();
        let known = parsed(&object)?;
        let raw = object.get("links").and_then(Value::as_array).cloned().unwrap_or_default();
        *links = Some((raw, known));
    }
    Ok(links.as_mut().expect("it has just been filled"))
}

fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("maps with keys of text are JSON")
}

/// Claims as hosts answer with them: every name that clients of some version look for. `None` when it is no claim.
pub(super) fn claims(name: &str, value: &[u8]) -> Option<BTreeMap<String, String>> {
    name.strip_prefix(CLAIMS)?;
    let claims: Map<String, Value> = serde_json::from_slice(value).ok()?;
    let text = |key: &str| match claims.get(key) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(Value::Array(tags)) => Some(tags.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")),
        _ => None,
    };
    let names = [
        ("call_alias", "call_alias"),
        ("iss", "issuer"),
        ("issuer", "issuer"),
        ("name", "name"),
        ("rev", "revision"),
        ("revision", "revision"),
        ("sub", "subject"),
        ("subject", "subject"),
        ("tags", "tags"),
        ("version", "version"),
        ("config_schema", "config_schema"),
    ];
    Some(names.into_iter().filter_map(|(told, kept)| Some((told.to_owned(), text(kept)?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Command, OfTheFile, apply};

    const BEFORE: &[u8] = br#"{"links":[{"future":1,"interfaces":["store"],"name":"default","source_config":[],"source_id":"s","target":"t","target_config":[],"wit_namespace":"wasi","wit_package":"keyvalue"}],"new":[1],"url":"ghcr.io/x:1"}"#;

    fn link(target: &str, interface: &str) -> Link {
        Link {
            source_id: "s".into(),
            target: target.into(),
            name: "default".into(),
            wit_namespace: "wasi".into(),
            wit_package: "keyvalue".into(),
            interfaces: vec![interface.into()],
            ..Link::default()
        }
    }

    fn source(bytes: Option<&[u8]>) -> Entry {
        read(EntryKey::Links("s".into()), 7, bytes)
    }

    fn asked(command: &Command, before: Option<&[u8]>) -> (String, Option<Option<String>>) {
        let entry = read(command.entry().unwrap(), 1, before);
        let decision = apply(&desired(&entry, ["c".to_owned()]), &OfTheFile::default(), command);
        let said = decision.answer.unwrap_or_else(|refusal| refusal.to_string());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let written =
            (!decision.changes.is_empty()).then(|| render(before, &decision.changes).unwrap().map(text));
        (said, written)
    }

    #[test]
    fn what_others_wrote_into_an_entry_stays_in_it() {
        // Goal: a link that is put or taken away by frond costs no other host its own. Method: an entry with fields of another
        // version; a link beside the first, a changed one, the first away; an entry that is not there yet.
        let (said, written) = asked(&Command::PutLink { link: link("u", "atomics") }, Some(BEFORE));
        assert_eq!(said, "successfully set link");
        let (head, _) = std::str::from_utf8(BEFORE).unwrap().split_once("],\"new\"").unwrap();
        let new = r#"{"interfaces":["atomics"],"name":"default","source_config":[],"source_id":"s","target":"u","target_config":[],"wit_namespace":"wasi","wit_package":"keyvalue"}"#;
        assert_eq!(written.unwrap().unwrap(), format!(r#"{head},{new}],"new":[1],"url":"ghcr.io/x:1"}}"#));
        let away = Command::DeleteLink {
            source_id: "s".into(),
            name: "default".into(),
            wit_namespace: "wasi".into(),
            wit_package: "keyvalue".into(),
        };
        let (_, written) = asked(&away, Some(BEFORE));
        assert_eq!(written.unwrap().unwrap(), r#"{"links":[],"new":[1],"url":"ghcr.io/x:1"}"#);
        let (_, written) = asked(&Command::PutLink { link: link("u", "atomics") }, None);
        assert_eq!(written.unwrap().unwrap(), format!(r#"{{"links":[{new}],"url":""}}"#));
        assert_eq!(
            asked(&Command::PutLink { link: link("t", "store") }, Some(BEFORE)).1,
            None,
            "it is so already"
        );
    }

    #[test]
    fn requests_are_judged_by_what_the_buckets_hold() {
        // Goal: the sentences of 1.6 hold against the lattice's state. Method: a rival, a configuration that is not there, a
        // link of nobody; a configuration put, put again, taken away.
        let conflict = "link already exists with different target, consider deleting the existing link or using a different link name";
        assert_eq!(
            asked(&Command::PutLink { link: link("u", "store") }, Some(BEFORE)),
            (conflict.into(), None)
        );
        let named = Link { source_config: vec!["c".into(), "d".into()], ..link("t", "store") };
        let (said, written) = asked(&Command::PutLink { link: named }, Some(BEFORE));
        assert_eq!(
            said,
            "Failed to validate configuration and secrets. Configuration d not found in config store. "
        );
        assert_eq!(written, None);
        let values = Pairs::from([("k".to_owned(), "v".to_owned())]);
        let put = Command::PutConfig { name: "x".into(), values };
        for before in [None, Some(b"{}".as_slice()), Some(b"no JSON")] {
            assert_eq!(asked(&put, before).1, Some(Some(r#"{"k":"v"}"#.to_owned())));
        }
        assert_eq!(asked(&put, Some(br#"{"k":"v"}"#)).1, None);
        let away = Command::DeleteConfig { name: "x".into() };
        assert_eq!(asked(&away, Some(b"no JSON")).1, Some(None));
        assert_eq!(asked(&away, None), ("successfully deleted config".into(), None));
    }

    #[test]
    fn what_cannot_be_read_is_said_so_and_costs_nothing() {
        // Goal: no entry, however wrong, is more than a sentence. Method: no JSON, other JSON, too deep, too much, too many.
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        let large = [b"{\"url\":\"".to_vec(), b"x".repeat(ENTRY_BYTES_MAX), b"\"}".to_vec()].concat();
        for bytes in
            [b"".as_slice(), b"[]", b"{\"links\":1}", b"{\"links\":[{\"source_id\":\"s\"}]}", &deep, &large]
        {
            assert!(matches!(source(Some(bytes)).content, Content::Unreadable(_)));
            let command = Command::PutLink { link: link("t", "store") };
            let _ = asked(&Command::DeleteConfig { name: "x".into() }, Some(bytes));
            let changes = [Change::Put(Key::Link(link("t", "store").key()), Spec::Link(link("t", "store")))];
            let _ = (command, render(Some(bytes), &changes));
        }
        let many: BTreeMap<String, String> = (0..20_000).map(|n| (n.to_string(), String::new())).collect();
        let many = serde_json::to_vec(&many).unwrap();
        let config = |bytes| read(EntryKey::Config("c".into()), 1, Some(bytes)).content;
        assert!(matches!(config(&many), Content::Unreadable(_)));
        assert!(matches!(config(b"{\"a\":1}"), Content::Unreadable(_)));
        assert_eq!(config(b"{}"), Content::Config(Pairs::new()));
        assert_eq!(source(Some(b"{}")).content, Content::Links(Vec::new()));
        assert_eq!(source(None).content, Content::Nothing);
    }

    #[test]
    fn claims_are_told_under_every_name_that_clients_know() {
        // Goal: `claims.get` of 1.3 from what section 3 keeps. Method: a component's claims, and what are none.
        let kept = br#"{"call_alias":"","issuer":"A1","name":"echo","revision":"4","subject":"M1","tags":["a","b"],"version":"1.0"}"#;
        assert_eq!(
            serde_json::to_string(&claims("CLAIMS_M1", kept)).unwrap(),
            r#"{"call_alias":"","iss":"A1","issuer":"A1","name":"echo","rev":"4","revision":"4","sub":"M1","subject":"M1","tags":"a,b","version":"1.0"}"#
        );
        assert_eq!((claims("COMPONENT_M1", kept), claims("CLAIMS_M1", b"[")), (None, None));
    }
}
