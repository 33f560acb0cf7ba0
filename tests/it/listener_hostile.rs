//! Clients that mean harm, or are broken, beside a sensor that misses nothing: every message of its is acknowledged and in
//! the journal, it is never thrown out, and the gateway's memory stays within bounds.
//!
//! Each test prints what the sensor saw (`--nocapture`).

mod raw;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::listener_rig::Gateway;
use crate::listener_sensor::{Notes, Sensor};
use raw::{Heard, Raw, about, connect, connect_as, publish, subscribe};

/// What hostile clients may make the gateway grow by, beside what it holds for each connection.
const GROWTH_MAX: u64 = 24 << 20;
/// What a connection may cost, whatever its client does short of filling its queue or a packet.
const CONNECTION_BYTES: u64 = 20 << 10;

/// A gateway, its sensor, and what it weighed before the attack.
struct Beside {
    gateway: Gateway,
    sensor: Sensor,
    before: u64,
    worst: u64,
}

impl Beside {
    async fn start(toml: &str) -> Beside {
        let gateway = Gateway::start(toml).await;
        let mut sensor = Sensor::start(gateway.port, "good", None);
        sensor.acknowledged(100).await;
        let before = gateway.memory();
        Beside { gateway, sensor, before, worst: 0 }
    }

    fn at(&self) -> SocketAddr {
        self.gateway.address()
    }

    fn weigh(&mut self) {
        self.worst = self.worst.max(self.gateway.memory());
    }

    /// Ends the attack: the sensor goes on for a while, and then the books are compared.
    async fn judge(mut self, what: &str, connections: u64) -> Notes {
        self.weigh();
        self.sensor.acknowledged(50).await;
        self.weigh();
        let notes = self.sensor.finish().await;
        let grown = self.worst.saturating_sub(self.before);
        println!(
            "{what}: {} sent, {} acknowledged, {} reconnects, PUBACK p50 {:?} p99 {:?}, memory {} + {} KiB",
            notes.sent,
            notes.acknowledged,
            notes.reconnects,
            notes.waits[notes.waits.len() / 2],
            notes.p99(),
            self.before >> 10,
            grown >> 10,
        );
        assert_eq!((notes.acknowledged, notes.reconnects), (notes.sent, 0));
        self.gateway.journalled(notes.sent).await;
        assert!(grown <= GROWTH_MAX + connections * CONNECTION_BYTES, "grew by {} KiB", grown >> 10);
        self.gateway.stop().await;
        notes
    }
}

