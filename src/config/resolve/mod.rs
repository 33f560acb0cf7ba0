//! From the merged document to a [`Config`]: every rule, all problems at once. Pure.
//!
//! A refused value is noted and the work goes on with a stand-in; a `Config` comes out only if nothing was noted.
//! The tables are in `tables.rs`, links to the outside in `link.rs`, the rest in files of their names.

mod artifact;
mod component;
mod device;
mod http;
mod link;
mod site;
mod stream;
mod tables;
mod workload;

use std::collections::HashSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Config;
use super::de;
use super::diagnose::{Finding, PROBLEMS_MAX, Problem, Warning};
use super::fault::{Doubt, Fault};
use super::names;
use super::raw::{Document, Span};
use super::tree::{KeyPath, Place, Tree};
use super::units::show_duration;

/// What a configuration depends on beside its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// Stands in for `gateway.name`.
    pub host_name: Option<String>,
    /// `$CREDENTIALS_DIRECTORY`.
    pub credentials_dir: Option<PathBuf>,
}

/// What came out.
#[derive(Debug)]
pub(super) struct Resolved {
    /// The configuration, if nothing is wrong with it.
    pub config: Option<Config>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What looks unintended.
    pub warnings: Vec<Warning>,
    /// Files the configuration names, for whoever may look at the disk.
    pub files: Vec<NamedFile>,
}

/// A file that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedFile {
    /// The path, resolved.
    pub path: PathBuf,
    /// A finding about it, but for what was found.
    pub label: Finding<()>,
    /// What it is.
    pub kind: FileKind,
    /// Where it was looked up.
    pub place: FilePlace,
}

/// Where a named file is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FilePlace {
    /// Where it will be when the gateway runs.
    Known,
    /// Beside the configuration, for want of a credentials folder; the service may have one.
    Beside,
}

/// What a named file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// A password, key or credentials.
    Secret,
    /// Certificates.
    Certificate,
    /// A component.
    Component,
    /// A device file.
    Device,
    /// A folder, made when it is missing.
    Folder,
}

/// Examines one document and collects what is wrong with it.
struct Judge<'a> {
    tree: &'a Tree,
    surroundings: &'a Surroundings,
    /// Values that were taken out: their absence is no problem of its own.
    taken_out: HashSet<KeyPath>,
    /// What links may name, as far as the file was read.
    device_names: Vec<String>,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
    files: Vec<NamedFile>,
}

/// Resolves a tree.
pub(super) fn resolve(mut tree: Tree, surroundings: &Surroundings) -> Resolved {
    let mut problems = Vec::new();
    let mut taken_out = HashSet::new();
    let document = read(&mut tree, &mut problems, &mut taken_out);
    let mut judge = Judge {
        tree: &tree,
        surroundings,
        taken_out,
        device_names: Vec::new(),
        problems,
        warnings: Vec::new(),
        files: Vec::new(),
    };
    let config = document.map(|document| judge.config(&document));
    let Judge { problems, warnings, files, .. } = judge;
    Resolved { config: config.filter(|_| problems.is_empty()), problems, warnings, files }
}

/// Reads the document, taking out what cannot be read until the rest can.
fn read(tree: &mut Tree, problems: &mut Vec<Problem>, taken_out: &mut HashSet<KeyPath>) -> Option<Document> {
    for _ in 0..PROBLEMS_MAX {
        let refusal = match de::deserialize(&tree.root) {
            Ok(document) => return Some(document),
            Err(refusal) => refusal,
        };
        let mut path: KeyPath = refusal.path();
        if let Fault::UnknownKey { nearest: Some(meant), .. } = &refusal.fault {
            // It is there, only misspelt.
            taken_out.insert(path.parent().key(meant));
        }
        problems.push(problem_of(tree, &path, refusal.fault));
        // A key that is missing cannot be taken out; what it is missing from can.
        while !tree.take_out(&path) && !path.0.is_empty() {
            path = path.parent();
        }
        taken_out.insert(path.parent());
        taken_out.insert(path);
    }
    problems.push(problem_of(tree, &KeyPath::default(), Fault::More));
    None
}

fn problem_of(tree: &Tree, path: &KeyPath, fault: Fault) -> Problem {
    let (place, label) = match &fault {
        // The key itself is what is wrong, and the message names it.
        Fault::UnknownKey { .. } => (tree.key_place(path), tree.label(&path.parent())),
        _ => (tree.place(path), tree.label(path)),
    };
    finding(tree, place, label, fault)
}

fn finding<K>(tree: &Tree, place: Option<Place>, key: String, what: K) -> Finding<K> {
    let file = place.map_or_else(|| tree.first_origin(), |place| tree.layer_name(place.layer));
    Finding { file: file.to_owned(), at: place.map(|place| place.at), key, what }
}

// === impl Judge ===

