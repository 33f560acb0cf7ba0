//! A disk as the page cache leaves it: what is durable, and what is pending, by file and name.

use std::collections::{BTreeMap, BTreeSet};

use super::{Op, SECTOR, Variant, folder_of};

/// Files, durable and pending.
pub struct Disk {
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
    pub fn new(base: &BTreeMap<String, Vec<u8>>) -> Self {
        let inodes =
            base.values().map(|bytes| Inode { durable: bytes.clone(), pending: Vec::new() }).collect();
        let names: BTreeMap<_, _> = base.keys().cloned().zip(0..).collect();
        Self { inodes, durable_names: names.clone(), names, pending_names: Vec::new() }
    }

    pub fn change(&mut self, at: usize, op: &Op) {
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
            Op::Sync { .. } | Op::SyncFolder { .. } | Op::Mark(_) => unreachable!("they change nothing"),
        }
    }

    fn edit(&mut self, at: usize, file: &str, edit: Edit) {
        self.inodes[self.names[file]].pending.push((at, edit));
    }

    fn rename(&mut self, at: usize, op: NameOp) {
        op.apply(&mut self.names);
        self.pending_names.push((at, op));
    }

    pub fn sync(&mut self, file: &str) {
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

    pub fn sync_folder(&mut self, folder: &str) {
        let is_in = |op: &NameOp| op.names().any(|name| folder_of(name) == folder);
        for (_, op) in self.pending_names.extract_if(.., |(_, op)| is_in(op)) {
            op.apply(&mut self.durable_names);
        }
    }

    pub fn image(&self, variant: Variant, mut random: Random) -> BTreeMap<String, Vec<u8>> {
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
pub struct Random(pub u64);

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
