//! `frond component inspect`: what a component asks for and offers, what a gateway gives it, and whether it opens.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::progress::Progress;
use super::sign;
use super::workbench::{ComponentArgs, Workbench};
use crate::artifact::claims::{self, Claims};
use crate::artifact::detached;
use crate::cli::exit::Exit;
use crate::cli::{output, render};
use crate::platform::log;
use crate::runtime::inspection::{self, Granted, Inspection, Interface, World};
use crate::runtime::{Digest, OpenError, Processor};
use crate::workload;

/// Arguments of `frond component inspect`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Exit codes: 0 when a gateway opens it, 4 when a gateway refuses it (printed why), 78 when it refuses the options \
    given, 1 when it is no component or cannot be read."
)]
pub struct InspectArgs {
    #[command(flatten)]
    component: ComponentArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// All there is to say.
struct Report {
    file: PathBuf,
    wasm_bytes: u64,
    memory_bytes_max: u64,
    signed: Signed,
    inspection: Inspection,
    opened: Opened,
}

/// Whose signatures it has. Whether they are trusted is a gateway's to say.
struct Signed {
    digest: String,
    claims: Option<Result<Claims, String>>,
    /// The key of the signature beside it.
    detached: Option<Result<String, String>>,
}

/// Whether a gateway opens it.
enum Opened {
    /// It does, in this time, from the compiled code.
    Yes(Duration),
    /// Only with options, and none were given.
    WantsOptions(String),
    /// It does not take the options given.
    RefusesOptions(String),
    /// It does not.
    No(String),
}

/// Inspects a component.
pub fn run(args: &InspectArgs) -> anyhow::Result<Exit> {
    inspect(&args.component, args.json)
}

/// Inspects a component and prints the report.
pub(super) fn inspect(args: &ComponentArgs, json: bool) -> anyhow::Result<Exit> {
    let mut bench = Workbench::new(args)?;
    // A folder of this run's own, so that the time of compiling is that of compiling.
    let scratch = Scratch(std::env::temp_dir().join(format!("frond-inspect-{}", std::process::id())));
    bench.cache_dir = scratch.0.clone();
    let progress = Progress::of(format!("compiling {}", args.file.display()));
    let inspection = inspection::inspect(&bench.host, &bench.component, &bench.compiler, &bench.cache_dir)?;
    drop(progress);
    let report = Report {
        wasm_bytes: std::fs::metadata(&args.file)?.len(),
        file: args.file.clone(),
        signed: Signed::of(&args.file)?,
        memory_bytes_max: bench.component.memory_bytes_max,
        opened: open(&bench, inspection.world),
        inspection,
    };
    match json {
        true => output::line(format_args!("{:#}", report.json())),
        false => output::lines(report.text()),
    }
    Ok(match report.opened {
        Opened::Yes(_) | Opened::WantsOptions(_) => Exit::Ok,
        Opened::RefusesOptions(_) => Exit::Config,
        Opened::No(_) => Exit::Degraded,
    })
}

fn open(bench: &Workbench, world: Option<World>) -> Opened {
    let started = Instant::now();
    let component = &bench.component;
    if let Some(World::Wasmcloud(_)) = world {
        return match workload::try_open_linked(component, &bench.compiler, &bench.cache_dir) {
            Ok(()) => Opened::Yes(started.elapsed()),
            Err(error) => Opened::No(log::chain(&error).to_string()),
        };
    }
    match Processor::open(&bench.host, component, &bench.compiler, &bench.cache_dir) {
        Ok(_) => Opened::Yes(started.elapsed()),
        Err(OpenError::Options { reason, .. }) if component.config.is_empty() => Opened::WantsOptions(reason),
        Err(OpenError::Options { reason, .. }) => Opened::RefusesOptions(reason),
        Err(error) => Opened::No(log::chain(&error).to_string()),
    }
}

// === impl Signed ===

impl Signed {
    fn of(file: &Path) -> anyhow::Result<Signed> {
        let wasm = std::fs::read(file)?;
        let digest = Digest::of(&wasm);
        let beside = std::fs::read_to_string(sign::beside(file)).ok();
        let detached = beside.map(|text| detached::verify(&text, &digest));
        Ok(Signed {
            claims: claims::embedded(&wasm).transpose().map(|read| read.map_err(|error| error.to_string())),
            detached: detached.map(|one| one.map(|one| one.key).map_err(|error| error.to_string())),
            digest: digest.to_string(),
        })
    }

    fn said(&self) -> Vec<String> {
        let claims = self.claims.as_ref().map(|claims| match claims {
            Ok(Claims { issuer, name, version, .. }) => {
                let [name, version] = [name, version].map(|text| text.as_deref().unwrap_or("-"));
                format!("signed in itself by {issuer} as {name} {version}")
            }
            Err(why) => format!("its claims are worth nothing, a gateway refuses it: {why}"),
        });
        let detached = self.detached.as_ref().map(|one| match one {
            Ok(key) => format!("signed beside it by {key}"),
            Err(why) => format!("the signature beside it is worth nothing, a gateway refuses it: {why}"),
        });
        match (claims, detached) {
            (None, None) => vec!["signed by nobody".to_owned()],
            (claims, detached) => claims.into_iter().chain(detached).collect(),
        }
    }

