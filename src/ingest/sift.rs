//! Gets a message out of the way that the client library cannot read.
//!
//! rumqttc gives up the connection for a packet beyond its size limit, for a topic that is not UTF-8, and for other
//! faults within a PUBLISH. A broker that still wants the acknowledgement sends the same message at the next connection,
//! first thing: without help the door would never get past it. A sift is one short connection under the same client
//! identifier that reads packets by their length alone, acknowledges the messages that the library would refuse (their
//! payload is skipped, not held), and leaves all others unacknowledged: the broker repeats those at the next proper
//! connection, where they are recognised or new as ever.
//!
//! ```text
//! CONNECT ─▶ read ─┬─ readable ─▶ left alone ──────────────────────────┐
//!             ▲    └─ unreadable, QoS 1 ─▶ PUBACK, PINGREQ ─▶ counted ─┤
//!             └────────────────────────────────────────────────────────┘
//! until every PINGREQ is answered (the broker has taken the acknowledgements), or nothing more comes
//! ```
//! The acknowledgement overtakes those of earlier messages, against MQTT-4.6.0-2; a broker that minds closes the
//! connection, and the door tries again at its usual pace. A message at QoS 0 is not repeated; the sift then finds nothing.
//! All this costs a second or two each time: a broker that can should refuse what is larger than `packet_bytes_max` itself
//! (mosquitto: `message_size_limit`).

use std::time::Duration;

use bytes::{Buf, BytesMut};
use rumqttc::mqttbytes::Error as PacketError;
use rumqttc::{Connect, ConnectReturnCode, ConnectionError, Login, Packet, PubAck, StateError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::ingest::account::SPECIMEN_BYTES_MAX;
use crate::ingest::reason::Reason;

/// Longest silence before a sift is over: the broker repeats what it has at once.
const QUIET: Duration = Duration::from_secs(1);

/// Longest sift: 256 MiB, the largest packet there is, at 2 MiB/s.
const SIFT_TIMEOUT: Duration = Duration::from_secs(128);

/// Messages sifted at a time, so that the door looks at its stop token now and then.
const SIFTED_MAX: usize = 1_000;

/// Largest part of a PUBLISH in front of its payload: type and length (5), topic (2 + 65,535), packet identifier (2).
const HEAD_BYTES_MAX: usize = 5 + 2 + 65_535 + 2;

/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;

/// A sift failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SiftError {
    /// Connection, read or write.
    #[error("connection for sifting failed")]
    Io(#[from] std::io::Error),
    /// The broker said no.
    #[error("the broker refused the connection for sifting: {0:?}")]
    Refused(ConnectReturnCode),
    /// Not MQTT, or a CONNECT that cannot be written.
    #[error("the broker's packets cannot be told apart")]
    Protocol,
    /// Something else than a CONNACK.
    #[error("the broker did not answer CONNECT")]
    NoConnAck,
    /// Took too long.
    #[error("sifting took longer than {} s", SIFT_TIMEOUT.as_secs())]
    TimedOut,
}

/// A message that was acknowledged unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sifted {
    /// Its topic as it came.
    pub topic: Vec<u8>,
    /// Why it could not be read.
    pub reason: Reason,
    /// Beginning of its payload.
    pub payload: Vec<u8>,
    /// Length of its payload.
    pub payload_bytes: usize,
}

/// Where to connect, and as whom.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub host: String,
    pub port: u16,
    pub client_id: String,
    pub login: Option<Login>,
    pub packet_bytes_max: usize,
}

/// Sifts once. Says which messages it has acknowledged; none if there were none.
///
/// Cancel-safe: dropping it closes the connection, and the broker repeats what it did not hear of.
pub(super) async fn sift(peer: &Peer) -> Result<Vec<Sifted>, SiftError> {
    timeout(SIFT_TIMEOUT, sift_patiently(peer)).await.map_err(|_| SiftError::TimedOut)?
}

/// Whether the library gave up because of one packet, which the broker will send again.
pub(super) fn is_unreadable(error: &ConnectionError) -> bool {
    matches!(
        error,
        ConnectionError::MqttState(StateError::Deserialization(
            PacketError::PayloadSizeLimitExceeded(_)
                | PacketError::TopicNotUtf8
                | PacketError::BoundaryCrossed(_)
                | PacketError::MalformedPacket
                | PacketError::PacketIdZero
                | PacketError::InvalidQoS(_)
        ))
    )
}

