//! MQTT in WebSocket messages, byte by byte; with mqtt.js it is in `listener_clients`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::client::{Client, Hello, connect_packet, hello, packet, publish_packet};
use super::rig::{PLANT, Rig};

const PATIENCE: Duration = Duration::from_secs(20);
const QOS_1: u8 = 0x02;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// A listener for panels, and one for sensors.
fn rig(folder: &std::path::Path) -> (Rig, SocketAddr) {
    let sensors = super::rig::free_port();
    let text = format!(
        "{PLANT}[[listener]]\nname = \"panels\"\nbind = \"127.0.0.1:PORT\"\nwebsocket = true\npacket_bytes_max = \"512KiB\"\n\
         [[listener]]\nname = \"sensors\"\nbind = \"127.0.0.1:{sensors}\"\n"
    );
    (Rig::start_with(folder, &text), ([127, 0, 0, 1], sensors).into())
}

/// A frame of a client's: first byte, payload, masked.
fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x44, 0x88];
    let mut bytes = vec![head];
    match payload.len() {
        length @ ..=125 => bytes.push(0x80 | length as u8),
        length => {
            bytes.push(0xfe);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    bytes
}

/// A browser.
struct Browser(TcpStream);

impl Browser {
    fn dial(at: SocketAddr) -> Browser {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Browser(stream)
    }

    /// Opens a WebSocket.
    fn open(at: SocketAddr) -> Browser {
        let mut browser = Browser::dial(at);
        browser.send(REQUEST.as_bytes());
        let answer = browser.head();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(answer.contains("Sec-WebSocket-Protocol: mqtt\r\n"), "{answer}");
        browser
    }

    /// Opens one, and is let in.
    fn enter(at: SocketAddr, hello: &Hello<'_>) -> Browser {
        let mut browser = Browser::open(at);
        browser.send(&frame(BINARY, &connect_packet(hello)));
        assert_eq!(browser.frame(), Some((BINARY, vec![0x20, 2, 0, 0])));
        browser
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// The answer to a request, to the end of its headers.
    fn head(&mut self) -> String {
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        String::from_utf8(answer).unwrap()
    }

    /// The next frame; `None` at the end.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).ok()?;
        assert!(head[1] < 126, "a server's short frame without a mask");
        let mut payload = vec![0; usize::from(head[1])];
        self.0.read_exact(&mut payload).ok()?;
        Some((head[0], payload))
    }
}

#[test]
fn packets_may_span_messages_and_share_them() {
    // Goal: what MQTT 5, 6.0 asks of a server. Method: a CONNECT in fragments with a ping between, and frames behind the
    // request before it is answered; SUBSCRIBE, a message at QoS 1 and PINGREQ in one message; a long one in pieces.
    let folder = tempfile::tempdir().unwrap();
    let (rig, _) = rig(folder.path());
    let mut browser = Browser::dial(rig.at);
    let connect = connect_packet(&hello("panel"));
    let early = [REQUEST.as_bytes(), &frame(0x02, &connect[..5])].concat();
    browser.send(&early);
    assert!(browser.head().starts_with("HTTP/1.1 101 "));
    browser.send(&[frame(0x89, b"there?"), frame(0x80, &connect[5..])].concat());
    assert_eq!(browser.frame(), Some((0x8a, b"there?".to_vec())));
    assert_eq!(browser.frame(), Some((BINARY, vec![0x20, 2, 0, 0])));
    let mut subscribe = vec![0, 1, 0, 7];
    subscribe.extend(b"plant/#\x01");
    let all =
        [packet(0x82, &subscribe), publish_packet(4, QOS_1, "plant/x", 2, b"21"), vec![0xc0, 0]].concat();
    browser.send(&frame(BINARY, &all));
    assert_eq!(browser.frame(), Some((BINARY, vec![0x90, 3, 0, 1, 1])));
    assert_eq!(browser.frame(), Some((BINARY, vec![0xd0, 0])));
    assert_eq!(browser.frame(), Some((BINARY, vec![0x40, 2, 0, 2])), "when it is on flash");
    assert_eq!(browser.frame(), Some((BINARY, publish_packet(4, QOS_1, "plant/x", 1, b"21"))));
    rig.wait("the reading", |rig| rig.values() == [21]);
    let long = publish_packet(4, QOS_1, "plant/long", 3, &[b' '; 100_000]);
    for piece in long.chunks(30_000) {
        browser.send(&frame(BINARY, piece));
    }
    loop {
        let (_, packet) = browser.frame().expect("it goes on");
        if packet == [0x40, 2, 0, 3] {
            break;
        }
    }
    rig.stop();
}

#[test]
fn a_farewell_in_mqtt_keeps_the_will_and_one_without_publishes_it() {
    // Goal: closing the WebSocket is losing the connection, unless DISCONNECT came before it. Method: both, each in one
    // write; a subscriber at the other listener is told of one.
    let folder = tempfile::tempdir().unwrap();
    let (rig, sensors) = rig(folder.path());
    let (mut watcher, _) = Client::enter(sensors, &hello("watcher"));
    watcher.subscribe(1, &[("wills/#", 1)]);
    let quiet = Hello { will: Some(("wills/quiet", "gone", 1, false)), ..hello("quiet") };
    let loud = Hello { will: Some(("wills/loud", "gone", 1, false)), ..hello("loud") };
    let mut browser = Browser::enter(rig.at, &quiet);
    browser.send(&[frame(BINARY, &[0xe0, 0]), frame(CLOSE, &[3, 232])].concat());
    while browser.frame().is_some() {}
    let mut browser = Browser::enter(rig.at, &loud);
    browser.send(&frame(CLOSE, &[3, 232]));
    assert_eq!(browser.frame(), Some((CLOSE, vec![3, 232])), "a farewell is returned");
    assert_eq!(browser.frame(), None);
    assert_eq!(watcher.message().1, "wills/loud");
    rig.stop();
}

#[test]
fn what_is_no_websocket_for_mqtt_is_answered_and_closed() {
    // Goal: a browser that looks at the port, a client without the subprotocol, and MQTT without WebSocket. And the other
    // way round: a browser at a sensor's port.
    let folder = tempfile::tempdir().unwrap();
    let (rig, sensors) = rig(folder.path());
    for (request, code) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "426"),
        (REQUEST.replace(": mqtt", ": chat"), "400"),
        ("\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nCookie: {}", "x".repeat(10_000)), "431"),
    ] {
        let mut browser = Browser::dial(rig.at);
        browser.send(request.as_bytes());
        assert!(browser.head().starts_with(&format!("HTTP/1.1 {code} ")), "{request:?}");
        assert_eq!(browser.frame(), None);
    }
    let mut browser = Browser::dial(sensors);
    browser.send(REQUEST.as_bytes());
    assert_eq!(browser.frame(), None);
    rig.stop();
}

