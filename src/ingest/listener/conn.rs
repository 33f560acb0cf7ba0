//! One connection as the desk sees it: something to write to and to end. Reading is its own task's business.
//!
//! Bytes go out at once if the socket takes them; what it does not take waits here, and its task writes the rest. A
//! client that does not read is not read from either: at most [`OUT_FULL`] and what one read is answered with waits. TLS and
//! WebSocket frames, where there are any, are put on and taken off here. Nothing of it outlives the connection.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::time::Duration;

use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::codec::Version;
use super::reason::Reason;
use super::ws::{self, Flow, Frames};

/// Bytes that may wait before nothing more is read from the client: acknowledgements of 16,384 messages.
pub const OUT_FULL: usize = 64 << 10;

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client is told a reason.
    Told(Reason),
    /// There is nobody to tell: the socket has failed or was closed.
    Gone,
    /// The client has said farewell.
    Farewell,
}

/// The writing half.
pub struct Conn {
    writer: OwnedWriteHalf,
    tls: Option<RefCell<rustls::ServerConnection>>,
    frames: Option<RefCell<Frames>>,
    out: RefCell<Vec<u8>>,
    /// What was read is being worked off: all answers to it go out in one write.
    gathers: Cell<bool>,
    end: Cell<Option<End>>,
    /// What its task waits for beside the socket: room to read, something to write, its end.
    pub wake: Notify,
    pub version: Version,
    /// Largest packet that the client takes.
    pub packet_max: usize,
    /// Messages that the client may have unacknowledged.
    pub receive_max: usize,
    /// When it was last heard; the keep-alive is judged by it, without a timer.
    pub heard: Cell<Instant>,
    /// After so long a silence it is ended; `None` for never.
    pub patience: Option<Duration>,
}

// === impl Conn ===

impl Conn {
    pub fn new(writer: OwnedWriteHalf, tls: Option<rustls::ServerConnection>) -> Conn {
        Conn {
            writer,
            tls: tls.map(RefCell::new),
            frames: None,
            out: RefCell::new(Vec::new()),
            gathers: Cell::new(false),
            end: Cell::new(None),
            wake: Notify::new(),
            version: Version::V3,
            packet_max: usize::MAX,
            receive_max: usize::MAX,
            heard: Cell::new(Instant::now()),
            patience: None,
        }
    }

    /// From now on everything is in WebSocket messages.
    pub fn set_frames(&mut self, frames: Frames) {
        self.frames = Some(RefCell::new(frames));
    }

    /// Ends the connection; the first reason counts.
    pub fn end(&self, end: End) {
        if self.end.get().is_none() {
            self.end.set(Some(end));
            self.wake.notify_one();
        }
    }

    /// Whether and why it ends.
    pub fn ending(&self) -> Option<End> {
        self.end.get()
    }

    /// Writes whole packets, or keeps them until the socket takes them.
    pub fn send(&self, bytes: &[u8]) {
        let mut out = self.out.borrow_mut();
        if self.frames.is_some() && !bytes.is_empty() {
            ws::begin(bytes.len(), &mut out);
        }
        if self.gathers.get() {
            return out.extend_from_slice(bytes);
        }
        let mut rest = bytes;
        if out.is_empty() && self.tls.is_none() {
            match self.writer.try_write(bytes) {
                Ok(written) => rest = &bytes[written..],
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return self.end(End::Gone),
            }
        }
        out.extend_from_slice(rest);
        drop(out);
        if self.tls.is_some() || self.frames.is_some() {
            self.flush();
            // Here and not in `flush`: its task, which flushes when it is woken, would wake itself for ever.
            if self.has_out() {
                self.wake.notify_one();
            }
        } else if !rest.is_empty() {
            self.wake.notify_one();
        }
    }

    /// From now on what is sent is kept, until [`Conn::release`]: a client that asks a thousand things in one breath gets
    /// its answers in one write.
    pub fn gather(&self) {
        self.gathers.set(true);
    }

