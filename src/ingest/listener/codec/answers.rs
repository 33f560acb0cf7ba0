//! Answers as bytes: those that are more than four of them and less than a library's call.

use mqtt_proto::{Pid, v3, v5};

use super::super::delivery::put_length;
use super::super::reason::Reason;
use super::Version;

/// SUBACK. The library's codec for version 3 writes another byte for a refusal than the standard has.
pub fn suback(version: Version, pkid: u16, codes: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    let mut packet = vec![0x90];
    put_length(2 + properties.len() + codes.len(), &mut packet);
    packet.extend_from_slice(&pkid.to_be_bytes());
    packet.extend_from_slice(properties);
    packet.extend_from_slice(codes);
    packet
}

/// UNSUBACK; version 3 has no codes.
pub fn unsuback(version: Version, pkid: u16, codes: &[u8]) -> Vec<u8> {
    let encoded = match version {
        Version::V3 => v3::Packet::Unsuback(pid(pkid)).encode(),
        Version::V5 => {
            let code = |code: &u8| {
                v5::UnsubscribeReasonCode::from_u8(*code)
                    .unwrap_or(v5::UnsubscribeReasonCode::UnspecifiedError)
            };
            v5::Packet::Unsuback(v5::Unsuback::new(pid(pkid), codes.iter().map(code).collect())).encode()
        }
    };
    encoded.map(|packet| packet.as_ref().to_vec()).unwrap_or_default()
}

fn pid(pkid: u16) -> Pid {
    Pid::try_from(pkid).expect("the codec refuses packets without one")
}

/// A packet that is a packet identifier and, in version 5, a reason.
pub fn with_pkid(head: u8, pkid: u16, reason: Option<Reason>) -> Vec<u8> {
    let [high, low] = pkid.to_be_bytes();
    match reason {
        None => vec![head, 2, high, low],
        Some(reason) => vec![head, 3, high, low, reason as u8],
    }
}
