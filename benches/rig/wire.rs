//! Wires with something on them: a link of a given rate with a switch, and one that watches MQTT acknowledgements.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::Either;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::mqtt::{frames, now_ms};

/// Bytes carried at a time: at 1 Mbit/s an eighth of a second's worth would be 16 KiB.
const CHUNK: usize = 4_096;
/// A shaped wire may run this far ahead of its rate, as a token bucket does.
const BURST: Duration = Duration::from_millis(20);

/// A TCP relay of a given rate towards the hub, that can be cut.
pub struct Shaped {
    listener: TcpListener,
    target: SocketAddr,
    switch: watch::Receiver<bool>,
    bytes_per_second: f64,
    /// Bytes carried towards the hub.
    pub carried: Rc<Cell<u64>>,
}

impl Shaped {
    /// Listens on a free port, cut. The sender is the switch.
    pub async fn bind(
        target: SocketAddr,
        bits_per_second: f64,
    ) -> io::Result<(Shaped, SocketAddr, watch::Sender<bool>)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (sender, switch) = watch::channel(false);
        let shaped = Shaped {
            listener,
            target,
            switch,
            bytes_per_second: bits_per_second / 8.0,
            carried: Rc::default(),
        };
        Ok((shaped, address, sender))
    }

    /// Relays until the switch is dropped.
    pub async fn run(mut self) {
        let mut relays = FuturesUnordered::new();
        loop {
            tokio::select! {
                changed = self.switch.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if !*self.switch.borrow_and_update() {
                        relays.clear();
                    }
                }
                accepted = self.listener.accept() => {
                    let Ok((near, _)) = accepted else { continue };
                    if *self.switch.borrow() {
                        relays.push(relay(near, self.target, self.bytes_per_second, self.carried.clone()));
                    }
                }
                Some(_) = relays.next(), if !relays.is_empty() => {}
            }
        }
    }
}

async fn relay(near: TcpStream, target: SocketAddr, rate: f64, carried: Rc<Cell<u64>>) -> io::Result<()> {
    let far = TcpStream::connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        outcome = carry(near_in, far_out, rate, carried) => outcome,
        outcome = carry(far_in, near_out, rate, Rc::default()) => outcome,
    }
}

/// One direction: a token bucket, and no more in memory than one chunk, so that TCP holds the sender back.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    rate: f64,
    carried: Rc<Cell<u64>>,
) -> io::Result<()> {
    let mut chunk = [0u8; CHUNK];
    let mut free_at = Instant::now();
    loop {
        let count = from.read(&mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        if rate.is_finite() {
            free_at = free_at.max(Instant::now() - BURST) + Duration::from_secs_f64(count as f64 / rate);
            tokio::time::sleep_until(free_at).await;
        }
        to.write_all(&chunk[..count]).await?;
        carried.set(carried.get() + count as u64);
    }
}

/// A relay between a broker and its subscriber that notes, for every PUBACK of the subscriber, how long ago its message
/// was due to be sent.
pub struct Watched {
    listener: TcpListener,
    broker: u16,
    /// Milliseconds from the scheduled send of a message to its acknowledgement.
    pub waits: Rc<RefCell<Vec<f64>>>,
}

impl Watched {
    /// Listens on a free port.
    pub async fn bind(broker: u16) -> io::Result<(Watched, u16)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        Ok((Watched { listener, broker, waits: Rc::default() }, port))
    }

    /// Relays one connection after the other, for ever.
    pub async fn run(self) {
        loop {
            let Ok((subscriber, _)) = self.listener.accept().await else { continue };
            let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.broker)).await else { continue };
            // A connection that ends is followed by the next.
            let _ = self.watch(subscriber, broker).await;
        }
    }

    async fn watch(&self, subscriber: TcpStream, broker: TcpStream) -> io::Result<()> {
        subscriber.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        let ((mut sub_in, mut sub_out), (mut broker_in, mut broker_out)) =
            (subscriber.into_split(), broker.into_split());
        let due: RefCell<HashMap<u16, i64>> = RefCell::default();
        let down = async {
            let (mut bytes, mut held) = (vec![0u8; 1 << 16], Vec::new());
            loop {
                let count = broker_in.read(&mut bytes).await?;
                if count == 0 {
                    return io::Result::Ok(());
                }
                sub_out.write_all(&bytes[..count]).await?;
                held.extend(&bytes[..count]);
                let taken = frames(&held, |kind, body| {
                    if let Some((pkid, time)) = (kind >> 4 == 3).then(|| stamp(body)).flatten() {
                        due.borrow_mut().insert(pkid, time);
                    }
                });
                held.drain(..taken);
            }
        };
        let up = async {
            let (mut bytes, mut held) = (vec![0u8; 1 << 16], Vec::new());
            loop {
                let count = sub_in.read(&mut bytes).await?;
                if count == 0 {
                    return io::Result::Ok(());
                }
                broker_out.write_all(&bytes[..count]).await?;
                held.extend(&bytes[..count]);
                let now = now_ms();
                let taken = frames(&held, |kind, body| {
                    if kind >> 4 == 4 {
                        let pkid = u16::from_be_bytes([body[0], body[1]]);
                        let wait = due.borrow_mut().remove(&pkid).map(|time| (now - time) as f64);
                        self.waits.borrow_mut().extend(wait);
                    }
                });
                held.drain(..taken);
            }
        };
        let (down, up) = (std::pin::pin!(down), std::pin::pin!(up));
        match futures_util::future::select(down, up).await {
            Either::Left((outcome, _)) | Either::Right((outcome, _)) => outcome,
        }
    }
}

/// Packet identifier and the time in the payload of a PUBLISH.
fn stamp(body: &[u8]) -> Option<(u16, i64)> {
    let topic = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    let pkid = u16::from_be_bytes([*body.get(2 + topic)?, *body.get(3 + topic)?]);
    let payload = std::str::from_utf8(body.get(4 + topic..)?).ok()?;
    let time = payload.strip_prefix("{\"ts\":")?.split(',').next()?.parse().ok()?;
    Some((pkid, time))
}
