//! Opens the components of a configuration once, as the gateway will: compiled, instantiated, given their options.
//!
//! For `frond check`: a component that cannot be opened lets its readings pass, uncalibrated and unguarded, which nobody
//! should find out from a running plant. Compiling takes a second or two for each; the cache is a folder of this run's own,
//! removed at its end.

use crate::config::Config;
use crate::platform::log;
use crate::runtime::{Host, Processor};
use crate::workload;

/// What comes of opening components: the name of each that there is something to say of, and what.
#[derive(Debug, Default)]
pub(super) struct Trial {
    /// Those that cannot be opened, and why.
    pub(super) unopened: Vec<(String, String)>,
    /// Those that have no use for a key.
    pub(super) unused: Vec<(String, String)>,
}

/// Opens each once.
pub(super) fn open_components(config: &Config) -> Trial {
    if config.components.is_empty() && config.workloads.is_empty() {
        return Trial::default();
    }
    let every = |why: &dyn std::error::Error| {
        let components = config.components.iter().chain(config.workloads.iter().map(|all| &all.component));
        let names = components.map(|component| component.name.clone());
        let unopened = names.map(|name| (name, log::chain(why).to_string())).collect();
        Trial { unopened, unused: Vec::new() }
    };
    let compiler = match std::env::current_exe() {
        Ok(compiler) => compiler,
        Err(error) => return every(&error),
    };
    let host = match Host::new() {
        Ok(host) => host,
        Err(error) => return every(&error),
    };
    let cache = std::env::temp_dir().join(format!("frond-check-{}", std::process::id()));
    let mut trial = Trial::default();
    for component in &config.components {
        eprintln!("opening component {}", component.name);
        let name = || component.name.clone();
        match Processor::open(&host, component, &compiler, &cache) {
            Ok(processor) => {
                trial.unused.extend(processor.unused(component).map(|told| (name(), told.to_owned())));
            }
            Err(error) => trial.unopened.push((name(), log::chain(&error).to_string())),
        }
    }
    for workload in &config.workloads {
        let name = &workload.component.name;
        eprintln!("opening component {name}");
        if let Err(error) = workload::try_open(workload, compiler.clone(), cache.clone()) {
            trial.unopened.push((name.clone(), log::chain(&error).to_string()));
        }
    }
    // What cannot be removed is in the temporary folder anyway.
    let _ = std::fs::remove_dir_all(&cache);
    trial
}
