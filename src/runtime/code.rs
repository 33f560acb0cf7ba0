//! From a configured component to code: out of the cache or compiled into it, and asking for nothing it may not have.

use std::path::{Path, PathBuf};

use wasmtime::component::Component;

use crate::config;
use crate::runtime::artifact::{ArtifactError, Cache, Found, digest, remove};
use crate::runtime::compile::{self, CompileError};
use crate::runtime::counters::{Counters, bump};
use crate::runtime::deployment::record::Digest;
use crate::runtime::deployment::shelf::ShelfError;
use crate::runtime::host::Host;
use crate::runtime::instance::Fault;
use crate::runtime::{Cause, wasi};

/// Why a component cannot be used. All of these are for whoever configured it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum OpenError {
    /// Its files.
    #[error("component {component}: cannot be loaded")]
    Artifact { component: String, source: ArtifactError },
    /// Compiling it.
    #[error("component {component}: cannot be compiled")]
    Compile { component: String, source: CompileError },
    /// It needs something that no component is given.
    #[error("component {component}: imports {import}, which is not granted{advice}")]
    Import { component: String, import: String, advice: &'static str },
    /// It is no telemetry processor.
    #[error("component {component}: does not fit the contract frond:telemetry@0.1.1")]
    Contract { component: String, source: Cause },
    /// It failed at once.
    #[error("component {component}: does not start")]
    Start { component: String, source: Fault },
    /// It does not like its options.
    #[error("component {component}: refuses its configuration: {reason}")]
    Options { component: String, reason: String },
    /// A deployed version cannot be kept.
    #[error("component {component}: the new version cannot be kept")]
    Shelf { component: String, source: ShelfError },
    /// A deployed version is not what it was.
    #[error("component {component}: {} is damaged; deploy the version again", path.display())]
    Damaged { component: String, path: PathBuf },
    /// An artifact is not what was found trustworthy.
    #[error(
        "component {component}: {} is not what it was when it was checked, and is not run; it is looked for again",
        path.display()
    )]
    Changed { component: String, path: PathBuf },
    /// A new version does not go on from where the old one is.
    #[error(
        "component {component}: the new version does not take the state of the old one: {reason}; --fresh-state begins without"
    )]
    State { component: String, reason: String },
}

/// From the cache, or compiled into it.
pub(crate) fn load(
    host: &Host,
    component: &config::Component,
    compiler: &Path,
    cache_dir: &Path,
    counters: &Counters,
) -> Result<Component, OpenError> {
    let version = component.digest.as_deref().and_then(Digest::parse);
    let loaded = load_version(host, component, version.as_ref(), compiler, cache_dir, counters);
    loaded.map_err(|error| match error {
        OpenError::Damaged { component, path } if version.is_some() => OpenError::Changed { component, path },
        error => error,
    })
}

/// As [`load`], of a file that must be `version`, if that is given: neither it nor compiled code of its name is used before
/// that is certain.
pub(super) fn load_version(
    host: &Host,
    component: &config::Component,
    version: Option<&Digest>,
    compiler: &Path,
    cache_dir: &Path,
    counters: &Counters,
) -> Result<Component, OpenError> {
    let artifact = |source| OpenError::Artifact { component: component.name.clone(), source };
    let digest_before = digest(&component.path).map_err(artifact)?;
    if version.is_some_and(|version| version.as_str() != digest_before) {
        return Err(OpenError::Damaged { component: component.name.clone(), path: component.path.clone() });
    }
    let cache = Cache::open(cache_dir).map_err(artifact)?;
    let entry = cache.entry(&host.engine, &digest_before);
    match cache.load(&host.engine, &entry) {
        Found::Component(code) => return Ok(code),
        Found::Nothing => {}
        Found::Unsound(reason) => {
            bump(&counters.cache_rejected);
            tracing::warn!(
                component = component.name,
                reason,
                "compiled component is unsound, compiling it again"
            );
        }
    }
    let scratch = cache.scratch();
    let compiled = compile::compile(&component.name, compiler, &component.path, &scratch).and_then(|()| {
        // The child read the file by itself: what it compiled must be what the entry is named after.
        match digest(&component.path) {
            Ok(after) if after == digest_before => Ok(()),
            _ => Err(CompileError::Changed),
        }
    });
    if let Err(source) = compiled {
        // It may not exist, and if it stays the next compilation removes it.
        let _ = remove(&scratch);
        return Err(OpenError::Compile { component: component.name.clone(), source });
    }
    bump(&counters.compilations);
    cache.adopt(&host.engine, &scratch, &entry).map_err(artifact)
}

/// The first import that a component is not given, and what would grant it.
pub(super) fn ungranted(
    host: &Host,
    component: &config::Component,
    code: &Component,
) -> Option<(String, &'static str)> {
    let ty = code.component_type();
    let advice = |import: &str| {
        let interface = import.split_once('@').map_or(import, |(interface, _)| interface);
        match interface {
            wasi::COMMANDS if component.commands.is_empty() => {
                Some(": commands = [\"TOPIC\"] in its [[component]] would grant it")
            }
            _ if wasi::GRANTED.contains(&interface) => None,
            _ => Some(""),
        }
    };
    let mut imports = ty.imports(&host.engine).map(|(import, _)| import);
    imports.find_map(|import| Some((import.to_owned(), advice(import)?)))
}
