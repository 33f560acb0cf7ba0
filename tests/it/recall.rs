//! Recalls through a real leaf and hub: complete, paced, bounded, and behind live data.

use std::time::Duration;

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use frond::cli::recall::{RecallArgs, RecallError, Recalled, fetch};
use frond::cli::server::ServerArgs;
use frond::lattice::{Link, LinkState};
use frond::store::{RecallPage, RecallRefused};
use frond::uplink::Busy;
use frond::uplink::recall::{Moment, Part, Recall, Request};
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::gateway::{EPOCH, NAME, PATIENCE, config, leaf_mode};
use crate::hub::block;
use crate::nats::{JetStream, NatsServer, eventually, free_port};
use crate::store::StoreDouble;

/// Readings in a page of these tests.
const READINGS: u64 = 100;

/// A hub, a leaf, and a gateway's recall service behind it.
struct Site {
    hub: NatsServer,
    _leaf: NatsServer,
    store: StoreDouble,
    busy: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Site {
    /// The store has `pages` pages of the stream `press`.
    async fn build(pages: u64, bytes_per_second: u64) -> Site {
        let leaf_port = free_port();
        let hub = NatsServer::hub(leaf_port, JetStream::On);
        let leaf = NatsServer::leaf(leaf_port);
        let mut config = config(leaf_mode(leaf.port));
        config.uplink.recall_bytes_per_second = bytes_per_second;
        let store = StoreDouble::new(EPOCH);
        store.set_recalls(Box::new(move |query| {
            if query.stream != "press" {
                return Err(RecallRefused::NoStream);
            }
            let next = (query.after + 1 < pages).then_some(query.after + 1);
            // Every other page has nothing that matches.
            let body =
                query.after.is_multiple_of(2).then(|| block("press", query.after * READINGS, READINGS));
            Ok(RecallPage { body, clock_correction: Some(5), next })
        }));
        let mut tasks = JoinSet::new();
        let (link, handle) = Link::new(&config);
        let (busy, signal) = Busy::channel();
        let recall = Recall::new(&config, store.serve(&mut tasks), handle.clone(), signal);
        tasks.spawn(link.run(CancellationToken::new()));
        tasks.spawn(
            async move { recall.run(CancellationToken::new()).await.expect("store and link outlive it") },
        );
        let site = Site { hub, _leaf: leaf, store, busy, _tasks: tasks };
        let client = site.client().await;
        eventually("the gateway hears recalls", PATIENCE, async || {
            let answer = client.request(Request::subject("frond", NAME), "no request".into()).await;
            answer.is_ok()
        })
        .await;
        assert!(!matches!(*handle.state.borrow(), LinkState::Refused(_)));
        site
    }

    async fn client(&self) -> Client {
        async_nats::connect(self.hub.url()).await.expect("the hub listens")
    }

    fn args(&self, stream: &str) -> RecallArgs {
        RecallArgs {
            server: ServerArgs { url: self.hub.url(), creds: None, ca: None, subject: "frond".into() },
            gateway: NAME.into(),
            stream: stream.into(),
            series: Vec::new(),
            from: Moment::Nanos(0),
            to: Moment::Nanos(i64::MAX),
            json: false,
            csv: false,
        }
    }

    async fn recall(&self, stream: &str) -> Result<Recalled, RecallError> {
        fetch(&self.args(stream), &CancellationToken::new(), |_| {}).await
    }

    /// Asks and confirms nothing.
    async fn ask_and_fall_silent(&self, client: &Client) -> Subscriber {
        let inbox = client.new_inbox();
        let parts = client.subscribe(inbox.clone()).await.expect("the server takes subscriptions");
        let request = br#"{"stream":"press","from":0,"to":1000}"#;
        let subject = Request::subject("frond", NAME);
        client.publish_with_reply(subject, inbox, request.to_vec().into()).await.expect("it is published");
        client.flush().await.expect("the server listens");
        parts
    }
}

async fn next_part(parts: &mut Subscriber) -> Part {
    let message =
        timeout(PATIENCE, parts.next()).await.expect("an answer in time").expect("the connection lives");
    Part::read(&message)
}

// Goal: all pages come, in order, with their clock correction. Method: eleven pages, every other one empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recall_brings_every_page_in_order() {
    let site = Site::build(11, 10 << 20).await;
    let mut times = Vec::new();
    let recalled = fetch(&site.args("press"), &CancellationToken::new(), |block| {
        assert_eq!(block.clock_correction, Some(5));
        let frond::block::Rows::Raw(rows) = &block.envelope.rows else { panic!("raw readings are recalled") };
        times.extend(rows.iter().map(|row| row.time));
    })
    .await
    .expect("it is answered");
    assert_eq!((recalled.chunks, recalled.readings), (6, 6 * READINGS));
    assert_eq!(times.len() as u64, 6 * READINGS);
    assert!(times.is_sorted());
}

