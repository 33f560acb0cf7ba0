//! The uplink against real nats-servers: exactly once through everything a link can do.
//!
//! The streams of these tests have a duplicate window of 100 ms, so that JetStream's own deduplication cannot hide a row
//! that was sent twice.

use std::time::Duration;

use async_nats::jetstream::stream::Config as StreamConfig;
use frond::lattice::Trouble;
use frond::sample::Lane;
use frond::uplink::{Mode, Refusal};
use tokio::time::Instant;

use crate::gateway::{EPOCH, Gateway, Hub, PATIENCE, config, leaf_mode};
use crate::nats::{
    FAIR, Flow, JetStream, NatsServer, Proxy, Weather, eventually, free_port, in_one_of_three,
};
use crate::store::{Commits, StoreDouble};

/// A hub, a leaf, and a link between them.
struct Site {
    hub: NatsServer,
    leaf: NatsServer,
    proxy: Proxy,
    store: StoreDouble,
}

impl Site {
    async fn build() -> Site {
        let leaf_port = free_port();
        let proxy = Proxy::start(leaf_port).await;
        let hub = NatsServer::hub_behind(proxy.port, leaf_port, JetStream::On);
        Hub::connect(&hub).await.make_stream().await;
        let leaf = NatsServer::leaf(proxy.port);
        Site { hub, leaf, proxy, store: StoreDouble::new(EPOCH) }
    }

    fn gateway(&self) -> Gateway {
        Gateway::start(&config(leaf_mode(self.leaf.port)), &self.store)
    }

    async fn hub(&self) -> Hub {
        Hub::connect(&self.hub).await
    }

    /// A little of everything.
    fn push_some(&self, turn: usize) {
        for row in 0..20 {
            let stream = ["vibration", "temperature", "pressure"][(row + turn) % 3];
            self.store.push(Lane::Data, stream, 50 + (row * 977 + turn * 131) % 9000);
        }
        self.store.push(Lane::Alarm, "limits", 120);
    }
}

// Goal: the plain case, all lanes and streams. Method: rows before and after the start; the stream is compared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_reach_the_hub_and_leave_the_outbox() {
    let site = Site::build().await;
    site.push_some(0);
    let gateway = site.gateway();
    site.store.drained(PATIENCE).await;
    site.push_some(1);
    site.store.drained(PATIENCE).await;
    eventually("nothing is in flight", PATIENCE, async || gateway.status().mode == Mode::Normal).await;
    site.hub().await.holds_exactly(&site.store).await;
    assert_eq!(gateway.status().resent_rows, 0);
    gateway.stop().await;
}

// Goal: nothing lost, nothing twice, through a link that is cut at any moment. Method: rows flow all the time; the link is
// cut whenever another handful has been acknowledged, and restored once the gateway has noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_arrives_once_through_a_link_that_is_cut_again_and_again() {
    let site = Site::build().await;
    let gateway = site.gateway();
    for (turn, handful) in [3, 17, 40, 1, 29].into_iter().enumerate() {
        gateway.up().await;
        let until = gateway.status().acked_rows + handful;
        eventually("a handful is acknowledged", PATIENCE, async || {
            site.push_some(turn);
            gateway.status().acked_rows >= until
        })
        .await;
        site.proxy.cut();
        eventually("the cut is noticed", PATIENCE, async || {
            site.push_some(turn);
            !gateway.state().is_up()
        })
        .await;
        site.proxy.restore();
    }
    site.store.drained(PATIENCE).await;
    site.hub().await.holds_exactly(&site.store).await;
    gateway.stop().await;
}

