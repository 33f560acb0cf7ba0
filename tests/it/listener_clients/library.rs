//! rumqttc, MQTT 3.1.1 and 5.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS as QoS5;
use rumqttc::v5::mqttbytes::v5::{Filter, PublishProperties};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, Publish, QoS, v5};

use crate::listener_rig::{FACT_MAX, Gateway};

fn options(gateway: &Gateway, name: &str) -> MqttOptions {
    let mut options = MqttOptions::new(name, "127.0.0.1", gateway.port);
    options.set_keep_alive(Duration::from_secs(30)).set_inflight(50);
    options
}

fn options_v5(gateway: &Gateway, name: &str) -> v5::MqttOptions {
    let mut options = v5::MqttOptions::new(name, "127.0.0.1", gateway.port);
    options.set_keep_alive(Duration::from_secs(30));
    options
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(FACT_MAX, future).await.expect("it happens in time")
}

/// Polls until a message comes.
async fn message(events: &mut rumqttc::EventLoop) -> Publish {
    within(async {
        loop {
            if let Event::Incoming(Packet::Publish(publish)) = events.poll().await.unwrap() {
                return publish;
            }
        }
    })
    .await
}

/// Polls until a packet satisfies.
async fn packet(events: &mut rumqttc::EventLoop, satisfies: impl Fn(&Packet) -> bool) {
    within(async {
        loop {
            if let Event::Incoming(packet) = events.poll().await.unwrap()
                && satisfies(&packet)
            {
                return;
            }
        }
    })
    .await;
}

