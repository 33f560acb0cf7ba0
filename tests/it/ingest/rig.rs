//! A door under test, with doubles for the journal and the store, and a publisher.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use frond::block::SeriesEntry;
use frond::config::{self, Caps, Decode, Fields, FullPolicy, Reduce, TimeSource};
use frond::ingest::broker::{BrokerDoor, DoorError};
use frond::ingest::state::{DoorState, DoorView};
use frond::ingest::{Reason, door_id};
use frond::platform::clock::{Beginning, ClockKeeper, WallClock};
use frond::sample::{Durability, Identity, Lane, Message, SeriesId, StreamId, Value};
use frond::store::{Command, DoorStart, Handle, Inbound, Newest, SeriesDenied};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Packet, QoS};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longest wait for a fact.
pub const WAIT: Duration = Duration::from_secs(30);

/// A configuration of the broker door.
pub fn broker(port: u16) -> config::Broker {
    config::Broker {
        host: "127.0.0.1".into(),
        port,
        client_id: "frond-test".into(),
        username: None,
        password_file: None,
        keep_alive: Duration::from_secs(2),
        inflight_max: 1_000,
        packet_bytes_max: 1 << 20,
    }
}

/// A stream of JSON with arrival stamps.
pub fn stream(name: &str, topics: &[&str]) -> config::Stream {
    config::Stream {
        name: name.into(),
        topics: topics.iter().map(|topic| topic.to_string()).collect(),
        qos: 1,
        decode: Decode::Json(Fields::default()),
        time: TimeSource::Arrival,
        series: "{topic}/{field}".into(),
        unit: String::new(),
        labels: Default::default(),
        component: None,
        reduce: Reduce::None,
        durability: Durability::Reading,
        lane: Lane::Data,
        full: FullPolicy::DropOldest,
        expect_readings_per_second: None,
        expect_series: None,
        caps: Caps {
            payload_bytes_max: 64 * 1024,
            depth_max: 16,
            samples_max: 1_000,
            series_max: 1_000,
            outbox_bytes_max: None,
        },
    }
}

/// A clock that is trusted at once.
fn clock() -> WallClock {
    let trust = config::Clock { trust: config::Trust::Always, synchronized_file: "/nowhere".into() };
    let beginning = Beginning { boot: frond::sample::BootId(1), newest: None, estimate: None };
    ClockKeeper::new(&trust, beginning).1
}

/// Streams with the numbers the store would give them.
pub fn numbered(streams: Vec<config::Stream>) -> Vec<(StreamId, config::Stream)> {
    streams.into_iter().enumerate().map(|(n, stream)| (StreamId(n as u32), stream)).collect()
}

/// A store that only numbers series.
#[derive(Clone)]
pub struct Series {
    pub handle: Handle,
    names: watch::Receiver<HashMap<SeriesId, (StreamId, SeriesEntry)>>,
}

impl Series {
    pub fn start(tasks: &mut JoinSet<()>, series_max: usize) -> Series {
        let (commands, mut requests) = mpsc::channel(16);
        let (names, watched) = watch::channel(HashMap::new());
        tasks.spawn(async move {
            let mut numbers: HashMap<(StreamId, String), SeriesId> = HashMap::new();
            while let Some(command) = requests.recv().await {
                let Command::Intern { stream, entry, reply } = command else { panic!("a door only interns") };
                let next = SeriesId(numbers.len() as u32 + 1);
                let full = numbers.keys().filter(|(s, _)| *s == stream).count() >= series_max;
                let key = (stream, entry.name.clone());
                let answer = match numbers.get(&key) {
                    Some(id) => Ok(*id),
                    None if full => Err(SeriesDenied { series_max }),
                    None => {
                        numbers.insert(key, next);
                        names.send_modify(|names| {
                            names.insert(next, (stream, entry));
                        });
                        Ok(next)
                    }
                };
                let _ = reply.send(answer);
            }
        });
        let newest = watch::channel(Newest::default()).1;
        Series { handle: Handle { commands, newest, epoch: 1 }, names: watched }
    }

    pub fn entry(&self, id: SeriesId) -> SeriesEntry {
        self.names.borrow()[&id].1.clone()
    }

    pub fn count(&self) -> usize {
        self.names.borrow().len()
    }
}

/// A door that runs, and the far ends of its channels.
pub struct Rig {
    pub view: DoorView,
    pub inbound: mpsc::Receiver<Inbound>,
    pub series: Series,
    pub stop: CancellationToken,
    durable: watch::Sender<u64>,
    door: JoinSet<Result<(), DoorError>>,
    _store: JoinSet<()>,
}

impl Rig {
    /// Starts the door of durability `reading`.
    pub fn start(config: &config::Broker, streams: Vec<config::Stream>) -> Rig {
        Rig::start_with(config, streams, Durability::Reading, Vec::new(), 1_000)
    }

    /// Starts a door that knows messages from before, with room for so many on their way to the journal.
    pub fn start_with(
        config: &config::Broker,
        streams: Vec<config::Stream>,
        durability: Durability,
        seen: Vec<Identity>,
        capacity: usize,
    ) -> Rig {
        let mut store = JoinSet::new();
        let series_max = streams.iter().map(|stream| stream.caps.series_max).max().unwrap_or(0);
        let series = Series::start(&mut store, series_max);
        let (sender, inbound) = mpsc::channel(capacity);
        let (durable, watched) = watch::channel(0);
        let start = DoorStart { door: door_id(durability), seen, durable: watched };
        let (door, view) =
            BrokerDoor::new(config, &numbered(streams), series.handle.clone(), sender, start, clock())
                .expect("a valid configuration");
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(door.run(stop.clone()));
        Rig { view, inbound, series, stop, durable, door: running, _store: store }
    }

