//! Little-endian samples of one type without a header, at a declared rate.

use super::{Batch, Row};
use crate::config::{Packed, PackedType};
use crate::ingest::reason::Reason;
use crate::sample::{Nanos, SECOND, Value};

/// Unpacks a payload. The last sample is of time `last`, earlier ones are counted back from it. Samples that are not
/// finite leave a hole; the times of the others stand.
pub(super) fn unpack(
    payload: &[u8],
    packed: Packed,
    samples_max: usize,
    last: Nanos,
    batch: &mut Batch,
) -> Result<(), Reason> {
    match packed.sample {
        PackedType::I16 => {
            fill(payload, packed, samples_max, last, batch, |b| Raw::Int(i16::from_le_bytes(b).into()))
        }
        PackedType::I32 => {
            fill(payload, packed, samples_max, last, batch, |b| Raw::Int(i32::from_le_bytes(b)))
        }
        PackedType::F32 => {
            fill(payload, packed, samples_max, last, batch, |b| Raw::Float(f32::from_le_bytes(b).into()))
        }
        PackedType::F64 => {
            fill(payload, packed, samples_max, last, batch, |b| Raw::Float(f64::from_le_bytes(b)))
        }
    }
}

enum Raw {
    Int(i32),
    Float(f64),
}

fn fill<const WIDTH: usize>(
    payload: &[u8],
    packed: Packed,
    samples_max: usize,
    last: Nanos,
    batch: &mut Batch,
    read: impl Fn([u8; WIDTH]) -> Raw,
) -> Result<(), Reason> {
    let (samples, rest) = payload.as_chunks::<WIDTH>();
    if !rest.is_empty() {
        return Err(Reason::Malformed);
    }
    if samples.len() > samples_max {
        return Err(Reason::TooManySamples);
    }
    let field = batch.add_field("");
    let step = SECOND as f64 / packed.rate;
    for (at, bytes) in samples.iter().enumerate() {
        let value = match read(*bytes) {
            // A scale of one leaves integers whole.
            Raw::Int(raw) if packed.scale == 1.0 => Value::Int(raw.into()),
            Raw::Int(raw) => Value::Float(f64::from(raw) * packed.scale),
            Raw::Float(raw) => Value::Float(raw * packed.scale),
        };
        if matches!(value, Value::Float(v) if !v.is_finite()) {
            batch.tally.add(Reason::NotFinite, 1);
            continue;
        }
        // From the end each time, so that no error adds up. Casts of floats saturate: a rate near zero cannot overflow.
        let back = ((samples.len() - 1 - at) as f64 * step).round() as Nanos;
        match last.saturating_sub(back) {
            time @ 0.. => batch.rows.push(Row { field, time, value }),
            _ => batch.tally.add(Reason::TimeOutOfRange, 1),
        }
    }
    Ok(())
}
