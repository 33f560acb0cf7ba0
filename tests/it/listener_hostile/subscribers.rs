//! Subscribers who ask for more than there is.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::raw::{Heard, Raw, publish, subscribe};
use super::{Beside, crowd, noise};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wildcard_storms_and_subscription_floods_are_bounded() {
    // Goal: neither the tree nor the search for subscribers grows without bound. Method: clients that subscribe to wildcards
    // at every level, to deep filters until they are refused, and again and again; messages that match many of them.
    let mut beside = Beside::start("").await;
    let at = beside.at();
    crowd(100, |n| async move {
        let mut raw = Raw::enter(at, &format!("storm-{n}")).await.unwrap();
        let wild = |bits: u64| {
            let level = |level: u64| if bits >> level & 1 == 0 { "a" } else { "+" };
            (0..12).map(level).collect::<Vec<_>>().join("/")
        };
        for packet in 1..=64 {
            let filter = wild(noise(n as u64 * 64 + u64::from(packet)));
            raw.send(&subscribe(packet, &[filter])).await.unwrap();
        }
        let deep = format!("{n}{}", "/x".repeat(100));
        for packet in 65..200 {
            let filters: Vec<_> = (0..20).map(|f| format!("{packet}/{f}/{deep}")).collect();
            raw.send(&subscribe(packet, &filters)).await.unwrap();
        }
        let mut refused = 0;
        for _ in 1..200 {
            // What others publish meanwhile comes in between.
            let ack = loop {
                match raw.hear().await {
                    Heard::Packet(ack) if ack[0] == 0x90 => break ack,
                    Heard::Packet(message) => assert_eq!(message[0] >> 4, 3),
                    Heard::Closed => panic!("thrown out"),
                }
            };
            refused += ack[4..].iter().filter(|code| **code == 0x80).count();
        }
        assert!(refused >= 135 * 20 - 64, "{refused}");
        for _ in 0..20 {
            raw.send(&publish("a/a/a/a/a/a/a/a/a/a/a/a", 0, 0, b"x")).await.unwrap();
        }
        raw.send(&[0xc0, 0]).await.unwrap();
        while raw.hear().await != Heard::Packet(vec![0xd0, 0]) {}
    })
    .await;
    beside.weigh();
    beside.judge("wildcards and subscriptions", 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_for_everything_retained_again_and_again_is_bounded() {
    // Goal: a SUBSCRIBE costs what it is answered with, not what could match. Method: 5,000 retained topics; 20 clients that
    // subscribe to all of them 2,000 times, and to what is nowhere, some of them without reading.
    let mut beside = Beside::start("").await;
    let at = beside.at();
    let mut raw = Raw::enter(at, "filler").await.unwrap();
    for n in 0..5000 {
        let mut message = publish(&format!("kept/{n}/x"), 0, 0, b"retained");
        message[0] |= 1;
        raw.send(&message).await.unwrap();
    }
    raw.send(&[0xc0, 0]).await.unwrap();
    assert_eq!(raw.hear().await, Heard::Packet(vec![0xd0, 0]));
    beside.sensor.acknowledged(20).await;
    beside.before = beside.gateway.memory();
    crowd(20, |n| async move {
        let mut raw = Raw::enter(at, &format!("greedy-{n}")).await.unwrap();
        let everything = subscribe(1, &["#".to_owned(), "+/+/nowhere".to_owned()]);
        let flood = everything.repeat(2000);
        if n % 2 == 0 {
            let _ = tokio::time::timeout(Duration::from_secs(3), raw.send(&flood)).await;
            return;
        }
        let (mut read, mut write) = raw.stream.into_split();
        let sending = async {
            let _ = write.write_all(&flood).await;
        };
        let reading = async {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut read, &mut buffer).await {}
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(sending, reading) }).await;
    })
    .await;
    beside.weigh();
    let mut raw = Raw::enter(at, "panel").await.unwrap();
    raw.send(&subscribe(1, &["kept/#".to_owned()])).await.unwrap();
    assert!(matches!(raw.hear().await, Heard::Packet(packet) if packet[0] == 0x90));
    for _ in 0..5000 {
        assert!(matches!(raw.hear().await, Heard::Packet(packet) if packet[0] == 0x31), "none is missing");
    }
    beside.judge("retained messages", 20 + 10 * 1024 / 20).await;
}
