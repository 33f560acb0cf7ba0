//! TOML as a tree that remembers where everything was said, and the merging of one layer over another.
//!
//! Merging goes key by key: tables are merged, everything else is replaced as a whole (a list, too: a later `topics`
//! replaces the earlier one). The arrays in [`NAMED`], `[[stream]]` among them, are merged by `name`: an element with a name already
//! known overrides keys of that element, any other is added behind. The same name twice in one file is a problem.
//!
//! Bounded by what is read (`load::FILE_BYTES_MAX`) and by the parser, which refuses nesting beyond 80.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::diagnose::{Position, Problem};
use super::text::read_layer;

/// Arrays of tables whose elements have a `name` and are merged by it.
pub(super) const NAMED: [&str; 8] =
    ["stream", "component", "device", "listener", "user", "registry", "signer", "secret"];

/// A file, or what stands for one.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// How messages name it.
    pub origin: String,
    /// What it says.
    pub text: String,
}

/// A place in one of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Which layer, from 0.
    pub layer: usize,
    /// Where in it.
    pub at: Position,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it was said.
    pub place: Place,
    /// What.
    pub value: Value,
}

/// A TOML value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Node>),
    Table(BTreeMap<String, Entry>),
    /// Something that no key takes: a date, or an integer beyond 64 bits.
    Odd(&'static str),
}

/// A key of a table with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Where the key stands.
    pub key: Place,
    /// Its value.
    pub node: Node,
}

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Key(String),
    Item(usize),
}

/// The way from the root to a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct KeyPath(pub Vec<Step>);

/// The merged layers.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    /// The merged document, a table.
    pub root: Node,
    /// The lowest layer alone: what a refused value is replaced with while the rest is examined.
    base: Node,
    origins: Vec<String>,
}

// === impl KeyPath ===

impl KeyPath {
    /// `journal.commit_interval`, from keys without dots in them.
    pub fn of(dotted: &str) -> KeyPath {
        KeyPath(dotted.split('.').map(|key| Step::Key(key.to_owned())).collect())
    }

    /// This path and one key more.
    pub fn key(&self, key: &str) -> KeyPath {
        self.with(Step::Key(key.to_owned()))
    }

    /// This path and one element more.
    pub fn item(&self, item: usize) -> KeyPath {
        self.with(Step::Item(item))
    }

