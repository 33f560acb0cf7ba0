//! The arguments that name a NATS server, and the connection they give.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, Event};
use clap::Args;
use tokio::sync::mpsc;
use tracing::debug;

use crate::lattice::{Peer, Reconnect, Target, Trouble};

/// Events of the connection that wait to be logged.
const EVENTS_MAX: usize = 16;

/// Where the hub is, and how to be let in.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// The hub, or a leaf node of it: nats://host:port or tls://host:port
    #[arg(long, default_value = "nats://127.0.0.1:4222")]
    pub url: String,
    /// NATS credentials file
    #[arg(long, value_name = "FILE")]
    pub creds: Option<PathBuf>,
    /// Root certificates (PEM) instead of the system's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// First token of frond's subjects, as lattice.subject on the gateways
    #[arg(long, default_value = "frond", value_name = "TOKEN")]
    pub subject: String,
}

/// There is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{trouble}; {}", advice(trouble))]
pub struct ConnectError {
    trouble: Trouble,
}

/// The gateway goes on trying and has keys for it; a command has options, and ends.
fn advice(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Unreachable { .. } => "see that the server runs and --url leads to it".to_owned(),
        trouble => trouble.advice(),
    }
}

// === impl ServerArgs ===

impl ServerArgs {
    /// Connects, once; a connection that breaks later is made again by itself.
    pub async fn connect(&self, name: &str) -> Result<Client, ConnectError> {
        let target = Target {
            url: self.url.clone(),
            credentials: self.creds.clone(),
            ca: self.ca.clone(),
            client_certificate: None,
            peer: Peer::Hub,
            name: name.to_owned(),
        };
        let (events, mut log) = mpsc::channel::<Event>(EVENTS_MAX);
        let client =
            target.dial(events, Reconnect::Forever).await.map_err(|trouble| ConnectError { trouble })?;
        while let Ok(event) = log.try_recv() {
            debug!(%event, "connection event");
        }
        Ok(client)
    }
}

/// Reads `500ms`, `10s`, `5m`, `2h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let split =
        text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("a duration is a number and ms, s, m or h, as in 10s".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "a duration begins with a number, as in 10s".to_owned())?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| "this duration is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: durations are read as people write them, nonsense is refused. Method: examples.
    #[test]
    fn durations_are_read() {
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "5", "s", "-1s", "1.2.3s", "1e99h", "10 s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