// Goal: a link that falls silent without closing is noticed by our own timeout, and nothing is lost or sent twice when it
// goes on. Method: both directions stall while rows are in flight; the gateway must say so; then they go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_arrives_once_through_a_silent_stall() {
    let site = Site::build().await;
    let gateway = site.gateway();
    gateway.up().await;
    site.push_some(0);
    site.store.drained(PATIENCE).await;
    site.proxy.set(Weather { up: Flow::Stall, down: Flow::Stall, ..FAIR });
    site.push_some(1);
    eventually("silence is noticed", PATIENCE, async || gateway.state().trouble() == Some(&Trouble::Silent))
        .await;
    eventually("the uplink stops", PATIENCE, async || gateway.status().mode == Mode::Offline).await;
    site.push_some(2);
    site.proxy.restore();
    site.store.drained(PATIENCE).await;
    assert!(gateway.status().doubts > 0);
    site.hub().await.holds_exactly(&site.store).await;
    gateway.stop().await;
}

// Goal: rows whose acknowledgements were lost are recognised at the hub, not sent again. Method: bytes from the hub vanish
// until its stream holds rows that nobody has acknowledged; then the link is cut and restored, long after the duplicate
// window.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_with_lost_acknowledgements_are_recognised() {
    let site = Site::build().await;
    let gateway = site.gateway();
    let hub = site.hub().await;
    gateway.up().await;
    site.push_some(0);
    site.store.drained(PATIENCE).await;
    site.proxy.set(Weather { down: Flow::Vanish, ..FAIR });
    site.push_some(1);
    let expected = site.store.everything().len();
    eventually("the hub holds what is not acknowledged", PATIENCE, async || {
        hub.counts().await.len() == expected
    })
    .await;
    assert_eq!(site.store.len(), 21);
    eventually("the silence is noticed", PATIENCE, async || gateway.status().doubts > 0).await;
    site.proxy.cut();
    eventually("the cut is noticed", PATIENCE, async || !gateway.state().is_up()).await;
    site.proxy.restore();
    site.store.drained(PATIENCE).await;
    assert_eq!((gateway.status().found_rows, gateway.status().resent_rows), (21, 0));
    hub.holds_exactly(&site.store).await;
    gateway.stop().await;
}

// Goal: a gateway that dies at any moment, and forgets settlements it has not committed, neither loses nor repeats. Method:
// crash after every so many acknowledgements, with a store that commits late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_arrives_once_through_crashes() {
    let site = Site::build().await;
    site.store.set_commits(Commits::Later);
    let mut found = 0;
    for (turn, handful) in [1, 5, 33, 2, 60, 13].into_iter().enumerate() {
        site.push_some(turn);
        let gateway = site.gateway();
        eventually("a handful is acknowledged", PATIENCE, async || {
            site.push_some(turn);
            gateway.status().acked_rows >= handful
        })
        .await;
        found += gateway.status().found_rows;
        gateway.crash(&site.store).await;
    }
    let gateway = site.gateway();
    site.store.drained(PATIENCE).await;
    assert!(found + gateway.status().found_rows > 0, "no crash left anything to find");
    site.hub().await.holds_exactly(&site.store).await;
    gateway.stop().await;
}

// Goal: crashes and cuts at the same time. Method: the gateway dies while the link is down with rows in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_arrives_once_through_a_crash_during_a_cut() {
    let site = Site::build().await;
    site.store.set_commits(Commits::Later);
    for turn in 0..2 {
        let gateway = site.gateway();
        gateway.up().await;
        site.push_some(turn);
        site.store.drained(PATIENCE).await;
        site.proxy.set(Weather { down: Flow::Vanish, ..FAIR });
        site.push_some(turn + 1);
        eventually("more rows are in flight", PATIENCE, async || gateway.status().inflight_rows > 4).await;
        site.proxy.cut();
        gateway.crash(&site.store).await;
        site.push_some(turn + 2);
        site.proxy.restore();
    }
    let gateway = site.gateway();
    site.store.drained(PATIENCE).await;
    site.hub().await.holds_exactly(&site.store).await;
    gateway.stop().await;
}

// Goal: a hub that dies and comes back with its disk. Method: kill it in the middle of a flow, start it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_arrives_once_through_a_restart_of_the_hub() {
    let mut site = Site::build().await;
    let gateway = site.gateway();
    for turn in 0..2 {
        gateway.up().await;
        let until = gateway.status().acked_rows + 20;
        eventually("some are acknowledged", PATIENCE, async || {
            site.push_some(turn);
            gateway.status().acked_rows >= until
        })
        .await;
        site.hub.halt();
        eventually("the loss is noticed", PATIENCE, async || {
            site.push_some(turn);
            !gateway.state().is_up()
        })
        .await;
        site.hub.resume();
    }
    site.store.drained(PATIENCE).await;
    site.hub().await.holds_exactly(&site.store).await;
    gateway.stop().await;
}

