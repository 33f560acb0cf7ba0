//! Connections that never begin, never end, or come a thousand a second.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::raw::{Heard, Raw, connect, publish, subscribe};
use super::{Beside, crowd};

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
