//! Why a connection is ended or something is refused, by MQTT 5's numbers.

use std::fmt;

/// A reason code of MQTT 5; MQTT 3.1.1 clients are not told, they see the connection end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum Reason {
    Unspecified = 0x80,
    Malformed = 0x81,
    ProtocolError = 0x82,
    ClientIdentifier = 0x85,
    BadLogin = 0x86,
    NotAuthorized = 0x87,
    ServerUnavailable = 0x88,
    ServerBusy = 0x89,
    ShuttingDown = 0x8b,
    BadMethod = 0x8c,
    KeepAlive = 0x8d,
    TakenOver = 0x8e,
    TopicFilterInvalid = 0x8f,
    TopicNameInvalid = 0x90,
    IdentifierNotFound = 0x92,
    ReceiveMaximum = 0x93,
    TopicAlias = 0x94,
    PacketTooLarge = 0x95,
    QuotaExceeded = 0x97,
    PayloadFormatInvalid = 0x99,
}

// === impl Reason ===

impl Reason {
    /// MQTT 3.1.1's answer to CONNECT.
    pub fn connack_v3(self) -> u8 {
        match self {
            Reason::ClientIdentifier => 2,
            Reason::BadLogin => 4,
            Reason::NotAuthorized => 5,
            _ => 3,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Unspecified => "unspecified",
            Reason::Malformed => "malformed packet",
            Reason::ProtocolError => "protocol error",
            Reason::ClientIdentifier => "client identifier not valid",
            Reason::BadLogin => "user name or password not accepted",
            Reason::NotAuthorized => "not allowed",
            Reason::ServerUnavailable => "server unavailable",
            Reason::ServerBusy => "as many clients as are let in",
            Reason::ShuttingDown => "gateway stops",
            Reason::BadMethod => "authentication method not known",
            Reason::KeepAlive => "silent for longer than its keep-alive",
            Reason::TakenOver => "its client has connected again",
            Reason::TopicFilterInvalid => "topic filter not valid",
            Reason::TopicNameInvalid => "topic not valid",
            Reason::IdentifierNotFound => "packet identifier not known",
            Reason::ReceiveMaximum => "more messages unacknowledged than it may have",
            Reason::TopicAlias => "topic alias not valid",
            Reason::PacketTooLarge => "packet too large",
            Reason::QuotaExceeded => "quota exceeded",
            Reason::PayloadFormatInvalid => "payload is not the text it is said to be",
        })
    }
}
