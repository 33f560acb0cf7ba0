//! Opens components on a thread of its own, one after the other: compiling takes seconds, and the pipeline goes on.
//!
//! The thread ends with the [`Opener`]; a compilation under way is not waited for, and its child process ends with the
//! thread.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use crate::config;
use crate::runtime::code::OpenError;
use crate::runtime::counters::Counters;
use crate::runtime::{Host, Processor};

/// Components that wait to be opened: every one there can be, and each once more.
const JOBS_MAX: usize = 128;

/// The thread, and what is on its way.
#[derive(Debug)]
pub(super) struct Opener {
    /// Ends calls that take too long, for as long as there are instances.
    _host: Arc<Host>,
    jobs: SyncSender<Job>,
    opened: Receiver<Opened>,
    under_way: Vec<String>,
}

/// A component that was opened, or could not be.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) name: String,
    pub(super) mark: Option<FileMark>,
    pub(super) outcome: Result<Processor, OpenError>,
}

/// Which file it was: another one differs in one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileMark {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

#[derive(Debug)]
struct Job {
    component: config::Component,
    counters: Arc<Counters>,
}

// === impl Opener ===

impl Opener {
    /// Starts the thread.
    pub(super) fn start(host: Arc<Host>, compiler: PathBuf, cache_dir: PathBuf) -> io::Result<Opener> {
        let (jobs, todo) = mpsc::sync_channel::<Job>(JOBS_MAX);
        let (done, opened) = mpsc::sync_channel(JOBS_MAX);
        let shared = host.clone();
        let work = move || {
            while let Ok(Job { component, counters }) = todo.recv() {
                let mark = FileMark::of(&component.path);
                let outcome = Processor::open_as(&shared, &component, &compiler, &cache_dir, counters);
                if done.send(Opened { name: component.name, mark, outcome }).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new().name("frond-open".into()).spawn(work)?;
        Ok(Opener { _host: host, jobs, opened, under_way: Vec::new() })
    }

    /// Has a component opened, unless it is being opened already.
    pub(super) fn open(&mut self, component: &config::Component, counters: Arc<Counters>) {
        if self.is_opening(&component.name) {
            return;
        }
        if self.jobs.try_send(Job { component: component.clone(), counters }).is_ok() {
            self.under_way.push(component.name.clone());
        }
    }

    /// Whether a component is being opened.
    pub(super) fn is_opening(&self, name: &str) -> bool {
        self.under_way.iter().any(|one| one == name)
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
        self.under_way.retain(|name| *name != opened.name);
        Some(opened)
    }
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
