//! The state as bytes.
//!
//! ```text
//! version u8 = 2 | names: count u16, each length u8 and UTF-8
//!                | series: count u32, each id u32, newest i64, count u8 of active alarms, each its place in names u16
//!                |         and, since version 2: count u8 of changes, each its alarm's place in names u16,
//!                |         count u8 of readings, each time i64 and value f64
//! ```
//! All little-endian. Version 1 is read. Decoding is total: any bytes give a state or a reason.

use kit::bytes::Input;

use crate::monitor::{Kept, Reading};

const VERSION: u8 = 2;
/// Before changes were watched.
const VERSION_1: u8 = 1;

/// Writes a state.
pub fn encode(state: &[Kept]) -> Vec<u8> {
    let mut names = Names(Vec::new());
    let mut body = Vec::new();
    body.extend((state.len() as u32).to_le_bytes());
    for kept in state {
        body.extend(kept.id.to_le_bytes());
        body.extend(kept.newest.to_le_bytes());
        let active = kept.active.iter().take(usize::from(u8::MAX));
        body.push(active.len() as u8);
        for name in active {
            body.extend(names.place(name).to_le_bytes());
        }
        let past = kept.past.iter().take(usize::from(u8::MAX));
        body.push(past.len() as u8);
        for (name, readings) in past {
            body.extend(names.place(name).to_le_bytes());
            let readings = readings.iter().take(usize::from(u8::MAX));
            body.push(readings.len() as u8);
            for reading in readings {
                body.extend(reading.time.to_le_bytes());
                body.extend(reading.value.to_le_bytes());
            }
        }
    }
    let mut bytes = vec![VERSION];
    bytes.extend((names.0.len() as u16).to_le_bytes());
    for name in names.0 {
        bytes.push(name.len() as u8);
        bytes.extend(name.as_bytes());
    }
    bytes.extend(body);
    bytes
}

/// Reads a state.
pub fn decode(bytes: &[u8]) -> Result<Vec<Kept>, String> {
    let mut input = Input::new(bytes);
    let version = input.version(VERSION)?;
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
        let name = |place: u16| names.get(usize::from(place)).cloned().ok_or("an alarm has no name");
        let mut active = Vec::new();
        for _ in 0..u8::from_le_bytes(input.take()?) {
            active.push(name(u16::from_le_bytes(input.take()?))?);
        }
        let mut past = Vec::new();
        if version != VERSION_1 {
            for _ in 0..u8::from_le_bytes(input.take()?) {
                let name = name(u16::from_le_bytes(input.take()?))?;
                past.push((name, readings(&mut input)?));
            }
        }
        state.push(Kept { id, newest, active, past });
    }
    input.end()?;
    Ok(state)
}

fn readings(input: &mut Input<'_>) -> Result<Vec<Reading>, &'static str> {
    let mut readings: Vec<Reading> = Vec::new();
    for _ in 0..u8::from_le_bytes(input.take()?) {
        let (time, value) = (i64::from_le_bytes(input.take()?), f64::from_le_bytes(input.take()?));
        if !value.is_finite() || readings.last().is_some_and(|last| last.time > time) {
            return Err("an earlier reading is not one");
        }
        readings.push(Reading { time, value });
    }
    Ok(readings)
}

/// Each name once, in the order of their first use.
struct Names<'a>(Vec<&'a str>);

// === impl Names ===

impl<'a> Names<'a> {
    fn place(&mut self, name: &'a str) -> u16 {
        let known = self.0.iter().position(|known| *known == name);
        known.unwrap_or_else(|| {
            self.0.push(name);
            self.0.len() - 1
        }) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> Vec<Kept> {
        vec![
            Kept { id: 1, newest: -5, active: vec![], past: vec![] },
            Kept { id: 9, newest: i64::MAX, active: vec!["high".into(), "low".into()], past: vec![] },
            Kept {
                id: u32::MAX,
                newest: 0,
                active: vec!["high".into()],
                past: vec![(
                    "rise".into(),
                    vec![Reading { time: -1, value: 0.5 }, Reading { time: 0, value: -2.0 }],
                )],
            },
        ]
    }

    #[test]
    fn a_state_comes_back_as_it_was() {
        // Goal: nothing is lost on the way. Method: round trip, and bytes of both versions written down.
        assert_eq!(decode(&encode(&state())).unwrap(), state());
        assert_eq!(encode(&[]), [2, 0, 0, 0, 0, 0, 0]);
        let reading = Reading { time: 1, value: 1.0 };
        let one =
            [Kept { id: 2, newest: 3, active: vec!["hi".into()], past: vec![("hi".into(), vec![reading])] }];
        let head = [1, 0, 2, b'h', b'i', 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
        let tail = [1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f];
        assert_eq!(encode(&one), [&[2], &head[..], &tail].concat());
        let before = [Kept { past: vec![], ..one[0].clone() }];
        assert_eq!(decode(&[&[1], &head[..]].concat()).unwrap(), before);
    }

    #[test]
    fn any_bytes_give_a_state_or_a_reason() {
        // Goal: no panic, no silent half state. Method: every truncation, every flipped bit, trailing bytes.
        kit::bytes::try_damaged(&encode(&state()), decode);
    }
}
