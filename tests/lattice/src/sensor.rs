//! A machine on site: says something over MQTT, and hears what comes back.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::site::{PATIENCE, eventually};

/// Messages that may wait for the test to hear them.
const HEARD_MAX: usize = 1_000;
/// How long an answer may take before the question is asked again: a component may be new, and not connected yet.
const ANSWER: Duration = Duration::from_millis(500);

/// The machine.
pub struct Sensor {
    client: AsyncClient,
    heard: mpsc::Receiver<(String, String)>,
    _task: JoinSet<()>,
}

// === impl Sensor ===

impl Sensor {
    /// Connects to the gateway's listener, again and again, and subscribes each time.
    pub fn connect(port: u16, topics: &'static [&'static str]) -> Sensor {
        let mut options = MqttOptions::new(format!("sensor-{port}"), "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(30));
        let (client, mut eventloop) = AsyncClient::new(options, HEARD_MAX);
        let subscriber = client.clone();
        let (sender, heard) = mpsc::channel(HEARD_MAX);
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                match eventloop.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        for topic in topics {
                            subscriber.try_subscribe(*topic, QoS::AtLeastOnce).unwrap();
                        }
                    }
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let text = String::from_utf8_lossy(&publish.payload).into_owned();
                        sender.try_send((publish.topic, text)).unwrap();
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        Sensor { client, heard, _task: task }
    }

    /// Says something.
    pub async fn say(&self, topic: &str, text: &str) {
        self.client.publish(topic, QoS::AtLeastOnce, false, text.to_owned()).await.unwrap();
    }

    /// What is heard before the time is over.
    pub async fn hear(&mut self, patience: Duration) -> Option<(String, String)> {
        timeout(patience, self.heard.recv()).await.ok().flatten()
    }

    /// Says something until it is answered so.
    pub async fn is_answered(&mut self, topic: &str, text: &str, answer: (&str, &str)) {
        eventually(&format!("{text:?} is answered with {answer:?}"), PATIENCE, async || {
            self.say(topic, text).await;
            let until = Instant::now() + ANSWER;
            while let Some((on, said)) = self.hear(until.saturating_duration_since(Instant::now())).await {
                if (on.as_str(), said.as_str()) == answer {
                    return true;
                }
            }
            false
        })
        .await;
    }

    /// Says each of these once, and hears `echo` of each once and nothing else: one copy is at work.
    pub async fn is_answered_once(&mut self, out: &str) {
        while self.hear(ANSWER).await.is_some() {}
        let texts: Vec<String> = (0..20).map(|n| format!("number {n}")).collect();
        for text in &texts {
            self.say("orders/a", &format!("echo {text}")).await;
        }
        for text in &texts {
            let heard = self.hear(PATIENCE).await;
            assert_eq!(heard, Some((out.to_owned(), format!("orders/a {text}"))));
        }
        assert_eq!(self.hear(ANSWER).await, None, "another copy answers, too");
    }
}