// Goal: the leaf node's own restart, which also loses frond's connection. Method: kill and restart it in the flow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_arrives_once_through_a_restart_of_the_leaf() {
    let mut site = Site::build().await;
    let gateway = site.gateway();
    gateway.up().await;
    site.push_some(0);
    eventually("some are acknowledged", PATIENCE, async || gateway.status().acked_rows > 3).await;
    site.push_some(1);
    site.leaf.halt();
    eventually("the loss is noticed", PATIENCE, async || {
        matches!(gateway.state().trouble(), Some(Trouble::NoServer { .. }))
    })
    .await;
    site.push_some(2);
    site.leaf.resume();
    site.store.drained(PATIENCE).await;
    site.hub().await.holds_exactly(&site.store).await;
    gateway.stop().await;
}

// Goal: the hole. The hub holds 1 to 4 and 6; 5 to 7 are unsettled and may all have been sent. 6 must be recognised, 5 and 7
// sent. Method: a first gateway delivers 1 to 4, the test stores 6 itself, the store forgets nothing; a second gateway starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_below_the_last_sequence_is_filled() {
    let site = Site::build().await;
    for _ in 0..4 {
        site.store.push(Lane::Data, "vibration", 100);
    }
    let gateway = site.gateway();
    site.store.drained(PATIENCE).await;
    gateway.stop().await;
    let hub = site.hub().await;
    for seq in 5..=7u64 {
        site.store.push(Lane::Data, "vibration", 100);
        if seq == 6 {
            hub.store_by_hand(Lane::Data, "vibration", seq).await;
        }
    }
    let gateway = site.gateway();
    site.store.drained(PATIENCE).await;
    assert_eq!((gateway.status().found_rows, gateway.status().acked_rows), (1, 2));
    let order: Vec<u64> = hub.stamps().await.into_iter().map(|stamp| stamp.seq).collect();
    assert_eq!(order, [1, 2, 3, 4, 6, 5, 7]);
    gateway.stop().await;
}

// Goal: another database of the same gateway is not taken for this one. Method: the hub holds sequences 1 to 5 of another
// epoch; all of ours must arrive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_epochs_rows_are_not_taken_for_ours() {
    let site = Site::build().await;
    let hub = site.hub().await;
    for seq in 1..=5 {
        hub.store_by_hand_of(EPOCH - 1, Lane::Data, "vibration", seq).await;
        site.store.push(Lane::Data, "vibration", 100);
    }
    let gateway = site.gateway();
    site.store.drained(PATIENCE).await;
    assert_eq!((gateway.status().found_rows, gateway.status().acked_rows), (0, 5));
    gateway.stop().await;
}

// Goal: a full stream holds rows back, says so, loses nothing, and goes on when it is enlarged. Method: 60 KB of room for
// 200 KB of rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_holds_rows_back_until_there_is_room() {
    let site = Site::build().await;
    let hub = site.hub().await;
    hub.jetstream
        .update_stream(StreamConfig { max_bytes: 60_000, ..Hub::stream_config() })
        .await
        .expect("the stream can be shrunk");
    let gateway = site.gateway();
    for turn in 0..2 {
        site.push_some(turn);
    }
    eventually("the hub's refusal shows", PATIENCE, async || {
        gateway.status().mode == Mode::Refused && matches!(gateway.status().refusal, Some(Refusal::Full(_)))
    })
    .await;
    assert!(gateway.state().is_up() && site.store.len() > 0);
    hub.jetstream.update_stream(Hub::stream_config()).await.expect("the stream can be enlarged");
    site.store.drained(PATIENCE).await;
    eventually("all is well", PATIENCE, async || gateway.status().refusal.is_none()).await;
    hub.holds_exactly(&site.store).await;
    gateway.stop().await;
}

