//! Components written for wasmCloud v1, unmodified: called with messages and requests by HTTP ([`http`]), linked to MQTT,
//! the lattice, a key-value store and hosts.
//!
//! A *workload* is what wasmCloud calls a component with what it is linked to; the word keeps them apart from the telemetry
//! processors of `crate::runtime`, which the pipeline calls with batches.
//! ```text
//!  clock ─▶ timer ───┐
//!  MQTT ──▶ postbox ─┤                                        ┌─▶ postbox ──▶ MQTT
//!                    ├─▶ inbox ─▶ Workload ─▶ handle-message ─┼─▶ lattice ──▶ NATS
//!  NATS ──▶ lattice ─┤   (bounded)   │   (one instance)       ├─▶ keeper ───▶ state.db
//!  HTTP ──▶ lobby ───┘               │                        ├─▶ blobs ────▶ files
//!                                    │                        ├─▶ devices ──▶ Modbus, serial lines, GPIO
//!                                    │                        └─▶ courier ──▶ HTTP
//!                                    └─ Absent ─▶ Ready ─▶ Discarded ─▶ Ready, Quarantined: see
//!                                                                       `runtime::lifecycle`
//! ```
//! One task owns a workload: its instance, its inbox, its MQTT connection. Those of the file are tasks of the process, those
//! that the lattice wants are started and stopped by `crate::control`; nothing here tells them apart. The thread
//! `workloads` loads and compiles for all of them ([`opener`]), `keeper` owns `state.db` ([`keyvalue`]), `blobs` the folders
//! of objects ([`blobs`]). A call runs on the task's thread and gives way every 10 ms, so that a component which computes without end takes its share of one worker and no more, until its
//! deadline ends it. Imports are async: while a component waits, nothing of the gateway does.
//!
//! Delivery is at most once, as with wasmCloud's own NATS provider: a message is handed over once, and neither a trap nor
//! an error brings it again. What waits in inboxes and outgoing queues is gone when the process ends. What was stored is
//! on flash within a commit interval ([`keyvalue`]), whole and in order; objects when they are finished ([`blobs`]).
//! When full: an inbox drops its oldest or its newest, by configuration; publications beyond a rate or a full queue are
//! refused with an error that the component sees; of a timer one message waits at most; all of it is counted in [`Account`]. A component that has used up its
//! share of time, or was given as many messages as it may be in a second, waits with its inbox.

mod account;
pub mod blobs;
mod commander;
mod context;
mod devices;
mod door;
pub(crate) mod grants;
mod http;
mod imports;
mod inbox;
mod instance;
mod keyvalue;
mod lattice;
mod messaging;
mod opener;
mod owner;
mod postbox;
pub(crate) mod rate;
mod room;
mod secrets;
mod timer;

pub use account::{Account, View, WorkloadStatus};
pub use commander::Commander;
pub use door::Door;
pub use http::LOOKUPS_MAX;
pub use keyvalue::{
    Answer, Aside, Ask, Damage, KeepError, Keeper, KeeperError, KeeperHandle, Line, Place, Row, Save, Write,
};
pub use opener::{OpenError, Opener, OpenerHandle, try_open, try_open_linked};
pub use owner::{Kit, Workload};
pub use secrets::SecretError;

/// What the gateway and such a component have in common. Imports may wait, and may end the component.
#[allow(missing_docs, reason = "made from wit/wasmcloud, which is documented")]
mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/wasmcloud",
        world: "frond:workload/workload",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:blobstore/container.container": crate::workload::blobs::Container,
            "wasi:blobstore/container.stream-object-names": crate::workload::blobs::ObjectNames,
            "wasi:blobstore/types.incoming-value": crate::workload::blobs::IncomingValue,
            "wasi:blobstore/types.outgoing-value": crate::workload::blobs::OutgoingValue,
            "wasi:keyvalue/store.bucket": crate::workload::keyvalue::Bucket,
            "wasmcloud:secrets/store.secret": crate::workload::secrets::Secret,
        },
    });
}

/// What a gateway has beside: devices.
#[allow(missing_docs, reason = "made from wit/device, which is documented")]
mod gateway {
    wasmtime::component::bindgen!({
        path: "wit/device",
        world: "frond:device/devices",
        imports: { default: async | trappable },
    });
}
