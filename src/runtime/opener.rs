//! Opens components on a thread of its own, one after the other: compiling takes seconds, and the pipeline goes on.
//!
//! The thread also owns the [`Shelf`]: it puts deployed versions there before it opens them, and removes what is no longer
//! referred to. It ends with the [`Opener`]; a compilation under way is not waited for, and its child process ends with the
//! thread.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use crate::config;
use crate::runtime::artifact;
use crate::runtime::code::OpenError;
use crate::runtime::counters::Counters;
use crate::runtime::deployment::record::{Digest, Version};
use crate::runtime::deployment::shelf::{Shelf, ShelfError};
use crate::runtime::outcome::Restored;
use crate::runtime::processor::Part;
use crate::runtime::{Host, Processor};

/// What waits to be done: every component there can be may be opened once more, beside a version of it on trial and one in
/// the background; and files are swept.
const JOBS_MAX: usize = 256;

/// The thread, and what is on its way.
#[derive(Debug)]
pub(super) struct Opener {
    /// Ends calls that take too long, for as long as there are instances.
    _host: Arc<Host>,
    jobs: SyncSender<Job>,
    opened: Receiver<Opened>,
    under_way: Vec<(String, Role)>,
}

/// Where what it works with is.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// The program that compiles.
    pub(super) compiler: PathBuf,
    /// Compiled code.
    pub(super) cache_dir: PathBuf,
    /// Deployed versions.
    pub(super) shelf: Shelf,
}

/// What a component is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// To be at work.
    Lead,
    /// To be tried.
    Candidate,
    /// To be in the background while another version is on probation.
    Predecessor,
}

/// A component that was opened, or could not be.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) name: String,
    pub(super) role: Role,
    /// Which version was asked for; for a candidate that just came, what it turned out to be.
    pub(super) version: Version,
    /// What the configuration's file holds, if that was asked for and can be read.
    pub(super) configured: Option<Digest>,
    /// The configuration's file.
    pub(super) mark: Option<FileMark>,
    pub(super) outcome: Result<Processor, OpenError>,
}

/// Where the code of a candidate comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// It just came.
    Bytes(Vec<u8>),
    /// It is on the shelf.
    Shelf(Digest),
}

/// Which file it was: another one differs in one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileMark {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

#[derive(Debug)]
enum Job {
    Open { component: config::Component, role: Role, version: Version, counters: Arc<Counters> },
    Try { component: config::Component, source: Source, state: Option<Vec<u8>> },
    Sweep(BTreeSet<Digest>),
}

// === impl Opener ===

