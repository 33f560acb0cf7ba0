//! What the hub holds, read message by message, and its comparison with the sensors' ledger.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use frond::block::{self, Envelope, Rows, WindowRow};
use frond::cli::demo::{Holdings, Ledger, Verdict, Window};
use frond::uplink::message::Stamp;
use tokio::time::{Instant, sleep};

/// Time for everything to be told.
const SETTLE_MAX: Duration = Duration::from_secs(25);

/// One message at the hub.
#[derive(Debug, Clone)]
pub struct AtHub {
    pub stamp: Stamp,
    pub envelope: Envelope,
}

/// The hub's stream, and what was read of it so far.
pub struct Books {
    jetstream: jetstream::Context,
    next: u64,
    seen: HashSet<String>,
    holdings: Holdings,
    pub messages: Vec<AtHub>,
}

impl Books {
    /// Makes the hub's stream.
    pub async fn open(client: async_nats::Client, max_bytes: i64) -> Books {
        let books = Books {
            jetstream: jetstream::new(client),
            next: 1,
            seen: HashSet::new(),
            holdings: Holdings::default(),
            messages: Vec::new(),
        };
        books.jetstream.create_stream(Books::stream(max_bytes)).await.unwrap();
        books
    }

    /// Gives the hub's stream so many bytes.
    pub async fn resize(&self, max_bytes: i64) {
        self.jetstream.update_stream(Books::stream(max_bytes)).await.unwrap();
    }

    fn stream(max_bytes: i64) -> stream::Config {
        stream::Config {
            name: "FROND".into(),
            subjects: vec!["frond.*.data.*".into(), "frond.*.alarm.*".into()],
            max_bytes,
            discard: stream::DiscardPolicy::New,
            ..Default::default()
        }
    }

    /// Reads what is new.
    pub async fn read(&mut self) {
        let stream = self.jetstream.get_stream("FROND").await.unwrap();
        let last = stream.cached_info().state.last_sequence;
        while self.next <= last {
            let message = stream.get_raw_message(self.next).await.unwrap();
            self.next += 1;
            let id = message.headers.get("Nats-Msg-Id").expect("every message has an id").to_string();
            if !self.seen.insert(id) {
                continue;
            }
            let envelope = block::decode_envelope(&message.payload).unwrap();
            let stamp = Stamp::read(&message.subject, Some(&message.headers)).unwrap();
            if let Rows::Windows { length, rows } = &envelope.rows {
                let sensors = |row: &&WindowRow| envelope.series[&row.series].name.starts_with("plant/");
                for row in rows.iter().filter(sensors) {
                    let (count, late) = (u64::from(row.count), u64::from(row.late));
                    let window =
                        Window { length: *length, count, late, duplicates: u64::from(row.duplicates) };
                    self.holdings.hold(&envelope.series[&row.series].name, row.start, window);
                }
            }
            self.messages.push(AtHub { stamp, envelope });
        }
    }

    /// Reads until the hub has everything in the ledger; then nothing is lost and nothing counted twice. Only series whose
    /// names begin with `plant/` are the sensors'.
    pub async fn settle(&mut self, ledger: &Ledger) -> Verdict {
        let deadline = Instant::now() + SETTLE_MAX;
        let verdict = loop {
            self.read().await;
            let verdict = ledger.compare(&self.holdings);
            if verdict.lost == 0 && verdict.arrived + verdict.late >= verdict.sent
                || Instant::now() > deadline
            {
                break verdict;
            }
            sleep(Duration::from_millis(100)).await;
        };
        assert!(verdict.sent > 0, "the sensors have sent something");
        assert_eq!((verdict.lost, verdict.counted_twice), (0, 0), "{verdict:?}");
        verdict
    }

    /// Compares now, without waiting.
    pub fn verdict(&self, ledger: &Ledger) -> Verdict {
        ledger.compare(&self.holdings)
    }

    /// Reads until a message satisfies.
    pub async fn until(&mut self, what: &str, satisfies: impl Fn(&AtHub) -> bool) -> AtHub {
        let deadline = Instant::now() + SETTLE_MAX;
        loop {
            self.read().await;
            if let Some(found) = self.messages.iter().find(|message| satisfies(message)) {
                return found.clone();
            }
            assert!(Instant::now() < deadline, "the hub does not get {what}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}