// Goal: a row larger than the server takes blocks nobody. Method: one of 2 MB between small ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_too_large_for_the_server_blocks_nobody() {
    let site = Site::build().await;
    site.push_some(0);
    let giant = site.store.push(Lane::Data, "vibration", 2 << 20);
    site.push_some(1);
    let gateway = site.gateway();
    eventually("the others arrive", PATIENCE, async || site.store.len() == 1).await;
    assert!(site.store.holds(giant));
    assert_eq!(gateway.status().oversized_rows, 1);
    gateway.stop().await;
}

// Goal: the first row follows the link within two seconds. Method: cut for long enough that nothing is warm, restore, and
// take the time from the leaf's word that it has its link back to the first acknowledgement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_row_follows_the_link_within_two_seconds() {
    in_one_of_three(async || first_row_after_a_cut().await).await;
}

async fn first_row_after_a_cut() -> Result<(), String> {
    let site = Site::build().await;
    let gateway = site.gateway();
    gateway.up().await;
    site.proxy.cut();
    site.push_some(0);
    eventually("the cut is noticed", PATIENCE, async || {
        gateway.state().trouble() == Some(&Trouble::LeafDown)
    })
    .await;
    assert_eq!(gateway.status().acked_rows, 0);
    let leaf = async_nats::connect(site.leaf.url()).await.expect("the leaf listens");
    site.proxy.restore();
    eventually("the leaf link is back", PATIENCE, async || Hub::reaches_jetstream(&leaf).await).await;
    let back = Instant::now();
    eventually("a row is acknowledged", PATIENCE, async || gateway.status().acked_rows > 0).await;
    let took = back.elapsed();
    gateway.stop().await;
    if took < Duration::from_secs(2) { Ok(()) } else { Err(format!("{took:?}")) }
}

// Goal: a backlog on a slow link delays neither live rows nor alarms by more than a moment, and still drains; without the
// window, 4 MiB in flight would delay them by half a minute. Method: 1 Mbit/s and 40 ms; 6 MB of backlog; live rows and alarms are timed from their
// birth to their settlement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_does_not_delay_live_rows_and_alarms() {
    in_one_of_three(async || backlog_on_a_slow_link().await).await;
}

async fn backlog_on_a_slow_link() -> Result<(), String> {
    let site = Site::build().await;
    for _ in 0..600 {
        site.store.push(Lane::Data, "vibration", 10_000);
    }
    site.proxy.set(Weather { rate: 125_000, delay: Duration::from_millis(20), ..FAIR });
    let gateway = site.gateway();
    eventually("the backlog moves", PATIENCE, async || gateway.status().acked_rows > 20).await;
    eventually("it catches up", PATIENCE, async || gateway.status().mode == Mode::CatchUp).await;
    let before = gateway.status();
    let (began, mut worst) = (Instant::now(), [Duration::ZERO; 2]);
    while began.elapsed() < Duration::from_secs(8) {
        for (lane, stream) in [(Lane::Data, "temperature"), (Lane::Alarm, "limits")] {
            let born = Instant::now();
            let id = site.store.push(lane, stream, 1_000);
            eventually("the row is settled", PATIENCE, async || !site.store.holds(id)).await;
            worst[lane as usize] = worst[lane as usize].max(born.elapsed());
        }
    }
    let status = gateway.status();
    let rate = (status.acked_bytes - before.acked_bytes) as f64 / began.elapsed().as_secs_f64();
    println!("alarms within {:?}, live rows within {:?}, {rate:.0} bytes/s, {status:?}", worst[0], worst[1]);
    gateway.stop().await;
    let prompt = worst.iter().all(|worst| *worst < Duration::from_secs(2));
    if prompt && rate > 0.7 * 125_000.0 {
        Ok(())
    } else {
        Err(format!("delays {worst:?}, {rate:.0} bytes/s"))
    }
}

