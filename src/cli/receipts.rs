//! What the hub's side has received of each database of each gateway, and what is missing. Pure.
//!
//! A consumer is idempotent on (gateway, lane, stream, epoch, sequence): [`Receipts::take`] says of each message whether it
//! is new. Sequences begin at 1 and have no holes on the gateway, so a hole here is either on its way, or was dropped by the
//! gateway's caps, which says so in every later message (`Frond-Dropped`), or it is a loss. The state is small (ranges), and
//! is meant to be stored together with the rows.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::block::{DecodeError, Envelope, decode_envelope};
use crate::sample::Lane;
use crate::uplink::message::{Origin, Stamp, StampError};
use crate::uplink::seqset::SeqSet;

/// Holes that a summary lists.
const HOLES_SHOWN: usize = 20;

/// What it means that rows of two databases of one name come by turns.
pub const SHARED_NAME: &str =
    "two gateways have this name; give each its own gateway.name, or their rows cannot be told apart";

/// Everything received.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receipts {
    accounts: BTreeMap<Origin, Account>,
    databases: BTreeMap<String, Databases>,
}

/// The databases of one name, since this process began: a gateway has one at a time, and never goes back to an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Databases {
    now: u32,
    before: BTreeSet<u32>,
    shared: bool,
}

/// What was received of one subject of one database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// Sequences.
    pub received: SeqSet,
    /// Rows the gateway says it has dropped.
    pub dropped: u64,
    /// Messages that came more than once.
    pub duplicates: u64,
    /// Messages whose body could not be read.
    pub undecodable: u64,
}

/// Whether a message is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    New,
    /// It was received before; its rows are not to be counted again.
    Duplicate,
}

/// A message that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    /// Whose row it is.
    pub stamp: Stamp,
    /// Whether it is new.
    pub verdict: Verdict,
    /// Its rows.
    pub envelope: Envelope,
}

/// Why a message gives no rows.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// It is none of frond's.
    #[error("a message that is not from a gateway")]
    Stranger(#[source] StampError),
    /// Its body cannot be read. It counts as received: another copy would be the same.
    #[error("row {seq} of {origin:?} cannot be read")]
    Body {
        /// Whose.
        origin: Origin,
        /// Which.
        seq: u64,
        /// Why.
        #[source]
        source: DecodeError,
    },
}

/// The state of affairs, for people and scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Messages received, each counted once.
    pub received: u64,
    /// Messages that came again.
    pub duplicates: u64,
    /// Messages that could not be read.
    pub undecodable: u64,
    /// Sequences that are missing …
    pub missing: u64,
    /// … of which the gateways' caps do not explain these.
    pub unexplained: u64,
    /// Names that two gateways have at the same time.
    #[serde(default)]
    pub shared_names: Vec<String>,
    /// By subject.
    pub origins: Vec<OriginSummary>,
}

/// The state of one subject of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginSummary {
    /// Name of the gateway.
    pub gateway: String,
    /// `alarm` or `data`.
    pub lane: String,
    /// Name of the stream.
    pub stream: String,
    /// Epoch, eight hex digits.
    pub epoch: String,
    /// Messages received.
    pub received: u64,
    /// Highest sequence.
    pub last: u64,
    /// Messages that came again.
    pub duplicates: u64,
    /// Messages that could not be read.
    pub undecodable: u64,
    /// Sequences missing below the highest.
    pub missing: u64,
    /// Rows the gateway says it has dropped.
    pub dropped: u64,
    /// The first holes, first and last sequence of each.
    pub holes: Vec<(u64, u64)>,
}

/// What is stored of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAccount {
    /// Name of the gateway.
    pub gateway: String,
    /// Lane.
    pub lane: Lane,
    /// Name of the stream.
    pub stream: String,
    /// Epoch.
    pub epoch: u32,
    /// First and last of each range of sequences.
    pub received: Vec<(u64, u64)>,
    /// As in [`Account`].
    pub dropped: u64,
    /// As in [`Account`].
    pub duplicates: u64,
    /// As in [`Account`].
    pub undecodable: u64,
}

// === impl Receipts ===

impl Receipts {
    /// Reads a message and books it.
    pub fn take(
        &mut self,
        subject: &str,
        headers: Option<&HeaderMap>,
        body: &[u8],
    ) -> Result<Receipt, ReceiptError> {
        let stamp = Stamp::read(subject, headers).map_err(ReceiptError::Stranger)?;
        let account = self.accounts.entry(stamp.origin.clone()).or_default();
        let verdict = if account.received.insert(stamp.seq) { Verdict::New } else { Verdict::Duplicate };
        account.dropped = account.dropped.max(stamp.dropped);
        match verdict {
            Verdict::New => {
                self.databases.entry(stamp.origin.gateway.clone()).or_default().hear(stamp.origin.epoch);
            }
            Verdict::Duplicate => account.duplicates += 1,
        }
        match decode_envelope(body) {
            Ok(envelope) => Ok(Receipt { stamp, verdict, envelope }),
            Err(source) => {
                if verdict == Verdict::New {
                    account.undecodable += 1;
                }
                Err(ReceiptError::Body { origin: stamp.origin, seq: stamp.seq, source })
            }
        }
    }

