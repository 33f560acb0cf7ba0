//! W1 as MQTT: 200 devices with five series each, one reading a message, some 40 bytes of JSON, QoS 1.
//!
//! Packets are put together here, not by a client library: what the senders cost must not blur what is measured. Each
//! connection carries ten devices. Readings are sent on a schedule and stamped with the time they were due, so that a
//! system that falls behind is not excused (no coordinated omission); or without pause, as fast as they are taken.

use std::cell::Cell;
use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use frond::platform::clock;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

pub const DEVICES: usize = 200;
pub const SERIES_PER_DEVICE: usize = 5;
pub const CONNECTIONS: usize = 20;
/// Messages of one connection that the broker has not acknowledged.
const WINDOW: usize = 100;

/// How fast.
#[derive(Clone, Copy, PartialEq)]
pub enum Pace {
    /// Every series once a second, evenly spread.
    W1,
    /// As fast as the receiver takes them: at most so many more sent than it has.
    Saturated { ahead_max: u64 },
}

/// Whether senders ask that their sessions are kept.
#[derive(Clone, Copy, PartialEq)]
pub enum Session {
    Clean,
    Kept,
}

/// What senders and whoever watches them share; they run on one thread.
#[derive(Default)]
pub struct Progress {
    /// Messages sent.
    pub sent: Cell<u64>,
    /// Messages the receiver has, as far as is known.
    pub received: Cell<u64>,
    /// Set to end the sending.
    pub stop: Cell<bool>,
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    clock::realtime() / 1_000_000
}

/// Sends to a broker until told to stop, then waits for its acknowledgements.
pub async fn send(port: u16, pace: Pace, session: Session, progress: Rc<Progress>) {
    let started = (Instant::now() + Duration::from_millis(200), now_ms() + 200);
    let connections = (0..CONNECTIONS).map(async |number| {
        let stream = connect(port, &format!("sender-{number}"), session).await?;
        connection(stream, number, pace, started, progress.clone()).await
    });
    for outcome in join_all(connections).await {
        outcome.expect("the broker keeps the connection");
    }
}