    /// The next message or word of the door.
    pub async fn next(&mut self) -> Inbound {
        timeout(WAIT, self.inbound.recv())
            .await
            .expect("the door passes something on")
            .expect("the door runs")
    }

    /// The next message.
    pub async fn message(&mut self) -> Message {
        match self.next().await {
            Inbound::Message(message) => message,
            Inbound::Forget(_) => panic!("expected a message, the session was lost"),
            Inbound::Batch(batch) => panic!("a broker door passes messages on one by one: {batch:?}"),
        }
    }

    /// So many messages.
    pub async fn messages(&mut self, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        while messages.len() < count {
            messages.push(self.message().await);
        }
        messages
    }

    /// Waits until the door is connected with a new session.
    pub async fn forgotten(&mut self) {
        match self.next().await {
            Inbound::Forget(door) => assert_eq!(door, self.view.door),
            Inbound::Message(message) => panic!("expected a lost session, got {message:?}"),
            Inbound::Batch(batch) => panic!("expected a lost session, got {batch:?}"),
        }
    }

    /// Waits until the door is connected and has subscribed.
    pub async fn ready(&mut self) {
        self.forgotten().await;
        self.subscribed(1).await;
    }

    /// Waits until so many subscriptions have been granted, over all connections.
    pub async fn subscribed(&self, count: u64) {
        self.counted("subscribed", count, |view| view.counters.subscribed.load(Relaxed)).await;
    }

    /// Waits for a state.
    pub async fn state(&mut self, is: impl FnMut(&DoorState) -> bool) -> DoorState {
        timeout(WAIT, self.view.state.wait_for(is))
            .await
            .expect("the state in time")
            .expect("the door runs")
            .clone()
    }

    /// The journal has committed everything up to this ticket.
    pub fn commit(&self, ticket: u64) {
        self.durable.send_replace(ticket);
    }

    /// Waits until a count is reached.
    pub async fn counted(&self, what: &str, count: u64, read: impl Fn(&DoorView) -> u64) {
        let reached = async {
            while read(&self.view) < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let late = timeout(WAIT, reached).await.is_err();
        assert!(!late, "{what} is {} and not {count}", read(&self.view));
    }

    /// How often the stream at a position rejected something.
    pub fn rejected(&self, stream: usize, reason: Reason) -> u64 {
        self.view.counters.streams[stream].rejected(reason)
    }

    /// Stops the door as it should be stopped, with nothing left to wait for.
    pub async fn finish(mut self) {
        self.commit(u64::MAX);
        self.stop.cancel();
        let ended = timeout(WAIT, self.door.join_next()).await.expect("the door stops in time");
        ended.expect("it ran").expect("it did not panic").expect("it ended well");
    }

    /// Waits for the door to end by itself, with an error.
    pub async fn fail(mut self) -> DoorError {
        let ended = timeout(WAIT, self.door.join_next()).await.expect("the door ends in time");
        ended.expect("it ran").expect("it did not panic").expect_err("it could not go on")
    }

    /// The door dies in the middle of whatever it does.
    pub async fn crash(mut self) {
        self.door.shutdown().await;
    }
}

/// Values of a message, in order.
pub fn values(message: &Message) -> Vec<Value> {
    message.readings.iter().map(|reading| reading.value).collect()
}

/// The only value of each message, as an integer.
pub fn numbers(messages: &[Message]) -> Vec<i64> {
    let number = |message: &Message| match values(message)[..] {
        [Value::Int(value)] => value,
        ref other => panic!("expected one integer, got {other:?}"),
    };
    messages.iter().map(number).collect()
}

/// A sensor.
pub struct Publisher {
    client: AsyncClient,
    eventloop: EventLoop,
}

impl Publisher {
    pub async fn connect(port: u16) -> Publisher {
        let mut options = MqttOptions::new(format!("sensor-{port}"), "127.0.0.1", port);
        options.set_max_packet_size(1 << 28, 1 << 28);
        let (client, mut eventloop) = AsyncClient::new(options, 64);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        eventloop.set_network_options(network);
        Publisher { client, eventloop }
    }

    /// Publishes at QoS 1, one after the other, and waits until the broker has them all.
    pub async fn publish<T: AsRef<str>, P: Into<Vec<u8>>>(
        &mut self,
        messages: impl IntoIterator<Item = (T, P)>,
    ) {
        for (topic, payload) in messages {
            self.send(topic.as_ref(), false, payload.into()).await;
        }
    }

    /// Publishes one message that the broker is to keep for new subscribers.
    pub async fn retain(&mut self, topic: &str, payload: &str) {
        self.send(topic, true, payload.into()).await;
    }

    /// Publishes numbers under one topic.
    pub async fn count(&mut self, topic: &str, numbers: impl IntoIterator<Item = i64>) {
        self.publish(numbers.into_iter().map(|n| (topic, n.to_string()))).await;
    }

    async fn send(&mut self, topic: &str, retain: bool, payload: Vec<u8>) {
        self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload).expect("room for one request");
        let acknowledged = async {
            loop {
                match self.eventloop.poll().await.expect("the broker runs") {
                    Event::Incoming(Packet::PubAck(_)) => break,
                    _ => continue,
                }
            }
        };
        timeout(WAIT, acknowledged).await.expect("the broker acknowledges");
    }
}

/// A file in a folder of its own.
pub fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let path = folder.path().join("file");
    std::fs::write(&path, content).expect("the folder is writable");
    (folder, path)
}
