//! A column of values, in groups of one series each: decimals, whole numbers and full floats, without losing a bit.
//!
//! ```text
//! column = codes, one per group: kinds | places << 2
//!        | flags of groups whose kinds follow no rule | exceptions | mantissas, grouped | floats
//! ```
//! What sensors send is decimal text: 21.7 is kept as 217 with one place behind the point, and the division that gives
//! 21.7 back is exact, bit for bit. Values that are no short decimal (-0.0 is one) are exceptions or, when a group has
//! many of them, floats. "21" and "21.7" of one series arrive as `Int` and `Float`; where whole numbers are always
//! `Int` the mantissa tells which, and nothing else is stored.

use super::DecodeError;
use super::cursor::{Cursor, put_count};
use super::ints::{PCO_LEVEL, put_grouped, put_ints, take_grouped, take_ints};
use super::pack::{Effort, put_pco, take_pco};
use crate::sample::Value;

/// Most places behind the point: with more, a double has hardly a digit left in front of it.
const PLACES_MAX: usize = 14;

/// In place of a number of places: the floats of this group are kept whole.
const BINARY: usize = 15;

/// Values of a group looked at to learn its places.
const SAMPLE: usize = 16;

/// What an exception costs, in decimal digits: 8 bytes and a position are 80 bits, a digit is 3.3.
const EXCEPTION_DIGITS: usize = 24;

/// Mantissas below 2^53 are exact as floats.
const MANTISSA_MAX: f64 = 9_007_199_254_740_992.0;

const POWERS: [f64; PLACES_MAX + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14];

/// Fewer floats than this do not repay pco's bins.
const PCO_MIN: usize = 16;

const RAW: u8 = 0;
const PCO: u8 = 1;

/// How a group tells its integers from its floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kinds {
    Floats = 0,
    Ints = 1,
    /// Whole numbers are integers, all others floats.
    ByValue = 2,
    /// By a flag for each value.
    Flagged = 3,
}

/// The parts of a column.
#[derive(Debug, Default)]
struct Parts {
    codes: Vec<i64>,
    flags: Vec<i64>,
    exceptions: Vec<i64>,
    mantissas: Vec<i64>,
    /// Mantissas of each group.
    lengths: Vec<usize>,
    floats: Vec<f64>,
}

/// Where a value comes from when a column is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The floats.
    Float,
    /// A mantissa, of an integer.
    Int,
    /// A mantissa, of a float.
    Decimal,
    /// A mantissa, of an integer if it is whole.
    ByValue,
}

/// Writes a column whose groups have these lengths.
pub(crate) fn put_values(out: &mut Vec<u8>, lengths: &[usize], values: &[Value]) {
    let mut parts = Parts::default();
    let mut start = 0;
    for &length in lengths {
        parts.add_group(start, &values[start..start + length]);
        start += length;
    }
    put_ints(out, &parts.codes);
    put_ints(out, &parts.flags);
    put_count(out, parts.exceptions.len());
    put_ints(out, &parts.exceptions);
    put_grouped(out, &parts.lengths, &parts.mantissas);
    put_floats(out, &parts.floats);
}

/// Reads a column written by [`put_values`] with the same lengths.
pub(crate) fn take_values(cursor: &mut Cursor<'_>, lengths: &[usize]) -> Result<Vec<Value>, DecodeError> {
    let codes = take_codes(cursor, lengths.len())?;
    let sources = take_sources(cursor, lengths, &codes)?;
    let mantissas_of = |group: &[Source]| group.iter().filter(|source| **source != Source::Float).count();
    let mut groups = Vec::with_capacity(lengths.len());
    let mut rest = sources.as_slice();
    for &length in lengths {
        let (group, behind) = rest.split_at(length);
        rest = behind;
        groups.push(mantissas_of(group));
    }
    let mut mantissas = take_grouped(cursor, &groups)?.into_iter();
    let mut floats = take_floats(cursor, sources.len() - groups.iter().sum::<usize>())?.into_iter();
    let mut sources = sources.into_iter();
    let mut values = Vec::with_capacity(sources.len());
    for (&length, (_, places)) in lengths.iter().zip(codes) {
        for source in sources.by_ref().take(length) {
            let value = match source {
                Source::Float => floats.next().map(Value::Float),
                _ => mantissas.next().map(|mantissa| rebuilt(mantissa, source, places)),
            };
            values.push(value.ok_or(DecodeError::Truncated)?);
        }
    }
    Ok(values)
}

