//! Raw readings on request, while the ring still has them: paced, and never ahead of alarms and live data.
//!
//! One task subscribes to the gateway's recall subject and answers up to [`AT_A_TIME`] requests at a time from the store,
//! page by page ([`wire`] has the messages). A chunk is sent when nothing urgent waits in the uplink, the configured bytes
//! per second allow it, and the requester has confirmed all but a few: one at first, more while confirmations are prompt,
//! so that on a slow link live data finds at most one chunk ahead of itself. A requester that falls silent is given up after
//! [`REQUESTER_PATIENCE`]. State: none but the recalls under way; they end with the connection. Dropped when full: requests
//! beyond the first two are refused, by number.

mod wire;

use std::time::Duration;

use async_nats::{Client, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use wire::{Moment, Part, Request};

use super::Busy;
use crate::config::Config;
use crate::lattice::LinkHandle;
use crate::store::{Handle, RecallPage, RecallQuery, RecallRefused, StoreGone};

/// Requests answered at a time.
pub const AT_A_TIME: usize = 2;

/// Chunks that may be unconfirmed.
const WINDOW_MAX: usize = 4;

/// A confirmation that takes no longer lets one more chunk be under way …
const PROMPT: Duration = Duration::from_millis(500);

/// … and one that takes longer than this takes the window back to one.
const TARDY: Duration = Duration::from_secs(1);

/// A requester that has confirmed nothing for so long has gone.
pub const REQUESTER_PATIENCE: Duration = Duration::from_secs(15);

/// A recall that alarms and live data have held up for so long is given up, so that its place is not taken for ever.
const BUSY_PATIENCE: Duration = Duration::from_secs(600);

/// How often a waiting requester is told so.
const WAIT_NOTICE: Duration = Duration::from_secs(5);

/// The task.
#[derive(Debug)]
pub struct Recall {
    store: Handle,
    link: LinkHandle,
    busy: Busy,
    subject: String,
    bytes_per_second: u64,
}

/// Why the task ended before it was told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecallError {
    /// The store is gone.
    #[error("recall has lost its store")]
    Store(#[from] StoreGone),
    /// The link's task is gone.
    #[error("recall has lost its link")]
    LinkGone,
}

/// How one recall ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Answered { chunks: u64, bytes: u64 },
    Refused(RecallRefused),
    RequesterGone,
    Disconnected,
    StoreGone,
}

/// One recall under way.
struct Answer {
    store: Handle,
    client: Client,
    busy: Busy,
    bytes_per_second: u64,
    requester: String,
    inbox: String,
    confirmations: Subscriber,
    /// Numbers and times of chunks that are not confirmed.
    unconfirmed: Vec<(u64, Instant)>,
    window: usize,
    chunks: u64,
    bytes: u64,
    /// The next chunk may leave then.
    due: Instant,
}

// === impl Recall ===

impl Recall {
    /// The task.
    pub fn new(config: &Config, store: Handle, link: LinkHandle, busy: Busy) -> Recall {
        let subject = Request::subject(&config.lattice.subject, &config.gateway.name);
        Recall { store, link, busy, subject, bytes_per_second: config.uplink.recall_bytes_per_second.max(1) }
    }

    /// Runs until `stop`. Recalls under way end with it; the requester notices.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), RecallError> {
        let mut requests: Option<(Client, Subscriber)> = None;
        let mut answers: FuturesUnordered<BoxFuture<'static, Outcome>> = FuturesUnordered::new();
        self.link.client.mark_changed();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                changed = self.link.client.changed() => {
                    changed.map_err(|_| RecallError::LinkGone)?;
                    answers.clear();
                    requests = self.subscribe().await;
                }
                Some(outcome) = answers.next() => {
                    log(outcome);
                    if outcome == Outcome::StoreGone {
                        return Err(RecallError::Store(StoreGone));
                    }
                }
                Some((client, request)) = next_request(&mut requests) => {
                    if answers.len() < AT_A_TIME {
                        answers.push(self.answer(client, request).boxed());
                    } else {
                        refuse(&client, &request, RecallRefused::Busy).await;
                    }
                }
            }
        }
    }

    async fn subscribe(&mut self) -> Option<(Client, Subscriber)> {
        let client = self.link.client.borrow_and_update().clone()?;
        match client.subscribe(self.subject.clone()).await {
            Ok(requests) => Some((client, requests)),
            Err(error) => {
                warn!(%error, "recalls cannot be answered on this connection");
                None
            }
        }
    }

    fn answer(&self, client: Client, request: Message) -> impl Future<Output = Outcome> + Send + 'static {
        let (store, busy, bytes_per_second) = (self.store.clone(), self.busy.clone(), self.bytes_per_second);
        async move {
            let query = match Request::read(&request.payload) {
                Ok(query) => query,
                Err(refused) => {
                    refuse(&client, &request, refused).await;
                    return Outcome::Refused(refused);
                }
            };
            let Some(requester) = request.reply.map(|reply| reply.to_string()) else {
                return Outcome::RequesterGone;
            };
            let inbox = client.new_inbox();
            let Ok(confirmations) = client.subscribe(format!("{inbox}.*")).await else {
                return Outcome::Disconnected;
            };
            let answer = Answer {
                store,
                client,
                busy,
                bytes_per_second,
                requester,
                inbox,
                confirmations,
                unconfirmed: Vec::new(),
                window: 1,
                chunks: 0,
                bytes: 0,
                due: Instant::now(),
            };
            answer.run(query).await
        }
    }
}