async fn packet_v5(
    events: &mut v5::EventLoop,
    satisfies: impl Fn(&v5::mqttbytes::v5::Packet) -> bool,
) -> v5::mqttbytes::v5::Packet {
    within(async {
        loop {
            if let v5::Event::Incoming(packet) = events.poll().await.unwrap()
                && satisfies(&packet)
            {
                return packet;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rumqttc_publishes_in_every_quality_and_its_readings_are_journalled() {
    // Goal: QoS 0, 1 and 2 arrive once each. Method: ten of each; those of QoS 1 and 2 are acknowledged.
    let gateway = Gateway::start("").await;
    let (client, mut events) = AsyncClient::new(options(&gateway, "rumqttc"), 100);
    let mut time = 1_700_000_000_000u64;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for _ in 0..10 {
            time += 1;
            let payload = format!(r#"{{"ts":{time},"v":1}}"#);
            client.publish("plant/a/state", qos, false, payload).await.unwrap();
        }
    }
    let (mut acks, mut comps) = (0, 0);
    within(async {
        while acks + comps < 20 {
            match events.poll().await.unwrap() {
                Event::Incoming(Packet::PubAck(_)) => acks += 1,
                Event::Incoming(Packet::PubComp(_)) => comps += 1,
                _ => {}
            }
        }
    })
    .await;
    assert_eq!((acks, comps), (10, 10));
    gateway.journalled(30).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panel_sees_live_readings_and_an_actuator_its_commands() {
    // Goal: messages reach subscribers on site, with wildcards, the retained one first. Method: a retained message, then a
    // subscriber, then live ones from another client.
    let gateway = Gateway::start("").await;
    let (sensor, mut sent) = AsyncClient::new(options(&gateway, "sensor"), 100);
    sensor.publish("command/valve", QoS::AtLeastOnce, true, "shut").await.unwrap();
    packet(&mut sent, |packet| matches!(packet, Packet::PubAck(_))).await;
    let (panel, mut seen) = AsyncClient::new(options(&gateway, "panel"), 100);
    panel.subscribe("command/+", QoS::AtLeastOnce).await.unwrap();
    panel.subscribe("plant/#", QoS::AtMostOnce).await.unwrap();
    let first = message(&mut seen).await;
    assert_eq!((&first.topic[..], &first.payload[..], first.retain), ("command/valve", &b"shut"[..], true));
    packet(&mut seen, |packet| matches!(packet, Packet::SubAck(_))).await;
    sensor.publish("plant/a/state", QoS::AtLeastOnce, false, r#"{"ts":1700000000001,"v":1}"#).await.unwrap();
    packet(&mut sent, |packet| matches!(packet, Packet::PubAck(_))).await;
    let live = message(&mut seen).await;
    assert_eq!((&live.topic[..], live.qos, live.retain), ("plant/a/state", QoS::AtMostOnce, false));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_kept_with_what_waits_for_it_over_a_crash() {
    // Goal: an absent actuator gets its command; its subscription outlives a SIGKILL of the gateway. Method: subscribe,
    // leave, publish, come back; leave, kill the gateway, come back, publish.
    let mut gateway = Gateway::start("").await;
    let mut kept = options(&gateway, "actuator");
    kept.set_clean_session(false);
    let (actuator, mut seen) = AsyncClient::new(kept.clone(), 100);
    actuator.subscribe("command/#", QoS::AtLeastOnce).await.unwrap();
    packet(&mut seen, |packet| matches!(packet, Packet::SubAck(_))).await;
    drop((actuator, seen));
    let publish = async |gateway: &Gateway, name: &str, payload: &str| {
        let (client, mut sent) = AsyncClient::new(options(gateway, name), 100);
        client.publish("command/valve", QoS::AtLeastOnce, false, payload).await.unwrap();
        packet(&mut sent, |packet| matches!(packet, Packet::PubAck(_))).await;
    };
    publish(&gateway, "operator", "open").await;
    let (actuator, mut seen) = AsyncClient::new(kept.clone(), 100);
    assert_eq!(&message(&mut seen).await.payload[..], b"open");
    drop((actuator, seen));
    gateway.kill_and_restart().await;
    let (_actuator, mut seen) = AsyncClient::new(kept, 100);
    packet(&mut seen, |packet| matches!(packet, Packet::ConnAck(ack) if ack.session_present)).await;
    publish(&gateway, "operator", "shut").await;
    assert_eq!(&message(&mut seen).await.payload[..], b"shut");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retained_value_outlives_a_crash_once_it_is_acknowledged() {
    // Goal: the acknowledgement of a retained message covers its retaining. Method: SIGKILL right behind it.
    let mut gateway = Gateway::start("").await;
    let (client, mut sent) = AsyncClient::new(options(&gateway, "sensor"), 100);
    for payload in ["1", "2", "3"] {
        client.publish("state/press", QoS::AtLeastOnce, true, payload).await.unwrap();
    }
    for _ in 0..3 {
        packet(&mut sent, |packet| matches!(packet, Packet::PubAck(_))).await;
    }
    gateway.kill_and_restart().await;
    let (panel, mut seen) = AsyncClient::new(options(&gateway, "panel"), 100);
    panel.subscribe("state/#", QoS::AtLeastOnce).await.unwrap();
    let kept = message(&mut seen).await;
    assert_eq!((&kept.payload[..], kept.retain), (&b"3"[..], true));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_is_published_when_its_client_is_gone() {
    // Goal: a panel learns that a sensor has died. Method: drop the connection without DISCONNECT.
    let gateway = Gateway::start("").await;
    let (panel, mut seen) = AsyncClient::new(options(&gateway, "panel"), 100);
    panel.subscribe("status/+", QoS::AtLeastOnce).await.unwrap();
    packet(&mut seen, |packet| matches!(packet, Packet::SubAck(_))).await;
    let mut with_will = options(&gateway, "sensor");
    with_will.set_last_will(rumqttc::LastWill::new("status/sensor", "gone", QoS::AtLeastOnce, false));
    let (_sensor, mut events) = AsyncClient::new(with_will, 10);
    packet(&mut events, |packet| matches!(packet, Packet::ConnAck(_))).await;
    drop(events);
    assert_eq!(&message(&mut seen).await.payload[..], b"gone");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rumqttc_speaks_mqtt_5_with_aliases_and_properties() {
    // Goal: what version 5 adds arrives whole. Method: two subscriptions with identifiers; a message with properties, twice,
    // the second time under its alias alone.
    let gateway = Gateway::start("").await;
    let (panel, mut seen) = v5::AsyncClient::new(options_v5(&gateway, "panel"), 100);
    for (id, filter) in [(7, "plant/#"), (300, "plant/+/state")] {
        let properties = v5::mqttbytes::v5::SubscribeProperties { id: Some(id), user_properties: vec![] };
        let filter = Filter::new(filter, QoS5::AtLeastOnce);
        panel.subscribe_many_with_properties([filter], properties).await.unwrap();
        packet_v5(&mut seen, |packet| matches!(packet, v5::mqttbytes::v5::Packet::SubAck(_))).await;
    }
    let (sensor, mut sent) = v5::AsyncClient::new(options_v5(&gateway, "sensor"), 100);
    packet_v5(&mut sent, |packet| matches!(packet, v5::mqttbytes::v5::Packet::ConnAck(_))).await;
    let properties = || PublishProperties {
        topic_alias: Some(3),
        message_expiry_interval: Some(60),
        user_properties: vec![("unit".to_owned(), "bar".to_owned())],
        content_type: Some("application/json".to_owned()),
        ..PublishProperties::default()
    };
    for (n, topic) in ["plant/a/state", ""].into_iter().enumerate() {
        let payload = format!(r#"{{"ts":170000000000{n},"v":1}}"#);
        let publish = sensor.publish_with_properties(topic, QoS5::AtLeastOnce, false, payload, properties());
        publish.await.unwrap();
    }
    for _ in 0..2 {
        packet_v5(&mut sent, |packet| matches!(packet, v5::mqttbytes::v5::Packet::PubAck(_))).await;
    }
    for n in 0..2 {
        let received =
            packet_v5(&mut seen, |packet| matches!(packet, v5::mqttbytes::v5::Packet::Publish(_))).await;
        let v5::mqttbytes::v5::Packet::Publish(publish) = received else { panic!("matched above") };
        let properties = publish.properties.expect("they are passed on");
        assert_eq!(&publish.topic[..], b"plant/a/state", "message {n}");
        assert_eq!(properties.user_properties, [("unit".to_owned(), "bar".to_owned())]);
        assert_eq!(properties.content_type.as_deref(), Some("application/json"));
        let mut identifiers = properties.subscription_identifiers;
        identifiers.sort();
        assert_eq!(identifiers, [7, 300]);
        assert!(properties.message_expiry_interval.is_some_and(|left| (50..=60).contains(&left)));
    }
    gateway.journalled(2).await;
    gateway.stop().await;
}