    /// The path without its last step.
    pub fn parent(&self) -> KeyPath {
        KeyPath(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }

    fn with(&self, step: Step) -> KeyPath {
        let mut steps = self.0.clone();
        steps.push(step);
        KeyPath(steps)
    }
}

impl fmt::Display for KeyPath {
    /// Keys joined by dots. Positions in lists are left out: the line says which element it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.iter().filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Item(_) => None,
        });
        for (n, key) in keys.enumerate() {
            write!(f, "{}{key}", if n == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

// === impl Node ===

impl Node {
    /// The node below, if there is one.
    pub fn get(&self, step: &Step) -> Option<&Node> {
        match (&self.value, step) {
            (Value::Table(table), Step::Key(key)) => table.get(key).map(|entry| &entry.node),
            (Value::List(list), Step::Item(item)) => list.get(*item),
            _ => None,
        }
    }

    fn get_mut(&mut self, step: &Step) -> Option<&mut Node> {
        match (&mut self.value, step) {
            (Value::Table(table), Step::Key(key)) => table.get_mut(key).map(|entry| &mut entry.node),
            (Value::List(list), Step::Item(item)) => list.get_mut(*item),
            _ => None,
        }
    }

    fn find(&self, steps: &[Step]) -> Option<&Node> {
        steps.iter().try_fold(self, |node, step| node.get(step))
    }

    /// The `name` of an element of a named array.
    pub fn name(&self) -> Option<&str> {
        match &self.get(&Step::Key("name".to_owned()))?.value {
            Value::Text(name) => Some(name),
            _ => None,
        }
    }
}

// === impl Tree ===

impl Tree {
    /// Parses and merges the layers, the lowest first. With a problem among them the tree is not worth examining.
    pub fn merge(layers: &[Layer]) -> (Tree, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut roots = layers.iter().enumerate().map(|(n, layer)| read_layer(n, layer, &mut problems));
        let start = Place { layer: 0, at: Position { line: 1, column: 1 } };
        let base = roots.next().unwrap_or(Node { place: start, value: Value::Table(BTreeMap::new()) });
        let root = roots.fold(base.clone(), |mut root, upper| {
            overlay(&mut root, upper, Level::Root);
            root
        });
        (Tree { root, base, origins: layers.iter().map(|layer| layer.origin.clone()).collect() }, problems)
    }

    /// Where the path is said, or, when it is not, where the nearest thing around it is. Nobody edits the embedded
    /// default, and the root has no place of its own.
    pub fn place(&self, path: &KeyPath) -> Option<Place> {
        let mut node = &self.root;
        let mut place = None;
        for step in &path.0 {
            let Some(below) = node.get(step) else { break };
            node = below;
            place = Some(node.place).filter(|place| place.layer > 0).or(place);
        }
        place
    }

    /// Where the last key of the path stands.
    pub fn key_place(&self, path: &KeyPath) -> Option<Place> {
        let Some((Step::Key(last), above)) = path.0.split_last() else { return self.place(path) };
        match self.root.find(above).map(|node| &node.value) {
            Some(Value::Table(table)) => table.get(last).map(|entry| entry.key),
            _ => None,
        }
    }

    /// The file that says it, for paths relative to it; `None` when it is the embedded default.
    pub fn origin(&self, path: &KeyPath) -> Option<&str> {
        let layer = self.root.find(&path.0).map(|node| node.place.layer).filter(|layer| *layer > 0)?;
        self.origins.get(layer).map(String::as_str)
    }

    /// How messages name a layer.
    pub fn layer_name(&self, layer: usize) -> &str {
        self.origins.get(layer).map_or("", String::as_str)
    }

    /// The file that a problem without a place is put down to: the first that a person wrote.
    pub fn first_origin(&self) -> &str {
        self.layer_name(usize::from(self.origins.len() > 1))
    }

    /// How messages name a path: elements of named arrays by their names, everything else by keys and dots.
    pub fn label(&self, path: &KeyPath) -> String {
        if let [Step::Key(array), item @ Step::Item(_), rest @ ..] = path.0.as_slice() {
            let node = self.root.get(&Step::Key(array.clone())).and_then(|node| node.get(item));
            let named = match node.and_then(Node::name) {
                Some(name) => format!("{array} {name:?}"),
                None => array.clone(),
            };
            return match KeyPath(rest.to_vec()).to_string() {
                rest if rest.is_empty() => named,
                rest => format!("{named}: {rest}"),
            };
        }
        path.to_string()
    }

    /// Takes a refused value out, so that the rest can be examined: the lowest layer's value takes its place if it has
    /// one. Returns whether there was anything to take out.
    pub fn take_out(&mut self, path: &KeyPath) -> bool {
        let Some((last, above)) = path.0.split_last() else { return false };
        let fallback = self.base.find(&path.0).cloned();
        let parent = above.iter().try_fold(&mut self.root, |node, step| node.get_mut(step));
        match (parent.map(|node| &mut node.value), last, fallback) {
            (Some(Value::Table(table)), Step::Key(key), Some(node)) => {
                table.insert(key.clone(), Entry { key: node.place, node }).is_some()
            }
            (Some(Value::Table(table)), Step::Key(key), None) => table.remove(key).is_some(),
            (Some(Value::List(list)), Step::Item(item), _) if *item < list.len() => {
                list.remove(*item);
                true
            }
            _ => false,
        }
    }
}

/// Where in the document a merge is.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Below,
}

fn overlay(base: &mut Node, upper: Node, level: Level) {
    match (&mut base.value, upper.value) {
        (Value::Table(lower), Value::Table(table)) => {
            // A table that is only in the default is somebody's as soon as somebody writes it.
            if base.place.layer == 0 {
                base.place = upper.place;
            }
            for (key, entry) in table {
                match lower.get_mut(&key) {
                    Some(below) if level == Level::Root && NAMED.contains(&key.as_str()) => {
                        overlay_named(&mut below.node, entry.node);
                    }
                    Some(below) => {
                        below.key = entry.key;
                        overlay(&mut below.node, entry.node, Level::Below);
                    }
                    None => {
                        lower.insert(key, entry);
                    }
                }
            }
        }
        (_, value) => *base = Node { place: upper.place, value },
    }
}

fn overlay_named(base: &mut Node, upper: Node) {
    let place = upper.place;
    match (&mut base.value, upper.value) {
        (Value::List(lower), Value::List(elements)) => {
            let mut known: HashMap<String, usize> =
                lower.iter().enumerate().filter_map(|(n, node)| Some((node.name()?.to_owned(), n))).collect();
            for element in elements {
                let name = element.name().map(str::to_owned);
                match name.as_ref().and_then(|name| known.get(name)) {
                    Some(n) => overlay(&mut lower[*n], element, Level::Below),
                    None => {
                        known.extend(name.map(|name| (name, lower.len())));
                        lower.push(element);
                    }
                }
            }
        }
        (_, value) => *base = Node { place, value },
    }
}
