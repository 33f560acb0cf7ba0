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
//! only with one of the directory, which SQLite asks for with the first sync of a new log or journal, and seldom otherwise.
//!
//! All images of a window are of its last moment: every promise made in the window counts, which is the hardest case. Cuts
//! earlier in the window leave no states but these, with fewer promises.
//!
//! Not modelled: devices that lie about syncs, that wear out, or that damage sectors they were not writing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use frond::platform::vfs::{self, Change, DirectorySync, Event, Tap};

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
    /// The folder was synced: its creations, deletions and renames are durable.
    SyncFolder,
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

/// Records what SQLite does to the files of a folder.
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
                Op::Sync { .. } | Op::SyncFolder => boundary = Some(op),
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
            Some(_) => disk.sync_folder(),
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
        let base = fs::read_dir(&root)
            .unwrap()
            .map(|entry| {
                (name_in(&root, &entry.as_ref().unwrap().path()), fs::read(entry.unwrap().path()).unwrap())
            })
            .collect();
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
        self.note(Op::Mark(promise));
    }

    /// Notes something that was not done through SQLite, such as a rename.
    pub fn note(&self, op: Op) {
        self.tape.lock().unwrap().ops.push(op);
    }

    /// What was recorded so far.
    pub fn tape(&self) -> Tape {
        self.tape.lock().unwrap().clone()
    }
}

fn name_in(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()
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
        Change::Sync { directory: DirectorySync::Done } => vec![Op::Sync { file }, Op::SyncFolder],
        Change::Delete { directory: DirectorySync::Omitted } => vec![Op::Delete { file }],
        Change::Delete { directory: DirectorySync::Done } => vec![Op::Delete { file }, Op::SyncFolder],
    }
}

// === impl Image ===

impl Image {
    /// Writes the files into an empty folder.
    pub fn write_into(&self, folder: &Path) {
        for (name, bytes) in &self.files {
            fs::write(folder.join(PathBuf::from(name)), bytes).unwrap();
        }
    }
}

/// Files, durable and pending.
struct Disk {
    inodes: Vec<Inode>,
    durable_names: BTreeMap<String, usize>,
    names: BTreeMap<String, usize>,
    pending_names: Vec<(usize, NameOp)>,
}

#[derive(Default)]
struct Inode {
    durable: Vec<u8>,
    /// With their place on the tape.
    pending: Vec<(usize, Edit)>,
}

/// A change of contents.
enum Edit {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { size: usize },
}

/// A change of the folder.
enum NameOp {
    Create { file: String, inode: usize },
    Delete { file: String },
    Rename { from: String, to: String, inode: usize },
}

// === impl Disk ===

impl Disk {
    fn new(base: &BTreeMap<String, Vec<u8>>) -> Self {
        let inodes =
            base.values().map(|bytes| Inode { durable: bytes.clone(), pending: Vec::new() }).collect();
        let names: BTreeMap<_, _> = base.keys().cloned().zip(0..).collect();
        Self { inodes, durable_names: names.clone(), names, pending_names: Vec::new() }
    }

    fn change(&mut self, at: usize, op: &Op) {
        match op {
            Op::Create { file } => {
                let inode = self.inodes.len();
                self.inodes.push(Inode::default());
                self.rename(at, NameOp::Create { file: file.clone(), inode });
            }
            Op::Delete { file } => self.rename(at, NameOp::Delete { file: file.clone() }),
            Op::Rename { from, to } => {
                let inode = self.names[from];
                self.rename(at, NameOp::Rename { from: from.clone(), to: to.clone(), inode });
            }
            Op::Write { file, offset, bytes } => {
                self.edit(at, file, Edit::Write { offset: *offset, bytes: bytes.clone() });
            }
            Op::Truncate { file, size } => self.edit(at, file, Edit::Truncate { size: *size }),
            Op::Sync { .. } | Op::SyncFolder | Op::Mark(_) => unreachable!("they change nothing"),
        }
    }

