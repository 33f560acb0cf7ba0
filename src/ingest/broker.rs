//! The broker door: frond is a client of the broker on site, one MQTT session per durability class.
//!
//! A session is of one class because acknowledgements go out in the order of receipt, and those of `window` streams are
//! late. All of a door's state belongs to its task; across power loss there is only what the broker keeps (messages not
//! acknowledged) and what the journal keeps (identities of those that were).
//!
//! ```text
//!             CONNACK 0                          lost, closed, silent
//! Connecting ───────────▶ Connected ─────────────────────────────────────────▶ Down
//!     │                    │    ▲ SUBACK 0x80: Refused, the other filters go on  │ 1 s … 30 s
//!     │ CONNACK 1,2,4,5    │    └──────────── CONNACK 0 ─────────────────────────┤
//!     ▼                    │ a packet rumqttc cannot read ─▶ sift ─▶ at once ────┤
//!  Refused ── 30 s ─────────────────────────────────────────────────────────────▶┘
//! ```
//! A message, once received: judged by [`Seen`]; fresh ones get the next ticket and go to the journal, however little of
//! them could be decoded; all are owed an acknowledgement that waits for their ticket ([`super::link`]). When the
//! journal's channel is full the door stops reading, and the broker keeps what is left; acknowledgements and pings go on
//! meanwhile, so the broker does not take the gateway for dead. When a connection breaks, messages that were read but not
//! taken are taken still, because a broker that loses the session would not send them again.
//!
//! Limits. Subscriptions made under an earlier configuration stay in the broker's session; their messages are
//! acknowledged and counted as `unrouted`, until the client identifier is changed or the session deleted. Retained
//! copies are counted and dropped: the broker sends them again at every SUBSCRIBE. A broker may deliver a message once per matching filter (MQTT 3.1.1 §3.3.5;
//! mosquitto with `allow_duplicate_messages`); filters covered by another of the same session are therefore not
//! subscribed to, but two that merely overlap (`a/+/c`, `a/b/+`) would then double what both match: see
//! [`topic::overlap`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{Packet, Publish, QoS};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config;
use crate::ingest::account::{Counters, add};
use crate::ingest::decode::Moment;
use crate::ingest::intake::{Arrival, Intake, SetupError, Taken};
use crate::ingest::link::{Link, Loss};
use crate::ingest::pace::Pace;
use crate::ingest::reason::Reason;
use crate::ingest::seen::{Delivery, Seen, Sight};
use crate::ingest::sift::{self, Peer};
use crate::ingest::state::{self, Announcer, DoorState, DoorView};
use crate::ingest::{door_id, session_suffix, topic};
use crate::platform::clock::WallClock;
use crate::platform::fault;
use crate::sample::{DoorId, Message, SessionId, StreamId};
use crate::store::{DoorStart, Handle, Inbound, StoreGone};

/// Pause after a refusal: somebody has to change something first.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// A connection that lasted this long was a good one: the next attempt comes soon again. A broker that throws the door out
/// once it has subscribed does so within a second.
const STEADY: Duration = Duration::from_secs(5);

/// How often a sift is logged: a sensor that sends what cannot be read goes on doing so.
const SIFT_TELL_EVERY: Duration = Duration::from_secs(60);

/// How long a door that is stopped waits for the journal, to acknowledge what it has passed on: two commits at the default
/// interval. What is not acknowledged by then is recognised when it is sent again.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// The door cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The store has stopped; nothing can be made durable.
    #[error("the door has nobody to pass readings on to")]
    Store(#[source] StoreGone),
}

/// The broker door of one durability class.
pub struct BrokerDoor {
    door: DoorId,
    host: String,
    port: u16,
    login: Option<(String, Option<PathBuf>)>,
    filters: Vec<(String, u8)>,
    link: Link,
    intake: Intake,
    seen: Seen,
    ticket: u64,
    inbound: mpsc::Sender<Inbound>,
    clock: WallClock,
    counters: Arc<Counters>,
    state: Announcer,
    sift_told: Option<Instant>,
    /// Whether the present session has brought a message that was new.
    has_taken: bool,
    stop: CancellationToken,
}