// Goal: a backlog drains at four fifths of the link's rate or better, at 10 Mbit/s and a round trip of 200 ms. Method: 10 MB
// through the proxy, timed from the first acknowledgement to the last, start-up included.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_fat_link_is_filled() {
    in_one_of_three(async || backlog_on_a_long_link().await).await;
}

async fn backlog_on_a_long_link() -> Result<(), String> {
    let site = Site::build().await;
    for _ in 0..500 {
        site.store.push(Lane::Data, "vibration", 20_000);
    }
    site.proxy.set(Weather { rate: 1_250_000, delay: Duration::from_millis(100), ..FAIR });
    let gateway = site.gateway();
    eventually("the first row is acknowledged", PATIENCE, async || gateway.status().acked_rows > 0).await;
    let began = Instant::now();
    site.store.drained(PATIENCE).await;
    let rate = gateway.status().acked_bytes as f64 / began.elapsed().as_secs_f64();
    println!("{rate:.0} bytes/s, {:?}", gateway.status());
    gateway.stop().await;
    if rate > 0.8 * 1_250_000.0 { Ok(()) } else { Err(format!("{rate:.0} bytes/s only")) }
}

// Goal: what was under way when the link broke does not creep back one row at a time. Method: cut the same link with a full
// window, restore it, and time the rest from the link's return.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_fat_link_is_filled_again_after_a_cut() {
    in_one_of_three(async || cut_of_a_long_link().await).await;
}

async fn cut_of_a_long_link() -> Result<(), String> {
    let site = Site::build().await;
    for _ in 0..1000 {
        site.store.push(Lane::Data, "vibration", 5_000);
    }
    let long = Weather { rate: 1_250_000, delay: Duration::from_millis(100), ..FAIR };
    site.proxy.set(long);
    let gateway = site.gateway();
    eventually("many rows are in flight", PATIENCE, async || gateway.status().inflight_rows > 60).await;
    site.proxy.cut();
    eventually("the cut is noticed", PATIENCE, async || !gateway.state().is_up()).await;
    site.proxy.set(long);
    gateway.up().await;
    let (began, before) = (Instant::now(), gateway.status().acked_bytes);
    site.store.drained(PATIENCE).await;
    let rate = (gateway.status().acked_bytes - before) as f64 / began.elapsed().as_secs_f64();
    println!("{rate:.0} bytes/s, {:?}", gateway.status());
    site.hub().await.holds_exactly(&site.store).await;
    gateway.stop().await;
    if rate > 0.5 * 1_250_000.0 { Ok(()) } else { Err(format!("{rate:.0} bytes/s only")) }
}

// Goal: a subject that no stream takes is said, and does not keep alarms from going. Method: a stream for alarms and one
// data subject only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subject_without_a_stream_is_named() {
    let site = Site::build().await;
    let hub = site.hub().await;
    let narrow = |subjects: &[&str]| StreamConfig {
        subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
        ..Hub::stream_config()
    };
    let update = hub.jetstream.update_stream(narrow(&["frond.*.alarm.*", "frond.*.data.vibration"])).await;
    update.expect("the stream can be narrowed");
    let gateway = site.gateway();
    gateway.up().await;
    let orphan = site.store.push(Lane::Data, "pressure", 100);
    let alarm = site.store.push(Lane::Alarm, "limits", 100);
    eventually("the alarm arrives", PATIENCE, async || !site.store.holds(alarm)).await;
    let refusal = Some(Refusal::NoStream("frond.press-7.data.pressure".into()));
    eventually("the subject is named", PATIENCE, async || gateway.status().refusal == refusal).await;
    assert!(site.store.holds(orphan));
    hub.jetstream.update_stream(Hub::stream_config()).await.expect("the stream can be widened");
    site.store.drained(PATIENCE).await;
    hub.holds_exactly(&site.store).await;
    gateway.stop().await;
}

