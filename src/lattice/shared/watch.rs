//! Reading a bucket: first what there is of some keys, then what becomes of them. A pull consumer that the hub forgets.
//!
//! A pull is small, so that no more than [`BATCH`] messages are ever on their way; what is lost shows as a gap in their
//! numbers or as silence, and then everything is read again: a few hundred keys at most, most of them a few hundred bytes.

use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::bucket::{Bucket, value};
use crate::lattice::api::ApiError;

/// Messages in one pull: 16 of the largest that a leaf takes are 16 MiB, of the usual ones 8 KiB.
const BATCH: usize = 16;
/// How long the hub keeps a pull that brings nothing.
const PULL: Duration = Duration::from_secs(300);
/// How long the hub keeps a consumer that nobody pulls from: what is left behind goes by itself.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Reads some keys of a bucket.
#[derive(Debug)]
pub(super) struct Watch {
    bucket: Bucket,
    consumer: String,
    inbox: String,
    messages: Subscriber,
    heartbeat: Duration,
    /// When something was heard, if only a heartbeat.
    heard: Instant,
    /// Messages that the present pull may still bring.
    left: usize,
    /// Number of the last message of this consumer.
    last: u64,
    /// Messages that were there when it was opened and have not been read.
    waiting: u64,
}

/// A message of a bucket.
#[derive(Debug)]
pub(super) struct Told {
    pub key: String,
    pub revision: u64,
    pub value: Option<bytes::Bytes>,
}

#[derive(Deserialize)]
struct Consumer {
    name: String,
    #[serde(default)]
    num_pending: u64,
}

// === impl Watch ===

impl Watch {
    /// Reads what matches `patterns`, the newest of each key. `heartbeat` is how often the hub says that it is there.
    pub async fn open(bucket: Bucket, patterns: &[String], heartbeat: Duration) -> Result<Watch, ApiError> {
        let stream = bucket.stream();
        let client = bucket.api.client().clone();
        let inbox = client.new_inbox();
        let messages = client.subscribe(inbox.clone()).await.map_err(|_| ApiError::Disconnected)?;
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).expect("minutes fit");
        let asked = json!({
            "stream_name": stream,
            "config": {
                "deliver_policy": "last_per_subject", "ack_policy": "none", "replay_policy": "instant",
                "filter_subjects": patterns, "mem_storage": true, "num_replicas": 1,
                "inactive_threshold": nanos(FORGOTTEN),
            },
        });
        let Consumer { name, num_pending } =
            bucket.api.ask(&format!("CONSUMER.CREATE.{stream}"), &asked).await?;
        let (heard, left, last) = (Instant::now(), 0, 0);
        Ok(Watch {
            bucket,
            consumer: name,
            inbox,
            messages,
            heartbeat,
            heard,
            left,
            last,
            waiting: num_pending,
        })
    }

    /// Whether everything that was there at the beginning has been read.
    pub fn is_caught_up(&self) -> bool {
        self.waiting == 0
    }

    /// The next message.
    ///
    /// Cancel-safe: a message that was received is returned at once; a pull that was sent twice brings twice as many.
    pub async fn next(&mut self) -> Result<Told, ApiError> {
        loop {
            if self.left == 0 {
                self.pull().await?;
                self.left = BATCH;
            }
            let patience = self.heard + self.heartbeat * 5 / 2;
            let message = match timeout_at(patience, self.messages.next()).await {
                Err(_) => return Err(ApiError::Silent),
                Ok(None) => return Err(ApiError::Disconnected),
                Ok(Some(message)) => message,
            };
            self.heard = Instant::now();
            match message.status {
                None => return self.take(&message),
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => self.left = 0,
                Some(StatusCode::NO_RESPONDERS) => return Err(ApiError::NoResponders),
                Some(_) => return Err(ApiError::Garbled("the hub has ended the reading of a bucket")),
            }
        }
    }

    async fn pull(&mut self) -> Result<(), ApiError> {
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).expect("minutes fit");
        let asked =
            json!({ "batch": BATCH, "expires": nanos(PULL), "idle_heartbeat": nanos(self.heartbeat) });
        let verb = format!("CONSUMER.MSG.NEXT.{}.{}", self.bucket.stream(), self.consumer);
        let subject = self.bucket.api.subject(&verb);
        let sent = self.bucket.api.client().publish_with_reply(
            subject,
            self.inbox.clone(),
            asked.to_string().into(),
        );
        sent.await.map_err(|_| ApiError::Disconnected)
    }

    fn take(&mut self, message: &Message) -> Result<Told, ApiError> {
        const GARBLED: ApiError = ApiError::Garbled("a message of a bucket without its numbers");
        let numbers = message.reply.as_ref().and_then(|reply| numbers(reply)).ok_or(GARBLED)?;
        self.left = self.left.saturating_sub(1);
        if numbers.consumer != self.last + 1 {
            return Err(ApiError::Garbled("a message of a bucket is missing"));
        }
        self.last = numbers.consumer;
        self.waiting = self.waiting.saturating_sub(1).min(numbers.pending);
        let key = self.bucket.key(&message.subject).ok_or(GARBLED)?.to_owned();
        Ok(Told { key, revision: numbers.stream, value: value(message) })
    }

    /// Tells the hub that it may forget the consumer.
    pub async fn close(mut self) {
        let verb = format!("CONSUMER.DELETE.{}.{}", self.bucket.stream(), self.consumer);
        // If it does not hear of it, it forgets it by itself.
        let _ = self.messages.unsubscribe().await;
        let _ = self.bucket.api.client().publish(self.bucket.api.subject(&verb), bytes::Bytes::new()).await;
    }
}

/// What a message's reply subject says.
#[derive(Debug, PartialEq, Eq)]
struct Numbers {
    stream: u64,
    consumer: u64,
    pending: u64,
}

/// `$JS.ACK.<stream>.<consumer>.<delivered>.<stream number>.<consumer number>.<time>.<pending>`; with a domain, two tokens
/// more in front and one behind.
fn numbers(reply: &str) -> Option<Numbers> {
    let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let first = match tokens.len() {
        7 => 3,
        9.. => 5,
        _ => return None,
    };
    let number = |index: usize| tokens.get(index)?.parse().ok();
    Some(Numbers { stream: number(first)?, consumer: number(first + 1)?, pending: number(first + 3)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_both_forms_of_the_reply_subject() {
        // Goal: gaps are seen whatever the server's version. Method: both forms, and what is neither.
        let numbers_are = Some(Numbers { stream: 7, consumer: 3, pending: 2 });
        assert_eq!(numbers("$JS.ACK.KV_X.c.1.7.3.1790000000000000000.2"), numbers_are);
        assert_eq!(numbers("$JS.ACK.hub.hash.KV_X.c.1.7.3.1790000000000000000.2.random"), numbers_are);
        assert_eq!(numbers("$JS.ACK.hub.hash.KV_X.c.1.7.3.1790000000000000000.2"), numbers_are);
        for wrong in ["", "$JS.ACK.a.b", "_INBOX.x", "$JS.ACK.KV_X.c.1.x.3.1.2"] {
            assert_eq!(numbers(wrong), None, "{wrong}");
        }
    }
}
