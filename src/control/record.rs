//! The desired state as rows of `state.db`, and changes as lines of its history. Pure.
//!
//! A row's content is a version byte and JSON. A row of another version, or one that says nothing, is left where it is and
//! told of: a gateway that is set back to an older frond goes on without it.

use super::bounds::HISTORY_TEXT_BYTES_MAX;
use super::command::{Command, Origin};
use super::desired::{Change, Desired, Key, Spec};
use crate::workload::{Row, Write};

/// The version of a row's content.
const VERSION: u8 = 1;

/// What a change does to the rows.
pub(super) fn write(change: &Change, revision: u64, origin: Origin) -> Write {
    match change {
        Change::Put(key, spec) => {
            let (kind, name) = identity(key);
            let mut content = vec![VERSION];
            content.extend(serde_json::to_vec(spec).expect("texts, numbers and lists of them are JSON"));
            Write::Put(Row { kind, name, revision, origin: origin as u8, content })
        }
        Change::Remove(key) => {
            let (kind, name) = identity(key);
            Write::Delete { kind, name }
        }
    }
}

/// The desired state that rows tell of, and how many of them say nothing.
pub(super) fn read(rows: &[Row], newest: u64) -> (Desired, usize) {
    let mut desired = Desired { revision: newest, ..Desired::default() };
    let mut unread = 0;
    for row in rows {
        match item(row) {
            Some((change, origin)) => desired.make(&change, row.revision, origin),
            None => unread += 1,
        }
    }
    (desired, unread)
}

fn item(row: &Row) -> Option<(Change, Origin)> {
    let (version, json) = row.content.split_first()?;
    if *version != VERSION {
        return None;
    }
    let spec: Spec = serde_json::from_slice(json).ok()?;
    let name = row.name.clone();
    let key = match &spec {
        Spec::Component(_) => Key::Component(name),
        Spec::Former(_) => Key::Former(name),
        Spec::Provider(_) => Key::Provider(name),
        Spec::Link(link) => Key::Link(link.key()),
        Spec::Config(_) => Key::Config(name),
        Spec::Label(_) => Key::Label(name),
    };
    // What is read is what was written: a row under another's name would be two things at once.
    let is_itself = identity(&key) == (row.kind, row.name.clone());
    is_itself.then_some(())?;
    Some((Change::Put(key, spec), Origin::of_number(row.origin)?))
}

/// Kind and name of a row. The kinds are in `state.db`: append only, never renumber.
pub(super) fn identity(key: &Key) -> (u8, String) {
    match key {
        Key::Component(id) => (1, id.clone()),
        Key::Provider(id) => (2, id.clone()),
        Key::Link(key) => {
            let parts = [&key.source_id, &key.wit_namespace, &key.wit_package, &key.name, &key.target];
            (3, serde_json::to_string(&parts).expect("texts are JSON"))
        }
        Key::Config(name) => (4, name.clone()),
        Key::Label(name) => (5, name.clone()),
        Key::Former(id) => (8, id.clone()),
    }
}

/// A command in the history's words. Values of configurations are not in it: somebody may have put a secret there.
pub(super) fn line(command: &Command) -> String {
    cut(match command {
        Command::Scale { id, component, .. } if component.limit == 0 => format!("component {id} is to stop"),
        Command::Scale { id, component, .. } => {
            format!("component {id} is to run {} at {}", component.reference, component.limit)
        }
        Command::Update { id, reference, .. } => format!("component {id} is to become {reference}"),
        Command::StartProvider { id, provider } => format!("provider {id} is {}", provider.reference),
        Command::StopProvider { id } => format!("provider {id} is gone"),
        Command::PutLink { link } => format!(
            "link {} of {} leads to {} ({}:{})",
            link.name, link.source_id, link.target, link.wit_namespace, link.wit_package
        ),
        Command::DeleteLink { source_id, name, wit_namespace, wit_package } => {
            format!("link {name} of {source_id} ({wit_namespace}:{wit_package}) is gone")
        }
        Command::PutConfig { name, values } => format!("configuration {name} has {} values", values.len()),
        Command::DeleteConfig { name } => format!("configuration {name} is gone"),
        Command::PutLabel { key, value } => format!("label {key} is {value}"),
        Command::DeleteLabel { key } => format!("label {key} is gone"),
    })
}

