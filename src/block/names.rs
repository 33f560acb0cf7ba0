//! The dictionary of an envelope: what is known of its series.
//!
//! ```text
//! dictionary = series numbers | shared and own lengths of names | own parts of names | attributes | number of each
//! ```
//! Names are front-coded: each is written as the length it shares with the name before, and the rest. Units and labels
//! are mostly the same for many series: each set is written once.

use std::collections::{BTreeMap, HashMap};

use super::columns::series_id;
use super::cursor::{Cursor, put_count};
use super::ints::{put_ints, take_ints};
use super::text::{put_text, take_text};
use super::{DecodeError, SeriesEntry};
use crate::sample::SeriesId;

/// Most memory a dictionary may take when decoded, by the estimate of [`weight`]: 300,000 series with names and labels
/// of a hundred bytes. A stream has 10,000 series unless its configuration says otherwise.
pub const DICTIONARY_BYTES_MAX: usize = 64 << 20;

/// An entry without its texts, and a label without its.
const ENTRY_BYTES: usize = 96;
const LABEL_BYTES: usize = 64;

/// What series share.
type Attributes = (String, BTreeMap<String, String>);

/// Writes the dictionary.
pub(super) fn put_dictionary(out: &mut Vec<u8>, series: &BTreeMap<SeriesId, SeriesEntry>) {
    let bytes = series.values().map(|entry| weight(&entry.name, &entry.unit, &entry.labels)).sum::<usize>();
    assert!(bytes <= DICTIONARY_BYTES_MAX, "a dictionary weighs at most DICTIONARY_BYTES_MAX");
    let numbers: Vec<i64> = series.keys().map(|id| i64::from(id.0)).collect();
    let mut shared = Vec::with_capacity(series.len());
    let mut own = Vec::with_capacity(series.len());
    let mut text = Vec::new();
    let mut before: &[u8] = &[];
    for entry in series.values() {
        let name = entry.name.as_bytes();
        let common = name.iter().zip(before).take_while(|(a, b)| a == b).count();
        shared.push(common as i64);
        own.push((name.len() - common) as i64);
        text.extend_from_slice(&name[common..]);
        before = name;
    }
    put_count(out, series.len());
    put_ints(out, &numbers);
    put_ints(out, &shared);
    put_ints(out, &own);
    put_text(out, &text);
    put_attributes(out, series);
}

/// Reads a dictionary.
pub(super) fn take_dictionary(
    cursor: &mut Cursor<'_>,
) -> Result<BTreeMap<SeriesId, SeriesEntry>, DecodeError> {
    let count = cursor.rows("series")?;
    let numbers = take_ints(cursor, count)?;
    let mut bytes = 0;
    let names = take_names(cursor, count, &mut bytes)?;
    let (distinct, column) = take_attributes(cursor, count)?;
    let mut series = BTreeMap::new();
    for ((number, name), attributes) in numbers.into_iter().zip(names).zip(column) {
        let own = usize::try_from(attributes).ok().and_then(|number| distinct.get(number));
        let (unit, labels) = own.ok_or(DecodeError::Invalid { what: "number of a set of labels" })?;
        add_weight(&mut bytes, weight("", unit, labels))?;
        let entry = SeriesEntry { name, unit: unit.clone(), labels: labels.clone() };
        series.insert(series_id(number)?, entry);
    }
    // Two entries of one number would lose a name.
    if series.len() == count { Ok(series) } else { Err(DecodeError::Invalid { what: "dictionary" }) }
}

/// Roughly what an entry takes in memory: a short piece of the dictionary may stand for many long names.
fn weight(name: &str, unit: &str, labels: &BTreeMap<String, String>) -> usize {
    let labels = labels.iter().map(|(name, value)| LABEL_BYTES + name.len() + value.len());
    ENTRY_BYTES + name.len() + unit.len() + labels.sum::<usize>()
}

fn add_weight(bytes: &mut usize, weight: usize) -> Result<(), DecodeError> {
    *bytes += weight;
    match *bytes {
        ..=DICTIONARY_BYTES_MAX => Ok(()),
        claimed => Err(DecodeError::TooMany {
            what: "bytes of names",
            claimed: claimed as u64,
            limit: DICTIONARY_BYTES_MAX,
        }),
    }
}

fn take_names(cursor: &mut Cursor<'_>, count: usize, bytes: &mut usize) -> Result<Vec<String>, DecodeError> {
    let shared = take_ints(cursor, count)?;
    let own = take_ints(cursor, count)?;
    let text = take_text(cursor)?;
    let mut names: Vec<String> = Vec::with_capacity(count);
    let mut rest = text.as_slice();
    for (shared, own) in shared.into_iter().zip(own) {
        let before = names.last().map_or(&[][..], |name| name.as_bytes());
        let shared = usize::try_from(shared).ok().and_then(|shared| before.get(..shared));
        let own = usize::try_from(own).ok().and_then(|own| rest.split_at_checked(own));
        let (Some(shared), Some((own, behind))) = (shared, own) else {
            return Err(DecodeError::Invalid { what: "length of a name" });
        };
        rest = behind;
        add_weight(bytes, shared.len() + own.len())?;
        let name = String::from_utf8([shared, own].concat());
        names.push(name.map_err(|_| DecodeError::Invalid { what: "name" })?);
    }
    if rest.is_empty() { Ok(names) } else { Err(DecodeError::Invalid { what: "length of a name" }) }
}

fn put_attributes(out: &mut Vec<u8>, series: &BTreeMap<SeriesId, SeriesEntry>) {
    let mut numbers: HashMap<(&str, &BTreeMap<String, String>), i64> = HashMap::new();
    let mut text = Vec::new();
    let mut column = Vec::with_capacity(series.len());
    for entry in series.values() {
        let next = numbers.len() as i64;
        column.push(*numbers.entry((&entry.unit, &entry.labels)).or_insert_with(|| {
            put_string(&mut text, &entry.unit);
            put_count(&mut text, entry.labels.len());
            for (name, value) in &entry.labels {
                put_string(&mut text, name);
                put_string(&mut text, value);
            }
            next
        }));
    }
    put_text(out, &text);
    put_ints(out, &column);
}

/// The distinct sets, and the number of each entry's.
fn take_attributes(
    cursor: &mut Cursor<'_>,
    count: usize,
) -> Result<(Vec<Attributes>, Vec<i64>), DecodeError> {
    let text = take_text(cursor)?;
    let mut text = Cursor::new(&text);
    let mut distinct = Vec::new();
    let mut bytes = 0;
    while !text.rest.is_empty() {
        let unit = take_string(&mut text)?;
        let mut labels = BTreeMap::new();
        for _ in 0..text.rows("labels")? {
            let (name, value) = (take_string(&mut text)?, take_string(&mut text)?);
            add_weight(&mut bytes, LABEL_BYTES + name.len() + value.len())?;
            labels.insert(name, value);
        }
        add_weight(&mut bytes, ENTRY_BYTES + unit.len())?;
        distinct.push((unit, labels));
    }
    Ok((distinct, take_ints(cursor, count)?))
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn take_string(cursor: &mut Cursor<'_>) -> Result<String, DecodeError> {
    let length = cursor.count("bytes of text", cursor.rest.len())?;
    let text = cursor.slice(length)?.to_vec();
    String::from_utf8(text).map_err(|_| DecodeError::Invalid { what: "unit or label" })
}
