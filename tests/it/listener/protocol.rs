//! What clients are promised, one promise a test.

use std::time::Duration;

use super::client::{Client, Hello, connect_packet, hello, packet, publish_packet};
use super::rig::{PLANT, Rig};

/// Long enough for an answer that must not come: several commits.
const A_WHILE: Duration = Duration::from_millis(300);

const QOS_1: u8 = 0x02;
const QOS_2: u8 = 0x04;
const DUP: u8 = 0x08;
const RETAIN: u8 = 0x01;

fn kept(id: &str) -> Hello<'_> {
    Hello { clean: false, ..hello(id) }
}

#[test]
fn an_acknowledgement_comes_when_the_reading_is_committed_and_in_order() {
    // Goal: QoS 1 and 2 in both versions. Method: publish mixed, look at the answers and at what was committed by then.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path(), "");
    for version in [4, 5] {
        let first = i64::from(version) * 100;
        let (mut client, present) = Client::enter(rig.at, &Hello { version, ..hello("a") });
        assert!(!present);
        client.publish(QOS_1, "plant/x", 1, &first.to_string());
        client.publish(QOS_2, "plant/x", 2, &(first + 1).to_string());
        client.publish(0, "plant/x", 0, &(first + 2).to_string());
        client.publish(QOS_1, "plant/x", 3, &(first + 3).to_string());
        assert_eq!((client.answer(0x40), client.answer(0x50), client.answer(0x40)), (1, 2, 3));
        rig.wait("acknowledged readings committed", |rig| {
            let values = rig.values();
            [0, 1, 3].iter().all(|n| values.contains(&(first + n)))
        });
        client.send(&packet(0x62, &[0, 2]));
        assert_eq!(client.answer(0x70), 2);
        client.send(&[0xc0, 0]);
        assert_eq!(client.packet(), (0xd0, vec![]));
    }
    rig.wait("QoS 0 readings committed", |rig| rig.values().len() == 8);
    rig.stop();
}

#[test]
fn a_message_that_comes_again_is_acknowledged_and_not_counted() {
    // Goal: copies of a kept session, by identifier and content: on the same connection, after a reconnect, and after a
    // restart of the gateway; and a new message that uses an old identifier is none.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path(), "");
    let (mut client, present) = Client::enter(rig.at, &kept("sensor"));
    assert!(!present);
    client.publish(QOS_1, "plant/x", 7, "1");
    client.publish(QOS_2, "plant/x", 8, "2");
    assert_eq!((client.answer(0x40), client.answer(0x50)), (7, 8));
    client.publish(QOS_1 | DUP, "plant/x", 7, "1");
    client.publish(QOS_2 | DUP, "plant/x", 8, "2");
    assert_eq!((client.answer(0x40), client.answer(0x50)), (7, 8));
    drop(client);
    let (mut client, present) = Client::enter(rig.at, &kept("sensor"));
    assert!(present, "the session is kept");
    client.publish(QOS_1 | DUP, "plant/x", 7, "1");
    assert_eq!(client.answer(0x40), 7);
    rig.wait("two readings committed", |rig| rig.values() == [1, 2]);
    rig.stop();
    let rig = Rig::start(folder.path(), "");
    let (mut client, present) = Client::enter(rig.at, &kept("sensor"));
    assert!(present, "the session is in the database");
    client.publish(QOS_1 | DUP, "plant/x", 7, "1");
    client.publish(QOS_2 | DUP, "plant/x", 8, "2");
    assert_eq!((client.answer(0x40), client.answer(0x50)), (7, 8));
    client.publish(QOS_1, "plant/x", 7, "1");
    client.publish(QOS_1 | DUP, "plant/x", 9, "1");
    assert_eq!((client.answer(0x40), client.answer(0x40)), (7, 9));
    // What was committed before the restart comes first, from the journal.
    rig.wait("new readings committed", |rig| rig.values() == [1, 2, 1, 1]);
    rig.stop();
}

