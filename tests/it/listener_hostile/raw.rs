//! MQTT 3.1.1 by hand: packets as no proper client would send them, on a socket of our own.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A gateway that has not answered by then will not.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// A connection.
pub struct Raw {
    pub stream: TcpStream,
}

/// What the other side did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Packet(Vec<u8>),
    Closed,
}

impl Raw {
    /// Opens a connection and says nothing.
    pub async fn open(address: SocketAddr) -> std::io::Result<Raw> {
        Ok(Raw { stream: TcpStream::connect(address).await? })
    }

    /// Opens a connection and is let in.
    pub async fn enter(address: SocketAddr, client: &str) -> std::io::Result<Raw> {
        let mut raw = Raw::open(address).await?;
        raw.send(&connect(client)).await?;
        match raw.hear().await {
            Heard::Packet(packet) if packet == [0x20, 2, 0, 0] => Ok(raw),
            _ => Err(std::io::ErrorKind::ConnectionRefused.into()),
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        timeout(ANSWER_MAX, self.stream.write_all(bytes))
            .await
            .unwrap_or(Err(std::io::ErrorKind::TimedOut.into()))
    }

    /// The next packet, or the end.
    pub async fn hear(&mut self) -> Heard {
        timeout(ANSWER_MAX, self.read()).await.expect("an answer, or the end").unwrap_or(Heard::Closed)
    }

    /// Reads to the end.
    pub async fn hear_the_end(&mut self) {
        while self.hear().await != Heard::Closed {}
    }

    async fn read(&mut self) -> std::io::Result<Heard> {
        let head = self.stream.read_u8().await?;
        let (mut length, mut shift) = (0usize, 0);
        loop {
            let byte = self.stream.read_u8().await?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        let mut packet = vec![head, length.min(255) as u8];
        let at = packet.len();
        packet.resize(at + length, 0);
        self.stream.read_exact(&mut packet[at..]).await?;
        Ok(Heard::Packet(packet))
    }
}

fn framed(head: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![head];
    let mut length = body.len();
    loop {
        let more = if length > 0x7f { 0x80 } else { 0 };
        packet.push((length & 0x7f) as u8 | more);
        length >>= 7;
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("texts of tests are short");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// CONNECT with a clean session and no keep-alive.
pub fn connect(client: &str) -> Vec<u8> {
    framed(0x10, &[text("MQTT"), vec![4, 2, 0, 0], text(client)].concat())
}

/// CONNECT with a name and password.
pub fn connect_as(client: &str, user: &str, password: &str) -> Vec<u8> {
    framed(0x10, &[text("MQTT"), vec![4, 0xc2, 0, 0], text(client), text(user), text(password)].concat())
}

pub fn publish(topic: &str, qos: u8, packet: u16, payload: &[u8]) -> Vec<u8> {
    let identifier = if qos > 0 { packet.to_be_bytes().to_vec() } else { Vec::new() };
    framed(0x30 | qos << 1, &[text(topic), identifier, payload.to_vec()].concat())
}

pub fn subscribe(packet: u16, filters: &[String]) -> Vec<u8> {
    let filters = filters.iter().flat_map(|filter| [text(filter), vec![1]].concat()).collect();
    framed(0x82, &[packet.to_be_bytes().to_vec(), filters].concat())
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP, by its first byte.
pub fn about(head: u8, packet: u16) -> Vec<u8> {
    framed(head, &packet.to_be_bytes())
}
