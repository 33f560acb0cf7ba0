//! The task of one workload: it owns the instance, and polls what brings messages beside it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::Client;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::account::{Account, Standing, View, count};
use super::blobs::BlobsHandle;
use super::door::Door;
use super::http::{Lobby, Outside};
use super::inbox::{Inbox, Post};
use super::instance::Instance;
use super::keyvalue::KeeperHandle;
use super::lattice::{Lattice, LatticeHandle};
use super::opener::{Code, OpenError, OpenerHandle};
use super::postbox::{Postbox, Wanted};
use super::rate::Rate;
use super::room::Tools;
use super::timer::Timers;
use crate::config::{self, LinkEnd, Source, Target};
use crate::device::Devices;
use crate::platform::clock;
use crate::platform::log::chain;
use crate::runtime::counters::bump;
use crate::runtime::lifecycle::{Life, Stand, Tolerance};
use crate::runtime::opener::FileMark;
use crate::runtime::quota::{Excess, Quota, Rates};
use crate::runtime::voice::Voice;
use crate::runtime::{Counters, Fault};
use crate::sample::SECOND;

/// First and longest pause before a component that could not be opened is tried again: somebody has to mend something.
const ABSENT_PAUSE: Duration = Duration::from_secs(30);
const ABSENT_PAUSE_MAX: Duration = Duration::from_secs(600);
/// Between two looks whether a discarded instance may be made again.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two looks whether the file of a quarantined component was replaced.
const FILE_EVERY: Duration = Duration::from_secs(2);
/// Longest error of a component that is logged.
const ERROR_CHARS_MAX: usize = 512;

/// What every workload of a gateway is made with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Kit {
    /// The gateway's name.
    pub gateway: String,
    /// Where MQTT is.
    pub door: Door,
    /// The present connection to the lattice.
    pub lattice: watch::Receiver<Option<Client>>,
    /// Where values are kept.
    pub keeper: KeeperHandle,
    /// Where objects are kept.
    pub blobs: BlobsHandle,
    /// Devices wired to the gateway.
    pub devices: Devices,
    /// Who loads and compiles.
    pub opener: OpenerHandle,
}

/// The task.
pub struct Workload {
    config: config::Workload,
    tools: Arc<Tools>,
    inbox: Arc<Inbox>,
    postbox: Postbox,
    lattice: Lattice,
    lobbies: Vec<Lobby>,
    timers: Timers,
    opener: OpenerHandle,
    standing: watch::Sender<Standing>,
    release: watch::Receiver<()>,
}

/// What the task works with once everything else is taken out of it.
struct Owner {
    config: config::Workload,
    tools: Arc<Tools>,
    inbox: Arc<Inbox>,
    opener: OpenerHandle,
    standing: watch::Sender<Standing>,
    life: Life,
    quota: Quota,
    /// Of the file that was opened last.
    mark: Option<FileMark>,
    /// An operator's word.
    release: watch::Receiver<()>,
}

// === impl Workload ===

impl Workload {
    /// The task, and where its status is read from.
    pub fn new(workload: config::Workload, kit: Kit) -> (Workload, View) {
        let Kit { gateway, door, lattice, keeper, blobs, devices, opener } = kit;
        let account = Arc::new(Account::default());
        let counters = Arc::new(Counters::default());
        let inbox = Arc::new(Inbox::new(workload.inbox, Arc::clone(&account)));
        let (postbox, postbox_handle) =
            Postbox::new(&door, wanted(&workload, &gateway), Arc::clone(&inbox), Arc::clone(&account));
        let component = &workload.component;
        let tools = Arc::new(Tools {
            component: component.name.clone(),
            memory_bytes_max: usize::try_from(component.memory_bytes_max).unwrap_or(usize::MAX),
            config: component.config.clone(),
            links: workload.links.clone(),
            postbox: postbox_handle,
            lattice: LatticeHandle::new(lattice.clone()),
            keeper,
            blobs,
            devices,
            deadline: component.deadline,
            voice: Voice::new(&component.name, component.log_lines_per_second, Arc::clone(&counters)),
            counters: Arc::clone(&counters),
            account: Arc::clone(&account),
            rate: Mutex::new(Rate::new(workload.messages_out_per_second, clock::boottime())),
            outside: Outside::new(&workload),
        });
        let (standing, seen) = watch::channel(Standing::Absent(None));
        let (releaser, release) = watch::channel(());
        let lobby = |source: &config::HttpSource| {
            let (inbox, account) = (Arc::clone(&inbox), Arc::clone(&account));
            Lobby::new(source.clone(), component.deadline, inbox, seen.clone(), account)
        };
        let (lobbies, shut) = http_sources(&workload).map(lobby).unzip();
        let name = component.name.clone();
        let view = View {
            name,
            account,
            counters,
            inbox: Arc::clone(&inbox),
            standing: seen,
            release: releaser,
            shut,
        };
        let lattice = Lattice { client: lattice, subjects: subjects(&workload), inbox: Arc::clone(&inbox) };
        let timers = Timers::new(&workload.links, Arc::clone(&inbox), Arc::clone(&tools.account));
        let config = workload;
        (
            Workload { config, tools, inbox, postbox, lattice, lobbies, timers, opener, standing, release },
            view,
        )
    }