    fn edit(&mut self, at: usize, file: &str, edit: Edit) {
        self.inodes[self.names[file]].pending.push((at, edit));
    }

    fn rename(&mut self, at: usize, op: NameOp) {
        op.apply(&mut self.names);
        self.pending_names.push((at, op));
    }

    fn sync(&mut self, file: &str) {
        let synced = self.names[file];
        let inode = &mut self.inodes[synced];
        inode.durable = inode.contents(&Choice::Before(usize::MAX));
        inode.pending.clear();
        // The names of this file become durable, and with them what was done to the same names before.
        let mut names = BTreeSet::new();
        let mut durable = Vec::new();
        for (at, op) in self.pending_names.iter().rev() {
            if op.names_inode(synced) || op.names().any(|name| names.contains(name)) {
                names.extend(op.names());
                durable.push(*at);
            }
        }
        for (_, op) in self.pending_names.extract_if(.., |(at, _)| durable.contains(at)) {
            op.apply(&mut self.durable_names);
        }
    }

    fn sync_folder(&mut self) {
        self.pending_names.drain(..).for_each(|(_, op)| op.apply(&mut self.durable_names));
    }

    fn image(&self, variant: Variant, mut random: Random) -> BTreeMap<String, Vec<u8>> {
        let choice = self.choose(variant, &mut random);
        let names_before = match (&choice, self.pending_names.len()) {
            (Choice::Before(at) | Choice::Stopped { at, .. }, _) => *at,
            (_, 0) => 0,
            // Names change in their order, as a file system's journal has it; any number of them.
            (_, pending) => {
                let kept = random.below(pending + 1);
                self.pending_names.get(kept).map_or(usize::MAX, |(at, _)| *at)
            }
        };
        let mut names = self.durable_names.clone();
        let kept = self.pending_names.iter().filter(|(at, _)| *at < names_before);
        kept.for_each(|(_, op)| op.apply(&mut names));
        names
            .into_iter()
            .map(|(name, inode)| (name, self.inodes[inode].contents(&choice.for_inode(inode))))
            .collect()
    }

    fn choose(&self, variant: Variant, random: &mut Random) -> Choice {
        let edits = self.inodes.iter().flat_map(|inode| inode.pending.iter().map(|(at, _)| *at));
        let mut pending: Vec<usize> = edits.chain(self.pending_names.iter().map(|(at, _)| *at)).collect();
        match variant {
            Variant::Dropped => Choice::Before(0),
            Variant::Applied => Choice::Before(usize::MAX),
            Variant::Stopped if pending.is_empty() => Choice::Before(0),
            Variant::Stopped => {
                pending.sort_unstable();
                Choice::Stopped { at: pending[random.below(pending.len())], salt: random.next() }
            }
            Variant::Reordered => {
                let odds = 1 + random.below(3);
                Choice::Whole(pending.into_iter().filter(|_| random.below(4) < odds).collect())
            }
            Variant::Torn => Choice::Sectors { salt: random.next() },
        }
    }
}

// === impl NameOp ===

impl NameOp {
    fn names(&self) -> impl Iterator<Item = &str> {
        let (one, other) = match self {
            NameOp::Create { file, .. } | NameOp::Delete { file } => (file, None),
            NameOp::Rename { from, to, .. } => (from, Some(to)),
        };
        std::iter::once(one).chain(other).map(String::as_str)
    }

