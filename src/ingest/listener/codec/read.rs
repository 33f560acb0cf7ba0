//! From the library's packets to ours, and from its errors to MQTT 5's reasons. Pure: bytes in, a packet or a reason out.
//!
//! What only servers send is an error here, as is a body with something behind it.

use bytes::Bytes;
use mqtt_proto::{Error as ProtoError, Pid, PollHeader as _, QoS, QosPid, v3, v5};

use super::super::reason::Reason;
use super::packet::{Connect, Packet, Publish, Subscribe, Verdict, Version, Will};

/// Reads a body of MQTT 3.1.1.
pub(super) fn v3(header: v3::Header, body: &[u8]) -> Result<Packet, Reason> {
    from_v3(open(header, body)?)
}

/// Reads a body of MQTT 5.
pub(super) fn v5(header: v5::Header, body: &[u8]) -> Result<Packet, Reason> {
    from_v5(open_v5(header, body)?)
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

pub(super) fn reason(error: &ProtoError) -> Reason {
    match error {
        ProtoError::InvalidTopicName(_) => Reason::TopicNameInvalid,
        ProtoError::InvalidTopicFilter(_) => Reason::TopicFilterInvalid,
        ProtoError::EmptySubscription => Reason::ProtocolError,
        _ => Reason::Malformed,
    }
}

pub(super) fn reason_v5(error: &v5::ErrorV5) -> Reason {
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
