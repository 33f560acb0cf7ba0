//! A payload that is one number in text.

use super::walk::Scalar;
use crate::ingest::reason::Reason;

/// Parses it. White space around it is allowed, and so is what sensors write although JSON forbids it: `+5`, `.5`, `5.`,
/// `nan`, `inf` (the last two are then rejected as not finite).
pub(super) fn parse(payload: &[u8]) -> Result<Scalar<'_>, Reason> {
    let text = std::str::from_utf8(payload).map_err(|_| Reason::Malformed)?.trim();
    if text.is_empty() {
        return Err(Reason::Empty);
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(text.parse().map_or(Scalar::HugeInt, Scalar::Int));
    }
    text.parse().map(Scalar::Float).map_err(|_| Reason::Malformed)
}
