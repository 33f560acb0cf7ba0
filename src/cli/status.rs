//! `frond status`: how the running gateway is.

use std::path::PathBuf;

use crate::config;
use crate::console::{self, Request, Status};

use super::exit::Exit;
use super::output;

/// Arguments of `frond status`, and of everything else that asks a running gateway.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which gateway is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct GatewayArgs {
    /// The configuration the gateway runs with [default: /etc/frond/frond.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The gateway's socket, instead of the configuration
    #[arg(long)]
    socket: Option<PathBuf>,
}

/// Asks and prints. The exit code is 0 when all is well, and [`Exit::Degraded`] when the gateway works but wants somebody.
pub async fn run(args: StatusArgs) -> anyhow::Result<Exit> {
    let status: Status = console::ask(&args.gateway.socket()?, Request::Status).await?;
    if args.json {
        output::line(serde_json::to_string_pretty(&status)?);
    } else {
        output::lines(&status);
    }
    Ok(if status.complaints.is_empty() { Exit::Ok } else { Exit::Degraded })
}

// === impl GatewayArgs ===

impl GatewayArgs {
    /// Path of the socket.
    pub fn socket(&self) -> anyhow::Result<PathBuf> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let config = match &self.config {
            Some(file) => config::load_file(file)?,
            None => config::load(&config::Paths::system())?,
        };
        Ok(console::socket_path(&config.gateway.run_dir))
    }
}
