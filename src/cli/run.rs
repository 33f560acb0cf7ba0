//! `frond run`: the gateway.

use std::path::PathBuf;

use crate::app;
use crate::platform::log;
use crate::workload;

use super::check::load_or_explain;
use super::exit::Exit;

/// Threads for tasks; SQLite and components have their own.
const WORKERS: usize = 2;
/// Threads for calls that block, beside those that components may take up: names of hubs and brokers, small files.
const BLOCKING: usize = 4;

/// Arguments of `frond run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Configuration file; the conf.d beside it is read, too [default: /etc/frond/frond.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the gateway until SIGTERM or SIGINT.
pub fn run(args: &RunArgs) -> Exit {
    let config = match load_or_explain(args.config.as_deref(), &mut std::io::stderr()) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    if let Err(err) = log::init(config.gateway.log) {
        eprintln!("frond: {}", log::chain(&err));
        return Exit::Failure;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        // A name server that does not answer a component's question must not keep the links from asking theirs.
        .max_blocking_threads(BLOCKING + config.workloads.len() * workload::LOOKUPS_MAX)
        .thread_name("frond-task")
        .enable_all()
        .build()
        .expect("a runtime needs nothing that a running program lacks");
    match runtime.block_on(app::run(config)) {
        Ok(()) => Exit::Ok,
        Err(err) => {
            tracing::error!(error = %log::chain(&err), "gateway ends");
            Exit::Failure
        }
    }
}
