//! Imports that have several names: configuration, log and link names have been published under more than one version,
//! with the same signatures. One function serves all of them.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, HasSelf, Lift, Linker, Lower, Resource, ResourceType};

use super::bindings::wasi::blobstore;
use super::bindings::wasi::keyvalue::{atomics, batch, store};
use super::bindings::wasmcloud::messaging::{consumer, types};
use super::bindings::wasmcloud::secrets;
use super::gateway::frond::device;
use super::room::Room;
use crate::config::LinkEnd;
use crate::runtime::voice::Level;

/// Longest name of an interface that a component may name in full, `namespace:package/interface`.
const INTERFACE_BYTES_MAX: usize = 256;

/// Names that configuration goes by.
const CONFIG: [&str; 3] =
    ["wasi:config/runtime@0.2.0-draft", "wasi:config/store@0.2.0-draft", "wasi:config/store@0.2.0-rc.1"];
/// Names that the log goes by.
const LOGGING: [&str; 2] = ["wasi:logging/logging@0.1.0-draft", "wasi:logging/logging"];

#[derive(Debug, Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "components make them")]
enum Weight {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(variant)]
#[allow(dead_code, reason = "part of the signature; reading a map does not fail")]
enum ConfigError {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

/// An interface that a component wants to choose a link for.
struct CallTarget(String);

type Seen<'a> = StoreContextMut<'a, Room>;

/// Links everything that a workload may be given. What it is not granted must have been refused before.
pub(super) fn link(linker: &mut Linker<Room>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    types::add_to_linker::<Room, HasSelf<Room>>(linker, |room| room)?;
    consumer::add_to_linker::<Room, HasSelf<Room>>(linker, |room| room)?;
    store::add_to_linker::<Room, HasSelf<Room>>(linker, |room| room)?;
    atomics::add_to_linker::<Room, HasSelf<Room>>(linker, |room| room)?;
    batch::add_to_linker::<Room, HasSelf<Room>>(linker, |room| room)?;
    blobstore::types::add_to_linker::<Room, HasSelf<Room>>(linker, |room| room)?;
    blobstore::container::add_to_linker::<Room, HasSelf<Room>>(linker, |room| room)?;
    blobstore::blobstore::add_to_linker::<Room, HasSelf<Room>>(linker, |room| room)?;
    secrets::store::add_to_linker::<Room, HasSelf<Room>>(linker, |room| room)?;
    secrets::reveal::add_to_linker::<Room, HasSelf<Room>>(linker, |room| room)?;
    device::types::add_to_linker::<Room, HasSelf<Room>>(linker, |room| room)?;
    device::modbus::add_to_linker::<Room, HasSelf<Room>>(linker, |room| room)?;
    device::serial::add_to_linker::<Room, HasSelf<Room>>(linker, |room| room)?;
    device::gpio::add_to_linker::<Room, HasSelf<Room>>(linker, |room| room)?;
    for name in CONFIG {
        let mut instance = linker.instance(name)?;
        instance.func_wrap("get", |cx: Seen<'_>, (key,): (String,)| {
            Ok((Ok::<_, ConfigError>(cx.data().tools.config.get(&key).cloned()),))
        })?;
        instance.func_wrap("get-all", |cx: Seen<'_>, (): ()| {
            let all: Vec<(String, String)> = cx.data().tools.config.clone().into_iter().collect();
            Ok((Ok::<_, ConfigError>(all),))
        })?;
    }
    for name in LOGGING {
        let write = |cx: Seen<'_>, (weight, context, text): (Weight, String, String)| {
            let line = if context.is_empty() { text } else { format!("{context}: {text}") };
            cx.data().tools.voice.say(level(weight), &line);
            Ok(())
        };
        linker.instance(name)?.func_wrap("log", write)?;
    }
    bus(linker)
}

/// `wasmcloud:bus`: version 2 says when there is no such link, version 1 does not.
fn bus(linker: &mut Linker<Room>) -> wasmtime::Result<()> {
    for name in ["wasmcloud:bus/lattice@1.0.0", "wasmcloud:bus/lattice@2.0.1"] {
        let mut instance = linker.instance(name)?;
        let forget = |mut cx: Seen<'_>, rep: u32| {
            cx.data_mut().table.delete(Resource::<CallTarget>::new_own(rep))?;
            Ok(())
        };
        instance.resource("call-target-interface", ResourceType::host::<CallTarget>(), forget)?;
        let make = |mut cx: Seen<'_>, (namespace, package, interface): (String, String, String)| {
            let mut interface = format!("{namespace}:{package}/{interface}");
            interface.truncate(interface.floor_char_boundary(INTERFACE_BYTES_MAX));
            Ok((cx.data_mut().table.push(CallTarget(interface))?,))
        };
        instance.func_wrap("[constructor]call-target-interface", make)?;
    }
    linker.instance("wasmcloud:bus/lattice@1.0.0")?.func_wrap(
        "set-link-name",
        |mut cx: Seen<'_>, (name, interfaces): (String, Vec<Resource<CallTarget>>)| {
            choose(cx.data_mut(), &name, interfaces).map(|_| ())
        },
    )?;
    linker.instance("wasmcloud:bus/lattice@2.0.1")?.func_wrap(
        "set-link-name",
        |mut cx: Seen<'_>, (name, interfaces): (String, Vec<Resource<CallTarget>>)| {
            choose(cx.data_mut(), &name, interfaces).map(|chosen| (chosen,))
        },
    )
}

fn choose(
    room: &mut Room,
    name: &str,
    interfaces: Vec<Resource<CallTarget>>,
) -> wasmtime::Result<Result<(), String>> {
    let named =
        |end: fn(&LinkEnd) -> bool| room.tools.links.iter().any(|link| link.name == name && end(&link.end));
    let (keeps, sends, asks) = (
        named(|end| matches!(end, LinkEnd::KeyValue { .. })),
        named(|end| matches!(end, LinkEnd::Target(_))),
        named(|end| matches!(end, LinkEnd::HttpTarget(_))),
    );
    let has_blobs = named(|end| matches!(end, LinkEnd::Blobs { .. }));
    let mut unknown = None;
    for interface in interfaces {
        let CallTarget(interface) = room.table.delete(interface)?;
        let has_link = match interface.split('/').next() {
            Some("wasi:keyvalue") => keeps,
            Some("wasmcloud:messaging") => sends,
            Some("wasi:blobstore") => has_blobs,
            Some("wasi:http") => asks,
            _ => false,
        };
        if has_link {
            room.chosen.insert(interface, name.to_owned());
        } else {
            // Calls of an interface that the gateway has go by no link then, and say so; of another nothing is kept.
            let ours = ["wasi:keyvalue/", "wasi:blobstore/", "wasi:http/", "wasmcloud:messaging/"];
            if ours.iter().any(|package| interface.starts_with(package)) {
                room.chosen.insert(interface.clone(), String::new());
            }
            unknown = Some(format!("there is no [[component.link]] named {name:?} for {interface}"));
        }
    }
    if let Some(unknown) = &unknown {
        room.tools.voice.say(Level::Warn, unknown);
    }
    Ok(unknown.map_or(Ok(()), Err))
}

fn level(weight: Weight) -> Level {
    match weight {
        Weight::Critical | Weight::Error => Level::Error,
        Weight::Warn => Level::Warn,
        Weight::Info => Level::Info,
        Weight::Debug | Weight::Trace => Level::Debug,
    }
}
