//! `frond hub`: the reference consumer at the hub.
//!
//! It makes the stream if there is none, reads it through a durable consumer, writes each row once, verifies that nothing
//! is missing, and says so. What it has written survives its own death: a message is acknowledged to JetStream after its
//! rows and the account of what was received are on disk together ([`sink`]), and a message that comes again is recognised
//! by (gateway, lane, stream, epoch, sequence). Held in memory: one batch, and ranges of sequences.

mod sink;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config as StreamConfig, DiscardPolicy, StorageType, Stream};
use async_nats::jetstream::{self, Context, Message};
use clap::Args;
use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::sample::Lane;

use super::output;
use super::receipts::{ReceiptError, Receipts, SHARED_NAME, StoredAccount, Summary, Verdict};
use super::server::{ConnectError, ServerArgs, parse_duration};
use sink::{Batch, Destination, SinkThread};

pub use sink::SinkError;

/// Messages written in one transaction: at 10 KB each two and a half megabytes.
const BATCH: usize = 256;

/// JetStream delivers again what was not acknowledged within this; a batch takes far less. What a killed `frond hub` had
/// asked for comes after this time.
const ACK_WAIT: Duration = Duration::from_secs(20);

/// How often the server says that it still knows of the request for messages. Without that, a request that it got after the
/// consumer had gone is waited for in vain, for ever.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Within this JetStream itself refuses copies. The server's default, said aloud: it covers what a read-back cannot.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Between two attempts to open what was lost.
const AGAIN: Duration = Duration::from_secs(2);

/// How often the progress is shown.
const PROGRESS: Duration = Duration::from_secs(10);

