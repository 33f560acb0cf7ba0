//! The connection to a broker: rumqttc's event loop, and the acknowledgements owed on the connection that is up.
//!
//! Owned by one [`super::broker::BrokerDoor`]. Nothing here survives the process; what the broker has not seen
//! acknowledged it sends again.
//!
//! Why acknowledgements do not go through rumqttc's request channel. (1) Each would cost a turn of its event loop and a
//! write of four bytes; written here, those of a whole group commit share one. (2) What waits in the channel while the
//! connection is down goes out on the next one, which may be a new session where the same packet identifier is another
//! message; rumqttc drops what is in the channel when the connection breaks, not what is put there later. (3) The
//! channel is read only while the loop is polled, so back-pressure would hold up acknowledgements and pings, and the
//! broker would close the connection. So they are written straight to the event loop's network, which it makes public,
//! always to the connection the message came by, in the order of receipt.
//!
//! [`Link::next`] drops `EventLoop::poll` when an acknowledgement falls due. Read in rumqttc 0.25.1: while nothing goes
//! through its request channel, `poll` holds nothing across an await but what is in its own fields (frames half read,
//! events not yet taken, the keep-alive timer), so a dropped poll loses nothing. An update of rumqttc has to check this
//! again.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rumqttc::{
    ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Packet, PubAck, Publish, QoS, StateError,
    Subscribe, SubscribeFilter,
};
use tokio::time::{Instant, sleep_until, timeout};

use crate::ingest::account::{Counters, add};
use crate::platform::fault;
use crate::store::{Durable, StoreGone};

/// How long connecting may take, and a write to a broker that does not read.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a broker may take to say that it has read everything, when the door leaves.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Acknowledgements owed at a time: there are no more packet identifiers. A broker that sends more messages without an
/// acknowledgement breaks the protocol.
const OWED_MAX: usize = u16::MAX as usize;

/// Requests through rumqttc's own channel: none are made.
const REQUESTS: usize = 1;

