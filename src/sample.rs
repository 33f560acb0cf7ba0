//! The vocabulary every box shares: what a reading is, where it belongs, and on which timeline its time counts.
//!
//! Nothing here does any work or owns any state. A type lives here when two boxes that are not neighbours need it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Nanoseconds since the Unix epoch, or, on [`Timeline::Boot`], on that boot's estimated timeline.
pub type Nanos = i64;

/// A second in [`Nanos`].
pub const SECOND: Nanos = 1_000_000_000;

/// A configured stream, by the number the store gave its name. Stable for the life of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId(pub u32);

/// One series of readings, by the number the store gave (stream, name). Stable for the life of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeriesId(pub u32);

/// One boot of the machine whose clock was not trusted when readings arrived, by the number the store gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BootId(pub u32);

/// One door: a client session of this gateway at a broker, or one durability class of the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DoorId(pub u8);

/// One persistent session of a client of the listener, by the number the store gave it; a number is never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u32);

/// A measured value. Integers stay integers, so that counters beyond 2^53 keep every digit. JSON booleans are 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// A finite float: decoders refuse NaN and infinities.
    Float(f64),
    /// A whole number.
    Int(i64),
}

/// One measured value of one series at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Which series.
    pub series: SeriesId,
    /// When, on the timeline of the message it came in.
    pub time: Nanos,
    /// What.
    pub value: Value,
}

/// Where the times of a message come from. It never changes within a block, and a series that changes its timeline
/// starts its windows afresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Timeline {
    /// The sensor's own time stamps, taken as they are. Two readings of one series with one such time are one reading.
    Sensor,
    /// Arrival at the gateway, by a trusted clock.
    Arrival,
    /// Arrival at the gateway, before the clock was trusted: an estimate plus the time since boot. A correction learnt
    /// later in the same boot is kept beside the boot and applied when the data leaves the gateway.
    Boot(BootId),
}

/// How soon readings of a stream are on flash, and when their messages are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Every reading is journalled; acknowledged after the group commit. The default.
    Reading,
    /// Only checkpoints are written; acknowledged after the checkpoint that contains the reading.
    Window,
    /// Nothing is written before the window closes; acknowledged on receipt.
    None,
}

/// Which lane towards the hub a stream's outputs take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Ahead of everything else.
    Alarm,
    /// The ordinary lane; what was made while the link is up goes before the backlog, which keeps a share.
    Data,
}

/// One MQTT message on its way from a door to the journal, decoded. `readings` is empty when the payload was rejected:
/// the message is still acknowledged, in its order.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The session it came in by.
    pub door: DoorId,
    /// Order of arrival at this door, from 1, in this process. Acknowledgements name the last ticket they cover.
    pub ticket: u64,
    /// The client's session at the listener; [`SessionId::NONE`] at a broker's door, and for clients that start clean.
    pub session: SessionId,
    /// MQTT packet identifier; 0 for QoS 0, and where the session is not kept.
    pub pkid: u16,
    /// The stream its topic belongs to.
    pub stream: StreamId,
    /// Where its times come from.
    pub timeline: Timeline,
    /// What it held, in the payload's order.
    pub readings: Vec<Reading>,
}

/// Recognises a message that a broker sends again: its packet identifier and a digest of what it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// MQTT packet identifier, never 0.
    pub pkid: u16,
    /// [`Message::digest`].
    pub digest: u32,
}

// === impl SessionId ===

impl SessionId {
    /// No session that is kept.
    pub const NONE: SessionId = SessionId(0);
}

// === impl Value ===

impl Value {
    /// The value as a float; integers beyond 2^53 are rounded.
    pub fn as_f64(self) -> f64 {
        match self {
            Value::Float(v) => v,
            Value::Int(v) => v as f64,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Float(v) => write!(f, "{v}"),
            Value::Int(v) => write!(f, "{v}"),
        }
    }
}

// === impl Lane ===

impl Lane {
    /// The token that stands for the lane in a subject and in `Nats-Msg-Id`.
    pub fn token(self) -> &'static str {
        match self {
            Lane::Alarm => "alarm",
            Lane::Data => "data",
        }
    }
}

// === impl Message ===

impl Message {
    /// A digest of what the message said: stream, series and values, and the times where the sensor gave them (arrival
    /// times differ between a message and its copy). It is computed from the decoded readings, so that the journal can
    /// compute it again from the rows it holds and need not store it. CRC-32: it tells apart messages that share a
    /// packet identifier, it does not stand up to an adversary.
    pub fn digest(&self) -> u32 {
        let mut hash = crc32fast::Hasher::new();
        hash.update(&self.stream.0.to_le_bytes());
        for reading in &self.readings {
            hash.update(&reading.series.0.to_le_bytes());
            if self.timeline == Timeline::Sensor {
                hash.update(&reading.time.to_le_bytes());
            }
            match reading.value {
                Value::Float(v) => hash.update(&v.to_bits().to_le_bytes()),
                Value::Int(v) => hash.update(&v.to_le_bytes()),
            }
        }
        hash.finalize()
    }

    /// The identity a redelivered copy will show, if the message has one (QoS 1 or 2).
    pub fn identity(&self) -> Option<Identity> {
        (self.pkid != 0).then(|| Identity { pkid: self.pkid, digest: self.digest() })
    }
}