    /// Runs until stopped. Nothing that the component does ends it.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        let Workload { config, tools, inbox, postbox, lattice, lobbies, timers, opener, standing, release } =
            self;
        let component = &config.component;
        let life = Life::new(Tolerance {
            failures: component.quarantine_failures,
            within: i64::try_from(component.quarantine_within.as_nanos()).unwrap_or(i64::MAX),
        });
        let quota = Quota::new(Rates {
            share_percent: component.cpu_share_percent,
            readings_in: config.messages_in_per_second,
            ..Rates::NONE
        });
        let mut owner = Owner { config, tools, inbox, opener, standing, life, quota, mark: None, release };
        // Cancel-safe: a call that is cut off takes its instance with it, and nothing is owed for its message.
        stop.run_until_cancelled(async {
            let receiving = join_all(lobbies.into_iter().map(Lobby::receive));
            tokio::join!(owner.work(), postbox.hold(), lattice.hear(), timers.run(), receiving);
        })
        .await;
        Ok(())
    }
}

impl std::fmt::Debug for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workload").field("name", &self.config.component.name).finish_non_exhaustive()
    }
}

// === impl Owner ===

impl Owner {
    async fn work(&mut self) {
        let mut code = self.open().await;
        let mut instance = None;
        loop {
            // The instance is there before a message is taken: what waits meanwhile waits in the inbox.
            let ready = match instance.take() {
                Some(ready) => ready,
                None => self.instance(&mut code).await,
            };
            self.wait_for_quota().await;
            let post = self.inbox.next().await;
            instance = self.hand_over(ready, post).await;
            self.inbox.done();
        }
    }

    async fn open(&mut self) -> Code {
        let mut pause = ABSENT_PAUSE;
        loop {
            self.mark = FileMark::of(&self.config.component.path);
            let error = match self.opener.open(&self.config, Arc::clone(&self.tools.counters)).await {
                Ok(code) => return code,
                Err(OpenError::Stopping) => return std::future::pending().await,
                Err(error) => error,
            };
            let why = chain(&error).to_string();
            tracing::error!(component = self.tools.component, why, "component cannot be opened");
            self.standing.send_replace(match error {
                OpenError::Import { .. } => Standing::Ungranted(why),
                _ => Standing::Absent(Some(why)),
            });
            sleep(pause).await;
            pause = (2 * pause).min(ABSENT_PAUSE_MAX);
        }
    }

    /// A new instance, as soon as there may be one.
    async fn instance(&mut self, code: &mut Code) -> Instance {
        loop {
            let is_first = matches!(self.life.stand(), Stand::Ready { .. });
            while !is_first && !self.life.is_due(clock::boottime()) {
                match self.life.stand() {
                    Stand::Quarantined => self.sit_out(code).await,
                    _ => sleep(LOOK_EVERY).await,
                }
            }
            match Instance::start(code, &self.tools, self.config.component.deadline).await {
                Ok(instance) => {
                    if !is_first {
                        bump(&self.tools.counters.restarts);
                        self.life.worked(clock::boottime());
                    }
                    tracing::info!(component = self.tools.component, "component runs");
                    self.standing.send_replace(Standing::Ready);
                    return instance;
                }
                Err(fault) => {
                    bump(&self.tools.counters.restart_failures);
                    self.discard(&fault);
                }
            }
        }
    }

