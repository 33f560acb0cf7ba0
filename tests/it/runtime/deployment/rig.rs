//! A pipeline between a journal and a store that are the test's own: what is journalled is fed group by group, every
//! checkpoint is kept with the files that were there, and a crash is a start from one of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use frond::block::{self, Rows, SeriesEntry};
use frond::config::{self, Config};
use frond::journal::{Checkpoint, Committed};
use frond::platform::clock::{Beginning, ClockKeeper, WallClock};
use frond::runtime::{
    Answer, Artifact, ComponentStats, DeploymentStats, Inheritance, Order, Pipeline, PipelineStats, Setup,
    Stage, command,
};
use frond::sample::{
    BootId, DoorId, Message, Nanos, Reading, SeriesId, SessionId, StreamId, Timeline, Value,
};
use frond::store::{Command, Handle, Known};
use frond::supervise::Tasks;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::runtime::{compiler, guest, shared_cache};

/// A fact that has not come about within this time will not.
const FACT_MAX: Duration = Duration::from_secs(60);
const STREAM: StreamId = StreamId(1);
pub const SERIES: SeriesId = SeriesId(1);
/// The reading that a guest replaces by the number of batches in its state.
pub const COUNT: f64 = -1.0;
/// The reading on which `successor` does what its option says.
pub const TRIGGER: f64 = 777.0;

/// The files of a folder.
type Files = BTreeMap<String, Vec<u8>>;

/// What outlives a crash of the gateway: its folders, its journal, its names.
pub struct Site {
    pub folder: TempDir,
    pub config: Config,
    /// The store takes its time with checkpoints that are not urgent, until it is urged.
    pub is_slow: bool,
    /// Every group that was committed; the position is one more than the index.
    journal: Vec<Vec<Reading>>,
    names: Arc<Mutex<Vec<String>>>,
}

/// A checkpoint that is on flash, and the deployed versions that were there when it came to be.
#[derive(Clone)]
pub struct Kept {
    pub checkpoint: Checkpoint,
    pub shelf: Files,
}

/// A gateway at work.
pub struct Life {
    groups: mpsc::Sender<Committed>,
    orders: mpsc::Sender<(Order, oneshot::Sender<Answer>)>,
    stats: watch::Receiver<PipelineStats>,
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
    kept: Arc<Mutex<Vec<Kept>>>,
    /// Commands that have left the pipeline.
    pub given: mpsc::Receiver<frond::runtime::Command>,
    runtime: tokio::runtime::Runtime,
    fed: u64,
    /// Groups up to this position are of an earlier life.
    replay: u64,
    /// When the last group was committed.
    pub since: Option<Instant>,
}

/// The bytes of a guest.
pub fn wasm(name: &str) -> Vec<u8> {
    fs::read(guest(name)).unwrap()
}

/// The same code under another digest: a section of its own that says nothing.
pub fn relabelled(name: &str) -> Vec<u8> {
    let mut bytes = wasm(name);
    bytes.extend(b"\0\x04\x03new");
    bytes
}