/// How a session ended.
enum End {
    Stopped,
    /// With the state that follows from it.
    In(DoorState),
    /// The library could not read a packet.
    Unreadable(String),
}

/// Why the door leaves off in the middle of something.
enum Break {
    End(End),
    Store(StoreGone),
}

// === impl BrokerDoor ===

impl BrokerDoor {
    /// A door for those of `streams` whose durability is that of `start.door`. All streams are wanted, in the order of the
    /// file: a topic that an earlier stream of another class takes is not this door's.
    pub fn new(
        config: &config::Broker,
        streams: &[(StreamId, config::Stream)],
        store: Handle,
        inbound: mpsc::Sender<Inbound>,
        start: DoorStart,
        clock: WallClock,
    ) -> Result<(BrokerDoor, DoorView), SetupError> {
        let DoorStart { door, seen, durable } = start;
        let is_ours = |stream: &config::Stream| door_id(stream.durability) == door;
        let intake = Intake::new(streams, is_ours, store)?;
        let ours = streams.iter().map(|(_, stream)| stream).filter(|stream| is_ours(stream));
        let wanted = ours.flat_map(|stream| stream.topics.iter().map(|topic| (topic.as_str(), stream.qos)));
        let client_id = format!("{}-{}", config.client_id, session_suffix(door));
        // An IPv6 address, with or without the brackets it has in a URL.
        let host = config.host.trim_start_matches('[').trim_end_matches(']');
        let mut options = Link::options(&client_id, host, config.port, config.packet_bytes_max);
        options.set_keep_alive(config.keep_alive);
        let (state, watched) = Announcer::new(door, host, config.port);
        let counters = intake.counters();
        let view =
            DoorView { door, state: watched, counters: Arc::clone(&counters), specimens: intake.specimens() };
        let door = BrokerDoor {
            door,
            host: host.to_owned(),
            port: config.port,
            login: config.username.clone().map(|name| (name, config.password_file.clone())),
            filters: topic::subscriptions(wanted),
            link: Link::new(options, durable, Arc::clone(&counters)),
            intake,
            seen: Seen::new(config.inflight_max.into(), seen),
            ticket: 0,
            inbound,
            clock,
            counters,
            state,
            sift_told: None,
            has_taken: false,
            stop: CancellationToken::new(),
        };
        Ok((door, view))
    }