/// Does something for a number of clients, side by side.
async fn crowd<F: Future<Output = ()> + Send + 'static>(count: usize, one: impl Fn(usize) -> F) {
    let mut tasks: JoinSet<()> = (0..count).map(one).collect();
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// Numbers without a pattern (splitmix64), the same in every run.
fn noise(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connections_keep_nobody_out() {
    // Goal: connections that never say CONNECT are bounded and short-lived. Method: 900 that say nothing, half a CONNECT or
    // a CONNECT and nothing more; then a new client enters.
    let mut beside = Beside::start("").await;
    let mut held = Vec::new();
    let hello = connect("half");
    for n in 0..900 {
        let mut raw = Raw::open(beside.at()).await.unwrap();
        // Those that were thrown out already cannot be written to.
        let _ = raw.send(&hello[..[0, 1, hello.len() / 2][n % 3]]).await;
        held.push(raw);
    }
    beside.weigh();
    let mut entered = Raw::enter(beside.at(), "late").await.expect("there is room for who says CONNECT");
    entered.send(&[0xc0, 0]).await.unwrap();
    assert_eq!(entered.hear().await, Heard::Packet(vec![0xd0, 0]));
    let first = &mut held[0];
    first.hear_the_end().await;
    beside.judge("half-open", 900).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_writers_and_slow_readers_hold_nobody_up() {
    // Goal: one client's pace is its own. Method: 200 clients that write a large message byte by byte; 20 that subscribe to
    // everything and read nothing, while others publish 20 MB.
    let mut beside = Beside::start("").await;
    let at = beside.at();
    let mut writers: JoinSet<()> = JoinSet::new();
    for n in 0..200 {
        writers.spawn(async move {
            let mut raw = Raw::enter(at, &format!("slow-{n}")).await.unwrap();
            let message = publish("slow/x", 1, 1, &[b'x'; 10_000]);
            for byte in message {
                if raw.send(&[byte]).await.is_err() {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
    }
    let mut deaf = Vec::new();
    for n in 0..20 {
        let mut raw = Raw::enter(at, &format!("deaf-{n}")).await.unwrap();
        raw.send(&subscribe(1, &["flood/#".to_owned()])).await.unwrap();
        assert!(matches!(raw.hear().await, Heard::Packet(packet) if packet[0] == 0x90));
        deaf.push(raw);
    }
    crowd(4, |n| async move {
        let mut raw = Raw::enter(at, &format!("loud-{n}")).await.unwrap();
        let message = publish(&format!("flood/{n}"), 0, 0, &[b'x'; 5000]);
        for _ in 0..1000 {
            raw.send(&message).await.unwrap();
        }
        raw.send(&[0xc0, 0]).await.unwrap();
        assert_eq!(raw.hear().await, Heard::Packet(vec![0xd0, 0]), "everything before it was read");
    })
    .await;
    beside.weigh();
    writers.abort_all();
    // 20 queues of a MiB each are what the configuration allows.
    beside.judge("slow writers and readers", 220 + 20 * 1024 / 20).await;
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connects_a_second_do_not_disturb_who_is_in() {
    // Goal: accepting is paced. Method: 1,000 connections in each of five seconds, some that enter, some that reset at once,
    // some that take over a client's session again and again.
    let mut beside = Beside::start("").await;
    let at = beside.at();
    let mut tasks = JoinSet::new();
    let mut made = 0u64;
    for second in 0..5 {
        let start = Instant::now();
        for n in 0..1000u64 {
            made += 1;
            tasks.spawn(async move {
                let Ok(mut raw) = Raw::open(at).await else { return };
                match n % 4 {
                    0 => return,
                    1 => drop(raw.send(&connect("the same")).await),
                    _ => drop(raw.send(&connect(&format!("c-{second}-{n}"))).await),
                }
                let _ = tokio::time::timeout(Duration::from_secs(8), raw.hear()).await;
                let _ = raw.stream.shutdown().await;
            });
            if n % 50 == 49 {
                sleep(Duration::from_millis(50).saturating_sub(start.elapsed() / 1000)).await;
            }
        }
        beside.weigh();
    }
    while let Some(done) = tasks.join_next().await {
        // A connection that was never accepted fails on its own patience.
        done.unwrap();
    }
    println!("{made} connections");
    beside.judge("connects", 1000).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_passwords_is_slow_and_does_not_keep_sensors_out() {
    // Goal: failed logins are limited and counted in the log, and cost the others nothing. Method: a sensor with a password;
    // 2,000 guesses from the same address, known and unknown names; the sensor's user logs in once more meanwhile.
    let hash = frond::ingest::listener::password::Hash::of(b"secret").unwrap();
    let users = "[[listener]]\nname = \"local\"\nanonymous = \"never\"\n\
                 [[user]]\nname = \"good\"\npassword_hash_file = \"{folder}/hash\"\npublish = [\"plant/{client}/state\"]\n";
    let gateway =
        Gateway::start_with(users, |folder| std::fs::write(folder.join("hash"), hash.as_str()).unwrap())
            .await;
    let mut sensor = Sensor::start(gateway.port, "good", Some(("good", "secret")));
    sensor.acknowledged(100).await;
    let before = gateway.memory();
    let mut beside = Beside { gateway, sensor, before, worst: 0 };
    let at = beside.at();
    let mut guesses: JoinSet<[usize; 2]> = JoinSet::new();
    for worker in 0..20 {
        guesses.spawn(async move {
            let mut refused = [0; 2];
            for n in 0..100 {
                let name = if n % 2 == 0 { "good".to_owned() } else { format!("user-{worker}-{n}") };
                let Ok(mut raw) = Raw::open(at).await else { continue };
                let _ = raw.send(&connect_as(&format!("guess-{worker}"), &name, &n.to_string())).await;
                match raw.hear().await {
                    Heard::Packet(ack) if ack[3] == 4 || ack[3] == 5 => refused[0] += 1,
                    Heard::Packet(ack) if ack[3] == 3 => refused[1] += 1,
                    Heard::Packet(ack) => panic!("let in: {ack:?}"),
                    Heard::Closed => {}
                }
            }
            refused
        });
    }
    beside.sensor.acknowledged(50).await;
    let mut again = Raw::open(at).await.unwrap();
    again.send(&connect_as("again", "good", "secret")).await.unwrap();
    assert_eq!(again.hear().await, Heard::Packet(vec![0x20, 2, 0, 0]));
    beside.weigh();
    let (mut wrong, mut limited) = (0, 0);
    while let Some(refused) = guesses.join_next().await {
        let [one, other] = refused.unwrap();
        wrong += one;
        limited += other;
    }
    println!("{wrong} guesses were checked or refused as wrong, {limited} refused unseen");
    assert!(wrong < 200 && limited > 1500, "{wrong} wrong, {limited} limited");
    beside.gateway.logged("logins are refused").await;
    beside.judge("guessing passwords", 20).await;
}
