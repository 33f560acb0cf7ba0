//! What a row looks like on the wire: its subject and its headers. Written by the gateway, read at the hub.
//!
//! ```text
//!  <prefix>.<gateway>.<lane>.<stream>          the subject
//!  Nats-Msg-Id: <gateway>/<lane>/<stream>/<epoch, 8 hex digits>/<seq>
//!  Frond-Epoch: <epoch, 8 hex digits>          the database the row came from
//!  Frond-Seq: <seq>                            1, 2, 3 … within (gateway, lane, stream, epoch)
//!  Frond-Dropped: <count>                      rows of this subject that caps have dropped, in all its life
//!  Frond-Clock-Correction: <nanoseconds>       to add to the times of the block, when they were estimates
//! ```
//! A consumer is idempotent on (gateway, lane, stream, epoch, seq). Pure.

use async_nats::header::{HeaderName, NATS_MESSAGE_ID};
use async_nats::{HeaderMap, HeaderValue};

use crate::sample::Lane;

/// Header with the epoch.
pub const EPOCH: HeaderName = HeaderName::from_static("Frond-Epoch");
/// Header with the sequence.
pub const SEQ: HeaderName = HeaderName::from_static("Frond-Seq");
/// Header with the number of dropped rows.
pub const DROPPED: HeaderName = HeaderName::from_static("Frond-Dropped");
/// Header with the clock correction.
pub const CLOCK_CORRECTION: HeaderName = HeaderName::from_static("Frond-Clock-Correction");

/// Whose rows: one subject of one gateway's database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// Name of the gateway.
    pub gateway: String,
    /// Lane.
    pub lane: Lane,
    /// Name of the stream.
    pub stream: String,
    /// Epoch of the database.
    pub epoch: u32,
}

/// Everything a message says of its row beside the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Whose row.
    pub origin: Origin,
    /// Its sequence.
    pub seq: u64,
    /// Rows of this subject dropped before it left.
    pub dropped: u64,
    /// Nanoseconds to add to its times.
    pub clock_correction: Option<i64>,
}

/// Why a message is none of frond's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// The subject has another form.
    #[error("the subject {0} is not <prefix>.<gateway>.<lane>.<stream>")]
    Subject(String),
    /// A header is missing or is not a number.
    #[error("the header {0} is missing or unreadable")]
    Header(&'static str),
}

// === impl Origin ===

impl Origin {
    /// The subject its rows go to.
    pub fn subject(&self, prefix: &str) -> String {
        subject(prefix, &self.gateway, self.lane, &self.stream)
    }
}

// === impl Stamp ===

impl Stamp {
    /// The headers of the message.
    pub fn headers(&self) -> HeaderMap {
        let Origin { gateway, lane, stream, epoch } = &self.origin;
        let mut headers = HeaderMap::new();
        let lane = lane.token();
        headers.insert(NATS_MESSAGE_ID, format!("{gateway}/{lane}/{stream}/{epoch:08x}/{}", self.seq));
        headers.insert(EPOCH, format!("{epoch:08x}"));
        headers.insert(SEQ, HeaderValue::from(self.seq));
        headers.insert(DROPPED, HeaderValue::from(self.dropped));
        if let Some(correction) = self.clock_correction {
            headers.insert(CLOCK_CORRECTION, HeaderValue::from(correction));
        }
        headers
    }

    /// Reads what [`Stamp::headers`] and [`Origin::subject`] wrote.
    pub fn read(subject: &str, headers: Option<&HeaderMap>) -> Result<Stamp, StampError> {
        let empty = HeaderMap::new();
        let headers = headers.unwrap_or(&empty);
        let (epoch, seq) = read_position(headers)?;
        let (gateway, lane, stream) = read_subject(subject)?;
        let dropped = number(headers, DROPPED).ok_or(StampError::Header("Frond-Dropped"))?;
        let clock_correction = match headers.get(CLOCK_CORRECTION) {
            None => None,
            Some(text) => {
                Some(text.as_str().parse().map_err(|_| StampError::Header("Frond-Clock-Correction"))?)
            }
        };
        Ok(Stamp { origin: Origin { gateway, lane, stream, epoch }, seq, dropped, clock_correction })
    }
}

/// Epoch and sequence alone.
pub fn read_position(headers: &HeaderMap) -> Result<(u32, u64), StampError> {
    let epoch = headers
        .get(EPOCH)
        .and_then(|text| u32::from_str_radix(text.as_str(), 16).ok())
        .ok_or(StampError::Header("Frond-Epoch"))?;
    let seq = number(headers, SEQ).ok_or(StampError::Header("Frond-Seq"))?;
    Ok((epoch, seq))
}

/// The subject of a lane and stream.
pub fn subject(prefix: &str, gateway: &str, lane: Lane, stream: &str) -> String {
    format!("{prefix}.{gateway}.{}.{stream}", lane.token())
}

/// Gateway, lane and stream of a subject, whatever stands before them.
fn read_subject(subject: &str) -> Result<(String, Lane, String), StampError> {
    let bad = || StampError::Subject(subject.to_owned());
    let mut tokens = subject.rsplit('.');
    let stream = tokens.next().filter(|token| !token.is_empty()).ok_or_else(bad)?;
    let lane = match tokens.next() {
        Some(token) if token == Lane::Alarm.token() => Lane::Alarm,
        Some(token) if token == Lane::Data.token() => Lane::Data,
        _ => return Err(bad()),
    };
    let gateway = tokens.next().filter(|token| !token.is_empty()).ok_or_else(bad)?;
    tokens.next().ok_or_else(bad)?;
    Ok((gateway.to_owned(), lane, stream.to_owned()))
}

fn number(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    headers.get(name)?.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        let origin =
            Origin { gateway: "press-7".into(), lane: Lane::Data, stream: "vibration".into(), epoch: 0xab12 };
        Stamp { origin, seq: 41, dropped: 3, clock_correction: Some(-5) }
    }

    // Goal: what the gateway writes is what the hub reads, and the text is the documented one. Method: both ways.
    #[test]
    fn a_stamp_survives_the_wire() {
        let stamp = stamp();
        let subject = stamp.origin.subject("frond");
        let headers = stamp.headers();
        assert_eq!(subject, "frond.press-7.data.vibration");
        assert_eq!(headers.get(NATS_MESSAGE_ID).unwrap().as_str(), "press-7/data/vibration/0000ab12/41");
        assert_eq!(Stamp::read(&subject, Some(&headers)), Ok(stamp));
    }

    // Goal: strangers' messages are told apart, not misread. Method: leave out or spoil one part at a time.
    #[test]
    fn a_strangers_message_is_not_misread() {
        let headers = stamp().headers();
        for subject in ["frond.g.data", "g.data.s", "frond.g.other.s", "frond..data.s", "frond.g.data.", ""] {
            assert!(matches!(Stamp::read(subject, Some(&headers)), Err(StampError::Subject(_))), "{subject}");
        }
        assert_eq!(Stamp::read("f.g.data.s", None), Err(StampError::Header("Frond-Epoch")));
        let mut spoiled = headers.clone();
        spoiled.insert(SEQ, "-1");
        assert_eq!(Stamp::read("f.g.data.s", Some(&spoiled)), Err(StampError::Header("Frond-Seq")));
    }
}
