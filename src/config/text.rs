//! From the text of one layer to its tree, with the place of every key and value.

use std::collections::HashMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnose::{Position, Problem};
use super::fault::Fault;
use super::tree::{Entry, Layer, NAMED, Node, Place, Step, Value};

/// Most complaints of the TOML parser repeated for one file: later ones mostly follow from the first.
const SYNTAX_PROBLEMS_MAX: usize = 10;

/// Where each line of a text begins.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
    layer: usize,
}

impl Lines<'_> {
    fn new(layer: usize, text: &str) -> Lines<'_> {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(n, _)| n + 1)).collect();
        Lines { text, starts, layer }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts[line - 1];
        let before = self.text.get(start..offset.min(self.text.len())).unwrap_or("");
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place {
            layer: self.layer,
            at: Position { line: count(line), column: count(before.chars().count() + 1) },
        }
    }
}

/// Reads one layer. What the parser complains of is added to `problems`; the tree then lacks what it skipped.
pub(super) fn read_layer(n: usize, layer: &Layer, problems: &mut Vec<Problem>) -> Node {
    let lines = Lines::new(n, &layer.text);
    let (table, errors) = DeTable::parse_recoverable(&layer.text);
    for error in errors.iter().take(SYNTAX_PROBLEMS_MAX) {
        problems.push(Problem {
            file: layer.origin.clone(),
            at: error.span().map(|span| lines.place(span.start).at),
            key: String::new(),
            what: Fault::Syntax { message: error.message().to_owned() },
        });
    }
    let root = table_node(lines.place(0), table.get_ref(), &lines);
    duplicate_names(&root, layer, problems);
    root
}

fn table_node(place: Place, table: &DeTable<'_>, lines: &Lines<'_>) -> Node {
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let key: &Spanned<std::borrow::Cow<'_, str>> = key;
        (key.get_ref().to_string(), Entry { key: lines.place(key.span().start), node: node(value, lines) })
    };
    Node { place, value: Value::Table(table.iter().map(entry).collect()) }
}

fn node(spanned: &Spanned<DeValue<'_>>, lines: &Lines<'_>) -> Node {
    let place = lines.place(spanned.span().start);
    let value = match spanned.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(int) => i64::from_str_radix(int.as_str(), int.radix())
            .map_or(Value::Odd("a whole number beyond 64 bits"), Value::Int),
        DeValue::Float(float) => {
            float.as_str().parse().map_or(Value::Odd("an unreadable number"), Value::Float)
        }
        DeValue::Boolean(bool) => Value::Bool(*bool),
        DeValue::Datetime(_) => Value::Odd("a date"),
        DeValue::Array(array) => Value::List(array.iter().map(|element| node(element, lines)).collect()),
        DeValue::Table(table) => return table_node(place, table, lines),
    };
    Node { place, value }
}

/// The same name twice in one file is a slip; over two files it is an override.
fn duplicate_names(root: &Node, layer: &Layer, problems: &mut Vec<Problem>) {
    for array in NAMED {
        let Some(Value::List(elements)) = root.get(&Step::Key(array.to_owned())).map(|node| &node.value)
        else {
            continue;
        };
        let mut seen: HashMap<&str, u32> = HashMap::new();
        for element in elements {
            let Some(name) = element.name() else { continue };
            if let Some(line) = seen.get(name).copied() {
                problems.push(Problem {
                    file: layer.origin.clone(),
                    at: Some(element.place.at),
                    key: format!("{array} {name:?}"),
                    what: Fault::Duplicate { line },
                });
            } else {
                seen.insert(name, element.place.at.line);
            }
        }
    }
}
