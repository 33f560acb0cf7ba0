//! `frond buffer`: what waits for the hub.

use clap::Subcommand;

use crate::console::{self, Request, Status};

use super::exit::Exit;
use super::output;
use super::status::GatewayArgs;

/// What to do with the buffer.
#[derive(Debug, Subcommand)]
pub enum BufferCommand {
    /// How full it is, and what it costs in flash
    Stats {
        #[command(flatten)]
        gateway: GatewayArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// The oldest outputs, decoded
    Peek {
        #[command(flatten)]
        gateway: GatewayArgs,
        /// How many, at most 100
        #[arg(long, default_value_t = 3)]
        count: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Asks and prints.
pub async fn run(command: BufferCommand) -> anyhow::Result<Exit> {
    match command {
        BufferCommand::Stats { gateway, json } => {
            let status: Status = console::ask(&gateway.socket()?, Request::Status).await?;
            if json {
                output::line(serde_json::to_string_pretty(&status.store)?);
            } else {
                output::lines(status.buffer());
            }
        }
        BufferCommand::Peek { gateway, count, json } => {
            let outputs: Vec<serde_json::Value> =
                console::ask(&gateway.socket()?, Request::Peek { count }).await?;
            if json {
                output::line(serde_json::to_string_pretty(&outputs)?);
            } else if outputs.is_empty() {
                output::line("nothing waits for the hub");
            } else {
                for output in &outputs {
                    output::lines(super::render::output(output));
                }
            }
        }
    }
    Ok(Exit::Ok)
}
