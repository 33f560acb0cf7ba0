//! What happened to one device since the start, and how it stands: counters, and the status made of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::Refusal;

/// Requests in a row without an answer that are worth a complaint: one or two are lost on any line.
const UNANSWERED_MAX: u64 = 3;

/// Counters of one device.
#[derive(Debug, Default)]
pub struct Account {
    requests: AtomicU64,
    not_there: AtomicU64,
    timeouts: AtomicU64,
    exceptions: AtomicU64,
    malformed: AtomicU64,
    refused: AtomicU64,
    reopenings: AtomicU64,
    bytes_dropped: AtomicU64,
    /// Requests in a row that had no answer, or none that could be read.
    unanswered: AtomicU64,
}

/// How a device stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is being opened for the first time.
    Opening,
    /// Its port is open.
    Ready,
    /// It is not there, for this reason; it is tried again by itself.
    Absent(String),
}

/// Where the status of a device is read from.
#[derive(Debug)]
pub struct View {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) account: Arc<Account>,
    pub(super) standing: watch::Receiver<Standing>,
}

/// One device, for people and machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeviceStatus {
    /// As in the configuration.
    pub kind: String,
    /// `opening`, `ready` or `absent`.
    pub state: String,
    /// Why it is absent.
    pub reason: Option<String>,
    /// Requests of components.
    pub requests: u64,
    /// Of these, refused because the device was not there.
    pub not_there: u64,
    /// Of these, without an answer in time.
    pub timeouts: u64,
    /// Of these, refused by the device itself.
    pub exceptions: u64,
    /// Of these, with an answer that was none.
    pub malformed: u64,
    /// Of these, refused because they made no sense or too many waited.
    pub refused: u64,
    /// Times that the port was opened again.
    pub reopenings: u64,
    /// Bytes of a serial line that nobody read in time.
    pub bytes_dropped: u64,
    /// Requests in a row, up to now, that had no answer, or none that could be read.
    pub unanswered: u64,
}

// === impl Account ===

impl Account {
    pub(super) fn count_request(&self) {
        add(&self.requests, 1);
    }

    /// What came of a request.
    pub(super) fn count_outcome(&self, refusal: Option<&Refusal>) {
        match refusal {
            None | Some(Refusal::Exception(_)) => self.unanswered.store(0, Ordering::Relaxed),
            Some(Refusal::Timeout | Refusal::Malformed(_)) => add(&self.unanswered, 1),
            Some(Refusal::NotThere(_) | Refusal::Invalid(_) | Refusal::Busy) => {}
        }
        match refusal {
            None => {}
            Some(Refusal::NotThere(_)) => add(&self.not_there, 1),
            Some(Refusal::Timeout) => add(&self.timeouts, 1),
            Some(Refusal::Exception(_)) => add(&self.exceptions, 1),
            Some(Refusal::Malformed(_)) => add(&self.malformed, 1),
            Some(Refusal::Invalid(_) | Refusal::Busy) => add(&self.refused, 1),
        }
    }

    pub(super) fn count_reopening(&self) {
        add(&self.reopenings, 1);
    }

    pub(super) fn count_dropped(&self, bytes: usize) {
        add(&self.bytes_dropped, bytes as u64);
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

// === impl View ===

impl View {
    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A snapshot.
    pub fn status(&self) -> DeviceStatus {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (state, reason) = match &*self.standing.borrow() {
            Standing::Opening => ("opening", None),
            Standing::Ready => ("ready", None),
            Standing::Absent(why) => ("absent", Some(why.clone())),
        };
        let account = &self.account;
        DeviceStatus {
            kind: self.kind.to_owned(),
            state: state.to_owned(),
            reason,
            requests: read(&account.requests),
            not_there: read(&account.not_there),
            timeouts: read(&account.timeouts),
            exceptions: read(&account.exceptions),
            malformed: read(&account.malformed),
            refused: read(&account.refused),
            reopenings: read(&account.reopenings),
            bytes_dropped: read(&account.bytes_dropped),
            unanswered: read(&account.unanswered),
        }
    }
}

// === impl DeviceStatus ===

impl DeviceStatus {
    /// What somebody should look at, if anything.
    pub fn complaint(&self, name: &str) -> Option<String> {
        let kind = &self.kind;
        match &self.reason {
            Some(why) => {
                Some(format!("device {name} ({kind}) is not there: {why}; it is tried again by itself"))
            }
            None if self.unanswered >= UNANSWERED_MAX => Some(format!(
                "device {name} ({kind}) has not answered {} requests in a row; look at its cable, its power, its unit \
                 number and the speed and parity of the line",
                self.unanswered
            )),
            None => None,
        }
    }
}

impl std::fmt::Display for DeviceStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}); {} requests", self.state, self.kind, self.requests)?;
        for (count, what) in [
            (self.not_there, "while it was not there"),
            (self.timeouts, "without an answer"),
            (self.exceptions, "refused by it"),
            (self.malformed, "with an answer that was none"),
            (self.refused, "refused"),
            (self.reopenings, "times opened again"),
            (self.bytes_dropped, "bytes dropped"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}
