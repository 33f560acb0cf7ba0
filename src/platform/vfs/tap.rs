//! A tap: what a test puts between SQLite and its files to see every change, and to make some of them fail. It sees what
//! [`crate::platform::files`] does, too.
//!
//! A tap belongs to a path prefix, so that tests that run side by side do not meet. It is looked up when a file is opened:
//! install it before the database is opened. Taps run inside SQLite, on the thread that uses the database; a panic in one
//! aborts the process, because it must not unwind through C.

use std::ffi::{OsStr, c_int};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use libsqlite3_sys as ffi;

/// [`Fault::times`] of a fault that stays until it is disarmed.
pub const LASTING: u64 = u64::MAX;

/// Something SQLite asks of a file, that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Open or create a file.
    Open,
    /// Read. Not for what is memory-mapped.
    Read,
    /// Write.
    Write,
    /// Cut or extend.
    Truncate,
    /// Wait until the device has it.
    Sync,
    /// Delete.
    Delete,
}

/// How a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No space left on the device. A sync can say so too, where the file system allocates late.
    Full,
    /// The first half is written, then there is no space left. For other steps the same as [`Failure::Full`].
    Short,
    /// The device does not answer as it should.
    Io,
    /// The file system has become read-only.
    ReadOnly,
}

/// Which steps fail, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Steps of these kinds are counted together.
    pub steps: &'static [Step],
    /// How many of them still succeed.
    pub after: u64,
    /// How many then fail; [`LASTING`] for all of them.
    pub times: u64,
    /// How.
    pub failure: Failure,
}

/// A change that has just succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Which file, as SQLite names it: absolute, without symbolic links. Files of others are as whoever changed them said.
    pub path: &'a Path,
    /// What happened to it.
    pub change: Change<'a>,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// It was not there and was created, empty.
    Create,
    /// Bytes were written.
    Write {
        /// Where the first of them is.
        offset: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// It was cut or extended.
    Truncate {
        /// Its new size.
        size: u64,
    },
    /// Everything written to it so far is on the device.
    Sync {
        /// Whether its directory was synced too, as it is with the first sync of a new log or journal.
        directory: DirectorySync,
    },
    /// It was deleted.
    Delete {
        /// Whether its directory was synced behind it.
        directory: DirectorySync,
    },
    /// It has another name, and replaced what had that. Not SQLite's doing.
    Rename {
        /// Its name now.
        to: &'a Path,
    },
    /// It is a folder, and what was done to names in it is on the device. Not SQLite's doing.
    SyncFolder,
}

/// Whether the names in a file's directory are on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectorySync {
    /// They are.
    Done,
    /// They will be some time.
    Omitted,
}

