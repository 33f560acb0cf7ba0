//! `frond component build`: cargo for the one target that components have, then `inspect`.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value as Json;

use super::inspect;
use super::workbench::ComponentArgs;
use crate::cli::exit::Exit;

/// What components are built for.
const TARGET: &str = "wasm32-wasip2";

/// Arguments of `frond component build`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Exit codes: 1 when cargo fails or gives no component, otherwise those of `frond component inspect`."
)]
pub struct BuildArgs {
    /// The folder with the component's Cargo.toml
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Given to cargo, behind `--`
    #[arg(last = true, value_name = "CARGO OPTIONS")]
    more: Vec<String>,
}

/// Builds the component in a folder and inspects it.
pub fn build(args: &BuildArgs) -> anyhow::Result<Exit> {
    let manifest = args.folder.join("Cargo.toml");
    if !manifest.exists() {
        bail!("there is no {}; `frond component new NAME` makes a component", manifest.display());
    }
    let Some(component) = cargo(args)? else {
        bail!(
            "cargo built no component: the library in {} needs `crate-type = [\"cdylib\"]`",
            manifest.display()
        );
    };
    inspect::inspect(&ComponentArgs { file: component, options: Vec::new(), settings: Vec::new() }, args.json)
}

/// Runs cargo in the folder, so that its `.cargo/config.toml` counts, and finds what it made.
fn cargo(args: &BuildArgs) -> anyhow::Result<Option<PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(&cargo)
        .current_dir(&args.folder)
        .args(["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics"])
        .args(&args.more)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}; Rust is installed by https://rustup.rs", cargo.display()))?;
    let stdout = child.stdout.take().context("cargo's output is piped")?;
    let mut component = None;
    for line in BufReader::new(stdout).lines() {
        // What is no message is what a build script printed.
        let Ok(message) = serde_json::from_str::<Json>(&line.context("cannot read what cargo says")?) else {
            continue;
        };
        let files = message["filenames"].as_array().into_iter().flatten().filter_map(Json::as_str);
        component = files.filter(|file| file.ends_with(".wasm")).map(PathBuf::from).next_back().or(component);
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() {
        bail!("cargo failed ({status}); if it misses the target: rustup target add {TARGET}");
    }
    Ok(component)
}