// Goal: subjects of one gateway may go to different streams. Method: one stream for each lane, a crash in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_may_have_streams_of_their_own() {
    let site = Site::build().await;
    site.store.set_commits(Commits::Later);
    let hub = site.hub().await;
    let only = |name: &str, subject: &str| StreamConfig {
        name: name.into(),
        subjects: vec![subject.into()],
        ..Hub::stream_config()
    };
    hub.jetstream.update_stream(only("FROND", "frond.*.data.*")).await.expect("the stream can be narrowed");
    hub.jetstream.create_stream(only("ALARMS", "frond.*.alarm.*")).await.expect("a stream can be made");
    for turn in 0..3 {
        site.push_some(turn);
        let gateway = site.gateway();
        eventually("some arrive", PATIENCE, async || gateway.status().acked_rows > 10).await;
        gateway.crash(&site.store).await;
    }
    let gateway = site.gateway();
    site.store.drained(PATIENCE).await;
    gateway.stop().await;
    let counts = [hub.counts_of("FROND").await, hub.counts_of("ALARMS").await].map(|counts| {
        assert!(counts.values().all(|count| *count == 1), "{counts:?}");
        counts.len()
    });
    assert_eq!(counts, [60, 3]);
}

// Goal: a stream that is made anew is noticed, and nothing that was not settled is taken for delivered. Method: delete and
// create the stream while rows flow, then crash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_made_anew_is_noticed() {
    let site = Site::build().await;
    let hub = site.hub().await;
    let gateway = site.gateway();
    for turn in 0..10 {
        site.push_some(turn);
    }
    site.store.drained(PATIENCE).await;
    let before = site.store.everything().len();
    hub.jetstream.delete_stream("FROND").await.expect("the stream is there");
    site.push_some(0);
    eventually("its loss is noticed", PATIENCE, async || !gateway.state().is_up()).await;
    hub.make_stream().await;
    site.store.drained(PATIENCE).await;
    gateway.crash(&site.store).await;
    site.push_some(1);
    let gateway = site.gateway();
    site.store.drained(PATIENCE).await;
    gateway.stop().await;
    let counts = hub.counts().await;
    assert_eq!(counts.len(), site.store.everything().len() - before);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}

// Goal: all of it together. Method: a random mishap after a random number of acknowledgements, `FROND_STORM_ROUNDS` times
// (3 when unset), from a seed that is printed and can be given as `FROND_STORM_SEED`; then fair weather, and the count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_arrives_once_through_a_storm() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("FROND_STORM_ROUNDS").unwrap_or(3);
    let mut state = number("FROND_STORM_SEED").unwrap_or(u64::from(std::process::id()) * 2_654_435_761) | 1;
    println!("seed {state}");
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) % below
    };
    let mut site = Site::build().await;
    site.store.set_commits(Commits::Later);
    let mut gateway = site.gateway();
    for round in 0..rounds {
        let until = gateway.status().acked_rows + random(60);
        eventually("rows are acknowledged", PATIENCE, async || {
            site.push_some(round as usize);
            gateway.status().acked_rows >= until
        })
        .await;
        let mishap = random(6);
        println!("round {round}: mishap {mishap}, {} rows in flight", gateway.status().inflight_rows);
        match mishap {
            0 => site.proxy.cut(),
            1 => site.proxy.set(Weather { down: Flow::Vanish, ..FAIR }),
            2 => site.proxy.set(Weather { up: Flow::Stall, down: Flow::Stall, ..FAIR }),
            3 => {
                site.hub.halt();
                site.hub.resume();
            }
            4 => {
                site.leaf.halt();
                site.leaf.resume();
            }
            _ => {}
        }
        for turn in 0..random(4) {
            site.push_some(turn as usize);
        }
        if mishap == 1 {
            // What vanished leaves the connection in the middle of a message.
            let doubts = gateway.status().doubts;
            eventually("the silence is noticed", PATIENCE, async || {
                site.push_some(0);
                gateway.status().doubts > doubts || !gateway.state().is_up()
            })
            .await;
            site.proxy.cut();
        }
        if mishap == 5 || random(3) == 0 {
            gateway.crash(&site.store).await;
            gateway = site.gateway();
        }
        site.proxy.restore();
    }
    site.store.drained(2 * PATIENCE).await;
    site.hub().await.holds_exactly(&site.store).await;
    gateway.stop().await;
}
