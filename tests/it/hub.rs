//! `frond hub` against a real JetStream: each row once, whatever happens to the consumer.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::jetstream::consumer;
use bytes::Bytes;
use frond::block::{Envelope, Rows, SeriesEntry, WireClock, encode_envelope};
use frond::cli::hub::{self, HubArgs, HubError};
use frond::cli::receipts::Summary;
use frond::cli::server::ServerArgs;
use frond::cli::tail::{TailArgs, follow};
use frond::lattice::Trouble;
use frond::sample::{Lane, Reading, SECOND, SeriesId, Value};
use frond::uplink::message::{Origin, Stamp};
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use crate::gateway::{EPOCH, Gateway, Hub, NAME, PATIENCE, config, direct_mode};
use crate::nats::{JetStream, NatsServer, eventually, free_port};
use crate::store::StoreDouble;

/// Readings in each row of these tests.
const READINGS: u64 = 10;

/// A block of readings.
pub fn block(stream: &str, first: u64, readings: u64) -> Bytes {
    let entry =
        SeriesEntry { name: format!("{stream}/speed"), unit: "1/min".into(), labels: Default::default() };
    let reading =
        |n: u64| Reading { series: SeriesId(1), time: n as i64 * SECOND, value: Value::Int(n as i64) };
    let envelope = Envelope {
        stream: stream.into(),
        clock: WireClock::Sensor,
        series: [(SeriesId(1), entry)].into(),
        rows: Rows::Raw((first..first + readings).map(reading).collect()),
    };
    encode_envelope(&envelope).into()
}

fn args(server: &NatsServer) -> HubArgs {
    HubArgs {
        server: ServerArgs { url: server.url(), creds: None, ca: None, subject: "frond".into() },
        stream: "FROND".into(),
        consumer: Some("frond-hub".into()),
        domain: None,
        max_bytes: None,
        jsonl: None,
        sqlite: None,
        until_idle: Some(Duration::from_millis(1200)),
        json: false,
    }
}

async fn receive(args: &HubArgs) -> Summary {
    hub::run(args.clone(), CancellationToken::new()).await.expect("the hub's side works")
}

/// A hub whose stream holds `rows` rows of a gateway.
async fn filled(rows: u64) -> (NatsServer, Hub) {
    let server = NatsServer::hub(free_port(), JetStream::On);
    receive(&HubArgs { until_idle: Some(Duration::ZERO), ..args(&server) }).await;
    let store = StoreDouble::new(EPOCH);
    for row in 0..rows {
        store.push_body(Lane::Data, "press", block("press", row * READINGS, READINGS));
    }
    let mut config = config(direct_mode(&server.url()));
    config.lattice.jetstream_domain = None;
    let gateway = Gateway::start(&config, &store);
    store.drained(PATIENCE).await;
    gateway.stop().await;
    let hub = Hub::connect(&server).await;
    (server, hub)
}

/// JetStream forgets what the consumer has acknowledged, and delivers everything again.
async fn forget(hub: &Hub) {
    let stream = hub.jetstream.get_stream("FROND").await.expect("the stream is there");
    stream.delete_consumer("frond-hub").await.expect("the consumer is there");
}

// Goal: `frond hub` makes what a waiting gateway waits for. Method: a gateway without a stream, then the command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hub_makes_the_stream_that_gateways_wait_for() {
    let server = NatsServer::hub(free_port(), JetStream::On);
    let store = StoreDouble::new(EPOCH);
    store.push_body(Lane::Alarm, "limits", block("limits", 0, 1));
    let mut config = config(direct_mode(&server.url()));
    config.lattice.jetstream_domain = None;
    let gateway = Gateway::start(&config, &store);
    eventually("no stream", PATIENCE, async || {
        matches!(gateway.state().trouble(), Some(Trouble::NoStream { .. }))
    })
    .await;
    let summary = receive(&HubArgs { until_idle: Some(Duration::from_secs(4)), ..args(&server) }).await;
    assert_eq!((summary.received, summary.missing), (1, 0));
    gateway.stop().await;
}