#[test]
fn a_clean_start_ends_the_session_and_an_expired_one_is_gone() {
    // Goal: sessions in both versions: clean start forgets, an expiry of a second is over after two.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path(), "");
    let (client, _) = Client::enter(rig.at, &kept("a"));
    drop(client);
    let (client, present) = Client::enter(rig.at, &hello("a"));
    assert!(!present);
    drop(client);
    let (client, present) = Client::enter(rig.at, &kept("a"));
    assert!(!present, "a clean session leaves nothing");
    drop(client);
    let five = |expiry| Hello { version: 5, expiry: Some(expiry), ..kept("b") };
    let (mut client, _) = Client::enter(rig.at, &five(1));
    client.send(&[0xe0, 0]);
    assert!(client.ends());
    let (client, present) = Client::enter(rig.at, &five(1));
    assert!(present);
    drop(client);
    std::thread::park_timeout(Duration::from_millis(2_200));
    let (_client, present) = Client::enter(rig.at, &five(0));
    assert!(!present, "the session has expired");
    rig.stop();
}

#[test]
fn a_client_that_connects_again_takes_its_session_over() {
    // Goal: the older connection ends, told why in version 5, and the newer one goes on.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path(), "");
    let five = Hello { version: 5, ..hello("twin") };
    let (mut old, _) = Client::enter(rig.at, &five);
    let (mut new, _) = Client::enter(rig.at, &five);
    let (head, body) = old.packet();
    assert_eq!((head, body[0]), (0xe0, 0x8e), "session taken over");
    assert!(old.ends());
    new.publish(QOS_1, "plant/x", 1, "5");
    assert_eq!(new.answer(0x40), 1);
    rig.stop();
}

#[test]
fn readings_reach_subscribers_after_they_are_committed() {
    // Goal: live readings, wildcards, QoS, topics of no stream, no echo to one who does not want it.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path(), "");
    let (mut panel, _) = Client::enter(rig.at, &hello("panel"));
    assert_eq!(panel.subscribe(1, &[("plant/+", 1), ("cmd/#", 0), ("cmd/x", 1)]), [1, 0, 1]);
    let (mut sensor, _) = Client::enter(rig.at, &Hello { version: 5, ..hello("sensor") });
    assert_eq!(sensor.subscribe(1, &[("plant/#", 2 | 4)]), [1], "no local, QoS 2 granted as 1");
    sensor.publish(QOS_1, "plant/x", 1, "41");
    let (head, topic, payload, pkid) = panel.message();
    assert_eq!((head, topic.as_str(), payload.as_str()), (0x32, "plant/x", "41"));
    rig.wait("its reading committed", |rig| rig.values().contains(&41));
    panel.send(&packet(0x40, &pkid.to_be_bytes()));
    sensor.publish(QOS_2, "cmd/valve", 2, "open");
    let (head, topic, ..) = panel.message();
    assert_eq!((head, topic.as_str()), (0x30, "cmd/valve"));
    assert_eq!((sensor.answer(0x40), sensor.answer(0x50)), (1, 2));
    assert_eq!(sensor.packet_within(A_WHILE), None, "its own are not sent to it");
    panel.send(&packet(0xa2, &[0, 9, 0, 5, b'c', b'm', b'd', b'/', b'#']));
    assert_eq!(panel.packet(), (0xb0, vec![0, 9]));
    rig.stop();
}

#[test]
fn a_subscriber_that_comes_back_gets_what_it_missed() {
    // Goal: a kept session queues QoS 1, sends again what was not acknowledged, and has its filters after a restart.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path(), "");
    let (mut panel, _) = Client::enter(rig.at, &kept("panel"));
    assert_eq!(panel.subscribe(1, &[("plant/#", 1)]), [1]);
    let (mut sensor, _) = Client::enter(rig.at, &hello("sensor"));
    sensor.publish(QOS_1, "plant/x", 1, "1");
    assert_eq!(panel.message().2, "1");
    drop(panel);
    rig.wait("the panel has left", |rig| rig.account.closed.load(std::sync::atomic::Ordering::Relaxed) == 1);
    sensor.publish(QOS_1, "plant/x", 2, "2");
    assert_eq!((sensor.answer(0x40), sensor.answer(0x40)), (1, 2));
    let (mut panel, present) = Client::enter(rig.at, &kept("panel"));
    assert!(present);
    let (head, _, payload, _) = panel.message();
    assert_eq!((head, payload.as_str()), (0x3a, "1"), "again, as a copy");
    assert_eq!(panel.message().2, "2");
    rig.stop();
    let rig = Rig::start(folder.path(), "");
    let (mut panel, present) = Client::enter(rig.at, &kept("panel"));
    assert!(present);
    let (mut sensor, _) = Client::enter(rig.at, &hello("sensor"));
    sensor.publish(QOS_1, "plant/x", 1, "3");
    assert_eq!(panel.message().2, "3");
    rig.stop();
}

