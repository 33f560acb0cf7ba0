//! Messages by NATS: subscriptions of a workload on the gateway's link, and what it publishes there.
//!
//! The connection is [`crate::lattice`]'s. Core NATS, at most once: what is sent while the leaf node is away is refused,
//! not kept. A new connection means new subscriptions; what came in between is not heard.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Request, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::select_all;
use tokio::sync::watch;
use tokio::time::sleep;

use super::inbox::{Inbox, Letter, Way};

/// Between two attempts to subscribe on a connection that refuses it.
const AGAIN: Duration = Duration::from_secs(5);

/// The way out.
#[derive(Debug, Clone)]
pub(super) struct LatticeHandle {
    client: watch::Receiver<Option<Client>>,
}

/// The way in.
#[derive(Debug)]
pub(super) struct Lattice {
    pub client: watch::Receiver<Option<Client>>,
    pub subjects: Vec<String>,
    pub inbox: Arc<Inbox>,
}

// === impl LatticeHandle ===

impl LatticeHandle {
    pub fn new(client: watch::Receiver<Option<Client>>) -> LatticeHandle {
        LatticeHandle { client }
    }

    fn connected(&self) -> Result<Client, String> {
        let client = self.client.borrow().clone();
        client
            .filter(|client| client.connection_state() == State::Connected)
            .ok_or_else(|| "the gateway has no connection to the lattice".to_owned())
    }

    pub async fn publish(&self, subject: String, reply: Option<String>, body: Vec<u8>) -> Result<(), String> {
        let client = self.connected()?;
        let sent = match reply {
            Some(reply) => client.publish_with_reply(subject, reply, body.into()).await,
            None => client.publish(subject, body.into()).await,
        };
        sent.map_err(|error| error.to_string())
    }

    pub async fn request(
        &self,
        subject: String,
        body: Vec<u8>,
        patience: Duration,
    ) -> Result<Letter, String> {
        let client = self.connected()?;
        let request = Request::new().payload(Bytes::from(body)).timeout(Some(patience));
        let answer = client.send_request(subject, request).await.map_err(|error| error.to_string())?;
        Ok(letter(answer))
    }
}

// === impl Lattice ===

impl Lattice {
    /// Hears until it is dropped.
    ///
    /// Cancel-safe: nothing is held but what NATS would not send again anyway.
    pub async fn hear(mut self) {
        if self.subjects.is_empty() {
            return std::future::pending().await;
        }
        loop {
            let client = self.client.borrow_and_update().clone();
            let heard = async {
                let Some(client) = client else { return std::future::pending().await };
                match subscribe(&client, &self.subjects).await {
                    Ok(subscribers) => {
                        let mut messages = select_all(subscribers);
                        while let Some(message) = messages.next().await {
                            self.inbox.put(letter(message));
                        }
                    }
                    Err(error) => tracing::warn!(%error, "a component's subjects cannot be subscribed to"),
                }
                sleep(AGAIN).await;
            };
            tokio::select! {
                () = heard => {}
                changed = self.client.changed() => if changed.is_err() {
                    return std::future::pending().await;
                }
            }
        }
    }
}

async fn subscribe(
    client: &Client,
    subjects: &[String],
) -> Result<Vec<Subscriber>, async_nats::SubscribeError> {
    let mut subscribers = Vec::new();
    for subject in subjects {
        subscribers.push(match subject.split_once('|') {
            Some((subject, group)) => client.queue_subscribe(subject.to_owned(), group.to_owned()).await?,
            None => client.subscribe(subject.clone()).await?,
        });
    }
    Ok(subscribers)
}

fn letter(message: async_nats::Message) -> Letter {
    Letter {
        subject: message.subject.into_string(),
        body: message.payload,
        reply_to: message.reply.map(async_nats::Subject::into_string),
        way: Way::Nats,
    }
}
