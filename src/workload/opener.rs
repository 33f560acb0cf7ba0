//! From a file to code that may be instantiated: the thread `workloads`, which compiles, checks and links for all of them.
//!
//! Owns the engine of workloads with its epoch thread. Nothing but the cache of compiled code outlives it. Requests are
//! worked off one by one: compiling takes a processor for seconds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler;

use super::bindings::exports::wasmcloud::messaging::handler;
use super::room::Room;
use super::secrets::{SecretError, Secrets};
use super::{grants, imports};
use crate::config::{self, LinkEnd};
use crate::runtime::{Cause, Counters, Host, HostError, code};

/// Requests waiting: one from each workload.
const REQUESTS_MAX: usize = 16;

/// Why a workload cannot be used. All of these are for whoever configured it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum OpenError {
    /// wasmtime does not run here.
    #[error("there is no component engine")]
    Host(#[source] Arc<HostError>),
    /// What it may import cannot be set up.
    #[error("imports for components cannot be set up")]
    Imports(#[source] Cause),
    /// Its files, or compiling it.
    #[error("it cannot be loaded")]
    Code(#[from] crate::runtime::OpenError),
    /// It needs something that its links do not grant.
    #[error("component {component}: imports {import}, which is not granted; {advice}")]
    Import { component: String, import: String, advice: String },
    /// It does not export what it is called by, or imports a version that there is not.
    #[error(
        "component {component}: does not fit wasmcloud:messaging@0.2.0 or wasi:http@0.2, as its links want it to, and the \
         interfaces that go with them"
    )]
    Contract { component: String, source: Cause },
    /// It has no door: nothing of it would ever be called.
    #[error("component {component}: {advice}")]
    Closed { component: String, advice: &'static str },
    /// A secret that it is given is not there.
    #[error("component {component}: a secret that it is given is not to be had")]
    Secret { component: String, source: SecretError },
    /// The gateway is stopping.
    #[error("the gateway is stopping")]
    Stopping,
}

/// What of a component is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// It is given messages.
    Messages,
    /// It is asked by HTTP.
    Pages,
}

/// Code that may be instantiated. Keeps the engine's epoch thread alive.
pub(super) struct Code {
    pub pre: InstancePre<Room>,
    /// Present where a link brings messages …
    pub handler: Option<handler::GuestIndices>,
    /// … and requests by HTTP.
    pub pages: Option<incoming_handler::GuestIndices>,
    pub secrets: Arc<Secrets>,
    _engine: Arc<Engine>,
}

struct Engine {
    host: Host,
    linker: Linker<Room>,
}

enum Request {
    Open {
        workload: config::Workload,
        counters: Arc<Counters>,
        reply: oneshot::Sender<Result<Code, OpenError>>,
    },
    Prepare {
        component: config::Component,
        reply: oneshot::Sender<Result<(), OpenError>>,
    },
}

/// How workloads ask.
#[derive(Clone)]
pub struct OpenerHandle {
    requests: mpsc::Sender<Request>,
}

/// The thread.
pub struct Opener {
    requests: mpsc::Receiver<Request>,
    compiler: PathBuf,
    cache_dir: PathBuf,
}

/// Opens a workload once and lets it go, for `frond check`. Its secrets are not looked for: the service has them, not
/// whoever checks.
pub fn try_open(workload: &config::Workload, compiler: PathBuf, cache_dir: PathBuf) -> Result<(), OpenError> {
    let engine = Arc::new(Engine::new()?);
    let none = Secrets::default();
    open(&engine, workload, none, &Counters::default(), (&compiler, &cache_dir)).map(|_| ())
}

/// Opens a component once as if every link it can be given were there, and lets it go.
pub fn try_open_linked(
    component: &config::Component,
    compiler: &Path,
    cache_dir: &Path,
) -> Result<(), OpenError> {
    let engine = Arc::new(Engine::new()?);
    let code = code::load(&engine.host, component, compiler, cache_dir, &Counters::default())?;
    link_all(&engine, component, &code).map(|_| ())
}

