//! `frond recall`: raw readings from a gateway's ring, while it still has them.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt;
use serde_json::Map;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::output;
use super::rows::{Block, CSV_HEADING, Form};
use super::server::{ConnectError, ServerArgs};
use crate::block::{DecodeError, Rows, decode_envelope};
use crate::uplink::recall::{Moment, Part, Request};

/// How long to wait for the next sign of life. A gateway whose link is busy gives one every five seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fetch raw readings from a gateway
#[derive(Debug, Clone, Args)]
pub struct RecallArgs {
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// The gateway
    #[arg(long, value_parser = parse_name)]
    pub gateway: String,
    /// The stream
    #[arg(long, value_parser = parse_name)]
    pub stream: String,
    /// A series; may be given more than once, all of the stream when absent
    #[arg(long)]
    pub series: Vec<String>,
    /// From this time on: RFC 3339, or nanoseconds since 1970
    #[arg(long, value_parser = parse_moment)]
    pub from: Moment,
    /// Up to, not including, this time
    #[arg(long, value_parser = parse_moment)]
    pub to: Moment,
    /// One JSON object for each reading
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Comma-separated values with a heading
    #[arg(long)]
    pub csv: bool,
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recalled {
    /// Chunks.
    pub chunks: u64,
    /// Readings.
    pub readings: u64,
    /// Bytes of the chunks.
    pub bytes: u64,
}

/// Why not all came.
#[derive(Debug, thiserror::Error)]
pub enum RecallError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection ended, or nothing can be sent on it.
    #[error("the connection to the server broke")]
    Disconnected,
    /// No gateway listens.
    #[error("no gateway {0} is connected to this hub; try again when its link is up")]
    NoGateway(String),
    /// The gateway says no.
    #[error("the gateway refuses: {text} ({number})")]
    Refused {
        /// See `store::RecallRefused`.
        number: u8,
        /// Its words.
        text: String,
    },
    /// Nothing has come for too long.
    #[error("nothing has come for {} s; the link may be down, what came so far is above", PATIENCE.as_secs())]
    Silent,
    /// Chunks do not follow one another.
    #[error("chunk {expected} is missing; try again")]
    Gap {
        /// The one that should have come.
        expected: u64,
    },
    /// A chunk cannot be read.
    #[error("chunk {number} cannot be read")]
    Body {
        /// Which.
        number: u64,
        /// Why.
        #[source]
        source: DecodeError,
    },
}

/// Names become parts of subjects.
fn parse_name(text: &str) -> Result<String, String> {
    let is_name =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_name { Ok(text.to_owned()) } else { Err("a name is made of A-Z a-z 0-9 _ and -".to_owned()) }
}

fn parse_moment(text: &str) -> Result<Moment, String> {
    let moment = text.parse().map_or_else(|_| Moment::Text(text.to_owned()), Moment::Nanos);
    match moment.nanos() {
        Some(_) => Ok(moment),
        None => Err("a time is RFC 3339 like 2026-11-22T10:00:00Z, or nanoseconds since 1970".to_owned()),
    }
}

/// Prints the readings to standard output as they come, until all are there or `stop`.
pub async fn run(args: RecallArgs, stop: CancellationToken) -> Result<Recalled, RecallError> {
    let form = match (args.json, args.csv) {
        (true, _) => Form::Json,
        (_, true) => Form::Csv,
        _ => Form::Human,
    };
    if form == Form::Csv {
        output::line(CSV_HEADING);
    }
    fetch(&args, &stop, |block| {
        let mut about = Map::new();
        if form == Form::Json {
            about.insert("gateway".to_owned(), args.gateway.clone().into());
            about.insert("stream".to_owned(), args.stream.clone().into());
        }
        block.lines(form, &about).iter().for_each(output::line);
    })
    .await
}

/// Fetches the readings and gives each block to `show`.
pub async fn fetch(
    args: &RecallArgs,
    stop: &CancellationToken,
    mut show: impl FnMut(Block<'_>),
) -> Result<Recalled, RecallError> {
    let client = args.server.connect("frond recall").await?;
    let inbox = client.new_inbox();
    let mut parts = client.subscribe(inbox.clone()).await.map_err(|_| RecallError::Disconnected)?;
    let request = Request {
        stream: args.stream.clone(),
        series: args.series.clone(),
        from: args.from.clone(),
        to: args.to.clone(),
    };
    let body = serde_json::to_vec(&request).expect("a struct of text and numbers has a JSON form");
    let subject = Request::subject(&args.server.subject, &args.gateway);
    let sent = client.publish_with_reply(subject, inbox, body.into()).await;
    sent.map_err(|_| RecallError::Disconnected)?;
    let mut recalled = Recalled::default();
    loop {
        let message = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(recalled),
            message = timeout(PATIENCE, parts.next()) => match message {
                Ok(Some(message)) => message,
                Ok(None) => return Err(RecallError::Disconnected),
                Err(_) => return Err(RecallError::Silent),
            },
        };
        match Part::read(&message) {
            Part::Chunk { number, clock_correction } => {
                if number != recalled.chunks + 1 {
                    return Err(RecallError::Gap { expected: recalled.chunks + 1 });
                }
                let envelope = decode_envelope(&message.payload)
                    .map_err(|source| RecallError::Body { number, source })?;
                recalled.chunks = number;
                recalled.bytes += message.payload.len() as u64;
                if let Rows::Raw(rows) = &envelope.rows {
                    recalled.readings += rows.len() as u64;
                }
                show(Block { envelope: &envelope, clock_correction });
                if let Some(reply) = message.reply {
                    client.publish(reply, Bytes::new()).await.map_err(|_| RecallError::Disconnected)?;
                }
            }
            Part::Wait(why) => eprintln!("the gateway waits: {why}"),
            Part::End => return Ok(recalled),
            Part::Refused { number, text } => return Err(RecallError::Refused { number, text }),
            Part::Nobody => return Err(RecallError::NoGateway(args.gateway.clone())),
            Part::Unknown => {}
        }
    }
}
