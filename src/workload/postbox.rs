//! Messages by MQTT: one connection of a workload, to the gateway's own listener or to the broker on site.
//!
//! To the listener it goes by a loopback port that nobody else gets into, and a component is a client like any other: its
//! queue is bounded, and what it publishes reaches subscribers once it is journalled. MQTT 5, so that a message may say
//! where its answer goes; with "no local", so that a component does not hear itself.
//!
//! What is kept where: at the listener a new session each time; at a broker a session of an hour, so that QoS 1 messages
//! of a short absence come afterwards. Publications wait in a queue of [`OUT_MAX`] and are refused when it is full; those
//! that are not acknowledged are sent again while the process lives and the session does.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Filter, Packet, Publish, PublishProperties};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::account::{Account, count};
use super::door::{Door, Login, PasswordFile, read_password};
use super::inbox::{Inbox, Letter, Way};

/// Publications waiting, and on their way: 64 of 256 KiB are 16 MiB at the very worst, and of the usual 200 B 13 KiB.
const OUT_MAX: usize = 64;
/// Largest body published.
pub(super) const BODY_BYTES_MAX: usize = 256 << 10;
/// Beside the body of a packet: topic, properties, header.
const HEAD_BYTES_MAX: usize = 70_000;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a broker keeps the session of a gateway that is away.
const SESSION_SECONDS: u32 = 3_600;
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// First levels of the topics that answers to requests come by.
const REPLY_ROOT: &str = "frond/reply";

/// The way out.
#[derive(Debug, Clone)]
pub(super) struct PostboxHandle {
    client: Option<AsyncClient>,
    connected: Arc<AtomicBool>,
    expected: Arc<Expected>,
}

/// The answer that is waited for. A component makes one request at a time.
#[derive(Debug)]
struct Expected {
    /// Topics of answers begin with it.
    root: String,
    number: AtomicU64,
    answer: Mutex<Option<(String, oneshot::Sender<Letter>)>>,
}

/// The connection.
pub(super) struct Postbox {
    eventloop: Option<EventLoop>,
    client: Option<AsyncClient>,
    filters: Vec<Filter>,
    /// Subjects that stand for topics.
    map: Vec<(String, String)>,
    password_file: Option<PasswordFile>,
    connected: Arc<AtomicBool>,
    expected: Arc<Expected>,
    inbox: Arc<Inbox>,
    account: Arc<Account>,
}

/// What a postbox is made from.
pub(super) struct Wanted<'a> {
    pub gateway: &'a str,
    pub component: &'a str,
    /// Filters with their quality of service.
    pub topics: Vec<(String, u8)>,
    /// Subject and topic.
    pub map: Vec<(String, String)>,
    /// Whether it makes requests, and so must hear answers.
    pub publishes: bool,
}

// === impl PostboxHandle ===

impl PostboxHandle {
    /// Hands a message to the connection.
    pub fn publish(
        &self,
        topic: &str,
        qos: u8,
        retain: bool,
        body: Vec<u8>,
        properties: PublishProperties,
    ) -> Result<(), String> {
        let client = self.client.as_ref().ok_or("the gateway has no MQTT")?;
        if !self.connected.load(Ordering::Relaxed) {
            return Err("the connection to MQTT is down".to_owned());
        }
        client
            .try_publish_with_properties(topic, quality(qos), retain, body, properties)
            .map_err(|_| "too many messages wait to be published".to_owned())
    }

    /// Sends a message and waits for the answer.
    pub async fn request(
        &self,
        topic: &str,
        qos: u8,
        body: Vec<u8>,
        patience: Duration,
    ) -> Result<Letter, String> {
        let number = self.expected.number.fetch_add(1, Ordering::Relaxed);
        let reply_to = format!("{}/{number}", self.expected.root);
        let (answered, answer) = oneshot::channel();
        *self.expected.lock() = Some((reply_to.clone(), answered));
        let properties = PublishProperties { response_topic: Some(reply_to), ..Default::default() };
        self.publish(topic, qos, false, body, properties)?;
        match timeout(patience, answer).await {
            Ok(Ok(letter)) => Ok(letter),
            Ok(Err(_)) => Err("the answer is not waited for any more".to_owned()),
            Err(_) => Err("no answer came in time".to_owned()),
        }
    }
}

// === impl Expected ===

impl Expected {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(String, oneshot::Sender<Letter>)>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an answer to whoever waits for it; anything else is too late.
    fn arrived(&self, letter: Letter) {
        let mut waiting = self.lock();
        if waiting.as_ref().is_some_and(|(topic, _)| *topic == letter.subject)
            && let Some((_, answered)) = waiting.take()
        {
            let _ = answered.send(letter);
        }
    }
}