// Goal: refusals have their numbers. Method: an unknown stream, nonsense, an empty window, a gateway that is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_their_numbers() {
    let site = Site::build(1, 1 << 20).await;
    assert!(matches!(site.recall("other").await, Err(RecallError::Refused { number: 1, .. })));
    let client = site.client().await;
    let subject = Request::subject("frond", NAME);
    for (request, refused) in [
        (&b"{"[..], RecallRefused::BadRequest),
        (br#"{"stream":"press","from":2,"to":1}"#, RecallRefused::EmptyWindow),
    ] {
        let answer = client.request(subject.clone(), request.to_vec().into()).await.expect("it is answered");
        assert_eq!(Part::read(&answer), Part::from(refused));
    }
    let nobody = RecallArgs { gateway: "press-8".into(), ..site.args("press") };
    let missing = fetch(&nobody, &CancellationToken::new(), |_| {}).await;
    assert!(matches!(missing, Err(RecallError::NoGateway(_))));
}

// Goal: two at a time, and the place of a requester that has gone is free again. Method: two that confirm nothing, a third
// that is refused; one of the two closes its connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_recall_is_refused_until_a_place_is_free() {
    let site = Site::build(50, 10 << 20).await;
    let clients = [site.client().await, site.client().await];
    let mut first = site.ask_and_fall_silent(&clients[0]).await;
    let mut second = site.ask_and_fall_silent(&clients[1]).await;
    for parts in [&mut first, &mut second] {
        assert!(matches!(next_part(parts).await, Part::Chunk { number: 1, .. }));
    }
    let pages = site.store.recall_pages();
    assert!(matches!(site.recall("press").await, Err(RecallError::Refused { number: 4, .. })));
    assert_eq!(site.store.recall_pages(), pages, "who confirms nothing gets nothing more");
    let [gone, _stays] = clients;
    drop((first, gone));
    // An unconfirmed requester is given up after fifteen seconds.
    eventually("a place is free", PATIENCE, async || site.recall("press").await.is_ok()).await;
    drop(second);
}

// Goal: the pace is kept. Method: six chunks at a rate that makes them take two seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recall_keeps_its_pace() {
    let size = block("press", 0, READINGS).len() as u64;
    let site = Site::build(11, 5 * size / 2).await;
    let began = Instant::now();
    let recalled = site.recall("press").await.expect("it is answered");
    assert_eq!(recalled.chunks, 6);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(20), "{took:?}");
}

// Goal: nothing is recalled while an alarm or a live row waits, and the requester is told. Method: the signal is set before
// the request and cleared after the notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_data_goes_before_a_recall() {
    let site = Site::build(3, 10 << 20).await;
    site.busy.send_replace(true);
    let client = site.client().await;
    let mut parts = site.ask_and_fall_silent(&client).await;
    assert!(matches!(next_part(&mut parts).await, Part::Wait(_)));
    assert_eq!(site.store.recall_pages(), 0);
    site.busy.send_replace(false);
    let message =
        timeout(PATIENCE, parts.next()).await.expect("an answer in time").expect("the connection lives");
    assert!(matches!(Part::read(&message), Part::Chunk { number: 1, .. }));
    client
        .publish(message.reply.expect("a chunk wants an answer"), Bytes::new())
        .await
        .expect("it is published");
    let message =
        timeout(PATIENCE, parts.next()).await.expect("an answer in time").expect("the connection lives");
    client
        .publish(message.reply.expect("a chunk wants an answer"), Bytes::new())
        .await
        .expect("it is published");
    assert_eq!(next_part(&mut parts).await, Part::End);
}