/// Largest packet sent, a SUBSCRIBE: what MQTT allows.
const OUTGOING_BYTES_MAX: usize = 268_435_455;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Loss {
    /// rumqttc says so.
    #[error("connection to the broker lost")]
    Connection(#[source] Box<ConnectionError>),
    /// A write failed.
    #[error("write to the broker failed")]
    Write(#[source] Box<StateError>),
    /// A write took too long.
    #[error("the broker took nothing for {} s", NETWORK_TIMEOUT.as_secs())]
    Stuck,
    /// It ended while a message was being passed on.
    #[error("connection to the broker lost while waiting")]
    Earlier,
    /// The broker ignores the number of packet identifiers.
    #[error("the broker left more than {OWED_MAX} messages unacknowledged")]
    Flooded,
    /// The store has gone, nothing will ever be durable again.
    #[error("acknowledgements cannot come any more")]
    Store(#[source] StoreGone),
}

/// Acknowledgements in the order in which their messages came, each with the ticket it waits for.
#[derive(Debug, Default)]
pub(super) struct Owed(VecDeque<(u16, u64)>);

/// The connection, up or down.
pub(super) struct Link {
    eventloop: EventLoop,
    owed: Owed,
    durable: Durable,
    /// Acknowledgements are in the buffer that may not be on the wire.
    unflushed: bool,
    store_gone: bool,
    ping_every: Duration,
    counters: Arc<Counters>,
}

// === impl Owed ===

impl Owed {
    fn push(&mut self, pkid: u16, ticket: u64) {
        self.0.push_back((pkid, ticket));
    }

    /// The next packet identifier to acknowledge, if what it waits for is durable.
    fn due(&self, durable: u64) -> Option<u16> {
        self.0.front().filter(|(_, ticket)| *ticket <= durable).map(|(pkid, _)| *pkid)
    }

    fn pop(&mut self) {
        self.0.pop_front();
    }
}

// === impl Link ===

impl Link {
    /// A link that is down.
    pub(super) fn new(options: MqttOptions, durable: Durable, counters: Arc<Counters>) -> Link {
        let ping_every = options.keep_alive() / 3;
        let mut eventloop = EventLoop::new(options, REQUESTS);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(NETWORK_TIMEOUT.as_secs());
        eventloop.set_network_options(network);
        Link {
            eventloop,
            owed: Owed::default(),
            durable,
            unflushed: false,
            store_gone: false,
            ping_every,
            counters,
        }
    }

    /// Options every door uses.
    pub(super) fn options(client_id: &str, host: &str, port: u16, packet_bytes_max: u32) -> MqttOptions {
        // rumqttc joins host and port with a colon.
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let mut options = MqttOptions::new(client_id, host, port);
        options.set_clean_session(false);
        options.set_manual_acks(true);
        options.set_max_packet_size(packet_bytes_max as usize, OUTGOING_BYTES_MAX);
        // This is the window of what we publish, which is nothing.
        options.set_inflight(1);
        options
    }

    /// The options of the next connection.
    pub(super) fn options_mut(&mut self) -> &mut MqttOptions {
        &mut self.eventloop.mqtt_options
    }

    /// Everything up to this ticket is durable.
    pub(super) fn durable(&self) -> u64 {
        *self.durable.borrow()
    }

    fn is_up(&self) -> bool {
        self.eventloop.network.is_some()
    }

    /// Connects, and says whether the broker still had the session.
    ///
    /// Cancel-safe: a connection under way is dropped.
    pub(super) async fn connect(&mut self) -> Result<bool, Box<ConnectionError>> {
        debug_assert!(!self.is_up() && self.owed.0.is_empty() && self.eventloop.state.events.is_empty());
        match self.eventloop.poll().await? {
            Event::Incoming(Packet::ConnAck(ack)) => Ok(ack.session_present),
            // poll() makes a connection or fails when there is none.
            event => unreachable!("connecting gave {event:?}"),
        }
    }

    /// Asks for topics. The answer comes as a SUBACK.
    pub(super) async fn subscribe(&mut self, filters: &[(String, u8)]) -> Result<(), Loss> {
        let filters = filters.iter().map(|(filter, qos)| SubscribeFilter {
            path: filter.clone(),
            qos: if *qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce },
        });
        let mut subscribe = Subscribe::new_many(filters);
        // There is never more than one SUBSCRIBE under way, and nothing else of ours has an identifier.
        subscribe.pkid = 1;
        self.write(Packet::Subscribe(subscribe)).await
    }

    /// The next packet that has been read already. rumqttc reads about ten at a time; taking them here spares each a turn
    /// of its event loop.
    pub(super) fn buffered(&mut self) -> Option<Packet> {
        while let Some(event) = self.eventloop.state.events.pop_front() {
            if let Some(packet) = self.heard(event) {
                return Some(packet);
            }
        }
        None
    }

    fn heard(&mut self, event: Event) -> Option<Packet> {
        let Event::Incoming(packet) = event else { return None };
        // Whatever arrives shows that the broker lives. rumqttc insists on the answer to its ping, which may be queued
        // behind thousands of messages.
        self.eventloop.state.await_pingresp = false;
        Some(packet)
    }

    /// The next packet from the broker; what falls due meanwhile is acknowledged.
    ///
    /// Cancel-safe: see the module's words on `poll`; a message is taken from the event loop only to be returned.
    pub(super) async fn next(&mut self) -> Result<Packet, Loss> {
        loop {
            if !self.is_up() {
                return Err(self.lose(Loss::Earlier));
            }
            self.settle().await?;
            let event = tokio::select! {
                biased;
                changed = self.durable.changed() => {
                    changed.map_err(|_| Loss::Store(StoreGone))?;
                    continue;
                }
                event = self.eventloop.poll() => event,
            };
            match event {
                Ok(event) => {
                    if let Some(packet) = self.heard(event) {
                        return Ok(packet);
                    }
                }
                Err(error) => return Err(self.lose(Loss::Connection(Box::new(error)))),
            }
        }
    }

    /// Waits for something else than the broker, while acknowledgements and pings go on. The broker may be lost
    /// meanwhile; [`Link::next`] will say so.
    pub(super) async fn attend<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        // Mostly there is nothing to wait for.
        if let Poll::Ready(done) = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
            return done;
        }
        let mut next_ping = Instant::now() + self.ping_every;
        loop {
            tokio::select! {
                biased;
                done = &mut work => break done,
                changed = self.durable.changed(), if !self.store_gone => match changed {
                    // A failure shows in `is_up`.
                    Ok(()) => { let _ = self.settle().await; }
                    Err(_) => self.store_gone = true,
                },
                () = sleep_until(next_ping), if self.is_up() => {
                    next_ping = Instant::now() + self.ping_every;
                    let _ = self.write(Packet::PingReq).await;
                    // Its answer stays unread as long as we wait, so rumqttc must not insist on it.
                    self.eventloop.state.await_pingresp = false;
                }
            }
        }
    }

    /// A message came by this connection and is to be acknowledged once the ticket is durable. If the connection has gone
    /// already, the broker will send the message again.
    pub(super) fn owe(&mut self, pkid: u16, ticket: u64) -> Result<(), Loss> {
        if self.owed.0.len() >= OWED_MAX {
            return Err(self.lose(Loss::Flooded));
        }
        if self.is_up() {
            self.owed.push(pkid, ticket);
        }
        Ok(())
    }

    /// Writes the acknowledgements that are due, in order.
    ///
    /// Cancel-safe: one leaves the queue only when it is in the buffer, and the buffer is flushed the next time.
    async fn settle(&mut self) -> Result<(), Loss> {
        let durable = *self.durable.borrow_and_update();
        let Some(network) = &mut self.eventloop.network else { return Ok(()) };
        if self.owed.due(durable).is_none() && !self.unflushed {
            return Ok(());
        }
        let (owed, counters) = (&mut self.owed, &self.counters);
        self.unflushed = true;
        let written = timeout(NETWORK_TIMEOUT, async {
            while let Some(pkid) = owed.due(durable) {
                fault::point("ingest.before_ack");
                network.write(Packet::PubAck(PubAck::new(pkid))).await?;
                owed.pop();
                add(&counters.acknowledged, 1);
            }
            network.flush().await
        });
        let result = flatten(written.await).map_err(|loss| self.lose(loss));
        self.unflushed = false;
        result
    }

    async fn write(&mut self, packet: Packet) -> Result<(), Loss> {
        let Some(network) = &mut self.eventloop.network else { return Err(Loss::Earlier) };
        let written = timeout(NETWORK_TIMEOUT, async {
            network.write(packet).await?;
            network.flush().await
        });
        flatten(written.await).map_err(|loss| self.lose(loss))
    }

    /// The connection has gone; nothing is owed on it any more.
    fn lose(&mut self, loss: Loss) -> Loss {
        self.eventloop.clean();
        self.owed.0.clear();
        self.unflushed = false;
        loss
    }

    /// Ends the connection, if it is up, without more words.
    pub(super) fn drop_connection(&mut self) {
        self.lose(Loss::Earlier);
    }

    /// Messages that were read before the connection was lost, and not yet taken. The broker will send them again if it
    /// keeps the session; if it does not, this is the only copy.
    pub(super) fn leftovers(&mut self) -> Vec<Publish> {
        debug_assert!(!self.is_up());
        let events = std::mem::take(&mut self.eventloop.state.events);
        let publish = |event| match event {
            Event::Incoming(Packet::Publish(publish)) => Some(publish),
            _ => None,
        };
        events.into_iter().filter_map(publish).collect()
    }

    /// Waits up to `patience` for what is owed to become durable, acknowledges it, and takes leave of the broker.
    pub(super) async fn close(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.is_up() && self.settle().await.is_ok() && !self.owed.0.is_empty() {
            tokio::select! {
                changed = self.durable.changed() => if changed.is_err() { break },
                () = sleep_until(deadline) => break,
            }
        }
        // mosquitto reads one packet of a client at a time, and throws away what it has not read when the client comes
        // again on another connection; its answer to a ping shows that it has taken the acknowledgements.
        if self.write(Packet::PingReq).await.is_ok() {
            let _ = timeout(FAREWELL_TIMEOUT, self.pong()).await;
        }
        let _ = self.write(Packet::Disconnect).await;
        self.drop_connection();
    }

    /// Waits for the answer to a ping. What else comes is left unacknowledged.
    async fn pong(&mut self) {
        while self.is_up() {
            match self.eventloop.poll().await {
                Ok(Event::Incoming(Packet::PingResp)) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

fn flatten(written: Result<Result<(), StateError>, tokio::time::error::Elapsed>) -> Result<(), Loss> {
    match written {
        Ok(result) => result.map_err(|error| Loss::Write(Box::new(error))),
        Err(_) => Err(Loss::Stuck),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_leave_in_the_order_of_receipt() {
        // Goal: one that is due waits behind one that is not.
        let mut owed = Owed::default();
        owed.push(7, 0);
        owed.push(8, 2);
        owed.push(9, 0);
        assert_eq!(owed.due(1), Some(7));
        owed.pop();
        assert_eq!(owed.due(1), None);
        for pkid in [8, 9] {
            assert_eq!(owed.due(2), Some(pkid));
            owed.pop();
        }
        assert_eq!(owed.due(2), None);
    }
}
