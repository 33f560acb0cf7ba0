//! What the imports of one instance see: the store's own state.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::account::Account;
use super::blobs::{self, BlobsHandle};
use super::context;
use super::http::{Courier, FIELDS_BYTES_MAX, OUTGOING, Outside};
use super::inbox::Way;
use super::keyvalue::{KeeperHandle, Place};
use super::lattice::LatticeHandle;
use super::postbox::PostboxHandle;
use super::rate::Rate;
use super::secrets::Secrets;
use crate::config::{Link, LinkEnd, Target};
use crate::device::Devices;
use crate::runtime::Counters;
use crate::runtime::meter::Meter;
use crate::runtime::voice::Voice;
use crate::runtime::wasi;

/// What every instance of a workload is given. Outlives them.
pub(super) struct Tools {
    pub component: String,
    pub memory_bytes_max: usize,
    pub config: BTreeMap<String, String>,
    pub links: Vec<Link>,
    pub postbox: PostboxHandle,
    pub lattice: LatticeHandle,
    pub keeper: KeeperHandle,
    pub blobs: BlobsHandle,
    pub devices: Devices,
    /// Of each call.
    pub deadline: Duration,
    pub voice: Voice,
    pub counters: Arc<Counters>,
    pub account: Arc<Account>,
    /// Of the workload, not of the instance: a component that is ended for its flood goes on where it was.
    pub rate: Mutex<Rate>,
    /// What bounds its requests by HTTP, likewise.
    pub outside: Outside,
}

/// An answer that the message in hand asks for.
#[derive(Debug, Clone)]
pub(super) struct Return {
    pub subject: String,
    pub way: Way,
}

/// The room.
pub(super) struct Room {
    pub tools: Arc<Tools>,
    pub meter: Meter,
    pub table: ResourceTable,
    /// By interface, the name of the link that the component has chosen.
    pub chosen: HashMap<String, String>,
    pub back: Option<Return>,
    pub secrets: Arc<Secrets>,
    /// When the call that is under way is ended.
    pub ends: Instant,
    context: WasiCtx,
    http: WasiHttpCtx,
    courier: Courier,
}

// === impl Tools ===

impl Tools {
    /// Whether one more message may go out now.
    pub fn may_send(&self) -> bool {
        let now = crate::platform::clock::boottime();
        self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(now)
    }
}

// === impl Room ===

impl Room {
    pub fn new(tools: Arc<Tools>, secrets: Arc<Secrets>) -> Room {
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_BYTES_MAX);
        Room {
            meter: Meter::new(tools.memory_bytes_max, Arc::clone(&tools.counters)),
            table: wasi::table(),
            chosen: HashMap::new(),
            back: None,
            secrets,
            ends: Instant::now() + tools.deadline,
            context: context::context(&tools.voice),
            http,
            courier: Courier::new(Arc::clone(&tools)),
            tools,
        }
    }

    /// Before each message: what the last one left is forgotten.
    pub fn begin(&mut self, back: Option<Return>) {
        self.meter.begin_call();
        self.chosen.clear();
        self.back = back;
        self.ends = Instant::now() + self.tools.deadline;
    }

    /// The name of the link that calls of an interface go by.
    fn link_name(&self, interface: &str) -> &str {
        self.chosen.get(interface).map_or("default", String::as_str)
    }

    /// The target that the component publishes to now.
    pub fn target(&self) -> Option<&Target> {
        let name = self.link_name("wasmcloud:messaging/consumer");
        self.tools.links.iter().find_map(|link| match &link.end {
            LinkEnd::Target(target) if link.name == name => Some(target),
            _ => None,
        })
    }

    /// The place where a bucket's values are now.
    pub fn place(&self, interface: &str, bucket: &str) -> Option<Place> {
        let name = self.link_name(interface);
        self.tools.links.iter().find_map(|link| match link.end {
            LinkEnd::KeyValue { bytes_max, keys_max } if link.name == name => Some(Place {
                component: self.tools.component.clone(),
                link: link.name.clone(),
                bucket: bucket.to_owned(),
                bytes_max,
                keys_max,
            }),
            _ => None,
        })
    }

    /// The place where objects are now.
    pub fn blob_place(&self, interface: &str) -> Option<blobs::Place> {
        let name = self.link_name(interface);
        self.tools.links.iter().find_map(|link| match link.end {
            LinkEnd::Blobs { bytes_max, objects_max } if link.name == name => Some(blobs::Place {
                component: self.tools.component.clone(),
                link: link.name.clone(),
                bytes_max,
                objects_max,
            }),
            _ => None,
        })
    }
}

impl WasiHttpView for Room {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.courier.choose(self.chosen.get(OUTGOING).map_or("default", String::as_str));
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.courier }
    }
}

impl WasiView for Room {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.context, table: &mut self.table }
    }
}
