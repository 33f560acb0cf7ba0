//! Any bytes on a listener's socket: finding packets and reading them never panics, does not depend on how the bytes
//! arrive, and what is passed on to a subscriber reads back as what was published.
//!
//! The first byte chooses how the bytes come (as they are, as the payload of WebSocket messages) and where they are
//! split; the rest is a conversation that begins with CONNECT or, to get further, as if that had been said.
//! The modules are taken in as they are: they need none of the rest of frond, so that this target builds in a minute.

#![no_main]

#[path = "../../src/ingest/listener/codec/mod.rs"]
#[allow(dead_code, unused_imports, missing_docs)]
mod codec;
#[path = "../../src/ingest/listener/delivery.rs"]
#[allow(dead_code, unused_imports, missing_docs)]
mod delivery;
#[path = "../../src/ingest/listener/queue.rs"]
#[allow(dead_code, unused_imports, missing_docs)]
mod queue;
#[path = "../../src/ingest/listener/reason.rs"]
#[allow(dead_code, unused_imports, missing_docs)]
mod reason;
#[path = "../../src/ingest/listener/ws.rs"]
#[allow(dead_code, unused_imports, missing_docs)]
mod ws;

use std::rc::Rc;

use codec::{Packet, Publish, Version};
use delivery::{Delivery, Message};
use libfuzzer_sys::fuzz_target;
use tokio::time::Instant;

/// As the listener's own default is, so that lengths around it are tried, but small.
const PACKET_BYTES_MAX: usize = 1 << 12;
const MESSAGE_BYTES_MAX: usize = 1 << 12;

fuzz_target!(|data: &[u8]| {
    let Some((&how, bytes)) = data.split_first() else { return };
    let version = if how & 1 == 0 { Version::V3 } else { Version::V5 };
    if how & 2 == 0 {
        // How a request is read must not depend on anything but its bytes.
        let _ = ws::open(bytes);
        let packets = unframed(bytes, bytes.len());
        assert_eq!(packets, unframed(bytes, usize::from(how >> 2)), "however it is split");
        talk(&packets.0, version);
    } else {
        if let Ok(Some(frame)) = codec::frame(bytes, PACKET_BYTES_MAX) {
            let _ = frame.decode_connect(bytes);
        }
        talk(bytes, version);
    }
});

/// Packets out of WebSocket frames that come in two pieces, and whether the socket was closed.
fn unframed(bytes: &[u8], at: usize) -> (Vec<u8>, bool) {
    let mut frames = ws::Frames::new(MESSAGE_BYTES_MAX);
    let (mut packets, mut answers) = (Vec::new(), Vec::new());
    let (first, second) = bytes.split_at(at.min(bytes.len()));
    let mut flow = frames.take(first, &mut packets, &mut answers);
    if flow == ws::Flow::Open {
        flow = frames.take(second, &mut packets, &mut answers);
    }
    frames.close(&mut answers);
    (packets, flow == ws::Flow::Closed)
}

fn talk(mut bytes: &[u8], version: Version) {
    loop {
        let frame = match codec::frame(bytes, PACKET_BYTES_MAX) {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                assert!(codec::wanted(bytes).is_none_or(|wanted| wanted > bytes.len()));
                return;
            }
            Err(_) => return,
        };
        assert!(frame.end <= bytes.len() && frame.end <= PACKET_BYTES_MAX);
        assert_eq!(codec::wanted(bytes), Some(frame.end));
        assert_eq!(codec::frame(&bytes[..frame.end - 1], PACKET_BYTES_MAX), Ok(None));
        let packet = frame.decode(bytes, version);
        if let Ok(Packet::Publish(publish)) = packet {
            assert!(frame.is_publish());
            assert_eq!(publish.qos == 0, publish.pkid == 0);
            pass_on(publish);
        }
        bytes = &bytes[frame.end..];
    }
}

/// What a subscriber of either version is sent for it must read back as the same message.
fn pass_on(publish: Publish) {
    // Without a topic it stands for an alias, which is resolved before it is passed on.
    if publish.topic.is_empty() {
        return;
    }
    let now = Instant::now();
    let properties = publish.properties.clone();
    let message = Rc::new(Message::of(publish, now));
    for (version, identifiers) in
        [(Version::V3, vec![]), (Version::V5, vec![7]), (Version::V5, vec![7, 268_435_455])]
    {
        let delivery = Delivery { message: Rc::clone(&message), retain: true, identifiers };
        let mut out = Vec::new();
        delivery.encode(version, 9, false, now, &mut out);
        let frame = codec::frame(&out, usize::MAX).expect("it is one").expect("it is whole");
        assert_eq!(frame.end, out.len());
        if delivery.identifiers.len() > 1 {
            // The library reads one number, as it writes one.
            continue;
        }
        if delivery.identifiers.is_empty() {
            let Ok(Packet::Publish(back)) = frame.decode(&out, version) else {
                panic!("it does not read back")
            };
            assert_eq!(
                (back.qos, back.pkid, &back.topic, &back.payload),
                (1, 9, &message.topic, &message.payload)
            );
        } else {
            // What only servers send is refused from a client, so the library is asked.
            let body = &out[out.iter().skip(1).position(|byte| byte & 0x80 == 0).expect("a length") + 2..];
            let header = mqtt_proto::v5::Header::new_with(out[0], body.len() as u32, out.len() as u32)
                .expect("a header");
            let back = mqtt_proto::PollHeader::decode_buffer(header, body, &mut 0);
            let Ok(mqtt_proto::v5::Packet::Publish(back)) = back else {
                panic!("it does not read back: {back:?}")
            };
            assert_eq!((&*back.topic_name, &back.payload), (&*message.topic, &message.payload));
            let sent = properties.as_deref().cloned().unwrap_or_default();
            assert_eq!(
                (
                    &back.properties.user_properties,
                    &back.properties.content_type,
                    &back.properties.correlation_data
                ),
                (&sent.user_properties, &sent.content_type, &sent.correlation_data)
            );
        }
    }
}