    fn names_inode(&self, wanted: usize) -> bool {
        match self {
            NameOp::Create { inode, .. } | NameOp::Rename { inode, .. } => *inode == wanted,
            NameOp::Delete { .. } => false,
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameOp::Create { file, inode } => _ = names.insert(file.clone(), *inode),
            NameOp::Delete { file } => _ = names.remove(file),
            NameOp::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

/// Which pending edits an image holds, by their place on the tape.
enum Choice {
    /// Those before this place.
    Before(usize),
    /// Those before this place, and some sectors of the one there.
    Stopped { at: usize, salt: u64 },
    /// For each sector, everything up to the last of these that touches it.
    Whole(BTreeSet<usize>),
    /// For each sector, everything up to one drawn for it.
    Sectors { salt: u64 },
}

impl Choice {
    /// The same choice with a salt of its own for each file.
    fn for_inode(&self, inode: usize) -> Choice {
        let salted = |salt: u64| Random(salt ^ (inode as u64) << 48).next();
        match self {
            Choice::Before(at) => Choice::Before(*at),
            Choice::Stopped { at, salt } => Choice::Stopped { at: *at, salt: salted(*salt) },
            Choice::Whole(kept) => Choice::Whole(kept.clone()),
            Choice::Sectors { salt } => Choice::Sectors { salt: salted(*salt) },
        }
    }

    /// How many of the edits that touch a sector, in order, its contents have seen. A cached sector is written back as it
    /// is at some moment, so it is always the first few.
    fn seen(&self, sector: usize, touching: &[usize]) -> usize {
        match self {
            Choice::Before(place) => touching.partition_point(|at| at < place),
            Choice::Stopped { at: place, salt } => {
                let torn_in = Random(salt ^ sector as u64).below(2);
                touching.partition_point(|at| at < place || (at == place && torn_in == 1))
            }
            Choice::Whole(kept) => {
                touching.iter().rposition(|at| kept.contains(at)).map_or(0, |last| last + 1)
            }
            Choice::Sectors { salt } => Random(salt ^ sector as u64).below(touching.len() + 1),
        }
    }
}

// === impl Inode ===

impl Inode {
    fn contents(&self, choice: &Choice) -> Vec<u8> {
        if self.pending.is_empty() {
            return self.durable.clone();
        }
        let sizes = self.sizes();
        let longest = *sizes.iter().max().expect("the durable size is among them");
        let mut touching: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, edit) in &self.pending {
            let (from, to) = edit.range(longest);
            (from / SECTOR..to.div_ceil(SECTOR))
                .for_each(|sector| touching.entry(sector).or_default().push(*at));
        }
        let mut bytes = self.durable.clone();
        bytes.resize(longest, 0);
        for (at, edit) in &self.pending {
            let (from, to) = edit.range(longest);
            for sector in from / SECTOR..to.div_ceil(SECTOR) {
                let place = touching[&sector].partition_point(|touch| touch < at);
                if place < choice.seen(sector, &touching[&sector]) {
                    edit.apply(&mut bytes, from.max(sector * SECTOR), to.min((sector + 1) * SECTOR));
                }
            }
        }
        // The size is one more thing that is written back at some moment.
        let places: Vec<usize> = self.pending.iter().map(|(at, _)| *at).collect();
        bytes.resize(sizes[choice.seen(usize::MAX, &places)], 0);
        bytes
    }

    /// The durable size and the one after each edit.
    fn sizes(&self) -> Vec<usize> {
        let mut sizes = vec![self.durable.len()];
        for (_, edit) in &self.pending {
            let before = sizes[sizes.len() - 1];
            sizes.push(match edit {
                Edit::Write { offset, bytes } => before.max(offset + bytes.len()),
                Edit::Truncate { size } => *size,
            });
        }
        sizes
    }
}

// === impl Edit ===

impl Edit {
    /// The bytes it changes, in a file that is never longer than `longest`.
    fn range(&self, longest: usize) -> (usize, usize) {
        match self {
            Edit::Write { offset, bytes } => (*offset, offset + bytes.len()),
            Edit::Truncate { size } => (*size, longest.max(*size)),
        }
    }

    /// Changes only `from..to`.
    fn apply(&self, file: &mut [u8], from: usize, to: usize) {
        match self {
            Edit::Write { offset, bytes } => {
                file[from..to].copy_from_slice(&bytes[from - offset..to - offset])
            }
            Edit::Truncate { .. } => file[from..to].fill(0),
        }
    }
}

/// SplitMix64: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
