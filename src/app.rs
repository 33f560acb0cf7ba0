//! The wiring: every task of the gateway and every channel between them. The only file that knows every module.
//!
//! ```text
//!  doors ──Inbound──▶ store ──Committed──▶ pipeline ──Checkpoint──▶ store ──Newest──▶ uplink ──▶ link ──▶ hub
//!    ▲                  │                                             ▲                 │
//!    └──durable tickets─┘                                             └──────Settle─────┘
//!  doors: a broker's client for each durability class; the listener, one thread for all clients
//!  workloads: MQTT, NATS, HTTP ──Post──▶ inbox ──▶ component ──Request──▶ keeper (state.db); a task for each
//!                                                     component ──Job──▶ blobs (files)
//!                                                     ├───────Request──▶ devices; a task for each
//!                                                     └───────Errand──▶ hosts, by HTTP; a task of each errand's own
//!  control ──Job──▶ artifacts (files), a thread; registries and the hub's object store by way of the link
//!  lattice host ──Command──▶ control ──Save──▶ keeper; control ──Event──▶ lattice host; control starts workloads
//!  control ──Errand──▶ shared lattice ──Word──▶ control, if the lattice is shared; ──joined──▶ lattice host
//!  console ──Order──▶ pipeline; ──Command──▶ control
//!  listener ──Credentials──▶ entrance ──passwords──▶ verifier         renewal ──certificates──▶ listener
//! ```
//! Start: lock, database, clock, then everything at once; nothing waits for the network. Stop: doors, pipeline (which
//! gives its last checkpoint), uplink, store, support. A task that ends by itself ends the process: the service manager
//! starts it again from what is on flash.

mod workloads;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{self, Config, FullPolicy, LatticeMode};
use crate::console::{self, Console, ConsoleError, Sources};
use crate::device;
use crate::ingest::listener::entrance::{Entrance, EntranceHandle};
use crate::ingest::listener::inside::Inside;
use crate::ingest::listener::tls::Renewal;
use crate::ingest::listener::{self, Beginnings, Listener, ListenerError};
use crate::ingest::{self, BrokerDoor};
use crate::journal::{Checkpoint, Committed};
use crate::lattice::Link;
use crate::platform::clock::{self, Beginning, ClockKeeper, WallClock};
use crate::platform::lock::{self, LockError};
use crate::platform::notify;
use crate::platform::signals::{Signals, SignalsError};
use crate::runtime::{Pipeline, neighbour, pipeline};
use crate::sample::{DoorId, Durability, StreamId};
use crate::slot::Confirmation;
use crate::store::{
    self, DoorSetup, DoorStart, Handle, Inbound, Peers, Policy, Start, Store, StoreError, StreamPolicy,
};
use crate::supervise::{Ended, Stage, Tasks, ThreadError};
use crate::uplink::recall::Recall;
use crate::uplink::{self, Uplink};
use crate::workload::KeeperError;

/// Messages between the doors and the journal: 256 of some 100 B are 25 KiB, and a hundredth of a second at 25,000 a second.
const INBOUND_MAX: usize = 256;
/// Requests to the store: one from each of a dozen tasks.
const COMMANDS_MAX: usize = 32;
/// Groups between the journal and the pipeline; each has at most `commit_readings_max` readings and one message more.
const COMMITTED_MAX: usize = 4;
/// Orders of operators to the components; the console passes on one at a time.
const ORDERS_MAX: usize = 4;
/// Events between control and the host that tells of them: those of an application that is put to work at once.
const EVENTS_MAX: usize = 256;
/// Series of the gateway's own stream: one for each component that ever had an alarm, of sixteen at a time.
const OWN_SERIES_MAX: usize = 1_024;
/// A store that does not come back to its loop within this time hangs on its disk; an fsync of a worn card takes seconds.
const STORE_BEAT: Duration = Duration::from_secs(60);
/// A pipeline may be busy with a component's first compilation.
const PIPELINE_BEAT: Duration = Duration::from_secs(120);

/// Messages to the journal.
pub type InboundChannel = (mpsc::Sender<Inbound>, mpsc::Receiver<Inbound>);
/// Groups to the pipeline.
pub type CommittedChannel = (mpsc::Sender<Committed>, mpsc::Receiver<Committed>);
/// Checkpoints to the store, one at a time, each with the way back for "it is durable".
pub type CheckpointSender = mpsc::Sender<(Checkpoint, tokio::sync::oneshot::Sender<()>)>;

