//! A broker that does what a test says, packet by packet: for what mosquitto never does.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::{ConnAck, Connect, ConnectReturnCode, Packet, Publish, QoS, SubAck, SubscribeReasonCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Longest wait for the door.
const WAIT: Duration = Duration::from_secs(20);

/// The broker.
pub struct Script {
    listener: TcpListener,
    pub port: u16,
}

/// One connection of the door.
pub struct Visit {
    stream: TcpStream,
    incoming: BytesMut,
    pub connect: Connect,
}

impl Script {
    pub async fn start() -> Script {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free loopback port");
        let port = listener.local_addr().expect("bound").port();
        Script { listener, port }
    }

    /// Waits for the door, and answers its CONNECT.
    pub async fn accept(&self, code: ConnectReturnCode, session_present: bool) -> Visit {
        let (stream, _) =
            timeout(WAIT, self.listener.accept()).await.expect("the door connects").expect("accepted");
        let connect = Connect::new("");
        let mut visit = Visit { stream, incoming: BytesMut::new(), connect };
        match visit.next().await {
            Some(Packet::Connect(connect)) => visit.connect = connect,
            other => panic!("expected CONNECT, got {other:?}"),
        }
        visit.send(Packet::ConnAck(ConnAck::new(code, session_present))).await;
        visit
    }

    /// The same, with a session and a SUBSCRIBE that is granted.
    pub async fn welcome(&self, session_present: bool) -> Visit {
        let mut visit = self.accept(ConnectReturnCode::Success, session_present).await;
        visit.answer_subscribe(SubscribeReasonCode::Success(QoS::AtLeastOnce)).await;
        visit
    }
}

impl Visit {
    pub async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).expect("a valid packet");
        self.send_bytes(&bytes).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the door listens");
    }

    /// The next packet from the door that is no ping; `None` at its end.
    pub async fn next(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.incoming, usize::MAX) {
                Ok(Packet::PingReq) => self.send(Packet::PingResp).await,
                Ok(packet) => return Some(packet),
                Err(_) => {
                    let read = timeout(WAIT, self.stream.read_buf(&mut self.incoming)).await;
                    if !matches!(read.expect("the door says something"), Ok(1..)) {
                        return None;
                    }
                }
            }
        }
    }

    pub async fn answer_subscribe(&mut self, code: SubscribeReasonCode) {
        match self.next().await {
            Some(Packet::Subscribe(subscribe)) => {
                let codes = vec![code; subscribe.filters.len()];
                self.send(Packet::SubAck(SubAck::new(subscribe.pkid, codes))).await;
            }
            other => panic!("expected SUBSCRIBE, got {other:?}"),
        }
    }

    pub async fn expect_ack(&mut self, pkid: u16) {
        match self.next().await {
            Some(Packet::PubAck(ack)) => assert_eq!(ack.pkid, pkid),
            other => panic!("expected PUBACK {pkid}, got {other:?}"),
        }
    }
}

/// A message at QoS 1.
pub fn publish(topic: &str, pkid: u16, dup: bool, payload: &str) -> Packet {
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
    publish.pkid = pkid;
    publish.dup = dup;
    Packet::Publish(publish)
}
