//! The vocabulary: what the listener knows of a packet, whichever version it came in. Plain values; nothing here outlives
//! the packet's way through the desk.

use std::sync::Arc;

use bytes::Bytes;
use mqtt_proto::v5;

/// What the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.
    V5,
}

/// A packet from a client.
#[derive(Debug)]
pub enum Packet {
    /// The first one.
    Connect(Box<Connect>),
    /// A message.
    Publish(Publish),
    /// The client has a QoS 1 message.
    Puback(u16),
    /// The client has a QoS 2 message, or refuses it.
    Pubrec(u16, Verdict),
    /// The client knows that a QoS 2 message of its own has arrived.
    Pubrel(u16),
    /// The client has forgotten a QoS 2 message.
    Pubcomp(u16),
    /// Filters wanted.
    Subscribe(Subscribe),
    /// Filters no longer wanted.
    Unsubscribe(u16, Vec<String>),
    /// Sign of life.
    Pingreq,
    /// Farewell, with reason code and a new session expiry.
    Disconnect(u8, Option<u32>),
}

/// Whether a client takes a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Taken,
    /// It does not.
    Refused,
}

/// CONNECT.
#[derive(Debug)]
pub struct Connect {
    pub version: Version,
    pub clean: bool,
    pub keep_alive_s: u16,
    pub client: Arc<str>,
    pub user: Option<Arc<str>>,
    pub password: Option<Bytes>,
    pub will: Option<Will>,
    pub properties: v5::ConnectProperties,
}

/// What is published when the client is lost.
#[derive(Debug, Clone)]
pub struct Will {
    pub delay_s: u32,
    pub message: Publish,
}

/// PUBLISH.
#[derive(Debug, Clone)]
pub struct Publish {
    pub dup: bool,
    pub retain: bool,
    pub qos: u8,
    /// 0 at QoS 0.
    pub pkid: u16,
    pub topic: Arc<str>,
    pub payload: Bytes,
    /// MQTT 5, and only if there are any.
    pub properties: Option<Box<v5::PublishProperties>>,
}

/// SUBSCRIBE.
#[derive(Debug)]
pub struct Subscribe {
    pub pkid: u16,
    pub id: Option<u32>,
    pub filters: Vec<(String, v5::SubscriptionOptions)>,
}
