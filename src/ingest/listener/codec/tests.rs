use proptest::prelude::*;

use super::*;

const QOS_1: &[u8] = &[0x32, 10, 0, 3, b'a', b'/', b'b', 0, 7, b'x', b'y', b'z'];

#[test]
fn a_packet_is_found_when_its_last_byte_is_there() {
    // Goal: every shorter beginning is "not yet", and the next packet is left alone.
    let mut two = QOS_1.to_vec();
    two.extend(QOS_1);
    for length in 0..QOS_1.len() {
        assert_eq!(frame(&two[..length], 100), Ok(None), "{length}");
    }
    let found = frame(&two, 100).unwrap().unwrap();
    assert_eq!((found.end, wanted(&two)), (QOS_1.len(), Some(QOS_1.len())));
    let Ok(Packet::Publish(publish)) = found.decode(&two, Version::V3) else { panic!("a message") };
    assert_eq!((publish.qos, publish.pkid, &*publish.topic, &*publish.payload), (1, 7, "a/b", &b"xyz"[..]));
}

#[test]
fn a_packet_that_is_too_large_is_refused_by_its_header() {
    // Goal: five bytes suffice, whatever follows; and a length of five bytes is none.
    assert_eq!(frame(&[0x32, 0xff, 0xff, 0xff, 0x7f], 1 << 20), Err(Reason::PacketTooLarge));
    assert_eq!(frame(&[0x32, 0xff, 0xff, 0xff, 0xff, 0x01], 1 << 20), Err(Reason::Malformed));
}

#[test]
fn a_body_with_something_behind_it_is_malformed() {
    // Goal: lengths must agree; PUBREL with a byte too many in version 3, PINGREQ with a body in both.
    let spare = [0x62, 3, 0, 1, 9];
    let found = frame(&spare, 100).unwrap().unwrap();
    assert_eq!(found.decode(&spare, Version::V3).unwrap_err(), Reason::Malformed);
    let ping = [0xc0, 1, 0];
    let found = frame(&ping, 100).unwrap().unwrap();
    assert_eq!(found.decode(&ping, Version::V3).unwrap_err(), Reason::Malformed);
    assert_eq!(found.decode(&ping, Version::V5).unwrap_err(), Reason::Malformed);
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_without_panic(
        head in any::<u8>(),
        mut body in prop::collection::vec(any::<u8>(), 0..80),
        small in any::<bool>(),
    ) {
        // Goal: lengths inside the body that lead behind it, in every kind of packet of both versions.
        if small {
            body.iter_mut().for_each(|byte| *byte &= 0x27);
        }
        let mut bytes = vec![head, body.len() as u8];
        bytes.extend(body);
        let found = frame(&bytes, 200).unwrap().unwrap();
        let _ = found.decode(&bytes, Version::V3);
        let _ = found.decode(&bytes, Version::V5);
        let _ = found.decode_connect(&bytes);
    }
}
