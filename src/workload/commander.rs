//! Commands of processors, by MQTT: a connection of the gateway's own, to the listener or to the broker on site.
//!
//! ```text
//!              ┌──────────── acknowledged: left, or refused ──────────────────┐
//! command ─▶ in hand ─▶ sent, IN_FLIGHT_MAX at a time, fewer if the broker ───┤
//!              │          says so                                             └─ no answer in ANSWER_MAX, or the connection
//!              └─ ten seconds old: late, dropped                                 breaks: unsure, not sent again
//!                                                                                (what is on the wire can arrive all the same)
//! ```
//! A session of its own is what would send a command again after a break, late and perhaps twice: there is none, each
//! connection begins clean. The message says how many of its ten seconds are left, so that no broker keeps it longer for a
//! subscriber that is away.
//!
//! Power loss and stop: what waits here is gone; at a stop it is counted and told.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode, Packet, PubAck, PubAckReason, PublishProperties,
};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttState};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::door::{Door, Login, PasswordFile, read_password};
use super::postbox::reason;
use crate::ingest::listener::inside::COMMANDER;
use crate::runtime::command::AGE_MAX;
use crate::runtime::{Command, CommandAccount};

/// Commands sent and not acknowledged.
const IN_FLIGHT_MAX: usize = 8;
/// A broker that does not acknowledge a command for so long is given up.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Packet identifiers, of which the library uses one after the other, and keeps back what comes to one that is not acknowledged.
const PACKET_IDS: u16 = 64;
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two lines of the log about the same trouble.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// Beside topic and payload of a packet: header, identifier, properties.
const HEAD_BYTES: usize = 32;

/// The task.
pub struct Commander {
    connection: Option<Connection>,
    commands: mpsc::Receiver<Command>,
    account: Arc<CommandAccount>,
}

struct Connection {
    client: AsyncClient,
    eventloop: EventLoop,
    password_file: Option<PasswordFile>,
}

/// A connection that stands.
struct Line {
    /// Commands sent and not acknowledged, the oldest first. Brokers need not acknowledge them in that order.
    in_flight: VecDeque<Sent>,
    /// Commands sent so far.
    sent: u64,
    /// How many may be in flight.
    room: usize,
    /// How many packet identifiers there are.
    ids: u64,
    /// Largest packet that the broker takes.
    packet_bytes_max: usize,
}

struct Sent {
    at: Instant,
    /// Which of those sent it is.
    number: u64,
    /// Its packet identifier, once it has one.
    pkid: Option<u16>,
    component: String,
    topic: String,
}

/// What both halves of the task share.
struct Shared {
    /// `None` without a connection.
    line: watch::Sender<Option<Line>>,
    /// A command has been taken and not been sent.
    has_in_hand: AtomicBool,
    account: Arc<CommandAccount>,
}

// === impl Commander ===

impl Commander {
    /// For the commands of all processors of a gateway.
    pub fn new(door: &Door, commands: mpsc::Receiver<Command>, account: Arc<CommandAccount>) -> Commander {
        let connection = Login::at(door, COMMANDER).map(|Login { mut options, password_file }| {
            options.set_clean_start(true);
            options.set_session_expiry_interval(Some(0));
            options.set_outgoing_inflight_upper_limit(PACKET_IDS);
            options.set_keep_alive(KEEP_ALIVE);
            let (client, eventloop) = AsyncClient::new(options, IN_FLIGHT_MAX);
            Connection { client, eventloop, password_file }
        });
        Commander { connection, commands, account }
    }

    /// Publishes until stopped.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        let Commander { connection, mut commands, account } = self;
        let shared = Shared { line: watch::Sender::new(None), has_in_hand: AtomicBool::new(false), account };
        let work = async {
            match connection {
                Some(Connection { client, eventloop, password_file }) => {
                    let hold = shared.hold(eventloop, password_file.as_ref());
                    tokio::join!(hold, shared.publish(Some(&client), &mut commands));
                }
                None => shared.publish(None, &mut commands).await,
            }
        };
        stop.run_until_cancelled(work).await;
        commands.close();
        let waiting = commands.len() + usize::from(shared.has_in_hand.load(Ordering::Relaxed));
        let unsure = shared.line.borrow().as_ref().map_or(0, |line| line.in_flight.len());
        add(&shared.account.dropped, waiting);
        add(&shared.account.unsure, unsure);
        if waiting + unsure > 0 {
            tracing::warn!(
                waiting,
                unsure,
                "the gateway stops; commands that wait never leave, and of those just sent nobody knows whether they arrived"
            );
        }
        Ok(())
    }
}

