//! What goes over the lattice, for whoever watches: events, as the control interface reads them, and commands.

use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use wasmcloud_control_interface::{Client, ClientBuilder};

use crate::site::{LATTICE, PATIENCE};

/// Events kept for a test that looks at them later.
const EVENTS_MAX: usize = 5_000;

/// The client of the control interface that `wash` is; `patience` is how long it waits for bids.
pub fn control(client: &async_nats::Client, patience: Duration) -> Client {
    ClientBuilder::new(client.clone()).lattice(LATTICE).auction_timeout(patience).build()
}

/// Everything that is told from now on.
pub struct Events {
    heard: mpsc::Receiver<Value>,
    _task: JoinSet<()>,
}

// === impl Events ===

impl Events {
    /// Listens at the hub. What is no CloudEvent is passed over by the client, and missed by the test.
    pub async fn watch(client: &async_nats::Client) -> Events {
        let mut events = control(client, PATIENCE).events_receiver(vec![">".to_owned()]).await.unwrap();
        client.flush().await.unwrap();
        let (sender, heard) = mpsc::channel(EVENTS_MAX);
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Some(event) = events.recv().await {
                if sender.send(serde_json::to_value(&event).unwrap()).await.is_err() {
                    return;
                }
            }
        });
        Events { heard, _task: task }
    }

    /// Waits for an event of this type whose data is as wanted.
    pub async fn told(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let kind = format!("com.wasmcloud.lattice.{kind}");
        let heard = async {
            loop {
                let event = self.heard.recv().await.expect("the connection holds");
                if event["type"] == kind && wanted(&event["data"]) {
                    return event;
                }
            }
        };
        timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("no {kind} was told"))
    }

    /// The data of the next event of this type.
    pub async fn data(&mut self, kind: &str) -> Value {
        self.told(kind, |_| true).await["data"].take()
    }

    /// How often an event of this type is told until then.
    pub async fn count_until(&mut self, kind: &str, end: Instant) -> usize {
        let kind = format!("com.wasmcloud.lattice.{kind}");
        let mut count = 0;
        while let Ok(event) = timeout_at(end, self.heard.recv()).await {
            count += usize::from(event.expect("the connection holds")["type"] == kind);
        }
        count
    }
}

/// Requests to hosts that change something, by whomever.
pub struct Commands {
    heard: Subscriber,
}

// === impl Commands ===

impl Commands {
    /// Listens at the hub.
    pub async fn watch(client: &async_nats::Client) -> Commands {
        let heard = client.subscribe(format!("wasmbus.ctl.v1.{LATTICE}.>")).await.unwrap();
        client.flush().await.unwrap();
        Commands { heard }
    }

    /// What is commanded until then: subjects and payloads.
    pub async fn until(&mut self, end: Instant) -> Vec<String> {
        let mut commands = Vec::new();
        while let Ok(message) = timeout_at(end, self.heard.next()).await {
            let message = message.expect("the connection holds");
            let tail = message.subject.as_str().splitn(5, '.').nth(4).unwrap_or_default();
            let asks = ["host.ping", "host.get", "claims.get", "link.get", "config.get"];
            if !asks.iter().any(|ask| tail.starts_with(ask)) {
                commands.push(format!("{tail} {}", String::from_utf8_lossy(&message.payload)));
            }
        }
        commands
    }
}