// === impl Door ===

impl Door {
    fn of_link(end: &LinkEnd) -> Option<Door> {
        match end {
            LinkEnd::Source(_) => Some(Door::Messages),
            LinkEnd::HttpSource(_) => Some(Door::Pages),
            _ => None,
        }
    }

    fn of_export(name: &str) -> Option<Door> {
        match name.split_once('@')?.0 {
            "wasmcloud:messaging/handler" => Some(Door::Messages),
            "wasi:http/incoming-handler" => Some(Door::Pages),
            _ => None,
        }
    }

    /// All that a component exports; or what to say of one that has none.
    fn among(exports: &[&str]) -> Result<Vec<Door>, &'static str> {
        let doors: Vec<Door> = exports.iter().filter_map(|name| Door::of_export(name)).collect();
        let is_processor = |name: &&str| name.starts_with("frond:telemetry/processor@");
        match doors.is_empty() {
            false => Ok(doors),
            true if exports.iter().any(is_processor) => {
                Err("it is made for a stream: give it a [[component]] and name it in a [[stream]]")
            }
            true => Err("it exports nothing that a gateway calls (wasmcloud:messaging/handler, \
                         wasi:http/incoming-handler)"),
        }
    }
}

// === impl OpenerHandle ===

impl OpenerHandle {
    pub(super) async fn open(
        &self,
        workload: &config::Workload,
        counters: Arc<Counters>,
    ) -> Result<Code, OpenError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Open { workload: workload.clone(), counters, reply };
        self.requests.send(request).await.map_err(|_| OpenError::Stopping)?;
        answer.await.map_err(|_| OpenError::Stopping)?
    }

    /// Compiles a component into the cache and sees whether it is one, whatever its links grant: opening it afterwards takes
    /// no time that whoever it replaces would be missed for.
    pub(crate) async fn prepare(&self, component: config::Component) -> Result<(), OpenError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Prepare { component, reply }).await.map_err(|_| OpenError::Stopping)?;
        answer.await.map_err(|_| OpenError::Stopping)?
    }
}

impl std::fmt::Debug for OpenerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenerHandle").finish_non_exhaustive()
    }
}

// === impl Opener ===

impl Opener {
    /// The thread's work, compiled with the binary `compiler`, cached below `cache_dir`.
    pub fn new(compiler: PathBuf, cache_dir: PathBuf) -> (Opener, OpenerHandle) {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        (Opener { requests, compiler, cache_dir }, OpenerHandle { requests: sender })
    }

