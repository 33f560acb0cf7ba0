//! Sensors that publish at QoS 1 and note what the broker has acknowledged. A broker that goes away is waited for, and
//! what it had not acknowledged is sent again.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use frond::cli::demo::Ledger;
use frond::platform::clock;
use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Messages the client takes at a time.
const QUEUE: usize = 4_000;
/// Between attempts to reach the broker.
const AGAIN: Duration = Duration::from_millis(100);
/// How far behind the last reading the message comes that closes the windows.
const CLOSING_MS: i64 = 60_000;

/// What is measured: `series` sensors `plant/<name>-<n>/state`, field `v`, each once in `every`.
#[derive(Debug, Clone)]
pub struct Plan {
    pub name: &'static str,
    pub series: usize,
    pub every: Duration,
}

/// How far the sensors are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    pub measured: u64,
    pub acknowledged: u64,
}

/// Sensors at work.
pub struct Sensors {
    pub progress: watch::Receiver<Progress>,
    stop: CancellationToken,
    task: JoinSet<Ledger>,
}

#[derive(Debug, Clone)]
struct Measured {
    topic: String,
    time_ms: i64,
    value: u64,
    closing: bool,
}

impl Plan {
    pub fn new(name: &'static str, series: usize, every_ms: u64) -> Plan {
        Plan { name, series, every: Duration::from_millis(every_ms) }
    }

    /// Begins.
    pub fn start(self, port: u16) -> Sensors {
        let (progress_out, progress) = watch::channel(Progress::default());
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(run(port, self, stop.clone(), progress_out));
        Sensors { progress, stop, task }
    }

    fn measure(&self, count: u64, behind_ms: i64, closing: bool) -> Vec<Measured> {
        let time_ms = clock::realtime() / 1_000_000 + behind_ms;
        let topics = (0..self.series).map(|number| format!("plant/{}-{number}/state", self.name));
        topics
            .enumerate()
            .map(|(at, topic)| Measured {
                topic,
                time_ms,
                value: noise(count * 1_000_003 + at as u64),
                closing,
            })
            .collect()
    }
}

impl Sensors {
    /// Waits until so many more messages are acknowledged.
    pub async fn acknowledged(&mut self, more: u64) {
        let goal = self.progress.borrow().acknowledged + more;
        let wait = self.progress.wait_for(|progress| progress.acknowledged >= goal);
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("acknowledgements come").unwrap();
    }

    /// Waits until so many more messages are measured, whether the broker is there or not.
    pub async fn measured(&mut self, more: u64) {
        let goal = self.progress.borrow().measured + more;
        let wait = self.progress.wait_for(|progress| progress.measured >= goal);
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("sensors measure").unwrap();
    }

    /// Ends, when everything is acknowledged.
    pub async fn finish(mut self) -> Ledger {
        self.stop.cancel();
        let end = tokio::time::timeout(Duration::from_secs(20), self.task.join_next()).await;
        end.expect("the last acknowledgements come").unwrap().unwrap()
    }
}

async fn run(port: u16, plan: Plan, stop: CancellationToken, progress: watch::Sender<Progress>) -> Ledger {
    let mut ledger = Ledger::default();
    let mut waiting: VecDeque<Measured> = VecDeque::new();
    let mut ticks = tokio::time::interval(plan.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut count, mut stopping, mut attempt) = (0, false, 0);
    loop {
        attempt += 1;
        let mut options = MqttOptions::new(format!("{}-{attempt}", plan.name), "127.0.0.1", port);
        options.set_inflight(1_000).set_credentials("sensor", "sensor");
        let (client, mut events) = AsyncClient::new(options, QUEUE);
        let (mut queued, mut flying) = (VecDeque::<Measured>::new(), HashMap::<u16, Measured>::new());
        loop {
            let event = {
                let poll = events.poll();
                tokio::pin!(poll);
                loop {
                    while let Some(next) = waiting.pop_front() {
                        let payload = format!(r#"{{"ts":{},"v":{}}}"#, next.time_ms, next.value);
                        if client.try_publish(&next.topic, QoS::AtLeastOnce, false, payload).is_err() {
                            waiting.push_front(next);
                            break;
                        }
                        queued.push_back(next);
                    }
                    tokio::select! {
                        event = &mut poll => break event,
                        _ = ticks.tick(), if !stopping => {
                            count += 1;
                            waiting.extend(plan.measure(count, 0, false));
                            progress.send_modify(|progress| progress.measured += plan.series as u64);
                        }
                        () = stop.cancelled(), if !stopping => {
                            stopping = true;
                            waiting.extend(plan.measure(count, CLOSING_MS, true));
                        }
                    }
                }
            };
            match event {
                Ok(Event::Outgoing(Outgoing::Publish(pkid))) => {
                    flying.insert(pkid, queued.pop_front().expect("what goes out was queued"));
                }
                Ok(Event::Incoming(Packet::PubAck(ack))) => {
                    let done = flying.remove(&ack.pkid).expect("what is acknowledged was sent");
                    let (series, time) = (format!("{}/v", done.topic), done.time_ms * 1_000_000);
                    if done.closing {
                        ledger.close(&series, time);
                    } else {
                        ledger.acknowledge(&series, time);
                        progress.send_modify(|progress| progress.acknowledged += 1);
                    }
                }
                Ok(_) => {}
                Err(_) => break,
            }
            if stopping && waiting.is_empty() && queued.is_empty() && flying.is_empty() {
                return ledger;
            }
        }
        // In any order among the sensors, in order of time for each: otherwise they would come late.
        waiting.extend(flying.into_values().chain(queued));
        waiting.make_contiguous().sort_by_key(|one| one.time_ms);
        tokio::time::sleep(AGAIN).await;
    }
}

/// Values that no codec can shorten (splitmix64), of 40 bits, so that sums of them stay integers.
fn noise(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ (mixed >> 31)) >> 24
}

/// Publishes these messages at QoS 1 and returns when the last is acknowledged.
pub async fn publish(port: u16, messages: Vec<(String, Vec<u8>)>) {
    let mut options = MqttOptions::new(format!("once-{}", clock::realtime()), "127.0.0.1", port);
    options.set_credentials("sensor", "sensor").set_inflight(100).set_max_packet_size(1 << 24, 1 << 24);
    let (client, mut events) = AsyncClient::new(options, messages.len().max(1));
    let mut owed = messages.len();
    for (topic, payload) in messages {
        client.try_publish(topic, QoS::AtLeastOnce, false, payload).unwrap();
    }
    let work = async {
        while owed > 0 {
            if let Event::Incoming(Packet::PubAck(_)) = events.poll().await.unwrap() {
                owed -= 1;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("the broker acknowledges");
}
