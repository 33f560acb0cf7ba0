//! The state as bytes.
//!
//! ```text
//! version u8 = 1 | names: count u16, each length u8 and UTF-8
//!                | series: count u32, each id u32, newest i64, count u8 of active alarms, each its place in names u16
//! ```
//! All little-endian. Decoding is total: any bytes give a state or a reason.

use crate::monitor::Kept;

const VERSION: u8 = 1;

/// Writes a state.
pub fn encode(state: &[Kept]) -> Vec<u8> {
    let mut names: Vec<&str> = Vec::new();
    let mut body = Vec::new();
    body.extend((state.len() as u32).to_le_bytes());
    for kept in state {
        body.extend(kept.id.to_le_bytes());
        body.extend(kept.newest.to_le_bytes());
        let active = kept.active.iter().take(usize::from(u8::MAX));
        body.push(active.len() as u8);
        for name in active {
            let place = names.iter().position(|known| known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            body.extend((place as u16).to_le_bytes());
        }
    }
    let mut bytes = vec![VERSION];
    bytes.extend((names.len() as u16).to_le_bytes());
    for name in names {
        bytes.push(name.len() as u8);
        bytes.extend(name.as_bytes());
    }
    bytes.extend(body);
    bytes
}

/// Reads a state.
pub fn decode(bytes: &[u8]) -> Result<Vec<Kept>, String> {
    let mut input = Input(bytes);
    let version = u8::from_le_bytes(input.take()?);
    if version != VERSION {
        return Err(format!("the state is of version {version}, this component reads version {VERSION}"));
    }
    let mut names = Vec::new();
    for _ in 0..u16::from_le_bytes(input.take()?) {
        let length = u8::from_le_bytes(input.take()?);
        let name =
            str::from_utf8(input.slice(usize::from(length))?).map_err(|_| "an alarm's name is not text")?;
        names.push(name.to_owned());
    }
    let mut state = Vec::new();
    for _ in 0..u32::from_le_bytes(input.take()?) {
        let id = u32::from_le_bytes(input.take()?);
        let newest = i64::from_le_bytes(input.take()?);
        let mut active = Vec::new();
        for _ in 0..u8::from_le_bytes(input.take()?) {
            let place = u16::from_le_bytes(input.take()?);
            active.push(names.get(usize::from(place)).ok_or("an alarm has no name")?.clone());
        }
        state.push(Kept { id, newest, active });
    }
    match input.0 {
        [] => Ok(state),
        rest => Err(format!("{} bytes follow the state", rest.len())),
    }
}

struct Input<'a>(&'a [u8]);

// === impl Input ===

impl<'a> Input<'a> {
    fn slice(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (head, rest) = self.0.split_at_checked(length).ok_or("the state is cut short")?;
        self.0 = rest;
        Ok(head)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (head, rest) = self.0.split_first_chunk().ok_or("the state is cut short")?;
        self.0 = rest;
        Ok(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> Vec<Kept> {
        vec![
            Kept { id: 1, newest: -5, active: vec![] },
            Kept { id: 9, newest: i64::MAX, active: vec!["high".into(), "low".into()] },
            Kept { id: u32::MAX, newest: 0, active: vec!["high".into()] },
        ]
    }

    #[test]
    fn a_state_comes_back_as_it_was() {
        // Goal: nothing is lost on the way. Method: round trip, and the bytes of version 1 written down.
        assert_eq!(decode(&encode(&state())).unwrap(), state());
        assert_eq!(encode(&[]), [1, 0, 0, 0, 0, 0, 0]);
        let one = [Kept { id: 2, newest: 3, active: vec!["hi".into()] }];
        assert_eq!(
            encode(&one),
            [1, 1, 0, 2, b'h', b'i', 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }

    #[test]
    fn any_bytes_give_a_state_or_a_reason() {
        // Goal: no panic, no silent half state. Method: every truncation, every flipped bit, trailing bytes.
        let bytes = encode(&state());
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length} bytes were taken for a state");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = decode(&flipped);
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(decode(&longer), Err("1 bytes follow the state".to_owned()));
    }
}
