//! Opens the components of a configuration once, as the gateway will: compiled, instantiated, given their options.
//!
//! For `frond check`: a component that cannot be opened lets its readings pass, uncalibrated and unguarded, which nobody
//! should find out from a running plant. Compiling takes a second or two for each; the cache is a folder of this run's own,
//! removed at its end.

use crate::config::Config;
use crate::platform::log;
use crate::runtime::{Host, Processor};
use crate::workload;

/// Names of the components that cannot be opened, and why.
pub(super) fn open_components(config: &Config) -> Vec<(String, String)> {
    if config.components.is_empty() && config.workloads.is_empty() {
        return Vec::new();
    }
    let every = |why: &dyn std::error::Error| {
        let components = config.components.iter().chain(config.workloads.iter().map(|all| &all.component));
        let names = components.map(|component| component.name.clone());
        names.map(|name| (name, log::chain(why).to_string())).collect()
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
    let mut failures = Vec::new();
    for component in &config.components {
        eprintln!("opening component {}", component.name);
        if let Err(error) = Processor::open(&host, component, &compiler, &cache) {
            failures.push((component.name.clone(), log::chain(&error).to_string()));
        }
    }
    for workload in &config.workloads {
        let name = &workload.component.name;
        eprintln!("opening component {name}");
        if let Err(error) = workload::try_open(workload, compiler.clone(), cache.clone()) {
            failures.push((name.clone(), log::chain(&error).to_string()));
        }
    }
    // What cannot be removed is in the temporary folder anyway.
    let _ = std::fs::remove_dir_all(&cache);
    failures
}
