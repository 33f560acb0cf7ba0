//! Commands of processors on a whole gateway: a reading comes in, and what stands on site is told.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::pin::pin;

use frond::platform::clock;

use super::{Client, free_port, guest, start};
use crate::whole::sensor::publish;
use crate::whole::site::{QUICK, Role, STREAM, Site};

/// `valve`, through which the readings of `own/+/state` pass.
fn valve() -> String {
    let stream = STREAM.replace("plant/+/state", "own/+/state");
    let mut toml = format!(
        "[[component]]\nname = \"valve\"\npath = \"{}\"\ndeadline = \"20s\"\ncommands = [\"own/+/set\"]\n",
        guest("valve").display()
    );
    writeln!(toml, "{stream}component = \"valve\"").unwrap();
    toml
}

fn reading(value: u32) -> String {
    format!(r#"{{"ts":{},"v":{value}}}"#, clock::realtime() / 1_000_000)
}

async fn closes_the_valve(site: &Site, client: &mut Client) {
    for (n, value) in (1..).zip([95, 96]) {
        client.say("own/a/state", &reading(40)).await;
        client.say("own/a/state", &reading(value)).await;
        assert_eq!(client.hear().await, ("own/valve/set".to_owned(), format!("close {value}")));
        let status = site.wait("the count", |status| status.pipeline.commands_left == n).await;
        let valve = &status.pipeline.components["valve"];
        assert_eq!((valve.commands, valve.commands_refused, status.pipeline.commands_dropped), (n, 0, 0));
    }
}

#[tokio::test]
async fn a_reading_moves_an_actuator_at_the_listener() {
    // Goal: from a reading to a command with nothing but a gateway. Method: a client that is sensor and actuator.
    let (site, port) = start(&valve()).await;
    let mut client = Client::subscribe(port, &["own/valve/set"]).await;
    closes_the_valve(&site, &mut client).await;
    let status = site.status().await.expect("the gateway answers");
    assert!(
        status.doors.iter().all(|door| door.unrouted == 0),
        "they are no stray messages: {:?}",
        status.doors
    );
}

#[tokio::test]
async fn what_a_stream_takes_too_reaches_the_actuator_at_once() {
    // Goal: a command waits for nobody's durability. Method: a stream that takes commands and is acknowledged by its
    // checkpoints, of which there are none but those for commands.
    let port = free_port();
    let quick = QUICK.replace("checkpoint_interval = \"1s\"", "checkpoint_interval = \"1h\"");
    let listener = format!("[[listener]]\nname = \"site\"\nbind = \"127.0.0.1:{port}\"\n");
    let moves = "[[stream]]\nname = \"moves\"\ntopics = [\"own/+/set\"]\ndurability = \"window\"\n";
    let mut site = Site::prepare(&format!("{quick}{listener}{}\n{moves}", valve())).await;
    site.run(Role::Leaf).await;
    site.run(Role::Gateway).await;
    let mut client = Client::subscribe(port, &["own/valve/set"]).await;
    closes_the_valve(&site, &mut client).await;
}

#[tokio::test]
async fn a_reading_moves_an_actuator_at_the_broker() {
    // Goal: the same where a broker has the plant's messages.
    let (site, _books) = Site::start(&format!("{QUICK}{}", valve())).await;
    let mut client = Client::subscribe(site.ports.broker, &["own/valve/set"]).await;
    closes_the_valve(&site, &mut client).await;
}

/// Readings, one after the other, until the gateway dies at `point`; then one on the next start. What was published, what
/// was heard, and the commands that were late by then.
async fn die_at(
    site: &mut Site,
    point: &str,
    client: &mut Client,
    values: &mut std::ops::RangeFrom<u32>,
) -> (Vec<u32>, Vec<String>, u64) {
    let (mut published, mut heard, port) = (Vec::new(), Vec::new(), site.ports.broker);
    let mut say = async |value| {
        publish(port, vec![("own/a/state".to_owned(), reading(value).into_bytes())]).await;
        published.push(value);
    };
    site.run_with(Role::Gateway, &[("FROND_FAULT", &format!("{point}:4"))]).await;
    {
        let mut ended = pin!(site.ended(Role::Gateway));
        loop {
            say(values.next().unwrap()).await;
            tokio::select! {
                _ = &mut ended => break,
                (_, text) = client.hear() => heard.push(text),
            }
        }
    }
    site.run(Role::Gateway).await;
    let last = values.next().unwrap();
    say(last).await;
    while heard.last() != Some(&format!("close {last}")) {
        heard.push(client.hear().await.1);
    }
    let late =
        site.wait("the count", |status| status.pipeline.commands_left >= 1).await.pipeline.commands_late;
    site.kill(Role::Gateway).await;
    (published, heard, late)
}

#[tokio::test]
async fn power_that_goes_around_a_command_moves_nothing_twice() {
    // Goal: at most once on a whole gateway: for readings that are on flash, whose command is late after a power cut, and
    // for readings that the broker sends again, whose command leaves then. Method: deaths before and behind the checkpoint
    // that a command waits for, and behind the commit of a reading; no other checkpoints than those for commands.
    let quick = QUICK
        .replace("\"200ms\"", "\"1m\"")
        .replace("checkpoint_interval = \"1s\"", "checkpoint_interval = \"1h\"");
    for durability in ["reading", "window"] {
        let mut site = Site::prepare(&format!("{quick}{}durability = \"{durability}\"\n", valve())).await;
        // From here on the broker keeps for the gateway what it misses.
        site.run(Role::Broker).await;
        site.run(Role::Gateway).await;
        site.wait_for_doors().await;
        site.kill(Role::Gateway).await;
        let mut client = Client::subscribe(site.ports.broker, &["own/valve/set"]).await;
        let mut values = 100..;
        for point in ["pipeline.before_checkpoint", "pipeline.after_checkpoint", "journal.after_commit"] {
            let (published, heard, late) = die_at(&mut site, point, &mut client, &mut values).await;
            let once: BTreeSet<&String> = heard.iter().collect();
            assert_eq!(once.len(), heard.len(), "{durability} {point}: {heard:?}");
            if point == "pipeline.before_checkpoint" {
                let missed = published.len() - heard.len();
                let expected = if durability == "reading" { 1 } else { 0 };
                assert_eq!(
                    (missed, late),
                    (expected, expected as u64),
                    "{durability}: {published:?}, {heard:?}"
                );
            }
        }
    }
}
