//! The state as bytes.
//!
//! ```text
//! version u8 = 1 | count u32 | each: id u32, first i64, last i64, count u32 of samples, each f32
//! ```
//! All little-endian. Decoding is total: any bytes give a state or a reason.

use kit::bytes::Input;

use crate::blocks::Kept;

const VERSION: u8 = 1;

/// Writes a state.
pub fn encode(state: &[Kept]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend((state.len() as u32).to_le_bytes());
    for Kept { id, first, last, samples } in state {
        bytes.extend(id.to_le_bytes());
        bytes.extend(first.to_le_bytes());
        bytes.extend(last.to_le_bytes());
        bytes.extend((samples.len() as u32).to_le_bytes());
        bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
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
        let (first, last) = (i64::from_le_bytes(input.take()?), i64::from_le_bytes(input.take()?));
        let mut samples = Vec::new();
        for _ in 0..u32::from_le_bytes(input.take()?) {
            let sample = f32::from_le_bytes(input.take()?);
            if !sample.is_finite() {
                return Err("a sample is no number".into());
            }
            samples.push(sample);
        }
        if samples.is_empty() || first > last {
            return Err("a block is none".into());
        }
        state.push(Kept { id, first, last, samples });
    }
    input.end()?;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> Vec<Kept> {
        vec![
            Kept { id: 1, first: -5, last: 7, samples: vec![1.5, -0.25] },
            Kept { id: u32::MAX, first: 0, last: 0, samples: vec![f32::MAX] },
        ]
    }

    #[test]
    fn a_state_comes_back_as_it_was() {
        // Goal: nothing is lost on the way. Method: round trip, and the bytes of version 1 written down.
        assert_eq!(decode(&encode(&state())).unwrap(), state());
        let one = [Kept { id: 2, first: 3, last: 4, samples: vec![1.0] }];
        let bytes = [
            1, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0,
            0x80, 0x3f,
        ];
        assert_eq!(encode(&one), bytes);
    }

    #[test]
    fn any_bytes_give_a_state_or_a_reason() {
        // Goal: no panic, no silent half state. Method: every truncation, every flipped bit, trailing bytes.
        kit::bytes::try_damaged(&encode(&state()), decode);
    }
}
