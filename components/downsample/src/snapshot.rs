//! The state as bytes.
//!
//! ```text
//! version u8 = 1 | count u32 | each: id u32, start i64, first, min, max, last
//! a reading: time i64, then 0 and f64, or 1 and i64
//! ```
//! All little-endian. Decoding is total: any bytes give a state or a reason.

use kit::bytes::Input;

use crate::windows::{Kept, Reading, Window};

const VERSION: u8 = 1;

/// Writes a state.
pub fn encode(state: &[Kept]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend((state.len() as u32).to_le_bytes());
    for Kept { id, window: Window { start, first, min, max, last } } in state {
        bytes.extend(id.to_le_bytes());
        bytes.extend(start.to_le_bytes());
        for reading in [first, min, max, last] {
            bytes.extend(reading.time.to_le_bytes());
            bytes.push(u8::from(reading.integer.is_some()));
            bytes.extend(reading.integer.map_or(reading.value.to_le_bytes(), i64::to_le_bytes));
        }
    }
    bytes
}

/// Reads a state.
pub fn decode(bytes: &[u8]) -> Result<Vec<Kept>, String> {
    let mut input = Input::new(bytes);
    input.version(VERSION)?;
    let mut state = Vec::new();
    for _ in 0..u32::from_le_bytes(input.take()?) {
        let id = u32::from_le_bytes(input.take()?);
        let start = i64::from_le_bytes(input.take()?);
        let (first, min) = (reading(&mut input)?, reading(&mut input)?);
        let (max, last) = (reading(&mut input)?, reading(&mut input)?);
        if [first, min, max, last].iter().any(|reading| reading.time < start) {
            return Err("a reading is not of its window".into());
        }
        state.push(Kept { id, window: Window { start, first, min, max, last } });
    }
    input.end()?;
    Ok(state)
}

fn reading(input: &mut Input<'_>) -> Result<Reading, &'static str> {
    let time = i64::from_le_bytes(input.take()?);
    let kind = u8::from_le_bytes(input.take()?);
    let number = input.take()?;
    let (integer, value) = match kind {
        0 => (None, f64::from_le_bytes(number)),
        1 => (Some(i64::from_le_bytes(number)), i64::from_le_bytes(number) as f64),
        _ => return Err("a reading is neither float nor whole number"),
    };
    if !value.is_finite() {
        return Err("a reading is no number");
    }
    Ok(Reading { time, value, integer })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> Vec<Kept> {
        let float = |time: i64, value: f64| Reading { time, value, integer: None };
        let counter = Reading { time: 9, value: i64::MAX as f64, integer: Some(i64::MAX) };
        let first =
            Window { start: -7, first: float(-7, 0.5), min: float(1, -2.0), max: counter, last: counter };
        let one = float(3, 1.0);
        let second = Window { start: 0, first: one, min: one, max: one, last: one };
        vec![Kept { id: 1, window: first }, Kept { id: u32::MAX, window: second }]
    }

    #[test]
    fn a_state_comes_back_as_it_was() {
        // Goal: nothing is lost on the way. Method: round trip, and the bytes of version 1 written down.
        assert_eq!(decode(&encode(&state())).unwrap(), state());
        let bytes = encode(&state()[1..]);
        let reading = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f];
        let head = [1, 1, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(bytes, [&head[..], &reading, &reading, &reading, &reading].concat());
    }

    #[test]
    fn any_bytes_give_a_state_or_a_reason() {
        // Goal: no panic, no silent half state. Method: every truncation, every flipped bit, trailing bytes.
        kit::bytes::try_damaged(&encode(&state()), decode);
    }
}
