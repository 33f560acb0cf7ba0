//! How a broker door stands, for the status and the log.
//!
//! The door announces, anybody watches. A state is logged when it changes, not at every attempt.

use std::path::Path;
use std::sync::Arc;

use rumqttc::{ConnectReturnCode, ConnectionError, SubAck, SubscribeReasonCode};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::ingest::account::{Counters, Specimens};
use crate::sample::DoorId;

/// Largest password: MQTT cannot carry more.
const PASSWORD_BYTES_MAX: u64 = 65_535;

/// Refused filters named in one line of the log.
const FILTERS_NAMED: usize = 4;

/// What somebody should do about a broker that cannot be reached.
pub const DOWN_ADVICE: &str = "see that the broker runs and mqtt.broker.url leads to it; it keeps the sensors' messages as far as its own limits go";

/// How the door stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DoorState {
    /// Not connected yet, or not yet subscribed.
    Connecting,
    /// Connected, and the broker has confirmed the subscriptions. A session that is there is no proof of them: the door may
    /// have been killed between making it and subscribing, and until then the broker throws the sensors' messages away.
    Connected {
        /// Whether the broker still had the session.
        session_present: bool,
    },
    /// A listener's: clients may connect.
    Open,
    /// The broker refuses; a person has to change something.
    Refused {
        /// What it refuses.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// No connection; tried again by itself.
    Down {
        /// Why.
        reason: String,
    },
}

/// What others may look at while the door runs.
#[derive(Debug, Clone)]
pub struct DoorView {
    /// Which door.
    pub door: DoorId,
    /// How it stands.
    pub state: watch::Receiver<DoorState>,
    /// What it has counted.
    pub counters: Arc<Counters>,
    /// The last payloads it rejected.
    pub specimens: watch::Receiver<Specimens>,
}

/// Publishes the states of a door.
pub(super) struct Announcer {
    door: DoorId,
    broker: String,
    state: watch::Sender<DoorState>,
}

// === impl Announcer ===

impl Announcer {
    pub(super) fn new(door: DoorId, host: &str, port: u16) -> (Announcer, watch::Receiver<DoorState>) {
        let (state, watched) = watch::channel(DoorState::Connecting);
        (Announcer { door, broker: format!("{host}:{port}"), state }, watched)
    }

    /// Publishes a state, and logs it if it is another than before.
    pub(super) fn enter(&self, state: DoorState) {
        if *self.state.borrow() == state {
            return;
        }
        let (door, broker) = (self.door.0, self.broker.as_str());
        match &state {
            DoorState::Connecting | DoorState::Open => {}
            DoorState::Connected { session_present } => {
                info!(door, broker, session_present, "connected to the broker");
            }
            DoorState::Refused { reason, remedy } => {
                error!(door, broker, reason, remedy, "the broker refuses")
            }
            DoorState::Down { reason } => {
                warn!(door, broker, reason, advice = DOWN_ADVICE, "no connection to the broker; retrying")
            }
        }
        self.state.send_replace(state);
    }
}

fn refused(reason: &str, remedy: &str) -> DoorState {
    DoorState::Refused { reason: reason.to_owned(), remedy: remedy.to_owned() }
}

/// The filters to which the broker said no.
pub(super) fn refused_filters(asked: &[(String, u8)], ack: &SubAck) -> Vec<(String, u8)> {
    let answers = asked.iter().zip(&ack.return_codes);
    let refused = answers.filter(|(_, code)| **code == SubscribeReasonCode::Failure);
    refused.map(|(filter, _)| filter.clone()).collect()
}

/// The state of a connected door, given the filters the broker refused.
pub(super) fn after_suback(filters: &[(String, u8)], session_present: bool) -> DoorState {
    if filters.is_empty() {
        return DoorState::Connected { session_present };
    }
    let named: Vec<&str> = filters.iter().take(FILTERS_NAMED).map(|(filter, _)| filter.as_str()).collect();
    let more = if filters.len() > named.len() { " and more" } else { "" };
    refused(
        &format!("the broker refuses subscriptions: {}{more}", named.join(", ")),
        "allow mqtt.broker.username to read these topics in the broker's access list, or change the stream's \
         topics; tried again every 30 s",
    )
}

/// The state of a door that got a message at QoS 2. Answering it takes a handshake of its own, and rumqttc forgets its
/// half of that at every reconnection.
pub(super) fn after_qos_2() -> DoorState {
    refused(
        "the broker sends at QoS 2, which was not asked for",
        "another program has used this session: choose another mqtt.broker.client_id",
    )
}

/// Reads a password file. A file that cannot be used is a refusal like the broker's own.
pub(super) async fn password(file: &Path) -> Result<String, DoorState> {
    read_password(file).await.map_err(|reason| refused(&reason, "see mqtt.broker.password_file"))
}

async fn read_password(file: &Path) -> Result<String, String> {
    let mut text = Vec::new();
    let read = async {
        let file = tokio::fs::File::open(file).await?;
        file.take(PASSWORD_BYTES_MAX + 2).read_to_end(&mut text).await
    };
    read.await.map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    match String::from_utf8(text.to_vec()) {
        Ok(text) if text.len() as u64 <= PASSWORD_BYTES_MAX => Ok(text),
        _ => Err(format!("{} does not hold a password: UTF-8, at most 65,535 bytes", file.display())),
    }
}

/// What a failed attempt to connect means.
pub(super) fn after_refusal(error: ConnectionError) -> DoorState {
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => refused(
                "the broker does not accept the credentials",
                "check mqtt.broker.username and mqtt.broker.password_file; retried every 30 s",
            ),
            ConnectReturnCode::BadClientId => refused(
                "the broker does not accept the client identifier",
                "choose another mqtt.broker.client_id; retried every 30 s",
            ),
            ConnectReturnCode::RefusedProtocolVersion => refused(
                "the broker does not speak MQTT 3.1.1",
                "check that mqtt.broker.url is that of the broker; retried every 30 s",
            ),
            code => DoorState::Down { reason: format!("the broker refuses for now: {code:?}") },
        },
        error => DoorState::Down { reason: error.to_string() },
    }
}
