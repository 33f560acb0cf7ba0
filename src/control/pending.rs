//! What is pending, and of which lattice a copy is held, as rows of `state.db`. Pure.
//!
//! They stand beside the rows of [`super::record`], in kinds of their own, and change in the same transactions as these.

use serde::{Deserialize, Serialize};

use super::command::Origin;
use super::desired::Key;
use super::merge::{Base, Pending};
use super::record;
use crate::workload::{Row, Write};

/// Kinds of rows, beside those of `record`: append only, never renumber.
const PENDING: u8 = 6;
/// The name of such a row is the lattice's.
const MEMBERSHIP: u8 = 7;
/// In place of it, once the lattice was left: what is pending then is what that lattice had.
const LEFT: u8 = 9;
/// The version of a row's content.
const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Content {
    key: Key,
    base: Base,
}

/// What rows tell of.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Rows of the desired state.
    pub items: Vec<Row>,
    /// What is pending.
    pub pending: Pending,
    /// The lattice of which a copy is held.
    pub lattice: Option<String>,
    /// The lattice that was left last, if none was joined since.
    pub left: Option<String>,
    /// Rows that say nothing.
    pub unread: usize,
}

/// An item is pending, or no longer.
pub(super) fn write(key: &Key, base: Option<&Base>, revision: u64) -> Write {
    let (kind, name) = record::identity(key);
    let name = format!("{kind} {name}");
    match base {
        None => Write::Delete { kind: PENDING, name },
        Some(base) => {
            let json = serde_json::to_vec(&Content { key: key.clone(), base: base.clone() });
            let mut content = vec![VERSION];
            content.extend(json.expect("texts are JSON"));
            Write::Put(Row { kind: PENDING, name, revision, origin: Origin::Site as u8, content })
        }
    }
}

/// From now on the copy is this lattice's.
pub(super) fn join(lattice: &str, revision: u64) -> [Write; 2] {
    instead(LEFT, MEMBERSHIP, lattice, revision)
}

/// From now on it is not.
pub(super) fn leave(lattice: &str, revision: u64) -> [Write; 2] {
    instead(MEMBERSHIP, LEFT, lattice, revision)
}

fn instead(before: u8, after: u8, lattice: &str, revision: u64) -> [Write; 2] {
    let (name, origin) = (lattice.to_owned(), Origin::Lattice as u8);
    let row = Row { kind: after, name: name.clone(), revision, origin, content: vec![VERSION] };
    [Write::Delete { kind: before, name }, Write::Put(row)]
}

/// Tells rows apart.
pub(super) fn sort(rows: Vec<Row>) -> Kept {
    let mut kept = Kept::default();
    let mut newest = 0;
    for row in rows {
        match row.kind {
            PENDING => match read(&row) {
                Some(Content { key, base }) => drop(kept.pending.insert(key, base)),
                None => kept.unread += 1,
            },
            // Of several lattices that were joined or left the last one counts.
            MEMBERSHIP | LEFT if row.revision < newest => {}
            MEMBERSHIP => (newest, kept.lattice, kept.left) = (row.revision, Some(row.name), None),
            LEFT => (newest, kept.lattice, kept.left) = (row.revision, None, Some(row.name)),
            _ => kept.items.push(row),
        }
    }
    kept
}

fn read(row: &Row) -> Option<Content> {
    let (version, json) = row.content.split_first()?;
    (*version == VERSION).then_some(())?;
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::command::Pairs;
    use crate::control::desired::{LinkKey, Spec};

    #[test]
    fn what_is_pending_is_there_after_a_restart_in_these_bytes() {
        // Goal: rows of this version are read for ever. Method: a configuration and a link, there and back, and the bytes; a
        // row that says nothing is counted, others are passed on.
        let spec = Spec::Config(Pairs::from([("a".to_owned(), "b".to_owned())]));
        let link = LinkKey {
            source_id: "s".into(),
            wit_namespace: "wasi".into(),
            wit_package: "keyvalue".into(),
            name: "default".into(),
            target: "t".into(),
        };
        let pending = Pending::from([
            (Key::Config("c".into()), Base::of(Some(&spec))),
            (Key::Link(link), Base::of(None)),
        ]);
        let row = |write| match write {
            Write::Put(row) => row,
            Write::Delete { .. } => unreachable!(),
        };
        let mut rows: Vec<Row> = pending.iter().map(|(key, base)| row(write(key, Some(base), 3))).collect();
        let text = |row: &Row| format!("{} {}", row.name, String::from_utf8_lossy(&row.content[1..]));
        assert_eq!(
            rows.iter().map(text).collect::<Vec<_>>(),
            [
                r#"3 ["s","wasi","keyvalue","default","t"] {"key":{"Link":{"source_id":"s","wit_namespace":"wasi","wit_package":"keyvalue","name":"default","target":"t"}},"base":null}"#,
                r#"4 c {"key":{"Config":"c"},"base":"a3328264ad1ca994dcc4acfdc4dbdff028cd7913c511651eb25e401e0810c408"}"#,
            ]
        );
        let [away, there] = join("default", 4);
        assert_eq!(away, Write::Delete { kind: 9, name: "default".into() });
        rows.push(row(there));
        rows.push(Row { content: vec![9], ..rows[0].clone() });
        rows.push(Row { kind: 4, ..rows[0].clone() });
        let kept = sort(rows);
        assert_eq!((kept.pending, kept.lattice.as_deref()), (pending, Some("default")));
        assert_eq!((kept.items.len(), kept.unread), (1, 1));
        assert_eq!(write(&Key::Config("c".into()), None, 5), Write::Delete { kind: 6, name: "4 c".into() });
    }

    #[test]
    fn the_lattice_that_was_joined_or_left_last_counts() {
        // Goal: bases are never taken for another lattice's. Method: rows of several, in both orders, and the bytes of one.
        let row = |[_, put]: [Write; 2]| match put {
            Write::Put(row) => row,
            Write::Delete { .. } => unreachable!(),
        };
        let left = row(leave("b", 5));
        assert_eq!((left.kind, left.name.as_str(), left.content.as_slice()), (9, "b", [1].as_slice()));
        assert_eq!(leave("b", 5)[0], Write::Delete { kind: 7, name: "b".into() });
        let last = |rows: &[Row]| {
            let [there, back] = [rows.to_vec(), rows.iter().rev().cloned().collect()].map(sort);
            let kept = (there.lattice, there.left);
            assert_eq!(kept, (back.lattice, back.left));
            kept
        };
        let (first, again) = (row(join("z", 4)), row(join("a", 6)));
        assert_eq!(last(&[]), (None, None));
        assert_eq!(last(&[first.clone(), left.clone()]), (None, Some("b".into())));
        assert_eq!(last(&[first, left, again]), (Some("a".into()), None));
    }
}
