//! The folder of artifacts, by what is in them.
//!
//! ```text
//! <data>/artifacts/<SHA-256>.wasm            an artifact
//! <data>/artifacts/<SHA-256 of REFERENCE>.ref   what a reference led to, JSON; several may name one artifact
//! <data>/artifacts/part, part.note           the one under way, and how much of it counts, JSON
//! ```
//! Owned by one thread. A name appears once everything behind it is on flash; what nothing refers to any more, and what a
//! power cut left half made, goes at the next start. Every reader gets an artifact by [`Store::check`], which reads all of
//! it: a flipped bit is found before it is run, and removes the artifact. What its references led to is still known then: the
//! same content is fetched again, and another only once somebody wishes it ([`Store::give_up`]).

mod part;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::platform::{fault, files};
use crate::runtime::{Digest, WASM_BYTES_MAX};

use part::Part;
pub use part::{Plan, Progress};

/// Bytes read at a time while an artifact is checked.
const READ_BYTES: usize = 256 << 10;

/// Largest note; one holds a reference of 1 KiB and some numbers.
const NOTE_BYTES_MAX: u64 = 16 << 10;

/// References kept: several to each of the components that a gateway may have.
const REFERENCES_MAX: usize = 1_024;

/// Why an artifact is not there.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum StoreError {
    #[error("it has {bytes} bytes, more than the {WASM_BYTES_MAX} a component may have")]
    TooLarge { bytes: u64 },
    #[error(
        "the artifacts in use leave no room for {bytes} bytes more, of {bytes_max}; stop a component, or raise the bound"
    )]
    Full { bytes: u64, bytes_max: u64 },
    #[error("{REFERENCES_MAX} references are kept, and all of them are in use")]
    TooMany,
    #[error("it has another content than was announced: SHA-256 {found}, not {announced}")]
    Other { announced: Digest, found: Digest },
    #[error("it ended after {found} bytes, of {announced}")]
    Length { announced: u64, found: u64 },
    #[error("what was kept of it is damaged and was thrown away: SHA-256 {found}, not {kept}")]
    Damaged { kept: Digest, found: Digest },
    #[error(
        "what was kept of it, SHA-256 {}, was damaged, and its source has another content now, {}; put the component again \
         with this reference (frond component put) to take that",
        kept.short(), found.short()
    )]
    Changed { kept: Digest, found: Digest },
    #[error("nothing is under way")]
    Idle,
    #[error("cannot use {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// The folder.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    bytes_max: u64,
    kept: BTreeMap<String, Kept>,
    /// References that another content was found for than the one that was damaged.
    changed: BTreeSet<String>,
    part: Option<Part>,
}

/// What a reference led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The reference.
    pub reference: String,
    /// Of its content.
    pub digest: Digest,
    /// Of its content.
    pub bytes: u64,
    /// The signature that came with it.
    pub signature: Option<String>,
    /// Counts up with every artifact kept: the lowest was kept first.
    pub serial: u64,
}

// === impl Store ===

impl Store {
    /// The folder below `data_dir`, tidied up. It is made when it is not there.
    pub fn open(data_dir: &Path, bytes_max: u64) -> Result<Store, StoreError> {
        let dir = data_dir.join("artifacts");
        files::make_folder(&dir).map_err(io_at(&dir))?;
        let mut store = Store { dir, bytes_max, kept: BTreeMap::new(), changed: BTreeSet::new(), part: None };
        store.read()?;
        store.tidy()?;
        Ok(store)
    }

    /// What a reference led to, if that is kept.
    pub fn find(&self, reference: &str) -> Option<&Kept> {
        self.kept.get(reference).filter(|kept| self.is_here(kept))
    }

    /// Everything kept, by reference.
    pub fn all(&self) -> impl Iterator<Item = &Kept> {
        self.kept.values()
    }

    /// The file of an artifact, all of which was read and found as it was kept. One that is damaged is removed.
    pub fn check(&mut self, digest: &Digest) -> Result<PathBuf, StoreError> {
        let path = self.path(digest);
        let found = sum(&path).map_err(|source| StoreError::Io { path: path.clone(), source })?;
        if found == *digest {
            return Ok(path);
        }
        // Its notes stay: what they mean is not damaged.
        remove(&path)?;
        fault::point("artifact.removed");
        sync_dir(&self.dir)?;
        Err(StoreError::Damaged { kept: digest.clone(), found })
    }

