use proptest::prelude::*;

use super::*;

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: gateway:8083\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqttv3.1, mqtt\r\n\r\n";

/// A frame of a client's: head byte, payload, masked.
fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [7, 77, 177, 27];
    let mut bytes = vec![head];
    match payload.len() {
        length @ ..=125 => bytes.push(0x80 | length as u8),
        length => {
            bytes.push(0xfe);
            bytes.extend((length as u16).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    bytes
}

fn taken(frames: &mut Frames, bytes: &[u8]) -> (Flow, Vec<u8>, Vec<u8>) {
    let (mut packets, mut answers) = (Vec::new(), Vec::new());
    let flow = frames.take(bytes, &mut packets, &mut answers);
    (flow, packets, answers)
}

#[test]
fn a_request_for_mqtt_is_answered_as_the_standard_has_it() {
    // Goal: the key of the RFC's example gives its answer; a request is complete with its last byte, what follows is left.
    let Opening::Accepted { used, answer } = open(format!("{REQUEST}frames").as_bytes()) else { panic!() };
    assert_eq!(used, REQUEST.len());
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
    assert!(answer.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"), "{answer}");
    for length in 0..REQUEST.len() {
        assert_eq!(open(&REQUEST.as_bytes()[..length]), Opening::More, "{length}");
    }
}

#[test]
fn what_is_no_request_for_mqtt_is_refused() {
    // Goal: each thing that must be there is asked for. Method: the request without it, and things that are no request.
    for (from, to, code) in [
        ("GET", "POST", "400"),
        ("HTTP/1.1", "HTTP/1.0", "400"),
        ("Upgrade: WebSocket", "Upgrade: h2c", "426"),
        ("keep-alive, Upgrade", "keep-alive", "426"),
        ("Version: 13", "Version: 8", "426"),
        ("Sec-WebSocket-Key", "Key", "400"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", "400"),
        ("mqttv3.1, mqtt", "mqttv3.1, chat", "400"),
    ] {
        let Opening::Refused(answer) = open(REQUEST.replace(from, to).as_bytes()) else { panic!("{from}") };
        assert!(answer.starts_with(format!("HTTP/1.1 {code} ").as_bytes()), "{from}");
    }
    assert_eq!(open(b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0"), Opening::Refused(BAD_REQUEST));
    let long = REQUEST.replace("\r\n\r\n", &format!("\r\nCookie: {}", "x".repeat(REQUEST_BYTES_MAX)));
    assert_eq!(open(long.as_bytes()), Opening::Refused(TOO_LARGE));
}

#[test]
fn packets_come_out_however_frames_lie_on_the_wire() {
    // Goal: fragments, control frames between them, and reads that end anywhere change nothing. Method: one conversation,
    // split at every byte.
    let wire = [
        frame(0x02, b"abc"),
        frame(0x89, b"are you there"),
        frame(0x80, b"def"),
        frame(0x82, b""),
        frame(0x82, &[b'x'; 300]),
    ]
    .concat();
    let packets = [b"abcdef".to_vec(), vec![b'x'; 300]].concat();
    let pong = [&[0x8a, 13][..], b"are you there"].concat();
    assert_eq!(taken(&mut Frames::new(1000), &wire), (Flow::Open, packets.clone(), pong.clone()));
    for at in 0..wire.len() {
        let mut frames = Frames::new(1000);
        let (first, second) = (taken(&mut frames, &wire[..at]), taken(&mut frames, &wire[at..]));
        assert_eq!((first.0, second.0), (Flow::Open, Flow::Open), "{at}");
        assert_eq!([first.1, second.1].concat(), packets, "{at}");
        assert_eq!([first.2, second.2].concat(), pong, "{at}");
    }
}

#[test]
fn a_broken_frame_closes_with_the_reason_the_standard_has() {
    // Goal: what came before is not lost, and nothing after it counts. Method: a good message, then each.
    let unmasked = vec![0x82, 1, b'x'];
    for (name, broken, code) in [
        ("text", frame(0x81, b"x"), 1003),
        ("no mask", unmasked, 1002),
        ("reserved bit", frame(0xc2, b"x"), 1002),
        ("unknown kind", frame(0x83, b"x"), 1002),
        ("continues nothing", frame(0x80, b"x"), 1002),
        ("fragmented ping", frame(0x09, b"x"), 1002),
        ("long ping", frame(0x89, &[b'x'; 126]), 1002),
        ("too large", frame(0x82, &[b'x'; 301]), 1009),
        ("too large in parts", [frame(0x02, &[b'x'; 200]), frame(0x80, &[b'x'; 200])].concat(), 1009),
        (
            "announces more than there is memory",
            vec![0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            1009,
        ),
    ] {
        let wire = [frame(0x82, b"good"), broken, frame(0x82, b"late")].concat();
        let (flow, packets, answers) = taken(&mut Frames::new(300), &wire);
        assert_eq!((flow, &packets[..]), (Flow::Closed, &b"good"[..]), "{name}");
        assert_eq!(answers, [0x88, 2, (code >> 8) as u8, code as u8], "{name}");
    }
    let (flow, packets, answers) =
        taken(&mut Frames::new(300), &[frame(0x82, b"good"), frame(0x88, &[3, 232])].concat());
    assert_eq!((flow, &packets[..], &answers[..]), (Flow::Closed, &b"good"[..], &[0x88, 2, 3, 232][..]));
}

#[test]
fn what_is_sent_is_one_frame_whatever_its_length() {
    // Goal: the three forms a length has.
    for (length, expected) in [
        (125usize, vec![0x82, 125]),
        (126, vec![0x82, 126, 0, 126]),
        (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let mut out = Vec::new();
        begin(length, &mut out);
        assert_eq!(out, expected);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, at in 0usize..64) {
        let mut frames = Frames::new(1000);
        let at = at.min(bytes.len());
        let _ = open(&bytes);
        if taken(&mut frames, &bytes[..at]).0 == Flow::Open {
            taken(&mut frames, &bytes[at..]);
        }
        let mut farewell = Vec::new();
        frames.close(&mut farewell);
    }
}