    /// Serves the door until it is stopped, or the store is gone.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), DoorError> {
        self.stop = stop.clone();
        let mut pace = Pace::default();
        while !stop.is_cancelled() {
            let begun = Instant::now();
            let end = match self.session().await {
                Ok(end) | Err(Break::End(end)) => end,
                Err(Break::Store(gone)) => return Err(DoorError::Store(gone)),
            };
            if begun.elapsed() >= STEADY {
                pace = Pace::default();
            }
            let pause = match end {
                End::Stopped => break,
                End::In(state) => {
                    let pause =
                        if matches!(state, DoorState::Refused { .. }) { REFUSED_PAUSE } else { pace.next() };
                    self.state.enter(state);
                    pause
                }
                End::Unreadable(reason) => match self.sift(&reason).await {
                    Ok(()) => Duration::ZERO,
                    // At QoS 0 the packet is gone for good; what came before it shows that this is no endless loop.
                    Err(_) if self.has_taken => Duration::ZERO,
                    Err(state) => {
                        self.state.enter(state);
                        pace.next()
                    }
                },
            };
            add(&self.counters.disconnects, 1);
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(pause) => {}
            }
        }
        self.link.close(STOP_PATIENCE).await;
        Ok(())
    }

    /// One connection, from CONNECT to its end.
    async fn session(&mut self) -> Result<End, Break> {
        if let Err(end) = self.log_in().await {
            return Ok(end);
        }
        let connected = tokio::select! {
            () = self.stop.cancelled() => return Ok(End::Stopped),
            connected = self.link.connect() => connected,
        };
        let session_present = match connected {
            Ok(session_present) => session_present,
            Err(error) => return Ok(End::In(state::after_refusal(*error))),
        };
        self.has_taken = false;
        add(&self.counters.connects, 1);
        if self.filters.is_empty() {
            self.state.enter(DoorState::Connected { session_present });
        }
        if !session_present {
            add(&self.counters.sessions_lost, 1);
            self.pass_on(Inbound::Forget(self.door)).await?;
            self.seen.forget();
        }
        let end = match self.converse(session_present).await {
            Ok(End::Stopped) | Err(Break::End(End::Stopped)) => return Ok(End::Stopped),
            Ok(end) | Err(Break::End(end)) => end,
            Err(gone) => return Err(gone),
        };
        self.link.drop_connection();
        for publish in self.link.leftovers() {
            match self.receive(publish).await {
                Ok(()) | Err(Break::End(End::In(_) | End::Unreadable(_))) => {}
                Err(stopped_or_gone) => return Err(stopped_or_gone),
            }
        }
        Ok(end)
    }

    /// What goes on while the connection is up.
    async fn converse(&mut self, session_present: bool) -> Result<End, Break> {
        let mut asked = self.filters.clone();
        let mut ask_at = (!asked.is_empty()).then(Instant::now);
        loop {
            let packet = match self.link.buffered() {
                Some(packet) => Ok(packet),
                None => tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return Ok(End::Stopped),
                    () = sleep_until(ask_at.unwrap_or_else(Instant::now)), if ask_at.is_some() => {
                        ask_at = None;
                        match self.link.subscribe(&asked).await {
                            Ok(()) => continue,
                            Err(loss) => return self.lost(loss),
                        }
                    }
                    packet = self.link.next() => packet,
                },
            };
            match packet {
                Ok(Packet::Publish(publish)) => self.receive(publish).await?,
                Ok(Packet::SubAck(ack)) => {
                    let refused = state::refused_filters(&asked, &ack);
                    add(&self.counters.subscribed, (asked.len() - refused.len()) as u64);
                    asked = refused;
                    ask_at = (!asked.is_empty()).then(|| Instant::now() + REFUSED_PAUSE);
                    self.state.enter(state::after_suback(&asked, session_present));
                }
                Ok(_) => {}
                Err(loss) => return self.lost(loss),
            }
        }
    }

    fn lost(&mut self, loss: Loss) -> Result<End, Break> {
        match loss {
            Loss::Store(gone) => Err(Break::Store(gone)),
            Loss::Connection(error) if sift::is_unreadable(&error) => Ok(End::Unreadable(error.to_string())),
            Loss::Connection(error) => Ok(End::In(DoorState::Down { reason: error.to_string() })),
            loss => Ok(End::In(DoorState::Down { reason: loss.to_string() })),
        }
    }

    /// Takes a message, whether the connection it came by is still up or not.
    async fn receive(&mut self, publish: Publish) -> Result<(), Break> {
        let (stamp, timeline) = self.clock.stamp();
        let moment = Moment { arrival: stamp, trusted: self.clock.trusted_now() };
        let arrival = Arrival { moment, timeline };
        let (topic, payload) = (publish.topic.as_str(), &*publish.payload);
        if publish.qos == QoS::ExactlyOnce {
            self.link.drop_connection();
            return Err(Break::End(End::In(state::after_qos_2())));
        }
        if publish.retain {
            self.intake.refuse(topic.as_bytes(), payload, payload.len(), Reason::Retained, arrival);
            return self.owe(publish.pkid, 0);
        }
        let taken = tokio::select! {
            biased;
            taken = self.link.attend(self.intake.take(topic, payload, arrival)) => taken.map_err(Break::Store)?,
            () = self.stop.cancelled() => return Err(Break::End(End::Stopped)),
        };
        let Taken::Content { stream, timeline, readings } = taken else {
            return self.owe(publish.pkid, 0);
        };
        let (door, ticket, pkid) = (self.door, self.ticket + 1, publish.pkid);
        let message = Message { door, ticket, session: SessionId::NONE, pkid, stream, timeline, readings };
        if let Some(identity) = message.identity() {
            let durable = self.link.durable();
            let delivery = if publish.dup { Delivery::Repeated } else { Delivery::First };
            let known = match self.seen.judge(delivery, identity, |ticket| ticket <= durable) {
                Sight::Fresh => None,
                Sight::Pending(ticket) => Some(ticket),
                Sight::Durable => Some(0),
            };
            if let Some(ticket) = known {
                add(&self.counters.redelivered, 1);
                return self.owe(pkid, ticket);
            }
            self.seen.enter(identity, ticket, |ticket| ticket <= durable);
        }
        self.has_taken = true;
        self.intake.count(topic, payload, arrival);
        self.ticket = ticket;
        // Owed only once it is passed on: a ticket that never reached the journal would never become durable.
        fault::point("ingest.before_journal");
        self.pass_on(Inbound::Message(message)).await?;
        self.owe(pkid, ticket)
    }

    fn owe(&mut self, pkid: u16, ticket: u64) -> Result<(), Break> {
        if pkid == 0 {
            return Ok(());
        }
        self.link
            .owe(pkid, ticket)
            .map_err(|loss| Break::End(End::In(DoorState::Down { reason: loss.to_string() })))
    }

    /// Waits for room in the journal's channel, without falling silent towards the broker.
    async fn pass_on(&mut self, inbound: Inbound) -> Result<(), Break> {
        tokio::select! {
            biased;
            permit = self.link.attend(self.inbound.reserve()) => {
                permit.map_err(|_| Break::Store(StoreGone))?.send(inbound);
                Ok(())
            }
            () = self.stop.cancelled() => Err(Break::End(End::Stopped)),
        }
    }

    /// Reads the password anew for every connection, so that a changed one needs no restart.
    async fn log_in(&mut self) -> Result<(), End> {
        let Some((name, file)) = &self.login else { return Ok(()) };
        let password = match file {
            Some(file) => state::password(file).await.map_err(End::In)?,
            None => String::new(),
        };
        self.link.options_mut().set_credentials(name, password);
        Ok(())
    }

    /// Gets messages that cannot be read out of the way, or says how the door stands if it cannot.
    async fn sift(&mut self, reason: &str) -> Result<(), DoorState> {
        let options = self.link.options_mut();
        let peer = Peer {
            host: self.host.clone(),
            port: self.port,
            client_id: options.client_id(),
            login: options.credentials(),
            packet_bytes_max: options.max_packet_size(),
        };
        let sifted = tokio::select! {
            () = self.stop.cancelled() => return Ok(()),
            sifted = sift::sift(&peer) => sifted,
        };
        let sifted = sifted.map_err(|cause| DoorState::Down { reason: format!("{reason}; {cause}") })?;
        if sifted.is_empty() {
            return Err(DoorState::Down { reason: reason.to_owned() });
        }
        let (stamp, timeline) = self.clock.stamp();
        let arrival = Arrival { moment: Moment { arrival: stamp, trusted: None }, timeline };
        for message in &sifted {
            let sift::Sifted { topic, reason, payload, payload_bytes } = message;
            self.intake.refuse(topic, payload, *payload_bytes, *reason, arrival);
        }
        add(&self.counters.sifted, sifted.len() as u64);
        if self.sift_told.is_none_or(|told| told.elapsed() >= SIFT_TELL_EVERY) {
            self.sift_told = Some(Instant::now());
            let topic = String::from_utf8_lossy(&sifted[0].topic);
            warn!(door = self.door.0, reason, %topic, "acknowledged messages that cannot be read");
        }
        Ok(())
    }
}
