//! A TCP proxy that stands between a door and its broker, records what the door sends, and fails on demand.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use rumqttc::Packet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the proxy does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes them on, both ways.
    Open,
    /// Passes on what the broker sends, swallows what the door sends.
    Deaf,
    /// Passes on nothing, and closes nothing.
    Silent,
    /// Closes connections, and every new one.
    Cut,
}

/// The proxy.
pub struct Proxy {
    pub port: u16,
    mode: watch::Sender<Mode>,
    sent: Arc<Mutex<Vec<Packet>>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub async fn start(broker: SocketAddr) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free loopback port");
        let port = listener.local_addr().expect("bound").port();
        let (mode, watched) = watch::channel(Mode::Open);
        let sent = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, broker, watched, Arc::clone(&sent)));
        Proxy { port, mode, sent, _tasks: tasks }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Packet identifiers the door has acknowledged since the last look, in order. Only whole acknowledgements count.
    pub fn take_acks(&self) -> Vec<u16> {
        let sent = std::mem::take(&mut *self.sent.lock().expect("no test panics with it"));
        let ack = |packet| match packet {
            Packet::PubAck(ack) => Some(ack.pkid),
            _ => None,
        };
        sent.into_iter().filter_map(ack).collect()
    }

    /// How many packets of this kind the door has sent since the last look.
    pub fn count(&self, is: impl Fn(&Packet) -> bool) -> usize {
        self.sent.lock().expect("no test panics with it").iter().filter(|packet| is(packet)).count()
    }
}

async fn accept(
    listener: TcpListener,
    broker: SocketAddr,
    mode: watch::Receiver<Mode>,
    sent: Arc<Mutex<Vec<Packet>>>,
) {
    let mut connections = JoinSet::new();
    while let Ok((door, _)) = listener.accept().await {
        let (mode, sent) = (mode.clone(), Arc::clone(&sent));
        connections.spawn(async move {
            if *mode.borrow() == Mode::Cut {
                return;
            }
            let Ok(broker) = TcpStream::connect(broker).await else { return };
            let ((door_reads, door_writes), (broker_reads, broker_writes)) =
                (door.into_split(), broker.into_split());
            let mut cut = mode.clone();
            tokio::select! {
                () = forward(door_reads, broker_writes, mode.clone(), Some(sent)) => {}
                () = forward(broker_reads, door_writes, mode, None) => {}
                _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
            }
        });
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    record: Option<Arc<Mutex<Vec<Packet>>>>,
) {
    let (mut buffer, mut packets) = (vec![0; 64 * 1024], BytesMut::new());
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        if let Some(record) = &record {
            packets.extend_from_slice(&buffer[..length]);
            while let Ok(packet) = Packet::read(&mut packets, usize::MAX) {
                record.lock().expect("no test panics with it").push(packet);
            }
        }
        let now = *mode.borrow();
        if now == Mode::Silent && mode.wait_for(|mode| *mode != Mode::Silent).await.is_err() {
            return;
        }
        if now == Mode::Deaf && record.is_some() {
            continue;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
