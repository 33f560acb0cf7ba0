//! Compiled components on disk: a cache that may be deleted at any time.
//!
//! ```text
//! <cache>/components/<SHA-256 of the .wasm>-<compatibility>.cwasm          mapped into the process
//! <cache>/components/<SHA-256 of the .wasm>-<compatibility>.cwasm.sha256   its check sum
//! ```
//! A file appears whole or not at all: it is written under another name, synced and renamed, the check sum last. Without
//! a check sum that fits, a file is not loaded but made again. Nothing changes a file in place, and a file that is mapped
//! may be unlinked. The cache keeps the [`FILES_MAX`] newest components.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::runtime::Cause;
use crate::runtime::host::{compatibility, hex};

/// Components kept: several times what one gateway runs, so that going back to an older one needs no compiling. A typical
/// file is half a megabyte.
const FILES_MAX: usize = 32;

/// Largest `.wasm` taken. A JavaScript engine with its program is 12 MiB.
pub const WASM_BYTES_MAX: u64 = 32 << 20;

/// Largest compiled component loaded; code is a few times larger than its `.wasm`.
const CWASM_BYTES_MAX: u64 = 256 << 20;

/// Unfinished files older than this are nobody's any more: twelve times what a compilation may take.
const SCRATCH_AGE_MAX: Duration = Duration::from_secs(3600);

/// What went wrong with a component's files.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ArtifactError {
    /// The `.wasm` cannot be read.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The `.wasm` is larger than any component should be.
    #[error("{} has {bytes} bytes, more than the {WASM_BYTES_MAX} a component may have", path.display())]
    TooLarge { path: PathBuf, bytes: u64 },
    /// The cache's folder cannot be made or written to.
    #[error("cannot write to the component cache {}", path.display())]
    Cache { path: PathBuf, source: io::Error },
    /// Others could put code into the cache, which would run in this process.
    #[error("the component cache {} must be this user's and nobody else's to write to: chown it and chmod go-w", path.display())]
    Exposed { path: PathBuf },
    /// A file that was just made does not load.
    #[error("the compiled component {} does not load", path.display())]
    Load { path: PathBuf, source: Cause },
}

/// The folder.
#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
}

/// One component's place in it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    path: PathBuf,
    seal: PathBuf,
}

/// What the cache had.
pub(super) enum Found {
    /// A sound file, mapped.
    Component(Component),
    /// Nothing.
    Nothing,
    /// A file that must be made again, and why.
    Unsound(String),
}

/// SHA-256 of a `.wasm`, in hexadecimal digits.
pub(super) fn digest(path: &Path) -> Result<String, ArtifactError> {
    let read = |source| ArtifactError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(read)?;
    let bytes = file.metadata().map_err(read)?.len();
    if bytes > WASM_BYTES_MAX {
        return Err(ArtifactError::TooLarge { path: path.to_owned(), bytes });
    }
    let mut hasher = Sha256::new();
    io::copy(&mut io::Read::take(&mut file, WASM_BYTES_MAX + 1), &mut hasher).map_err(read)?;
    Ok(hex(&hasher.finalize()))
}

/// Puts compiled code into a folder under the names the cache would give it, with its check sum.
#[cfg(feature = "compile")]
pub(super) fn shelve(dir: &Path, engine: &Engine, wasm: &[u8], code: &[u8]) -> io::Result<()> {
    let cache = Cache { dir: dir.to_owned() };
    let entry = cache.entry(engine, &hex(&Sha256::digest(wasm)));
    fs::write(&entry.path, code)?;
    fs::write(&entry.seal, format!("{}\n", hex(&Sha256::digest(code))))
}

// === impl Cache ===

impl Cache {
    /// The folder `components` below `cache_dir`, made when it is not there.
    pub(super) fn open(cache_dir: &Path) -> Result<Cache, ArtifactError> {
        let dir = cache_dir.join("components");
        let made =
            fs::create_dir_all(cache_dir).and_then(|()| match DirBuilder::new().mode(0o700).create(&dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => exposed(&dir),
            });
        match made {
            Ok(false) => Ok(Cache { dir }),
            Ok(true) => Err(ArtifactError::Exposed { path: dir }),
            Err(source) => Err(ArtifactError::Cache { path: dir, source }),
        }
    }

    /// The place of the component with this digest.
    pub(super) fn entry(&self, engine: &Engine, digest: &str) -> Entry {
        let name = match compatibility(engine) {
            Some(compatibility) => format!("{digest}-{compatibility}.cwasm"),
            None => self.any(digest).unwrap_or_else(|| format!("{digest}-none.cwasm")),
        };
        Entry { path: self.dir.join(&name), seal: self.dir.join(name + ".sha256") }
    }

