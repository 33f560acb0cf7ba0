//! One connection, from its acceptance to its end. The task of this file reads; writing is [`super::conn`]'s.
//!
//! ```text
//!  accepted ─▶ (TLS, WebSocket) ─▶ CONNECT ─▶ let in? ─▶ seated ─▶ talking ─▶ left
//!      └───────── all of it within CONNECT_WITHIN ──┘      │ ▲
//!                                          no room, clogged│ │room, written, acknowledged
//!                                                          └─┘ (nothing is read meanwhile: TCP holds the client up)
//! ```
//! An idle connection holds no buffer: the one that is read into is shared by all of the thread, and only the beginning
//! of an incomplete packet is kept, at most `packet_bytes_max`. Nothing of it outlives the process; nothing is dropped, a
//! client that may not go on is not read from.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::admission::admit;
use super::codec::{self, Version};
use super::conn::{Conn, End, Peeled};
use super::reason::Reason;
use super::site::{Port, Site};
use super::talk::{Outcome, Parting, Read, Talk};
use crate::ingest::account::add;

/// From the connection to the end of its CONNECT: a handshake over a bad link, and a login that waits for its turn.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Read at a time: a thousand messages. One buffer for all connections.
pub const READ_BYTES: usize = 64 << 10;
/// A client that has been told why is waited for so long to read it.
const PARTING_WITHIN: Duration = Duration::from_secs(1);
/// What it may still send meanwhile: what was under way to us, and no flood.
const PARTING_BYTES_MAX: usize = 1 << 20;
const PARTING_PIECE: usize = 4 << 10;

/// The reading half.
pub struct Reader {
    half: OwnedReadHalf,
    /// The beginning of a packet, or what may not be worked off yet.
    pub rest: Vec<u8>,
}

/// Serves a connection to its end.
pub async fn serve(site: Rc<Site>, port: Rc<Port>, stream: TcpStream, peer: SocketAddr) {
    // Acknowledgements are small, and somebody waits for them.
    let _ = stream.set_nodelay(true);
    let tls = match &port.tls {
        None => None,
        Some(current) => {
            let config = current.borrow().clone();
            match config.map(rustls::ServerConnection::new) {
                Some(Ok(tls)) => Some(tls),
                Some(Err(_)) | None => return,
            }
        }
    };
    let (half, writer) = stream.into_split();
    let mut reader = Reader { half, rest: Vec::new() };
    let place = site.half_open();
    let admission = timeout(CONNECT_WITHIN, admit(&site, &port, &mut reader, Conn::new(writer, tls), peer));
    let seated = tokio::select! {
        biased;
        seated = admission => seated.ok().flatten(),
        () = place.evicted() => None,
    };
    drop(place);
    let Some((conn, mut talk)) = seated else {
        add(&site.counters.unseated, 1);
        return;
    };
    let parting = converse(&site, &mut reader, &conn, &mut talk).await;
    debug!(%peer, end = ?parting.end, "client has left");
    site.desk.borrow_mut().lost(talk.opened, parting.leave, parting.expiry_s, Instant::now());
    site.pass_on();
    add(&site.counters.closed, 1);
    if let End::Told(reason) = parting.end {
        add(&site.counters.ended[super::site::ended_as(reason)], 1);
        if conn.version == Version::V5 {
            conn.send(&[0xe0, 2, reason as u8, 0]);
        }
    }
    conn.flush();
    conn.close();
    let written = async {
        while conn.has_out() && conn.ending() != Some(End::Gone) {
            conn.writable().await;
            conn.flush();
        }
    };
    let _ = timeout(PARTING_WITHIN, written).await;
    // The last to hold it: nothing more is written.
    drop(conn);
    if let End::Told(_) = parting.end {
        let _ = timeout(PARTING_WITHIN, hear_out(&mut reader.half)).await;
    }
}

/// Reads what a client still sends that has been told to go. A socket that is closed with something unread in it is reset,
/// and the reset would overtake what the client was told.
async fn hear_out(half: &mut OwnedReadHalf) {
    let (mut scrap, mut left) = (Vec::with_capacity(PARTING_PIECE), PARTING_BYTES_MAX);
    while let Ok(read @ 1..) = half.read_buf(&mut scrap).await {
        scrap.clear();
        left = left.saturating_sub(read);
        if left == 0 {
            return;
        }
    }
}

/// Talks until the connection ends.
async fn converse(site: &Rc<Site>, reader: &mut Reader, conn: &Rc<Conn>, talk: &mut Talk) -> Parting {
    let mut is_paused = false;
    loop {
        match conn.ending() {
            Some(End::Told(reason)) => return Parting::told(reason),
            Some(End::Gone | End::Farewell) => return Parting::gone(),
            None => {}
        }
        let may_read = !is_paused && !conn.is_clogged() && site.may_read();
        // Packets may have come together with CONNECT, or wait since the pause.
        if may_read && reader.has_packet(talk.packet_bytes_max) {
            match reader.work_rest(site, conn, talk).await {
                Ok(paused) => is_paused = paused,
                Err(parting) => return parting,
            }
            continue;
        }
        tokio::select! {
            biased;
            () = conn.wake.notified() => {
                conn.flush();
                is_paused = false;
                site.desk.borrow_mut().pump(talk.opened.key, Instant::now());
            }
            () = conn.writable(), if conn.has_out() => {
                conn.flush();
                if !conn.has_out() {
                    let now = Instant::now();
                    site.desk.borrow_mut().pump(talk.opened.key, now);
                    site.desk.borrow_mut().resume_deliveries(now);
                }
            }
            () = site.room.notified(), if !site.may_read() => {}
            readable = reader.half.readable(), if may_read => {
                if readable.is_err() {
                    return Parting::gone();
                }
                match reader.read(site, conn, talk).await {
                    Ok(paused) => is_paused = paused,
                    Err(parting) => return parting,
                }
                // A client that sends without end must let the others have their turn.
                tokio::task::yield_now().await;
            }
        }
    }
}