// === impl Answer ===

impl Answer {
    async fn run(mut self, mut query: RecallQuery) -> Outcome {
        loop {
            if let Err(outcome) = self.wait_for_turn().await {
                return outcome;
            }
            let page = match self.store.recall(query.clone()).await {
                Ok(Ok(page)) => page,
                Ok(Err(refused)) => {
                    let _ = self.send(Part::from(refused), Bytes::new()).await;
                    return Outcome::Refused(refused);
                }
                Err(StoreGone) => return Outcome::StoreGone,
            };
            let RecallPage { body, clock_correction, next } = page;
            if let Some(body) = body
                && let Err(outcome) = self.send_chunk(body, clock_correction).await
            {
                return outcome;
            }
            match next {
                Some(next) => query.after = next,
                None => break,
            }
        }
        while !self.unconfirmed.is_empty() {
            if let Err(outcome) = self.take_confirmation().await {
                return outcome;
            }
        }
        match self.send(Part::End, Bytes::new()).await {
            Ok(()) => Outcome::Answered { chunks: self.chunks, bytes: self.bytes },
            Err(outcome) => outcome,
        }
    }

    /// Waits until the pace, the requester and everything more urgent allow another chunk.
    async fn wait_for_turn(&mut self) -> Result<(), Outcome> {
        let give_up = Instant::now() + BUSY_PATIENCE;
        loop {
            if self.unconfirmed.len() >= self.window {
                self.take_confirmation().await?;
                continue;
            }
            let (due, mut busy) = (self.due, self.busy.clone());
            let quiet = async {
                sleep_until(due).await;
                busy.idle().await;
            };
            tokio::select! {
                biased;
                message = self.confirmations.next() => self.confirmed(message)?,
                () = quiet => return Ok(()),
                () = sleep(WAIT_NOTICE) => {
                    if Instant::now() >= give_up && self.busy.now() {
                        let _ = self.send(Part::from(RecallRefused::Busy), Bytes::new()).await;
                        return Err(Outcome::Refused(RecallRefused::Busy));
                    }
                    // It has a reply subject, so that a requester that has gone is noticed.
                    self.send(Part::Wait("alarms and live data first".to_owned()), Bytes::new()).await?;
                }
            }
        }
    }

    async fn send_chunk(&mut self, body: Bytes, clock_correction: Option<i64>) -> Result<(), Outcome> {
        self.chunks += 1;
        self.bytes += body.len() as u64;
        let pause = Duration::from_secs_f64(body.len() as f64 / self.bytes_per_second as f64);
        self.due = self.due.max(Instant::now()) + pause;
        self.unconfirmed.push((self.chunks, Instant::now()));
        self.send(Part::Chunk { number: self.chunks, clock_correction }, body).await
    }

    async fn send(&self, part: Part, body: Bytes) -> Result<(), Outcome> {
        let requester = self.requester.clone();
        let number = match part {
            Part::Chunk { number, .. } => number,
            _ => 0,
        };
        let reply = format!("{}.{number}", self.inbox);
        let sent = self.client.publish_with_reply_and_headers(requester, reply, part.headers(), body).await;
        sent.map_err(|_| Outcome::Disconnected)
    }

    async fn take_confirmation(&mut self) -> Result<(), Outcome> {
        match timeout(REQUESTER_PATIENCE, self.confirmations.next()).await {
            Ok(message) => self.confirmed(message),
            Err(_) => Err(Outcome::RequesterGone),
        }
    }

    fn confirmed(&mut self, message: Option<Message>) -> Result<(), Outcome> {
        let message = message.ok_or(Outcome::Disconnected)?;
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(Outcome::RequesterGone);
        }
        let number = message.subject.rsplit('.').next().and_then(|number| number.parse::<u64>().ok());
        let Some(at) = self.unconfirmed.iter().position(|(chunk, _)| Some(*chunk) == number) else {
            return Ok(());
        };
        let took = self.unconfirmed.remove(at).1.elapsed();
        self.window = match took {
            took if took <= PROMPT => (self.window + 1).min(WINDOW_MAX),
            took if took > TARDY => 1,
            _ => self.window,
        };
        Ok(())
    }
}

async fn next_request(requests: &mut Option<(Client, Subscriber)>) -> Option<(Client, Message)> {
    match requests {
        Some((client, requests)) => requests.next().await.map(|request| (client.clone(), request)),
        None => std::future::pending().await,
    }
}

async fn refuse(client: &Client, request: &Message, refused: RecallRefused) {
    if let Some(reply) = &request.reply {
        // If it cannot be sent, the requester's own timeout tells it.
        let _ = client.publish_with_headers(reply.clone(), Part::from(refused).headers(), Bytes::new()).await;
    }
}

fn log(outcome: Outcome) {
    match outcome {
        Outcome::Answered { chunks, bytes } => info!(chunks, bytes, "recall answered"),
        Outcome::Refused(refused) => info!(why = %refused, "recall refused"),
        Outcome::RequesterGone => info!("recall ended: the requester has gone"),
        Outcome::Disconnected => info!("recall ended: the connection is gone"),
        Outcome::StoreGone => warn!("recall ended: the store has stopped"),
    }
}
