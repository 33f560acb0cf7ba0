//! What a component asks for and what it offers, for those who write components.
//!
//! Owns nothing and leaves nothing behind but the compiled code in the cache it is given. A component that the gateway would
//! refuse is described all the same: all it lacks at once, where opening it names only the first.

use std::path::Path;
use std::time::{Duration, Instant};

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::config;
use crate::runtime::code::{self, OpenError};
use crate::runtime::counters::Counters;
use crate::runtime::host::Host;
use crate::runtime::wasi;
use crate::workload::grants::{self, Grant};

/// What a component for wasmCloud is called by; of the second every patch release fits.
const HANDLER: &str = "wasmcloud:messaging/handler@0.2.0";
const PAGES: &str = "wasi:http/incoming-handler@0.2";

/// What every telemetry component exports, and what some export beside it; every last number of the version fits.
const PROCESSOR: &str = "frond:telemetry/processor@0.1";
const STATE: &str = "frond:telemetry/state@0.1";
const TIMER: &str = "frond:telemetry/timer@0.1";

/// What a memory's size is counted in.
const PAGE_BYTES: u64 = 64 << 10;

/// What is known of a component without running it.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// What it is for; `None` when a gateway has no use for it.
    pub world: Option<World>,
    /// What it asks for.
    pub imports: Vec<Import>,
    /// What it offers.
    pub exports: Vec<Interface>,
    /// What its memories have at the start, together at most; of one that uses several it is the number times the largest.
    pub memory_bytes: u64,
    /// Size of its compiled code.
    pub code_bytes: u64,
    /// How long compiling it took.
    pub compiled_in: Duration,
}

/// What a component is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// It works on telemetry, and fits this world of `wit/`.
    Telemetry(&'static str),
    /// It was written for wasmCloud, and is called by this.
    Wasmcloud(&'static str),
}

/// A named group of functions, or one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// With its version.
    pub name: String,
    /// Names of the functions it uses or offers.
    pub functions: Vec<String>,
}

/// An interface that a component asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// What.
    pub interface: Interface,
    /// Whether it is given.
    pub grant: Granted,
}

