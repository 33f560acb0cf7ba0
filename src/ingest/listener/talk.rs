//! What a client says, packet by packet, once it is let in. Nothing here waits: what would have to is handed back.

use std::sync::Arc;

use tokio::time::Instant;

use super::codec::{self, Packet, Publish, Verdict, Version, with_pkid};
use super::conn::{Conn, End};
use super::desk::{Desk, Halt, Leave, Opened};
use super::reason::Reason;
use crate::ingest::intake::{Arrival, Unnamed};

/// Topic aliases a client may have: 32 topics of 100 B are 3 KiB, and only of clients that use them.
pub const ALIASES_MAX: u16 = 32;

/// Why the reading of a buffer ends.
pub enum Outcome {
    /// The rest is the beginning of a packet.
    More,
    /// The client must have acknowledgements first.
    Paused,
    /// A message has new series: they need numbers, and then it is to be given to the desk again.
    Name(Box<(Publish, Unnamed)>),
    /// The connection ends.
    End(Parting),
}

/// How the connection ends.
#[derive(Debug, Clone, Copy)]
pub struct Parting {
    pub end: End,
    pub leave: Leave,
    /// The session's expiry, if the client has changed it.
    pub expiry_s: Option<u32>,
}

/// When something was read.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    pub arrival: Arrival,
    pub now: Instant,
}

/// The conversation of one connection.
pub struct Talk {
    pub opened: Opened,
    pub packet_bytes_max: usize,
    aliases: Vec<Option<Arc<str>>>,
}

// === impl Parting ===

impl Parting {
    /// The client has broken a rule, or is not wanted any more.
    pub fn told(reason: Reason) -> Parting {
        Parting { end: End::Told(reason), leave: Leave::Loud, expiry_s: None }
    }

    /// The connection has failed.
    pub fn gone() -> Parting {
        Parting { end: End::Gone, leave: Leave::Loud, expiry_s: None }
    }
}

// === impl Talk ===

impl Talk {
    pub fn new(opened: Opened, packet_bytes_max: usize) -> Talk {
        Talk { opened, packet_bytes_max, aliases: Vec::new() }
    }

    /// Works off the packets in a buffer. Returns how many bytes are done with, and why no more.
    pub fn work(&mut self, desk: &mut Desk, conn: &Conn, buffer: &[u8], read: Read) -> (usize, Outcome) {
        let mut at = 0;
        loop {
            let rest = &buffer[at..];
            let frame = match codec::frame(rest, self.packet_bytes_max) {
                Ok(Some(frame)) => frame,
                Ok(None) => return (at, Outcome::More),
                Err(reason) => return (at, Outcome::End(Parting::told(reason))),
            };
            if frame.is_publish() && conn.version == Version::V3 && self.is_full(desk, conn) {
                return (at, Outcome::Paused);
            }
            at += frame.end;
            let outcome = match frame.decode(rest, conn.version) {
                Ok(Packet::Publish(publish)) => self.publish(desk, conn, publish, read),
                Ok(packet) => self.other(desk, conn, packet, read.now),
                Err(reason) => Err(Outcome::End(Parting::told(reason))),
            };
            if let Err(outcome) = outcome {
                return (at, outcome);
            }
        }
    }

    fn is_full(&self, desk: &mut Desk, conn: &Conn) -> bool {
        desk.session(self.opened.key).is_some_and(|session| session.unacknowledged() >= conn.receive_max)
    }

    fn publish(
        &mut self,
        desk: &mut Desk,
        conn: &Conn,
        mut publish: Publish,
        read: Read,
    ) -> Result<(), Outcome> {
        if conn.version == Version::V5 {
            self.resolve_alias(&mut publish).map_err(|reason| Outcome::End(Parting::told(reason)))?;
            if publish.qos > 0 && self.is_full(desk, conn) {
                return Err(Outcome::End(Parting::told(Reason::ReceiveMaximum)));
            }
        }
        self.hand_over(desk, publish, read)
    }

    /// Gives a message to the desk, again if it has been given before.
    pub fn hand_over(&self, desk: &mut Desk, publish: Publish, read: Read) -> Result<(), Outcome> {
        desk.publish(self.opened.key, publish, read.arrival).map_err(|halt| match halt {
            Halt::Name(publish, unnamed) => Outcome::Name(Box::new((publish, unnamed))),
            Halt::End(reason) => Outcome::End(Parting::told(reason)),
        })
    }

    fn resolve_alias(&mut self, publish: &mut Publish) -> Result<(), Reason> {
        let alias = publish.properties.as_ref().and_then(|properties| properties.topic_alias);
        let Some(alias) = alias else {
            return if publish.topic.is_empty() { Err(Reason::ProtocolError) } else { Ok(()) };
        };
        if alias == 0 || alias > ALIASES_MAX {
            return Err(Reason::TopicAlias);
        }
        let place = usize::from(alias) - 1;
        if self.aliases.len() <= place {
            self.aliases.resize(place + 1, None);
        }
        if publish.topic.is_empty() {
            publish.topic = self.aliases[place].clone().ok_or(Reason::ProtocolError)?;
        } else {
            self.aliases[place] = Some(Arc::clone(&publish.topic));
        }
        Ok(())
    }

    fn other(&mut self, desk: &mut Desk, conn: &Conn, packet: Packet, now: Instant) -> Result<(), Outcome> {
        let key = self.opened.key;
        let told = |reason| Err(Outcome::End(Parting::told(reason)));
        match packet {
            Packet::Puback(pkid) | Packet::Pubcomp(pkid) => desk.acknowledged(key, pkid, now),
            Packet::Pubrec(pkid, Verdict::Refused) => desk.acknowledged(key, pkid, now),
            // Nothing is sent at QoS 2.
            Packet::Pubrec(pkid, Verdict::Taken) => conn.send(&with_pkid(0x62, pkid, None)),
            Packet::Pubrel(pkid) => {
                let is_known = desk.released(key, pkid);
                let reason = (!is_known && conn.version == Version::V5).then_some(Reason::IdentifierNotFound);
                conn.send(&with_pkid(0x70, pkid, reason));
            }
            Packet::Subscribe(subscribe) => {
                if let Err(reason) = desk.subscribe(key, subscribe, conn.version, now) {
                    return told(reason);
                }
            }
            Packet::Unsubscribe(pkid, filters) => desk.unsubscribe(key, pkid, &filters, conn.version, now),
            Packet::Pingreq => conn.send(&[0xd0, 0]),
            Packet::Disconnect(code, expiry_s) => {
                let was_temporary = desk.session(key).is_some_and(|session| !session.is_kept());
                if was_temporary && expiry_s.is_some_and(|expiry_s| expiry_s > 0) {
                    return told(Reason::ProtocolError);
                }
                let leave = if code == 0 { Leave::Quiet } else { Leave::Loud };
                return Err(Outcome::End(Parting { end: End::Farewell, leave, expiry_s }));
            }
            Packet::Connect(_) | Packet::Publish(_) => return told(Reason::ProtocolError),
        }
        Ok(())
    }
}