    /// Opens until every workload has gone. Runs on a thread of its own.
    pub fn run(mut self) -> Result<(), std::convert::Infallible> {
        let mut engine: Option<Arc<Engine>> = None;
        let places = (self.compiler.as_path(), self.cache_dir.as_path());
        while let Some(request) = self.requests.blocking_recv() {
            let made = match &engine {
                Some(engine) => Ok(Arc::clone(engine)),
                None => Engine::new().map(Arc::new),
            };
            let made = made.inspect(|made| engine = Some(Arc::clone(made)));
            // Whoever asked may be gone.
            match request {
                Request::Open { workload, counters, reply } => {
                    let opened = made.and_then(|made| {
                        let secrets = secrets_of(&workload)?;
                        open(&made, &workload, secrets, &counters, places)
                    });
                    drop(reply.send(opened));
                }
                Request::Prepare { component, reply } => {
                    let prepared = made.and_then(|made| {
                        let code =
                            code::load(&made.host, &component, places.0, places.1, &Counters::default())?;
                        link_all(&made, &component, &code).map(drop)
                    });
                    drop(reply.send(prepared));
                }
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

// === impl Engine ===

impl Engine {
    fn new() -> Result<Engine, OpenError> {
        let host = Host::new().map_err(|error| OpenError::Host(Arc::new(error)))?;
        let mut linker = Linker::new(&host.engine);
        imports::link(&mut linker).map_err(|error| OpenError::Imports(error.into()))?;
        Ok(Engine { host, linker })
    }
}

fn open(
    engine: &Arc<Engine>,
    workload: &config::Workload,
    secrets: Secrets,
    counters: &Counters,
    (compiler, cache_dir): (&Path, &Path),
) -> Result<Code, OpenError> {
    let component = &workload.component;
    let code = code::load(&engine.host, component, compiler, cache_dir, counters)?;
    refuse_ungranted(engine, workload, &code)?;
    let doors: Vec<Door> = workload.links.iter().filter_map(|link| Door::of_link(&link.end)).collect();
    link(engine, component, &code, secrets, &doors)
}

/// Links a component by every door that it has, whether a link leads to it or not.
fn link_all(
    engine: &Arc<Engine>,
    component: &config::Component,
    code: &Component,
) -> Result<Code, OpenError> {
    let ty = code.component_type();
    let exports: Vec<&str> = ty.exports(&engine.host.engine).map(|(name, _)| name).collect();
    let doors = Door::among(&exports)
        .map_err(|advice| OpenError::Closed { component: component.name.clone(), advice })?;
    link(engine, component, code, Secrets::default(), &doors)
}

fn link(
    engine: &Arc<Engine>,
    component: &config::Component,
    code: &Component,
    secrets: Secrets,
    doors: &[Door],
) -> Result<Code, OpenError> {
    let contract = |error: wasmtime::Error| OpenError::Contract {
        component: component.name.clone(),
        source: error.into(),
    };
    let pre = engine.linker.instantiate_pre(code).map_err(contract)?;
    let handler = match doors.contains(&Door::Messages) {
        true => Some(handler::GuestIndices::new(&pre).map_err(contract)?),
        false => None,
    };
    let pages = match doors.contains(&Door::Pages) {
        true => Some(incoming_handler::GuestIndices::new(&pre).map_err(contract)?),
        false => None,
    };
    Ok(Code { pre, handler, pages, secrets: Arc::new(secrets), _engine: Arc::clone(engine) })
}

fn secrets_of(workload: &config::Workload) -> Result<Secrets, OpenError> {
    let component = &workload.component.name;
    Secrets::read(&workload.secrets)
        .map_err(|source| OpenError::Secret { component: component.clone(), source })
}

/// The first import that is not granted.
fn refuse_ungranted(engine: &Engine, workload: &config::Workload, code: &Component) -> Result<(), OpenError> {
    let ty = code.component_type();
    for (import, _) in ty.imports(&engine.host.engine) {
        grants::judge(import, &workload.links, &workload.secrets).map_err(|advice| OpenError::Import {
            component: workload.component.name.clone(),
            import: import.to_owned(),
            advice,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Door;

    #[test]
    fn a_component_that_nobody_would_call_is_refused_with_what_it_is_for() {
        // Goal: what can never work does not seem to wait for something. Method: doors of every kind and version, a telemetry
        // component, a command.
        let messages = "wasmcloud:messaging/handler@0.2.0";
        assert_eq!(
            Door::among(&[messages, "wasi:http/incoming-handler@0.2.2"]),
            Ok(vec![Door::Messages, Door::Pages])
        );
        assert_eq!(Door::among(&["frond:telemetry/processor@0.1.0", messages]), Ok(vec![Door::Messages]));
        for (exports, why) in [
            (
                ["frond:telemetry/processor@0.1.0"].as_slice(),
                "it is made for a stream: give it a [[component]]",
            ),
            (
                &["wasi:cli/run@0.2.6"],
                "it exports nothing that a gateway calls (wasmcloud:messaging/handler, wasi:http",
            ),
            (&[], "it exports nothing that a gateway calls"),
        ] {
            let said = Door::among(exports).unwrap_err();
            assert!(said.starts_with(why), "{said}");
        }
    }
}