// Goal: JSON lines have each reading once, although everything is delivered twice and the file was cut off in the middle of
// a batch. Method: receive, add lines whose account was never written, make JetStream forget, receive again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_lines_have_each_reading_once() {
    let (server, hub) = filled(30).await;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("rows.jsonl");
    let args = HubArgs { jsonl: Some(path.clone()), ..args(&server) };
    let summary = receive(&args).await;
    assert_eq!((summary.received, summary.duplicates, summary.missing), (30, 0, 0));
    let first = std::fs::read_to_string(&path).expect("the lines are there");
    let lines: Vec<Json> =
        first.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    // JetStream may deliver again, and then out of order, what an earlier run had asked for.
    let values: BTreeSet<u64> = lines.iter().filter_map(|line| line["value"].as_u64()).collect();
    assert_eq!((lines.len() as u64, values.len() as u64), (30 * READINGS, 30 * READINGS));
    assert_eq!((&lines[0]["gateway"], &lines[0]["series"]), (&NAME.into(), &"press/speed".into()));

    let torn = format!("{first}{{\"half\":");
    std::fs::write(&path, torn).expect("the folder is writable");
    forget(&hub).await;
    let summary = receive(&args).await;
    assert_eq!((summary.received, summary.duplicates), (30, 30));
    assert_eq!(std::fs::read_to_string(&path).expect("the lines are there"), first);

    std::fs::remove_file(path.with_extension("jsonl.state")).expect("the state is there");
    let refused = hub::run(args, CancellationToken::new()).await;
    assert!(matches!(refused, Err(HubError::Sink(_))), "lines without their account are not added to");
}

// Goal: the same with SQLite. Method: receive twice, count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_has_each_reading_once() {
    let (server, hub) = filled(30).await;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path: PathBuf = folder.path().join("rows.db");
    let args = HubArgs { sqlite: Some(path.clone()), ..args(&server) };
    assert_eq!(receive(&args).await.received, 30);
    forget(&hub).await;
    let summary = receive(&args).await;
    assert_eq!((summary.received, summary.duplicates), (30, 30));
    let database = rusqlite::Connection::open(path).expect("it is a database");
    let count =
        |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("the query is right");
    assert_eq!(count("SELECT count(*) FROM reading") as u64, 30 * READINGS);
    assert_eq!(count("SELECT count(DISTINCT value) FROM reading") as u64, 30 * READINGS);
    assert_eq!(count("SELECT last FROM received"), 30);
    assert_eq!(count("SELECT count(*) FROM series WHERE name = 'press/speed' AND unit = '1/min'"), 1);
}

// Goal: holes are reported, and told apart by what the gateway says it dropped. Method: sequences with gaps, by hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holes_are_reported_and_explained() {
    let (server, hub) = filled(0).await;
    for (lane, seqs, dropped) in [(Lane::Data, [1, 2, 5], 2), (Lane::Alarm, [1, 3, 4], 0)] {
        for seq in seqs {
            let origin = Origin { gateway: NAME.into(), lane, stream: "press".into(), epoch: EPOCH };
            let stamp = Stamp { origin, seq, dropped, clock_correction: None };
            let subject = stamp.origin.subject("frond");
            let ack =
                hub.jetstream.publish_with_headers(subject, stamp.headers(), block("press", seq, 1)).await;
            ack.expect("it is published").await.expect("it is acknowledged");
        }
    }
    let summary = receive(&args(&server)).await;
    assert_eq!((summary.received, summary.missing, summary.unexplained), (6, 3, 1));
}

// Goal: rubbish among the messages stops nothing. Method: a stranger's message and an unreadable body between good rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_does_not_stop_the_hub() {
    let (server, hub) = filled(2).await;
    hub.store_by_hand(Lane::Data, "press", 3).await;
    let ack = hub.jetstream.publish("frond.press-7.data.press", "stray".into()).await;
    ack.expect("it is published").await.expect("it is acknowledged");
    let summary = receive(&args(&server)).await;
    assert_eq!((summary.received, summary.undecodable, summary.missing), (3, 1, 0));
}

// Goal: a server without JetStream, and no server, are errors that say what to do. Method: both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_without_jetstream_is_an_error_that_helps() {
    let server = NatsServer::hub(free_port(), JetStream::Off);
    let error = hub::run(args(&server), CancellationToken::new()).await.expect_err("there is no JetStream");
    assert!(error.to_string().contains("enable it"), "{error}");
    drop(server);
    let mut gone = args(&NatsServer::hub(free_port(), JetStream::Off));
    gone.server.url = format!("nats://127.0.0.1:{}", free_port());
    let error = hub::run(gone, CancellationToken::new()).await.expect_err("there is no server");
    assert!(error.to_string().contains("cannot be reached"), "{error}");
}

// Goal: whoever looks takes nothing from whoever keeps. Method: a run that keeps nothing between two that write to a file,
// whose rows must all be there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_takes_no_row_from_who_keeps_them() {
    let (server, _hub) = filled(30).await;
    let look = HubArgs { consumer: None, ..args(&server) };
    assert_eq!(receive(&look).await.received, 30);
    let folder = tempfile::tempdir().unwrap();
    let keep = HubArgs { sqlite: Some(folder.path().join("plant.db")), ..look.clone() };
    assert_eq!(receive(&keep).await.received, 30);
    assert_eq!(receive(&look).await.received, 30, "and it does not remember");
    assert_eq!(receive(&keep).await.received, 30, "but the one who keeps does");
}

