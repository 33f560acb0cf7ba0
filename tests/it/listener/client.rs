//! A client that says exactly what a test wants, byte by byte, and waits for nothing it is not told to wait for.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What has not come within this time will not.
const PATIENCE: Duration = Duration::from_secs(60);

/// A packet: its first byte and its body.
pub type Packet = (u8, Vec<u8>);

/// How a client introduces itself.
#[derive(Debug, Clone)]
pub struct Hello<'a> {
    /// 4 or 5.
    pub version: u8,
    pub id: &'a str,
    pub clean: bool,
    pub keep_alive: u16,
    /// Seconds, version 5.
    pub expiry: Option<u32>,
    /// Topic, payload, QoS, and whether it is retained.
    pub will: Option<(&'a str, &'a str, u8, bool)>,
    /// Seconds, version 5.
    pub will_delay: u32,
}

/// The client.
pub struct Client {
    stream: TcpStream,
    version: u8,
    buffer: Vec<u8>,
}

pub fn hello(id: &str) -> Hello<'_> {
    Hello { version: 4, id, clean: true, keep_alive: 60, expiry: None, will: None, will_delay: 0 }
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text);
}

/// A whole packet.
pub fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![head];
    let mut length = body.len();
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        out.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    out.extend(body);
    out
}

/// CONNECT.
pub fn connect_packet(hello: &Hello<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, b"MQTT");
    let will = hello.will.map_or(0, |(.., qos, retain)| 0x04 | qos << 3 | u8::from(retain) << 5);
    body.extend([hello.version, u8::from(hello.clean) << 1 | will]);
    body.extend(hello.keep_alive.to_be_bytes());
    if hello.version == 5 {
        match hello.expiry {
            Some(seconds) => {
                body.extend([5, 0x11]);
                body.extend(seconds.to_be_bytes());
            }
            None => body.push(0),
        }
    }
    text(&mut body, hello.id.as_bytes());
    if let Some((topic, payload, ..)) = hello.will {
        if hello.version == 5 {
            body.extend([5, 0x18]);
            body.extend(hello.will_delay.to_be_bytes());
        }
        text(&mut body, topic.as_bytes());
        text(&mut body, payload.as_bytes());
    }
    packet(0x10, &body)
}

/// PUBLISH.
pub fn publish_packet(version: u8, flags: u8, topic: &str, pkid: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic.as_bytes());
    if flags & 0x06 != 0 {
        body.extend(pkid.to_be_bytes());
    }
    if version == 5 {
        body.push(0);
    }
    body.extend(payload);
    packet(0x30 | flags, &body)
}

// === impl Client ===

impl Client {
    /// Opens a connection and says nothing.
    pub fn dial(at: SocketAddr) -> Client {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, version: 4, buffer: Vec::new() }
    }

    /// Connects; returns the answer's body: flags, code, and what version 5 adds.
    pub fn greet(at: SocketAddr, hello: &Hello<'_>) -> (Client, Vec<u8>) {
        let mut client = Client::dial(at);
        client.version = hello.version;
        client.send(&connect_packet(hello));
        let (head, body) = client.packet();
        assert_eq!(head, 0x20, "CONNACK");
        (client, body)
    }

    /// Connects and must be let in; returns whether the session was there.
    pub fn enter(at: SocketAddr, hello: &Hello<'_>) -> (Client, bool) {
        let (client, answer) = Client::greet(at, hello);
        assert_eq!(answer[1], 0, "the client is let in");
        (client, answer[0] & 1 == 1)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn publish(&mut self, flags: u8, topic: &str, pkid: u16, payload: &str) {
        let bytes = publish_packet(self.version, flags, topic, pkid, payload.as_bytes());
        self.send(&bytes);
    }

    /// Subscribes and returns the codes.
    pub fn subscribe(&mut self, pkid: u16, filters: &[(&str, u8)]) -> Vec<u8> {
        let mut body = pkid.to_be_bytes().to_vec();
        if self.version == 5 {
            body.push(0);
        }
        for (filter, options) in filters {
            text(&mut body, filter.as_bytes());
            body.push(*options);
        }
        self.send(&packet(0x82, &body));
        let (head, body) = self.packet();
        assert_eq!((head, &body[..2]), (0x90, &pkid.to_be_bytes()[..]), "SUBACK");
        body[if self.version == 5 { 3 } else { 2 }..].to_vec()
    }

    /// The next packet.
    pub fn packet(&mut self) -> Packet {
        self.packet_within(PATIENCE).expect("a packet comes")
    }

    /// The next packet, if one comes within this time.
    pub fn packet_within(&mut self, time: Duration) -> Option<Packet> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(packet) = self.take() {
                return Some(packet);
            }
            if !self.fill(deadline)? {
                return None;
            }
        }
    }

    /// Whether the other side ends the connection; what it says before is thrown away.
    pub fn ends(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.buffer.clear();
            match self.fill(deadline) {
                None => return false,
                Some(false) => return true,
                Some(true) => {}
            }
        }
    }

    /// Expects an acknowledgement of this kind, and returns its packet identifier.
    pub fn answer(&mut self, head: u8) -> u16 {
        let (found, body) = self.packet();
        assert_eq!(found, head, "{body:?}");
        u16::from_be_bytes([body[0], body[1]])
    }

    /// Expects a message: first byte, topic, payload, packet identifier.
    pub fn message(&mut self) -> (u8, String, String, u16) {
        let (head, body) = self.packet();
        assert_eq!(head & 0xf0, 0x30, "PUBLISH, not {head:#x} {body:?}");
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
        let mut rest = &body[2 + length..];
        let mut pkid = 0;
        if head & 0x06 != 0 {
            pkid = u16::from_be_bytes([rest[0], rest[1]]);
            rest = &rest[2..];
        }
        if self.version == 5 {
            rest = &rest[1 + usize::from(rest[0])..];
        }
        (head, topic, String::from_utf8(rest.to_vec()).unwrap(), pkid)
    }

    fn take(&mut self) -> Option<Packet> {
        let (mut length, mut at) = (0, 1);
        loop {
            let byte = *self.buffer.get(at)?;
            length |= usize::from(byte & 0x7f) << (7 * (at - 1));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if self.buffer.len() < at + length {
            return None;
        }
        let rest = self.buffer.split_off(at + length);
        let packet = std::mem::replace(&mut self.buffer, rest);
        Some((packet[0], packet[at..].to_vec()))
    }

    /// Reads more; `Some(false)` at the end of the connection, `None` when the time is over.
    fn fill(&mut self, deadline: Instant) -> Option<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        self.stream.set_read_timeout(Some(left)).unwrap();
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes) {
            Ok(0) => Some(false),
            Ok(read) => {
                self.buffer.extend(&bytes[..read]);
                Some(true)
            }
            Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(_) => Some(false),
        }
    }
}