    /// Begins to fetch an artifact, or goes on where the last attempt at the same content stopped. What `needed` does not
    /// name makes room, oldest first. A reference whose artifact was damaged goes on meaning that.
    pub fn begin(&mut self, mut plan: Plan, needed: &BTreeSet<Digest>) -> Result<Progress, StoreError> {
        if plan.bytes > WASM_BYTES_MAX {
            return Err(StoreError::TooLarge { bytes: plan.bytes });
        }
        if let Some(kept) = self.kept.get(&plan.reference).filter(|kept| !self.is_here(kept)) {
            let found = plan.digest.get_or_insert_with(|| kept.digest.clone());
            if *found != kept.digest {
                self.changed.insert(plan.reference);
                return Err(StoreError::Changed { kept: kept.digest.clone(), found: found.clone() });
            }
        }
        self.make_room(plan.bytes, needed)?;
        if let Some(part) = self.part.as_ref().filter(|part| part.is_of(&plan)) {
            return Ok(part.progress());
        }
        let part = Part::begin(&self.dir, plan)?;
        Ok(self.part.insert(part).progress())
    }

    /// Takes the next piece. `mark` is what the fetcher wants back to go on after it.
    pub fn append(&mut self, piece: &[u8], mark: u64) -> Result<Progress, StoreError> {
        let part = self.part.as_mut().ok_or(StoreError::Idle)?;
        let appended = part.append(piece, mark);
        let progress = part.progress();
        if let Err(StoreError::Io { .. }) = appended {
            // How much of the piece is in the file is not known; what was synced before is.
            self.part = None;
        }
        appended.map(|()| progress)
    }

    /// All pieces are there: checks the whole and keeps it. What is not as announced is thrown away.
    pub fn finish(&mut self) -> Result<Kept, StoreError> {
        let finished = self.part.take().ok_or(StoreError::Idle)?.finish();
        let (plan, digest) = match finished {
            Ok(finished) => finished,
            Err(error) => {
                part::discard(&self.dir)?;
                return Err(error);
            }
        };
        self.adopt(&plan, digest)
    }

    /// What a reference led to is not kept under it any more.
    pub fn forget(&mut self, reference: &str) -> Result<(), StoreError> {
        let Some(kept) = self.kept.remove(reference) else { return Ok(()) };
        remove(&self.note(reference))?;
        // A note without its artifact would be of one that was damaged.
        sync_dir(&self.dir)?;
        if !self.kept.values().any(|other| other.digest == kept.digest) {
            remove(&self.path(&kept.digest))?;
        }
        Ok(())
    }

    /// A reference may mean another content from now on, if its artifact was damaged and another was found for it. Says
    /// whether that is so.
    pub fn give_up(&mut self, reference: &str) -> Result<bool, StoreError> {
        if !self.changed.remove(reference) || self.find(reference).is_some() {
            return Ok(false);
        }
        self.forget(reference)?;
        Ok(true)
    }

    /// Removes what is beyond the bound, oldest first, but nothing that `needed` names: for a bound that was made smaller.
    pub fn sweep(&mut self, needed: &BTreeSet<Digest>) -> Result<(), StoreError> {
        match self.make_room(0, needed) {
            Err(StoreError::Full { .. } | StoreError::TooMany) => {
                tracing::warn!(
                    bytes = self.bytes(),
                    bytes_max = self.bytes_max,
                    "the artifacts in use are beyond their bound"
                );
                Ok(())
            }
            done => done,
        }
    }

    /// Bytes that are there of the artifact under way.
    pub fn under_way(&self) -> u64 {
        self.part.as_ref().map_or(0, |part| part.progress().bytes)
    }

    /// What these references led to.
    pub fn digests(&self, references: &BTreeSet<String>) -> BTreeSet<Digest> {
        references
            .iter()
            .filter_map(|reference| self.kept.get(reference))
            .map(|kept| kept.digest.clone())
            .collect()
    }

    /// Bytes of all artifacts.
    pub fn bytes(&self) -> u64 {
        let here = self.kept.values().filter(|kept| self.is_here(kept));
        let each: BTreeMap<&Digest, u64> = here.map(|kept| (&kept.digest, kept.bytes)).collect();
        each.values().sum()
    }

