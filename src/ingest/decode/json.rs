//! JSON (RFC 8259), scanned in one pass, without a tree and without recursion.
//!
//! Beyond the standard, `NaN`, `Infinity` and `-Infinity` are taken for values (which are then rejected one by one), and
//! a byte order mark at the start is skipped.

use super::walk::{Kind, Scalar, Walk};
use crate::ingest::reason::Reason;

/// Reads a payload. `text` is a buffer for strings with escapes.
pub(super) fn scan(payload: &[u8], text: &mut String, walk: &mut Walk<'_>) -> Result<(), Reason> {
    let payload = std::str::from_utf8(payload).map_err(|_| Reason::Malformed)?;
    let payload = payload.strip_prefix('\u{feff}').unwrap_or(payload);
    let mut source = Source { json: payload, at: 0 };
    value(&mut source, text, walk)?;
    while let Some((kind, entries, _)) = walk.inside() {
        match (kind, source.next_token()?) {
            (Kind::Object, b'}') | (Kind::Array, b']') => walk.close(),
            (Kind::Object, b'"') if entries == 0 => member(&mut source, text, walk)?,
            (Kind::Object, b',') if entries > 0 => {
                if source.next_token()? != b'"' {
                    return Err(Reason::Malformed);
                }
                member(&mut source, text, walk)?;
            }
            (Kind::Array, b',') if entries > 0 => {
                walk.item();
                value(&mut source, text, walk)?;
            }
            (Kind::Array, _) if entries == 0 => {
                source.at -= 1;
                walk.item();
                value(&mut source, text, walk)?;
            }
            _ => return Err(Reason::Malformed),
        }
    }
    source.skip_space();
    if source.at == payload.len() { Ok(()) } else { Err(Reason::Malformed) }
}

struct Source<'a> {
    json: &'a str,
    at: usize,
}

/// A member of an object, behind the quote that opens its key.
fn member(source: &mut Source<'_>, text: &mut String, walk: &mut Walk<'_>) -> Result<(), Reason> {
    walk.key(source.string(text)?);
    if source.next_token()? != b':' {
        return Err(Reason::Malformed);
    }
    value(source, text, walk)
}

/// A value: whole if it is a scalar, its beginning if it is a container.
fn value(source: &mut Source<'_>, text: &mut String, walk: &mut Walk<'_>) -> Result<(), Reason> {
    match source.next_token()? {
        b'{' => walk.open(Kind::Object, None),
        b'[' => walk.open(Kind::Array, None),
        b'"' => {
            let found = source.string(text)?;
            walk.value(Scalar::Text(found))
        }
        b'-' | b'0'..=b'9' => {
            source.at -= 1;
            let digits = source.number()?;
            walk.value(Scalar::Digits(digits))
        }
        b't' => source.literal("rue", Scalar::Int(1), walk),
        b'f' => source.literal("alse", Scalar::Int(0), walk),
        b'n' => source.literal("ull", Scalar::Null, walk),
        b'N' => source.literal("aN", Scalar::Float(f64::NAN), walk),
        b'I' => source.literal("nfinity", Scalar::Float(f64::INFINITY), walk),
        _ => Err(Reason::Malformed),
    }
}

// === impl Source ===

impl<'a> Source<'a> {
    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    /// Skips white space and takes the byte behind it.
    fn next_token(&mut self) -> Result<u8, Reason> {
        self.skip_space();
        let byte = self.peek().ok_or(Reason::Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    fn literal(&mut self, rest: &str, scalar: Scalar<'_>, walk: &mut Walk<'_>) -> Result<(), Reason> {
        if !self.json.as_bytes()[self.at..].starts_with(rest.as_bytes()) {
            return Err(Reason::Malformed);
        }
        self.at += rest.len();
        walk.value(scalar)
    }

    /// A number, by the standard's grammar, as its digits.
    fn number(&mut self) -> Result<&'a str, Reason> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
            if self.json.as_bytes()[self.at..].starts_with(b"Infinity") {
                self.at += "Infinity".len();
                return Ok("-inf");
            }
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.json[start..self.at])
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), Reason> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(Reason::Malformed) }
    }

    /// A string, behind its opening quote. Without escapes it is a piece of the payload, else it is built in `text`.
    fn string<'t>(&mut self, text: &'t mut String) -> Result<&'t str, Reason>
    where
        'a: 't,
    {
        let start = self.at;
        self.skip_plain();
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(&self.json[start..self.at - 1]);
        }
        text.clear();
        text.push_str(&self.json[start..self.at]);
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                // A control character, or the end.
                _ => return Err(Reason::Malformed),
            }
            let start = self.at;
            self.skip_plain();
            text.push_str(&self.json[start..self.at]);
        }
    }

    /// Up to the next quote, backslash or control character. These are ASCII, so the place is a character boundary.
    fn skip_plain(&mut self) {
        let rest = &self.json.as_bytes()[self.at..];
        self.at += rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len());
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, Reason> {
        let byte = self.peek().ok_or(Reason::Malformed)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(Reason::Malformed),
        })
    }

    /// Four hexadecimal digits, or two times four that are a surrogate pair.
    fn unicode(&mut self) -> Result<char, Reason> {
        let first = self.hex()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first).ok_or(Reason::Malformed);
        }
        if !self.json.as_bytes()[self.at..].starts_with(b"\\u") {
            return Err(Reason::Malformed);
        }
        self.at += 2;
        let second = self.hex()?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(Reason::Malformed);
        }
        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(Reason::Malformed)
    }

    fn hex(&mut self) -> Result<u32, Reason> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16)).ok_or(Reason::Malformed)?;
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }
}