async fn sift_patiently(peer: &Peer) -> Result<Vec<Sifted>, SiftError> {
    let mut sieve = Sieve::connect(peer).await?;
    let (mut sifted, mut pings) = (Vec::new(), 0usize);
    while sifted.len() < SIFTED_MAX
        && let Some(found) = sieve.next().await?
    {
        match found {
            Found::Unreadable(pkid, message) => {
                // The ping behind it shows when the broker has taken it: closing the connection with data unread
                // could destroy what is still on its way.
                sieve.send(Packet::PubAck(PubAck::new(pkid))).await?;
                sieve.send(Packet::PingReq).await?;
                sifted.push(message);
                pings += 1;
            }
            Found::Other(Packet::PingResp) => pings = pings.saturating_sub(1),
            Found::Other(_) => {}
        }
        if pings == 0 && !sifted.is_empty() {
            break;
        }
    }
    sieve.send(Packet::Disconnect).await?;
    Ok(sifted)
}

struct Sieve {
    stream: TcpStream,
    incoming: BytesMut,
    packet_bytes_max: usize,
}

enum Found {
    Unreadable(u16, Sifted),
    Other(Packet),
}

/// Where the parts of a packet lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    /// First byte: type and flags.
    first: u8,
    /// Bytes up to the variable header.
    header: usize,
    /// Bytes in all.
    bytes: usize,
}

// === impl Sieve ===

impl Sieve {
    async fn connect(peer: &Peer) -> Result<Sieve, SiftError> {
        let stream = TcpStream::connect((peer.host.as_str(), peer.port)).await?;
        let incoming = BytesMut::with_capacity(READ_BYTES);
        let mut sieve = Sieve { stream, incoming, packet_bytes_max: peer.packet_bytes_max };
        let mut connect = Connect::new(&peer.client_id);
        connect.clean_session = false;
        connect.keep_alive = SIFT_TIMEOUT.as_secs() as u16;
        connect.login = peer.login.clone();
        sieve.send(Packet::Connect(connect)).await?;
        match sieve.next().await? {
            Some(Found::Other(Packet::ConnAck(ack))) if ack.code == ConnectReturnCode::Success => Ok(sieve),
            Some(Found::Other(Packet::ConnAck(ack))) => Err(SiftError::Refused(ack.code)),
            _ => Err(SiftError::NoConnAck),
        }
    }

