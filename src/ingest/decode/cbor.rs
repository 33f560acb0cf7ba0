//! CBOR (RFC 8949), token by token, by the same rules as JSON.
//!
//! Keys may be text or integers (`{1: 20.5}` is field `1`). Tags are skipped, so that a tagged time is a time; big numbers
//! (tags 2 and 3) are integers out of range. Byte strings and simple values are rejected as text is.

use minicbor::data::Token;
use minicbor::decode::Tokenizer;

use super::walk::{Kind, Scalar, Walk};
use crate::ingest::reason::Reason;

/// Tags of integers beyond 64 bits.
const BIG_NUMBERS: [u64; 2] = [2, 3];

/// Reads a payload. `text` is a buffer for strings that come in pieces.
pub(super) fn scan(payload: &[u8], text: &mut String, walk: &mut Walk<'_>) -> Result<(), Reason> {
    let mut source = Source { tokens: Tokenizer::new(payload) };
    let first = source.next()?;
    value(first, &mut source, text, walk)?;
    while let Some((kind, _, left)) = walk.inside() {
        if left == Some(0) {
            walk.close();
            continue;
        }
        let mut token = source.next()?;
        if matches!(token, Token::Break) {
            if left.is_some() {
                return Err(Reason::Malformed);
            }
            walk.close();
            continue;
        }
        match kind {
            Kind::Array => walk.item(),
            Kind::Object => {
                key(token, &mut source, text, walk)?;
                token = source.next()?;
            }
        }
        value(token, &mut source, text, walk)?;
    }
    // What follows the first item belongs to no message we know of.
    if source.tokens.next().is_none() { Ok(()) } else { Err(Reason::Malformed) }
}

struct Source<'a> {
    tokens: Tokenizer<'a, 'a>,
}

// === impl Source ===

impl<'a> Source<'a> {
    fn next(&mut self) -> Result<Token<'a>, Reason> {
        match self.tokens.next() {
            Some(Ok(token)) => Ok(token),
            Some(Err(_)) | None => Err(Reason::Malformed),
        }
    }

    /// The pieces of a text of unknown length, behind its beginning.
    fn pieces(&mut self, text: &mut String) -> Result<(), Reason> {
        text.clear();
        loop {
            match self.next()? {
                Token::String(piece) => text.push_str(piece),
                Token::Break => return Ok(()),
                _ => return Err(Reason::Malformed),
            }
        }
    }

    /// The pieces of a byte string of unknown length, of which nothing is kept.
    fn skip_bytes(&mut self) -> Result<(), Reason> {
        loop {
            match self.next()? {
                Token::Bytes(_) => {}
                Token::Break => return Ok(()),
                _ => return Err(Reason::Malformed),
            }
        }
    }
}

fn key(
    token: Token<'_>,
    source: &mut Source<'_>,
    text: &mut String,
    walk: &mut Walk<'_>,
) -> Result<(), Reason> {
    match token {
        Token::String(key) => walk.key(key),
        Token::BeginString => {
            source.pieces(text)?;
            walk.key(text);
        }
        token => {
            use std::fmt::Write;
            let number = integer(&token).ok_or(Reason::Malformed)?;
            text.clear();
            write!(text, "{number}").expect("writing to a String cannot fail");
            walk.key(text);
        }
    }
    Ok(())
}

/// A value: whole if it is a scalar, its beginning if it is a container.
fn value<'a>(
    mut token: Token<'a>,
    source: &mut Source<'a>,
    text: &mut String,
    walk: &mut Walk<'_>,
) -> Result<(), Reason> {
    let mut big = false;
    while let Token::Tag(tag) = token {
        big = BIG_NUMBERS.contains(&tag.as_u64());
        token = source.next()?;
    }
    if let Some(number) = integer(&token) {
        return walk.value(i64::try_from(number).map_or(Scalar::HugeInt, Scalar::Int));
    }
    match token {
        Token::Map(entries) => walk.open(Kind::Object, Some(entries)),
        Token::BeginMap => walk.open(Kind::Object, None),
        Token::Array(entries) => walk.open(Kind::Array, Some(entries)),
        Token::BeginArray => walk.open(Kind::Array, None),
        Token::F16(v) | Token::F32(v) => walk.value(Scalar::Float(f64::from(v))),
        Token::F64(v) => walk.value(Scalar::Float(v)),
        Token::Bool(v) => walk.value(Scalar::Int(i64::from(v))),
        Token::Null | Token::Undefined => walk.value(Scalar::Null),
        Token::String(v) => walk.value(Scalar::Text(v)),
        Token::BeginString => {
            source.pieces(text)?;
            walk.value(Scalar::Text(text))
        }
        Token::Bytes(_) => walk.value(opaque(big)),
        Token::BeginBytes => {
            source.skip_bytes()?;
            walk.value(opaque(big))
        }
        Token::Simple(_) => walk.value(Scalar::Opaque),
        _ => Err(Reason::Malformed),
    }
}

fn opaque(big: bool) -> Scalar<'static> {
    if big { Scalar::HugeInt } else { Scalar::Opaque }
}

fn integer(token: &Token<'_>) -> Option<i128> {
    Some(match *token {
        Token::U8(v) => v.into(),
        Token::U16(v) => v.into(),
        Token::U32(v) => v.into(),
        Token::U64(v) => v.into(),
        Token::I8(v) => v.into(),
        Token::I16(v) => v.into(),
        Token::I32(v) => v.into(),
        Token::I64(v) => v.into(),
        Token::Int(v) => v.into(),
        _ => return None,
    })
}