#[test]
fn the_last_value_of_a_topic_is_kept_and_survives_a_restart() {
    // Goal: a retained message is sent to a new subscriber, marked; an empty one ends it.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path(), "");
    let (mut sensor, _) = Client::enter(rig.at, &hello("sensor"));
    sensor.publish(QOS_1 | RETAIN, "plant/x", 1, "1");
    sensor.publish(QOS_1 | RETAIN, "plant/x", 2, "2");
    sensor.publish(QOS_1 | RETAIN, "plant/y", 3, "3");
    sensor.publish(QOS_1 | RETAIN, "plant/y", 4, "");
    (1..=4).for_each(|pkid| assert_eq!(sensor.answer(0x40), pkid));
    rig.stop();
    let rig = Rig::start(folder.path(), "");
    let (mut panel, _) = Client::enter(rig.at, &hello("panel"));
    panel.subscribe(1, &[("plant/#", 0)]);
    let (head, topic, payload, _) = panel.message();
    assert_eq!((head, topic.as_str(), payload.as_str()), (0x31, "plant/x", "2"));
    assert_eq!(panel.packet_within(A_WHILE), None);
    rig.stop();
}

#[test]
fn a_will_is_published_when_its_client_is_lost_and_not_when_it_takes_leave() {
    // Goal: connection lost, farewell, a delayed will that is forestalled by the client's return.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path(), "");
    let (mut panel, _) = Client::enter(rig.at, &hello("panel"));
    panel.subscribe(1, &[("dead/#", 0)]);
    let will = |topic| Hello { will: Some((topic, "gone", 0, false)), ..hello("s") };
    let (mut polite, _) = Client::enter(rig.at, &will("dead/polite"));
    polite.send(&[0xe0, 0]);
    assert!(polite.ends());
    let patient = Hello { version: 5, clean: false, expiry: Some(60), will_delay: 1, ..will("dead/patient") };
    drop(Client::enter(rig.at, &patient));
    let (_patient, present) = Client::enter(rig.at, &Hello { will: None, ..patient.clone() });
    assert!(present);
    let (lost, _) = Client::enter(rig.at, &Hello { id: "t", ..will("dead/lost") });
    drop(lost);
    assert_eq!(panel.message().1, "dead/lost");
    assert_eq!(panel.packet_within(Duration::from_millis(2_500)), None);
    rig.stop();
}

#[test]
fn a_silent_client_is_ended_after_its_keep_alive() {
    // Goal: one and a half times the keep-alive, and the will goes out; one that pings stays.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path(), "");
    let (mut silent, _) = Client::enter(rig.at, &Hello { version: 5, keep_alive: 1, ..hello("silent") });
    let (mut alive, _) = Client::enter(rig.at, &Hello { keep_alive: 4, ..hello("alive") });
    for _ in 0..12 {
        alive.send(&[0xc0, 0]);
        assert_eq!(alive.packet().0, 0xd0);
        std::thread::park_timeout(Duration::from_millis(600));
    }
    let (head, body) = silent.packet();
    assert_eq!((head, body[0]), (0xe0, 0x8d), "keep-alive timeout");
    rig.stop();
}

#[test]
fn aliases_and_the_receive_maximum_are_kept_to() {
    // Goal: version 5's flow control. A topic alias stands for its topic; one message too many ends the connection; a
    // version 3 client is held up instead, and loses nothing.
    let folder = tempfile::tempdir().unwrap();
    let more = "[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:PORT\"\nreceive_max = 4\n";
    let rig = Rig::start(folder.path(), more);
    let (mut client, answer) = Client::greet(rig.at, &Hello { version: 5, ..hello("five") });
    assert!(answer.windows(3).any(|w| w == [0x21, 0, 4]), "receive maximum is told: {answer:?}");
    let body = [&[0, 7][..], b"plant/x", &[0, 1, 3, 0x23, 0, 1], b"1"].concat();
    client.send(&packet(0x32, &body));
    client.send(&packet(0x32, &[&[0, 0, 0, 2, 3, 0x23, 0, 1][..], b"2"].concat()));
    assert_eq!((client.answer(0x40), client.answer(0x40)), (1, 2));
    let burst: Vec<u8> = (1..=6).flat_map(|pkid| publish_packet(5, QOS_1, "plant/x", pkid, b"9")).collect();
    client.send(&burst);
    let (head, body) = client.packet();
    assert_eq!((head, body[0]), (0xe0, 0x93));
    let (mut client, _) = Client::enter(rig.at, &hello("four"));
    let burst: Vec<u8> = (1..=50).flat_map(|pkid| publish_packet(4, QOS_1, "plant/x", pkid, b"8")).collect();
    client.send(&burst);
    (1..=50).for_each(|pkid| assert_eq!(client.answer(0x40), pkid));
    rig.wait("all fifty committed", |rig| rig.values().iter().filter(|value| **value == 8).count() == 50);
    rig.stop();
}

