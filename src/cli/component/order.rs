//! `frond component release`, `deploy` and `rollback`: what an operator tells the components of a running gateway.

use std::path::Path;

use clap::Subcommand;

use crate::console::{self, Request};
use crate::runtime::{Answer, Order};

use super::deploy::{self, DeployArgs};
use super::put;
use crate::cli::desired::{self, LsArgs, RmComponentArgs};
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::status::GatewayArgs;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum OrderCommand {
    /// All components, where they come from, and how they are
    Ls(LsArgs),
    /// Have a component, beside those of the file
    Put(put::PutArgs),
    /// Have it no longer; what it kept stays
    Rm(RmComponentArgs),
    /// Start a quarantined component again
    Release(ToComponent),
    /// Put another version of a component to work: tried beside the old one first, on probation after
    Deploy(DeployArgs),
    /// Take back a version that is on its way in or on probation: the one before is at work again, with its state
    Rollback(ToComponent),
}

/// Which component of which gateway.
#[derive(Debug, clap::Args)]
pub struct ToComponent {
    /// Its name in the configuration
    pub(super) name: String,
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
}

/// Passes it on and prints the answer.
pub async fn run(command: OrderCommand) -> anyhow::Result<Exit> {
    match command {
        OrderCommand::Ls(args) => desired::components(args).await,
        OrderCommand::Put(args) => put::run(args).await,
        OrderCommand::Rm(args) => desired::remove_component(args).await,
        OrderCommand::Release(ToComponent { name, gateway }) => {
            say(&gateway.socket()?, Order::Release { component: name }).await
        }
        OrderCommand::Rollback(ToComponent { name, gateway }) => {
            say(&gateway.socket()?, Order::Rollback { component: name }).await
        }
        OrderCommand::Deploy(args) => deploy::run(args).await,
    }
}

/// Gives an order and prints the answer.
pub(super) async fn say(socket: &Path, order: Order) -> anyhow::Result<Exit> {
    match console::ask(socket, Request::Component { order }).await? {
        Answer::Done(what) => {
            output::line(what);
            Ok(Exit::Ok)
        }
        Answer::Refused(why) => {
            eprintln!("frond: {why}");
            Ok(Exit::Failure)
        }
    }
}
