//! A store of the tests' own: answers the uplink's and recall's commands from memory, and can lose what it has not
//! committed, as the real one does in a crash.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use frond::outbox::{OutRow, Settled, SubjectKey, SubjectState};
use frond::sample::{Lane, StreamId};
use frond::store::{Command, Handle, Newest, RecallPage, RecallQuery, RecallRefused};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::nats::eventually;

/// Commands that wait; as many as the real store's channel has room for matters to nobody here.
const COMMANDS: usize = 64;

/// What answers recalls.
pub type Recalls = Box<dyn Fn(&RecallQuery) -> Result<RecallPage, RecallRefused> + Send>;

/// The double. Clones share their rows.
#[derive(Clone)]
pub struct StoreDouble {
    shared: Arc<Mutex<Shared>>,
    newest: watch::Sender<Newest>,
    epoch: u32,
}

struct Shared {
    rows: BTreeMap<u64, OutRow>,
    next_id: u64,
    seqs: BTreeMap<SubjectKey, u64>,
    floors: BTreeMap<SubjectKey, u64>,
    names: BTreeMap<StreamId, String>,
    /// Taken over, not committed.
    pending: Vec<Settled>,
    commits: Commits,
    recalls: Recalls,
    recall_pages: u64,
}

/// When settlements become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commits {
    /// At once.
    AtOnce,
    /// With the next one but three: what a crash takes back.
    Later,
}

// === impl StoreDouble ===

impl StoreDouble {
    /// An empty store with this epoch.
    pub fn new(epoch: u32) -> StoreDouble {
        let shared = Shared {
            rows: BTreeMap::new(),
            next_id: 1,
            seqs: BTreeMap::new(),
            floors: BTreeMap::new(),
            names: BTreeMap::new(),
            pending: Vec::new(),
            commits: Commits::AtOnce,
            recalls: Box::new(|_| Err(RecallRefused::NoStream)),
            recall_pages: 0,
        };
        StoreDouble {
            shared: Arc::new(Mutex::new(shared)),
            newest: watch::Sender::new(Newest::default()),
            epoch,
        }
    }

    /// A handle, answered by a task in `tasks`.
    pub fn serve(&self, tasks: &mut JoinSet<()>) -> Handle {
        let (commands, mut inbox) = mpsc::channel(COMMANDS);
        let store = self.clone();
        tasks.spawn(async move {
            while let Some(command) = inbox.recv().await {
                store.answer(command);
            }
        });
        Handle { commands, newest: self.newest.subscribe(), epoch: self.epoch }
    }

    /// Puts a row of `bytes` bytes of body into the outbox.
    pub fn push(&self, lane: Lane, stream: &str, bytes: usize) -> u64 {
        let seed = self.shared().next_id;
        self.push_body(lane, stream, noise(seed, bytes))
    }

    /// Puts a row with this body into the outbox.
    pub fn push_body(&self, lane: Lane, stream: &str, body: Bytes) -> u64 {
        let mut shared = self.shared();
        let id = shared.next_id;
        shared.next_id += 1;
        let stream_id = shared.names.iter().find(|(_, name)| *name == stream).map(|(id, _)| *id);
        let stream_id = stream_id.unwrap_or_else(|| {
            let id = StreamId(shared.names.len() as u32 + 1);
            shared.names.insert(id, stream.to_owned());
            id
        });
        let subject = SubjectKey { stream: stream_id, lane };
        let seq = shared.seqs.entry(subject).or_default();
        *seq += 1;
        let row = OutRow { id, subject, seq: *seq, dropped: 0, clock_correction: None, body };
        shared.rows.insert(id, row);
        drop(shared);
        self.newest.send_modify(|newest| match lane {
            Lane::Alarm => newest.alarm = id,
            Lane::Data => newest.data = id,
        });
        id
    }

    /// From now on settlements become durable like this.
    pub fn set_commits(&self, commits: Commits) {
        self.shared().commits = commits;
    }

    /// From now on recalls are answered by this.
    pub fn set_recalls(&self, recalls: Recalls) {
        self.shared().recalls = recalls;
    }

    /// Pages recalled so far.
    pub fn recall_pages(&self) -> u64 {
        self.shared().recall_pages
    }

    /// Power cut: what was not committed has not happened.
    pub fn crash(&self) {
        self.shared().pending.clear();
    }

    /// Rows in the outbox.
    pub fn len(&self) -> usize {
        self.shared().rows.len()
    }

    /// Whether this row is still there.
    pub fn holds(&self, id: u64) -> bool {
        self.shared().rows.contains_key(&id)
    }

    /// Waits until the outbox is empty.
    pub async fn drained(&self, patience: Duration) {
        eventually(&format!("the outbox is empty ({} rows now)", self.len()), patience, async || {
            let mut shared = self.shared();
            shared.commit_all();
            shared.rows.is_empty()
        })
        .await;
    }

    /// Every (lane, stream, seq) ever pushed.
    pub fn everything(&self) -> Vec<(Lane, String, u64)> {
        let shared = self.shared();
        let mut all = Vec::new();
        for (key, last) in &shared.seqs {
            all.extend((1..=*last).map(|seq| (key.lane, shared.names[&key.stream].clone(), seq)));
        }
        all
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("nobody panics while holding it")
    }

    fn answer(&self, command: Command) {
        let mut shared = self.shared();
        match command {
            Command::Outputs { lane, after, bytes_max, reply } => {
                let _ = reply.send(shared.outputs(lane, after, bytes_max));
            }
            Command::Settle { settled, reply } => {
                shared.pending.push(settled);
                let keep = if shared.commits == Commits::AtOnce { 0 } else { 3 };
                shared.commit_down_to(keep);
                let _ = reply.send(());
            }
            Command::Subjects { reply } => {
                let _ = reply.send(shared.subjects());
            }
            Command::Recall { query, reply } => {
                shared.recall_pages += 1;
                let page = (shared.recalls)(&query);
                let _ = reply.send(page);
            }
            other => panic!("nobody here sends {other:?}"),
        }
    }
}

// === impl Shared ===

impl Shared {
    fn outputs(&self, lane: Lane, after: u64, bytes_max: usize) -> Vec<OutRow> {
        let mut bytes = 0;
        let mut page = Vec::new();
        for row in self.rows.range(after + 1..).map(|(_, row)| row).filter(|row| row.subject.lane == lane) {
            bytes += row.body.len();
            if bytes > bytes_max && !page.is_empty() {
                break;
            }
            page.push(row.clone());
        }
        page
    }

    fn subjects(&self) -> Vec<SubjectState> {
        let oldest =
            |key: &SubjectKey| self.rows.values().filter(|row| row.subject == *key).map(|row| row.seq).min();
        self.seqs
            .keys()
            .map(|key| SubjectState {
                key: *key,
                stream_name: self.names[&key.stream].clone(),
                hub_floor: self.floors.get(key).copied().unwrap_or(0),
                oldest_seq: oldest(key),
            })
            .collect()
    }

    fn commit_all(&mut self) {
        self.commit_down_to(0);
    }

    fn commit_down_to(&mut self, keep: usize) {
        while self.pending.len() > keep {
            let Settled { ids, floors } = self.pending.remove(0);
            for id in ids {
                self.rows.remove(&id);
            }
            self.floors.extend(floors);
        }
    }
}

/// Bytes that do not compress: leaf connections do.
fn noise(seed: u64, bytes: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}
