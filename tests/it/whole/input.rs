//! What comes in: bad input beside a good stream, and a broker that lets few messages stand.

use std::time::Duration;

use frond::block::Rows;
use frond::sample::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::sensor::{Plan, publish};
use super::site::{QUICK, STREAM, Site};

/// Streams for what is odd: as it arrives, with times of its own, and bare numbers.
const ODD: &str = r#"
[[stream]]
name = "odd"
topics = ["odd/#"]
series_max = 20
reduce = { window = "1s", lateness = "1s" }
[[stream]]
name = "timed"
topics = ["timed/#"]
time = { field = "ts", format = "ms" }
reduce = { window = "1s", lateness = "1s" }
[[stream]]
name = "bare"
topics = ["bare/#"]
decode = "number"
reduce = { window = "1s", lateness = "1s" }
"#;

/// The first integer that a double cannot hold.
const EXACT: i64 = (1 << 53) + 1;

fn message(topic: &str, payload: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (topic.to_owned(), payload.into())
}

#[tokio::test]
async fn bad_input_is_counted_by_reason_and_costs_the_good_stream_nothing() {
    // Goal: each kind of bad input has its count in the status, an integer beyond 2^53 is exact at the hub, and the stream
    // beside it is complete. Method: one of each, ten megabytes and a flood of topics among them, while sensors send.
    let (site, mut books) = Site::start(&format!("{QUICK}{STREAM}{ODD}")).await;
    let port = site.ports.broker;
    let mut sensors = Plan::new("good", 5, 20).start(port);
    sensors.acknowledged(100).await;
    let mut odd = vec![
        message("odd/a", r#"{"v":"#),
        message("odd/a", r#"{"v":NaN}"#),
        message("odd/a", [0xff, 0xfe, 0x00]),
        message("odd/a", r#"{"v":1e999}"#),
        message("odd/a", r#"{"v":-1e999}"#),
        message("odd/a", "{}"),
        message("odd/a", ""),
        message("odd/a", r#"{"v":9223372036854775808}"#),
        message("odd/a", r#"{"v":1,"name":"text"}"#),
        message("odd/a", "[".repeat(40) + &"]".repeat(40)),
        message("odd/a", vec![b'7'; 10_000_000]),
        message("odd/big", format!(r#"{{"v":{EXACT}}}"#)),
        message("timed/a", r#"{"ts":9000000000000000000,"v":1}"#),
        message("timed/a", r#"{"ts":-86400000,"v":1}"#),
        message("timed/a", r#"{"ts":"noon","v":1}"#),
        message("timed/a", r#"{"v":1}"#),
        message("bare/a", "nan"),
        message("bare/a", "-inf"),
        message("bare/a", "warm"),
    ];
    odd.extend((0..300).map(|number| message(&format!("odd/flood/{number}"), r#"{"v":1}"#)));
    publish(port, odd).await;
    let topic_refused = send_topic_that_is_not_utf8(port).await;
    let status = site
        .wait("the count", |status| {
            let Some(odd) = status.doors[0].streams.get("odd") else { return false };
            odd.rejected.get("too_many_series").is_some_and(|count| *count >= 282)
                && odd.rejected.contains_key("too_large")
        })
        .await;
    let of = |stream: &str, reason: &str| {
        status.doors[0].streams[stream].rejected.get(reason).copied().unwrap_or_default()
    };
    let counts = [
        ("odd", "malformed", 2),
        ("odd", "not_finite", 3),
        ("odd", "integer_out_of_range", 1),
        ("odd", "text", 1),
        ("odd", "too_deep", 1),
        ("odd", "too_large", 1),
        // Two series are those of odd/a and odd/big.
        ("odd", "too_many_series", 282),
        ("timed", "time_out_of_range", 2),
        ("timed", "time_malformed", 1),
        ("timed", "time_missing", 1),
        ("bare", "not_finite", 2),
        ("bare", "malformed", 1),
    ];
    for (stream, reason, count) in counts {
        assert_eq!(of(stream, reason), count, "{stream} {reason} in {:#?}", status.doors[0].streams);
    }
    assert!(of("odd", "empty") >= 2, "{:#?}", status.doors[0].streams);
    assert!(status.doors[0].streams["machines"].rejected.is_empty());
    if !topic_refused {
        site.wait("the topic", |status| format!("{status:?}").contains("invalid_topic")).await;
    }
    books
        .until("the exact integer", |message| match &message.envelope.rows {
            Rows::Windows { rows, .. } => rows.iter().any(|row| {
                let name = &message.envelope.series[&row.series].name;
                name == "odd/big/v"
                    && [row.min, row.max, row.first, row.last, row.sum] == [Value::Int(EXACT); 5]
            }),
            _ => false,
        })
        .await;
    books.settle(&sensors.finish().await).await;
    site.wait("an open door", |status| status.doors[0].is_open() && status.complaints.is_empty()).await;
    site.logged(&["WARN", "acknowledged messages that cannot be read"]).await;
}

/// Publishes to a topic that is not UTF-8, by hand. Tells whether the broker ended the connection for it.
async fn send_topic_that_is_not_utf8(port: u16) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let connect = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02u8";
    stream.write_all(connect).await.unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0], "CONNACK");
    stream.write_all(b"\x32\x11\x00\x06odd/\xff\xfe\x00\x01{\"v\":1}").await.unwrap();
    let read = timeout(Duration::from_secs(5), stream.read(&mut answer)).await.expect("the broker answers");
    !matches!(read, Ok(1..))
}

#[tokio::test]
async fn a_foreign_broker_that_lets_twenty_messages_stand_does_not_cap_the_rate() {
    // Goal: groups are committed early, so that twenty messages in flight are not twenty a second. Method: mosquitto's own
    // default, commits every second, 200 messages a second; the gateway keeps up.
    let toml = format!("{QUICK}{STREAM}[mqtt.broker]\ninflight_max = 20\n")
        .replace("commit_interval = \"100ms\"", "commit_interval = \"1s\"");
    let mut site = Site::prepare(&toml).await;
    site.write_broker("allow_anonymous true\nmax_inflight_messages 20");
    let mut books = site.open().await;
    let mut sensors = Plan::new("fast", 10, 50).start(site.ports.broker);
    sensors.acknowledged(1_000).await;
    let ledger = sensors.finish().await;
    let finished = Instant::now();
    site.wait("all readings", |status| status.store.readings >= 1_000).await;
    // At twenty a second nine hundred would be left: three quarters of a minute.
    assert!(finished.elapsed() < Duration::from_secs(15), "{:?}", finished.elapsed());
    books.settle(&ledger).await;
}
