//! `frond tail`: print what gateways send, as it comes by.
//!
//! It listens as an ordinary NATS client; nothing is stored or acknowledged, and what came before is not shown. A listener
//! that cannot keep up misses messages, which is said.

use async_nats::{Client, Subscriber};
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::{SelectAll, select_all};
use serde_json::{Map, Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::output;
use super::rows::{Block, Form};
use super::server::{ConnectError, ServerArgs};
use crate::block::decode_envelope;
use crate::sample::Lane;
use crate::uplink::message::Stamp;

/// Print what gateways send, decoded
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "A window is shown as: start +length gateway stream series, n readings, their mean, min, max, first and last \
    value and standard deviation (sd), the unit, and if there were any: late readings, repeated ones, and empty windows \
    before this one (gap)."
)]
pub struct TailArgs {
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Only this gateway
    #[arg(long)]
    pub gateway: Option<String>,
    /// Only this stream
    #[arg(long)]
    pub stream: Option<String>,
    /// One JSON object for each row
    #[arg(long)]
    pub json: bool,
}

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server does not let us listen.
    #[error("the server does not take the subscription")]
    Subscribe(#[source] async_nats::SubscribeError),
}

/// Prints until `stop`.
pub async fn run(args: TailArgs, stop: CancellationToken) -> Result<(), TailError> {
    follow(&args, &stop, |line| output::line(line)).await
}

/// Gives each line to `show` until `stop`.
pub async fn follow(
    args: &TailArgs,
    stop: &CancellationToken,
    mut show: impl FnMut(&str),
) -> Result<(), TailError> {
    let client = args.server.connect("frond tail").await?;
    let mut messages = subscribe(&client, args).await?;
    let form = if args.json { Form::Json } else { Form::Human };
    loop {
        let message = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            message = messages.next() => match message {
                Some(message) => message,
                None => return Ok(()),
            },
        };
        // The uplink's own questions travel on the same subjects; they have no stamp.
        let Ok(stamp) = Stamp::read(&message.subject, message.headers.as_ref()) else { continue };
        match decode_envelope(&message.payload) {
            Ok(envelope) => {
                let block = Block { envelope: &envelope, clock_correction: stamp.clock_correction };
                block.lines(form, &about(&stamp, form)).iter().for_each(|line| show(line));
            }
            Err(error) => eprintln!("{}: row {} cannot be read: {error}", message.subject, stamp.seq),
        }
    }
}

async fn subscribe(client: &Client, args: &TailArgs) -> Result<SelectAll<Subscriber>, TailError> {
    let gateway = args.gateway.as_deref().unwrap_or("*");
    let stream = args.stream.as_deref().unwrap_or("*");
    let mut subscribers = Vec::new();
    for lane in [Lane::Alarm, Lane::Data] {
        let subject = format!("{}.{gateway}.{}.{stream}", args.server.subject, lane.token());
        subscribers.push(client.subscribe(subject).await.map_err(TailError::Subscribe)?);
    }
    Ok(select_all(subscribers))
}

fn about(stamp: &Stamp, form: Form) -> Map<String, Json> {
    let mut about = Map::new();
    about.insert("gateway".to_owned(), json!(stamp.origin.gateway));
    about.insert("stream".to_owned(), json!(stamp.origin.stream));
    if form == Form::Json {
        about.insert("lane".to_owned(), json!(stamp.origin.lane.token()));
        about.insert("epoch".to_owned(), json!(format!("{:08x}", stamp.origin.epoch)));
        about.insert("seq".to_owned(), json!(stamp.seq));
    }
    about
}