/// Writes floats that are no decimals.
pub(crate) fn put_floats(out: &mut Vec<u8>, floats: &[f64]) {
    if floats.is_empty() {
        return;
    }
    let form_at = out.len();
    out.push(PCO);
    if floats.len() >= PCO_MIN {
        put_pco(out, floats, Effort::Search, PCO_LEVEL);
        if out.len() - form_at <= floats.len() * 8 {
            return;
        }
    }
    out.truncate(form_at);
    out.push(RAW);
    out.extend(floats.iter().flat_map(|float| float.to_bits().to_le_bytes()));
}

/// Reads `count` floats.
pub(crate) fn take_floats(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<f64>, DecodeError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    match cursor.byte()? {
        PCO => take_pco(cursor, count),
        RAW => {
            let (bytes, _) = cursor.slice(count * 8)?.as_chunks::<8>();
            Ok(bytes.iter().map(|bytes| f64::from_bits(u64::from_le_bytes(*bytes))).collect())
        }
        _ => Err(DecodeError::Invalid { what: "layout of floats" }),
    }
}

fn take_codes(cursor: &mut Cursor<'_>, groups: usize) -> Result<Vec<(Kinds, usize)>, DecodeError> {
    let invalid = DecodeError::Invalid { what: "code of a group" };
    let codes: Option<Vec<_>> = take_ints(cursor, groups)?.into_iter().map(decoded).collect();
    codes.ok_or(invalid)
}

fn encoded(kinds: Kinds, places: usize) -> i64 {
    (kinds as usize | places << 2) as i64
}

fn decoded(code: i64) -> Option<(Kinds, usize)> {
    let code = usize::try_from(code).ok().filter(|code| *code < 64)?;
    let kinds = [Kinds::Floats, Kinds::Ints, Kinds::ByValue, Kinds::Flagged][code & 3];
    let places = code >> 2;
    // Kinds by value need a mantissa to look at, and integers have no places.
    let sound = match kinds {
        Kinds::Ints => places == 0,
        Kinds::ByValue => places != BINARY,
        Kinds::Floats | Kinds::Flagged => true,
    };
    sound.then_some((kinds, places))
}

fn take_sources(
    cursor: &mut Cursor<'_>,
    lengths: &[usize],
    codes: &[(Kinds, usize)],
) -> Result<Vec<Source>, DecodeError> {
    let count = lengths.iter().sum();
    let flagged = lengths.iter().zip(codes).filter(|(_, code)| code.0 == Kinds::Flagged);
    let mut flags = take_ints(cursor, flagged.map(|(length, _)| length).sum())?.into_iter();
    let exceptions = cursor.count("exceptions", count)?;
    let exceptions = take_ints(cursor, exceptions)?;
    let mut sources = Vec::with_capacity(count);
    for (&length, &(kinds, places)) in lengths.iter().zip(codes) {
        let float = if places == BINARY { Source::Float } else { Source::Decimal };
        let until = sources.len() + length;
        match kinds {
            Kinds::Floats => sources.resize(until, float),
            Kinds::Ints => sources.resize(until, Source::Int),
            Kinds::ByValue => sources.resize(until, Source::ByValue),
            Kinds::Flagged => {
                let of_flag = |flag| if flag == 0 { float } else { Source::Int };
                sources.extend(flags.by_ref().take(length).map(of_flag));
            }
        }
    }
    for exception in exceptions {
        let source = usize::try_from(exception).ok().and_then(|index| sources.get_mut(index));
        *source.ok_or(DecodeError::Invalid { what: "position of an exception" })? = Source::Float;
    }
    Ok(sources)
}

fn rebuilt(mantissa: i64, source: Source, places: usize) -> Value {
    // Integers beside whole floats are not scaled.
    let places = if places == BINARY { 0 } else { places };
    let scale = POWERS[places] as i64;
    match source {
        Source::Int => Value::Int(mantissa / scale),
        Source::ByValue if mantissa % scale == 0 => Value::Int(mantissa / scale),
        _ => Value::Float(mantissa as f64 / POWERS[places]),
    }
}

