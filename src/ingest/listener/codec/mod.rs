//! Packets of both protocol versions in one vocabulary, over the library's codecs.
//!
//! ```text
//!  bytes ── frame ──▶ Frame ── decode ──▶ (library) ── read ──▶ Packet (packet)
//!                                                     answers ──▶ bytes
//! ```
//! What is read and written here is bytes in memory; nothing waits, nothing is kept. The library decodes bodies and checks
//! them; where a packet ends is found here, so that it is decoded once and only when it is complete. A packet that is
//! longer than the listener takes is refused by its header, so none is dropped for want of room. Acknowledgements are four
//! bytes and are written as such by who sends them: a library call for each would cost more than the rest of a message's
//! way.

mod answers;
mod packet;
mod read;
#[cfg(test)]
mod tests;

use mqtt_proto::{Error as ProtoError, Protocol, v3, v5};

pub use self::answers::{suback, unsuback, with_pkid};
pub use self::packet::{Connect, Packet, Publish, Subscribe, Verdict, Version, Will};
use super::reason::Reason;

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
                let header =
                    v3::Header::new_with(self.head, length, total).map_err(|err| read::reason(&err))?;
                read::v3(header, body)
            }
            Version::V5 => {
                let header =
                    v5::Header::new_with(self.head, length, total).map_err(|err| read::reason_v5(&err))?;
                read::v5(header, body)
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
            Err(err) => return Err(read::reason(&err)),
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
