//! Store and listener of a gateway in the test's own process, without what lies behind the journal: groups are taken and
//! forgotten, or made into checkpoints when a test wants it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use frond::config::{self, Config, FullPolicy};
use frond::ingest::DoorView;
use frond::ingest::listener::entrance::Entrance;
use frond::ingest::listener::tls::Renewal;
use frond::ingest::listener::{self, Account, Beginnings, Listener};
use frond::journal::Committed;
use frond::platform::clock::{Beginning, ClockKeeper};
use frond::sample::{Message, StreamId};
use frond::store::{Channels, DoorSetup, Handle, Peers, Policy, Store, StreamPolicy};
use frond::supervise::Tasks;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What has not come about within this time will not.
const PATIENCE: Duration = Duration::from_secs(60);

/// One stream with times of arrival, and quick commits.
pub const PLANT: &str = "[gateway]\nname = \"gw\"\n[lattice]\nmode = \"off\"\n\
    [journal]\ncommit_interval = \"50ms\"\n\
    [[stream]]\nname = \"plant\"\ntopics = [\"plant/#\"]\n";

/// The rig.
pub struct Rig {
    pub at: SocketAddr,
    pub view: DoorView,
    pub account: Arc<Account>,
    /// Every message that was committed, in order.
    pub committed: Arc<Mutex<Vec<Message>>>,
    listening: CancellationToken,
    storing: CancellationToken,
    threads: Vec<JoinHandle<()>>,
    _keeper: ClockKeeper,
}

/// A free port on loopback.
pub fn free_port() -> u16 {
    frond::platform::ports::free().expect("a free loopback port")
}

/// The store's policy of a configuration.
pub fn policy(config: &Config, folder: &Path) -> Policy {
    let stream = StreamPolicy { full: FullPolicy::DropOldest, outbox_bytes_max: None, series_max: 10_000 };
    let doors = listener::doors().map(|(door, durability)| {
        (door, DoorSetup { durability, window: listener::window(&config.site), peers: Peers::Clients })
    });
    Policy {
        data_dir: folder.to_owned(),
        journal: config.journal.clone(),
        outbox: config.outbox.clone(),
        retained_bytes_max: config.site.clients.retained_bytes_max,
        streams: config.streams.iter().map(|s| (s.name.clone(), stream.clone())).collect(),
        doors: BTreeMap::from(doors),
    }
}

impl Rig {
    /// Starts with [`PLANT`], and these lines behind it.
    pub fn start(folder: &Path, more: &str) -> Rig {
        Rig::start_with(folder, &format!("{PLANT}{more}"))
    }

    /// Starts with this configuration and a listener on a free port.
    pub fn start_with(folder: &Path, text: &str) -> Rig {
        let text = if text.contains("[[listener]]") {
            text.replace("PORT", &free_port().to_string())
        } else {
            format!("{text}[[listener]]\nname = \"test\"\nbind = \"127.0.0.1:{}\"\n", free_port())
        };
        let config = config::parse(&text, "the test").unwrap_or_else(|err| panic!("{err:?}"));
        let (store, mut start) = Store::open(policy(&config, folder)).unwrap();
        let (inbound, inbound_in) = mpsc::channel(256);
        let (commands, commands_in) = mpsc::channel(32);
        let (checkpoints, checkpoints_in) = mpsc::channel(1);
        let (groups, mut groups_out) = mpsc::channel::<Committed>(4);
        let trust = config::Clock { trust: config::Trust::Always, synchronized_file: "/nowhere".into() };
        let beginning = Beginning { boot: start.boot, newest: start.floor, estimate: start.estimate };
        let (keeper, clock, correction) = ClockKeeper::new(&trust, beginning);
        let channels = Channels {
            inbound: inbound_in,
            commands: commands_in,
            checkpoints: checkpoints_in,
            committed: groups,
            correction,
        };
        let (listening, storing) = (CancellationToken::new(), CancellationToken::new());
        let beat = Tasks::new().beat("store", Duration::from_secs(60));
        let mut threads = Vec::new();
        let (stopped, store_clock) = (storing.clone(), clock.clone());
        threads.push(std::thread::spawn(move || store.run(channels, store_clock, &beat, &stopped).unwrap()));
        let committed = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&committed);
        threads.push(std::thread::spawn(move || {
            // Held, so that the store does not think the pipeline gone.
            let _checkpoints = checkpoints;
            while let Some(group) = groups_out.blocking_recv() {
                taken.lock().unwrap().extend(group.messages);
            }
        }));
        let streams: Vec<(StreamId, config::Stream)> =
            config.streams.iter().map(|stream| (start.streams[&stream.name], stream.clone())).collect();
        let handle = Handle { commands, newest: start.newest.clone(), epoch: start.epoch };
        let (entrance, verifier, entrance_handle) = Entrance::new(&config.site);
        let (_renewal, tls) = Renewal::new(&config.site.listeners);
        let begin = Beginnings {
            durable: listener::doors().map(|(door, _)| start.durable.remove(&door).unwrap()),
            sessions: std::mem::take(&mut start.sessions),
            last_session: start.last_session,
            retained: std::mem::take(&mut start.retained),
            tls,
            entrance: entrance_handle,
            inside: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let door = {
            let _entered = runtime.enter();
            Listener::new(&config.site, &streams, handle, inbound, begin, clock)
        };
        let (door, view, account) = door.unwrap();
        let stop = listening.clone();
        threads.push(std::thread::spawn(move || door.run(stop).unwrap()));
        let stop = listening.clone();
        threads.push(std::thread::spawn(move || {
            runtime.block_on(entrance.run(stop)).unwrap();
        }));
        threads.push(std::thread::spawn(move || verifier.run().unwrap()));
        let at = config.site.listeners[0].bind;
        Rig { at, view, account, committed, listening, storing, threads, _keeper: keeper }
    }

    /// Waits for a fact.
    pub fn wait(&self, what: &str, fact: impl Fn(&Rig) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !fact(self) {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Values of everything committed, in order.
    pub fn values(&self) -> Vec<i64> {
        let committed = self.committed.lock().unwrap();
        let readings = committed.iter().flat_map(|message| &message.readings);
        readings.map(|reading| reading.value.as_f64() as i64).collect()
    }

    /// Stops in the order of the data.
    pub fn stop(self) {
        self.listening.cancel();
        let mut threads = self.threads;
        let late = threads.split_off(2);
        late.into_iter().for_each(|thread| thread.join().unwrap());
        self.storing.cancel();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
