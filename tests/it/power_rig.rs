//! Power cuts, worked out on paper: from a record of what was done to files, every state that a power cut could leave.
//!
//! ```text
//!  tape:     write a │ mark 1 │ write b │ sync a │ write a │ mark 2 │ sync b │ write a
//!  windows:  [──────── 0 ───────────────)[────── 1 ──────────────────)[─── 2 ────────]
//! ```
//! A window lies between two moments at which something becomes durable: syncs of files and of the directory. Whatever an
//! earlier sync covers is in every image of the window. The rest is *pending*, and an image holds none of it, all of it, or
//! some of it: the page cache writes sectors back in any order, so each sector of 512 bytes may be as old as its last sync
//! or as new as its last write, whatever its neighbours are. A file's size, and creations, deletions and renames, wait in
//! the same way; creations and renames are durable with the next sync of their file, as on ext4, XFS and F2FS, deletions
//! only with one of their directory, which SQLite asks for with the first sync of a new log or journal, and seldom otherwise.
//!
//! All images of a window are of its last moment: every promise made in the window counts, which is the hardest case. Cuts
//! earlier in the window leave no states but these, with fewer promises.
//!
//! Not modelled: devices that lie about syncs, that wear out, or that damage sectors they were not writing.

mod disk;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use frond::platform::vfs::{self, Change, DirectorySync, Event, Tap};

use disk::{Disk, Random};

/// What a device writes whole or not at all.
pub const SECTOR: usize = 512;

/// One thing done to the files of a folder.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// A file was created, empty.
    Create { file: String },
    /// Bytes were written.
    Write { file: String, offset: usize, bytes: Vec<u8> },
    /// A file was cut or extended with zeros.
    Truncate { file: String, size: usize },
    /// A file was synced.
    Sync { file: String },
    /// A file was deleted.
    Delete { file: String },
    /// A file got another name, and replaced what had it.
    Rename { from: String, to: String },
    /// A folder was synced: its creations, deletions and renames are durable. The uppermost has no name.
    SyncFolder { folder: String },
    /// A promise was made: from here on it must be kept.
    Mark(u64),
}

/// What was done, in order, and to what.
#[derive(Debug, Clone, Default)]
pub struct Tape {
    /// Files that were there at the beginning, durable.
    pub base: BTreeMap<String, Vec<u8>>,
    /// What was done.
    pub ops: Vec<Op>,
}

/// Records what SQLite and frond do to the files of a folder and those below it.
pub struct Recorder {
    tape: Arc<Mutex<Tape>>,
    _installed: vfs::Installed,
}

/// How much of what is pending an image holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    /// None.
    Dropped,
    /// All.
    Applied,
    /// What was done up to a moment, its last operation torn.
    Stopped,
    /// Some operations whole, in any order.
    Reordered,
    /// Each sector on its own.
    Torn,
}