#[test]
fn what_is_no_mqtt_is_ended_and_bothers_nobody() {
    // Goal: each breach of the protocol ends its connection; a sensor beside goes on.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path(), "");
    let (mut sensor, _) = Client::enter(rig.at, &hello("sensor"));
    let said = connect_packet(&hello("bad"));
    let twice = [said.clone(), said.clone()].concat();
    let huge = [said.clone(), vec![0x30, 0xff, 0xff, 0xff, 0x7f]].concat();
    let wildcard = [said.clone(), publish_packet(4, 0, "plant/#", 0, b"1")].concat();
    let nameless = [said.clone(), publish_packet(4, 0, "", 0, b"1")].concat();
    let reserved = [said.clone(), packet(0xf0, &[])].concat();
    let server = [said, packet(0x20, &[0, 0])].concat();
    let http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    for bytes in [twice, huge, wildcard, nameless, reserved, server, http, vec![0xc0, 0], vec![0; 64]] {
        let mut bad = Client::dial(rig.at);
        bad.send(&bytes);
        assert!(bad.ends(), "{bytes:?}");
    }
    sensor.publish(QOS_1, "plant/x", 1, "1");
    assert_eq!(sensor.answer(0x40), 1);
    rig.stop();
}

#[test]
fn a_subscriber_that_reads_misses_nothing_of_a_group_larger_than_its_queue() {
    // Goal: messages come to subscribers a group commit at a time; a queue bounds who does not read, not who does. Method: a
    // queue of 100, 600 messages in a group or two, a subscriber that acknowledges as it reads, at QoS 1 and 0; and one beside
    // it that reads nothing and holds nobody up.
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{PLANT}[mqtt.clients]\nqueue_messages_max = 100\n").replace("50ms", "200ms");
    let rig = Rig::start_with(folder.path(), &text);
    let (mut deaf, _) = Client::enter(rig.at, &hello("deaf"));
    deaf.subscribe(1, &[("plant/#", 1)]);
    for qos in [1, 0] {
        let (mut reader, _) = Client::enter(rig.at, &hello("reader"));
        reader.subscribe(1, &[("plant/#", qos)]);
        let (mut sensor, _) = Client::enter(rig.at, &hello("sensor"));
        let sending = std::thread::spawn(move || {
            for pkid in 1..=600 {
                sensor.publish(QOS_1, "plant/x", pkid, &pkid.to_string());
            }
            for pkid in 1..=600 {
                assert_eq!(sensor.answer(0x40), pkid);
            }
        });
        for expected in 1..=600 {
            let (_, _, payload, pkid) = reader.message();
            assert_eq!(payload, expected.to_string());
            if qos == 1 {
                reader.send(&packet(0x40, &pkid.to_be_bytes()));
            }
        }
        sending.join().unwrap();
    }
    rig.stop();
}

#[test]
fn messages_of_a_topic_keep_their_order_retained_or_not() {
    // Goal: a retained command waits until it is on flash, one that is not retained need not; an actuator sees both in the
    // order they were sent. Method: some of each on a topic of no stream; on another topic nobody waits.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start_with(folder.path(), &PLANT.replace("50ms", "1s"));
    let (mut actuator, _) = Client::enter(rig.at, &hello("actuator"));
    actuator.subscribe(1, &[("command/#", 1)]);
    let (mut panel, _) = Client::enter(rig.at, &hello("panel"));
    for (pkid, flags) in [(1, QOS_1 | RETAIN), (2, QOS_1), (3, 0), (4, QOS_1 | RETAIN), (5, QOS_1)] {
        panel.publish(flags, "command/valve", pkid, &pkid.to_string());
    }
    panel.publish(QOS_1, "command/other", 6, "6");
    let seen: Vec<String> = (0..6).map(|_| actuator.message().2).collect();
    assert_eq!(seen, ["6", "1", "2", "3", "4", "5"]);
    panel.publish(QOS_1, "command/valve", 7, "7");
    assert_eq!(actuator.message().2, "7");
    rig.stop();
}