// === impl Reader ===

impl Reader {
    /// Reads what there is before the client is let in.
    ///
    /// Cancel-safe: the connection ends when this is dropped.
    pub async fn read_connect(&mut self, conn: &Conn) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(2 << 10);
        if self.half.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match conn.peel(&bytes, &mut self.rest)? {
            Peeled::AsIs => self.rest.extend_from_slice(&bytes),
            Peeled::Into => {}
        }
        Ok(())
    }

    fn has_packet(&self, packet_bytes_max: usize) -> bool {
        !self.rest.is_empty() && !matches!(codec::frame(&self.rest, packet_bytes_max), Ok(None))
    }

    /// Reads once and works it off. Returns whether the client must be paused.
    async fn read(&mut self, site: &Rc<Site>, conn: &Conn, talk: &mut Talk) -> Result<bool, Parting> {
        let mut buffer = site.take_buffer();
        // The socket is readable; if it is not after all, there is another time.
        let read = match self.half.read_buf(&mut buffer).now_or_never() {
            None => Ok(true),
            Some(Ok(0)) | Some(Err(_)) => Err(Parting::gone()),
            Some(Ok(_)) => Ok(false),
        };
        let outcome = match read {
            Ok(false) => self.receive(site, conn, talk, &mut buffer).await,
            outcome => outcome.map(|_| false),
        };
        site.give_back(buffer);
        outcome
    }

    /// Puts what was read behind what was left, and works it off.
    async fn receive(
        &mut self,
        site: &Rc<Site>,
        conn: &Conn,
        talk: &mut Talk,
        buffer: &mut Vec<u8>,
    ) -> Result<bool, Parting> {
        let mut plain = Vec::new();
        let bytes = match conn.peel(buffer, &mut plain) {
            Ok(Peeled::AsIs) => &*buffer,
            Ok(Peeled::Into) => &plain,
            Err(_) => return Err(Parting::gone()),
        };
        if self.rest.is_empty() {
            let (done, paused) = work(site, conn, talk, bytes).await?;
            self.rest.extend_from_slice(&bytes[done..]);
            return Ok(paused);
        }
        if self.rest.capacity() == self.rest.len()
            && let Some(wanted) = codec::wanted(&self.rest)
        {
            let wanted = wanted.min(talk.packet_bytes_max).max(bytes.len() + self.rest.len());
            self.rest.reserve_exact(wanted - self.rest.len());
        }
        self.rest.extend_from_slice(bytes);
        self.work_rest(site, conn, talk).await
    }

    async fn work_rest(&mut self, site: &Rc<Site>, conn: &Conn, talk: &mut Talk) -> Result<bool, Parting> {
        let rest = std::mem::take(&mut self.rest);
        let (done, paused) = work(site, conn, talk, &rest).await?;
        self.rest = match done {
            0 => rest,
            done => rest[done..].to_vec(),
        };
        Ok(paused)
    }
}

/// Works packets off, waiting for the numbers of new series. Returns how many bytes are done with, and whether the
/// client must be paused.
async fn work(site: &Rc<Site>, conn: &Conn, talk: &mut Talk, bytes: &[u8]) -> Result<(usize, bool), Parting> {
    conn.gather();
    let outcome = work_gathering(site, conn, talk, bytes).await;
    conn.release();
    outcome
}

async fn work_gathering(
    site: &Rc<Site>,
    conn: &Conn,
    talk: &mut Talk,
    bytes: &[u8],
) -> Result<(usize, bool), Parting> {
    let read = Read { arrival: site.desk.borrow().arrival(), now: Instant::now() };
    conn.heard.set(read.now);
    let (mut at, mut outcome) = talk.work(&mut site.desk.borrow_mut(), conn, bytes, read);
    while let Outcome::Name(held) = outcome {
        let (publish, unnamed) = *held;
        site.name(&unnamed).await.map_err(|_| Parting::told(Reason::ServerUnavailable))?;
        if conn.ending().is_some() {
            return Err(Parting::gone());
        }
        outcome = match talk.hand_over(&mut site.desk.borrow_mut(), publish, read) {
            Ok(()) => Outcome::More,
            Err(outcome) => outcome,
        };
        if matches!(outcome, Outcome::More) {
            // The rest of the buffer is still to be looked at.
            let (done, next) = talk.work(&mut site.desk.borrow_mut(), conn, &bytes[at..], read);
            at += done;
            outcome = next;
        }
    }
    site.desk.borrow_mut().settle_now(talk.opened.key);
    site.pass_on();
    match outcome {
        Outcome::Paused => Ok((at, true)),
        Outcome::End(parting) => Err(parting),
        Outcome::More | Outcome::Name(_) => Ok((at, false)),
    }
}
