//! The broker door against a real mosquitto, through a proxy that fails, and against a scripted broker.

mod proxy;
mod rig;
mod script;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use frond::config::{Decode, Fields, TimeFormat, TimeSource};
use frond::ingest::Reason;
use frond::ingest::state::DoorState;
use frond::sample::{DoorId, Durability, Identity, Message, Timeline, Value};
use rumqttc::{ConnectReturnCode, Packet, QoS, SubscribeReasonCode};
use tokio::time::Instant;

use crate::peers::{Mosquitto, Stop};
use proxy::{Mode, Proxy};
use rig::{Publisher, Rig, broker, file, numbers, stream, values};
use script::{Script, publish};

fn connects(rig: &Rig) -> u64 {
    rig.view.counters.connects.load(Relaxed)
}

fn redelivered(rig: &Rig) -> u64 {
    rig.view.counters.redelivered.load(Relaxed)
}

async fn acknowledged(rig: &Rig, count: u64) {
    rig.counted("acknowledged", count, |view| view.counters.acknowledged.load(Relaxed)).await;
}

fn identities(messages: &[Message]) -> Vec<Identity> {
    messages.iter().map(|message| message.identity().expect("QoS 1")).collect()
}

#[tokio::test]
async fn readings_arrive_decoded_and_named() {
    // Goal: topic, field, value, time, timeline, unit, labels. Method: two streams, one with a time of its own.
    let mosquitto = Mosquitto::start("").await;
    let mut presses = stream("presses", &["plant/+/press"]);
    presses.unit = "bar".into();
    presses.series = "{topic.1}:{field}".into();
    presses.labels.insert("hall".into(), "hall-{topic.1}".into());
    presses.time = TimeSource::Field { field: "ts".into(), format: TimeFormat::Milliseconds };
    let mut rig = Rig::start(&broker(mosquitto.port), vec![presses, stream("rest", &["plant/#"])]);
    rig.ready().await;
    let mut sensor = Publisher::connect(mosquitto.port).await;
    sensor
        .publish([("plant/a/press", r#"{"p":{"in":1.5,"out":2},"ts":1700000000123}"#), ("plant/a/x", "7")])
        .await;

    let first = rig.message().await;
    assert_eq!((first.door, first.ticket, first.stream.0), (DoorId(0), 1, 0));
    assert_eq!(first.timeline, Timeline::Sensor);
    assert_eq!(values(&first), [Value::Float(1.5), Value::Int(2)]);
    assert!(first.readings.iter().all(|reading| reading.time == 1_700_000_000_123_000_000));
    let entry = rig.series.entry(first.readings[1].series);
    assert_eq!((entry.name.as_str(), entry.unit.as_str()), ("a:p.out", "bar"));
    assert_eq!(entry.labels.into_iter().collect::<Vec<_>>(), [("hall".to_owned(), "hall-a".to_owned())]);

    let second = rig.message().await;
    assert_eq!((second.ticket, second.stream.0, second.timeline), (2, 1, Timeline::Arrival));
    assert_eq!(rig.series.entry(second.readings[0].series).name, "plant/a/x");
    assert_eq!(rig.view.counters.streams[0].readings.load(Relaxed), 2);
    rig.finish().await;
}

#[tokio::test]
async fn bad_payloads_are_counted_and_do_no_harm() {
    // Goal: every kind of bad input has its count, is acknowledged, and neighbours arrive. Method: one message of each,
    // a good one behind each.
    let mosquitto = Mosquitto::start("").await;
    let mut timed = stream("timed", &["t/#"]);
    timed.time = TimeSource::Field { field: "t".into(), format: TimeFormat::Seconds };
    let mut cbor = stream("cbor", &["c"]);
    cbor.decode = Decode::Cbor(Fields::default());
    let mut levels = stream("levels", &["l"]);
    levels.series = "{topic.3}".into();
    let mut rig = Rig::start(&broker(mosquitto.port), vec![stream("json", &["j"]), timed, cbor, levels]);
    rig.ready().await;
    let big = vec![b' '; 65 * 1024];
    let deep = "[".repeat(17) + "1" + &"]".repeat(17);
    let many = format!("[{}1]", "1,".repeat(1_000));
    let bad: Vec<(&str, Vec<u8>, usize, Reason)> = vec![
        ("j", b"{\"a\":".to_vec(), 0, Reason::Malformed),
        ("j", b"\xff\xfe".to_vec(), 0, Reason::Malformed),
        ("j", big, 0, Reason::TooLarge),
        ("j", deep.into(), 0, Reason::TooDeep),
        ("j", many.into(), 0, Reason::TooManySamples),
        ("j", b"{\"a\":NaN}".to_vec(), 0, Reason::NotFinite),
        ("j", b"{\"a\":1e999}".to_vec(), 0, Reason::NotFinite),
        ("j", b"{\"a\":9223372036854775808}".to_vec(), 0, Reason::IntegerOutOfRange),
        ("j", b"{\"a\":\"text\"}".to_vec(), 0, Reason::Text),
        ("j", b"{}".to_vec(), 0, Reason::Empty),
        ("j", Vec::new(), 0, Reason::Empty),
        ("l", b"1".to_vec(), 3, Reason::SeriesName),
        ("t", b"{\"a\":1}".to_vec(), 1, Reason::TimeMissing),
        ("t", b"{\"a\":1,\"t\":-5}".to_vec(), 1, Reason::TimeOutOfRange),
        ("t", b"{\"a\":1,\"t\":1e30}".to_vec(), 1, Reason::TimeOutOfRange),
        ("t", b"{\"a\":1,\"t\":\"noon\"}".to_vec(), 1, Reason::TimeMalformed),
        ("c", b"\xf9\x7e\x00".to_vec(), 2, Reason::NotFinite),
        ("c", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(), 2, Reason::Malformed),
    ];
    let mut sensor = Publisher::connect(mosquitto.port).await;
    for (n, (topic, payload, at, reason)) in bad.into_iter().enumerate() {
        let before = rig.rejected(at, reason);
        sensor.publish([(topic, payload)]).await;
        sensor.count("j", [n as i64]).await;
        let rejected = rig.message().await;
        assert_eq!((values(&rejected), rejected.stream.0), (vec![], at as u32), "{reason:?}");
        assert_eq!(numbers(&[rig.message().await]), [n as i64]);
        assert_eq!(rig.rejected(at, reason), before + 1, "{reason:?}");
        let specimens = rig.view.specimens.borrow().of(Some(at)).last().map(|specimen| specimen.reason);
        assert_eq!(specimens == Some(reason), reason.is_noteworthy());
    }
    assert_eq!(connects(&rig), 1, "nothing of this costs the connection");
    rig.commit(1_000);
    acknowledged(&rig, 36).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_flood_of_topics_is_bounded_and_does_no_harm() {
    // Goal: a stream takes its maximum of series, refuses the rest, and another stream does not notice. Method: twelve
    // hundred topics into a stream of a hundred series, each beside a reading of a neighbour.
    let mosquitto = Mosquitto::start("").await;
    let mut flood = stream("flood", &["flood/#"]);
    flood.caps.series_max = 100;
    let mut good = stream("good", &["good"]);
    good.caps.series_max = 100;
    let mut rig = Rig::start(&broker(mosquitto.port), vec![flood, good]);
    rig.ready().await;
    let mut sensor = Publisher::connect(mosquitto.port).await;
    let (mut from_flood, mut from_good) = (0, Vec::new());
    for n in 0..1_200 {
        sensor.publish([(format!("flood/{n}"), n.to_string()), ("good".to_owned(), n.to_string())]).await;
        for message in rig.messages(2).await {
            rig.commit(message.ticket);
            match message.stream.0 {
                0 => from_flood += message.readings.len(),
                _ => from_good.extend(numbers(&[message])),
            }
        }
    }
    assert_eq!((from_flood, rig.series.count()), (100, 101));
    assert_eq!(rig.rejected(0, Reason::TooManySeries), 1_100);
    assert_eq!(from_good, (0..1_200).collect::<Vec<_>>());
    sensor.count("flood/5", [5]).await;
    assert_eq!(numbers(&rig.messages(1).await), [5], "a series known before is still served");
    rig.finish().await;
}

#[tokio::test]
async fn retained_copies_are_not_readings() {
    // Goal: what a broker sends again at every SUBSCRIBE is counted apart. Method: a retained message from before the
    // door, and one while it is there, over two connections.
    let mosquitto = Mosquitto::start("").await;
    let proxy = Proxy::start(mosquitto.address()).await;
    let mut sensor = Publisher::connect(mosquitto.port).await;
    sensor.retain("a/old", "1").await;
    let mut rig = Rig::start(&broker(proxy.port), vec![stream("s", &["a/#"])]);
    rig.ready().await;
    sensor.retain("a/new", "2").await;
    let live = rig.message().await;
    assert_eq!(values(&live), [Value::Int(2)]);
    proxy.set(Mode::Cut);
    rig.state(|state| matches!(state, DoorState::Down { .. })).await;
    proxy.set(Mode::Open);
    rig.counted("retained", 3, |view| view.counters.streams[0].rejected(Reason::Retained)).await;
    sensor.count("a/new", [3]).await;
    assert_eq!(numbers(&rig.messages(1).await), [3]);
    assert_eq!(redelivered(&rig), 1, "the live one, which was not durable yet");
    rig.finish().await;
}

#[tokio::test]
async fn a_topic_belongs_to_the_first_stream_whatever_its_class() {
    // Goal: overlapping filters, within a session and between two, do not double a reading. Method: two doors of one
    // configuration, at a broker that delivers a copy per matching filter.
    let mosquitto = Mosquitto::start("allow_duplicate_messages true\n").await;
    let mut window = stream("window", &["plant/#"]);
    window.durability = Durability::Window;
    let streams = vec![stream("exact", &["plant/a", "plant/+"]), window];
    let mut reading = Rig::start(&broker(mosquitto.port), streams.clone());
    let mut windows = Rig::start_with(&broker(mosquitto.port), streams, Durability::Window, vec![], 100);
    reading.ready().await;
    windows.ready().await;
    let mut sensor = Publisher::connect(mosquitto.port).await;
    sensor.publish([("plant/a", "1"), ("plant/a/b", "2"), ("plant/c", "3"), ("plant/c/d", "4")]).await;
    assert_eq!(numbers(&reading.messages(2).await), [1, 3]);
    assert_eq!(numbers(&windows.messages(2).await), [2, 4]);
    sensor.publish([("plant/a", "5"), ("plant/x/y", "6")]).await;
    assert_eq!(numbers(&reading.messages(1).await), [5]);
    assert_eq!(numbers(&windows.messages(1).await), [6]);
    reading.finish().await;
    windows.finish().await;
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_durable_and_then_in_order() {
    // Goal: PUBACKs wait for the journal and keep the order of receipt. Method: the proxy records what the door sends.
    let mosquitto = Mosquitto::start("").await;
    let proxy = Proxy::start(mosquitto.address()).await;
    let mut rig = Rig::start(&broker(proxy.port), vec![stream("s", &["n"])]);
    rig.ready().await;
    let mut sensor = Publisher::connect(mosquitto.port).await;
    sensor.count("n", 0..10).await;
    let messages = rig.messages(10).await;
    let pkids: Vec<u16> = messages.iter().map(|message| message.pkid).collect();
    // A ping makes the round: had an acknowledgement been written, it would have come before it.
    rig.counted("pings", 1, |_| proxy.count(|packet| matches!(packet, Packet::PingReq)) as u64).await;
    assert!(proxy.take_acks().is_empty());
    rig.commit(4);
    acknowledged(&rig, 4).await;
    rig.commit(10);
    acknowledged(&rig, 10).await;
    rig.counted("pings", 1, |_| proxy.count(|packet| matches!(packet, Packet::PingReq)) as u64).await;
    assert_eq!(proxy.take_acks(), pkids);
    rig.finish().await;
}

#[tokio::test]
async fn after_a_crash_what_was_not_durable_comes_again_and_what_was_is_recognised() {
    // Goal: the broker keeps what was not acknowledged; the identities from the journal tell the rest. Method: crash with
    // some messages acknowledged, some durable with their acknowledgement lost, some not durable.
    let mosquitto = Mosquitto::start("").await;
    let proxy = Proxy::start(mosquitto.address()).await;
    let mut rig = Rig::start(&broker(proxy.port), vec![stream("s", &["n"])]);
    rig.ready().await;
    let mut sensor = Publisher::connect(mosquitto.port).await;
    sensor.count("n", 0..30).await;
    let messages = rig.messages(30).await;
    rig.commit(10);
    acknowledged(&rig, 10).await;
    // The broker has taken them when it answers a ping that was sent behind them.
    rig.counted("pings", 1, |_| proxy.count(|packet| matches!(packet, Packet::PingReq)) as u64).await;
    proxy.set(Mode::Deaf);
    rig.commit(20);
    acknowledged(&rig, 20).await;
    rig.crash().await;
    proxy.set(Mode::Open);

    sensor.count("n", 30..33).await;
    let seen = identities(&messages[..20]);
    let mut rig =
        Rig::start_with(&broker(proxy.port), vec![stream("s", &["n"])], Durability::Reading, seen, 1_000);
    assert_eq!(numbers(&rig.messages(13).await), (20..33).collect::<Vec<_>>());
    rig.counted("redelivered", 10, redelivered_in).await;
    acknowledged(&rig, 10).await;
    rig.commit(13);
    acknowledged(&rig, 23).await;
    sensor.count("n", [33]).await;
    assert_eq!(numbers(&rig.messages(1).await), [33]);
    assert_eq!(redelivered(&rig), 10);
    rig.finish().await;
}

fn redelivered_in(view: &frond::ingest::state::DoorView) -> u64 {
    view.counters.redelivered.load(Relaxed)
}

#[tokio::test]
async fn a_cut_connection_loses_nothing_and_doubles_nothing() {
    // Goal: with messages in every state, each is passed on once. Method: cut the line again and again while a sensor
    // publishes and the journal commits with a delay; at times swallow acknowledgements first.
    let mosquitto = Mosquitto::start("").await;
    let proxy = Proxy::start(mosquitto.address()).await;
    let mut rig = Rig::start(&broker(proxy.port), vec![stream("s", &["n"])]);
    rig.ready().await;
    let mut sensor = Publisher::connect(mosquitto.port).await;
    let mut passed = Vec::new();
    for round in 0..3i64 {
        let first = round * 50;
        sensor.count("n", first..first + 30).await;
        // Some are passed on and durable, some only passed on, some still on their way.
        let some = rig.messages(15).await;
        rig.commit(some[9].ticket);
        passed.extend(some);
        if round > 0 {
            proxy.set(Mode::Deaf);
            rig.commit(passed.last().map_or(0, |message| message.ticket));
        }
        sensor.count("n", first + 30..first + 50).await;
        let before = connects(&rig);
        proxy.set(Mode::Cut);
        rig.state(|state| matches!(state, DoorState::Down { .. })).await;
        proxy.set(Mode::Open);
        rig.counted("connects", before + 1, |view| view.counters.connects.load(Relaxed)).await;
        passed.extend(rig.messages(35).await);
    }
    assert_eq!(numbers(&passed), (0..150).collect::<Vec<_>>());
    assert!(redelivered(&rig) > 0, "some came twice");
    rig.commit(150);
    sensor.count("n", [150]).await;
    assert_eq!(numbers(&rig.messages(1).await), [150], "and none comes behind");
    rig.finish().await;
}

#[tokio::test]
async fn a_stopped_door_acknowledges_what_is_durable_before_it_leaves() {
    // Goal: a proper stop leaves nothing to be sent again. Method: stop while the journal commits.
    let mosquitto = Mosquitto::start("").await;
    let mut rig = Rig::start(&broker(mosquitto.port), vec![stream("s", &["n"])]);
    rig.ready().await;
    let mut sensor = Publisher::connect(mosquitto.port).await;
    sensor.count("n", 0..5).await;
    rig.messages(5).await;
    rig.commit(3);
    rig.stop.cancel();
    rig.commit(5);
    rig.finish().await;
    let mut rig = Rig::start(&broker(mosquitto.port), vec![stream("s", &["n"])]);
    sensor.count("n", [5]).await;
    assert_eq!(numbers(&rig.messages(1).await), [5]);
    rig.finish().await;
}

#[tokio::test]
async fn a_broker_that_keeps_its_sessions_may_be_restarted() {
    // Goal: with persistence nothing is lost or doubled over a restart. Method: SIGTERM with messages pending.
    let mut mosquitto = Mosquitto::start("persistence true\npersistence_location {folder}/\n").await;
    let mut rig = Rig::start(&broker(mosquitto.port), vec![stream("s", &["n"])]);
    rig.ready().await;
    Publisher::connect(mosquitto.port).await.count("n", 0..20).await;
    let first = rig.messages(20).await;
    rig.commit(10);
    acknowledged(&rig, 10).await;
    mosquitto.stop(Stop::Properly).await;
    rig.state(|state| matches!(state, DoorState::Down { .. })).await;
    mosquitto.restart().await;
    rig.state(|state| *state == DoorState::Connected { session_present: true }).await;
    rig.counted("redelivered", 10, redelivered_in).await;
    rig.commit(20);
    acknowledged(&rig, 20).await;
    Publisher::connect(mosquitto.port).await.count("n", 20..25).await;
    assert_eq!(numbers(&rig.messages(5).await), (20..25).collect::<Vec<_>>());
    assert_eq!(numbers(&first), (0..20).collect::<Vec<_>>());
    rig.finish().await;
}

#[tokio::test]
async fn a_broker_that_loses_its_sessions_is_noticed() {
    // Goal: the journal is told before anything else comes, and packet identifiers of before mean nothing. Method:
    // SIGKILL without persistence, then the same payloads under the same identifiers.
    let mut mosquitto = Mosquitto::start("").await;
    let mut rig = Rig::start(&broker(mosquitto.port), vec![stream("s", &["n"])]);
    rig.ready().await;
    Publisher::connect(mosquitto.port).await.count("n", [1, 1, 1]).await;
    rig.messages(3).await;
    mosquitto.stop(Stop::AtOnce).await;
    rig.state(|state| matches!(state, DoorState::Down { .. })).await;
    mosquitto.restart().await;
    rig.forgotten().await;
    rig.subscribed(2).await;
    Publisher::connect(mosquitto.port).await.count("n", [1, 1, 1]).await;
    assert_eq!(rig.messages(3).await[2].ticket, 6);
    assert_eq!(redelivered(&rig), 0);
    rig.commit(6);
    acknowledged(&rig, 3).await;
    rig.finish().await;
}

#[tokio::test]
async fn refused_credentials_name_the_key_to_look_at() {
    // Goal: the state says what to do; a password file that is missing too. Method: a broker that lets nobody in.
    let mosquitto = Mosquitto::start_with("allow_anonymous false\n", |_| ()).await;
    let (_folder, password) = file("wrong\n");
    let mut config = broker(mosquitto.port);
    config.username = Some("gateway".into());
    config.password_file = Some(password);
    let mut rig = Rig::start(&config, vec![stream("s", &["n"])]);
    let refused = rig.state(|state| matches!(state, DoorState::Refused { .. })).await;
    let DoorState::Refused { remedy, .. } = refused else { unreachable!() };
    assert!(
        remedy.contains("mqtt.broker.username") && remedy.contains("mqtt.broker.password_file"),
        "{remedy}"
    );
    rig.finish().await;

    config.password_file = Some("/does/not/exist".into());
    let mut rig = Rig::start(&config, vec![stream("s", &["n"])]);
    let refused = rig.state(|state| matches!(state, DoorState::Refused { .. })).await;
    let DoorState::Refused { reason, remedy } = refused else { unreachable!() };
    assert!(
        reason.contains("/does/not/exist") && remedy.contains("mqtt.broker.password_file"),
        "{reason}; {remedy}"
    );
    rig.finish().await;
}

#[tokio::test]
async fn credentials_from_a_file_are_used() {
    // Goal: user name and password arrive as they are in the file, less the line's end. Method: a scripted broker.
    let script = Script::start().await;
    let (_folder, password) = file("p w\u{e4}\r\n");
    let mut config = broker(script.port);
    config.username = Some("gateway".into());
    config.password_file = Some(password);
    let rig = Rig::start(&config, vec![stream("s", &["n"])]);
    let visit = script.accept(ConnectReturnCode::Success, false).await;
    let login = visit.connect.login.expect("a login");
    assert_eq!((login.username.as_str(), login.password.as_str()), ("gateway", "p w\u{e4}"));
    assert_eq!(
        (visit.connect.client_id.as_str(), visit.connect.clean_session),
        ("frond-test-reading", false)
    );
    rig.finish().await;
}

#[tokio::test]
async fn back_pressure_reaches_the_broker_and_keeps_the_connection() {
    // Goal: with the journal's channel full the door stops reading, is not taken for dead, and goes on afterwards with
    // nothing sent twice. Method: nobody takes messages for longer than the broker's patience (1.5 x keep-alive).
    let mosquitto = Mosquitto::start("").await;
    let proxy = Proxy::start(mosquitto.address()).await;
    let mut config = broker(proxy.port);
    config.keep_alive = Duration::from_secs(1);
    let mut rig = Rig::start_with(&config, vec![stream("s", &["n"])], Durability::Reading, vec![], 4);
    rig.ready().await;
    let mut sensor = Publisher::connect(mosquitto.port).await;
    sensor.count("n", 0..200).await;
    rig.counted("full", 4, |_| rig.inbound.len() as u64).await;
    let full = Instant::now();
    rig.counted("pings", 12, |_| proxy.count(|packet| matches!(packet, Packet::PingReq)) as u64).await;
    assert!(full.elapsed() > Duration::from_secs(3), "longer than the broker waits");
    assert_eq!(rig.inbound.len(), 4);
    assert!(rig.view.counters.streams[0].messages.load(Relaxed) <= 5, "polling has stopped");
    assert_eq!(numbers(&rig.messages(200).await), (0..200).collect::<Vec<_>>());
    assert_eq!((connects(&rig), redelivered(&rig)), (1, 0));
    rig.finish().await;
}

#[tokio::test]
async fn acknowledgements_go_on_while_the_channel_is_full() {
    // Goal: a full channel does not hold up what is durable. Method: commit while nobody takes messages.
    let mosquitto = Mosquitto::start("").await;
    let mut rig =
        Rig::start_with(&broker(mosquitto.port), vec![stream("s", &["n"])], Durability::Reading, vec![], 4);
    rig.ready().await;
    let mut sensor = Publisher::connect(mosquitto.port).await;
    sensor.count("n", 0..20).await;
    rig.counted("full", 4, |_| rig.inbound.len() as u64).await;
    rig.commit(4);
    acknowledged(&rig, 4).await;
    assert_eq!(rig.inbound.len(), 4);
    assert_eq!(numbers(&rig.messages(20).await), (0..20).collect::<Vec<_>>());
    rig.finish().await;
}

#[tokio::test]
async fn a_silent_line_is_noticed() {
    // Goal: without a reset, the keep-alive ends the connection, and what was pending is recognised. Method: the proxy
    // passes on nothing for a while.
    let mosquitto = Mosquitto::start("").await;
    let proxy = Proxy::start(mosquitto.address()).await;
    let mut config = broker(proxy.port);
    config.keep_alive = Duration::from_secs(1);
    let mut rig = Rig::start(&config, vec![stream("s", &["n"])]);
    rig.ready().await;
    let mut sensor = Publisher::connect(mosquitto.port).await;
    sensor.count("n", 0..3).await;
    rig.messages(3).await;
    proxy.set(Mode::Silent);
    rig.state(|state| matches!(state, DoorState::Down { .. })).await;
    sensor.count("n", 3..6).await;
    proxy.set(Mode::Open);
    assert_eq!(numbers(&rig.messages(3).await), [3, 4, 5]);
    assert_eq!(redelivered(&rig), 3);
    rig.finish().await;
}

#[tokio::test]
async fn a_packet_beyond_the_limit_is_got_out_of_the_way() {
    // Goal: ten megabytes do not keep the door in a loop, are counted, and neighbours are unharmed. Method: mosquitto has
    // no limit of its own here and repeats the message at every connection until it is acknowledged.
    let mosquitto = Mosquitto::start("").await;
    let mut rig = Rig::start(&broker(mosquitto.port), vec![stream("s", &["n", "big"])]);
    rig.ready().await;
    rig.subscribed(2).await;
    let mut sensor = Publisher::connect(mosquitto.port).await;
    sensor.count("n", 0..5).await;
    sensor.publish([("big", vec![b'x'; 10 << 20])]).await;
    sensor.count("n", 5..10).await;
    let messages = rig.messages(10).await;
    assert_eq!(numbers(&messages), (0..10).collect::<Vec<_>>());
    assert_eq!(rig.rejected(0, Reason::TooLarge), 1);
    assert_eq!(rig.view.counters.sifted.load(Relaxed), 1);
    let specimen = rig.view.specimens.borrow().of(Some(0)).last().cloned().expect("a specimen");
    assert_eq!((specimen.topic.as_str(), specimen.payload_bytes), ("big", 10 << 20));
    rig.commit(10);
    acknowledged(&rig, 10).await;
    sensor.count("n", [10]).await;
    assert_eq!(numbers(&rig.messages(1).await), [10]);
    rig.finish().await;
}

#[tokio::test]
async fn a_topic_that_is_not_utf_8_is_got_out_of_the_way() {
    // Goal: such a message is acknowledged unread and counted; one read before it, in the same breath, is passed on and
    // recognised when it is repeated. Method: a scripted broker; mosquitto refuses such topics from publishers.
    let script = Script::start().await;
    let mut rig = Rig::start(&broker(script.port), vec![stream("s", &["#"])]);
    let mut visit = script.welcome(true).await;
    let mut bytes = bytes::BytesMut::new();
    publish("n", 1, false, "1").write(&mut bytes, usize::MAX).unwrap();
    let poison = [0x32, 9, 0, 3, b'a', 0xff, b'b', 0, 2, b'1', b'2'];
    bytes.extend_from_slice(&poison);
    visit.send_bytes(&bytes).await;
    assert_eq!(numbers(&rig.messages(1).await), [1]);

    let mut sift = script.accept(ConnectReturnCode::Success, true).await;
    assert_eq!(sift.connect.client_id, "frond-test-reading");
    sift.send(publish("n", 1, true, "1")).await;
    sift.send_bytes(&[&[poison[0] | 8], &poison[1..]].concat()).await;
    sift.expect_ack(2).await;
    assert_eq!(sift.next().await, Some(Packet::Disconnect));

    let mut visit = script.welcome(true).await;
    visit.send(publish("n", 1, true, "1")).await;
    visit.send(publish("n", 3, false, "3")).await;
    assert_eq!(numbers(&rig.messages(1).await), [3]);
    rig.commit(2);
    visit.expect_ack(1).await;
    visit.expect_ack(3).await;
    assert_eq!(rig.view.counters.unrouted.rejected(Reason::InvalidTopic), 1);
    rig.finish().await;
}

#[tokio::test]
async fn a_large_packet_at_qos_0_costs_a_connection_and_no_more() {
    // Goal: nothing is repeated and nothing found, and the door is back at once. Method: a scripted broker sends the
    // beginning of two megabytes.
    let script = Script::start().await;
    let mut rig = Rig::start(&broker(script.port), vec![stream("s", &["#"])]);
    let mut visit = script.welcome(true).await;
    visit.send(publish("n", 1, false, "1")).await;
    visit.send_bytes(&[0x30, 0x80, 0x80, 0x80, 0x01, 0, 1, b'n', b'x']).await;
    assert_eq!(numbers(&rig.messages(1).await), [1]);
    let mut sift = script.accept(ConnectReturnCode::Success, true).await;
    sift.send(publish("n", 1, true, "1")).await;
    assert_eq!(sift.next().await, Some(Packet::Disconnect));
    let mut visit = script.welcome(true).await;
    visit.send(publish("n", 1, true, "1")).await;
    visit.send(publish("n", 2, false, "2")).await;
    assert_eq!(numbers(&rig.messages(1).await), [2]);
    rig.commit(2);
    visit.expect_ack(1).await;
    visit.expect_ack(2).await;
    rig.finish().await;
}

#[tokio::test]
async fn an_acknowledgement_never_goes_out_on_a_later_connection() {
    // Goal: an identifier of a lost session is not acknowledged, although its message becomes durable: on the new session
    // it is another message's. Method: a scripted broker that loses its session with a message pending.
    let script = Script::start().await;
    let mut rig = Rig::start(&broker(script.port), vec![stream("s", &["#"])]);
    let mut visit = script.welcome(true).await;
    visit.send(publish("n", 1, false, "1")).await;
    rig.message().await;
    drop(visit);
    let mut visit = script.welcome(false).await;
    rig.forgotten().await;
    rig.commit(1);
    visit.send(publish("n", 1, false, "2")).await;
    visit.send(publish("n", 2, false, "3")).await;
    assert_eq!(numbers(&rig.messages(2).await), [2, 3]);
    // The subscription's refresh would come behind an acknowledgement written too early; a commit makes the door write.
    rig.commit(3);
    visit.expect_ack(1).await;
    visit.expect_ack(2).await;
    acknowledged(&rig, 2).await;
    rig.finish().await;
}

#[tokio::test]
async fn what_was_read_before_the_connection_broke_is_passed_on() {
    // Goal: messages in rumqttc's buffer are taken although their session is lost, since nobody sends them again.
    // Method: five messages and a broken packet in one breath, then a broker without the session.
    let script = Script::start().await;
    let mut rig = Rig::start(&broker(script.port), vec![stream("s", &["#"])]);
    let mut visit = script.welcome(true).await;
    let mut bytes = bytes::BytesMut::new();
    for pkid in 1..=5 {
        publish("n", pkid, false, &pkid.to_string()).write(&mut bytes, usize::MAX).unwrap();
    }
    bytes.extend_from_slice(&[0xf0, 0]);
    visit.send_bytes(&bytes).await;
    assert_eq!(numbers(&rig.messages(5).await), [1, 2, 3, 4, 5]);
    let _visit = script.welcome(false).await;
    rig.forgotten().await;
    rig.finish().await;
}

#[tokio::test]
async fn a_door_is_open_only_once_the_broker_has_subscribed_it() {
    // Goal: nobody is told that readings are taken while the broker still throws them away, not even when there is a
    // session: an earlier process may have been killed before it subscribed. Method: a broker that takes its time.
    let script = Script::start().await;
    let mut rig = Rig::start(&broker(script.port), vec![stream("s", &["#"])]);
    let mut visit = script.accept(ConnectReturnCode::Success, true).await;
    let Some(Packet::Subscribe(subscribe)) = visit.next().await else { panic!("expected SUBSCRIBE") };
    assert_eq!(rig.state(|_| true).await, DoorState::Connecting);
    let granted = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)];
    visit.send(Packet::SubAck(rumqttc::SubAck::new(subscribe.pkid, granted))).await;
    rig.state(|state| *state == DoorState::Connected { session_present: true }).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_refused_subscription_is_said_and_the_others_go_on() {
    // Goal: the state names filter and remedy, and the door stays connected. Method: SUBACK with a failure code.
    let script = Script::start().await;
    let mut rig = Rig::start(&broker(script.port), vec![stream("s", &["secret/#", "n"])]);
    let mut visit = script.accept(ConnectReturnCode::Success, true).await;
    let Some(Packet::Subscribe(subscribe)) = visit.next().await else { panic!("expected SUBSCRIBE") };
    let asked: Vec<&str> = subscribe.filters.iter().map(|filter| filter.path.as_str()).collect();
    assert_eq!(asked, ["secret/#", "n"]);
    let codes = vec![SubscribeReasonCode::Failure, SubscribeReasonCode::Success(QoS::AtLeastOnce)];
    visit.send(Packet::SubAck(rumqttc::SubAck::new(subscribe.pkid, codes))).await;
    let refused = rig.state(|state| matches!(state, DoorState::Refused { .. })).await;
    let DoorState::Refused { reason, remedy } = refused else { unreachable!() };
    assert!(reason.contains("secret/#") && remedy.contains("access list"), "{reason}; {remedy}");
    visit.send(publish("n", 1, false, "1")).await;
    assert_eq!(numbers(&rig.messages(1).await), [1]);
    rig.finish().await;
}

#[tokio::test]
async fn other_refusals_have_their_own_remedy() {
    // Goal: each return code of CONNACK ends in the right state. Method: a scripted broker.
    for (code, key) in [
        (ConnectReturnCode::BadClientId, Some("mqtt.broker.client_id")),
        (ConnectReturnCode::RefusedProtocolVersion, Some("mqtt.broker.url")),
        (ConnectReturnCode::BadUserNamePassword, Some("mqtt.broker.username")),
        (ConnectReturnCode::ServiceUnavailable, None),
    ] {
        let script = Script::start().await;
        let mut rig = Rig::start(&broker(script.port), vec![stream("s", &["n"])]);
        let _visit = script.accept(code, false).await;
        match (rig.state(|state| *state != DoorState::Connecting).await, key) {
            (DoorState::Refused { remedy, .. }, Some(key)) => assert!(remedy.contains(key), "{remedy}"),
            (DoorState::Down { .. }, None) => {}
            (state, _) => panic!("{code:?} gave {state:?}"),
        }
        rig.finish().await;
    }
}

#[tokio::test]
async fn messages_of_forgotten_subscriptions_are_acknowledged_and_counted() {
    // Goal: what an earlier configuration subscribed to does not clog the session, and stays in the order of
    // acknowledgements. Method: a scripted broker that sends a foreign topic between two of ours.
    let script = Script::start().await;
    let mut rig = Rig::start(&broker(script.port), vec![stream("s", &["n"])]);
    let mut visit = script.welcome(true).await;
    visit.send(publish("n", 1, false, "1")).await;
    visit.send(publish("gone/topic", 2, false, "2")).await;
    visit.send(publish("bad/+", 3, false, "3")).await;
    visit.send(publish("n", 4, false, "4")).await;
    let messages = rig.messages(2).await;
    assert_eq!((numbers(&messages), messages[1].ticket), (vec![1, 4], 2));
    assert_eq!(rig.view.counters.unrouted.rejected(Reason::Unrouted), 1);
    assert_eq!(rig.view.counters.unrouted.rejected(Reason::InvalidTopic), 1);
    rig.commit(2);
    for pkid in 1..=4 {
        visit.expect_ack(pkid).await;
    }
    rig.finish().await;
}

#[tokio::test]
async fn qos_0_is_passed_on_without_acknowledgement() {
    // Goal: such messages have no identity and leave no debt. Method: a stream that asks for QoS 0.
    let mosquitto = Mosquitto::start("").await;
    let mut plain = stream("s", &["n"]);
    plain.qos = 0;
    let mut rig = Rig::start(&broker(mosquitto.port), vec![plain]);
    rig.ready().await;
    let mut sensor = Publisher::connect(mosquitto.port).await;
    sensor.count("n", 0..3).await;
    let messages = rig.messages(3).await;
    assert!(messages.iter().all(|message| message.pkid == 0 && message.identity().is_none()));
    assert_eq!(messages[2].ticket, 3);
    rig.commit(3);
    rig.finish().await;
}

#[tokio::test]
async fn a_door_whose_journal_is_gone_ends() {
    // Goal: the door does not go on reading what nobody keeps. Method: drop the journal's end of the channel.
    let mosquitto = Mosquitto::start("").await;
    let mut rig = Rig::start(&broker(mosquitto.port), vec![stream("s", &["n"])]);
    rig.ready().await;
    rig.inbound.close();
    Publisher::connect(mosquitto.port).await.count("n", [1]).await;
    rig.fail().await;
}
