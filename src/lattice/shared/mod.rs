//! A shared lattice: the hub's buckets have the word on links and configuration, and this task reads and writes them.
//!
//! ```text
//!               connection, and the hub answers      all of scope read, all offers made
//!   Away ──────────────────────────────────▶ Reading ──────────────────────────────────▶ Joined: member of the queue
//!    ▲ refuses                                ▲  │                                         groups, runs errands, passes on
//!    │ what it is asked                       │  │                                         what the hub tells
//!    │                                        └──┼──────── scope is another ───────────────┤
//!    └──── link down, silence, a gap, a write without acknowledgement ◀───────────────────┘
//! ```
//! In the shared shape a host that cannot reach the hub must not answer for the lattice: it would swallow what the others
//! never see. So the gateway is a member of the queue groups for links, configuration and claims while it is Joined, and
//! only then: before the hub has been read, and as soon as it is known to be away, another host answers, or nobody does,
//! and the client is told so. What arrives in between is refused with a sentence. Silence is noticed after 25 s at the
//! latest, a write into it at once.
//!
//! A write is a compare-and-set on the entry that it was judged by ([`write`]), answered after the hub has acknowledged it
//! and after the copy here has it. What the hub tells goes to control entry by entry, and control decides: the rule is
//! [`crate::control::merge`], and the copy is control's. After every outage, and whenever a component comes or goes, all of
//! scope is read anew: a deletion that was missed is an entry that is not there. Scope is small, so that costs the link less
//! than remembering would.
//!
//! State: this task owns the consumers at the hub and the errands under way, nothing else. Power: nothing here is kept; what
//! was offered and not acknowledged is still pending in `state.db`, and the hub forgets a consumer after a minute.
//! When full: [`ERRANDS_MAX`] errands wait or are under way, further ones are refused with a sentence. On the link: a
//! heartbeat of some 110 bytes every ten seconds and one every minute, a megabyte a day.

mod bucket;
mod entry;
mod reader;
mod watch;
mod write;

use std::convert::Infallible;
use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, OptionFuture};
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch as channel};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::bucket::{Bucket, Buckets};
use self::watch::{Told, Watch};
use self::write::Offered;
use super::LinkHandle;
use super::api::ApiError;
use crate::control::merge::{Content, Entry, EntryKey, Scope, scope};
use crate::control::{ControlHandle, Errand, Refusal, Ways, Word};
use crate::platform::log::chain;

pub use reader::{ReadError, Reader};

/// Errands that wait, and as many under way: what the lattice may have under way at a time.
const ERRANDS_MAX: usize = 32;
/// Words that wait for control, each an entry: what is in scope is collected there, not here.
const WORDS_MAX: usize = 16;
/// How often the hub says of the links that it is there: two and a half of it are the time in which a stalled link is
/// noticed. 8,640 a day of 110 B are 0.95 MB.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The same of configuration, which is at the same hub.
const HEARTBEAT_SLOW: Duration = Duration::from_secs(60);
/// Longest time to read all of scope: half a megabyte at 50 kbit/s are 80 s.
const READING: Duration = Duration::from_secs(120);
/// Before another attempt, doubled up to the longest: buckets that a hub denies stay denied.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// All of scope is read again after so long, also if nothing seems to be missing: an entry that is wiped out together with
/// every trace is told to nobody.
const READ_AGAIN: Duration = Duration::from_secs(6 * 3600);
/// A key that nobody writes: what is watched when nothing is in scope, for the heartbeat.
const NOTHING: &str = "FROND_NOTHING";

/// The task.
#[derive(Debug)]
pub struct Shared {
    lattice: String,
    link: LinkHandle,
    control: ControlHandle,
    words: mpsc::Sender<Word>,
    errands: mpsc::Receiver<Errand>,
    joined: channel::Sender<bool>,
}

/// The ends of its channels, from before control is made until it is made itself.
#[derive(Debug)]
pub struct Ends {
    words: mpsc::Sender<Word>,
    errands: mpsc::Receiver<Errand>,
}

/// Both as they are watched.
struct Watches {
    lattice: Watch,
    config: Option<Watch>,
}

/// Why a session with the hub is over.
#[derive(Debug, thiserror::Error)]
enum Over {
    /// Another connection, or none, or the hub behind it has gone.
    #[error("the link is down")]
    Link,
    /// The process ends.
    #[error("the gateway is stopping")]
    Stopping,
    /// Something was not answered as it should be.
    #[error("the hub's buckets")]
    Api(#[from] ApiError),
}

type Running = FuturesUnordered<BoxFuture<'static, Word>>;

/// The channels between control and the task.
pub fn ways(lattice: &str) -> (Ways, Ends) {
    let (words, words_in) = mpsc::channel(WORDS_MAX);
    let (errands, errands_in) = mpsc::channel(ERRANDS_MAX);
    let ways = Ways { lattice: lattice.to_owned(), words: words_in, errands };
    (ways, Ends { words, errands: errands_in })
}

// === impl Shared ===

impl Shared {
    /// The task, and whether the gateway answers for the lattice.
    pub fn new(
        lattice: String,
        link: LinkHandle,
        control: ControlHandle,
        ends: Ends,
    ) -> (Shared, channel::Receiver<bool>) {
        let Ends { words, errands } = ends;
        let (joined, joined_seen) = channel::channel(false);
        (Shared { lattice, link, control, words, errands, joined }, joined_seen)
    }

