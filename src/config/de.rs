//! Serde over the tree. It differs from what the `toml` crate offers in its error, which says in data (not in words) what
//! is wrong and at which path, so that the value can be taken out and the rest examined.

use std::fmt::Display;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::diagnose::nearest;
use super::fault::Fault;
use super::tree::{Entry, KeyPath, Node, Step, Value};

/// One refused value.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What is wrong.
    pub fault: Fault,
    /// Where, the innermost step first.
    steps: Vec<Step>,
}

/// Turns a tree into a type.
pub(super) fn deserialize<'de, T: Deserialize<'de>>(node: &'de Node) -> Result<T, Refusal> {
    T::deserialize(Source(node))
}

/// A value about to be read.
#[derive(Clone, Copy)]
struct Source<'de>(&'de Node);

// === impl Refusal ===

impl Refusal {
    fn new(fault: Fault) -> Refusal {
        Refusal { fault, steps: Vec::new() }
    }

    fn under(mut self, step: Step) -> Refusal {
        self.steps.push(step);
        self
    }

    /// Where, from the root.
    pub fn path(&self) -> KeyPath {
        KeyPath(self.steps.iter().rev().cloned().collect())
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.fault)
    }
}

impl std::error::Error for Refusal {}

impl de::Error for Refusal {
    fn custom<T: Display>(message: T) -> Refusal {
        Refusal::new(Fault::Refused { message: message.to_string() })
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Refusal {
        Refusal::new(Fault::WrongValue { found: found_words(found), expected: expected_words(expected) })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Refusal {
        Refusal::invalid_type(found, expected)
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Refusal {
        let nearest = nearest(word, known.iter().copied());
        Refusal::new(Fault::UnknownWord { word: word.to_owned(), nearest, known })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Refusal {
        let nearest = nearest(key, known.iter().copied());
        let fault = Fault::UnknownKey { key: key.to_owned(), nearest, known };
        Refusal::new(fault).under(Step::Key(key.to_owned()))
    }

    fn missing_field(key: &'static str) -> Refusal {
        Refusal::new(Fault::Missing { key }).under(Step::Key(key.to_owned()))
    }
}

fn unexpected(node: &Node) -> Unexpected<'_> {
    match &node.value {
        Value::Text(text) => Unexpected::Str(text),
        Value::Int(int) => Unexpected::Signed(*int),
        Value::Float(float) => Unexpected::Float(*float),
        Value::Bool(bool) => Unexpected::Bool(*bool),
        Value::Odd(what) => Unexpected::Other(what),
        Value::List(_) => Unexpected::Seq,
        Value::Table(_) => Unexpected::Map,
    }
}

/// Longest piece of a refused value repeated in a message.
const QUOTE_CHARS_MAX: usize = 60;

fn found_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Str(text) if text.chars().nth(QUOTE_CHARS_MAX).is_some() => {
            format!("\"{}…\"", text.chars().take(QUOTE_CHARS_MAX).collect::<String>().escape_debug())
        }
        Unexpected::Str(text) => format!("\"{}\"", text.escape_debug()),
        Unexpected::Signed(n) => n.to_string(),
        Unexpected::Float(n) => n.to_string(),
        Unexpected::Bool(b) => b.to_string(),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        Unexpected::Other(words) => words.to_owned(),
        other => other.to_string(),
    }
}

/// Serde's names of types in words a person who writes TOML knows.
fn expected_words(expected: &dyn Expected) -> String {
    match expected.to_string().as_str() {
        "a string" => "text in quotes".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "i64" => "a whole number".to_owned(),
        "f64" => "a number".to_owned(),
        "a sequence" => "an array".to_owned(),
        "a map" => "a table".to_owned(),
        other => other.to_owned(),
    }
}

// === impl Source ===

impl<'de> Deserializer<'de> for Source<'de> {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match &self.0.value {
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Int(int) => visitor.visit_i64(*int),
            Value::Float(float) => visitor.visit_f64(*float),
            Value::Bool(bool) => visitor.visit_bool(*bool),
            Value::Odd(_) => Err(de::Error::invalid_type(unexpected(self.0), &visitor)),
            Value::List(list) => visitor.visit_seq(Items { rest: list.iter().enumerate() }),
            Value::Table(table) => visitor.visit_map(Keys { rest: table.iter(), current: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        match &self.0.value {
            Value::Text(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            _ => Err(de::Error::invalid_type(unexpected(self.0), &"a word in quotes")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// The elements of an array.
struct Items<'de> {
    rest: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Refusal;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refusal> {
        let Some((n, node)) = self.rest.next() else { return Ok(None) };
        seed.deserialize(Source(node)).map(Some).map_err(|refusal| refusal.under(Step::Item(n)))
    }
}

/// The keys of a table, and after each its value.
struct Keys<'de> {
    rest: std::collections::btree_map::Iter<'de, String, Entry>,
    current: Option<(&'de String, &'de Node)>,
}

impl<'de> de::MapAccess<'de> for Keys<'de> {
    type Error = Refusal;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refusal> {
        let Some((key, entry)) = self.rest.next() else { return Ok(None) };
        self.current = Some((key, &entry.node));
        let key: StrDeserializer<'_, Refusal> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refusal> {
        let (key, node) = self.current.take().expect("serde asks for a value only after its key");
        seed.deserialize(Source(node)).map_err(|refusal| refusal.under(Step::Key(key.clone())))
    }
}
