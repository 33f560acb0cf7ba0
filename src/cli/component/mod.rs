//! `frond component`: what authors of components use, without a gateway.
//!
//! ```text
//! new ─▶ (edit) ─▶ build ─▶ inspect ─▶ test ─▶ bench ─▶ [[component]] of a gateway
//! ```
//! All of it runs the component in the gateway's own runtime. Nothing is kept but compiled code, in a folder of the user's
//! that may be deleted at any time.

mod bench;
mod build;
mod inspect;
mod new;
mod output;
mod plot;
mod progress;
mod recording;
mod roster;
mod summary;
mod test;
mod workbench;

use clap::Subcommand;

use super::exit::Exit;

/// What authors of components use, without a gateway
#[derive(Debug, Subcommand)]
pub enum ComponentCommand {
    /// Write a template: a component in Rust that builds, with its tests
    New(new::NewArgs),
    /// Build the component in this folder, and inspect it
    Build(build::BuildArgs),
    /// What a component imports and exports, what a gateway gives it, and whether it opens
    Inspect(inspect::InspectArgs),
    /// Run a recording through a component, as a stream would, and print what comes out
    Test(test::TestArgs),
    /// How long a component takes for a batch and for a reading, and what memory
    Bench(bench::BenchArgs),
}

/// Runs one of them.
pub fn run(command: &ComponentCommand) -> anyhow::Result<Exit> {
    match command {
        ComponentCommand::New(args) => new::new(args),
        ComponentCommand::Build(args) => build::build(args),
        ComponentCommand::Inspect(args) => inspect::run(args),
        ComponentCommand::Test(args) => test::run(args),
        ComponentCommand::Bench(args) => bench::run(args),
    }
}