/// Whether a component is given what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granted {
    /// Every component is.
    Always,
    /// A `[[component.link]]` with this `interface` gives it.
    Link(&'static str),
    /// This line of its `[[component]]` gives it.
    Line(&'static str),
    /// None is; the reason is for whoever wrote the component.
    Never(&'static str),
}

/// Compiles a component into the cache below `cache_dir` and describes it.
pub fn inspect(
    host: &Host,
    component: &config::Component,
    compiler: &Path,
    cache_dir: &Path,
) -> Result<Inspection, OpenError> {
    let started = Instant::now();
    let code = code::load(host, component, compiler, cache_dir, &Counters::default())?;
    let compiled_in = started.elapsed();
    let ty = code.component_type();
    let exports: Vec<Interface> =
        ty.exports(&host.engine).map(|(name, export)| interface(&host.engine, name, &export.ty)).collect();
    let gives_commands = ty.imports(&host.engine).any(|(name, _)| is_of(name, wasi::COMMANDS, '@'));
    let world = world(&exports, gives_commands);
    let import = |(name, item): (&str, ComponentItem)| Import {
        interface: interface(&host.engine, name, &item),
        grant: match world {
            Some(World::Wasmcloud(_)) => granted_to_workload(name),
            _ => granted(name),
        },
    };
    Ok(Inspection {
        world,
        imports: ty.imports(&host.engine).map(|(name, asked)| import((name, asked.ty))).collect(),
        exports,
        memory_bytes: memory_bytes(&code),
        code_bytes: code_bytes(&code),
        compiled_in,
    })
}

fn world(exports: &[Interface], gives_commands: bool) -> Option<World> {
    let offers = |name: &str| exports.iter().any(|export| is_of(&export.name, name, '.'));
    match (offers(PROCESSOR), offers(STATE)) {
        (true, true) if offers(TIMER) && gives_commands => {
            Some(World::Telemetry("frond:telemetry/commanding@0.1.1"))
        }
        (true, true) if offers(TIMER) => Some(World::Telemetry("frond:telemetry/timed@0.1.1")),
        (true, true) => Some(World::Telemetry("frond:telemetry/stateful@0.1.1")),
        (true, false) => Some(World::Telemetry("frond:telemetry/stateless@0.1.1")),
        (false, _) if exports.iter().any(|export| export.name == HANDLER) => Some(World::Wasmcloud(HANDLER)),
        (false, _) if offers(PAGES) => Some(World::Wasmcloud(PAGES)),
        (false, _) => None,
    }
}

/// Whether a name is `known`, and goes on with what it leaves open.
fn is_of(name: &str, known: &str, open: char) -> bool {
    name.strip_prefix(known).is_some_and(|rest| rest.starts_with(open))
}

fn interface(engine: &Engine, name: &str, item: &ComponentItem) -> Interface {
    let functions = match item {
        ComponentItem::ComponentInstance(instance) => instance
            .exports(engine)
            .filter(|(_, export)| matches!(export.ty, ComponentItem::ComponentFunc(_)))
            .map(|(name, _)| name.to_owned())
            .collect(),
        _ => Vec::new(),
    };
    Interface { name: name.to_owned(), functions }
}

fn granted_to_workload(import: &str) -> Granted {
    match grants::grant(import) {
        Grant::Everybody => Granted::Always,
        Grant::Link(word) => Granted::Link(word),
        Grant::Secret => Granted::Line(grants::SECRET),
        Grant::Nobody => Granted::Never("this gateway does not have it"),
    }
}

fn granted(import: &str) -> Granted {
    let interface = import.split_once('@').map_or(import, |(interface, _)| interface);
    if interface == wasi::COMMANDS {
        return Granted::Line("commands = [\"TOPIC\"]");
    }
    if wasi::GRANTED.contains(&interface) {
        return Granted::Always;
    }
    let package = interface.split_once('/').map_or(interface, |(package, _)| package);
    Granted::Never(match package {
        "wasi:filesystem" => {
            "components have no files; what is to outlive an instance goes into its snapshot"
        }
        "wasi:sockets" | "wasi:http" => {
            "telemetry components have no network; what they give back goes to the hub"
        }
        "wasi:keyvalue" | "wasi:blobstore" => {
            "telemetry components have no store; state goes into their snapshot"
        }
        "wasi:config" => "options come by `configure`, from the component's `config`",
        "wasi:logging" => "lines go to the log by frond:telemetry/log, or by standard output",
        "wasi:messaging" | "wasmcloud:messaging" => {
            "telemetry components have no messages; they give back readings and alarms, and commands by frond:telemetry/commands"
        }
        "frond:telemetry" => "this gateway has frond:telemetry@0.1.1, in which there is no such interface",
        _ => "this gateway does not have it",
    })
}

fn memory_bytes(code: &Component) -> u64 {
    let Some(wanted) = code.resources_required() else { return 0 };
    u64::from(wanted.num_memories) * wanted.max_initial_memory_size.unwrap_or(0) * PAGE_BYTES
}

fn code_bytes(code: &Component) -> u64 {
    let image = code.image_range();
    (image.end as usize - image.start as usize) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_what_is_linked_and_the_rest_is_named() {
        // Goal: the answer is that of the gateway. Method: every interface that is linked, with and without version; others.
        for name in wasi::GRANTED.iter().filter(|name| **name != wasi::COMMANDS) {
            assert_eq!(granted(name), Granted::Always);
            assert_eq!(granted(&format!("{name}@0.2.6")), Granted::Always);
        }
        for (name, said) in [
            ("wasi:filesystem/preopens@0.2.0", "snapshot"),
            ("wasi:http/outgoing-handler@0.2.0", "network"),
            ("frond:telemetry/oracle@0.1.1", "no such interface"),
            ("run", "does not have it"),
        ] {
            assert!(matches!(granted(name), Granted::Never(why) if why.contains(said)), "{name}");
        }
    }

    #[test]
    fn a_world_is_known_by_its_exports() {
        // Goal: another version is another world. Method: every combination that matters.
        let with = |names: &[&str], gives_commands| {
            let named = |name: &&str| Interface { name: (*name).to_owned(), functions: Vec::new() };
            world(&names.iter().map(named).collect::<Vec<_>>(), gives_commands)
        };
        let of = |names: &[&str]| with(names, false);
        let telemetry = |world| Some(World::Telemetry(world));
        let [processor, state, timer] =
            ["processor", "state", "timer"].map(|name| format!("frond:telemetry/{name}@0.1.1"));
        let (processor, state, timer) = (processor.as_str(), state.as_str(), timer.as_str());
        assert_eq!(of(&[processor]), telemetry("frond:telemetry/stateless@0.1.1"));
        assert_eq!(of(&["frond:telemetry/processor@0.1.0"]), telemetry("frond:telemetry/stateless@0.1.1"));
        assert_eq!(of(&[state, processor]), telemetry("frond:telemetry/stateful@0.1.1"));
        assert_eq!(of(&[state, timer, processor]), telemetry("frond:telemetry/timed@0.1.1"));
        assert_eq!(with(&[state, timer, processor], true), telemetry("frond:telemetry/commanding@0.1.1"));
        assert_eq!(with(&[state, processor], true), telemetry("frond:telemetry/stateful@0.1.1"));
        assert_eq!(of(&[HANDLER]), Some(World::Wasmcloud(HANDLER)));
        assert_eq!(of(&["wasi:http/incoming-handler@0.2.2"]), Some(World::Wasmcloud(PAGES)));
        assert_eq!(of(&["wasi:http/incoming-handler@0.3.0"]), None);
        assert_eq!(of(&[state]), None);
        assert_eq!(of(&["frond:telemetry/processor@0.2.0"]), None);
    }
}
