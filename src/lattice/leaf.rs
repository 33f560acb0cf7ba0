//! Asks the nats-server on this machine whether its leaf link is up.
//!
//! When nobody answers for JetStream, that may be the leaf link or the hub. Any account may ask a server for its own
//! statistics, and these count leaf connections. The request also travels to the hub when the link is up, and the hub's
//! answer says whether it runs JetStream. Owns nothing.

use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::state::LeafFact;

/// Answered by every server of the account since NATS 2.9; 2.10 does not pass it on over a leaf link, so that there another
/// domain looks like no JetStream.
const REQUEST: &str = "$SYS.REQ.ACCOUNT.PING.STATZ";

/// How long to wait for the hub's answer after the local one: a long round trip.
const PATIENCE: Duration = Duration::from_secs(1);

/// Servers of the cluster behind the hub whose answers are looked at.
const ANSWERS_MAX: usize = 16;

#[derive(Deserialize)]
struct Answer {
    server: Server,
    data: Statistics,
}

#[derive(Deserialize)]
struct Server {
    id: String,
    #[serde(default)]
    jetstream: bool,
}

#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    account_statz: Vec<Account>,
}

#[derive(Deserialize)]
struct Account {
    #[serde(default)]
    leafnodes: u64,
}

/// What the local server says of its leaf connections.
pub(super) async fn ask(client: &Client) -> LeafFact {
    question(client).await.unwrap_or(LeafFact::Unknown)
}

async fn question(client: &Client) -> Option<LeafFact> {
    let local = client.server_info().server_id;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.ok()?;
    client.publish_with_reply(REQUEST, inbox, bytes::Bytes::new()).await.ok()?;
    let deadline = Instant::now() + PATIENCE;
    let (mut leafs, mut jetstream) = (None, false);
    for _ in 0..ANSWERS_MAX {
        let Ok(Some(message)) = timeout_at(deadline, answers.next()).await else { break };
        let Ok(answer) = serde_json::from_slice::<Answer>(&message.payload) else { continue };
        if answer.server.id == local {
            leafs = Some(answer.data.account_statz.iter().map(|account| account.leafnodes).sum::<u64>());
        } else {
            jetstream |= answer.server.jetstream;
        }
        if leafs == Some(0) || (leafs.is_some() && jetstream) {
            break;
        }
    }
    Some(match leafs? {
        0 => LeafFact::Down,
        _ if jetstream => LeafFact::UpWithJetStream,
        _ => LeafFact::Up,
    })
}
