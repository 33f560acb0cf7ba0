//! The hub's side of the demonstration: what its JetStream stream holds, by series and window.

use std::cell::RefCell;
use std::collections::HashSet;

use anyhow::Context as _;
use async_nats::jetstream::{self, consumer};
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::block::{self, Rows};

use super::ledger::{Holdings, Window};

/// What the hub holds.
#[derive(Debug, Default)]
pub struct HubTally {
    /// Windows, by series.
    pub holdings: Holdings,
    /// Bytes of messages, headers included.
    pub bytes: u64,
    /// Alarms.
    pub alarms: u64,
    /// Messages that the stream holds twice; a consumer recognises them by their sequence.
    pub repeated: u64,
    seen: HashSet<String>,
}

/// Reads everything that arrives at the hub until `stop`.
pub async fn consume(port: u16, tally: &RefCell<HubTally>, stop: &CancellationToken) -> anyhow::Result<()> {
    let client =
        async_nats::connect(format!("127.0.0.1:{port}")).await.context("cannot connect to the hub")?;
    let jetstream = jetstream::new(client);
    let stream = ensure_stream(&jetstream).await?;
    let consumer = stream
        .create_consumer(consumer::pull::OrderedConfig::default())
        .await
        .context("cannot create a consumer at the hub")?;
    let mut messages = consumer.messages().await.context("cannot consume at the hub")?;
    while let Some(Some(message)) = stop.run_until_cancelled(messages.next()).await {
        let message = message.context("the hub's consumer broke")?;
        tally.borrow_mut().take(&message)?;
    }
    Ok(())
}

// === impl HubTally ===

impl HubTally {
    fn take(&mut self, message: &jetstream::Message) -> anyhow::Result<()> {
        let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
        let id = id.context("a message at the hub has no id")?.as_str().to_owned();
        self.bytes += message.length as u64;
        if !self.seen.insert(id) {
            self.repeated += 1;
            return Ok(());
        }
        let envelope =
            block::decode_envelope(&message.payload).context("a block at the hub cannot be decoded")?;
        match envelope.rows {
            Rows::Alarms(alarms) => self.alarms += alarms.len() as u64,
            Rows::Raw(_) => {}
            Rows::Windows { length, rows } => {
                for row in rows {
                    let series = envelope.series.get(&row.series).context("a row names no known series")?;
                    let window = Window {
                        length,
                        count: u64::from(row.count),
                        late: u64::from(row.late),
                        duplicates: u64::from(row.duplicates),
                    };
                    self.holdings.hold(&series.name, row.start, window);
                }
            }
        }
        Ok(())
    }
}

/// The hub's stream, made if it is not there.
pub async fn ensure_stream(jetstream: &jetstream::Context) -> anyhow::Result<jetstream::stream::Stream> {
    let config = jetstream::stream::Config {
        name: "FROND".into(),
        subjects: vec!["frond.*.data.*".into(), "frond.*.alarm.*".into()],
        ..Default::default()
    };
    Ok(jetstream.get_or_create_stream(config).await?)
}