    /// Whether what a reference led to is there; if not, it was damaged.
    fn is_here(&self, kept: &Kept) -> bool {
        self.path(&kept.digest).exists()
    }

    /// Gives the part its names: first that of its content, then that of its reference.
    fn adopt(&mut self, plan: &Plan, digest: Digest) -> Result<Kept, StoreError> {
        let path = self.path(&digest);
        files::rename(&part::path(&self.dir), &path).map_err(io_at(&path))?;
        sync_dir(&self.dir)?;
        fault::point("artifact.named");
        let serial = self.kept.values().map(|kept| kept.serial).max().unwrap_or(0) + 1;
        let kept = Kept {
            reference: plan.reference.clone(),
            digest,
            bytes: plan.bytes,
            signature: plan.signature.clone(),
            serial,
        };
        let note = serde_json::to_vec(&kept).expect("text and numbers always serialize");
        write_whole(&self.note(&kept.reference), &note)?;
        fault::point("artifact.noted");
        remove(&part::note(&self.dir))?;
        if let Some(before) = self.kept.insert(kept.reference.clone(), kept.clone())
            && !self.kept.values().any(|other| other.digest == before.digest)
        {
            remove(&self.path(&before.digest))?;
        }
        Ok(kept)
    }

    fn make_room(&mut self, bytes: u64, needed: &BTreeSet<Digest>) -> Result<(), StoreError> {
        let fits =
            |store: &Store| store.bytes() + bytes <= store.bytes_max && store.kept.len() < REFERENCES_MAX;
        while !fits(self) {
            let spare = self.kept.values().filter(|kept| !needed.contains(&kept.digest));
            let Some(oldest) = spare.min_by_key(|kept| kept.serial).map(|kept| kept.reference.clone()) else {
                return Err(match self.kept.len() < REFERENCES_MAX {
                    true => StoreError::Full { bytes, bytes_max: self.bytes_max },
                    false => StoreError::TooMany,
                });
            };
            tracing::info!(reference = oldest, "removing an artifact that nothing needs, to make room");
            self.forget(&oldest)?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), StoreError> {
        for path in self.files()? {
            if path.extension().is_none_or(|extension| extension != "ref") {
                continue;
            }
            let kept = read_note::<Kept>(&path).filter(|kept| self.note(&kept.reference) == path);
            match kept {
                Some(kept) => drop(self.kept.insert(kept.reference.clone(), kept)),
                None => {
                    tracing::warn!(file = %path.display(), "a note of an artifact is damaged, removing it");
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Removes what nothing refers to.
    fn tidy(&self) -> Result<(), StoreError> {
        let mut known: BTreeSet<PathBuf> = self.kept.values().map(|kept| self.path(&kept.digest)).collect();
        known.extend(self.kept.keys().map(|reference| self.note(reference)));
        // Nobody goes on with one without the other.
        let under_way = [part::path(&self.dir), part::note(&self.dir)];
        if under_way.iter().all(|path| path.exists()) {
            known.extend(under_way);
        }
        for path in self.files()?.into_iter().filter(|path| !known.contains(path)) {
            tracing::debug!(file = %path.display(), "nothing refers to this file, removing it");
            remove(&path)?;
        }
        Ok(())
    }

    fn files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let entries = fs::read_dir(&self.dir).map_err(io_at(&self.dir))?;
        entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(io_at(&self.dir))
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{digest}.wasm"))
    }

    fn note(&self, reference: &str) -> PathBuf {
        self.dir.join(format!("{}.ref", Digest::of(reference.as_bytes())))
    }
}

fn sum(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; READ_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(Digest::finish(hasher)),
            read => hasher.update(&piece[..read]),
        }
    }
}

/// A file appears with all of this, or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    files::write_whole(&path.with_extension("new"), path, bytes).map_err(io_at(path))
}

fn read_note<T: for<'a> Deserialize<'a>>(path: &Path) -> Option<T> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(NOTE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn remove(path: &Path) -> Result<(), StoreError> {
    files::remove(path).map_err(io_at(path))
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    files::sync_folder(dir).map_err(io_at(dir))
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError::Io { path: path.to_owned(), source }
}