impl std::fmt::Debug for Commander {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commander").finish_non_exhaustive()
    }
}

// === impl Line ===

impl Line {
    fn of(ack: &ConnAck) -> Line {
        let said = ack.properties.as_ref();
        let room = said.and_then(|said| said.receive_max).map_or(usize::MAX, usize::from);
        let bytes = said.and_then(|said| said.max_packet_size);
        Line {
            in_flight: VecDeque::with_capacity(IN_FLIGHT_MAX),
            sent: 0,
            room: room.min(IN_FLIGHT_MAX),
            ids: room.min(PACKET_IDS.into()) as u64,
            packet_bytes_max: bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or(usize::MAX),
        }
    }

    /// Whether one more may be sent: the identifier that it would get is free.
    fn has_room(&self) -> bool {
        self.in_flight.len() < self.room
            && self.in_flight.front().is_none_or(|oldest| self.sent - oldest.number < self.ids)
    }

    /// The next command has got its packet identifier.
    fn numbered(&mut self, pkid: u16) {
        if let Some(sent) = self.in_flight.iter_mut().find(|sent| sent.pkid.is_none()) {
            sent.pkid = Some(pkid);
        }
    }

    /// The command of this packet identifier is acknowledged; `None` if there is none.
    fn acknowledged(&mut self, pkid: u16) -> Option<Sent> {
        let at = self.in_flight.iter().position(|sent| sent.pkid == Some(pkid))?;
        self.in_flight.remove(at)
    }
}

// === impl Shared ===

