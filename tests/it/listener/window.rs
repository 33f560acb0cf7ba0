//! How many messages a client may have unacknowledged: what the listener declares, and what it learns of a client that
//! has a smaller number of its own.

use std::time::{Duration, Instant};

use super::client::{Client, Hello, hello, packet, publish_packet};
use super::rig::Rig;

const QOS_1: u8 = 0x02;
const QOS_2: u8 = 0x04;

/// An interval that a client with a full window must not be made to wait for.
const SLOW: &str = "[gateway]\nname = \"gw\"\n[lattice]\nmode = \"off\"\n[journal]\ncommit_interval = \"10s\"\n\
    [[stream]]\nname = \"plant\"\ntopics = [\"plant/#\"]\n\
    [[listener]]\nname = \"test\"\nbind = \"127.0.0.1:PORT\"\nreceive_max = 5\n";

fn burst(version: u8, flags: u8, pkids: std::ops::RangeInclusive<u16>) -> Vec<u8> {
    pkids
        .flat_map(|pkid| publish_packet(version, flags, "plant/x", pkid, pkid.to_string().as_bytes()))
        .collect()
}

fn five(id: &str) -> Hello<'_> {
    Hello { version: 5, ..hello(id) }
}

/// What CONNACK says in property 0x21: its other properties are of fixed length, or come behind.
fn declared(connack: &[u8]) -> Option<u16> {
    let mut rest = &connack[3..3 + usize::from(connack[2])];
    while let [id, tail @ ..] = rest {
        let length = match id {
            0x21 => return Some(u16::from_be_bytes([tail[0], tail[1]])),
            0x11 | 0x27 => 4,
            0x22 | 0x13 => 2,
            0x12 => 2 + usize::from(u16::from_be_bytes([tail[0], tail[1]])),
            other => panic!("property {other:#x} is not expected"),
        };
        rest = &tail[length..];
    }
    None
}

#[test]
fn a_client_that_keeps_to_the_declared_number_is_acknowledged_at_once() {
    // Goal: who has sent all it may does not wait for the interval, and is never sent away. Method: the number is read from
    // CONNACK; so many messages at a time, QoS 1 and 2, ten times within one commit interval of ten seconds.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start_with(folder.path(), SLOW);
    let (mut client, connack) = Client::greet(rig.at, &five("sensor"));
    assert_eq!(declared(&connack), Some(5));
    let started = Instant::now();
    for round in 0..5 {
        client.send(&burst(5, QOS_1, 10 * round + 1..=10 * round + 5));
        for pkid in 10 * round + 1..=10 * round + 5 {
            assert_eq!(client.answer(0x40), pkid);
        }
        client.send(&burst(5, QOS_2, 10 * round + 6..=10 * round + 10));
        for (received, answer) in [(0x50, 0x62), (0x70, 0)] {
            for pkid in 10 * round + 6..=10 * round + 10 {
                assert_eq!(client.answer(received), pkid);
                if answer != 0 {
                    client.send(&packet(answer, &pkid.to_be_bytes()));
                }
            }
        }
    }
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    rig.wait("all of them", |rig| rig.values() == (1..=50).collect::<Vec<_>>());
    rig.stop();
}

#[test]
fn a_client_of_version_5_that_overruns_the_number_is_sent_away_with_the_reason() {
    // Goal: 0x93, at QoS 1 and at QoS 2, where a message counts until it is released; what was within the number is
    // committed all the same. Method: one message too many, each way.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start_with(folder.path(), SLOW);
    let (mut client, _) = Client::enter(rig.at, &five("one"));
    client.send(&burst(5, QOS_1, 1..=6));
    let told = loop {
        match client.packet() {
            (0x40, _) => {}
            (head, body) => break (head, body[0]),
        }
    };
    assert_eq!(told, (0xe0, 0x93));
    assert!(client.ends());
    let (mut client, _) = Client::enter(rig.at, &five("two"));
    client.send(&burst(5, QOS_2, 11..=15));
    for pkid in 11..=15 {
        assert_eq!(client.answer(0x50), pkid);
    }
    client.publish(QOS_2, "plant/x", 16, "16");
    let (head, body) = client.packet();
    assert_eq!((head, body[0]), (0xe0, 0x93), "received, but not released");
    assert!(client.ends());
    rig.wait("what was within the number is committed", |rig| rig.values().len() == 10);
    assert_eq!(rig.values(), [1, 2, 3, 4, 5, 11, 12, 13, 14, 15]);
    rig.stop();
}

#[test]
fn a_client_of_version_3_that_overruns_the_number_is_not_read_from() {
    // Goal: nobody has told it the number, so it is held up, not sent away, and loses nothing. Method: 40 messages and a
    // PINGREQ in one breath: the ping is answered when all but the last five are acknowledged, not before.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start_with(folder.path(), SLOW);
    let (mut client, _) = Client::enter(rig.at, &hello("sensor"));
    let mut bytes = burst(4, QOS_1, 1..=40);
    bytes.extend([0xc0, 0]);
    client.send(&bytes);
    let (mut acknowledged, mut before_ping) = (0, None);
    while acknowledged < 40 || before_ping.is_none() {
        match client.packet() {
            (0x40, body) => {
                acknowledged += 1;
                assert_eq!(u16::from_be_bytes([body[0], body[1]]), acknowledged, "in order");
            }
            (0xd0, _) => before_ping = Some(acknowledged),
            other => panic!("{other:?}"),
        }
    }
    assert!(before_ping >= Some(35), "answered after {before_ping:?} acknowledgements");
    rig.wait("all of them", |rig| rig.values() == (1..=40).collect::<Vec<_>>());
    rig.stop();
}

#[test]
fn a_client_with_a_smaller_number_of_its_own_is_found_out() {
    // Goal: a library that has four messages in flight at most sends more than four in an interval. Method: twelve rounds of
    // four at an interval of two seconds: not learnt, they would take 24; the number is known after two.
    let folder = tempfile::tempdir().unwrap();
    let text = SLOW.replace("10s", "2s").replace("receive_max = 5\n", "");
    let rig = Rig::start_with(folder.path(), &text);
    let (mut client, _) = Client::enter(rig.at, &hello("sensor"));
    let started = Instant::now();
    for round in 0..12 {
        client.send(&burst(4, QOS_1, 4 * round + 1..=4 * round + 4));
        for pkid in 4 * round + 1..=4 * round + 4 {
            assert_eq!(client.answer(0x40), pkid);
        }
    }
    assert!(started.elapsed() < Duration::from_secs(14), "{:?}", started.elapsed());
    rig.wait("all of them", |rig| rig.values() == (1..=48).collect::<Vec<_>>());
    rig.stop();
}
