//! Packets that are too large, wrong, or no packets at all.

use tokio::io::AsyncWriteExt;

use super::raw::{Heard, Raw, about, connect, publish, subscribe};
use super::{Beside, crowd, noise};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversize_packets_are_refused_by_their_header() {
    // Goal: no memory is set aside for what is only announced. Method: 200 clients that announce 256 MiB; 200 that announce
    // what is allowed, and send the beginning of it.
    let mut beside = Beside::start("").await;
    let at = beside.at();
    crowd(200, |n| async move {
        let mut raw = Raw::enter(at, &format!("large-{n}")).await.unwrap();
        let _ = raw.send(&[0x32, 0xff, 0xff, 0xff, 0x7f, 0, 1, b'x', 0, 1]).await;
        raw.hear_the_end().await;
    })
    .await;
    beside.weigh();
    let mut held = Vec::new();
    for n in 0..200 {
        let mut raw = Raw::enter(at, &format!("begun-{n}")).await.unwrap();
        let message = publish("large/x", 1, 1, &vec![b'x'; 200_000]);
        raw.send(&message[..1000]).await.unwrap();
        held.push(raw);
    }
    beside.sensor.acknowledged(50).await;
    beside.judge("oversize packets", 400).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packet_identifiers_cannot_be_abused() {
    // Goal: identifiers that are 0, unknown, used twice or never released confuse nobody else. Method: each, many times.
    let mut beside = Beside::start("").await;
    let at = beside.at();
    crowd(50, |n| async move {
        let mut raw = Raw::enter(at, &format!("zero-{n}")).await.unwrap();
        let _ = raw.send(&publish("abuse/x", 1, 0, b"x")).await;
        raw.hear_the_end().await;
        // Acknowledgements of what was never sent, and releases of what never came: PUBCOMP is due for those.
        let mut raw = Raw::enter(at, &format!("unknown-{n}")).await.unwrap();
        for packet in 1..500 {
            raw.send(
                &[about(0x40, packet), about(0x50, packet), about(0x62, packet), about(0x70, packet)]
                    .concat(),
            )
            .await
            .unwrap();
        }
        raw.send(&[0xc0, 0]).await.unwrap();
        while raw.hear().await != Heard::Packet(vec![0xd0, 0]) {}
        // One identifier for message after message: each is acknowledged.
        let mut raw = Raw::enter(at, &format!("same-{n}")).await.unwrap();
        for count in 0..100u32 {
            raw.send(&publish("abuse/x", 1, 7, &count.to_be_bytes())).await.unwrap();
        }
        for _ in 0..100 {
            assert_eq!(raw.hear().await, Heard::Packet(about(0x40, 7)));
        }
        // QoS 2 begun and never released, beyond what a client may have: it is not read any further, or sent away.
        let mut raw = Raw::enter(at, &format!("begun-{n}")).await.unwrap();
        let begun: Vec<u8> = (1..5000).flat_map(|packet| publish("abuse/y", 2, packet, b"x")).collect();
        let _ = raw.send(&begun).await;
        assert!(matches!(raw.hear().await, Heard::Packet(packet) if packet[0] == 0x50));
    })
    .await;
    beside.weigh();
    beside.judge("packet identifiers", 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_and_mutated_bytes_end_their_own_connection_only() {
    // Goal: no bytes bring the gateway down or into disorder. Method: random bytes, and proper conversations with some bytes
    // changed, 4,000 connections of each.
    let mut beside = Beside::start("").await;
    let at = beside.at();
    crowd(16, |worker| async move {
        for round in 0..500u64 {
            let seed = worker as u64 * 1_000_000 + round * 1000;
            let proper = [
                connect(&format!("m-{worker}")),
                subscribe(1, &["plain/+/x".to_owned(), "$share/g/y/#".to_owned()]),
                publish("plain/a/x", 1, 2, b"payload"),
                publish("plain/b/x", 2, 3, b"payload"),
                about(0x62, 3),
                vec![0xc0, 0, 0xe0, 0],
            ]
            .concat();
            let mut bytes = match round % 2 {
                0 => (0..200).map(|n| noise(seed + n) as u8).collect(),
                _ => proper,
            };
            for n in 0..(round % 5) {
                let at = noise(seed + 500 + n) as usize % bytes.len();
                bytes[at] = noise(seed + 600 + n) as u8;
            }
            let Ok(mut raw) = Raw::open(at).await else { continue };
            let _ = raw.send(&bytes).await;
            let _ = raw.stream.shutdown().await;
            raw.hear_the_end().await;
        }
    })
    .await;
    beside.weigh();
    beside.judge("random and mutated bytes", 0).await;
}