/// The files as a power cut could leave them.
#[derive(Debug, Clone)]
pub struct Image {
    /// Number of the window, from 0.
    pub window: usize,
    /// How much of what was pending it holds.
    pub variant: Variant,
    /// Every [`Op::Mark`] before the cut.
    pub promised: Vec<u64>,
    /// Names and contents.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// An image that the checker did not accept.
#[derive(Debug)]
pub struct Broken {
    /// Which image.
    pub image: Image,
    /// What the checker said.
    pub why: String,
}

/// Every image, lazily: per window the two plain ones and up to `per_window` random ones, duplicates left out.
pub fn crash_images(tape: &Tape, seed: u64, per_window: usize) -> impl Iterator<Item = Image> {
    let mut disk = Disk::new(&tape.base);
    let mut promised = Vec::new();
    let mut window = 0;
    let mut next = 0;
    let windows = std::iter::from_fn(move || {
        if next > tape.ops.len() {
            return None;
        }
        let mut boundary = None;
        while let Some(op) = tape.ops.get(next).filter(|_| boundary.is_none()) {
            match op {
                Op::Mark(promise) => promised.push(*promise),
                Op::Sync { .. } | Op::SyncFolder { .. } => boundary = Some(op),
                change => disk.change(next, change),
            }
            next += 1;
        }
        let random = (0..per_window).map(|n| {
            let variant = [Variant::Stopped, Variant::Torn, Variant::Reordered][n % 3];
            (variant, seed ^ ((window as u64) << 32) ^ n as u64)
        });
        let plain = [(Variant::Dropped, 0), (Variant::Applied, 0)];
        let mut images: Vec<Image> = Vec::new();
        for (variant, seed) in plain.into_iter().chain(random) {
            let files = disk.image(variant, Random(seed));
            if images.iter().all(|image| image.files != files) {
                images.push(Image { window, variant, promised: promised.clone(), files });
            }
        }
        match boundary {
            Some(Op::Sync { file }) => disk.sync(file),
            Some(Op::SyncFolder { folder }) => disk.sync_folder(folder),
            Some(_) => unreachable!("no boundary"),
            None => next += 1,
        }
        window += 1;
        Some(images)
    });
    windows.flatten()
}

/// Puts every image into a folder and lets `check` open it. Ends at the first image it does not accept, otherwise says how
/// many there were.
pub fn check_images(
    tape: &Tape,
    seed: u64,
    per_window: usize,
    mut check: impl FnMut(&Path, &Image) -> Result<(), String>,
) -> Result<usize, Box<Broken>> {
    let mut count = 0;
    for image in crash_images(tape, seed, per_window) {
        let folder = scratch();
        image.write_into(folder.path());
        if let Err(why) = check(folder.path(), &image) {
            return Err(Box::new(Broken { image, why }));
        }
        count += 1;
    }
    Ok(count)
}

/// A folder in memory where there is one: images need no device under them.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

// === impl Recorder ===

impl Recorder {
    /// Records from now on. Databases in `folder` must be opened afterwards, through the VFS.
    pub fn start(folder: &Path) -> Self {
        vfs::register().unwrap();
        let root = folder.canonicalize().unwrap();
        let files = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path());
        let base = files.map(|path| (name_in(&root, &path), fs::read(path).unwrap())).collect();
        let tape = Arc::new(Mutex::new(Tape { base, ops: Vec::new() }));
        let recorded = Arc::clone(&tape);
        let tap = Tap::recording({
            let root = root.clone();
            move |event| recorded.lock().unwrap().ops.extend(ops_of(&root, event))
        });
        Self { tape, _installed: vfs::install(&root, Arc::new(tap)) }
    }

    /// Notes that a promise has been made.
    pub fn mark(&self, promise: u64) {
        self.tape.lock().unwrap().ops.push(Op::Mark(promise));
    }

    /// What was recorded so far.
    pub fn tape(&self) -> Tape {
        self.tape.lock().unwrap().clone()
    }
}

fn name_in(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()
}

/// The folder that a name is in.
fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn ops_of(root: &Path, event: &Event<'_>) -> Vec<Op> {
    let file = name_in(root, event.path);
    match event.change {
        Change::Create => vec![Op::Create { file }],
        Change::Write { offset, bytes } => {
            vec![Op::Write { file, offset: offset as usize, bytes: bytes.to_vec() }]
        }
        Change::Truncate { size } => vec![Op::Truncate { file, size: size as usize }],
        Change::Sync { directory: DirectorySync::Omitted } => vec![Op::Sync { file }],
        Change::Sync { directory: DirectorySync::Done } => {
            let folder = folder_of(&file).to_owned();
            vec![Op::Sync { file }, Op::SyncFolder { folder }]
        }
        Change::Delete { directory: DirectorySync::Omitted } => vec![Op::Delete { file }],
        Change::Delete { directory: DirectorySync::Done } => {
            let folder = folder_of(&file).to_owned();
            vec![Op::Delete { file }, Op::SyncFolder { folder }]
        }
        Change::Rename { to } => vec![Op::Rename { from: file, to: name_in(root, to) }],
        Change::SyncFolder => vec![Op::SyncFolder { folder: file }],
    }
}

// === impl Image ===

impl Image {
    /// Writes the files into an empty folder. Folders below it are there if a file is in them.
    pub fn write_into(&self, folder: &Path) {
        for (name, bytes) in &self.files {
            let path = folder.join(PathBuf::from(name));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}
