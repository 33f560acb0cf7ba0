//! The sensor that misses nothing: it publishes at QoS 1, whatever others do to the gateway, and notes what it gets back.

use std::collections::HashMap;
use std::time::Duration;

use frond::platform::clock;
use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::listener_rig::FACT_MAX;

/// How often it measures.
const EVERY: Duration = Duration::from_millis(10);

/// What it has noted.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    pub sent: u64,
    pub acknowledged: u64,
    /// Connections beyond the first.
    pub reconnects: u64,
    /// From the sending of a message to its acknowledgement, sorted, when it has finished.
    pub waits: Vec<Duration>,
}

/// A sensor at work.
pub struct Sensor {
    progress: watch::Receiver<u64>,
    stop: CancellationToken,
    task: JoinSet<Notes>,
}

impl Notes {
    /// The wait that 99 of 100 messages do not exceed.
    pub fn p99(&self) -> Duration {
        self.waits[(self.waits.len() * 99 / 100).min(self.waits.len() - 1)]
    }
}

impl Sensor {
    /// Begins, as `plant/NAME/state`.
    pub fn start(port: u16, name: &str, login: Option<(&str, &str)>) -> Sensor {
        let mut options = MqttOptions::new(name, "127.0.0.1", port);
        options.set_inflight(200).set_clean_session(false).set_keep_alive(Duration::from_secs(30));
        if let Some((user, password)) = login {
            options.set_credentials(user, password);
        }
        let (out, progress) = watch::channel(0);
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(run(options, format!("plant/{name}/state"), out, stop.clone()));
        Sensor { progress, stop, task }
    }

    /// Waits until so many more messages are acknowledged.
    pub async fn acknowledged(&mut self, more: u64) {
        let goal = *self.progress.borrow() + more;
        let wait = self.progress.wait_for(|count| *count >= goal);
        tokio::time::timeout(FACT_MAX, wait).await.expect("acknowledgements come").unwrap();
    }

    /// Ends when everything that was sent is acknowledged.
    pub async fn finish(mut self) -> Notes {
        self.stop.cancel();
        let end = tokio::time::timeout(FACT_MAX, self.task.join_next()).await;
        end.expect("the last acknowledgements come").unwrap().unwrap()
    }
}

async fn run(options: MqttOptions, topic: String, out: watch::Sender<u64>, stop: CancellationToken) -> Notes {
    let (client, mut events) = AsyncClient::new(options, 1000);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut notes = Notes::default();
    let mut flying: HashMap<u16, Instant> = HashMap::new();
    let (mut connected, mut time_ms) = (0, clock::realtime() / 1_000_000);
    loop {
        let event = {
            let poll = events.poll();
            tokio::pin!(poll);
            loop {
                tokio::select! {
                    event = &mut poll => break Some(event),
                    () = stop.cancelled(), if notes.acknowledged == notes.sent => break None,
                    _ = ticks.tick(), if !stop.is_cancelled() => {
                        // Each reading has a time of its own, so that a copy would be one and a new one is none.
                        time_ms = (time_ms + 1).max(clock::realtime() / 1_000_000);
                        let payload = format!(r#"{{"ts":{time_ms},"v":{}}}"#, notes.sent);
                        if client.try_publish(&topic, QoS::AtLeastOnce, false, payload).is_ok() {
                            notes.sent += 1;
                        }
                    }
                }
            }
        };
        let Some(event) = event else {
            notes.waits.sort();
            return notes;
        };
        match event {
            Ok(Event::Incoming(Packet::ConnAck(_))) => connected += 1,
            Ok(Event::Outgoing(Outgoing::Publish(pkid))) => {
                flying.entry(pkid).or_insert_with(Instant::now);
            }
            Ok(Event::Incoming(Packet::PubAck(ack))) => {
                if let Some(sent) = flying.remove(&ack.pkid) {
                    notes.waits.push(sent.elapsed());
                    notes.acknowledged += 1;
                    out.send_replace(notes.acknowledged);
                }
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        notes.reconnects = u64::max(connected, 1) - 1;
    }
}
