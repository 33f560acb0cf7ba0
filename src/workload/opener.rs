//! From a file to code that may be instantiated: the thread `workloads`, which compiles, checks and links for all of them.
//!
//! Owns the engine of workloads with its epoch thread. Nothing but the cache of compiled code outlives it. Requests are
//! worked off one by one: compiling takes a processor for seconds.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use wasmtime::component::{Component, InstancePre, Linker};

use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler;

use super::bindings::exports::wasmcloud::messaging::handler;
use super::room::Room;
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
    /// The gateway is stopping.
    #[error("the gateway is stopping")]
    Stopping,
}

/// Code that may be instantiated. Keeps the engine's epoch thread alive.
pub(super) struct Code {
    pub pre: InstancePre<Room>,
    /// Present where a link brings messages …
    pub handler: Option<handler::GuestIndices>,
    /// … and requests by HTTP.
    pub pages: Option<incoming_handler::GuestIndices>,
    _engine: Arc<Engine>,
}

struct Engine {
    host: Host,
    linker: Linker<Room>,
}

struct Request {
    component: config::Component,
    links: Vec<config::Link>,
    counters: Arc<Counters>,
    reply: oneshot::Sender<Result<Code, OpenError>>,
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

/// Opens a workload once and lets it go, for `frond check`.
pub fn try_open(workload: &config::Workload, compiler: PathBuf, cache_dir: PathBuf) -> Result<(), OpenError> {
    let engine = Arc::new(Engine::new()?);
    open(&engine, &workload.component, &workload.links, &Counters::default(), (&compiler, &cache_dir))
        .map(|_| ())
}

// === impl OpenerHandle ===

impl OpenerHandle {
    pub(super) async fn open(
        &self,
        workload: &config::Workload,
        counters: Arc<Counters>,
    ) -> Result<Code, OpenError> {
        let (reply, answer) = oneshot::channel();
        let request =
            Request { component: workload.component.clone(), links: workload.links.clone(), counters, reply };
        self.requests.send(request).await.map_err(|_| OpenError::Stopping)?;
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
        while let Some(Request { component, links, counters, reply }) = self.requests.blocking_recv() {
            let made = match &engine {
                Some(engine) => Ok(Arc::clone(engine)),
                None => Engine::new().map(Arc::new),
            };
            let opened = made.and_then(|made| {
                engine = Some(Arc::clone(&made));
                open(&made, &component, &links, &counters, (&self.compiler, &self.cache_dir))
            });
            // Whoever asked may be gone.
            let _ = reply.send(opened);
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
    component: &config::Component,
    links: &[config::Link],
    counters: &Counters,
    (compiler, cache_dir): (&std::path::Path, &std::path::Path),
) -> Result<Code, OpenError> {
    let code = code::load(&engine.host, component, compiler, cache_dir, counters)?;
    refuse_ungranted(engine, component, &code, links)?;
    let contract = |error: wasmtime::Error| OpenError::Contract {
        component: component.name.clone(),
        source: error.into(),
    };
    let pre = engine.linker.instantiate_pre(&code).map_err(contract)?;
    let brings = |end: fn(&LinkEnd) -> bool| links.iter().any(|link| end(&link.end));
    let handler = match brings(|end| matches!(end, LinkEnd::Source(_))) {
        true => Some(handler::GuestIndices::new(&pre).map_err(contract)?),
        false => None,
    };
    let pages = match brings(|end| matches!(end, LinkEnd::HttpSource(_))) {
        true => Some(incoming_handler::GuestIndices::new(&pre).map_err(contract)?),
        false => None,
    };
    Ok(Code { pre, handler, pages, _engine: Arc::clone(engine) })
}

/// The first import that is not granted.
fn refuse_ungranted(
    engine: &Engine,
    component: &config::Component,
    code: &Component,
    links: &[config::Link],
) -> Result<(), OpenError> {
    let ty = code.component_type();
    for (import, _) in ty.imports(&engine.host.engine) {
        grants::judge(import, links).map_err(|advice| OpenError::Import {
            component: component.name.clone(),
            import: import.to_owned(),
            advice,
        })?;
    }
    Ok(())
}