    /// Writes what was kept.
    pub fn release(&self) {
        self.gathers.set(false);
        if !self.out.borrow().is_empty() {
            self.flush();
            // There may be more to send than was kept.
            self.wake.notify_one();
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn flush(&self) {
        let mut out = self.out.borrow_mut();
        let written = match &self.tls {
            Some(tls) => self.flush_tls(&mut tls.borrow_mut(), &mut out),
            None => self.flush_plain(&mut out),
        };
        if out.is_empty() {
            *out = Vec::new();
        }
        if written.is_err() {
            self.end(End::Gone);
        }
    }

    fn flush_plain(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut done = 0;
        while done < out.len() {
            match self.writer.try_write(&out[done..]) {
                Ok(written) => done += written,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(err) => return Err(err),
            }
        }
        out.drain(..done);
        Ok(())
    }

    /// The library holds one write's worth at a time; the rest stays here, where it is counted.
    fn flush_tls(&self, tls: &mut rustls::ServerConnection, out: &mut Vec<u8>) -> io::Result<()> {
        self.push(tls)?;
        while !out.is_empty() && !tls.wants_write() {
            let taken = tls.writer().write(out)?;
            out.drain(..taken);
            self.push(tls)?;
        }
        Ok(())
    }

    /// Whether something waits for the socket.
    pub fn has_out(&self) -> bool {
        // What is kept for one write waits for nobody.
        !self.gathers.get() && self.is_held_by_socket()
    }

    fn is_held_by_socket(&self) -> bool {
        !self.out.borrow().is_empty() || self.tls.as_ref().is_some_and(|tls| tls.borrow().wants_write())
    }

    /// Whether so much waits that the client must read first.
    pub fn is_clogged(&self) -> bool {
        self.out.borrow().len() >= OUT_FULL
    }

    /// Waits until the socket may take something.
    ///
    /// Cancel-safe: a wait for readiness.
    pub async fn writable(&self) {
        if self.writer.writable().await.is_err() {
            self.end(End::Gone);
        }
    }

    /// Takes TLS and WebSocket frames off what came by the socket. Without either, `bytes` is what was sent.
    pub fn peel(&self, bytes: &[u8], plain: &mut Vec<u8>) -> io::Result<Peeled> {
        match (&self.tls, &self.frames) {
            (None, None) => return Ok(Peeled::AsIs),
            (Some(tls), None) => self.decrypt(&mut tls.borrow_mut(), bytes, plain)?,
            (None, Some(_)) => self.unframe(bytes, plain),
            (Some(tls), Some(_)) => {
                let mut frames = Vec::new();
                self.decrypt(&mut tls.borrow_mut(), bytes, &mut frames)?;
                self.unframe(&frames, plain);
            }
        }
        Ok(Peeled::Into)
    }

    /// What is in WebSocket messages. One that ends takes the connection with it, after what came before that.
    fn unframe(&self, bytes: &[u8], packets: &mut Vec<u8>) {
        let Some(frames) = &self.frames else { return };
        let flow = frames.borrow_mut().take(bytes, packets, &mut self.out.borrow_mut());
        if !self.gathers.get() && !self.out.borrow().is_empty() {
            self.flush();
        }
        if flow == Flow::Closed {
            self.end(End::Gone);
        }
    }

    fn decrypt(
        &self,
        tls: &mut rustls::ServerConnection,
        bytes: &[u8],
        plain: &mut Vec<u8>,
    ) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if tls.read_tls(&mut rest)? == 0 {
                break;
            }
            let state = tls.process_new_packets().map_err(io::Error::other);
            // An alert tells the client why; so it goes out before the error does.
            let pushed = self.push(tls);
            let state = state?;
            pushed?;
            let at = plain.len();
            plain.resize(at + state.plaintext_bytes_to_read(), 0);
            if state.plaintext_bytes_to_read() > 0 {
                tls.reader().read_exact(&mut plain[at..])?;
            }
        }
        Ok(())
    }

    /// The client's certificate, as far as there is TLS and it has shown one.
    pub fn certificate(&self) -> Option<rustls::pki_types::CertificateDer<'static>> {
        let tls = self.tls.as_ref()?.borrow();
        tls.peer_certificates()?.first().cloned().map(rustls::pki_types::CertificateDer::into_owned)
    }

    /// Says farewell on the levels below MQTT.
    pub fn close(&self) {
        if let Some(frames) = &self.frames {
            frames.borrow_mut().close(&mut self.out.borrow_mut());
            self.flush();
        }
        if let Some(tls) = &self.tls {
            let mut tls = tls.borrow_mut();
            tls.send_close_notify();
            let _ = self.push(&mut tls);
        }
    }

    fn push(&self, tls: &mut rustls::ServerConnection) -> io::Result<()> {
        while tls.wants_write() {
            match tls.write_tls(&mut Socket(&self.writer)) {
                Ok(_) => {}
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }
}

/// Where the readable bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peeled {
    /// What came is what was sent.
    AsIs,
    /// In the buffer given.
    Into,
}

struct Socket<'a>(&'a OwnedWriteHalf);

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