#[test]
fn hostile_frames_end_their_own_connection_with_the_reason() {
    // Goal: every rule broken is one connection's end; a client beside it goes on. Method: each, from a client that was let
    // in and from one that was not.
    let folder = tempfile::tempdir().unwrap();
    let (rig, _) = rig(folder.path());
    let mut good = Browser::enter(rig.at, &hello("good"));
    let huge = [&[0x82, 0xff][..], &(1u64 << 40).to_be_bytes(), &[0; 4]].concat();
    for (name, bytes, code) in [
        ("text", frame(0x81, b"hello"), 1003u16),
        ("no mask", vec![0x82, 2, 0xc0, 0], 1002),
        ("reserved bits", frame(0xf2, &[0xc0, 0]), 1002),
        ("fragmented ping", frame(0x09, b""), 1002),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
        ("a terabyte announced", huge, 1009),
    ] {
        for enters in [false, true] {
            let mut browser =
                if enters { Browser::enter(rig.at, &hello("bad")) } else { Browser::open(rig.at) };
            browser.send(&bytes);
            assert_eq!(browser.frame(), Some((CLOSE, code.to_be_bytes().to_vec())), "{name}");
            assert_eq!(browser.frame(), None, "{name}");
        }
    }
    // Frames that are right, with MQTT in them that is not.
    let mut browser = Browser::enter(rig.at, &hello("bad"));
    browser.send(&frame(BINARY, &[0xf0, 0xff, 0xff, 0xff, 0xff, 0xff]));
    while let Some((head, _)) = browser.frame() {
        assert_eq!(head, CLOSE);
    }
    good.send(&frame(BINARY, &publish_packet(4, QOS_1, "plant/x", 9, b"5")));
    assert_eq!(good.frame(), Some((BINARY, vec![0x40, 2, 0, 9])));
    rig.wait("the reading", |rig| rig.values() == [5]);
    rig.stop();
}
