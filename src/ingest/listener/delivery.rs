//! A message on its way to subscribers, shared by all of their queues.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use mqtt_proto::{Encodable, Pid, QosPid, TopicName, v3, v5};
use tokio::time::Instant;

use super::codec::{Publish, Version};
use super::queue::{Entry, Quality};

/// What was published.
#[derive(Debug)]
pub struct Message {
    pub topic: Arc<str>,
    pub payload: Bytes,
    pub qos: u8,
    /// Whether it was published to be retained.
    pub retain: bool,
    pub properties: Option<Box<v5::PublishProperties>>,
    /// When it is no longer worth sending.
    pub expires: Option<Instant>,
}

/// A message for one subscriber.
#[derive(Debug)]
pub struct Delivery {
    pub message: Rc<Message>,
    /// The retain flag as this subscriber sees it.
    pub retain: bool,
    /// Numbers of its matching subscriptions.
    pub identifiers: Vec<u32>,
}

// === impl Message ===

impl Message {
    pub fn of(publish: Publish, now: Instant) -> Message {
        let expiry = publish.properties.as_ref().and_then(|properties| properties.message_expiry_interval);
        Message {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            properties: publish.properties,
            expires: expiry.map(|seconds| now + std::time::Duration::from_secs(seconds.into())),
        }
    }

    /// Bytes it costs while it waits.
    pub fn bytes(&self) -> usize {
        let properties = self.properties.as_ref().map_or(0, |properties| properties.encode_len() + 256);
        self.topic.len() + self.payload.len() + properties + size_of::<Message>()
    }
}

// === impl Delivery ===

impl Delivery {
    /// An entry of a queue.
    pub fn entry(self, qos: u8) -> Entry<Rc<Delivery>> {
        Entry {
            bytes: self.message.bytes() as u64,
            quality: if qos.min(self.message.qos) == 0 { Quality::AtMostOnce } else { Quality::AtLeastOnce },
            expires: self.message.expires,
            message: Rc::new(self),
        }
    }

    /// Writes it as a packet. With a packet identifier it is QoS 1, without one QoS 0.
    pub fn encode(&self, version: Version, pkid: u16, dup: bool, now: Instant, out: &mut Vec<u8>) {
        let message = &self.message;
        let qos_pid = match Pid::try_from(pkid) {
            Ok(pid) => QosPid::Level1(pid),
            Err(_) => QosPid::Level0,
        };
        // It was a topic when it came in.
        let Ok(topic_name) = TopicName::try_from(message.topic.clone()) else { return };
        let payload = message.payload.clone();
        let encoded = match version {
            Version::V3 => {
                let publish = v3::Publish { dup, retain: self.retain, qos_pid, topic_name, payload };
                v3::Packet::Publish(publish).encode()
            }
            Version::V5 => {
                let mut properties = message.properties.as_deref().cloned().unwrap_or_default();
                properties.topic_alias = None;
                properties.subscription_id =
                    self.identifiers.first().and_then(|id| v5::VarByteInt::try_from(*id).ok());
                properties.message_expiry_interval = message
                    .expires
                    .map(|at| u32::try_from(at.saturating_duration_since(now).as_secs()).unwrap_or(u32::MAX));
                if self.identifiers.len() > 1 {
                    let head = 0x30 | u8::from(dup) << 3 | u8::from(pkid > 0) << 1 | u8::from(self.retain);
                    return self.encode_numbered(head, pkid, &properties, out);
                }
                let publish =
                    v5::Publish { dup, retain: self.retain, qos_pid, topic_name, payload, properties };
                v5::Packet::Publish(publish).encode()
            }
        };
        // Longer than MQTT can say: it came in as one packet, so only its subscription's number can make it so.
        if let Ok(encoded) = encoded {
            out.extend_from_slice(encoded.as_ref());
        }
    }
}

/// The property of MQTT 5 that names a subscription.
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;

impl Delivery {
    /// Version 5, with the numbers of several subscriptions: the library writes one.
    fn encode_numbered(&self, head: u8, pkid: u16, properties: &v5::PublishProperties, out: &mut Vec<u8>) {
        let mut first = Vec::new();
        if properties.encode(&mut first).is_err() {
            return;
        }
        // Behind their length, which is at most four bytes.
        let from = first.iter().take(4).position(|byte| byte & 0x80 == 0).map_or(0, |last| last + 1);
        let mut properties = first.split_off(from);
        for id in &self.identifiers[1..] {
            properties.push(SUBSCRIPTION_IDENTIFIER);
            put_length(*id as usize, &mut properties);
        }
        let (topic, payload) = (self.message.topic.as_bytes(), &self.message.payload);
        let mut body = Vec::with_capacity(8 + topic.len() + properties.len());
        body.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        body.extend_from_slice(topic);
        if pkid > 0 {
            body.extend_from_slice(&pkid.to_be_bytes());
        }
        put_length(properties.len(), &mut body);
        body.append(&mut properties);
        out.push(head);
        put_length(body.len() + payload.len(), out);
        out.append(&mut body);
        out.extend_from_slice(payload);
    }
}

/// MQTT's number of variable length (MQTT 5, 1.5.5).
pub fn put_length(mut length: usize, out: &mut Vec<u8>) {
    while length > 0x7f {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// The properties of a retained message as bytes: the packet it came in, without topic and payload.
pub fn pack(properties: Option<&v5::PublishProperties>) -> Bytes {
    let Some(properties) = properties else { return Bytes::new() };
    let mut kept = properties.clone();
    kept.topic_alias = None;
    kept.message_expiry_interval = None;
    let mut bytes = Vec::new();
    match kept.encode(&mut bytes) {
        Ok(()) => bytes.into(),
        Err(_) => Bytes::new(),
    }
}

/// What [`pack`] gave.
pub fn unpack(bytes: &Bytes) -> Option<Box<v5::PublishProperties>> {
    let properties = v5::PublishProperties::decode(bytes, &mut 0, v5::PacketType::Publish).ok()?;
    (properties != v5::PublishProperties::default()).then(|| Box::new(properties))
}