impl Opener {
    /// Starts the thread.
    pub(super) fn start(host: Arc<Host>, places: Places) -> io::Result<Opener> {
        let (jobs, todo) = mpsc::sync_channel::<Job>(JOBS_MAX);
        let (done, opened) = mpsc::sync_channel(JOBS_MAX);
        let shared = host.clone();
        let work = move || {
            while let Ok(job) = todo.recv() {
                let opened = match job {
                    Job::Open { component, role, version, counters } => {
                        places.open(&shared, &component, role, version, counters)
                    }
                    Job::Try { component, source, state } => {
                        places.try_out(&shared, &component, source, state)
                    }
                    Job::Sweep(keep) => {
                        places.shelf.sweep(&keep);
                        continue;
                    }
                };
                if done.send(opened).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new().name("frond-open".into()).spawn(work)?;
        Ok(Opener { _host: host, jobs, opened, under_way: Vec::new() })
    }

    /// Has a version of a component opened, unless that is being done already.
    pub(super) fn open(
        &mut self,
        component: &config::Component,
        role: Role,
        version: Version,
        counters: Arc<Counters>,
    ) {
        self.begin(
            &component.name,
            role,
            Job::Open { component: component.clone(), role, version, counters },
        );
    }

    /// Has a new version kept, opened, and given a state that it will have to take.
    pub(super) fn try_out(&mut self, component: &config::Component, source: Source, state: Option<Vec<u8>>) {
        let job = Job::Try { component: component.clone(), source, state };
        self.begin(&component.name, Role::Candidate, job);
    }

    /// Has every deployed version removed but these. Those of candidates under way are not known yet, so that it is for the
    /// caller to see that there are none.
    pub(super) fn sweep(&mut self, keep: BTreeSet<Digest>) {
        // With a full queue it is done the next time.
        let _ = self.jobs.try_send(Job::Sweep(keep));
    }

    fn begin(&mut self, name: &str, role: Role, job: Job) {
        if !self.is_opening(name, role) && self.jobs.try_send(job).is_ok() {
            self.under_way.push((name.to_owned(), role));
        }
    }

    /// Whether a component is being opened for this.
    pub(super) fn is_opening(&self, name: &str, role: Role) -> bool {
        self.under_way.iter().any(|(one, its)| one == name && *its == role)
    }

    /// Whether any candidate is being opened.
    pub(super) fn is_trying(&self) -> bool {
        self.under_way.iter().any(|(_, role)| *role == Role::Candidate)
    }

    /// The next that was opened, if there is one by then.
    pub(super) fn next(&mut self, deadline: Instant) -> Option<Opened> {
        if self.under_way.is_empty() {
            return None;
        }
        let patience = deadline.saturating_duration_since(Instant::now());
        let opened = if patience == Duration::ZERO {
            self.opened.try_recv().ok()
        } else {
            self.opened.recv_timeout(patience).ok()
        }?;
        self.under_way.retain(|(name, role)| (name, *role) != (&opened.name, opened.role));
        Some(opened)
    }
}

// === impl Places ===

impl Places {
    fn open(
        &self,
        host: &Host,
        component: &config::Component,
        role: Role,
        version: Version,
        counters: Arc<Counters>,
    ) -> Opened {
        let mark = FileMark::of(&component.path);
        let configured = if version.is_none() { self.digest(&component.path) } else { None };
        let outcome = self.load(host, component, version.as_ref(), counters);
        Opened { name: component.name.clone(), role, version, configured, mark, outcome }
    }

    fn try_out(
        &self,
        host: &Host,
        component: &config::Component,
        source: Source,
        state: Option<Vec<u8>>,
    ) -> Opened {
        let kept = match source {
            Source::Bytes(bytes) => self.shelf.put(&bytes),
            Source::Shelf(digest) => Ok(digest),
        };
        let (version, outcome) = match kept {
            Ok(digest) => (Some(digest.clone()), self.candidate(host, component, &digest, state)),
            Err(source) => (None, Err(unkept(component, source))),
        };
        let (name, mark) = (component.name.clone(), FileMark::of(&component.path));
        Opened { name, role: Role::Candidate, version, configured: None, mark, outcome }
    }

    /// Whether it takes the state is found out here, where it holds nobody up.
    fn candidate(
        &self,
        host: &Host,
        component: &config::Component,
        digest: &Digest,
        state: Option<Vec<u8>>,
    ) -> Result<Processor, OpenError> {
        let title = format!("{} (on trial)", component.name);
        let titled = config::Component { name: title.clone(), ..component.clone() };
        let mut processor = self.load(host, &titled, Some(digest), Arc::default())?;
        processor.play(Part::Trial, &title, processor.counters().clone());
        match processor.begin_with(state) {
            Restored::Taken => Ok(processor),
            Restored::SetAside(reason) => Err(OpenError::State { component: component.name.clone(), reason }),
        }
    }

    fn load(
        &self,
        host: &Host,
        component: &config::Component,
        version: Option<&Digest>,
        counters: Arc<Counters>,
    ) -> Result<Processor, OpenError> {
        let path = version.map_or_else(|| component.path.clone(), |digest| self.shelf.path(digest));
        let component = config::Component { path, ..component.clone() };
        Processor::open_as(host, &component, version, &self.compiler, &self.cache_dir, counters)
    }

    /// What a file holds, if it can be read.
    pub(super) fn digest(&self, path: &Path) -> Option<Digest> {
        Digest::parse(&artifact::digest(path).ok()?)
    }
}

fn unkept(component: &config::Component, source: ShelfError) -> OpenError {
    OpenError::Shelf { component: component.name.clone(), source }
}

// === impl FileMark ===

impl FileMark {
    /// Of the file that is there now; `None` when there is none.
    pub(crate) fn of(path: &Path) -> Option<FileMark> {
        let file = fs::metadata(path).ok()?;
        let modified = (file.mtime(), file.mtime_nsec());
        Some(FileMark { inode: file.ino(), bytes: file.len(), modified })
    }
}
