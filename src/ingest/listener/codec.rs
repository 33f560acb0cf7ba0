//! Packets of both protocol versions in one vocabulary, over the library's codecs.
//!
//! What is read and written here is bytes in memory; nothing waits. The library decodes bodies and checks them; where a
//! packet ends is found here, so that it is decoded once and only when it is complete. A packet that is longer than the
//! listener takes is refused by its header. Acknowledgements are four bytes and are written as such: a library call for
//! each would cost more than the rest of a message's way.

use std::sync::Arc;

use bytes::Bytes;
use mqtt_proto::{Error as ProtoError, Pid, PollHeader, Protocol, QoS, QosPid, v3, v5};

use super::reason::Reason;

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

/// Where a packet lies in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    head: u8,
    body: usize,
    /// Behind its last byte.
    pub end: usize,
}

/// Finds the first packet; `None` if it is not complete. A packet of more than `max` bytes is an error.
pub fn frame(buffer: &[u8], max: usize) -> Result<Option<Frame>, Reason> {
    let Some(&head) = buffer.first() else { return Ok(None) };
    let (mut length, mut at) = (0usize, 1usize);
    loop {
        let Some(&byte) = buffer.get(at) else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if at > 4 {
            return Err(Reason::Malformed);
        }
    }
    let end = at + length;
    if end > max {
        return Err(Reason::PacketTooLarge);
    }
    Ok((buffer.len() >= end).then_some(Frame { head, body: at, end }))
}

/// How many bytes the first packet has, if its header is there.
pub fn wanted(buffer: &[u8]) -> Option<usize> {
    let mut length = 0usize;
    for at in 1..=4 {
        let byte = *buffer.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            return Some(at + 1 + length);
        }
    }
    None
}

// === impl Frame ===

impl Frame {
    /// Whether a message is in it.
    pub fn is_publish(self) -> bool {
        self.head >> 4 == 3
    }

    /// Decodes it. `buffer` is what it was found in.
    pub fn decode(self, buffer: &[u8], version: Version) -> Result<Packet, Reason> {
        let body = &buffer[self.body..self.end];
        let (length, total) = (body.len() as u32, self.end as u32);
        match version {
            Version::V3 => {
                let header = v3::Header::new_with(self.head, length, total).map_err(|err| reason(&err))?;
                from_v3(open(header, body)?)
            }
            Version::V5 => {
                let header = v5::Header::new_with(self.head, length, total).map_err(|err| reason_v5(&err))?;
                from_v5(open_v5(header, body)?)
            }
        }
    }

    /// Decodes the first packet of a connection, which names the version. The inner error is a protocol that is not
    /// spoken here.
    pub fn decode_connect(self, buffer: &[u8]) -> Result<Result<Box<Connect>, u8>, Reason> {
        let body = &buffer[self.body..self.end];
        if self.head != 0x10 {
            return Err(Reason::ProtocolError);
        }
        let protocol = match Protocol::decode(body, &mut 0) {
            Ok(protocol) => protocol,
            Err(ProtoError::InvalidProtocol(name, level)) if &*name == "MQTT" => return Ok(Err(level)),
            Err(err) => return Err(reason(&err)),
        };
        let version = match protocol {
            Protocol::V310 => return Ok(Err(3)),
            Protocol::V311 => Version::V3,
            Protocol::V500 => Version::V5,
        };
        match self.decode(buffer, version)? {
            Packet::Connect(connect) => Ok(Ok(connect)),
            _ => Err(Reason::ProtocolError),
        }
    }
}

fn open(header: v3::Header, body: &[u8]) -> Result<v3::Packet, Reason> {
    if body.is_empty() {
        return header.build_empty_packet().ok_or(Reason::Malformed);
    }
    if matches!(header.typ, v3::PacketType::Pingreq | v3::PacketType::Pingresp | v3::PacketType::Disconnect) {
        return Err(Reason::Malformed);
    }
    let mut at = 0;
    let packet = header.decode_buffer(body, &mut at).map_err(|err| reason(&err))?;
    if at == body.len() { Ok(packet) } else { Err(Reason::Malformed) }
}

fn open_v5(header: v5::Header, body: &[u8]) -> Result<v5::Packet, Reason> {
    if body.is_empty() {
        return header.build_empty_packet().ok_or(Reason::Malformed);
    }
    if matches!(header.typ, v5::PacketType::Pingreq | v5::PacketType::Pingresp) {
        return Err(Reason::Malformed);
    }
    let mut at = 0;
    let packet = header.decode_buffer(body, &mut at).map_err(|err| reason_v5(&err))?;
    if at == body.len() { Ok(packet) } else { Err(Reason::Malformed) }
}