/// The whole number that, divided by ten to the `places`, is `float` to the bit.
fn mantissa(float: f64, places: usize) -> Option<i64> {
    let scaled = float * POWERS[places];
    if scaled.abs() >= MANTISSA_MAX || scaled.is_nan() {
        return None;
    }
    let mantissa = (scaled + 0.5f64.copysign(scaled)) as i64;
    ((mantissa as f64 / POWERS[places]).to_bits() == float.to_bits()).then_some(mantissa)
}

/// Places that cost a group the least, or none when half of it is no decimal. Looks at every `stride`th value.
fn choose_places(values: &[Value], stride: usize) -> Option<usize> {
    let mut needing = [0usize; PLACES_MAX + 2];
    let mut seen = 0;
    for value in values.iter().step_by(stride) {
        if let Value::Float(float) = *value {
            let places = (0..=PLACES_MAX).find(|&places| mantissa(float, places).is_some());
            needing[places.unwrap_or(PLACES_MAX + 1)] += 1;
            seen += 1;
        }
    }
    let mut exceptions = seen;
    let mut best = (usize::MAX, None);
    for (places, needing) in needing.iter().take(PLACES_MAX + 1).enumerate() {
        exceptions -= needing;
        let cost = exceptions * EXCEPTION_DIGITS + seen * places;
        if exceptions * 2 <= seen && cost < best.0 {
            best = (cost, Some(places));
        }
    }
    if seen == 0 { Some(0) } else { best.1 }
}

// === impl Parts ===

impl Parts {
    /// Adds the group that begins at `start` of the column.
    fn add_group(&mut self, start: usize, values: &[Value]) {
        let ints = values.iter().filter(|value| matches!(value, Value::Int(_))).count();
        let before = self.mantissas.len();
        if ints == values.len() {
            self.codes.push(encoded(Kinds::Ints, 0));
            self.mantissas.extend(values.iter().filter_map(|value| match value {
                Value::Int(int) => Some(*int),
                Value::Float(_) => None,
            }));
        } else {
            let added = choose_places(values, values.len().div_ceil(SAMPLE)).is_some_and(|sampled| {
                let mut add = |places| self.add_decimals(start, values, ints, places);
                // Where the sample misled, all values are looked at.
                add(sampled)
                    || choose_places(values, 1).is_some_and(|places| places != sampled && add(places))
            });
            if !added {
                self.add_binary(values, ints);
            }
        }
        self.lengths.push(self.mantissas.len() - before);
    }

    /// Adds a group as decimals with these places, if few of its values are none. Otherwise leaves everything as it was.
    fn add_decimals(&mut self, start: usize, values: &[Value], ints: usize, places: usize) -> bool {
        let scale = POWERS[places] as i64;
        let marks = (self.mantissas.len(), self.exceptions.len(), self.floats.len());
        let mut whole_floats = 0;
        for (index, value) in (start..).zip(values) {
            let taken = match *value {
                Value::Int(int) => int.checked_mul(scale).map(|mantissa| self.mantissas.push(mantissa)),
                Value::Float(float) => match mantissa(float, places) {
                    Some(mantissa) => {
                        whole_floats += usize::from(mantissa % scale == 0);
                        self.mantissas.push(mantissa);
                        Some(())
                    }
                    None => {
                        self.exceptions.push(index as i64);
                        self.floats.push(float);
                        (self.exceptions.len() - marks.1 <= values.len().div_ceil(4)).then_some(())
                    }
                },
            };
            if taken.is_none() {
                self.mantissas.truncate(marks.0);
                self.exceptions.truncate(marks.1);
                self.floats.truncate(marks.2);
                return false;
            }
        }
        let kinds = match (ints, whole_floats) {
            (0, _) => Kinds::Floats,
            (_, 0) => Kinds::ByValue,
            _ => self.add_flags(values),
        };
        self.codes.push(encoded(kinds, places));
        true
    }

    fn add_binary(&mut self, values: &[Value], ints: usize) {
        for value in values {
            match *value {
                Value::Int(int) => self.mantissas.push(int),
                Value::Float(float) => self.floats.push(float),
            }
        }
        let kinds = if ints == 0 { Kinds::Floats } else { self.add_flags(values) };
        self.codes.push(encoded(kinds, BINARY));
    }

    fn add_flags(&mut self, values: &[Value]) -> Kinds {
        self.flags.extend(values.iter().map(|value| i64::from(matches!(value, Value::Int(_)))));
        Kinds::Flagged
    }
}