async fn connection(
    mut stream: TcpStream,
    number: usize,
    pace: Pace,
    (start, start_ms): (Instant, i64),
    progress: Rc<Progress>,
) -> io::Result<()> {
    let (mut read, mut write) = stream.split();
    let unacknowledged = Cell::new(0usize);
    let done = Cell::new(false);
    let sending = async {
        let (mut pkid, mut turn, mut out) = (0u16, 0u64, Vec::new());
        let per_turn = DEVICES / CONNECTIONS * SERIES_PER_DEVICE;
        'all: loop {
            for index in 0..per_turn {
                // Series of all connections take turns within the second.
                let slot = index * CONNECTIONS + number;
                let offset_ms = 1_000 * turn as i64 + slot as i64;
                let due_ms = match pace {
                    Pace::W1 => {
                        flush(&mut write, &mut out).await?;
                        tokio::time::sleep_until(start + Duration::from_millis(offset_ms as u64)).await;
                        start_ms + offset_ms
                    }
                    Pace::Saturated { ahead_max } => {
                        while progress.sent.get() >= progress.received.get() + ahead_max
                            && !progress.stop.get()
                        {
                            flush(&mut write, &mut out).await?;
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        // Each series goes on in time by itself, a second at each reading.
                        start_ms + offset_ms
                    }
                };
                while unacknowledged.get() >= WINDOW {
                    flush(&mut write, &mut out).await?;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                if progress.stop.get() {
                    break 'all;
                }
                pkid = pkid % u16::MAX + 1;
                let series = number * per_turn + index;
                publish(&mut out, pkid, series, due_ms, turn);
                unacknowledged.set(unacknowledged.get() + 1);
                progress.sent.set(progress.sent.get() + 1);
                if out.len() > 4_096 {
                    flush(&mut write, &mut out).await?;
                }
            }
            turn += 1;
        }
        flush(&mut write, &mut out).await?;
        while unacknowledged.get() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        done.set(true);
        io::Result::Ok(())
    };
    let reading = async {
        let mut bytes = [0u8; 4_096];
        let mut held = 0;
        loop {
            let count = read.read(&mut bytes[held..]).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // Nothing comes but PUBACKs of four bytes.
            let whole = (held + count) / 4;
            unacknowledged.set(unacknowledged.get() - whole);
            let rest = (held + count) % 4;
            bytes.copy_within(whole * 4..whole * 4 + rest, 0);
            held = rest;
        }
    };
    tokio::select! {
        outcome = sending => outcome,
        outcome = reading => outcome,
    }
}

async fn flush(write: &mut tokio::net::tcp::WriteHalf<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    if !out.is_empty() {
        write.write_all(out).await?;
        out.clear();
    }
    Ok(())
}

fn publish(out: &mut Vec<u8>, pkid: u16, series: usize, time_ms: i64, turn: u64) {
    let (device, metric) = (series / SERIES_PER_DEVICE, series % SERIES_PER_DEVICE);
    let topic = format!("plant/d{device:03}/m{metric}");
    // A slow wave with one decimal and a little noise, other in each series.
    let noise = (series as u64 ^ turn).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61;
    let tenths = 200 + (series as u64 * 7 + turn) % 300 + noise;
    let payload =
        format!("{{\"ts\":{time_ms},\"value\":{:>11}}}", format!("{}.{}", tenths / 10, tenths % 10));
    let length = 2 + topic.len() + 2 + payload.len();
    debug_assert!(length < 128, "the length takes one byte");
    out.extend([0x32, length as u8]);
    out.extend((topic.len() as u16).to_be_bytes());
    out.extend(topic.as_bytes());
    out.extend(pkid.to_be_bytes());
    out.extend(payload.as_bytes());
}

async fn connect(port: u16, name: &str, session: Session) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let mut packet = vec![0x10, (12 + name.len()) as u8, 0, 4];
    packet.extend(b"MQTT");
    packet.extend([4, if session == Session::Clean { 2 } else { 0 }, 0, 0, 0, name.len() as u8]);
    packet.extend(name.as_bytes());
    stream.write_all(&packet).await?;
    let mut answer = [0u8; 4];
    stream.read_exact(&mut answer).await?;
    if answer[..2] != [0x20, 2] || answer[3] != 0 {
        return Err(io::Error::other(format!("the broker answers {answer:?}")));
    }
    Ok(stream)
}

/// Subscribes to everything at QoS 1, acknowledges and drops what comes. `count` is called with the messages of each
/// read: nothing is decoded but lengths and packet identifiers.
pub async fn drop_everything(port: u16, count: impl Fn(u64)) -> io::Result<()> {
    let mut stream = connect(port, "dropper", Session::Clean).await?;
    stream.write_all(&[0x82, 12, 0, 1, 0, 7]).await?;
    stream.write_all(b"plant/#").await?;
    stream.write_all(&[1]).await?;
    let mut answer = [0u8; 5];
    stream.read_exact(&mut answer).await?;
    count(0);
    let mut held = Vec::with_capacity(1 << 16);
    let mut acknowledgements = Vec::new();
    loop {
        if stream.read_buf(&mut held).await? == 0 {
            return Ok(());
        }
        let mut messages = 0;
        let taken = frames(&held, |kind, body| {
            if kind >> 4 == 3 {
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                acknowledgements.extend([0x40, 2, body[2 + topic], body[3 + topic]]);
                messages += 1;
            }
        });
        held.drain(..taken);
        stream.write_all(&acknowledgements).await?;
        acknowledgements.clear();
        count(messages);
    }
}

/// Calls `each` with type byte and body of every whole packet. Returns the bytes they take.
pub fn frames(bytes: &[u8], mut each: impl FnMut(u8, &[u8])) -> usize {
    let mut at = 0;
    while let Some((header, length)) = frame(&bytes[at..]) {
        if bytes.len() < at + header + length {
            break;
        }
        each(bytes[at], &bytes[at + header..at + header + length]);
        at += header + length;
    }
    at
}

fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((index + 2, length));
        }
    }
    None
}