fn reason(error: &ProtoError) -> Reason {
    match error {
        ProtoError::InvalidTopicName(_) => Reason::TopicNameInvalid,
        ProtoError::InvalidTopicFilter(_) => Reason::TopicFilterInvalid,
        ProtoError::EmptySubscription => Reason::ProtocolError,
        _ => Reason::Malformed,
    }
}

fn reason_v5(error: &v5::ErrorV5) -> Reason {
    match error {
        v5::ErrorV5::Common(error) => reason(error),
        v5::ErrorV5::InvalidPayloadFormat => Reason::PayloadFormatInvalid,
        v5::ErrorV5::DuplicatedProperty(_)
        | v5::ErrorV5::InvalidProperty(..)
        | v5::ErrorV5::InvalidByteProperty(..) => Reason::ProtocolError,
        _ => Reason::Malformed,
    }
}

fn qos_pkid(qos_pid: QosPid) -> (u8, u16) {
    (qos_pid.qos() as u8, qos_pid.pid().map_or(0, Pid::value))
}

fn from_v3(packet: v3::Packet) -> Result<Packet, Reason> {
    Ok(match packet {
        v3::Packet::Publish(publish) => {
            let (qos, pkid) = qos_pkid(publish.qos_pid);
            let topic: &str = &publish.topic_name;
            if topic.is_empty() {
                return Err(Reason::TopicNameInvalid);
            }
            Packet::Publish(Publish {
                dup: publish.dup,
                retain: publish.retain,
                qos,
                pkid,
                topic: topic.into(),
                payload: publish.payload,
                properties: None,
            })
        }
        v3::Packet::Puback(pid) => Packet::Puback(pid.value()),
        v3::Packet::Pubrec(pid) => Packet::Pubrec(pid.value(), Verdict::Taken),
        v3::Packet::Pubrel(pid) => Packet::Pubrel(pid.value()),
        v3::Packet::Pubcomp(pid) => Packet::Pubcomp(pid.value()),
        v3::Packet::Subscribe(subscribe) => Packet::Subscribe(Subscribe {
            pkid: subscribe.pid.value(),
            id: None,
            filters: subscribe
                .topics
                .into_iter()
                .map(|(filter, qos)| (filter.to_string(), v5::SubscriptionOptions::new(qos)))
                .collect(),
        }),
        v3::Packet::Unsubscribe(unsubscribe) => {
            let filters = unsubscribe.topics.iter().map(|filter| filter.to_string()).collect();
            Packet::Unsubscribe(unsubscribe.pid.value(), filters)
        }
        v3::Packet::Pingreq => Packet::Pingreq,
        v3::Packet::Disconnect => Packet::Disconnect(0, None),
        v3::Packet::Connect(connect) => Packet::Connect(Box::new(Connect {
            version: Version::V3,
            clean: connect.clean_session,
            keep_alive_s: connect.keep_alive,
            client: connect.client_id,
            user: connect.username,
            password: connect.password,
            will: connect.last_will.map(|will| Will {
                delay_s: 0,
                message: will_message(will.qos, will.retain, &will.topic_name, will.message, None),
            }),
            properties: v5::ConnectProperties::default(),
        })),
        _ => return Err(Reason::ProtocolError),
    })
}

fn from_v5(packet: v5::Packet) -> Result<Packet, Reason> {
    Ok(match packet {
        v5::Packet::Publish(publish) => {
            let (qos, pkid) = qos_pkid(publish.qos_pid);
            let properties = publish.properties;
            // Only servers send it.
            if properties.subscription_id.is_some() {
                return Err(Reason::ProtocolError);
            }
            Packet::Publish(Publish {
                dup: publish.dup,
                retain: publish.retain,
                qos,
                pkid,
                topic: (&*publish.topic_name).into(),
                payload: publish.payload,
                properties: (properties != v5::PublishProperties::default()).then(|| Box::new(properties)),
            })
        }
        v5::Packet::Puback(ack) => Packet::Puback(ack.pid.value()),
        v5::Packet::Pubrec(ack) => {
            let refused = ack.reason_code as u8 >= 0x80;
            Packet::Pubrec(ack.pid.value(), if refused { Verdict::Refused } else { Verdict::Taken })
        }
        v5::Packet::Pubrel(ack) => Packet::Pubrel(ack.pid.value()),
        v5::Packet::Pubcomp(ack) => Packet::Pubcomp(ack.pid.value()),
        v5::Packet::Subscribe(subscribe) => Packet::Subscribe(Subscribe {
            pkid: subscribe.pid.value(),
            id: subscribe.properties.subscription_id.map(v5::VarByteInt::value),
            filters: subscribe
                .topics
                .into_iter()
                .map(|(filter, options)| (filter.to_string(), options))
                .collect(),
        }),
        v5::Packet::Unsubscribe(unsubscribe) => {
            let filters = unsubscribe.topics.iter().map(|filter| filter.to_string()).collect();
            Packet::Unsubscribe(unsubscribe.pid.value(), filters)
        }
        v5::Packet::Pingreq => Packet::Pingreq,
        v5::Packet::Disconnect(disconnect) => {
            Packet::Disconnect(disconnect.reason_code as u8, disconnect.properties.session_expiry_interval)
        }
        v5::Packet::Connect(connect) => Packet::Connect(Box::new(Connect {
            version: Version::V5,
            clean: connect.clean_start,
            keep_alive_s: connect.keep_alive,
            client: connect.client_id,
            user: connect.username,
            password: connect.password,
            will: connect.last_will.map(|will| {
                let properties = v5::PublishProperties {
                    payload_is_utf8: will.properties.payload_is_utf8,
                    message_expiry_interval: will.properties.message_expiry_interval,
                    topic_alias: None,
                    response_topic: will.properties.response_topic.clone(),
                    correlation_data: will.properties.correlation_data.clone(),
                    user_properties: will.properties.user_properties.clone(),
                    subscription_id: None,
                    content_type: will.properties.content_type.clone(),
                };
                Will {
                    delay_s: will.properties.delay_interval.unwrap_or(0),
                    message: will_message(
                        will.qos,
                        will.retain,
                        &will.topic_name,
                        will.payload,
                        Some(properties),
                    ),
                }
            }),
            properties: connect.properties,
        })),
        _ => return Err(Reason::ProtocolError),
    })
}