impl Shared {
    /// Holds the connection.
    async fn hold(&self, mut eventloop: EventLoop, password_file: Option<&PasswordFile>) {
        let (mut told, mut refusals) = (Told::default(), Told::default());
        let mut is_down = false;
        loop {
            if self.line.borrow().is_none() {
                read_password(password_file, &mut eventloop).await;
            }
            let event = tokio::select! {
                event = eventloop.poll() => event.map_err(|error| reason(&error)),
                () = self.overdue() => Err("a command is not acknowledged".to_owned()),
            };
            match event {
                Ok(Event::Incoming(Packet::ConnAck(ack))) if ack.code == ConnectReturnCode::Success => {
                    // A broker may ask for another one; none is no use here.
                    if !(Duration::from_secs(1)..=KEEP_ALIVE).contains(&eventloop.options.keep_alive()) {
                        eventloop.options.set_keep_alive(KEEP_ALIVE);
                    }
                    self.line.send_replace(Some(Line::of(&ack)));
                    if std::mem::take(&mut is_down) {
                        tracing::info!("the connection to MQTT for commands is up again");
                    }
                }
                Ok(event) => self.heard(&event, &mut refusals),
                Err(error) => {
                    // What happened before the end.
                    for event in std::mem::take(&mut eventloop.state.events) {
                        self.heard(&event, &mut refusals);
                    }
                    let unsure = self.line.send_replace(None).map_or(0, |line| line.in_flight.len());
                    add(&self.account.unsure, unsure);
                    // What the library would send again, and what it goes on from: the next broker may take fewer at once.
                    eventloop.clean();
                    eventloop.pending.clear();
                    eventloop.state = MqttState::new(PACKET_IDS, false);
                    eventloop.options.set_keep_alive(KEEP_ALIVE);
                    eventloop.options.set_session_expiry_interval(Some(0));
                    if unsure > 0 || told.is_time() {
                        is_down = true;
                        tracing::warn!(
                            error,
                            unsure,
                            "the connection to MQTT for commands is down, trying again; of commands just sent nobody knows whether they arrived"
                        );
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Ends when a command has not been acknowledged for too long.
    async fn overdue(&self) {
        let mut line = self.line.subscribe();
        loop {
            let since = line.borrow_and_update().as_ref().and_then(|line| Some(line.in_flight.front()?.at));
            tokio::select! {
                () = async { match since {
                    Some(since) => sleep_until(since + ANSWER_MAX).await,
                    None => pending().await,
                } } => return,
                _ = line.changed() => {}
            }
        }
    }

    fn heard(&self, event: &Event, told: &mut Told) {
        match event {
            Event::Incoming(Packet::PubAck(ack)) => self.acknowledged(ack, told),
            Event::Outgoing(Outgoing::Publish(pkid)) => self.line.send_modify(|line| {
                if let Some(line) = line {
                    line.numbered(*pkid);
                }
            }),
            _ => {}
        }
    }

    fn acknowledged(&self, ack: &PubAck, told: &mut Told) {
        let mut sent = None;
        self.line.send_modify(|line| sent = line.as_mut().and_then(|line| line.acknowledged(ack.pkid)));
        let Some(Sent { component, topic, .. }) = sent else { return };
        match ack.reason {
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => add(&self.account.left, 1),
            refusal => {
                add(&self.account.refused, 1);
                if told.is_time() {
                    tracing::error!(
                        component,
                        topic,
                        ?refusal,
                        "a command of a component is refused by whoever has MQTT; see to what may be published there"
                    );
                }
            }
        }
    }

    /// Sends one command after the other.
    async fn publish(&self, client: Option<&AsyncClient>, commands: &mut mpsc::Receiver<Command>) {
        let mut told = Told::default();
        while let Some(command) = commands.recv().await {
            self.has_in_hand.store(true, Ordering::Relaxed);
            self.send(client, command, &mut told).await;
            self.has_in_hand.store(false, Ordering::Relaxed);
        }
        // The pipeline has ended, and what was sent is still to be acknowledged.
        pending().await
    }

    async fn send(&self, client: Option<&AsyncClient>, command: Command, told: &mut Told) {
        let mut line = self.line.subscribe();
        let has_room = line.wait_for(|line| line.as_ref().is_some_and(Line::has_room));
        let found = timeout(AGE_MAX.saturating_sub(command.since.elapsed()), has_room).await;
        let found = found.ok().and_then(|line| line.ok()?.as_ref().map(|line| line.packet_bytes_max));
        let left = AGE_MAX.saturating_sub(command.since.elapsed());
        let Command { component, topic, payload, .. } = command;
        let (Some(client), Some(packet_bytes_max), false) = (client, found, left.is_zero()) else {
            add(&self.account.late, 1);
            if told.is_time() {
                tracing::error!(
                    component,
                    topic,
                    "a command could not leave within ten seconds and is dropped; see to the connection to MQTT"
                );
            }
            return;
        };
        if HEAD_BYTES + topic.len() + payload.len() > packet_bytes_max {
            add(&self.account.refused, 1);
            if told.is_time() {
                tracing::error!(
                    component,
                    topic,
                    "a command is larger than the broker takes, and is dropped"
                );
            }
            return;
        }
        let seconds = u32::try_from(left.as_secs()).unwrap_or(u32::MAX).max(1);
        let properties =
            PublishProperties { message_expiry_interval: Some(seconds), ..PublishProperties::default() };
        let mut sent = Sent { at: Instant::now(), number: 0, pkid: None, component, topic: topic.clone() };
        match client.try_publish_with_properties(topic, QoS::AtLeastOnce, false, payload, properties) {
            Ok(()) => self.line.send_modify(|line| {
                if let Some(line) = line {
                    sent.number = line.sent;
                    line.sent += 1;
                    line.in_flight.push_back(sent);
                }
            }),
            Err(_) => add(&self.account.dropped, 1),
        }
    }
}

fn add(count: &AtomicU64, more: usize) {
    count.fetch_add(more as u64, Ordering::Relaxed);
}

/// When something was told last.
#[derive(Default)]
struct Told(Option<Instant>);

impl Told {
    fn is_time(&mut self) -> bool {
        let is_time = self.0.is_none_or(|told| told.elapsed() >= TELL_EVERY);
        if is_time {
            self.0 = Some(Instant::now());
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinSet;

    use super::*;
    use crate::runtime::command::{self, CommandAccount};

    const SUCCESS: u8 = 0;
    const NOT_AUTHORIZED: u8 = 0x87;

    fn now() -> std::time::Instant {
        std::time::Instant::now()
    }

    fn count(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }

    fn counts(account: &CommandAccount) -> [u64; 5] {
        let CommandAccount { left, dropped, late, refused, unsure } = account;
        [left, dropped, late, refused, unsure].map(count)
    }

    #[tokio::test]
    async fn a_command_that_cannot_leave_in_time_is_dropped_and_counted() {
        // Goal: nothing moves late. Method: no connection at all; a command whose ten seconds are over soon, and one that is
        // given behind it.
        let (sender, commands) = mpsc::channel(2);
        let (_, _, account) = command::channel();
        let old = now().checked_sub(AGE_MAX).expect("the machine is up for longer");
        let soon = old + Duration::from_millis(100);
        for since in [soon, old] {
            sender.send(Command::sample(1, since)).await.unwrap();
        }
        let stop = CancellationToken::new();
        let task = run(Commander::new(&Door::None, commands, account.clone()), &stop);
        while count(&account.late) < 2 {
            tokio::task::yield_now().await;
        }
        assert!(soon.elapsed() >= AGE_MAX);
        stop.cancel();
        task.join_all().await;
        assert_eq!(counts(&account), [0, 0, 2, 0, 0]);
    }

    #[tokio::test]
    async fn what_waits_at_the_stop_is_counted() {
        // Goal: a loss has a count. Method: no MQTT; one command in hand, one behind it; the stop.
        let (sender, commands) = mpsc::channel(2);
        let (_, _, account) = command::channel();
        for _ in 0..2 {
            sender.send(Command::sample(1, now())).await.unwrap();
        }
        let stop = CancellationToken::new();
        let task = run(Commander::new(&Door::None, commands, account.clone()), &stop);
        while sender.capacity() < 1 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        task.join_all().await;
        assert_eq!(counts(&account), [0, 2, 0, 0, 0]);
    }

    #[tokio::test]
    async fn what_was_sent_when_the_connection_broke_is_not_sent_again() {
        // Goal: at most once, whatever the broker does. Method: one that takes a command and ends the connection in place of
        // the acknowledgement; one that acknowledges, one that refuses, and ends it at once; all but the first say that they
        // know the session. What comes on each connection is the next command, the first of its identifiers, and no copy.
        let (listener, sender, account, stop, task) = start().await;
        let endings = [(1, None), (2, Some(SUCCESS)), (3, Some(NOT_AUTHORIZED))];
        for (n, ack) in endings {
            let connack = if n == 1 { b"\x20\x03\0\0\0" } else { b"\x20\x03\x01\0\0" };
            let mut broker = connection(&listener, connack).await;
            sender.send(Command::sample(n, now())).await.unwrap();
            let publish = packet(&mut broker).await;
            // Topic, identifier, the seconds that it is still good for, payload.
            assert_eq!(publish[..10], *b"\0\x01t\0\x01\x05\x02\0\0\0", "{publish:?}");
            assert!((1..=10).contains(&publish[10]));
            assert_eq!(publish[11..], [n]);
            if let Some(reason) = ack {
                broker.write_all(&[0x40, 4, publish[3], publish[4], reason, 0]).await.unwrap();
            }
        }
        // The next connection: what the last one said has been heard.
        let _broker = connection(&listener, b"\x20\x03\x01\0\0").await;
        stop.cancel();
        task.join_all().await;
        assert_eq!(counts(&account), [1, 0, 0, 1, 1]);
    }

    #[tokio::test]
    async fn one_broker_takes_fewer_at_once_than_the_one_before() {
        // Goal: what was agreed with one broker binds nobody with the next. Method: one that takes any number, with three
        // commands; then one that takes two at a time.
        let (listener, sender, account, stop, task) = start().await;
        for (connack, commands) in [(&b"\x20\x03\0\0\0"[..], 3), (b"\x20\x06\0\0\x03\x21\0\x02", 70)] {
            let mut broker = connection(&listener, connack).await;
            for n in 1..=commands {
                sender.send(Command::sample(n, now())).await.unwrap();
                let publish = packet(&mut broker).await;
                assert_eq!(publish.last(), Some(&n), "{publish:?}");
                broker.write_all(&[0x40, 2, publish[3], publish[4]]).await.unwrap();
            }
        }
        let all = async {
            while count(&account.left) < 73 {
                tokio::task::yield_now().await;
            }
        };
        timeout(ANSWER_MAX, all).await.expect("all are acknowledged");
        stop.cancel();
        task.join_all().await;
        assert_eq!(counts(&account), [73, 0, 0, 0, 0]);
    }

    #[tokio::test]
    async fn a_broker_that_leaves_one_command_unanswered_is_given_up() {
        // Goal: a command is not on its way for longer because others are acknowledged. Method: a broker that answers pings,
        // acknowledges the second of two commands at its first ping, and never the first; a third one comes then.
        let (listener, sender, account, stop, task) = start().await;
        let mut broker = connection(&listener, b"\x20\x03\0\0\0").await;
        let sent = Instant::now();
        for n in 1..=2 {
            sender.send(Command::sample(n, now())).await.unwrap();
            assert_eq!(packet(&mut broker).await.last(), Some(&n));
        }
        let answering = async {
            let mut packet = [0; 2];
            while broker.read_exact(&mut packet).await.is_ok() {
                if packet != [0xc0, 0] {
                    let mut third = vec![0; usize::from(packet[1])];
                    broker.read_exact(&mut third).await.unwrap();
                    assert_eq!((packet[0], third.last()), (0x32, Some(&3)));
                    continue;
                }
                if broker.write_all(b"\xd0\0").await.is_err() {
                    break;
                }
                if count(&account.left) == 0 {
                    broker.write_all(b"\x40\x02\0\x02").await.unwrap();
                    sender.send(Command::sample(3, now())).await.unwrap();
                }
            }
        };
        timeout(ANSWER_MAX + KEEP_ALIVE, answering).await.expect("the third one has another five seconds");
        assert!(sent.elapsed() >= ANSWER_MAX);
        stop.cancel();
        task.join_all().await;
        assert_eq!(counts(&account), [1, 0, 0, 0, 2]);
    }

    #[tokio::test]
    async fn a_broker_gets_no_more_at_once_and_nothing_larger_than_it_takes() {
        // Goal: no command waits behind the look at its age, and one that is too large costs no other. Method: a broker that
        // takes one message at a time, of 60 bytes.
        let (listener, sender, account, stop, task) = start().await;
        let mut broker = connection(&listener, b"\x20\x0b\0\0\x08\x21\0\x01\x27\0\0\0\x3c").await;
        let mut large = Command::sample(0, now());
        large.payload = vec![0; 60];
        for command in [Command::sample(1, now()), large, Command::sample(2, now())] {
            sender.send(command).await.unwrap();
        }
        let first = packet(&mut broker).await;
        assert_eq!(first.last(), Some(&1));
        // In hand, until the first is acknowledged.
        while sender.capacity() < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(count(&account.refused), 0);
        broker.write_all(&[0x40, 2, first[3], first[4]]).await.unwrap();
        assert_eq!(packet(&mut broker).await.last(), Some(&2));
        stop.cancel();
        task.join_all().await;
        assert_eq!(counts(&account), [1, 0, 0, 1, 1]);
    }

    type Task = JoinSet<Result<(), Infallible>>;

    fn run(commander: Commander, stop: &CancellationToken) -> Task {
        let mut task = JoinSet::new();
        task.spawn(commander.run(stop.clone()));
        task
    }

    async fn start() -> (TcpListener, mpsc::Sender<Command>, Arc<CommandAccount>, CancellationToken, Task) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, commands) = mpsc::channel(4);
        let (_, _, account) = command::channel();
        let door = Door::Inside { address, secret: String::new() };
        let stop = CancellationToken::new();
        let task = run(Commander::new(&door, commands, account.clone()), &stop);
        (listener, sender, account, stop, task)
    }

    /// The next connection, which begins clean and is told `connack`.
    async fn connection(listener: &TcpListener, connack: &[u8]) -> TcpStream {
        let (mut broker, _) = listener.accept().await.unwrap();
        let connect = packet(&mut broker).await;
        assert_eq!((&connect[..7], connect[7] & 2), (&b"\0\x04MQTT\x05"[..], 2), "it begins clean");
        broker.write_all(connack).await.unwrap();
        broker
    }

    /// The next packet but pings, without its fixed header: all of these are shorter than 128 bytes.
    async fn packet(stream: &mut TcpStream) -> Vec<u8> {
        loop {
            let mut head = [0; 2];
            stream.read_exact(&mut head).await.unwrap();
            let mut rest = vec![0; usize::from(head[1])];
            stream.read_exact(&mut rest).await.unwrap();
            if head[0] != 0xc0 {
                assert!(
                    matches!(head[0], 0x10 | 0x32),
                    "a CONNECT, or a PUBLISH at QoS 1, no copy, not retained"
                );
                return rest;
            }
        }
    }
}
