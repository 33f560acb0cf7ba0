//! A component from a file, in the runtime of a gateway: what `inspect`, `test` and `bench` have in common.
//!
//! Its settings go through the configuration's own reader, as a `[[component]]` of a gateway would, so that what is said
//! here of an option is what the gateway would say. Compiled code is kept in the user's cache.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::cli::exit::Exit;
use crate::config;
use crate::platform::log;
use crate::runtime::{Host, OpenError, Processor};
use crate::sample::Nanos;

/// A component and its settings.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ComponentArgs {
    /// The component
    #[arg(value_name = "FILE.wasm")]
    pub(super) file: PathBuf,
    /// An option of the component, as in its [[component]]'s config; may be repeated
    #[arg(long = "config", value_name = "OPTION=VALUE")]
    pub(super) options: Vec<String>,
    /// A key of its [[component]], such as memory_bytes_max=64MiB, timer=2s or 'commands=["line4/+/set"]'; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) settings: Vec<String>,
}

/// Where components are opened.
pub(super) struct Workbench {
    pub(super) host: Host,
    pub(super) component: config::Component,
    pub(super) compiler: PathBuf,
    pub(super) cache_dir: PathBuf,
}

// === impl ComponentArgs ===

impl ComponentArgs {
    /// The `[[component]]` that these arguments stand for.
    fn component(&self) -> anyhow::Result<config::Component> {
        let path =
            std::path::absolute(&self.file).with_context(|| format!("{} is no path", self.file.display()))?;
        let mut table = toml::Table::new();
        table.insert("name".to_owned(), component_name(&path).into());
        table.insert("path".to_owned(), path.to_string_lossy().into_owned().into());
        for setting in &self.settings {
            let (key, value) = pair("--set", setting)?;
            table.insert(key.to_owned(), toml_value(value));
        }
        let mut options = toml::Table::new();
        for option in &self.options {
            let (name, value) = pair("--config", option)?;
            if options.insert(name.to_owned(), value.into()).is_some() {
                bail!("--config gives {name:?} twice; entries of one option are joined by `;`");
            }
        }
        table.insert("config".to_owned(), options.into());
        let mut whole = toml::Table::new();
        whole.insert(
            "gateway".to_owned(),
            toml::Table::from_iter([("name".to_owned(), "bench".into())]).into(),
        );
        whole
            .insert("lattice".to_owned(), toml::Table::from_iter([("mode".to_owned(), "off".into())]).into());
        whole.insert("component".to_owned(), vec![toml::Value::from(table)].into());
        let read = config::parse(&whole.to_string(), "command line");
        let config = read.context(
            "the component's settings are refused; a [[component]] in config/frond.toml shows all",
        )?;
        config.components.into_iter().next().context("the settings give no component")
    }
}

// === impl Workbench ===

impl Workbench {
    /// Sets up everything but the component itself, which is looked at from outside only.
    pub(super) fn new(args: &ComponentArgs) -> anyhow::Result<Workbench> {
        look_at(&args.file)?;
        Ok(Workbench {
            host: Host::new()?,
            component: args.component()?,
            compiler: std::env::current_exe()
                .context("cannot find this program, which compiles components")?,
            cache_dir: cache_dir(),
        })
    }

    /// How often it is called by its timer.
    pub(super) fn timer(&self) -> Nanos {
        Nanos::try_from(self.component.timer.as_nanos()).unwrap_or(Nanos::MAX).max(1)
    }

    /// Opens the component, as a gateway does at its start.
    pub(super) fn open(&self) -> Result<Processor, OpenError> {
        Processor::open(&self.host, &self.component, &self.compiler, &self.cache_dir)
    }
}

/// The error of opening, and the exit code that goes with it.
pub(super) fn refused(error: &OpenError) -> Exit {
    eprintln!("frond: {}", log::chain(error));
    match error {
        OpenError::Options { .. } => {
            eprintln!("give options with --config OPTION=VALUE");
            Exit::Config
        }
        OpenError::Import { .. } | OpenError::Contract { .. } => {
            eprintln!("`frond component inspect` says what it asks for and what it is given");
            Exit::Failure
        }
        _ => Exit::Failure,
    }
}

/// Says of a file that is no component what it is, which the compiler would say in its own words.
pub(super) fn look_at(file: &Path) -> anyhow::Result<()> {
    let mut head = Vec::new();
    let read = File::open(file).and_then(|file| file.take(8).read_to_end(&mut head));
    read.with_context(|| format!("cannot read {}", file.display()))?;
    match head.as_slice() {
        [0, b'a', b's', b'm', 1, 0, 0, 0] => bail!(
            "{} is a core module, not a component: build it for wasm32-wasip2, or make a component of it with `wasm-tools component new`",
            file.display()
        ),
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0] => Ok(()),
        [0, b'a', b's', b'm', version @ ..] => {
            bail!(
                "{} is WebAssembly of another kind, {version:02x?}: this frond takes components",
                file.display()
            )
        }
        _ => bail!("{} is no WebAssembly: a component begins with the bytes 00 61 73 6d", file.display()),
    }
}

fn pair<'a>(flag: &str, text: &'a str) -> anyhow::Result<(&'a str, &'a str)> {
    let parts = text.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
    parts.filter(|(key, _)| !key.is_empty()).with_context(|| format!("{flag} {text:?} is not NAME=VALUE"))
}

/// What is no TOML by itself is a text: `64MiB` needs no quotes.
fn toml_value(text: &str) -> toml::Value {
    let parsed = format!("value = {text}").parse::<toml::Table>().ok();
    parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| text.into())
}

/// A name for the log: the file's, with what a name may not have left out.
fn component_name(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' };
    let name: String = stem.chars().take(64).map(allowed).collect();
    if name.is_empty() { "component".to_owned() } else { name }
}

/// The user's cache; without a home the temporary folder.
fn cache_dir() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("frond")
}