// === impl Postbox ===

impl Postbox {
    pub fn new(
        door: &Door,
        wanted: Wanted<'_>,
        inbox: Arc<Inbox>,
        account: Arc<Account>,
    ) -> (Postbox, PostboxHandle) {
        let root = format!("{REPLY_ROOT}/{}/{}", wanted.gateway, wanted.component);
        let mut filters: Vec<Filter> = wanted.topics.iter().map(|(topic, qos)| filter(topic, *qos)).collect();
        if wanted.publishes {
            filters.push(filter(&format!("{root}/+"), 1));
        }
        let login = if filters.is_empty() { None } else { Login::at(door, wanted.component) };
        let (made, password_file) = login.map_or((None, None), |login| {
            let Login { mut options, password_file } = login;
            if matches!(door, Door::Broker(_)) {
                options.set_clean_start(false);
                options.set_session_expiry_interval(Some(SESSION_SECONDS));
            }
            options.set_keep_alive(KEEP_ALIVE);
            options.set_outgoing_inflight_upper_limit(OUT_MAX as u16);
            options.set_max_packet_size(Some((BODY_BYTES_MAX + HEAD_BYTES_MAX) as u32));
            (Some(AsyncClient::new(options, OUT_MAX)), password_file)
        });
        let (client, eventloop) = made.unzip();
        let expected = Arc::new(Expected { root, number: AtomicU64::new(0), answer: Mutex::new(None) });
        let connected = Arc::new(AtomicBool::new(false));
        let handle = PostboxHandle {
            client: client.clone(),
            connected: Arc::clone(&connected),
            expected: Arc::clone(&expected),
        };
        let postbox = Postbox {
            eventloop,
            client,
            filters,
            map: wanted.map,
            password_file,
            connected,
            expected,
            inbox,
            account,
        };
        (postbox, handle)
    }

    /// Holds the connection until it is dropped.
    pub async fn hold(mut self) {
        let (Some(mut eventloop), Some(client)) = (self.eventloop.take(), self.client.take()) else {
            return std::future::pending().await;
        };
        let mut pause = PAUSE_MIN;
        let mut told: Option<Instant> = None;
        read_password(self.password_file.as_ref(), &mut eventloop).await;
        loop {
            match eventloop.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(ack))) if ack.code == ConnectReturnCode::Success => {
                    pause = PAUSE_MIN;
                    // Room for one is always there: the queue was emptied when the connection broke.
                    if client.try_subscribe_many(self.filters.clone()).is_err() {
                        tracing::warn!(
                            "a component's topics could not be subscribed to; publications filled the queue"
                        );
                    }
                    self.connected.store(true, Ordering::Relaxed);
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => self.deliver(publish),
                Ok(_) => {}
                Err(error) => {
                    self.connected.store(false, Ordering::Relaxed);
                    count(&self.account.disconnects);
                    if told.is_none_or(|told| told.elapsed() > PAUSE_MAX) {
                        told = Some(Instant::now());
                        tracing::warn!(error = %reason(&error), "a component's connection to MQTT is down, trying again");
                    }
                    sleep(pause).await;
                    pause = (2 * pause).min(PAUSE_MAX);
                    read_password(self.password_file.as_ref(), &mut eventloop).await;
                }
            }
        }
    }

    fn deliver(&self, publish: Publish) {
        let Ok(topic) = std::str::from_utf8(&publish.topic) else { return };
        let (reply_to, correlation) =
            publish.properties.map_or((None, None), |all| (all.response_topic, all.correlation_data));
        let subject =
            self.map.iter().find(|(_, mapped)| mapped == topic).map_or(topic, |(subject, _)| subject);
        let letter = Letter {
            subject: subject.to_owned(),
            body: publish.payload,
            reply_to,
            way: Way::Mqtt { correlation },
        };
        match topic.strip_prefix(self.expected.root.as_str()) {
            Some(rest) if rest.starts_with('/') => self.expected.arrived(letter),
            _ => self.inbox.put(letter),
        }
    }
}

fn filter(topic: &str, qos: u8) -> Filter {
    let mut filter = Filter::new(topic, quality(qos));
    filter.nolocal = true;
    filter
}

fn quality(qos: u8) -> QoS {
    if qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }
}

/// What went wrong, in one line.
pub(super) fn reason(error: &ConnectionError) -> String {
    crate::platform::log::chain(error).to_string()
}
