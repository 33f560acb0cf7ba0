//! What comes back for a published row. Pure.

use std::fmt;

use async_nats::{Message, StatusCode};
use serde::Deserialize;

/// The answer to one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The hub holds it.
    Stored(Stored),
    /// The hub does not take it, and has not stored it.
    Refused(Refusal),
    /// Nobody was there to take it: the leaf link is down, or no stream has the subject.
    Nobody,
    /// Unreadable; treated as no answer.
    Garbled,
}

/// Where the hub put a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Name of the JetStream stream.
    pub stream: String,
    /// Its sequence there; of the first copy if this is a repetition.
    pub seq: u64,
    /// JetStream knew its message id already.
    pub duplicate: bool,
}

/// Why the hub does not take a row. `Display` says what, [`Refusal::advice`] what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The stream, or the account, has no room.
    Full(String),
    /// This row is larger than the server or the stream takes.
    TooLarge(String),
    /// No stream has the row's subject.
    NoStream(String),
    /// What the hub holds cannot be read back, so that nothing may be sent.
    ReadBack(String),
    /// Anything else.
    Other(String),
}

/// JetStream's numbers for "no room".
mod number {
    pub(super) const ACCOUNT_RESOURCES: u16 = 10002;
    pub(super) const INSUFFICIENT_RESOURCES: u16 = 10023;
    pub(super) const MEMORY_RESOURCES: u16 = 10028;
    pub(super) const STORAGE_RESOURCES: u16 = 10047;
    pub(super) const STORE_FAILED: u16 = 10077;
    pub(super) const MESSAGE_TOO_LARGE: u16 = 10054;
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    stream: String,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<WireError>,
}

#[derive(Deserialize)]
struct WireError {
    #[serde(default)]
    err_code: u16,
    #[serde(default)]
    description: String,
}

// === impl Answer ===

impl Answer {
    /// Reads the message that came to the reply subject of a row.
    pub fn read(message: &Message) -> Answer {
        match message.status {
            Some(StatusCode::NO_RESPONDERS) => return Answer::Nobody,
            Some(_) => return Answer::Garbled,
            None => {}
        }
        match serde_json::from_slice::<Wire>(&message.payload) {
            Ok(Wire { error: Some(error), .. }) => Answer::Refused(Refusal::of(error)),
            Ok(Wire { stream, seq, duplicate, .. }) if !stream.is_empty() && seq > 0 => {
                Answer::Stored(Stored { stream, seq, duplicate })
            }
            Ok(_) | Err(_) => Answer::Garbled,
        }
    }
}

// === impl Refusal ===

impl Refusal {
    fn of(error: WireError) -> Refusal {
        let text = format!("{} ({})", error.description, error.err_code);
        match error.err_code {
            number::STORE_FAILED
            | number::ACCOUNT_RESOURCES
            | number::INSUFFICIENT_RESOURCES
            | number::MEMORY_RESOURCES
            | number::STORAGE_RESOURCES => Refusal::Full(text),
            number::MESSAGE_TOO_LARGE => Refusal::TooLarge(text),
            _ => Refusal::Other(text),
        }
    }

    /// What to do about it, as a sentence.
    pub fn advice(&self) -> &'static str {
        match self {
            Refusal::Full(_) => {
                "make room at the hub: raise the stream's max_bytes or max_msgs, or its disk; frond buffers meanwhile"
            }
            Refusal::TooLarge(_) => {
                "raise max_payload of the servers and max_msg_size of the stream above the row's size; the row waits"
            }
            Refusal::NoStream(_) => "run `frond hub`, or add the subject to a stream at the hub",
            Refusal::ReadBack(_) => {
                "the stream must have limits retention, and this account must be allowed to create consumers on it"
            }
            Refusal::Other(_) => "look at the hub's log and the stream's configuration; frond keeps trying",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Full(text) => write!(f, "JetStream at the hub is full: {text}"),
            Refusal::TooLarge(text) => write!(f, "a row is too large: {text}"),
            Refusal::NoStream(subject) => write!(f, "no stream at the hub takes {subject}"),
            Refusal::ReadBack(text) => write!(f, "what the hub holds cannot be read back: {text}"),
            Refusal::Other(text) => write!(f, "the hub refuses a row: {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(status: Option<StatusCode>, payload: &'static str) -> Message {
        Message {
            subject: "_INBOX.x.1".into(),
            reply: None,
            payload: payload.into(),
            headers: None,
            status,
            description: None,
            length: payload.len(),
        }
    }

    // Goal: every kind of answer is told apart. Method: what nats-server 2.15 sent in each case.
    #[test]
    fn answers_are_told_apart() {
        let read = |payload| Answer::read(&message(None, payload));
        assert_eq!(
            read(r#"{"stream":"FROND","domain":"hub","seq":7,"duplicate":true}"#),
            Answer::Stored(Stored { stream: "FROND".into(), seq: 7, duplicate: true })
        );
        let full = r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"FROND","seq":0}"#;
        assert_eq!(read(full), Answer::Refused(Refusal::Full("maximum bytes exceeded (10077)".into())));
        let large = r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"FROND","seq":0}"#;
        assert!(matches!(read(large), Answer::Refused(Refusal::TooLarge(_))));
        assert_eq!(read("+ACK"), Answer::Garbled);
        assert_eq!(read(""), Answer::Garbled);
        assert_eq!(read("{}"), Answer::Garbled);
        assert_eq!(Answer::read(&message(Some(StatusCode::NO_RESPONDERS), "")), Answer::Nobody);
    }
}
