//! `frond component`: what authors of components use, without a gateway, and what operators tell the components of one.
//!
//! ```text
//! new ─▶ (edit) ─▶ build ─▶ inspect ─▶ test ─▶ bench ─▶ [[component]] of a gateway ─▶ (edit) ─▶ … ─▶ deploy
//! ```
//! All of it runs the component in the gateway's own runtime. Nothing is kept but compiled code, in a folder of the user's
//! that may be deleted at any time.

mod bench;
mod build;
mod deploy;
mod inspect;
mod new;
pub(super) mod order;
mod output;
mod plot;
mod progress;
mod put;
mod recording;
mod roster;
mod sign;
mod summary;
mod test;
mod workbench;

use clap::Subcommand;

use super::exit::Exit;

/// Everything about components.
#[derive(Debug, Subcommand)]
pub enum ComponentCommand {
    /// Without a gateway.
    #[command(flatten)]
    Author(AuthorCommand),
    /// To a running gateway.
    #[command(flatten)]
    Order(order::OrderCommand),
}

/// What authors of components use.
#[derive(Debug, Subcommand)]
pub enum AuthorCommand {
    /// Write a template: a component in Rust that builds, with its tests
    New(new::NewArgs),
    /// Build the component in this folder, and inspect it
    Build(build::BuildArgs),
    /// What a component imports and exports, what a gateway gives it, and whether it opens
    Inspect(inspect::InspectArgs),
    /// Sign a component, for gateways that trust the key
    Sign(sign::SignArgs),
    /// Run a recording through a component, as a stream would, and print what comes out
    Test(test::TestArgs),
    /// How long a component takes for a batch and for a reading, and what memory
    Bench(bench::BenchArgs),
}

/// Runs one of them.
pub fn run(command: &AuthorCommand) -> anyhow::Result<Exit> {
    match command {
        AuthorCommand::New(args) => new::new(args),
        AuthorCommand::Build(args) => build::build(args),
        AuthorCommand::Inspect(args) => inspect::run(args),
        AuthorCommand::Sign(args) => sign::sign(args),
        AuthorCommand::Test(args) => test::run(args),
        AuthorCommand::Bench(args) => bench::run(args),
    }
}
