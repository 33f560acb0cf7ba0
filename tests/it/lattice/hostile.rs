//! Controllers that are wrong, large, gone, or too many.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::rig::{PATIENCE, Rig};
use crate::nats::eventually;

/// Memory that a flood may cost while it lasts. Requests under way are 8 MiB at most; the rest is the allocator's.
const GROWTH_BYTES_MAX: u64 = 48 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_requests_are_answered_in_the_known_sentences_and_change_nothing() {
    // Goal: no request harms the host. Method: noise, JSON of another shape, subjects that are none, a huge configuration, one
    // of a million entries, replies to nobody; afterwards everything is as it was.
    let rig = Rig::start("").await;
    let refused = |sentence: &str| format!(r#"{{"success":false,"message":"{sentence}"}}"#);
    for payload in ["", "{", "[1]", "{\"a\":1}", "null", "\u{0}"] {
        for (tail, sentence) in [
            ("component.scale.HOST", "failed to deserialize component scale command"),
            ("component.auction", "failed to deserialize component auction command"),
            ("provider.auction", "failed to deserialize provider auction command"),
            ("provider.start.HOST", "failed to deserialize provider start command"),
            ("label.put.HOST", "failed to deserialize put label request"),
            ("label.del.HOST", "failed to deserialize delete label request"),
            ("link.put", "failed to deserialize wrpc link definition"),
            ("link.del", "failed to deserialize wrpc link definition"),
        ] {
            assert_eq!(rig.raw(tail, payload).await, refused(sentence), "{tail} {payload:?}");
        }
    }
    assert_eq!(
        rig.raw("config.put.c", "[]").await,
        refused("config data should be a map of string -> string")
    );
    for tail in [
        "component.start.HOST",
        "host.go.HOST",
        "link.list",
        "config.put",
        "config.put.a.b.c",
        "label.x.HOST",
    ] {
        let answer = timeout(Duration::from_secs(2), rig.client.request(rig.subject(tail), "".into())).await;
        // Either the host hears it and says so, or nobody does, and the server tells.
        if let Ok(Ok(answer)) = answer {
            assert_eq!(answer.payload, refused("unsupported subject"), "{tail}");
        }
    }
    let large = json!({ "k": "v".repeat(100 << 10) });
    let answer = rig.ask("config.put.large", &large).await;
    assert_eq!(answer["message"], "a gateway takes 65536 bytes in one configuration at most");
    let entries: serde_json::Map<String, Value> = (0..60_000).map(|n| (format!("{n}"), json!("v"))).collect();
    let million = Value::Object(entries).to_string();
    assert_eq!(rig.raw("config.put.many", million).await, refused("a request has 262144 bytes at most"));
    let some: serde_json::Map<String, Value> = (0..2_000).map(|n| (format!("{n}"), json!("v"))).collect();
    let answer = rig.ask("config.put.some", &Value::Object(some)).await;
    assert_eq!(answer["message"], "a gateway takes 1024 values in one configuration at most");
    for n in 0..50 {
        let inbox = format!("_INBOX.nobody.{n}");
        rig.client.publish_with_reply(rig.subject("host.get.HOST"), inbox, "".into()).await.unwrap();
    }
    rig.client.publish(rig.subject("host.get.HOST"), "".into()).await.unwrap();
    assert_eq!(rig.overview().await.desired.revision, 0, "nothing has changed");
    assert_eq!(rig.inventory().await["host_id"], rig.host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_dropped_and_counted_and_memory_stays_bounded() {
    // Goal: one client costs the gateway neither its memory nor its answers. Method: sixty thousand requests and a hundred
    // of the largest that a server passes, as fast as they go; then an answer as ever.
    let rig = Rig::start("").await;
    let before = rig.site.wait("a status", |status| status.memory_bytes > 0).await.memory_bytes;
    let (ping, get) = (rig.subject("host.ping"), rig.subject("host.get.HOST"));
    let inbox = rig.client.new_inbox();
    for n in 0..30_000 {
        rig.client.publish_with_reply(ping.clone(), inbox.clone(), "".into()).await.unwrap();
        rig.client.publish_with_reply(get.clone(), inbox.clone(), "".into()).await.unwrap();
        if n % 300 == 0 {
            let large = vec![b'x'; 1_000_000];
            rig.client
                .publish_with_reply(rig.subject("link.put"), inbox.clone(), large.into())
                .await
                .unwrap();
        }
    }
    rig.client.flush().await.unwrap();
    let status = rig
        .site
        .wait("a flood that was seen", |status| {
            status.host.as_ref().is_some_and(|host| host.dropped > 30_000)
        })
        .await;
    let growth = status.memory_bytes.saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes more than {before}");
    eventually("an answer as ever", PATIENCE, async || {
        let asked = timeout(Duration::from_secs(1), rig.client.request(ping.clone(), "".into())).await;
        matches!(asked, Ok(Ok(_)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_without_end_are_refused_before_they_wear_the_flash_out() {
    // Goal: what is written stays within the budget, whoever asks. Method: more changes than there may be at once, as fast as
    // they are answered; what was answered with yes is there.
    let rig = Rig::start("").await;
    let mut taken = 0;
    let refused = loop {
        let answer = rig.ask("label.put.HOST", &json!({ "key": "n", "value": taken.to_string() })).await;
        match answer["success"].as_bool().unwrap() {
            true => taken += 1,
            false => break answer["message"].as_str().unwrap().to_owned(),
        }
        assert!(taken < 1_000, "there is no end");
    };
    assert!(refused.starts_with("too many changes in a short time"), "{refused}");
    assert!(taken >= 256);
    assert_eq!(rig.overview().await.labels["n"], (taken - 1).to_string());
    // What is so already costs nothing.
    let same = json!({ "key": "n", "value": (taken - 1).to_string() });
    assert_eq!(rig.done("label.put.HOST", &same).await, "successfully put label");
}