    async fn send(&mut self, packet: Packet) -> Result<(), SiftError> {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).map_err(|_| SiftError::Protocol)?;
        Ok(self.stream.write_all(&bytes).await?)
    }

    /// The next packet, or `None` when nothing more comes.
    async fn next(&mut self) -> Result<Option<Found>, SiftError> {
        loop {
            let Some(frame) = Frame::find(&self.incoming)? else {
                if !self.read().await? {
                    return Ok(None);
                }
                continue;
            };
            // rumqttc measures what follows the fixed header.
            let is_large = frame.bytes - frame.header > self.packet_bytes_max;
            let wanted =
                if is_large { frame.bytes.min(HEAD_BYTES_MAX + SPECIMEN_BYTES_MAX) } else { frame.bytes };
            while self.incoming.len() < wanted {
                if !self.read().await? {
                    return Ok(None);
                }
            }
            let unreadable = frame.unreadable(&self.incoming[..wanted], is_large);
            if is_large {
                self.skip(frame.bytes).await?;
                match unreadable {
                    Some(found) => return Ok(Some(found)),
                    // At QoS 0: nobody waits for an answer.
                    None => continue,
                }
            }
            let mut packet = self.incoming.split_to(frame.bytes);
            return match Packet::read(&mut packet, self.packet_bytes_max) {
                Ok(packet) => Ok(Some(Found::Other(packet))),
                Err(_) => unreadable.map(Some).ok_or(SiftError::Protocol),
            };
        }
    }

    /// Reads more, and says whether there was more.
    async fn read(&mut self) -> Result<bool, SiftError> {
        self.incoming.reserve(READ_BYTES);
        match timeout(QUIET, self.stream.read_buf(&mut self.incoming)).await {
            Ok(read) => Ok(read? > 0),
            Err(_) => Ok(false),
        }
    }

    /// Throws away the next `bytes`.
    async fn skip(&mut self, mut bytes: usize) -> Result<(), SiftError> {
        loop {
            let here = bytes.min(self.incoming.len());
            self.incoming.advance(here);
            bytes -= here;
            if bytes == 0 {
                return Ok(());
            }
            if !self.read().await? {
                return Err(SiftError::Io(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

// === impl Frame ===

impl Frame {
    /// The packet that begins with these bytes, once there are enough of them to say.
    fn find(bytes: &[u8]) -> Result<Option<Frame>, SiftError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let mut length = 0;
        for (at, byte) in rest.iter().take(4).enumerate() {
            length |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                let header = at + 2;
                return Ok(Some(Frame { first, header, bytes: header + length }));
            }
        }
        if rest.len() >= 4 { Err(SiftError::Protocol) } else { Ok(None) }
    }

    /// A PUBLISH at QoS 1 whose topic and packet identifier can be told, as one that is acknowledged unread.
    fn unreadable(&self, start: &[u8], is_large: bool) -> Option<Found> {
        if self.first >> 4 != 3 || (self.first >> 1) & 3 != 1 {
            return None;
        }
        let (length, rest) = start.get(self.header..)?.split_first_chunk()?;
        let (topic, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        let (pkid, payload) = rest.split_first_chunk()?;
        let pkid = u16::from_be_bytes(*pkid);
        let before = self.header + 2 + topic.len() + 2;
        let reason = match (is_large, std::str::from_utf8(topic)) {
            (true, _) => Reason::TooLarge,
            (false, Err(_)) => Reason::InvalidTopic,
            (false, Ok(_)) => Reason::Malformed,
        };
        let message = Sifted {
            topic: topic.to_vec(),
            reason,
            payload: payload[..payload.len().min(SPECIMEN_BYTES_MAX)].to_vec(),
            payload_bytes: self.bytes.saturating_sub(before),
        };
        (pkid != 0).then_some(Found::Unreadable(pkid, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_once_its_length_is_there() {
        // Goal: lengths of one to four bytes, and one that is none.
        assert_eq!(Frame::find(&[]).unwrap(), None);
        assert_eq!(Frame::find(&[0x32]).unwrap(), None);
        assert_eq!(Frame::find(&[0x32, 5]).unwrap(), Some(Frame { first: 0x32, header: 2, bytes: 7 }));
        assert_eq!(Frame::find(&[0x32, 0x80]).unwrap(), None);
        let largest = Frame { first: 0x32, header: 5, bytes: 5 + 268_435_455 };
        assert_eq!(Frame::find(&[0x32, 0xff, 0xff, 0xff, 0x7f]).unwrap(), Some(largest));
        assert!(Frame::find(&[0x32, 0xff, 0xff, 0xff, 0xff]).is_err());
    }

    #[test]
    fn what_can_be_acknowledged_is_told_from_what_cannot() {
        // Goal: QoS 1 with an identifier, and nothing else.
        let found = |bytes: &[u8], is_large| {
            let frame = Frame::find(bytes).unwrap().expect("a frame");
            match frame.unreadable(bytes, is_large) {
                Some(Found::Unreadable(pkid, message)) => Some((pkid, message.reason, message.payload)),
                _ => None,
            }
        };
        let utf8 = [0x32, 7, 0, 2, b'a', 0xff, 0, 9, b'x'];
        assert_eq!(found(&utf8, false), Some((9, Reason::InvalidTopic, b"x".to_vec())));
        assert_eq!(found(&utf8, true), Some((9, Reason::TooLarge, b"x".to_vec())));
        assert_eq!(found(&[0x30, 5, 0, 1, b'a', b'x', b'y'], true), None, "QoS 0");
        assert_eq!(found(&[0x32, 5, 0, 1, b'a', 0, 0], true), None, "identifier 0");
        assert_eq!(found(&[0x32, 5, 0, 9, b'a', 0, 1], false), None, "topic beyond the packet");
    }
}
