//! `frond component release`: what an operator tells the components of a running gateway.

use clap::Subcommand;

use crate::console::{self, Request};
use crate::runtime::{Answer, Order};

use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::status::GatewayArgs;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum OrderCommand {
    /// Start a quarantined component again
    Release {
        /// Its name in the configuration
        name: String,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
}

/// Passes it on and prints the answer.
pub async fn run(command: OrderCommand) -> anyhow::Result<Exit> {
    let OrderCommand::Release { name, gateway } = command;
    let request = Request::Component { order: Order::Release { component: name } };
    match console::ask(&gateway.socket()?, request).await? {
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