    /// Names that two gateways have at the same time.
    pub fn shared_names(&self) -> impl Iterator<Item = &str> {
        self.databases.iter().filter(|(_, databases)| databases.shared).map(|(name, _)| name.as_str())
    }

    /// The accounts.
    pub fn accounts(&self) -> impl Iterator<Item = (&Origin, &Account)> {
        self.accounts.iter()
    }

    /// The account of one subject.
    pub fn account(&self, origin: &Origin) -> Option<&Account> {
        self.accounts.get(origin)
    }

    /// Puts back what [`Receipts::store`] gave.
    pub fn restore(stored: impl IntoIterator<Item = StoredAccount>) -> Receipts {
        let mut receipts = Receipts::default();
        for account in stored {
            let StoredAccount { gateway, lane, stream, epoch, received: ranges, dropped, .. } = account;
            let mut received = SeqSet::new();
            // A range that runs backwards can only come from a damaged file; what is not known counts as not received.
            ranges
                .iter()
                .filter(|(first, last)| first <= last)
                .for_each(|(first, last)| received.insert_range(*first, *last));
            let origin = Origin { gateway, lane, stream, epoch };
            let (duplicates, undecodable) = (account.duplicates, account.undecodable);
            receipts.accounts.insert(origin, Account { received, dropped, duplicates, undecodable });
        }
        receipts
    }

    /// What to store of each account.
    pub fn store(&self) -> Vec<StoredAccount> {
        self.accounts.iter().map(|(origin, account)| StoredAccount::of(origin, account)).collect()
    }

    /// The state of affairs.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary {
            received: 0,
            duplicates: 0,
            undecodable: 0,
            missing: 0,
            unexplained: 0,
            shared_names: self.shared_names().map(str::to_owned).collect(),
            origins: Vec::new(),
        };
        for (origin, account) in &self.accounts {
            let one = account.summary(origin);
            summary.received += one.received;
            summary.duplicates += one.duplicates;
            summary.undecodable += one.undecodable;
            summary.missing += one.missing;
            summary.unexplained += one.missing.saturating_sub(one.dropped);
            summary.origins.push(one);
        }
        summary
    }
}

// === impl Databases ===

impl Databases {
    fn hear(&mut self, epoch: u32) {
        if self.now == epoch {
            return;
        }
        self.shared |= self.before.contains(&epoch);
        self.before.insert(self.now);
        self.now = epoch;
    }
}

// === impl Account ===

impl Account {
    fn summary(&self, origin: &Origin) -> OriginSummary {
        let mut holes = self.received.holes();
        let missing = holes.iter().map(|(first, last)| last - first + 1).sum();
        holes.truncate(HOLES_SHOWN);
        OriginSummary {
            gateway: origin.gateway.clone(),
            lane: origin.lane.token().to_owned(),
            stream: origin.stream.clone(),
            epoch: format!("{:08x}", origin.epoch),
            received: self.received.count(),
            last: self.received.last().unwrap_or(0),
            duplicates: self.duplicates,
            undecodable: self.undecodable,
            missing,
            dropped: self.dropped,
            holes,
        }
    }
}

// === impl StoredAccount ===

impl StoredAccount {
    /// The account as it is stored.
    pub fn of(origin: &Origin, account: &Account) -> StoredAccount {
        StoredAccount {
            gateway: origin.gateway.clone(),
            lane: origin.lane,
            stream: origin.stream.clone(),
            epoch: origin.epoch,
            received: account.received.ranges().collect(),
            dropped: account.dropped,
            duplicates: account.duplicates,
            undecodable: account.undecodable,
        }
    }
}

// === impl Summary ===

impl Summary {
    /// For people, one line for each subject and one for all.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.origins.iter().map(OriginSummary::line).collect();
        lines.extend(self.shared_names.iter().map(|name| format!("{name}: {SHARED_NAME}")));
        lines.push(format!(
            "received {}, duplicates {}, missing {}, of these unexplained {}, undecodable {}",
            self.received, self.duplicates, self.missing, self.unexplained, self.undecodable
        ));
        lines
    }
}

// === impl OriginSummary ===