    fn json(&self) -> Json {
        let claims = self.claims.as_ref().map(|claims| match claims {
            Ok(claims) => json!({ "claims": claims }),
            Err(why) => json!({ "refused": why }),
        });
        let detached = self.detached.as_ref().map(|one| match one {
            Ok(key) => json!({ "key": key }),
            Err(why) => json!({ "refused": why }),
        });
        json!({ "embedded": claims, "beside": detached })
    }
}

// === impl Report ===

impl Report {
    fn text(&self) -> String {
        let Inspection { world, imports, exports, memory_bytes, code_bytes, compiled_in } = &self.inspection;
        let mut text = String::new();
        // Writing to a string does not fail.
        let mut line = |indent: usize, said: &str| {
            let _ = writeln!(text, "{:indent$}{said}", "");
        };
        line(0, &format!("{}: {} bytes", self.file.display(), self.wasm_bytes));
        line(0, &format!("sha256:{}", self.signed.digest));
        self.signed.said().iter().for_each(|said| line(0, said));
        match world {
            Some(World::Telemetry(world)) => line(0, &format!("world {world}")),
            Some(World::Wasmcloud(handler)) => {
                line(0, &format!("written for wasmCloud (kind = \"wasmcloud\"): called by {handler}"));
            }
            None => line(
                0,
                "world unknown: it is for another host; a telemetry component exports frond:telemetry/processor@0.1.1, \
                 one for wasmCloud wasmcloud:messaging/handler@0.2.0 or wasi:http/incoming-handler@0.2",
            ),
        }
        line(0, "exports");
        exports.iter().for_each(|export| line(2, &spoken(export)));
        line(0, "imports");
        for import in imports {
            match import.grant {
                Granted::Always => line(2, &format!("{}, given", spoken(&import.interface))),
                Granted::Link(word) => {
                    let link = format!("given by a [[component.link]] with interface = \"{word}\"");
                    line(2, &format!("{}, {link}", spoken(&import.interface)));
                }
                Granted::Line(said) => line(2, &format!("{}, given by {said}", spoken(&import.interface))),
                Granted::Never(why) => {
                    line(2, &format!("{}, REFUSED: {why}", spoken(&import.interface)));
                }
            }
        }
        let grant = format!("memory_bytes_max = {}", self.memory_bytes_max);
        line(0, &format!("memory at the start {}, of {grant}", render::bytes(*memory_bytes)));
        if *memory_bytes > self.memory_bytes_max {
            line(2, &format!("REFUSED: give it more, memory_bytes_max = {}", wanted(*memory_bytes)));
        }
        let ms = compiled_in.as_millis();
        line(0, &format!("compiled in {ms} ms to {}", render::bytes(*code_bytes)));
        match &self.opened {
            Opened::Yes(time) => line(0, &format!("opens in {:.1} ms", time.as_secs_f64() * 1e3)),
            Opened::WantsOptions(why) => {
                line(0, &format!("opens with options (--config OPTION=VALUE): {why}"));
            }
            Opened::RefusesOptions(why) => line(0, &format!("does not open with these options: {why}")),
            Opened::No(why) => line(0, &format!("does not open: {why}")),
        }
        text
    }

    fn json(&self) -> Json {
        let inspection = &self.inspection;
        let exports = inspection.exports.iter().map(|e| json!({ "name": e.name, "functions": e.functions }));
        let imports = inspection.imports.iter().map(|import| {
            let (link, refused) = match import.grant {
                Granted::Always => (None, None),
                Granted::Link(word) | Granted::Line(word) => (Some(word), None),
                Granted::Never(why) => (None, Some(why)),
            };
            let Interface { name, functions } = &import.interface;
            json!({ "name": name, "functions": functions, "given": refused.is_none(), "link": link, "refused": refused })
        });
        let world = inspection.world.map(|world| match world {
            World::Telemetry(world) | World::Wasmcloud(world) => world,
        });
        let (opens, why) = match &self.opened {
            Opened::Yes(_) => (json!(true), None),
            Opened::WantsOptions(why) => (json!("with options"), Some(why)),
            Opened::RefusesOptions(why) | Opened::No(why) => (json!(false), Some(why)),
        };
        let opened_ms = match &self.opened {
            Opened::Yes(time) => Some(time.as_secs_f64() * 1e3),
            _ => None,
        };
        json!({
            "file": self.file, "wasm_bytes": self.wasm_bytes, "world": world, "sha256": self.signed.digest,
            "signed": self.signed.json(),
            "exports": exports.collect::<Vec<_>>(), "imports": imports.collect::<Vec<_>>(),
            "memory_bytes": inspection.memory_bytes, "memory_bytes_max": self.memory_bytes_max,
            "compiled_ms": inspection.compiled_in.as_millis() as u64, "compiled_bytes": inspection.code_bytes,
            "opens": opens, "why": why, "opened_ms": opened_ms,
        })
    }
}

fn spoken(interface: &Interface) -> String {
    match interface.functions.as_slice() {
        [] => interface.name.clone(),
        functions => format!("{} ({})", interface.name, functions.join(", ")),
    }
}

/// The next whole MiB, and as much again to work with.
fn wanted(bytes: u64) -> String {
    format!("\"{}MiB\"", 2 * bytes.div_ceil(1 << 20))
}

/// A folder that goes when it is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in the temporary folder anyway.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
