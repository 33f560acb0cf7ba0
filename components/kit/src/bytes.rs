//! Reading a state back. Whatever the bytes are, there is a value or a reason, and nothing is allocated ahead.

/// The bytes not read yet.
#[derive(Debug)]
pub struct Input<'a>(&'a [u8]);

// === impl Input ===

impl<'a> Input<'a> {
    /// All of them.
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input(bytes)
    }

    /// The next `length` bytes.
    pub fn slice(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (head, rest) = self.0.split_at_checked(length).ok_or("the state is cut short")?;
        self.0 = rest;
        Ok(head)
    }

    /// The next bytes, as many as a number has: `u32::from_le_bytes(input.take()?)`.
    pub fn take<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (head, rest) = self.0.split_first_chunk().ok_or("the state is cut short")?;
        self.0 = rest;
        Ok(*head)
    }

    /// The version, which comes first.
    pub fn version(&mut self, newest: u8) -> Result<u8, String> {
        match u8::from_le_bytes(self.take()?) {
            version if (1..=newest).contains(&version) => Ok(version),
            version => {
                Err(format!("the state is of version {version}, this component reads up to version {newest}"))
            }
        }
    }

    /// There must be nothing left.
    pub fn end(self) -> Result<(), String> {
        match self.0 {
            [] => Ok(()),
            rest => Err(format!("{} bytes follow the state", rest.len())),
        }
    }
}

/// For the tests of a state's decoder: any bytes give a state or a reason. Tries every truncation, every flipped bit, and a
/// byte too many.
///
/// # Panics
///
/// When a truncated or longer state is taken for one; and the decoder itself may.
pub fn try_damaged<T>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, String>) {
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_err(), "{length} bytes were taken for a state");
    }
    let mut flipped = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        let _ = decode(&flipped);
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
    flipped.push(0);
    assert!(decode(&flipped).is_err(), "a byte too many was taken for a state");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_once_and_all_of_them() {
        // Goal: no byte is read twice or past the end. Method: each way of taking, then one too many.
        let mut input = Input::new(&[2, 1, 0, 7, 8]);
        assert_eq!(input.version(2), Ok(2));
        assert_eq!(input.take().map(u16::from_le_bytes), Ok(1));
        assert_eq!(input.slice(2), Ok(&[7, 8][..]));
        assert!(input.take::<1>().is_err() && input.slice(1).is_err());
        assert_eq!(input.end(), Ok(()));
        assert!(Input::new(&[3]).version(2).unwrap_err().contains("version 3"));
        assert!(Input::new(&[0]).version(2).is_err());
        assert_eq!(Input::new(&[0]).end().unwrap_err(), "1 bytes follow the state");
    }
}
