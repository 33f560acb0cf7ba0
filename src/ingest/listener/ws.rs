//! MQTT in WebSocket messages, for panels in a browser: the request that opens one, and frames as bytes.
//!
//! ```text
//!  GET, Upgrade ── open ──▶ 101 ── frames ⇄ packets ──▶ Close (from either side, or a broken rule)
//!        └──▶ More, Refused (4xx, closed)
//! ```
//! For the layer between TLS and MQTT (MQTT 5, 6; RFC 6455). Bytes go in and out in memory: reading and writing sockets is
//! [`super::conn`]'s, which owns a [`Frames`] for each such connection. The library has the frames: masks, fragments,
//! pings, closing. The request is ours, a few headers.
//! Packets may span messages, and messages packets. Nothing is kept beyond an incomplete message; nothing outlives the
//! connection.
//! Bounds: a request has [`REQUEST_BYTES_MAX`], a message as much as the largest packet; beyond, and after text or a broken
//! frame, the connection is closed with the reason the RFC has for it.

#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};

use tungstenite::Message;
use tungstenite::error::{CapacityError, Error};
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, FrameHeader, Utf8Bytes};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

/// Longest request: browsers send some 500 bytes, and cookies.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// Most headers in it.
const HEADERS_MAX: usize = 64;
/// What the library reads at a time: of a connection that idles, all the memory it takes.
const READ_BYTES: usize = 1 << 10;
/// What every server puts behind a key (RFC 6455, 1.3).
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
const TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
const UPGRADE_REQUIRED: &[u8] =
    b"HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
      Sec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n";

/// What a connection's first bytes come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// The request is not complete.
    More,
    /// It is a WebSocket for MQTT.
    Accepted {
        /// Bytes of the request; frames may follow.
        used: usize,
        /// What the client is to be sent.
        answer: Vec<u8>,
    },
    /// It is not; the connection is closed after this.
    Refused(&'static [u8]),
}

/// Whether a WebSocket goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Open,
    /// It has ended: what is to be said about it is among the answers.
    Closed,
}

/// Reads the request that opens a WebSocket.
pub fn open(bytes: &[u8]) -> Opening {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(used)) => match judge(&request) {
            Ok(answer) => Opening::Accepted { used, answer },
            Err(answer) => Opening::Refused(answer),
        },
        Ok(httparse::Status::Partial) if bytes.len() < REQUEST_BYTES_MAX => Opening::More,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => Opening::Refused(TOO_LARGE),
        Err(_) => Opening::Refused(BAD_REQUEST),
    }
}

fn judge(request: &httparse::Request<'_, '_>) -> Result<Vec<u8>, &'static [u8]> {
    let values = |name: &'static str| {
        let named = request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.filter_map(|header| std::str::from_utf8(header.value).ok())
    };
    let has = |name, token: &str| {
        values(name).flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    if request.method != Some("GET") || request.version != Some(1) {
        return Err(BAD_REQUEST);
    }
    if !has("Upgrade", "websocket") || !has("Connection", "upgrade") || !has("Sec-WebSocket-Version", "13") {
        return Err(UPGRADE_REQUIRED);
    }
    let key = values("Sec-WebSocket-Key").next().map(str::trim).ok_or(BAD_REQUEST)?;
    let nonce = data_encoding::BASE64.decode(key.as_bytes()).map_err(|_| BAD_REQUEST)?;
    // A client that does not ask for MQTT does not expect it.
    if nonce.len() != 16 || !has("Sec-WebSocket-Protocol", "mqtt") {
        return Err(BAD_REQUEST);
    }
    let digest = ring::digest::digest(
        &ring::digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}{KEY_SUFFIX}").as_bytes(),
    );
    let accept = data_encoding::BASE64.encode(digest.as_ref());
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    )
    .into_bytes())
}

/// The frames of one connection.
pub struct Frames(Box<WebSocketContext>);

// === impl Frames ===

impl Frames {
    /// An open WebSocket whose messages may have so many bytes.
    pub fn new(message_bytes_max: usize) -> Frames {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        Frames(Box::new(WebSocketContext::new(Role::Server, Some(config))))
    }

    /// Takes bytes from the client: what packets are in them goes to `packets`, what frames answer them to `answers`.
    pub fn take(&mut self, bytes: &[u8], packets: &mut Vec<u8>, answers: &mut Vec<u8>) -> Flow {
        let mut wire = Wire { bytes, answers };
        loop {
            match self.0.read(&mut wire) {
                Ok(Message::Binary(part)) => packets.extend_from_slice(&part),
                // Pings are answered, and a farewell is returned, with the next read.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => {}
                Ok(Message::Text(_) | Message::Frame(_)) => {
                    return self.fail(CloseCode::Unsupported, wire.answers);
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Flow::Open,
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return Flow::Closed,
                Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => {
                    return self.fail(CloseCode::Size, wire.answers);
                }
                Err(Error::Utf8(_)) => return self.fail(CloseCode::Invalid, wire.answers),
                Err(_) => return self.fail(CloseCode::Protocol, wire.answers),
            }
        }
    }

    /// Says farewell, unless that has been said.
    pub fn close(&mut self, answers: &mut Vec<u8>) {
        self.fail(CloseCode::Normal, answers);
    }

    fn fail(&mut self, code: CloseCode, answers: &mut Vec<u8>) -> Flow {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static("") };
        // It fails only when a farewell is on its way already.
        let _ = self.0.close(&mut Wire { bytes: &[], answers }, Some(frame));
        Flow::Closed
    }
}

/// Begins a frame: as many bytes of packets follow.
pub fn begin(length: usize, out: &mut Vec<u8>) {
    let header = FrameHeader { opcode: OpCode::Data(Data::Binary), ..FrameHeader::default() };
    header.format(length as u64, out).expect("memory takes what is written to it");
}

/// What the library takes for a socket: bytes that are there, and room for answers.
struct Wire<'a> {
    bytes: &'a [u8],
    answers: &'a mut Vec<u8>,
}

impl Read for Wire<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.bytes.read(into)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.answers.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