    /// Works until stopped. Nothing that happens at the hub ends it.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        if stop.run_until_cancelled(self.control.restored()).await.is_none() {
            return Ok(());
        }
        let mut pause = PAUSE_MIN;
        loop {
            let Some(client) = self.wait(&stop).await else { return Ok(()) };
            let mut running = Running::new();
            let begun = Instant::now();
            let over = match self.session(client, &mut running, &stop).await {
                Ok(never) => match never {},
                Err(over) => over,
            };
            let was_joined = self.joined.send_replace(false);
            // Each ends at its deadline at the latest, and is answered.
            while let Some(word) = running.next().await {
                let _ = self.words.send(word).await;
            }
            let _ = self.words.send(Word::Away).await;
            match over {
                Over::Stopping => return Ok(()),
                Over::Link => {}
                Over::Api(_) => {
                    warn!(reason = %chain(&over), lattice = self.lattice, "the hub's buckets cannot be used; trying again");
                    self.link.doubt();
                }
            }
            pause = if was_joined || begun.elapsed() > PAUSE_MAX {
                PAUSE_MIN
            } else {
                (2 * pause).min(PAUSE_MAX)
            };
            if self.refuse_until(sleep(pause), &stop).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Waits for a connection whose hub answers; `None` when it is time to stop.
    async fn wait(&mut self, stop: &CancellationToken) -> Option<Client> {
        let mut link = self.link.clone();
        let there = async move {
            loop {
                let client = link.client.borrow_and_update().clone();
                let reaches = link.state.borrow_and_update().reaches_hub();
                if let Some(client) = client.filter(|_| reaches) {
                    return client;
                }
                // Cancel-safe: what has changed is looked at above. A link that is gone for ever is waited for.
                tokio::select! {
                    Ok(()) = link.client.changed() => {}
                    Ok(()) = link.state.changed() => {}
                    else => std::future::pending().await,
                }
            }
        };
        self.refuse_until(there, stop).await
    }

    /// Refuses errands until something has come about; `None` when it is time to stop.
    async fn refuse_until<T>(
        &mut self,
        come: impl Future<Output = T>,
        stop: &CancellationToken,
    ) -> Option<T> {
        let mut come = std::pin::pin!(come);
        loop {
            // Cancel-safe: an errand that was received is refused before anything else is looked at.
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                come = &mut come => return Some(come),
                Some(errand) = self.errands.recv() => {
                    let _ = self.words.send(Word::Failed { errand, refusal: Refusal::HubAway }).await;
                }
            }
        }
    }

    /// One session with the hub, until it is over.
    async fn session(
        &mut self,
        client: Client,
        running: &mut Running,
        stop: &CancellationToken,
    ) -> Result<Infallible, Over> {
        let over = over(self.link.clone(), stop.clone());
        let mut over = std::pin::pin!(over);
        let api = self.link.api(client);
        // Cancel-safe: questions, and the making of a bucket that the next session finds.
        let buckets = tokio::select! {
            over = &mut over => return Err(over),
            buckets = Buckets::open(api, &self.lattice) => buckets?,
        };
        let _ = self.words.send(Word::Begin).await;
        loop {
            let scope = self.scope();
            // Cancel-safe: control takes entries one by one, offers are compared and set, consumers are forgotten.
            let mut watches = tokio::select! {
                over = &mut over => return Err(over),
                watches = timeout(READING, self.read(&buckets, &scope)) => {
                    watches.unwrap_or(Err(ApiError::Silent))?
                }
            };
            if !self.joined.send_replace(true) {
                info!(
                    lattice = self.lattice,
                    entries = scope.len(),
                    "the shared lattice is read; this gateway answers for it, too"
                );
            }
            self.live(&buckets, &scope, &mut watches, running, over.as_mut()).await?;
            watches.lattice.close().await;
            if let Some(config) = watches.config {
                config.close().await;
            }
        }
    }

    /// What matters here, as control has told last.
    fn scope(&mut self) -> Scope {
        let shown = self.control.shown.borrow_and_update().clone();
        scope(&shown.desired, shown.copy.iter().flat_map(|copy| &copy.pending))
    }