    /// In quarantine: waits for an operator's word or another file, though not for ever, so that it can be called again.
    async fn sit_out(&mut self, code: &mut Code) {
        match timeout(FILE_EVERY, self.release.changed()).await {
            Ok(Ok(())) => {
                tracing::info!(component = self.tools.component, "released from quarantine by an operator");
                self.life.release();
            }
            // Nobody is left who could say it: frond is about to end.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => {
                let mark = FileMark::of(&self.config.component.path);
                if mark.is_some() && mark != self.mark {
                    tracing::info!(
                        component = self.tools.component,
                        "its file has changed, which ends the quarantine"
                    );
                    *code = self.open().await;
                    self.life.release();
                }
            }
        }
    }

    /// Until the component may be called. What comes meanwhile waits in the inbox.
    async fn wait_for_quota(&mut self) {
        let mut told = false;
        loop {
            self.quota.refill(clock::boottime());
            let Err(excess) = self.quota.admits() else { return };
            if !told {
                bump(match excess {
                    Excess::Share => &self.tools.counters.over_share,
                    Excess::Rate => &self.tools.counters.over_rate,
                });
                told = true;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Gives the instance back unless the message was its end.
    async fn hand_over(&mut self, mut instance: Instance, post: Post) -> Option<Instance> {
        if matches!(&post, Post::Visit(visit) if visit.is_gone()) {
            // The lobby has counted it.
            return Some(instance);
        }
        self.tools.voice.refill(clock::boottime());
        bump(&self.tools.counters.calls);
        self.quota.give(1);
        let (what, handled) = match post {
            Post::Letter(letter) => ("handle-message", instance.handle(letter).await),
            Post::Visit(visit) => ("incoming-handler", instance.answer(*visit).await),
        };
        self.quota.spend(instance.spent());
        match handled {
            Ok(Ok(())) => {
                count(&self.tools.account.handled);
                Some(instance)
            }
            Ok(Err(error)) => {
                count(&self.tools.account.failed);
                let error: String = error.chars().take(ERROR_CHARS_MAX).collect();
                self.tools
                    .voice
                    .say(crate::runtime::voice::Level::Warn, &format!("{what} returned an error: {error}"));
                Some(instance)
            }
            Err(fault) => {
                count(&self.tools.account.lost);
                self.discard(&fault);
                None
            }
        }
    }

    fn discard(&mut self, fault: &Fault) {
        let counters = &self.tools.counters;
        bump(match fault {
            Fault::Trap(_) => &counters.traps,
            Fault::Deadline => &counters.deadlines,
            Fault::Memory => &counters.memory_faults,
        });
        self.life.failed(clock::boottime());
        // What was said before the quarantine does not end it.
        self.release.mark_unchanged();
        let component = &self.tools.component;
        self.standing.send_replace(match self.life.stand() {
            Stand::Quarantined => {
                tracing::error!(component, reason = %fault, "component has failed too often and is not started again");
                Standing::Quarantined(fault.to_string())
            }
            Stand::Discarded { until, .. } => {
                let pause_s = (until - clock::boottime()).max(0) / SECOND;
                tracing::warn!(component, reason = %fault, pause_s, "component discarded");
                Standing::Discarded(fault.to_string())
            }
            Stand::Ready { .. } => Standing::Ready,
        });
    }
}

/// What the links want of MQTT.
fn wanted<'a>(workload: &'a config::Workload, gateway: &'a str) -> Wanted<'a> {
    let (mut topics, mut map, mut publishes) = (Vec::new(), Vec::new(), false);
    for link in &workload.links {
        match &link.end {
            LinkEnd::Source(Source::Mqtt { topics: filters, qos, map: pairs }) => {
                topics.extend(filters.iter().map(|filter| (filter.clone(), *qos)));
                map.extend(pairs.clone());
            }
            LinkEnd::Target(Target::Mqtt { .. }) => publishes = true,
            _ => {}
        }
    }
    Wanted { gateway, component: &workload.component.name, topics, map, publishes }
}

/// Where requests come in.
fn http_sources(workload: &config::Workload) -> impl Iterator<Item = &config::HttpSource> {
    workload.links.iter().filter_map(|link| match &link.end {
        LinkEnd::HttpSource(source) => Some(source),
        _ => None,
    })
}

/// The subjects that messages come by.
fn subjects(workload: &config::Workload) -> Vec<String> {
    let of = |link: &config::Link| match &link.end {
        LinkEnd::Source(Source::Nats { subjects }) => subjects.clone(),
        _ => Vec::new(),
    };
    workload.links.iter().flat_map(of).collect()
}