impl Site {
    /// With one component from a copy of this guest, and these keys and options.
    pub fn new(guest: &str, keys: &str, options: &str) -> Site {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("guest.wasm"), wasm(guest)).unwrap();
        let config = configuration(&folder, keys, options);
        Site { folder, config, is_slow: false, journal: Vec::new(), names: Arc::default() }
    }

    pub fn configured_file(&self) -> PathBuf {
        self.folder.path().join("guest.wasm")
    }

    fn shelf(&self) -> PathBuf {
        self.folder.path().join("data/components")
    }

    /// The deployed versions that are there.
    pub fn files(&self) -> Files {
        files(&self.shelf())
    }

    /// Whether the store has given a series of this name a number.
    pub fn has_series(&self, name: &str) -> bool {
        self.names.lock().unwrap().iter().any(|one| one == name)
    }

    /// Commits readings as one group.
    pub fn journal(&mut self, values: &[f64]) {
        let first = self.journal.iter().map(Vec::len).sum::<usize>();
        let time = |n: usize| i64::try_from(first + n).unwrap() * 100_000_000;
        let reading = |(n, value): (usize, &f64)| Reading {
            series: SERIES,
            time: time(n),
            value: Value::Float(*value),
        };
        self.journal.push(values.iter().enumerate().map(reading).collect());
    }

    /// Times and values of everything that was committed.
    pub fn committed(&self) -> BTreeMap<Nanos, f64> {
        self.journal.iter().flatten().map(|reading| (reading.time, reading.value.as_f64())).collect()
    }

    /// Groups that were committed.
    pub fn groups(&self) -> u64 {
        self.journal.len() as u64
    }

    /// Starts a gateway from a checkpoint, or the first one.
    pub fn start(&self, from: Option<&Kept>) -> Life {
        fs::create_dir_all(self.folder.path().join("data")).unwrap();
        let _ = fs::remove_dir_all(self.shelf());
        for (name, bytes) in from.iter().flat_map(|kept| &kept.shelf) {
            fs::create_dir_all(self.shelf()).unwrap();
            fs::write(self.shelf().join(name), bytes).unwrap();
        }
        let (commands, mut commands_in) = mpsc::channel(4);
        let names = self.names.clone();
        let (urge, urged) = std::sync::mpsc::channel();
        let is_slow = self.is_slow;
        let store = thread::spawn(move || {
            while let Some(command) = commands_in.blocking_recv() {
                match command {
                    Command::Urge => urge.send(()).unwrap(),
                    command => answer(&names, command),
                }
            }
        });
        let (_newest, newest) = watch::channel(Default::default());
        let entry = SeriesEntry { name: "a".into(), unit: String::new(), labels: BTreeMap::new() };
        let position = from.map_or(0, |kept| kept.checkpoint.pos);
        let replay = self.groups();
        let (sender, given, _account) = command::channel();
        let setup = Setup {
            streams: vec![(STREAM, self.config.streams[0].clone())],
            components: self.config.components.clone(),
            journal: self.config.journal.clone(),
            state: from.map_or(Vec::new(), |kept| kept.checkpoint.state.clone()),
            series: vec![(SERIES, Known { stream: STREAM, entry })],
            stream_names: BTreeMap::from([(STREAM, "s".to_owned())]),
            boots: BTreeMap::new(),
            store: Handle { commands, newest, epoch: 1 },
            compiler: compiler().to_owned(),
            cache_dir: shared_cache(),
            data_dir: self.folder.path().join("data"),
            commands: sender,
            clock: clock(),
            around: None,
            position,
            replay,
        };
        let (pipeline, stats) = Pipeline::new(setup);
        let (groups, groups_in) = mpsc::channel(4);
        let (orders, orders_in) = mpsc::channel(4);
        let (checkpoints, mut checkpoints_in) = mpsc::channel::<(Checkpoint, oneshot::Sender<()>)>(1);
        let stop = CancellationToken::new();
        let (stopped, beat) = (stop.clone(), Tasks::new().beat("pipeline", FACT_MAX));
        let run = thread::spawn(move || {
            pipeline.run((groups_in, orders_in), checkpoints, &beat, &stopped).unwrap();
        });
        let kept: Arc<Mutex<Vec<Kept>>> = Arc::default();
        let (keep, shelf) = (kept.clone(), self.shelf());
        let keeper = thread::spawn(move || {
            while let Some((checkpoint, reply)) = checkpoints_in.blocking_recv() {
                if is_slow && !checkpoint.urgent {
                    urged.recv_timeout(FACT_MAX).expect("somebody waits for it");
                }
                keep.lock().unwrap().push(Kept { checkpoint, shelf: files(&shelf) });
                let _ = reply.send(());
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let threads = vec![run, keeper, store];
        Life {
            groups,
            orders,
            stats,
            stop,
            threads,
            kept,
            given,
            runtime,
            fed: position,
            replay,
            since: None,
        }
    }
}

impl Life {
    /// Passes on what was committed and has not been passed on yet, and waits until it is worked on.
    pub fn catch_up(&mut self, site: &Site) {
        for pos in self.fed + 1..=site.groups() {
            let readings = site.journal[usize::try_from(pos).unwrap() - 1].clone();
            let message = Message {
                door: DoorId(0),
                ticket: pos,
                session: SessionId::NONE,
                pkid: 0,
                stream: STREAM,
                timeline: Timeline::Sensor,
                readings,
            };
            self.since = (pos > self.replay).then(Instant::now);
            let (messages, since) = (vec![message], self.since);
            let group = Committed { pos, messages, series: Vec::new(), hurry: false, since };
            self.groups.blocking_send(group).unwrap();
        }
        self.fed = site.groups();
        self.wait("everything worked on", |stats| stats.position >= site.groups());
    }

    /// Commits readings as one group, and passes it on.
    pub fn feed(&mut self, site: &mut Site, values: &[f64]) {
        site.journal(values);
        self.catch_up(site);
    }

    /// Gives an order.
    pub fn order(&self, order: Order) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.orders.blocking_send((order, reply)).unwrap();
        answer.blocking_recv().unwrap()
    }

    pub fn deploy(&self, wasm: Vec<u8>) -> Answer {
        self.deploy_with(wasm, Inheritance::Carried)
    }

    pub fn deploy_with(&self, wasm: Vec<u8>, state: Inheritance) -> Answer {
        let bytes = wasm.len() as u64;
        self.order(Order::Deploy { component: "guest".into(), state, bytes, artifact: Artifact(wasm) })
    }

    pub fn roll_back(&self) -> Answer {
        self.order(Order::Rollback { component: "guest".into() })
    }

    /// What a start would find after a power cut now.
    pub fn last(&self) -> Option<Kept> {
        self.kept.lock().unwrap().last().cloned()
    }

    /// The next command that leaves.
    pub fn command(&mut self) -> frond::runtime::Command {
        let left = self.runtime.block_on(async { tokio::time::timeout(FACT_MAX, self.given.recv()).await });
        left.expect("no command").expect("the pipeline runs")
    }

    /// Waits until the status satisfies.
    pub fn wait(&mut self, what: &str, satisfies: impl FnMut(&PipelineStats) -> bool) -> PipelineStats {
        let waited = self.runtime.block_on(async {
            tokio::time::timeout(FACT_MAX, self.stats.wait_for(satisfies))
                .await
                .map(|found| found.map(|s| s.clone()))
        });
        let seen = self.stats.borrow().clone();
        waited.unwrap_or_else(|_| panic!("not seen: {what}; {seen:#?}")).expect("the pipeline runs")
    }

    /// Waits until the component satisfies.
    pub fn until(&mut self, what: &str, satisfies: impl Fn(&ComponentStats) -> bool) -> ComponentStats {
        let guest = |stats: &PipelineStats| stats.components.get("guest").cloned();
        guest(&self.wait(what, |stats| guest(stats).is_some_and(|guest| satisfies(&guest)))).unwrap()
    }

    /// Waits until the deployment is there.
    pub fn until_stage(&mut self, stage: Stage) -> DeploymentStats {
        let here = |stats: &ComponentStats| stats.deployment.as_ref().is_some_and(|one| one.stage == stage);
        self.until(&format!("{stage:?}"), here).deployment.unwrap()
    }

    /// Waits until the deployment has ended.
    pub fn until_ended(&mut self) -> DeploymentStats {
        let ended = |stats: &ComponentStats| {
            stats.deployment.as_ref().is_some_and(|one| one.stage == Stage::Current && one.last.is_some())
        };
        self.until("the deployment's end", ended).deployment.unwrap()
    }

    /// Ends as a gateway does that is asked to; everything that was on flash, the last checkpoint included.
    pub fn stop(self) -> Vec<Kept> {
        let Life { groups, orders, stop, threads, kept, .. } = self;
        stop.cancel();
        drop((groups, orders));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        Arc::into_inner(kept).unwrap().into_inner().unwrap()
    }
}

/// What has left the gateway: times and values, in the order in which checkpoints made them true.
pub fn outputs(kept: &[Kept]) -> Vec<(Nanos, f64)> {
    let mut rows = Vec::new();
    for output in kept.iter().flat_map(|kept| &kept.checkpoint.outputs) {
        let envelope = block::decode_envelope(&output.body).unwrap();
        let Rows::Raw(readings) = envelope.rows else { panic!("the stream is not reduced") };
        rows.extend(readings.iter().map(|reading| (reading.time, reading.value.as_f64())));
    }
    rows
}

/// Every reading has left once; what was added to each, in their order, without those that were replaced by a count.
pub fn additions(site: &Site, rows: &[(Nanos, f64)]) -> Vec<f64> {
    let left: BTreeMap<Nanos, f64> = rows.iter().copied().collect();
    assert_eq!(left.len(), rows.len(), "a reading has left twice: {rows:?}");
    let committed = site.committed();
    assert!(left.keys().eq(committed.keys()), "{left:?} of {committed:?}");
    let counted = committed.iter().filter(|(_, value)| **value != COUNT);
    counted.map(|(time, value)| left[time] - value).collect()
}

/// The number that a guest has put in the place of the last reading.
pub fn counted(site: &Site, rows: &[(Nanos, f64)]) -> f64 {
    let (time, value) = site.committed().into_iter().next_back().unwrap();
    assert_eq!(value, COUNT);
    rows.iter().find(|row| row.0 == time).unwrap().1
}

/// A clock that is trusted at once.
fn clock() -> WallClock {
    let trust = config::Clock { trust: config::Trust::Always, synchronized_file: "/nowhere".into() };
    let beginning = Beginning { boot: BootId(1), newest: None, estimate: None };
    ClockKeeper::new(&trust, beginning).1
}

fn configuration(folder: &TempDir, keys: &str, options: &str) -> Config {
    let folder = folder.path().display();
    // Long, for a machine that is busy with other tests.
    let deadline = if keys.contains("deadline") { "" } else { "deadline = \"20s\"\n" };
    let probation = if keys.contains("probation") { "" } else { "probation = \"1s\"\n" };
    let text = format!(
        "[gateway]\nname = \"g\"\ndata_dir = \"{folder}/data\"\n[lattice]\nmode = \"off\"\n\
         [[stream]]\nname = \"s\"\ntopics = [\"t\"]\nreduce = \"none\"\ncomponent = \"guest\"\n\
         [[component]]\nname = \"guest\"\npath = \"{folder}/guest.wasm\"\ntrial_batches = 3\n{probation}{deadline}{keys}\n\
         config = {{ {options} }}\n"
    );
    config::parse(&text, "test").unwrap()
}

fn files(folder: &std::path::Path) -> Files {
    let Ok(entries) = fs::read_dir(folder) else { return Files::new() };
    let read = |entry: fs::DirEntry| {
        // It may be on its way to its name, or be swept.
        Some((entry.file_name().into_string().unwrap(), fs::read(entry.path()).ok()?))
    };
    entries.flatten().filter_map(read).collect()
}

fn answer(names: &Mutex<Vec<String>>, command: Command) {
    let number = |at: usize| SeriesId(u32::try_from(at).unwrap() + 2);
    let mut names = names.lock().unwrap();
    match command {
        Command::Intern { entry, reply, .. } => {
            let known = names.iter().position(|name| *name == entry.name);
            let at = known.unwrap_or_else(|| {
                names.push(entry.name);
                names.len() - 1
            });
            let _ = reply.send(Ok(number(at)));
        }
        Command::Find { name, reply, .. } => {
            let _ = reply.send(names.iter().position(|one| *one == name).map(number));
        }
        other => panic!("the pipeline does not ask {other:?}"),
    }
}