    /// Reads all of scope, and makes the offers that control has.
    async fn read(&self, buckets: &Buckets, scope: &Scope) -> Result<Watches, ApiError> {
        let lattice = self.read_bucket(&buckets.lattice, scope, HEARTBEAT).await?;
        let config = match scope.iter().any(|key| matches!(key, EntryKey::Config(_))) {
            true => Some(self.read_bucket(&buckets.config, scope, HEARTBEAT_SLOW).await?),
            false => None,
        };
        let (offers, made) = oneshot::channel();
        let _ = self.words.send(Word::Complete { scope: scope.clone(), offers }).await;
        for offer in made.await.unwrap_or_default() {
            match write::offer(buckets, &offer).await? {
                Offered::Entry(entry) => drop(self.words.send(Word::Entries(vec![entry])).await),
                Offered::Refused(why) => {
                    warn!(what = ?offer.key, why, "the hub does not take a change made on site; it stays pending");
                }
            }
        }
        Ok(Watches { lattice, config })
    }

    /// Reads what of scope is in one bucket, and tells what is and what is not there.
    async fn read_bucket(
        &self,
        bucket: &Bucket,
        scope: &Scope,
        heartbeat: Duration,
    ) -> Result<Watch, ApiError> {
        let places = scope.iter().map(|key| (key, entry::place(key)));
        let here: Vec<(&EntryKey, String)> = places
            .filter(|(_, (which, _))| *which == bucket.which)
            .map(|(key, (_, name))| (key, name))
            .collect();
        let mut patterns: Vec<String> = here.iter().map(|(_, name)| bucket.subject(name)).collect();
        if patterns.is_empty() {
            patterns.push(bucket.subject(NOTHING));
        }
        // What is not there now was not there after this write, at the least.
        let newest = bucket.newest().await?;
        let mut watch = Watch::open(bucket.clone(), &patterns, heartbeat).await?;
        let mut missing: Scope = here.into_iter().map(|(key, _)| key.clone()).collect();
        while !watch.is_caught_up() {
            let told = watch.next().await?;
            if let Some(entry) = entry_of(bucket, &told) {
                missing.remove(&entry.key);
                let _ = self.words.send(Word::Entries(vec![entry])).await;
            }
        }
        let nothing = |key| Entry { key, revision: newest, content: Content::Nothing };
        let _ = self.words.send(Word::Entries(missing.into_iter().map(nothing).collect())).await;
        Ok(watch)
    }

    /// Passes on what the hub tells and runs errands, until another scope is to be read.
    async fn live(
        &mut self,
        buckets: &Buckets,
        scope: &Scope,
        watches: &mut Watches,
        running: &mut Running,
        mut over: std::pin::Pin<&mut impl Future<Output = Over>>,
    ) -> Result<(), Over> {
        let read_again = Instant::now() + READ_AGAIN;
        loop {
            if self.scope() != *scope || Instant::now() >= read_again {
                return Ok(());
            }
            let config: OptionFuture<_> = watches.config.as_mut().map(Watch::next).into();
            // Cancel-safe: what an arm received is passed on before anything else is looked at.
            tokio::select! {
                biased;
                over = &mut over => return Err(over),
                Some(word) = running.next() => {
                    let doubt = is_doubtful(&word);
                    let _ = self.words.send(word).await;
                    if doubt {
                        return Err(ApiError::Silent.into());
                    }
                }
                Ok(()) = self.control.shown.changed() => {}
                Some(errand) = self.errands.recv(), if running.len() < ERRANDS_MAX => {
                    running.push(Box::pin(write::run(buckets.clone(), errand)));
                }
                () = sleep_until(read_again) => {}
                told = watches.lattice.next() => self.pass_on(&buckets.lattice, &told?).await,
                Some(told) = config => self.pass_on(&buckets.config, &told?).await,
            }
        }
    }

    async fn pass_on(&self, bucket: &Bucket, told: &Told) {
        if let Some(entry) = entry_of(bucket, told) {
            let _ = self.words.send(Word::Entries(vec![entry])).await;
        }
    }
}

/// Whether the hub may be away.
fn is_doubtful(word: &Word) -> bool {
    matches!(word, Word::Failed { refusal: Refusal::HubAway | Refusal::NotAcknowledged, .. })
}

fn entry_of(bucket: &Bucket, told: &Told) -> Option<Entry> {
    let key = entry::key(bucket.which, &told.key)?;
    Some(entry::read(key, told.revision, told.value.as_deref()))
}

/// Waits until the session has to end.
async fn over(mut link: LinkHandle, stop: CancellationToken) -> Over {
    link.client.borrow_and_update();
    loop {
        // Cancel-safe: it only looks.
        tokio::select! {
            () = stop.cancelled() => return Over::Stopping,
            _ = link.client.changed() => return Over::Link,
            changed = link.state.changed() => if changed.is_err() || !link.state.borrow().reaches_hub() {
                return Over::Link;
            },
        }
    }
}
