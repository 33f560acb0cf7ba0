//! An MQTT client that publishes what machines send, at QoS 1, and notes what was acknowledged. When the connection breaks,
//! because the gateway it leads to is killed, it connects again and sends what was not acknowledged once more.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::platform::clock;

use super::ledger::Ledger;
use super::machines::{Machine, Sent};
use super::replay::Recording;

/// A connection that is not back within this time will not be.
const BACK_MAX: Duration = Duration::from_secs(30);
/// Between two attempts.
const ATTEMPT_EVERY: Duration = Duration::from_millis(200);
/// Messages that wait for the broker in one client; a full one makes the machines wait.
const QUEUE_MAX: usize = 2_000;

/// What all senders share; they run on one thread.
#[derive(Debug, Default)]
pub struct Tally {
    /// What was acknowledged.
    pub ledger: Ledger,
    /// Bytes of topics and payloads published.
    pub raw_bytes: u64,
    /// Readings published.
    pub published: u64,
    /// Messages the broker has not acknowledged yet.
    pub unacknowledged: u64,
}

/// What a sender sends.
#[derive(Debug)]
pub enum Source {
    /// Machines, each asked this often.
    Machines {
        /// The machines.
        machines: Vec<Machine>,
        /// How often.
        every: Duration,
    },
    /// A recording, this many rows a second.
    Recording {
        /// The recording.
        recording: Recording,
        /// Rows a second.
        rows_per_second: f64,
        /// How far behind the last row one more message is sent, milliseconds, so that every window closes.
        behind_ms: i64,
    },
}

/// Why a sender gave up.
#[derive(Debug, thiserror::Error)]
#[error("the machines are without a connection; the demonstration needs it for its ledger")]
pub struct SenderError(#[source] Box<rumqttc::ConnectionError>);

/// Publishes until `stop` (or the end of the recording), then the closing messages, then waits for every
/// acknowledgement.
pub async fn run(
    port: u16,
    name: String,
    source: Source,
    tally: &RefCell<Tally>,
    stop: &CancellationToken,
) -> Result<(), SenderError> {
    let mut options = MqttOptions::new(name, "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(30)).set_inflight(1_000).set_clean_session(false);
    let (client, events) = AsyncClient::new(options, QUEUE_MAX);
    let queued = RefCell::new(VecDeque::new());
    let finished = CancellationToken::new();
    let publish = async {
        publish(&client, source, tally, &queued, stop).await;
        finished.cancel();
        Ok(())
    };
    let (_, outcome): (Result<(), SenderError>, _) =
        futures_util::future::join(publish, poll(events, tally, &queued, &finished)).await;
    outcome
}

async fn publish(
    client: &AsyncClient,
    source: Source,
    tally: &RefCell<Tally>,
    queued: &RefCell<VecDeque<Sent>>,
    stop: &CancellationToken,
) {
    match source {
        Source::Machines { mut machines, every } => {
            let mut interval = tokio::time::interval(every);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while stop.run_until_cancelled(interval.tick()).await.is_some() {
                let now = clock::realtime() / 1_000_000;
                for machine in &mut machines {
                    for sent in machine.step(now) {
                        send(client, sent, tally, queued).await;
                    }
                }
            }
            let last = clock::realtime() / 1_000_000 + 1;
            for machine in &mut machines {
                for sent in machine.finish(last) {
                    send(client, sent, tally, queued).await;
                }
            }
        }
        Source::Recording { recording, rows_per_second, behind_ms } => {
            let started = Instant::now();
            let mut index = 0;
            while let Some(sent) = recording.message(index) {
                let due = started + Duration::from_secs_f64(index as f64 / rows_per_second);
                if stop.run_until_cancelled(tokio::time::sleep_until(due)).await.is_none() {
                    break;
                }
                send(client, sent, tally, queued).await;
                index += 1;
            }
            if let Some(sent) = recording.finish(behind_ms) {
                send(client, sent, tally, queued).await;
            }
        }
    }
}

async fn send(client: &AsyncClient, sent: Sent, tally: &RefCell<Tally>, queued: &RefCell<VecDeque<Sent>>) {
    {
        let mut tally = tally.borrow_mut();
        tally.raw_bytes += (sent.topic.len() + sent.payload.len()) as u64;
        tally.published += sent.values.len() as u64;
        tally.unacknowledged += 1;
    }
    let (topic, payload) = (sent.topic.clone(), sent.payload.clone());
    queued.borrow_mut().push_back(sent);
    // The client and its event loop live as long as each other, so the queue is never closed.
    let _ = client.publish(topic, QoS::AtLeastOnce, false, payload).await;
}

async fn poll(
    mut events: EventLoop,
    tally: &RefCell<Tally>,
    queued: &RefCell<VecDeque<Sent>>,
    finished: &CancellationToken,
) -> Result<(), SenderError> {
    let mut flying: HashMap<u16, Sent> = HashMap::new();
    let mut lost: Option<Instant> = None;
    loop {
        if finished.is_cancelled() && flying.is_empty() && queued.borrow().is_empty() {
            return Ok(());
        }
        let event = match events.poll().await {
            Ok(event) => event,
            Err(_) if lost.get_or_insert_with(Instant::now).elapsed() < BACK_MAX => {
                tokio::time::sleep(ATTEMPT_EVERY).await;
                continue;
            }
            Err(err) => return Err(SenderError(Box::new(err))),
        };
        lost = None;
        match event {
            // One that is sent again keeps its identifier.
            Event::Outgoing(Outgoing::Publish(pkid)) if !flying.contains_key(&pkid) => {
                if let Some(sent) = queued.borrow_mut().pop_front() {
                    flying.insert(pkid, sent);
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                let Some(sent) = flying.remove(&ack.pkid) else { continue };
                let mut tally = tally.borrow_mut();
                tally.unacknowledged -= 1;
                for (field, _) in &sent.values {
                    let (series, time) = (format!("{}/{field}", sent.topic), sent.time_ms * 1_000_000);
                    if sent.closing {
                        tally.ledger.close(&series, time);
                    } else {
                        tally.ledger.acknowledge(&series, time);
                    }
                }
            }
            _ => {}
        }
    }
}