/// What fits into a line.
pub(super) fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(HISTORY_TEXT_BYTES_MAX));
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::command::Pairs;
    use crate::control::desired::{Component, Link, Provider};

    fn changes() -> Vec<Change> {
        let pairs = Pairs::from([("a".to_owned(), "ü\n\"".to_owned())]);
        let link = Link {
            source_id: "a|b".into(),
            target: "c\"d".into(),
            name: "default".into(),
            ..Link::default()
        };
        let component = Component {
            reference: "file:///a".into(),
            limit: 3,
            config: vec!["c".into()],
            annotations: pairs.clone(),
            limits: Some(pairs.clone()),
        };
        vec![
            Change::Put(Key::Component("a".into()), Spec::Component(component)),
            Change::Put(Key::Provider("a".into()), Spec::Provider(Provider::default())),
            Change::Put(Key::Link(link.key()), Spec::Link(link)),
            Change::Put(Key::Config("a".into()), Spec::Config(pairs)),
            Change::Put(Key::Label("a".into()), Spec::Label("x".into())),
        ]
    }

    fn rows() -> Vec<Row> {
        let row = |(n, change)| match write(change, n as u64 + 1, Origin::Site) {
            Write::Put(row) => row,
            Write::Delete { .. } => unreachable!(),
        };
        changes().iter().enumerate().map(row).collect()
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        // Goal: a restart restores every kind of item with its revision and origin. Method: one of each, there and back; a
        // deletion names the same row.
        let mut desired = Desired::default();
        for (n, change) in changes().iter().enumerate() {
            desired.make(change, n as u64 + 1, Origin::Site);
        }
        assert_eq!(read(&rows(), 5), (desired, 0));
        for (change, row) in changes().iter().zip(rows()) {
            let Change::Put(key, _) = change else { unreachable!() };
            let deleted = write(&Change::Remove(key.clone()), 9, Origin::Site);
            assert_eq!(deleted, Write::Delete { kind: row.kind, name: row.name });
        }
    }

    #[test]
    fn the_content_of_a_row_is_this_and_stays_this() {
        // Goal: rows of this version are read for ever. Method: the bytes.
        let shown: Vec<String> =
            rows().iter().map(|row| String::from_utf8(row.content[1..].to_vec()).unwrap()).collect();
        assert!(rows().iter().all(|row| row.content[0] == 1));
        assert_eq!(
            shown[0],
            r#"{"component":{"reference":"file:///a","limit":3,"config":["c"],"annotations":{"a":"ü\n\""},"limits":{"a":"ü\n\""}}}"#
        );
        assert_eq!(shown[1], r#"{"provider":{"reference":"","config":[],"annotations":{}}}"#);
        assert_eq!(
            shown[2],
            r#"{"link":{"source_id":"a|b","target":"c\"d","name":"default","wit_namespace":"","wit_package":"","interfaces":[],"source_config":[],"target_config":[]}}"#
        );
        assert_eq!(
            (shown[3].as_str(), shown[4].as_str()),
            (r#"{"config":{"a":"ü\n\""}}"#, r#"{"label":"x"}"#)
        );
        assert_eq!(rows()[2].name, r#"["a|b","","","default","c\"d"]"#);
    }

    #[test]
    fn a_row_that_says_nothing_is_passed_over_and_counted() {
        // Goal: one bad row does not take the others with it. Method: another version, half a row, a wrong name, an origin
        // and a kind that nobody knows.
        let mut bad = rows();
        bad[0].content[0] = 2;
        bad[1].content.truncate(5);
        bad[2].name = "x".into();
        bad[3].origin = 9;
        bad[4].kind = 1;
        let (desired, unread) = read(&bad, 7);
        assert_eq!((unread, desired), (5, Desired { revision: 7, ..Desired::default() }));
        assert_eq!(read(&[Row { content: vec![], ..rows().remove(0) }], 0).1, 1);
    }

    #[test]
    fn the_history_tells_what_was_asked_in_one_bounded_line_without_values() {
        // Goal: nobody's secret ends up there, and no line breaks out of it. Method: a configuration, and too long a name.
        let values = Pairs::from([("key".to_owned(), "hunter2".to_owned())]);
        let told = line(&Command::PutConfig { name: "c".into(), values });
        assert_eq!(told, "configuration c has 1 values");
        let told = line(&Command::PutLabel { key: "a\nb".into(), value: "ü".repeat(500) });
        assert!(told.len() <= HISTORY_TEXT_BYTES_MAX && told.starts_with("label a b is ü"), "{told}");
    }
}