impl OriginSummary {
    fn line(&self) -> String {
        let mut line = format!(
            "{} {} {} ({}): received {} of {}",
            self.gateway, self.lane, self.stream, self.epoch, self.received, self.last
        );
        for (what, count) in [("duplicates", self.duplicates), ("undecodable", self.undecodable)] {
            if count > 0 {
                line += &format!(", {what} {count}");
            }
        }
        if self.missing > 0 {
            let holes: Vec<String> = self
                .holes
                .iter()
                .map(
                    |(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") },
                )
                .collect();
            line += &format!(
                ", missing {} ({}), dropped by the gateway {}",
                self.missing,
                holes.join(" "),
                self.dropped
            );
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Rows, WireClock, encode_envelope};

    fn body() -> Vec<u8> {
        let rows = Rows::Raw(Vec::new());
        encode_envelope(&Envelope {
            stream: "s".into(),
            clock: WireClock::Sensor,
            series: BTreeMap::new(),
            rows,
        })
    }

    fn take(
        receipts: &mut Receipts,
        epoch: u32,
        seq: u64,
        dropped: u64,
        body: &[u8],
    ) -> Result<Verdict, ReceiptError> {
        let origin = Origin { gateway: "g".into(), lane: Lane::Data, stream: "s".into(), epoch };
        let stamp = Stamp { origin, seq, dropped, clock_correction: None };
        let subject = stamp.origin.subject("frond");
        receipts.take(&subject, Some(&stamp.headers()), body).map(|receipt| receipt.verdict)
    }

    // Goal: order does not matter, copies are seen, another epoch is another story. Method: a shuffled handful.
    #[test]
    fn copies_are_seen_in_any_order() {
        let mut receipts = Receipts::default();
        for seq in [3, 1, 2] {
            assert_eq!(take(&mut receipts, 1, seq, 0, &body()).unwrap(), Verdict::New);
        }
        assert_eq!(take(&mut receipts, 1, 2, 0, &body()).unwrap(), Verdict::Duplicate);
        assert_eq!(take(&mut receipts, 2, 2, 0, &body()).unwrap(), Verdict::New);
        let summary = receipts.summary();
        assert_eq!(
            (summary.received, summary.duplicates, summary.missing, summary.unexplained),
            (4, 1, 1, 1)
        );
    }

    // Goal: a new database is no second gateway; two that come by turns are. Method: epochs 1, 2, a copy of 1, then 1 again.
    #[test]
    fn two_gateways_of_one_name_are_noticed() {
        let mut receipts = Receipts::default();
        for (epoch, seq) in [(1, 1), (1, 2), (2, 1), (1, 2), (2, 2)] {
            take(&mut receipts, epoch, seq, 0, &body()).unwrap();
        }
        assert_eq!(receipts.summary().shared_names, Vec::<String>::new());
        take(&mut receipts, 1, 3, 0, &body()).unwrap();
        assert_eq!(receipts.summary().shared_names, ["g"]);
        assert!(receipts.summary().lines()[2].starts_with("g: two gateways have this name"));
    }

    // Goal: holes are explained by what the gateway dropped, and only as far as that goes. Method: two holes, one drop.
    #[test]
    fn holes_are_explained_by_drops() {
        let mut receipts = Receipts::default();
        for (seq, dropped) in [(1, 0), (4, 2), (6, 2)] {
            take(&mut receipts, 1, seq, dropped, &body()).unwrap();
        }
        let summary = receipts.summary();
        assert_eq!((summary.missing, summary.unexplained), (3, 1));
        assert_eq!(summary.origins[0].holes, [(2, 3), (5, 5)]);
        assert!(summary.lines()[0].contains("missing 3 (2-3 5), dropped by the gateway 2"));
    }

    // Goal: a body that cannot be read is counted once and does not stop anything. Method: rubbish, twice.
    #[test]
    fn an_unreadable_body_is_counted() {
        let mut receipts = Receipts::default();
        for _ in 0..2 {
            assert!(matches!(
                take(&mut receipts, 1, 1, 0, b"rubbish"),
                Err(ReceiptError::Body { seq: 1, .. })
            ));
        }
        let summary = receipts.summary();
        assert_eq!((summary.received, summary.undecodable, summary.duplicates), (1, 1, 1));
        assert!(matches!(receipts.take("other", None, b""), Err(ReceiptError::Stranger(_))));
    }

    // Goal: what is stored is what was known. Method: there and back, through JSON.
    #[test]
    fn receipts_survive_a_restart() {
        let mut receipts = Receipts::default();
        for seq in [1, 2, 5, 9] {
            take(&mut receipts, 1, seq, 1, &body()).unwrap();
        }
        let text = serde_json::to_string(&receipts.store()).unwrap();
        let stored: Vec<StoredAccount> = serde_json::from_str(&text).unwrap();
        assert_eq!(Receipts::restore(stored).store(), receipts.store());
    }
}
