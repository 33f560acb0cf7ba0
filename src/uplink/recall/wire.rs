//! What a recall looks like on the wire. Written by one side, read by the other.
//!
//! ```text
//!  requester ── <prefix>.<gateway>.recall, {"stream", "series"?, "from", "to"}, reply to an inbox ──▶ gateway
//!            ◀── chunk: an envelope; Frond-Chunk: 1, 2, …; Frond-Clock-Correction? ; reply to its own subject ──
//!            ── empty, to that subject: received ──▶
//!            ◀── empty; Frond-Wait: why nothing comes at present ──
//!            ◀── empty; Frond-End: ok   or   Frond-Refused: <number> <text> ──
//! ```

use async_nats::header::HeaderName;
use async_nats::{HeaderMap, HeaderValue, Message};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::sample::Nanos;
use crate::store::{RecallQuery, RecallRefused};
use crate::uplink::message::CLOCK_CORRECTION;

/// Number of a chunk, from 1.
pub const CHUNK: HeaderName = HeaderName::from_static("Frond-Chunk");
/// Why nothing comes at present.
pub const WAIT: HeaderName = HeaderName::from_static("Frond-Wait");
/// The end.
pub const END: HeaderName = HeaderName::from_static("Frond-End");
/// The end, without an answer.
pub const REFUSED: HeaderName = HeaderName::from_static("Frond-Refused");

/// Largest request that is looked at: names of some hundred series.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Name of the stream.
    pub stream: String,
    /// Names of series; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<String>,
    /// From this time on …
    pub from: Moment,
    /// … up to, not including, this one.
    pub to: Moment,
}

/// A time: nanoseconds since 1970, or RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Moment {
    /// Nanoseconds.
    Nanos(Nanos),
    /// RFC 3339.
    Text(String),
}

/// One message of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Readings.
    Chunk {
        /// From 1, without holes.
        number: u64,
        /// Nanoseconds to add to the times.
        clock_correction: Option<i64>,
    },
    /// Nothing at present.
    Wait(String),
    /// That was all.
    End,
    /// No answer.
    Refused {
        /// See [`RecallRefused`].
        number: u8,
        /// For people.
        text: String,
    },
    /// Nobody listens to recalls of that gateway.
    Nobody,
    /// None of the above.
    Unknown,
}

// === impl Request ===

impl Request {
    /// Subject for recalls of a gateway.
    pub fn subject(prefix: &str, gateway: &str) -> String {
        format!("{prefix}.{gateway}.recall")
    }

    /// Reads a request.
    pub fn read(payload: &[u8]) -> Result<RecallQuery, RecallRefused> {
        if payload.len() > REQUEST_BYTES_MAX {
            return Err(RecallRefused::BadRequest);
        }
        let request: Request = serde_json::from_slice(payload).map_err(|_| RecallRefused::BadRequest)?;
        let from = request.from.nanos().ok_or(RecallRefused::BadRequest)?;
        let to = request.to.nanos().ok_or(RecallRefused::BadRequest)?;
        if from >= to {
            return Err(RecallRefused::EmptyWindow);
        }
        Ok(RecallQuery { stream: request.stream, series: request.series, from, to, after: 0 })
    }
}

// === impl Moment ===

impl Moment {
    /// Nanoseconds since 1970, if it is a time at all.
    pub fn nanos(&self) -> Option<Nanos> {
        match self {
            Moment::Nanos(nanos) => Some(*nanos),
            Moment::Text(text) => Nanos::try_from(text.parse::<Timestamp>().ok()?.as_nanosecond()).ok(),
        }
    }
}

// === impl Part ===

impl Part {
    /// The headers of this part.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        match self {
            Part::Chunk { number, clock_correction } => {
                headers.insert(CHUNK, HeaderValue::from(*number));
                if let Some(correction) = clock_correction {
                    headers.insert(CLOCK_CORRECTION, HeaderValue::from(*correction));
                }
            }
            Part::Wait(why) => headers.insert(WAIT, why.as_str()),
            Part::End => headers.insert(END, "ok"),
            Part::Refused { number, text } => headers.insert(REFUSED, format!("{number} {text}")),
            Part::Nobody | Part::Unknown => {}
        }
        headers
    }

    /// Reads the headers of a message.
    pub fn read(message: &Message) -> Part {
        if message.status.is_some() {
            return Part::Nobody;
        }
        let header =
            |name| message.headers.as_ref().and_then(|headers| headers.get(name)).map(HeaderValue::as_str);
        if let Some(number) = header(CHUNK).and_then(|text| text.parse().ok()) {
            return Part::Chunk {
                number,
                clock_correction: header(CLOCK_CORRECTION).and_then(|text| text.parse().ok()),
            };
        }
        if let Some(text) = header(REFUSED) {
            let (number, text) = text.split_once(' ').unwrap_or((text, ""));
            return match number.parse() {
                Ok(number) => Part::Refused { number, text: text.to_owned() },
                Err(_) => Part::Unknown,
            };
        }
        match (header(END), header(WAIT)) {
            (Some(_), _) => Part::End,
            (None, Some(why)) => Part::Wait(why.to_owned()),
            (None, None) => Part::Unknown,
        }
    }
}

impl From<RecallRefused> for Part {
    fn from(refused: RecallRefused) -> Part {
        Part::Refused { number: refused as u8, text: refused.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: both forms of a time mean the same, and what is no request is refused by number. Method: examples.
    #[test]
    fn requests_are_read_or_refused() {
        let text = br#"{"stream":"s","from":"1970-01-01T00:00:01Z","to":2000000000}"#;
        let query = Request::read(text).unwrap();
        assert_eq!((query.from, query.to, query.after), (1_000_000_000, 2_000_000_000, 0));
        for bad in [
            &b""[..],
            b"{}",
            br#"{"stream":"s","from":"then","to":1}"#,
            br#"{"stream":"s","from":0,"to":1,"x":1}"#,
        ] {
            assert_eq!(Request::read(bad), Err(RecallRefused::BadRequest));
        }
        assert_eq!(Request::read(br#"{"stream":"s","from":5,"to":5}"#), Err(RecallRefused::EmptyWindow));
        assert_eq!(Request::read(&[b' '; REQUEST_BYTES_MAX + 1]), Err(RecallRefused::BadRequest));
    }

    // Goal: each part is read as what it was written. Method: all of them, there and back.
    #[test]
    fn parts_survive_the_wire() {
        let parts = [
            Part::Chunk { number: 7, clock_correction: Some(-3) },
            Part::Chunk { number: 1, clock_correction: None },
            Part::Wait("live data first".into()),
            Part::End,
            Part::from(RecallRefused::Busy),
            Part::Unknown,
        ];
        for part in parts {
            let message = Message {
                subject: "_INBOX.x".into(),
                reply: None,
                payload: bytes::Bytes::new(),
                headers: Some(part.headers()),
                status: None,
                description: None,
                length: 0,
            };
            assert_eq!(Part::read(&message), part);
        }
    }
}
