//! A straight line from what a sensor says to what is meant: `scale 0.1, offset -40`.

use crate::options::number;

/// `value * scale + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Linear {
    /// Factor.
    pub scale: f64,
    /// Added after.
    pub offset: f64,
}

impl Default for Linear {
    /// The line that changes nothing.
    fn default() -> Linear {
        Linear { scale: 1.0, offset: 0.0 }
    }
}

// === impl Linear ===

impl Linear {
    /// Takes one part of a line: `scale NUMBER` or `offset NUMBER`.
    pub fn set(&mut self, part: &str) -> Result<(), String> {
        match part.split_once(char::is_whitespace) {
            Some(("scale", n)) => self.scale = number(n)?,
            Some(("offset", n)) => self.offset = number(n)?,
            _ => return Err(format!("{part:?} is neither `scale NUMBER` nor `offset NUMBER`")),
        }
        Ok(())
    }

    /// The value on the line.
    pub fn apply(self, value: f64) -> f64 {
        value * self.scale + self.offset
    }
}