type Record = Box<dyn Fn(&Event<'_>) + Send + Sync>;

/// Sees and fails what happens to the files of a database.
pub struct Tap {
    record: Option<Record>,
    armed: Mutex<Option<Fault>>,
    met: AtomicU64,
    failed: AtomicU64,
}

/// Keeps a tap in place; it is taken away when this is dropped. Files that are open keep it until they are closed.
#[derive(Debug)]
pub struct Installed {
    id: usize,
}

/// A tap and the file it is asked about.
#[derive(Debug)]
pub(super) struct Tapped {
    pub(super) tap: Arc<Tap>,
    pub(super) path: PathBuf,
}

struct Entry {
    id: usize,
    prefix: PathBuf,
    tap: Arc<Tap>,
}

/// How many taps there are: files are opened without a lock while it is 0.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static TAPS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// Puts `tap` before every file whose path begins with `prefix`: a directory, or a database with its log and journals.
pub fn install(prefix: &Path, tap: Arc<Tap>) -> Installed {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut taps = TAPS.lock().unwrap_or_else(PoisonError::into_inner);
    taps.push(Entry { id, prefix: canonical(prefix), tap });
    COUNT.store(taps.len(), Ordering::Release);
    Installed { id }
}

/// The tap for a path that SQLite has made canonical; the newest if there are several.
pub(super) fn find(path: &[u8]) -> Option<Tapped> {
    if COUNT.load(Ordering::Acquire) == 0 {
        return None;
    }
    let taps = TAPS.lock().unwrap_or_else(PoisonError::into_inner);
    let entry = taps.iter().rev().find(|entry| path.starts_with(entry.prefix.as_os_str().as_bytes()))?;
    Some(Tapped { tap: Arc::clone(&entry.tap), path: PathBuf::from(OsStr::from_bytes(path)) })
}

/// Tells the tap of a path, if there is one, of a change that was not SQLite's.
pub(in crate::platform) fn tell(path: &Path, change: Change<'_>) {
    if let Some(Tapped { tap, path }) = find(path.as_os_str().as_bytes()) {
        tap.record(&path, change);
    }
}

/// The path as SQLite will name it, also while the file is not there yet.
pub(super) fn canonical(path: &Path) -> PathBuf {
    if let Ok(whole) = path.canonicalize() {
        return whole;
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (parent.canonicalize(), path.file_name()) {
        (Ok(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

// === impl Step ===

impl Step {
    /// Steps that change something on the device.
    pub const CHANGES: &'static [Step] = &[Step::Write, Step::Truncate, Step::Sync, Step::Delete];
}

// === impl Failure ===

impl Failure {
    /// SQLite's code for a step that fails so: the one that its unix VFS would give.
    pub(super) fn code(self, step: Step) -> c_int {
        match (step, self) {
            (Step::Open, _) => ffi::SQLITE_CANTOPEN,
            (Step::Read, _) => ffi::SQLITE_IOERR_READ,
            (Step::Delete, _) => ffi::SQLITE_IOERR_DELETE,
            (_, Failure::Full | Failure::Short) => ffi::SQLITE_FULL,
            (_, Failure::ReadOnly) => ffi::SQLITE_READONLY,
            (Step::Write, Failure::Io) => ffi::SQLITE_IOERR_WRITE,
            (Step::Truncate, Failure::Io) => ffi::SQLITE_IOERR_TRUNCATE,
            (Step::Sync, Failure::Io) => ffi::SQLITE_IOERR_FSYNC,
        }
    }
}

// === impl Fault ===

impl Fault {
    /// The `n`-th step of a kind fails, from 0, and no other.
    pub fn once(steps: &'static [Step], n: u64, failure: Failure) -> Self {
        Self { steps, after: n, times: 1, failure }
    }

    /// No write succeeds any more.
    pub fn disk_full() -> Self {
        Self { steps: &[Step::Write], after: 0, times: LASTING, failure: Failure::Full }
    }

    /// No change succeeds any more.
    pub fn read_only() -> Self {
        Self {
            steps: &[Step::Write, Step::Truncate, Step::Delete],
            after: 0,
            times: LASTING,
            failure: Failure::ReadOnly,
        }
    }
}

// === impl Tap ===

impl Tap {
    /// A tap that only fails what it is told to fail.
    pub fn new() -> Self {
        Self { record: None, armed: Mutex::new(None), met: AtomicU64::new(0), failed: AtomicU64::new(0) }
    }

    /// A tap that also hands every change that succeeded to `record`, in order.
    pub fn recording(record: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        Self { record: Some(Box::new(record)), ..Self::new() }
    }

    /// Makes steps fail from now on; replaces what was armed before, and begins to count.
    pub fn arm(&self, fault: Fault) {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        self.met.store(0, Ordering::Relaxed);
        self.failed.store(0, Ordering::Relaxed);
        *armed = Some(fault);
    }

    /// Everything succeeds again. The counts stay.
    pub fn disarm(&self) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Steps of the armed kinds since they were armed, failed ones included: how far `after` can usefully go.
    pub fn met(&self) -> u64 {
        self.met.load(Ordering::Relaxed)
    }

    /// Steps made to fail since the fault was armed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Asks whether this step shall fail.
    pub(super) fn meet(&self, step: Step) -> Option<Failure> {
        let armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = armed.as_ref().filter(|fault| fault.steps.contains(&step))?;
        let nth = self.met.fetch_add(1, Ordering::Relaxed);
        let fails = nth >= fault.after && nth - fault.after < fault.times;
        if fails {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        fails.then_some(fault.failure)
    }

    pub(super) fn record(&self, path: &Path, change: Change<'_>) {
        if let Some(record) = &self.record {
            record(&Event { path, change });
        }
    }
}

impl Default for Tap {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("armed", &self.armed).field("met", &self.met).finish_non_exhaustive()
    }
}

// === impl Installed ===

impl Drop for Installed {
    fn drop(&mut self) {
        let mut taps = TAPS.lock().unwrap_or_else(PoisonError::into_inner);
        taps.retain(|entry| entry.id != self.id);
        COUNT.store(taps.len(), Ordering::Release);
    }
}