    /// A file made for this component by whichever compiler.
    fn any(&self, digest: &str) -> Option<String> {
        let mut names =
            fs::read_dir(&self.dir).ok()?.flatten().filter_map(|file| file.file_name().into_string().ok());
        names.find(|name| name.starts_with(digest) && name.ends_with(".cwasm"))
    }

    /// Loads what is there.
    pub(super) fn load(&self, engine: &Engine, entry: &Entry) -> Found {
        let sealed = match fs::read_to_string(&entry.seal) {
            Ok(seal) => seal,
            Err(_) if !entry.path.exists() => return Found::Nothing,
            Err(_) => return Found::Unsound("its check sum is missing".into()),
        };
        match check_sum(&entry.path) {
            Ok(sum) if sum == sealed.trim_end() => {}
            Ok(_) => return Found::Unsound("its check sum does not fit".into()),
            Err(error) => return Found::Unsound(error.to_string()),
        }
        match map(engine, &entry.path) {
            Ok(component) => Found::Component(component),
            Err(error) => Found::Unsound(error.to_string()),
        }
    }

    /// A name for a file in the making, used by nobody else: a gateway, and a `frond check` beside it, may compile the
    /// same component.
    pub(super) fn scratch(&self) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        self.dir.join(format!("{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Takes a file that the compiler made, and loads it.
    pub(super) fn adopt(
        &self,
        engine: &Engine,
        scratch: &Path,
        entry: &Entry,
    ) -> Result<Component, ArtifactError> {
        self.seal(scratch, entry)
            .map_err(|source| ArtifactError::Cache { path: self.dir.clone(), source })?;
        self.prune(entry);
        map(engine, &entry.path)
            .map_err(|error| ArtifactError::Load { path: entry.path.clone(), source: error.into() })
    }

    fn seal(&self, scratch: &Path, entry: &Entry) -> io::Result<()> {
        let sum = check_sum(scratch)?;
        File::open(scratch)?.sync_all()?;
        // An old check sum beside a new file would make the pair unsound; none at all is the same, sooner.
        remove(&entry.seal)?;
        fs::rename(scratch, &entry.path)?;
        let scratch = self.scratch();
        let mut seal = File::create(&scratch)?;
        writeln!(seal, "{sum}")?;
        seal.sync_all()?;
        fs::rename(&scratch, &entry.seal)?;
        File::open(&self.dir)?.sync_all()
    }

    /// Removes the oldest files beyond [`FILES_MAX`], and what earlier processes left unfinished. Whatever fails here is
    /// tried again the next time.
    fn prune(&self, newest: &Entry) {
        let Ok(files) = fs::read_dir(&self.dir) else { return };
        let mut compiled = Vec::new();
        for file in files.flatten() {
            let path = file.path();
            let Ok(modified) = file.metadata().and_then(|metadata| metadata.modified()) else { continue };
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("cwasm") if path != newest.path => compiled.push((modified, path)),
                Some("tmp") if modified.elapsed().is_ok_and(|age| age > SCRATCH_AGE_MAX) => {
                    drop(remove(&path))
                }
                _ => {}
            }
        }
        compiled.sort();
        for (_, path) in compiled.iter().rev().skip(FILES_MAX - 1) {
            let _ = remove(path);
            let _ = remove(&path.with_extension("cwasm.sha256"));
        }
    }
}

/// Whether anybody but this user may write to a folder.
fn exposed(dir: &Path) -> io::Result<bool> {
    let (folder, own) = (fs::metadata(dir)?, fs::metadata("/proc/self")?);
    Ok(folder.uid() != own.uid() || folder.mode() & 0o022 != 0)
}

/// Removes a file that may not be there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn check_sum(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    if file.metadata()?.len() > CWASM_BYTES_MAX {
        return Err(io::Error::other("it is larger than any compiled component"));
    }
    let mut hasher = Sha256::new();
    io::copy(&mut io::Read::take(file, CWASM_BYTES_MAX), &mut hasher)?;
    Ok(hex(&hasher.finalize()))
}

/// Maps a compiled component.
//
// JUSTIFICATION: compiled code cannot be checked by whoever loads it, so wasmtime marks every way of loading it unsafe.
// The alternative, compiling at each start, costs seconds of processor time and the memory of a compiler.
#[expect(unsafe_code, reason = "loading code that was compiled before")]
fn map(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file must be what `Engine::precompile_component` gave, and must not change while it is mapped. It was
    // written by our own child process, under a name that holds the compatibility of its compiler (wasmtime checks that
    // again), and its SHA-256 was compared a moment ago, or it was renamed into place a moment ago. Only this user may
    // write to the folder, which was checked, and we never write to a file in it, but only rename onto and unlink it,
    // which leaves mapped pages alone. The check sum is against decay, not against an enemy who may write here as us.
    unsafe { Component::deserialize_file(engine, path) }
}