// Goal: a hub that has lost its store is written to again. Method: the stream is deleted under a reader, which must make it
// anew and read what comes then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_gone_is_made_anew() {
    let (server, hub) = filled(3).await;
    let stop = CancellationToken::new();
    let reader = hub::run(HubArgs { until_idle: None, ..args(&server) }, stop.clone());
    let name = "FROND";
    let trouble = async {
        // The consumer may be left from whoever made the stream; the rows are acknowledged by the reader alone.
        eventually("all is read", PATIENCE, async || {
            let found = hub.jetstream.get_consumer_from_stream("frond-hub", name).await;
            let Ok(consumer) = found else { return false };
            consumer_state(consumer).await.is_some_and(|(_, pending)| pending == 0)
        })
        .await;
        hub.jetstream.delete_stream(name).await.expect("it is there");
        eventually("it is made anew", PATIENCE, async || hub.jetstream.get_stream(name).await.is_ok()).await;
        stop.cancel();
    };
    tokio::pin!(reader);
    tokio::select! {
        () = trouble => reader.await.map(drop).expect("no failure"),
        read = &mut reader => panic!("it ended by itself: {read:?}"),
    }
}

// Goal: a reader whose consumer is taken away goes on with the next of that name, whoever makes it. Method: the consumer is
// deleted and made again at once, so that by the time the reader asks there is one; rows that come after that are read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_there_again_at_once_is_read_on() {
    let (server, hub) = filled(3).await;
    let stop = CancellationToken::new();
    let reader = hub::run(HubArgs { until_idle: None, ..args(&server) }, stop.clone());
    let acknowledged = async || {
        let Ok(consumer) = hub.jetstream.get_consumer_from_stream("frond-hub", "FROND").await else {
            return None;
        };
        consumer_state(consumer).await
    };
    let trouble = async {
        for _ in 0..5 {
            let all =
                async || acknowledged().await.is_some_and(|(waiting, pending)| waiting > 0 && pending == 0);
            eventually("all is read, and more is asked for", PATIENCE, all).await;
            let stream = hub.jetstream.get_stream("FROND").await.expect("it is there");
            let config = consumer::pull::Config {
                durable_name: Some("frond-hub".into()),
                ..consumer::pull::Config::default()
            };
            // Whichever the server works on first: when it is the second, the reader makes the consumer itself.
            let (deleted, _) =
                tokio::join!(stream.delete_consumer("frond-hub"), stream.create_consumer(config));
            deleted.expect("it is there");
        }
        let all = async || acknowledged().await.is_some_and(|(waiting, pending)| waiting > 0 && pending == 0);
        eventually("all is read again, and more is asked for", PATIENCE, all).await;
        stop.cancel();
    };
    let (read, ()) = tokio::join!(reader, trouble);
    read.expect("no failure");
}

/// Readers that wait, and rows that nobody has acknowledged.
async fn consumer_state(mut consumer: consumer::PullConsumer) -> Option<(usize, u64)> {
    let info = consumer.info().await.ok()?;
    Some((info.num_waiting, info.num_pending + info.num_ack_pending as u64))
}

// Goal: what comes by is shown decoded, and the uplink's own questions are not. Method: follow a gateway's rows, read-back
// included, until two rows were seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tail_shows_rows_as_they_come_by() {
    let (server, _hub) = filled(0).await;
    let args =
        TailArgs { server: args(&server).server, gateway: Some(NAME.into()), stream: None, json: true };
    let stop = CancellationToken::new();
    let store = StoreDouble::new(EPOCH);
    let mut config = config(direct_mode(&server.url()));
    config.lattice.jetstream_domain = None;
    let gateway = Gateway::start(&config, &store);
    let mut lines: Vec<Json> = Vec::new();
    let seen = AtomicUsize::new(0);
    let follow = follow(&args, &stop, |line| {
        lines.push(serde_json::from_str(line).expect("it is JSON"));
        seen.fetch_add(1, Ordering::Relaxed);
    });
    let feed = async {
        eventually("two rows were seen", PATIENCE, async || {
            store.push_body(Lane::Data, "press", block("press", 3, 1));
            seen.load(Ordering::Relaxed) >= 2
        })
        .await;
        stop.cancel();
    };
    let (followed, ()) = tokio::join!(follow, feed);
    followed.expect("the server takes subscriptions");
    assert!(lines.iter().all(|line| line["value"] == 3 && line["stream"] == "press"));
    gateway.stop().await;
}