impl Judge<'_> {
    fn config(&mut self, document: &Document) -> Config {
        let gateway = self.gateway(&document.gateway);
        let devices = self.devices(&document.device);
        let (components, workloads) = self.components(&document.component);
        let streams = self.streams(&document.stream, &components);
        let broker = self.broker(&document.mqtt.broker, &gateway.name, &streams);
        let site = self.site(document, &streams);
        let lattice = self.lattice(&document.lattice, &gateway.name);
        let signers = self.signers(&document.signer);
        let secrets = self.secrets_table(&document.secret, &signers);
        let config = Config {
            artifacts: self.artifacts(&document.artifacts),
            registries: self.registries(&document.registry),
            signers,
            secrets,
            broker,
            site,
            gateway,
            clock: self.clock(&document.clock),
            lattice,
            journal: self.journal(&document.journal),
            outbox: self.outbox(&document.outbox),
            uplink: self.uplink(&document.uplink),
            slot: self.slot(&document.slot),
            devices,
            component_files: self.component_files(&components, &workloads),
            components,
            workloads,
            streams,
        };
        self.whole(&config);
        self.artifact_folders(&config);
        self.components_whole(&document.component, &config);
        self.workloads_whole(&config);
        self.http_addresses(&document.component, &config);
        config
    }

    fn refuse(&mut self, path: &KeyPath, fault: Fault) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem_of(self.tree, path, fault));
        } else if self.problems.len() == PROBLEMS_MAX {
            self.problems.push(problem_of(self.tree, &KeyPath::default(), Fault::More));
        }
    }

    fn doubt(&mut self, path: &KeyPath, doubt: Doubt) {
        self.warnings.push(finding(self.tree, self.tree.place(path), self.tree.label(path), doubt));
    }

    /// A key that must be there, unless it was and has been refused already.
    fn missing(&mut self, table: &KeyPath, key: &'static str) {
        if !self.taken_out.contains(&table.key(key)) {
            self.refuse(table, Fault::Missing { key });
        }
    }

    fn within<T: PartialOrd + Display>(&mut self, path: &KeyPath, value: T, least: T, most: T) -> T {
        if !(least <= value && value <= most) {
            let (value, least, most) = (value.to_string(), least.to_string(), most.to_string());
            self.refuse(path, Fault::Range { value, least, most });
        }
        value
    }

    /// A whole number within bounds, as the type the bounds are of.
    fn whole_number<T>(&mut self, path: &KeyPath, value: i64, least: T, most: T) -> T
    where
        T: TryFrom<i64> + PartialOrd + Display + Copy,
    {
        match T::try_from(value) {
            Ok(number) if least <= number && number <= most => number,
            _ => {
                let (value, most) = (value.to_string(), most.to_string());
                self.refuse(path, Fault::Range { value, least: least.to_string(), most });
                least
            }
        }
    }

    fn duration(&mut self, path: &KeyPath, span: Span, least: Duration, most: Duration) -> Duration {
        if !(least..=most).contains(&span.0) {
            let [value, least, most] = [span.0, least, most].map(show_duration);
            self.refuse(path, Fault::Range { value, least, most });
        }
        span.0
    }

    fn bytes(&mut self, path: &KeyPath, bytes: u64, least: u64, most: u64) -> u64 {
        if !(least..=most).contains(&bytes) {
            let [value, least, most] = [bytes, least, most].map(super::units::show_bytes);
            self.refuse(path, Fault::Range { value, least, most });
        }
        bytes
    }

    fn name(&mut self, path: &KeyPath, name: &str) -> String {
        if !names::is_name(name) {
            self.refuse(path, Fault::Name { name: name.to_owned() });
        }
        name.to_owned()
    }

    fn text(&mut self, path: &KeyPath, text: &str, chars_max: usize) -> String {
        if !names::is_text(text, chars_max) {
            self.refuse(path, Fault::Text { chars_max });
        }
        text.to_owned()
    }

    /// A path; a relative one starts at the folder of the file that says it.
    fn path(&mut self, path: &KeyPath, text: &str) -> PathBuf {
        let said = PathBuf::from(self.text(path, text, PATH_CHARS_MAX));
        match self.tree.origin(path).and_then(|origin| Path::new(origin).parent()) {
            Some(folder) => folder.join(said),
            None => said,
        }
    }

    /// A secret or certificate; a relative path starts at `$CREDENTIALS_DIRECTORY` or, where there is none, at the folder of
    /// the file that says it.
    fn credential(&mut self, path: &KeyPath, text: &str, kind: FileKind) -> PathBuf {
        let (resolved, place) = match &self.surroundings.credentials_dir {
            Some(folder) => (folder.join(self.text(path, text, PATH_CHARS_MAX)), FilePlace::Known),
            None if Path::new(text).is_relative() => (self.path(path, text), FilePlace::Beside),
            None => (self.path(path, text), FilePlace::Known),
        };
        self.name_file(path, &resolved, kind, place);
        resolved
    }

    /// The name of a stream or component.
    fn element_name(&mut self, table: &KeyPath, name: Option<&str>) -> String {
        match name {
            Some(name) => self.name(&table.key("name"), name),
            None => {
                self.missing(table, "name");
                String::new()
            }
        }
    }

    fn count(&mut self, path: &KeyPath, count: usize, count_max: usize) {
        if count > count_max {
            self.refuse(path, Fault::TooMany { count, count_max });
        }
    }

    fn name_file(&mut self, path: &KeyPath, file: &Path, kind: FileKind, place: FilePlace) {
        let label = finding(self.tree, self.tree.place(path), self.tree.label(path), ());
        self.files.push(NamedFile { path: file.to_owned(), label, kind, place });
    }
}

/// Longest path, as Linux has it.
const PATH_CHARS_MAX: usize = 4095;
