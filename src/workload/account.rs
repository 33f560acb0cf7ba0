//! What happened to one workload since the start, and how it stands: counters, and the status made of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::blobs::BlobError;
use super::inbox::Inbox;
use crate::runtime::neighbour::Look;
use crate::runtime::{self, Counters};

/// Counters of one workload, beside those that every component has.
#[derive(Debug, Default)]
pub struct Account {
    /// Messages that links brought, requests by HTTP among them.
    pub received: AtomicU64,
    /// Messages dropped because the inbox was full.
    pub dropped: AtomicU64,
    /// Messages of timers that fell due while the one before still waited, or nobody could look.
    pub ticks_missed: AtomicU64,
    /// Messages handled without an error.
    pub handled: AtomicU64,
    /// Messages that the component answered with an error.
    pub failed: AtomicU64,
    /// Messages that were in hand when the component was ended.
    pub lost: AtomicU64,
    /// Messages published.
    pub published: AtomicU64,
    /// Requests made, by messages and by HTTP.
    pub requests: AtomicU64,
    /// Publications and requests refused: rate, queue, rights, no connection.
    pub refused: AtomicU64,
    /// Values written or removed.
    pub writes: AtomicU64,
    /// Writes refused because of a quota.
    pub over_quota: AtomicU64,
    /// Objects and containers written, moved or removed.
    pub blob_writes: AtomicU64,
    /// Objects that could not be read or written: a full disk, a damaged file.
    pub blob_faults: AtomicU64,
    /// Secrets shown to the component.
    pub revealed: AtomicU64,
    /// Connections to MQTT lost, and attempts that failed.
    pub disconnects: AtomicU64,
    /// Requests by HTTP that hosts gave no answer to.
    pub unanswered: AtomicU64,
    /// Clients that came by HTTP and were not served: too many, too slow, too large, or no time for them.
    pub turned_away: AtomicU64,
}

/// How a workload stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is being opened, or cannot be, for this reason.
    Absent(Option<String>),
    /// It is sound, and imports something that no link grants.
    Ungranted(String),
    /// It has an instance.
    Ready,
    /// Its instance was ended, for this reason; the next is made by itself.
    Discarded(String),
    /// Too many of them were, the last for this reason; the next is made when somebody says so.
    Quarantined(String),
}

/// Where the status of a workload is read from.
#[derive(Debug)]
pub struct View {
    pub(super) name: String,
    pub(super) account: Arc<Account>,
    pub(super) counters: Arc<Counters>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) release: watch::Sender<()>,
    /// Of each address: why it is not listened on.
    pub(super) shut: Vec<watch::Receiver<Option<String>>>,
}

/// One workload, for people and machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WorkloadStatus {
    /// `opening`, `absent`, `ready`, `discarded` or `quarantined`.
    pub state: String,
    /// Why it is absent, discarded or quarantined.
    pub reason: Option<String>,
    /// Messages that links brought, requests by HTTP among them.
    pub received: u64,
    /// Messages dropped because the inbox was full.
    pub dropped: u64,
    /// Messages of timers that fell due while the one before still waited; they are not made up for.
    #[serde(default)]
    pub ticks_missed: u64,
    /// Messages handled without an error.
    pub handled: u64,
    /// Messages that the component answered with an error.
    pub failed: u64,
    /// Messages that were in hand when the component was ended.
    pub lost: u64,
    /// Messages published.
    pub published: u64,
    /// Requests made, by messages and by HTTP.
    pub requests: u64,
    /// Publications and requests refused.
    pub refused: u64,
    /// Values written or removed.
    pub writes: u64,
    /// Writes refused because of a quota.
    pub over_quota: u64,
    /// Objects and containers written, moved or removed.
    pub blob_writes: u64,
    /// Objects that could not be read or written: a full disk, a damaged file.
    pub blob_faults: u64,
    /// Secrets shown to the component.
    pub revealed: u64,
    /// Connections to MQTT lost, and attempts that failed.
    pub disconnects: u64,
    /// Requests by HTTP that hosts gave no answer to.
    pub unanswered: u64,
    /// Clients that came by HTTP and were not served.
    pub turned_away: u64,
    /// Why requests by HTTP do not come in.
    pub shut: Option<String>,
    /// Calls that ended in a trap.
    pub traps: u64,
    /// Calls that took too long.
    pub deadlines: u64,
    /// Calls that wanted too much memory.
    pub memory_faults: u64,
    /// Instances made after the first.
    pub restarts: u64,
    /// Times it had to wait because it had used up its share of time.
    pub over_share: u64,
    /// Times it had to wait because it had been given as many messages as it may be.
    pub over_rate: u64,
    /// Log lines written.
    pub log_lines: u64,
    /// Log lines dropped because there were too many.
    pub log_lines_dropped: u64,
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

// === impl Account ===

impl Account {
    /// Counts what an operator may have to look at; anything else is between a component and its objects.
    pub(super) fn count_blob_error(&self, error: &BlobError) {
        match error {
            BlobError::Bytes { .. } | BlobError::Objects { .. } => count(&self.over_quota),
            BlobError::Damaged | BlobError::Full | BlobError::Disk(_) => count(&self.blob_faults),
            _ => {}
        }
    }
}

// === impl View ===

impl View {
    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What waits for the task of the same component that has just ended waits for this one, which has not begun.
    pub fn inherit(&self, former: &View) {
        self.inbox.take_over(&former.inbox);
    }