fn will_message(
    qos: QoS,
    retain: bool,
    topic: &str,
    payload: Bytes,
    properties: Option<v5::PublishProperties>,
) -> Publish {
    let properties = properties.filter(|properties| *properties != v5::PublishProperties::default());
    Publish {
        dup: false,
        retain,
        qos: qos as u8,
        pkid: 0,
        topic: topic.into(),
        payload,
        properties: properties.map(Box::new),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QOS_1: &[u8] = &[0x32, 10, 0, 3, b'a', b'/', b'b', 0, 7, b'x', b'y', b'z'];

    #[test]
    fn a_packet_is_found_when_its_last_byte_is_there() {
        // Goal: every shorter beginning is "not yet", and the next packet is left alone.
        let mut two = QOS_1.to_vec();
        two.extend(QOS_1);
        for length in 0..QOS_1.len() {
            assert_eq!(frame(&two[..length], 100), Ok(None), "{length}");
        }
        let found = frame(&two, 100).unwrap().unwrap();
        assert_eq!((found.end, wanted(&two)), (QOS_1.len(), Some(QOS_1.len())));
        let Ok(Packet::Publish(publish)) = found.decode(&two, Version::V3) else { panic!("a message") };
        assert_eq!(
            (publish.qos, publish.pkid, &*publish.topic, &*publish.payload),
            (1, 7, "a/b", &b"xyz"[..])
        );
    }

    #[test]
    fn a_packet_that_is_too_large_is_refused_by_its_header() {
        // Goal: five bytes suffice, whatever follows; and a length of five bytes is none.
        assert_eq!(frame(&[0x32, 0xff, 0xff, 0xff, 0x7f], 1 << 20), Err(Reason::PacketTooLarge));
        assert_eq!(frame(&[0x32, 0xff, 0xff, 0xff, 0xff, 0x01], 1 << 20), Err(Reason::Malformed));
    }

    #[test]
    fn a_body_with_something_behind_it_is_malformed() {
        // Goal: lengths must agree; PUBREL with a byte too many in version 3, PINGREQ with a body in both.
        let spare = [0x62, 3, 0, 1, 9];
        let found = frame(&spare, 100).unwrap().unwrap();
        assert_eq!(found.decode(&spare, Version::V3).unwrap_err(), Reason::Malformed);
        let ping = [0xc0, 1, 0];
        let found = frame(&ping, 100).unwrap().unwrap();
        assert_eq!(found.decode(&ping, Version::V3).unwrap_err(), Reason::Malformed);
        assert_eq!(found.decode(&ping, Version::V5).unwrap_err(), Reason::Malformed);
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_panic(
            head in any::<u8>(),
            mut body in prop::collection::vec(any::<u8>(), 0..80),
            small in any::<bool>(),
        ) {
            // Goal: lengths inside the body that lead behind it, in every kind of packet of both versions.
            if small {
                body.iter_mut().for_each(|byte| *byte &= 0x27);
            }
            let mut bytes = vec![head, body.len() as u8];
            bytes.extend(body);
            let found = frame(&bytes, 200).unwrap().unwrap();
            let _ = found.decode(&bytes, Version::V3);
            let _ = found.decode(&bytes, Version::V5);
            let _ = found.decode_connect(&bytes);
        }
    }
}
