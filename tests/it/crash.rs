//! Kills: the gateway is killed with SIGKILL at random moments and at every named fault point, again and again, while
//! machines send and the link comes and goes. Then the senders' ledger is compared with what the hub holds.
//!
//! `just crash` runs hundreds of rounds (`FROND_CRASH_ROUNDS`); the ordinary test run a few of each kind. The seed is
//! printed and can be given as `FROND_CRASH_SEED`.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use frond::cli::demo::{
    Door, HubTally, Link, Machine, Plant, Ports, Programs, Random, Source, Tally, Verdict,
};
use frond::cli::demo::{consume, send_until};
use frond::platform::fault;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A round at a fault point that is not reached within this time is a finding: the point is dead code.
const REACH_MAX: Duration = Duration::from_secs(20);
/// Time for everything to be told at the end.
const SETTLE_MAX: Duration = Duration::from_secs(60);

const STREAMS: &str = r#"
[journal]
commit_interval = "100ms"
checkpoint_interval_min = "200ms"
checkpoint_interval = "1s"
[[stream]]
name = "machines"
topics = ["plant/+/state"]
time = { field = "ts", format = "ms" }
reduce = { window = "1s", lateness = "1s" }
"#;

#[test]
fn nothing_acknowledged_is_lost_or_counted_twice_however_often_the_gateway_is_killed() {
    // Goal: zero lost, zero twice, over rounds of kills at random moments and at every fault point. Method: see above.
    let rounds = number("FROND_CRASH_ROUNDS").unwrap_or(2 * fault::POINTS.len() as u64);
    let seed = number("FROND_CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("{rounds} rounds, seed {seed}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let verdict = runtime.block_on(play(rounds, seed));
    println!("{verdict:?}");
    assert!(verdict.sent > 0, "the machines have sent something");
    assert_eq!((verdict.lost, verdict.counted_twice), (0, 0), "seed {seed}: {verdict:?}");
}

async fn play(rounds: u64, seed: u64) -> Verdict {
    let folder = tempfile::tempdir().unwrap();
    let ports = Ports::pick().unwrap();
    let hub_leaf = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.hub_leaf));
    let (link, uplink, switch) = Link::bind(hub_leaf).await.unwrap();
    let programs = Programs {
        frond: PathBuf::from(env!("CARGO_BIN_EXE_frond")),
        ..Programs::find(Door::Broker).unwrap()
    };
    let mut plant = Plant::prepare(folder.path(), programs, ports, uplink, STREAMS).unwrap();
    plant.start_peers().await.unwrap();
    let (tally, hub) = (RefCell::new(Tally::default()), RefCell::new(HubTally::default()));
    let (sending, ending) = (CancellationToken::new(), CancellationToken::new());
    let machines = (0..10).map(|number| Machine::new(seed, number)).collect();
    let source = Source::Machines { machines, every: Duration::from_millis(50) };

    let script = async {
        plant.start_gateway(&[]).await.unwrap();
        plant.wait_for_door().await.unwrap();
        let send = send_until(ports.broker, "machines".into(), source, &tally, &sending);
        let kills = async {
            kill_again_and_again(&mut plant, &switch, rounds, seed).await;
            switch.send_replace(true);
            plant.start_gateway(&[]).await.unwrap();
            plant.wait_for_door().await.unwrap();
            sending.cancel();
        };
        let (sent, ()) = tokio::join!(send, kills);
        sent.unwrap();
        wait_until_told(&tally, &hub).await
    };
    let verdict = tokio::select! {
        verdict = script => verdict,
        failed = consume(ports.hub, &hub, &ending) => panic!("the hub's consumer ended: {failed:?}"),
        () = link.run() => panic!("the wire ended"),
    };
    if verdict.lost + verdict.counted_twice > 0 {
        let kept = folder.keep();
        println!("everything is kept in {}", kept.display());
    }
    plant.stop().await;
    verdict
}

async fn kill_again_and_again(
    plant: &mut Plant,
    switch: &tokio::sync::watch::Sender<bool>,
    rounds: u64,
    seed: u64,
) {
    let mut random = Random::new(seed);
    for round in 0..rounds {
        plant.kill_gateway().await;
        switch.send_replace(!random.chance(0.3));
        if round % 2 == 0 {
            plant.start_gateway(&[]).await.unwrap();
            // The moment is the point: nothing is waited for, a random time passes.
            tokio::time::sleep(Duration::from_secs_f64(1.2 * random.unit())).await;
        } else {
            let point = fault::POINTS[(round as usize / 2) % fault::POINTS.len()];
            if point.starts_with("uplink") {
                switch.send_replace(true);
            }
            let passages = 1 + (random.unit() * 4.0) as u64;
            plant.start_gateway(&[("FROND_FAULT", &format!("{point}:{passages}"))]).await.unwrap();
            let deadline = Instant::now() + REACH_MAX;
            while !plant.gateway_ended() {
                assert!(Instant::now() < deadline, "fault point {point} is not reached {passages} times");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    plant.kill_gateway().await;
}

async fn wait_until_told(tally: &RefCell<Tally>, hub: &RefCell<HubTally>) -> Verdict {
    let deadline = Instant::now() + SETTLE_MAX;
    loop {
        let verdict = tally.borrow().ledger.compare(&hub.borrow().holdings);
        let told = verdict.lost == 0 && verdict.arrived + verdict.late >= verdict.sent;
        if told || Instant::now() > deadline {
            return verdict;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
