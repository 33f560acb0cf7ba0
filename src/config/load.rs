//! Reading the layers: the embedded default, the main file, `conf.d/*.toml` sorted by name.
//!
//! Owns nothing and keeps nothing. Files are read once, at start; what they name (secrets, certificates, components) is
//! looked at and, when it is not there, warned about: a gateway whose password file is missing still has a buffer to
//! drain, so that must not stop it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Config;
use super::diagnose::{ConfigError, Finding, Problem, Warning};
use super::fault::{Doubt, Fault};
use super::resolve::{FileKind, FilePlace, NamedFile, Surroundings, resolve};
use super::tree::{Layer, Tree};
use crate::platform::device;

/// The documented default, the lowest layer.
pub const DEFAULT: &str = include_str!("../../config/frond.toml");

/// How messages name the lowest layer. No problem is ever put down to it: a test asserts that it has none.
const DEFAULT_ORIGIN: &str = "(default)";

/// Largest file read: 256 streams of 2 KiB are half of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Most files in `conf.d`: one for each stream and some.
const FILES_MAX: usize = 512;

/// Where a configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The main file.
    pub main: MainFile,
    /// The folder of additions; it need not exist.
    pub conf_dir: PathBuf,
}

/// The main file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MainFile {
    /// Somebody has named it: it must be there.
    Named(PathBuf),
    /// The usual place: without it the default and `conf.d` count.
    IfPresent(PathBuf),
}

/// What was found in a configuration.
#[derive(Debug)]
pub struct Inspection {
    /// Files read, in order.
    pub files: Vec<PathBuf>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Warning>,
    /// The configuration, if nothing is wrong.
    pub config: Option<Config>,
}

/// Loads the configuration. Warnings are left out; [`inspect`] has them.
pub fn load(paths: &Paths) -> Result<Config, ConfigError> {
    inspect(paths).into_config()
}

/// Loads `path` with the `conf.d` beside it.
pub fn load_file(path: &Path) -> Result<Config, ConfigError> {
    load(&Paths::beside(path))
}

/// Resolves one text over the default, without looking at the machine: the host name is `gateway`, there is no
/// credentials folder, and files named in it are not looked for.
pub fn parse(text: &str, origin: &str) -> Result<Config, ConfigError> {
    let surroundings = Surroundings { host_name: Some("gateway".to_owned()), credentials_dir: None };
    inspect_text(text, origin, &surroundings).into_config()
}

/// What [`inspect`] says, of one text.
pub(super) fn inspect_text(text: &str, origin: &str, surroundings: &Surroundings) -> Inspection {
    let layer = Layer { origin: origin.to_owned(), text: text.to_owned() };
    examine(vec![layer], surroundings).0
}

/// Reads the configuration and says everything there is to say about it.
pub fn inspect(paths: &Paths) -> Inspection {
    inspect_in(paths, &surroundings())
}

pub(super) fn inspect_in(paths: &Paths, surroundings: &Surroundings) -> Inspection {
    let mut problems = Vec::new();
    let (files, layers) = read_layers(paths, &mut problems);
    let (mut inspection, named) = examine(layers, surroundings);
    inspection.warnings.extend(named.iter().filter_map(look_at));
    // What could not be read comes first: it may explain the rest.
    problems.append(&mut inspection.problems);
    let config = inspection.config.filter(|_| problems.is_empty());
    Inspection { files, problems, config, warnings: inspection.warnings }
}

// === impl Paths ===

impl Paths {
    /// `/etc/frond`.
    pub fn system() -> Paths {
        let folder = Path::new("/etc/frond");
        Paths { main: MainFile::IfPresent(folder.join("frond.toml")), conf_dir: folder.join("conf.d") }
    }

    /// A file somebody has named, and the `conf.d` beside it.
    pub fn beside(file: &Path) -> Paths {
        let conf_dir = file.parent().unwrap_or(Path::new("")).join("conf.d");
        Paths { main: MainFile::Named(file.to_owned()), conf_dir }
    }
}

// === impl Inspection ===

impl Inspection {
    /// The configuration or what is wrong with it.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        self.config.ok_or(ConfigError { problems: self.problems })
    }
}