    /// Messages and requests that wait for it.
    pub fn waiting(&self) -> usize {
        self.inbox.len()
    }

    /// Waits until it has shown whether it works: it has an instance, or the reason why not. One that lacks nothing but a
    /// link works: links may come after it.
    ///
    /// Cancel-safe: it only looks.
    pub fn settled(&self) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let mut standing = self.standing.clone();
        async move {
            let shown = standing.wait_for(|standing| *standing != Standing::Absent(None)).await;
            match shown.as_deref().map_err(|_| ()) {
                Ok(Standing::Ready | Standing::Ungranted(_)) => Ok(()),
                Ok(Standing::Absent(why)) => Err(why.clone().unwrap_or_default()),
                Ok(Standing::Discarded(why) | Standing::Quarantined(why)) => Err(why.clone()),
                Err(()) => Err("it was ended before it was open".to_owned()),
            }
        }
    }

    /// Whether it has an instance, or lacks nothing for one but a link.
    pub fn works(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Ready | Standing::Ungranted(_))
    }

    /// Whether it is there to be called, now or after a pause.
    pub fn is_present(&self) -> bool {
        !matches!(*self.standing.borrow(), Standing::Absent(_))
    }

    /// How the hub is to see it.
    pub fn look(&self) -> Look {
        match &*self.standing.borrow() {
            Standing::Ready => Look::Works,
            Standing::Absent(_) | Standing::Ungranted(_) | Standing::Discarded(_) => Look::Pauses,
            Standing::Quarantined(why) => Look::Quarantined(why.clone()),
        }
    }

    /// Ends its quarantine.
    pub fn release(&self) -> runtime::Answer {
        let name = &self.name;
        if !matches!(*self.standing.borrow(), Standing::Quarantined(_)) {
            return runtime::Answer::Refused(format!("component {name} is not quarantined"));
        }
        self.release.send_replace(());
        runtime::Answer::Done(format!("component {name} is released; it starts at once"))
    }

    /// A snapshot.
    pub fn status(&self) -> WorkloadStatus {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (state, reason) = match &*self.standing.borrow() {
            Standing::Absent(None) => ("opening", None),
            Standing::Absent(Some(why)) | Standing::Ungranted(why) => ("absent", Some(why.clone())),
            Standing::Ready => ("ready", None),
            Standing::Discarded(why) => ("discarded", Some(why.clone())),
            Standing::Quarantined(why) => ("quarantined", Some(why.clone())),
        };
        let (account, counters) = (&self.account, &self.counters);
        WorkloadStatus {
            state: state.to_owned(),
            reason,
            received: read(&account.received),
            dropped: read(&account.dropped),
            ticks_missed: read(&account.ticks_missed),
            handled: read(&account.handled),
            failed: read(&account.failed),
            lost: read(&account.lost),
            published: read(&account.published),
            requests: read(&account.requests),
            refused: read(&account.refused),
            writes: read(&account.writes),
            over_quota: read(&account.over_quota),
            blob_writes: read(&account.blob_writes),
            blob_faults: read(&account.blob_faults),
            revealed: read(&account.revealed),
            disconnects: read(&account.disconnects),
            unanswered: read(&account.unanswered),
            turned_away: read(&account.turned_away),
            shut: self.shut.iter().find_map(|shut| shut.borrow().clone()),
            traps: read(&counters.traps),
            deadlines: read(&counters.deadlines),
            memory_faults: read(&counters.memory_faults),
            restarts: read(&counters.restarts),
            over_share: read(&counters.over_share),
            over_rate: read(&counters.over_rate),
            log_lines: read(&counters.log_lines),
            log_lines_dropped: read(&counters.log_lines_dropped),
        }
    }
}

// === impl WorkloadStatus ===

impl WorkloadStatus {
    /// What somebody should look at, if anything.
    pub fn complaint(&self, name: &str) -> Option<String> {
        match (self.state.as_str(), &self.reason) {
            ("absent", Some(why)) => {
                Some(format!("component {name} does not run: {why}; mend that, it is tried again by itself"))
            }
            ("discarded", Some(why)) => {
                Some(format!("component {name} was ended and will be started again by itself: {why}"))
            }
            ("quarantined", Some(why)) => Some(format!(
                "component {name} has failed too often and is not started again: {why}; replace its file, or say \
                 `frond component release {name}`"
            )),
            _ => self.shut.as_ref().map(|why| {
                format!("component {name} gets no requests by HTTP: {why}; free the address, it is tried again by itself")
            }),
        }
    }
}

impl std::fmt::Display for WorkloadStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}; {} messages in, {} handled, {} failed, {} lost, {} dropped, {} ticks missed; {} published, {} requests, \
             {} refused; {} writes, {} of objects, {} over quota, {} disk faults; {} restarts; {} unanswered, {} turned \
             away by HTTP",
            self.state,
            self.received,
            self.handled,
            self.failed,
            self.lost,
            self.dropped,
            self.ticks_missed,
            self.published,
            self.requests,
            self.refused,
            self.writes,
            self.blob_writes,
            self.over_quota,
            self.blob_faults,
            self.restarts,
            self.unanswered,
            self.turned_away
        )?;
        match self.log_lines_dropped {
            0 => Ok(()),
            count => write!(f, "; {count} log lines dropped"),
        }
    }
}
