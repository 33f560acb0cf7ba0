//! A column of integers, in the smallest of a few forms.
//!
//! ```text
//! column = form u8 (order | layout << 2) | seeds: `order` integers | layout of what is left
//! order  : how often the difference between neighbours is taken, 0 to 2
//! layout : one value | runs (values and lengths, each a column) | bits of one width | pco of 8, 16, 32, 64 bits
//! ```
//! Bits and pco take the values less their minimum and divided by what all have in common, in the narrowest type: pco
//! spends the width of its type on every bin, which counts when a column has a thousand values.

use super::DecodeError;
use super::cursor::{Cursor, put_count, put_signed, put_unsigned};
use super::pack::{Effort, bits_size, put_bits, put_pco, take_bits, take_pco};

/// Positions looked at to choose an order: the error of a mean over 256 is some 6 %, less than what is decided by.
const SAMPLE: usize = 256;

/// Highest order of differences.
const ORDER_MAX: usize = 2;

/// Fewer values than this do not repay pco's bins.
const PCO_MIN: usize = 24;

/// pco's level. Above it, encoding takes longer and the blocks get no smaller (benches/codec.rs).
pub(super) const PCO_LEVEL: usize = 8;

const CONSTANT: u8 = 0;
const RUNS: u8 = 1;
const BITS: u8 = 2;
const PCO_8: u8 = 3;
const PCO_16: u8 = 4;
const PCO_32: u8 = 5;
const PCO_64: u8 = 6;

/// Whether a column may be laid down as runs, whose parts are columns again but never of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nesting {
    Outer,
    Inner,
}

/// Writes a column.
pub(crate) fn put_ints(out: &mut Vec<u8>, values: &[i64]) {
    put_nested(out, values, Nesting::Outer);
}