fn examine(layers: Vec<Layer>, surroundings: &Surroundings) -> (Inspection, Vec<NamedFile>) {
    let base = Layer { origin: DEFAULT_ORIGIN.to_owned(), text: DEFAULT.to_owned() };
    let layers: Vec<Layer> = std::iter::once(base).chain(layers).collect();
    let order: Vec<String> = layers.iter().map(|layer| layer.origin.clone()).collect();
    let (tree, mut problems) = Tree::merge(&layers);
    let unreadable = problems.iter().any(|problem| matches!(problem.what, Fault::Syntax { .. }));
    // What follows from half a document would only mislead.
    let (mut warnings, mut files, mut config) = (Vec::new(), Vec::new(), None);
    if !unreadable {
        let resolved = resolve(tree, surroundings);
        problems.extend(resolved.problems);
        (warnings, files, config) = (resolved.warnings, resolved.files, resolved.config);
    }
    sort(&mut problems, &order);
    sort(&mut warnings, &order);
    let config = config.filter(|_| problems.is_empty());
    (Inspection { files: Vec::new(), problems, warnings, config }, files)
}

/// In the order in which a person goes through the files.
fn sort<K>(findings: &mut [Finding<K>], order: &[String]) {
    findings.sort_by_key(|finding| (order.iter().position(|origin| *origin == finding.file), finding.at));
}

fn read_layers(paths: &Paths, problems: &mut Vec<Problem>) -> (Vec<PathBuf>, Vec<Layer>) {
    let (MainFile::Named(main) | MainFile::IfPresent(main)) = &paths.main;
    let mut candidates = vec![main.clone()];
    match additions(&paths.conf_dir) {
        Ok(files) => candidates.extend(files),
        Err(fault) => problems.push(about_file(&paths.conf_dir, fault)),
    }
    let (mut files, mut layers) = (Vec::new(), Vec::new());
    for path in candidates {
        match read_text(&path) {
            Ok(text) => {
                layers.push(Layer { origin: path.display().to_string(), text });
                files.push(path);
            }
            Err(Fault::Unreadable { kind: ErrorKind::NotFound })
                if paths.main == MainFile::IfPresent(path.clone()) => {}
            Err(fault) => problems.push(about_file(&path, fault)),
        }
    }
    (files, layers)
}

fn about_file(path: &Path, what: Fault) -> Problem {
    Problem { file: path.display().to_string(), at: None, key: String::new(), what }
}

/// `*.toml` in the folder, sorted by name. Hidden files are left out: editors and package tools leave them behind.
fn additions(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let unreadable = |error: std::io::Error| Fault::Unreadable { kind: error.kind() };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    if files.len() > FILES_MAX {
        return Err(Fault::TooManyFiles { count: files.len(), count_max: FILES_MAX });
    }
    files.sort();
    Ok(files)
}

fn read_text(path: &Path) -> Result<String, Fault> {
    let unreadable = |error: std::io::Error| Fault::Unreadable { kind: error.kind() };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Fault::FileTooLarge { bytes_max: FILE_BYTES_MAX });
    }
    String::from_utf8(bytes).map_err(|_| Fault::NotText)
}

/// Looks at a file the configuration names.
fn look_at(file: &NamedFile) -> Option<Warning> {
    let path = file.path.clone();
    if file.kind == FileKind::Folder {
        // The first that is there; what is missing below it is made at the start.
        let there = path.ancestors().find(|folder| folder.symlink_metadata().is_ok())?;
        return (!there.is_dir()).then(|| warning(file, Doubt::NotAFolder { path: there.to_owned() }));
    }
    if file.kind == FileKind::Device {
        // Not opened: that would raise the lines of a serial port, and take a GPIO chip from nobody.
        let kind = device::may_use(&path).err()?.kind();
        return Some(warning(file, Doubt::Device { path, kind }));
    }
    let what = match File::open(&path).and_then(|file| file.metadata()) {
        Err(error) if error.kind() == ErrorKind::NotFound && file.place == FilePlace::Beside => {
            Doubt::CredentialUnknown { path }
        }
        Err(error) => Doubt::File { path, kind: error.kind() },
        Ok(found) if found.is_dir() => Doubt::File { path, kind: ErrorKind::IsADirectory },
        Ok(found) if found.len() == 0 => Doubt::FileEmpty { path },
        Ok(found) if file.kind == FileKind::Secret && found.mode() & 0o004 != 0 => Doubt::SecretOpen { path },
        Ok(_) => return None,
    };
    Some(warning(file, what))
}

fn warning(file: &NamedFile, what: Doubt) -> Warning {
    let label = file.label.clone();
    Warning { file: label.file, at: label.at, key: label.key, what }
}

/// What the process was started with.
fn surroundings() -> Surroundings {
    Surroundings {
        // What gethostname(2) says, without the call.
        host_name: std::fs::read_to_string("/proc/sys/kernel/hostname").ok(),
        credentials_dir: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
    }
}