/// Receive what gateways send: create the stream, decode, verify, write each row once
#[derive(Debug, Clone, Args)]
pub struct HubArgs {
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// JetStream stream to create if absent, and to read
    #[arg(long, default_value = "FROND")]
    pub stream: String,
    /// Durable consumer to read with: it remembers what was written, and is one reader's only [default: frond-hub; without
    /// --sqlite or --jsonl one that is forgotten, so that looking takes nothing from whoever keeps the rows]
    #[arg(long)]
    pub consumer: Option<String>,
    /// JetStream domain of the hub, when connected through a leaf
    #[arg(long)]
    pub domain: Option<String>,
    /// Bound of the stream when it is created; a full stream refuses rows, which then wait on the gateways
    #[arg(long, value_name = "BYTES")]
    pub max_bytes: Option<i64>,
    /// Write rows as JSON lines to a file, or to standard output with -
    #[arg(long, value_name = "FILE", conflicts_with = "sqlite")]
    pub jsonl: Option<PathBuf>,
    /// Write rows into an SQLite database
    #[arg(long, value_name = "FILE")]
    pub sqlite: Option<PathBuf>,
    /// End when nothing has come for so long, as 10s
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub until_idle: Option<Duration>,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

/// Why the hub's side does not work.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No JetStream.
    #[error("JetStream does not answer; enable it at the server, and through a leaf give its --domain")]
    NoJetStream(#[source] async_nats::Error),
    /// The stream cannot be made or used.
    #[error("the stream {stream} cannot be created or opened")]
    Stream {
        /// Which.
        stream: String,
        /// Why.
        #[source]
        source: async_nats::Error,
    },
    /// The consumer cannot be made or read.
    #[error("the consumer {consumer} cannot be created or read")]
    Consumer {
        /// Which.
        consumer: String,
        /// Why.
        #[source]
        source: async_nats::Error,
    },
    /// Nothing can be written.
    #[error("what was received cannot be written")]
    Sink(#[from] SinkError),
}

/// How reading ended.
enum End {
    /// As it was meant to.
    Done,
    /// The stream or the consumer cannot be asked any more.
    Lost,
}

/// A run of the consumer.
struct Run {
    sink: SinkThread,
    receipts: Receipts,
    strangers: u64,
    rows: u64,
}

/// Runs until `stop`, or until nothing comes any more. Progress and problems go to the log, the summary is printed by
/// [`print`].
pub async fn run(args: HubArgs, stop: CancellationToken) -> Result<Summary, HubError> {
    let client = args.server.connect("frond hub").await?;
    let jetstream = match &args.domain {
        Some(domain) => jetstream::with_domain(client, domain),
        None => jetstream::new(client),
    };
    let (sink, stored) = SinkThread::start(args.destination()).await?;
    let stream = open_stream(&jetstream, &args).await?;
    let mut consumer = open_consumer(&stream, &args).await?;
    let reader = args.durable().unwrap_or("a consumer of its own");
    eprintln!("reading stream {} as {reader}; {}", args.stream, args.destination().sentence());
    if consumer.cached_info().num_waiting > 0 {
        warn!(
            consumer = reader,
            "somebody else reads with this consumer, or did until a moment ago: rows go to one of you each; give --consumer another name"
        );
    }
    let mut run = Run { sink, receipts: Receipts::restore(stored), strangers: 0, rows: 0 };
    let read = loop {
        match run.read(&consumer, &args, &stop).await {
            Ok(End::Done) => break Ok(()),
            Ok(End::Lost) => {}
            Err(error) => break Err(error),
        }
        match open_again(&jetstream, &args, &stop).await {
            Some(found) => consumer = found,
            None => break Ok(()),
        }
    };
    run.sink.close().await;
    read?;
    Ok(run.receipts.summary())
}

/// Prints the summary as the arguments say: on standard error when standard output carries the rows.
pub fn print(args: &HubArgs, summary: &Summary) {
    let text = if args.json {
        serde_json::to_string(summary).expect("plain values have a JSON form")
    } else {
        summary.lines().join("\n")
    };
    match args.destination() {
        Destination::Output => eprintln!("{text}"),
        Destination::Nowhere | Destination::Lines(_) | Destination::Sqlite(_) => output::line(text),
    }
}

// === impl HubArgs ===

impl HubArgs {
    fn destination(&self) -> Destination {
        match (&self.jsonl, &self.sqlite) {
            (Some(path), _) if path.as_os_str() == "-" => Destination::Output,
            (Some(path), _) => Destination::Lines(path.clone()),
            (None, Some(path)) => Destination::Sqlite(path.clone()),
            (None, None) => Destination::Nowhere,
        }
    }

    /// The consumer that outlives this process. What is kept nowhere needs none: as a rule somebody looks, while another keeps.
    fn durable(&self) -> Option<&str> {
        match (&self.consumer, self.destination()) {
            (Some(name), _) => Some(name),
            (None, Destination::Nowhere | Destination::Output) => None,
            (None, Destination::Lines(_) | Destination::Sqlite(_)) => Some("frond-hub"),
        }
    }

    fn consumer_name(&self) -> String {
        self.durable().unwrap_or("without a name").to_owned()
    }

    /// The subjects of all gateways.
    fn subjects(&self) -> Vec<String> {
        [Lane::Data, Lane::Alarm].map(|lane| format!("{}.*.{}.*", self.server.subject, lane.token())).into()
    }

    fn stream_config(&self) -> StreamConfig {
        StreamConfig {
            name: self.stream.clone(),
            subjects: self.subjects(),
            storage: StorageType::File,
            // A full stream must not make room by forgetting: rows wait on the gateways instead.
            discard: DiscardPolicy::New,
            max_bytes: self.max_bytes.unwrap_or(-1),
            duplicate_window: DUPLICATE_WINDOW,
            allow_direct: true,
            ..StreamConfig::default()
        }
    }
}

async fn open_stream(jetstream: &Context, args: &HubArgs) -> Result<Stream, HubError> {
    let failed = |source: async_nats::Error| HubError::Stream { stream: args.stream.clone(), source };
    match jetstream.get_stream(&args.stream).await {
        Ok(stream) => {
            let held = &stream.cached_info().config.subjects;
            let missing: Vec<String> =
                args.subjects().into_iter().filter(|subject| !held.contains(subject)).collect();
            if !missing.is_empty() {
                warn!(
                    stream = args.stream,
                    ?missing,
                    "the stream does not have these subjects; add them, or rows may not reach it"
                );
            }
            Ok(stream)
        }
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(refusal) if refusal.code() == 404 => {
                info!(stream = args.stream, subjects = ?args.subjects(), "creating the stream");
                match jetstream.create_stream(args.stream_config()).await {
                    Ok(_) => jetstream.get_stream(&args.stream).await.map_err(|error| failed(error.into())),
                    Err(error) if error.kind() == CreateStreamErrorKind::TimedOut => {
                        Err(HubError::NoJetStream(error.into()))
                    }
                    Err(error) => Err(failed(error.into())),
                }
            }
            GetStreamErrorKind::Request => Err(HubError::NoJetStream(error.into())),
            _ => Err(failed(error.into())),
        },
    }
}

async fn open_consumer(stream: &Stream, args: &HubArgs) -> Result<Consumer<pull::Config>, HubError> {
    let config = pull::Config {
        durable_name: args.durable().map(str::to_owned),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_ack_pending: 4 * BATCH as i64,
        ..pull::Config::default()
    };
    let failed = |source: async_nats::Error| HubError::Consumer { consumer: args.consumer_name(), source };
    match args.durable() {
        Some(name) => stream.get_or_create_consumer(name, config).await.map_err(|error| failed(error.into())),
        None => stream.create_consumer(config).await.map_err(|error| failed(error.into())),
    }
}

/// Opens stream and consumer anew, as often as it takes: a hub that has lost its store has neither. `None` when stopped, or
/// when the run is to end by itself and the hub stays away for as long as an idle one is waited for.
async fn open_again(
    jetstream: &Context,
    args: &HubArgs,
    stop: &CancellationToken,
) -> Option<Consumer<pull::Config>> {
    warn!(
        stream = args.stream,
        "the stream or its consumer is gone, or JetStream is away; opening them again"
    );
    let began = Instant::now();
    loop {
        stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await?;
        if args.until_idle.is_some_and(|idle| began.elapsed() > idle.max(2 * ACK_WAIT)) {
            warn!(stream = args.stream, "it stays away; what was received until now is the result");
            return None;
        }
        if let Ok(stream) = open_stream(jetstream, args).await
            && let Ok(consumer) = open_consumer(&stream, args).await
        {
            info!(stream = args.stream, "reading again");
            return Some(consumer);
        }
    }
}

/// Whether JetStream has nothing more for the consumer, nor waits for acknowledgements of somebody who died.
async fn is_exhausted(consumer: &Consumer<pull::Config>) -> bool {
    match consumer.get_info().await {
        Ok(info) => info.num_pending == 0 && info.num_ack_pending == 0,
        Err(error) => {
            warn!(%error, "the consumer's state is not known");
            false
        }
    }
}

// === impl Run ===

impl Run {
    async fn read(
        &mut self,
        consumer: &Consumer<pull::Config>,
        args: &HubArgs,
        stop: &CancellationToken,
    ) -> Result<End, HubError> {
        let failed =
            |source: async_nats::Error| HubError::Consumer { consumer: args.consumer_name(), source };
        let messages = consumer.stream().max_messages_per_batch(BATCH).heartbeat(HEARTBEAT).messages();
        let mut chunks = messages.await.map_err(|error| failed(error.into()))?.ready_chunks(BATCH);
        let mut heard = Instant::now();
        let (mut shown, mut quiet) = (heard, heard);
        loop {
            let idle = args.until_idle.map(|idle| heard + idle);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(End::Done),
                chunk = chunks.next() => {
                    // It ends by itself when the server says that the consumer is gone. Asking whether it is may come too
                    // early: a stream on its way out still answers for it.
                    let Some(chunk) = chunk else { return Ok(End::Lost) };
                    let mut stumbled = false;
                    let mut batch = Vec::with_capacity(chunk.len());
                    for message in chunk {
                        match message {
                            Ok(message) => batch.push(message),
                            // Missed heartbeats and the like: the stream of messages goes on by itself.
                            Err(error) => {
                                stumbled = true;
                                warn!(%error, "the consumer stumbles");
                            }
                        }
                    }
                    if !batch.is_empty() {
                        self.take(batch).await?;
                        heard = Instant::now();
                        quiet = heard;
                    }
                    if stumbled && consumer.get_info().await.is_err() {
                        return Ok(End::Lost);
                    }
                }
                () = sleep_until(idle.unwrap_or(heard)), if idle.is_some() => {
                    if quiet.elapsed() > 2 * ACK_WAIT || is_exhausted(consumer).await {
                        return Ok(End::Done);
                    }
                    heard = Instant::now();
                }
            }
            if shown.elapsed() >= PROGRESS {
                shown = Instant::now();
                let Summary { received, duplicates, missing, .. } = self.receipts.summary();
                info!(received, rows = self.rows, duplicates, missing, "receiving");
                for gateway in self.receipts.shared_names() {
                    warn!(gateway, "{SHARED_NAME}");
                }
            }
        }
    }