/// Reads a column of `count` integers.
pub(crate) fn take_ints(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<i64>, DecodeError> {
    take_nested(cursor, count, Nesting::Outer)
}

/// Writes a column whose values belong to groups, of these lengths in turn. Differences do not reach across groups: the
/// first of each is kept in a column of its own.
pub(crate) fn put_grouped(out: &mut Vec<u8>, lengths: &[usize], values: &[i64]) {
    debug_assert_eq!(lengths.iter().sum::<usize>(), values.len(), "groups cover the column");
    let groups = lengths.iter().filter(|&&length| length > 0).count();
    let order = if groups < 2 || groups == values.len() { 0 } else { choose_order_grouped(lengths, values) };
    out.push(order as u8);
    if order == 0 {
        return put_ints(out, values);
    }
    let mut heads = Vec::with_capacity(groups);
    let mut tails = Vec::with_capacity(values.len() - groups);
    let mut rest = values;
    for &length in lengths.iter().filter(|&&length| length > 0) {
        let (group, behind) = rest.split_at(length);
        rest = behind;
        heads.push(group[0]);
        let mut previous = [group[0], 0];
        for &value in &group[1..] {
            tails.push(residual(value, &previous, order));
            previous = [value, value.wrapping_sub(previous[0])];
        }
    }
    put_ints(out, &heads);
    put_laid(out, 0, &[], &tails, Nesting::Outer);
}

/// Reads a column written by [`put_grouped`] with the same lengths.
pub(crate) fn take_grouped(cursor: &mut Cursor<'_>, lengths: &[usize]) -> Result<Vec<i64>, DecodeError> {
    let count = lengths.iter().sum::<usize>();
    let order = usize::from(cursor.byte()?);
    if order == 0 {
        return take_ints(cursor, count);
    }
    if order > ORDER_MAX {
        return Err(DecodeError::Invalid { what: "order of differences" });
    }
    let groups = lengths.iter().filter(|&&length| length > 0).count();
    let heads = take_ints(cursor, groups)?;
    let tails = take_ints(cursor, count - groups)?;
    let mut values = Vec::with_capacity(count);
    let mut tails = tails.into_iter();
    for (&length, head) in lengths.iter().filter(|&&length| length > 0).zip(heads) {
        values.push(head);
        let mut previous = [head, 0];
        for residual in tails.by_ref().take(length - 1) {
            let value = restored(residual, &previous, order);
            values.push(value);
            previous = [value, value.wrapping_sub(previous[0])];
        }
    }
    Ok(values)
}

fn put_nested(out: &mut Vec<u8>, values: &[i64], nesting: Nesting) {
    if values.is_empty() {
        return;
    }
    let order = choose_order(values);
    let mut residuals = values.to_vec();
    for level in 0..order {
        for index in (level + 1..residuals.len()).rev() {
            residuals[index] = residuals[index].wrapping_sub(residuals[index - 1]);
        }
    }
    let (seeds, residuals) = residuals.split_at(order);
    put_laid(out, order, seeds, residuals, nesting);
}

fn take_nested(cursor: &mut Cursor<'_>, count: usize, nesting: Nesting) -> Result<Vec<i64>, DecodeError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let form = cursor.byte()?;
    let order = usize::from(form & 3);
    if order > ORDER_MAX.min(count - 1) {
        return Err(DecodeError::Invalid { what: "order of differences" });
    }
    let mut values = Vec::with_capacity(count);
    for _ in 0..order {
        values.push(cursor.signed()?);
    }
    values.append(&mut take_layout(cursor, form >> 2, count - order, nesting)?);
    for level in (0..order).rev() {
        for index in level + 1..count {
            values[index] = values[index].wrapping_add(values[index - 1]);
        }
    }
    Ok(values)
}

/// Writes form, seeds and layout of at least one residual.
fn put_laid(out: &mut Vec<u8>, order: usize, seeds: &[i64], residuals: &[i64], nesting: Nesting) {
    let (layout, body) = lay_down(residuals, nesting);
    out.push(order as u8 | layout << 2);
    for &seed in seeds {
        put_signed(out, seed);
    }
    out.extend_from_slice(&body);
}

/// The smallest layout and its bytes.
fn lay_down(values: &[i64], nesting: Nesting) -> (u8, Vec<u8>) {
    let shape = Shape::of(values);
    let mut body = Vec::new();
    put_signed(&mut body, shape.min);
    if shape.range == 0 {
        return (CONSTANT, body);
    }
    let mut smallest = if shape.runs * 64 < values.len() && nesting == Nesting::Outer {
        (RUNS, lay_runs(values, shape.runs))
    } else {
        put_unsigned(&mut body, shape.unit);
        lay_numbers(&shape.reduced(values), shape.width(), body)
    };
    if smallest.0 != RUNS && shape.runs * 8 < values.len() && nesting == Nesting::Outer {
        let runs = lay_runs(values, shape.runs);
        if runs.len() < smallest.1.len() {
            smallest = (RUNS, runs);
        }
    }
    smallest
}

fn lay_runs(values: &[i64], runs: usize) -> Vec<u8> {
    let mut heads = Vec::with_capacity(runs);
    let mut lengths = Vec::with_capacity(runs);
    for run in values.chunk_by(|a, b| a == b) {
        heads.push(run[0]);
        lengths.push(run.len() as i64);
    }
    let mut body = Vec::new();
    put_count(&mut body, heads.len());
    put_nested(&mut body, &heads, Nesting::Inner);
    put_nested(&mut body, &lengths, Nesting::Inner);
    body
}

/// Lays numbers of at most `width` bits down behind `head`.
fn lay_numbers(numbers: &[u64], width: u32, head: Vec<u8>) -> (u8, Vec<u8>) {
    let bits_bytes = 1 + bits_size(numbers.len(), width);
    if numbers.len() >= PCO_MIN {
        let mut body = head.clone();
        let layout = match width {
            ..=8 => {
                put_pco(&mut body, &narrowed::<u8>(numbers), Effort::Bins, PCO_LEVEL);
                PCO_8
            }
            9..=16 => {
                put_pco(&mut body, &narrowed::<u16>(numbers), Effort::Bins, PCO_LEVEL);
                PCO_16
            }
            17..=32 => {
                put_pco(&mut body, &narrowed::<u32>(numbers), Effort::Bins, PCO_LEVEL);
                PCO_32
            }
            _ => {
                put_pco(&mut body, numbers, Effort::Bins, PCO_LEVEL);
                PCO_64
            }
        };
        if body.len() < head.len() + bits_bytes {
            return (layout, body);
        }
    }
    let mut body = head;
    body.push(width as u8);
    put_bits(&mut body, numbers, width);
    (BITS, body)
}

fn take_layout(
    cursor: &mut Cursor<'_>,
    layout: u8,
    count: usize,
    nesting: Nesting,
) -> Result<Vec<i64>, DecodeError> {
    if layout == RUNS && nesting == Nesting::Outer {
        return take_runs(cursor, count);
    }
    let min = cursor.signed()?;
    if layout == CONSTANT {
        return Ok(vec![min; count]);
    }
    let unit = cursor.unsigned()?;
    let numbers = match layout {
        BITS => match cursor.byte()? {
            width @ 1..=64 => take_bits(cursor, count, u32::from(width))?,
            _ => return Err(DecodeError::Invalid { what: "width of a column" }),
        },
        PCO_8 => widened(take_pco::<u8>(cursor, count)?),
        PCO_16 => widened(take_pco::<u16>(cursor, count)?),
        PCO_32 => widened(take_pco::<u32>(cursor, count)?),
        PCO_64 => take_pco::<u64>(cursor, count)?,
        _ => return Err(DecodeError::Invalid { what: "layout of a column" }),
    };
    Ok(numbers.into_iter().map(|number| min.wrapping_add(number.wrapping_mul(unit) as i64)).collect())
}

fn take_runs(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<i64>, DecodeError> {
    let runs = cursor.count("runs", count)?;
    let heads = take_nested(cursor, runs, Nesting::Inner)?;
    let lengths = take_nested(cursor, runs, Nesting::Inner)?;
    let mut values = Vec::with_capacity(count);
    for (head, length) in heads.into_iter().zip(lengths) {
        match usize::try_from(length) {
            Ok(length) if length <= count - values.len() => values.resize(values.len() + length, head),
            _ => return Err(DecodeError::Invalid { what: "length of a run" }),
        }
    }
    if values.len() < count {
        return Err(DecodeError::Invalid { what: "length of a run" });
    }
    Ok(values)
}

/// What the layouts of a column need to know of it.
struct Shape {
    min: i64,
    range: u64,
    /// Greatest common divisor of all distances from the minimum.
    unit: u64,
    runs: usize,
}

/// The part of `value` that the two before it do not foretell: the value before, and the step that led to it.
fn residual(value: i64, previous: &[i64; 2], order: usize) -> i64 {
    let step = value.wrapping_sub(previous[0]);
    if order == 2 { step.wrapping_sub(previous[1]) } else { step }
}

/// The inverse of [`residual`].
fn restored(residual: i64, previous: &[i64; 2], order: usize) -> i64 {
    let step = if order == 2 { residual.wrapping_add(previous[1]) } else { residual };
    previous[0].wrapping_add(step)
}

fn choose_order(values: &[i64]) -> usize {
    let step = values.len().div_ceil(SAMPLE).max(1);
    cheapest_order((2..values.len()).step_by(step).map(|index| &values[index - 2..=index]))
}

fn choose_order_grouped(lengths: &[usize], values: &[i64]) -> usize {
    let step = values.len().div_ceil(SAMPLE).max(1);
    let mut next = 0;
    let mut start = 0;
    let mut sampled = Vec::with_capacity(SAMPLE);
    for &length in lengths {
        next = next.max(start + 2);
        while next < start + length {
            sampled.push(&values[next - 2..=next]);
            next += step;
        }
        start += length;
    }
    // Groups of two show no second difference; one difference within the group is what is left to gain.
    if sampled.is_empty() { 1 } else { cheapest_order(sampled.into_iter()) }
}

/// The order of differences whose residuals, at the sampled positions, lie closest around their middle. A higher order
/// must save a sixteenth of a bit per value to be taken.
fn cheapest_order<'a>(sampled: impl Iterator<Item = &'a [i64]>) -> usize {
    let mut residuals = [const { Vec::new() }; ORDER_MAX + 1];
    for window in sampled {
        let steps = [window[1].wrapping_sub(window[0]), window[2].wrapping_sub(window[1])];
        residuals[0].push(window[2]);
        residuals[1].push(steps[1]);
        residuals[2].push(steps[1].wrapping_sub(steps[0]));
    }
    let mut best = (0, u64::MAX);
    for (order, residuals) in residuals.iter_mut().enumerate() {
        let cost = spread_bits(residuals) + (residuals.len() * order / 16) as u64;
        if cost < best.1 {
            best = (order, cost);
        }
    }
    best.0
}

/// Bits that the distances from the median take together.
fn spread_bits(values: &mut [i64]) -> u64 {
    if values.is_empty() {
        return 0;
    }
    let middle = values.len() / 2;
    let median = *values.select_nth_unstable(middle).1;
    values.iter().map(|value| u64::from(64 - value.abs_diff(median).leading_zeros())).sum()
}

fn narrowed<T: TryFrom<u64> + Default>(numbers: &[u64]) -> Vec<T> {
    numbers.iter().map(|&number| T::try_from(number).unwrap_or_default()).collect()
}

fn widened<T: Into<u64>>(numbers: Vec<T>) -> Vec<u64> {
    numbers.into_iter().map(Into::into).collect()
}

// === impl Shape ===

impl Shape {
    /// Of at least one value.
    fn of(values: &[i64]) -> Shape {
        let mut min = values[0];
        let mut max = values[0];
        let mut runs = 1;
        let mut previous = values[0];
        for &value in values {
            min = min.min(value);
            max = max.max(value);
            runs += usize::from(value != previous);
            previous = value;
        }
        let range = max.abs_diff(min);
        Shape { min, range, unit: common_divisor(values, min), runs }
    }

    fn width(&self) -> u32 {
        64 - (self.range / self.unit.max(1)).leading_zeros()
    }

    fn reduced(&self, values: &[i64]) -> Vec<u64> {
        match self.unit {
            0 | 1 => values.iter().map(|value| value.abs_diff(self.min)).collect(),
            unit => values.iter().map(|value| value.abs_diff(self.min) / unit).collect(),
        }
    }
}

/// Of the distances from the minimum; 0 when there are none.
fn common_divisor(values: &[i64], min: i64) -> u64 {
    let mut divisor = 0u64;
    for value in values {
        let mut rest = value.abs_diff(min);
        if divisor > 1 && rest.is_multiple_of(divisor) {
            continue;
        }
        while rest > 0 {
            (divisor, rest) = (rest, divisor % rest);
        }
        if divisor == 1 {
            break;
        }
    }
    divisor
}