/// Why the gateway does not run, or stopped running.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum AppError {
    #[error("cannot create the data folder {path}")]
    DataFolder { path: PathBuf, source: std::io::Error },
    #[error("the data folder cannot be taken")]
    Lock(#[from] LockError),
    #[error("the store does not start")]
    Store(#[from] StoreError),
    #[error("a stream cannot be served")]
    Door(#[from] ingest::SetupError),
    #[error("clients cannot be let in")]
    Listener(#[from] ListenerError),
    #[error("the port for components cannot be opened")]
    Inside(#[source] std::io::Error),
    #[error("what components keep cannot be opened")]
    Keeper(#[from] KeeperError),
    #[error("the local socket cannot be served")]
    Console(#[from] ConsoleError),
    #[error("the gateway is not complete")]
    Thread(#[from] ThreadError),
    #[error("signals cannot be heard")]
    Signals(#[from] SignalsError),
    #[error("{} ended: {}", .0.name, .0.how)]
    Ended(Ended),
}

/// Runs the gateway until it is asked to stop.
pub async fn run(config: Config) -> Result<(), AppError> {
    let data_dir = &config.gateway.data_dir;
    std::fs::create_dir_all(data_dir)
        .map_err(|source| AppError::DataFolder { path: data_dir.clone(), source })?;
    let _lock = lock::lock(data_dir)?;
    let (store, start) = Store::open(policy(&config))?;
    if let Some(aside) = &start.set_aside {
        tracing::error!(
            kept_as = %aside.path.display(), reason = aside.reason,
            "telemetry database was unusable and is set aside; what it held and the hub lacks is lost, a new one is begun"
        );
    }
    let mut tasks = Tasks::new();
    let asked = CancellationToken::new();
    let signals = Signals::listen(asked.clone())?;
    tasks.essential("signals", Stage::Support, |stop| signals.run(stop));
    start_all(&mut tasks, &config, store, start)?;
    let confirmation = Confirmation::new(tasks.vitals(), data_dir.clone(), config.slot.confirm_after);
    tasks.essential("confirmation", Stage::Support, |stop| confirmation.run(stop));
    let watchdog = tasks.watchdog();
    tasks.essential("watchdog", Stage::Support, |stop| watchdog.run(stop));
    notify::ready();
    info!(gateway = config.gateway.name, version = env!("CARGO_PKG_VERSION"), "gateway runs");
    let ended = tokio::select! {
        () = asked.cancelled() => None,
        ended = tasks.ended() => Some(ended),
    };
    notify::stopping();
    let stopped = tasks.stop().await;
    if !stopped.overran.is_empty() {
        warn!(tasks = ?stopped.overran, "not everything stopped in time; what is on flash is complete all the same");
    }
    ended.map_or(Ok(()), |ended| Err(AppError::Ended(ended)))
}

/// Makes every channel and starts every task.
fn start_all(tasks: &mut Tasks, config: &Config, store: Store, mut start: Start) -> Result<(), AppError> {
    let beginning = Beginning { boot: start.boot, newest: start.floor, estimate: start.estimate };
    let (keeper, clock, correction) = ClockKeeper::new(&config.clock, beginning);
    tasks.essential("clock", Stage::Support, |stop| keeper.run(stop));

    let (inbound, inbound_in): InboundChannel = mpsc::channel(INBOUND_MAX);
    let (commands, commands_in) = mpsc::channel(COMMANDS_MAX);
    let (committed, committed_in): CommittedChannel = mpsc::channel(COMMITTED_MAX);
    let (checkpoints, checkpoints_in) = mpsc::channel(1);
    let handle = Handle { commands, newest: start.newest.clone(), epoch: start.epoch };
    let streams: Vec<(StreamId, config::Stream)> =
        config.streams.iter().map(|stream| (start.streams[&stream.name], stream.clone())).collect();

    let channels = store::Channels {
        inbound: inbound_in,
        commands: commands_in,
        checkpoints: checkpoints_in,
        committed,
        correction,
    };
    let (beat, store_clock) = (tasks.beat("store", STORE_BEAT), clock.clone());
    tasks.thread("store", Stage::Store, move |stop| store.run(channels, store_clock, &beat, &stop))?;

    let mut doors = start_doors(tasks, config, &streams, &handle, &inbound, &mut start, &clock)?;
    let (door, inside) = workloads::way_to_mqtt(config)?;
    let listener = start_listener(tasks, config, &streams, &handle, inbound, (&mut start, inside), &clock)?;
    let listener = listener.map(|(view, account, entrance)| {
        doors.push(view);
        (account, entrance)
    });
    let (link, link_handle) = Link::new(config);
    tasks.essential("link", Stage::Uplink, |stop| async move {
        link.run(stop).await;
        Ok::<(), std::convert::Infallible>(())
    });
    let (uplink, uplink_handle) =
        Uplink::new(uplink::Settings::of(config), handle.clone(), link_handle.clone());
    let recall = Recall::new(config, handle.clone(), link_handle.clone(), uplink_handle.busy.clone());
    tasks.essential("uplink", Stage::Uplink, |stop| uplink.run(stop));
    tasks.essential("recall", Stage::Uplink, |stop| recall.run(stop));
    let (owners, devices, device_views) = device::owners(&config.devices);
    workloads::start_devices(tasks, owners);
    let (kit, filed) = workloads::start_workloads(tasks, config, &door, &link_handle.client, &devices)?;
    let (control, host) = workloads::start_control(tasks, config, kit, filed, (&link_handle, &clock))?;
    let shown = control.shown.clone();
    let around = start.streams.get(neighbour::STREAM).map(|stream| neighbour::Neighbourhood {
        stream: *stream,
        look: Box::new(move || shown.borrow().looks()),
    });
    let (orders, orders_in) = mpsc::channel(ORDERS_MAX);
    let ways = (committed_in, orders_in, checkpoints);
    let pipeline =
        start_pipeline(tasks, config, (streams, around), (&handle, &clock), &door, &mut start, ways)?;

    let sources = Sources {
        name: config.gateway.name.clone(),
        started: clock::boottime(),
        clock,
        doors,
        listener,
        store: start.stats,
        pipeline,
        control,
        host,
        devices: device_views,
        link: link_handle.state.clone(),
        uplink: uplink_handle.status,
        has_door: config.broker.is_some() || !config.site.listeners.is_empty(),
        shut_doors: config
            .site
            .listeners
            .iter()
            .filter(|listener| config.site.shuts_out_everybody(listener))
            .map(|listener| listener.name.clone())
            .collect(),
        wants_link: config.lattice.mode != LatticeMode::Off,
    };
    let console = Console::bind(console::socket_path(&config.gateway.run_dir), sources, handle, orders)?;
    tasks.essential("console", Stage::Support, |stop| async move {
        console.run(stop).await;
        Ok::<(), std::convert::Infallible>(())
    });
    Ok(())
}

/// One door for each durability class in use.
fn start_doors(
    tasks: &mut Tasks,
    config: &Config,
    streams: &[(StreamId, config::Stream)],
    handle: &Handle,
    inbound: &mpsc::Sender<Inbound>,
    start: &mut Start,
    clock: &WallClock,
) -> Result<Vec<ingest::DoorView>, AppError> {
    let mut views = Vec::new();
    let Some(broker) = &config.broker else { return Ok(views) };
    for (door, name) in doors(config) {
        let durable = start.durable.remove(&door).expect("the store was opened with the same doors");
        let door_start = DoorStart { door, seen: start.seen.remove(&door).unwrap_or_default(), durable };
        let (door, view) =
            BrokerDoor::new(broker, streams, handle.clone(), inbound.clone(), door_start, clock.clone())?;
        views.push(view);
        tasks.essential(name, Stage::Source, |stop| door.run(stop));
    }
    Ok(views)
}

/// The door that clients come to, if any listener is configured.
fn start_listener(
    tasks: &mut Tasks,
    config: &Config,
    streams: &[(StreamId, config::Stream)],
    handle: &Handle,
    inbound: mpsc::Sender<Inbound>,
    (start, inside): (&mut Start, Option<Inside>),
    clock: &WallClock,
) -> Result<Option<(ingest::DoorView, Arc<listener::Account>, EntranceHandle)>, AppError> {
    if config.site.listeners.is_empty() {
        return Ok(None);
    }
    let (entrance, verifier, entrance_handle) = Entrance::new(&config.site);
    let (renewal, tls) = Renewal::new(&config.site.listeners);
    let durable = listener::doors()
        .map(|(door, _)| start.durable.remove(&door).expect("the store was opened with the same doors"));
    let begin = Beginnings {
        durable,
        sessions: std::mem::take(&mut start.sessions),
        last_session: start.last_session,
        retained: std::mem::take(&mut start.retained),
        tls,
        entrance: entrance_handle.clone(),
        inside,
    };
    let (door, view, account) =
        Listener::new(&config.site, streams, handle.clone(), inbound, begin, clock.clone())?;
    tasks.thread("listener", Stage::Source, move |stop| door.run(stop))?;
    tasks.essential("entrance", Stage::Source, |stop| entrance.run(stop));
    tasks.essential("renewal", Stage::Source, |stop| renewal.run(stop));
    tasks.thread("verifier", Stage::Support, move |_stop| verifier.run())?;
    Ok(Some((view, account, entrance_handle)))
}

fn start_pipeline(
    tasks: &mut Tasks,
    config: &Config,
    (streams, around): (Vec<(StreamId, config::Stream)>, Option<neighbour::Neighbourhood>),
    (handle, clock): (&Handle, &WallClock),
    door: &crate::workload::Door,
    start: &mut Start,
    (committed, orders, checkpoints): (mpsc::Receiver<Committed>, pipeline::Orders, CheckpointSender),
) -> Result<tokio::sync::watch::Receiver<crate::runtime::PipelineStats>, AppError> {
    let commands = workloads::start_commander(tasks, config, door);
    let setup = crate::runtime::Setup {
        streams,
        components: config.components.clone(),
        journal: config.journal.clone(),
        state: std::mem::take(&mut start.state),
        series: std::mem::take(&mut start.series),
        stream_names: std::mem::take(&mut start.stream_names),
        boots: std::mem::take(&mut start.boots),
        store: handle.clone(),
        compiler: std::env::current_exe().unwrap_or_else(|_| "/usr/bin/frond".into()),
        cache_dir: config.gateway.cache_dir.clone(),
        data_dir: config.gateway.data_dir.clone(),
        commands,
        clock: clock.clone(),
        around,
        position: start.stats.borrow().checkpoint_position,
        replay: start.replay,
    };
    let (pipeline, stats) = Pipeline::new(setup);
    let beat = tasks.beat("pipeline", PIPELINE_BEAT);
    tasks.thread("pipeline", Stage::Pipeline, move |stop| {
        pipeline.run((committed, orders), checkpoints, &beat, &stop)
    })?;
    Ok(stats)
}

/// The doors at the broker that the configured streams need, with the names of their tasks.
fn doors(config: &Config) -> Vec<(DoorId, &'static str)> {
    let names = [
        (Durability::Reading, "door-reading"),
        (Durability::Window, "door-window"),
        (Durability::None, "door-none"),
    ];
    names
        .into_iter()
        .filter(|(durability, _)| config.streams.iter().any(|stream| stream.durability == *durability))
        .map(|(durability, name)| (ingest::door_id(durability), name))
        .collect()
}

fn policy(config: &Config) -> Policy {
    let window = config.broker.as_ref().map_or(0, |broker| usize::from(broker.inflight_max));
    let durability = |door| {
        let classes = [Durability::Reading, Durability::Window, Durability::None];
        classes.into_iter().find(|class| ingest::door_id(*class) == door).expect("doors come from classes")
    };
    let broker = doors(config)
        .into_iter()
        .map(|(door, _)| (door, DoorSetup { durability: durability(door), window, peers: Peers::Broker }));
    let clients = listener::doors().into_iter().filter(|_| !config.site.listeners.is_empty());
    let clients = clients.map(|(door, durability)| {
        (door, DoorSetup { durability, window: listener::window(&config.site), peers: Peers::Clients })
    });
    let stream = |stream: &config::Stream| {
        let policy = StreamPolicy {
            full: stream.full,
            outbox_bytes_max: stream.caps.outbox_bytes_max,
            series_max: stream.caps.series_max,
        };
        (stream.name.clone(), policy)
    };
    let mut streams: BTreeMap<_, _> = config.streams.iter().map(stream).collect();
    let own =
        StreamPolicy { full: FullPolicy::DropOldest, outbox_bytes_max: None, series_max: OWN_SERIES_MAX };
    streams.entry(neighbour::STREAM.to_owned()).or_insert(own);
    Policy {
        data_dir: config.gateway.data_dir.clone(),
        journal: config.journal.clone(),
        outbox: config.outbox.clone(),
        retained_bytes_max: config.site.clients.retained_bytes_max,
        streams,
        doors: broker.chain(clients).collect(),
    }
}