    /// Books and writes a batch, then acknowledges it.
    async fn take(&mut self, messages: Vec<Message>) -> Result<(), HubError> {
        let mut batch = Batch::default();
        let mut touched = BTreeSet::new();
        for message in &messages {
            match self.receipts.take(&message.subject, message.headers.as_ref(), &message.payload) {
                Ok(receipt) => {
                    touched.insert(receipt.stamp.origin.clone());
                    if receipt.verdict == Verdict::New {
                        batch.receipts.push(receipt);
                    }
                }
                Err(ReceiptError::Body { origin, seq, source }) => {
                    warn!(?origin, seq, error = %source, "a row cannot be read; it counts as received");
                    touched.insert(origin);
                }
                Err(ReceiptError::Stranger(error)) => {
                    self.strangers += 1;
                    warn!(subject = %message.subject, %error, "not a gateway's message; passed over");
                }
            }
        }
        self.rows += batch.receipts.len() as u64;
        let account =
            |origin| self.receipts.account(origin).map(|account| StoredAccount::of(origin, account));
        batch.accounts = touched.iter().filter_map(account).collect();
        self.sink.write(batch).await?;
        for message in &messages {
            if let Err(error) = message.ack().await {
                // It will come again, and be recognised.
                warn!(%error, "an acknowledgement could not be sent");
            }
        }
        Ok(())
    }
}
