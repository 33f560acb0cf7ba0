//! `frond component deploy`: hands a new version to a running gateway and says how it fares until it is at work.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::{Instant, sleep};

use super::order::{ToComponent, say};
use super::workbench::look_at;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::console::{self, Request, Status};
use crate::runtime::{Artifact, DeploymentStats, Inheritance, Order, Stage, WASM_BYTES_MAX};

/// Between two looks at the gateway's status, which it renews four times a second.
const LOOK: Duration = Duration::from_millis(500);
/// Longest that it is looked at: an hour of trial, and what compiling may take.
const FOLLOW_MAX: Duration = Duration::from_secs(3600 + 600);

/// Arguments of `frond component deploy`.
#[derive(Debug, clap::Args)]
pub struct DeployArgs {
    #[command(flatten)]
    to: ToComponent,
    /// The new version
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// Begin without the old one's state, which is lost if the new one stays
    #[arg(long)]
    fresh_state: bool,
    /// Do not wait until it is at work or refused
    #[arg(long)]
    detach: bool,
}

/// Hands it over. The exit code is 0 when the new version is at work, on probation.
pub(super) async fn run(args: DeployArgs) -> anyhow::Result<Exit> {
    let DeployArgs { to: ToComponent { name, gateway }, file, fresh_state, detach } = args;
    let socket = gateway.socket()?;
    look_at(&file)?;
    let artifact = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let bytes = artifact.len() as u64;
    if bytes > WASM_BYTES_MAX {
        bail!("{} has {bytes} bytes, more than the {WASM_BYTES_MAX} a component may have", file.display());
    }
    let begun = stats(&socket, &name).await?.map_or(0, |before| before.begun);
    let state = if fresh_state { Inheritance::Fresh } else { Inheritance::Carried };
    let order = Order::Deploy { component: name.clone(), state, bytes, artifact: Artifact(artifact) };
    match say(&socket, order).await? {
        Exit::Ok if !detach => follow(&socket, &name, begun).await,
        exit => Ok(exit),
    }
}

/// Says what becomes of it, until it is at work or let go. Interrupting this changes nothing at the gateway.
async fn follow(socket: &Path, name: &str, begun: u32) -> anyhow::Result<Exit> {
    let deadline = Instant::now() + FOLLOW_MAX;
    let mut told = Stage::Opening;
    while Instant::now() < deadline {
        sleep(LOOK).await;
        let Some(stats) = stats(socket, name).await?.filter(|stats| stats.begun > begun) else { continue };
        match stats.stage {
            Stage::Trial if told != Stage::Trial => {
                output::line("it is open and on trial, beside the old one")
            }
            Stage::Probation => {
                output::line(format!(
                    "it is at work, on probation for {} s; the old one goes on in the background",
                    stats.left_s.unwrap_or(0)
                ));
                return Ok(Exit::Ok);
            }
            Stage::Current => {
                let why = stats.last_why.as_deref().unwrap_or("the gateway does not say why");
                eprintln!("frond: the new version is not at work: {why}");
                eprintln!(
                    "no reading is lost, and the old version is at work with its state; mend the new one and deploy it again"
                );
                return Ok(Exit::Failure);
            }
            Stage::Opening | Stage::Trial => {}
        }
        told = stats.stage;
    }
    bail!("it is still on its way; `frond status` says how it fares")
}

async fn stats(socket: &Path, name: &str) -> anyhow::Result<Option<DeploymentStats>> {
    let mut status: Status = console::ask(socket, Request::Status).await?;
    Ok(status.pipeline.components.remove(name).and_then(|component| component.deployment))
}
