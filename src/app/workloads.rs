//! The wiring of components for wasmCloud: what they lean on, those of the file, and those that the lattice wants.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{AppError, EVENTS_MAX};
use crate::artifact::trust::{Policy, Unsigned};
use crate::artifact::{self, registry};
use crate::config::workload::http::taken_sockets;
use crate::config::{Config, LatticeMode, LatticeShape, RegistryScheme};
use crate::console::{HostSource, HostView};
use crate::control::{self, Artifacts, Control, ControlHandle, Filed, OfTheFile, Origin, Surroundings};
use crate::device::{self, Devices};
use crate::ingest::listener::inside::Inside;
use crate::lattice::shared::{self, Reader, Shared};
use crate::lattice::wasmbus::subject::Auctions;
use crate::lattice::wasmbus::{Groups, Host, Settings};
use crate::lattice::{Identity, LinkHandle};
use crate::platform::clock::WallClock;
use crate::platform::disk;
use crate::platform::log::chain;
use crate::supervise::{Stage, Tasks, ThreadError};
use crate::workload::blobs::Blobs;
use crate::workload::{self, Commander, Keeper, Kit, Opener, View, Workload};

/// How components for wasmCloud get to MQTT: by a port of the listener's own or, without a listener, to the broker.
pub(super) fn way_to_mqtt(config: &Config) -> Result<(workload::Door, Option<Inside>), AppError> {
    if config.site.listeners.is_empty() {
        let door = config.broker.clone().map_or(workload::Door::None, workload::Door::Broker);
        return Ok((door, None));
    }
    let inside = Inside::bind().map_err(AppError::Inside)?;
    let address = inside.address().map_err(AppError::Inside)?;
    Ok((workload::Door::Inside { address, secret: inside.secret.reveal().to_owned() }, Some(inside)))
}

/// The task that publishes commands, if any component may give some; and the way to it.
pub(super) fn start_commander(
    tasks: &mut Tasks,
    config: &Config,
    door: &workload::Door,
) -> crate::runtime::CommandSender {
    let (sender, commands, account) = crate::runtime::command::channel();
    if config.components.iter().any(|component| !component.commands.is_empty()) {
        let commander = Commander::new(door, commands, account);
        tasks.essential("commands", Stage::Source, |stop| commander.run(stop));
    }
    sender
}

/// A task for each device. They stop after the components, which ask them.
pub(super) fn start_devices(tasks: &mut Tasks, owners: Vec<device::Owner>) {
    for owner in owners {
        // There are at most sixteen, and they are as long-lived as the process.
        let name: &'static str = Box::leak(format!("device {}", owner.name()).into_boxed_str());
        tasks.essential(name, Stage::Pipeline, |stop| owner.run(stop));
    }
}

/// The three threads that serve all components for wasmCloud, and a task for each of the file's.
pub(super) fn start_workloads(
    tasks: &mut Tasks,
    config: &Config,
    door: &workload::Door,
    lattice: &watch::Receiver<Option<async_nats::Client>>,
    devices: &Devices,
) -> Result<(Kit, Vec<Arc<View>>), AppError> {
    let (keeper, keeper_handle) = Keeper::open(&config.gateway.data_dir, config.journal.commit_interval)?;
    tasks.thread("keeper", Stage::Store, move |stop| keeper.run(stop))?;
    let (blobs, blobs_handle) = Blobs::new(&config.gateway.data_dir);
    tasks.thread("blobs", Stage::Store, move |stop| blobs.run(stop))?;
    let compiler = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/frond".into());
    let (opener, opener_handle) = Opener::new(compiler, config.gateway.cache_dir.clone());
    tasks.thread("workloads", Stage::Support, move |_stop| opener.run())?;
    let kit = Kit {
        gateway: config.gateway.name.clone(),
        door: door.clone(),
        lattice: lattice.clone(),
        keeper: keeper_handle,
        blobs: blobs_handle,
        devices: devices.clone(),
        opener: opener_handle,
    };
    let mut views = Vec::new();
    for workload in &config.workloads {
        // There are at most sixteen, and they are as long-lived as the process.
        let name: &'static str = Box::leak(format!("component {}", workload.component.name).into_boxed_str());
        let (workload, view) = Workload::new(workload.clone(), kit.clone());
        views.push(Arc::new(view));
        tasks.essential(name, Stage::Source, |stop| workload.run(stop));
    }
    Ok((kit, views))
}

/// The thread that has the artifacts, and where they come from; or why there are none.
fn start_artifacts(
    tasks: &mut Tasks,
    config: &Config,
    told: watch::Receiver<registry::Told>,
) -> Result<Result<artifact::obtain::Sources, String>, ThreadError> {
    let store = match artifact::store::Store::open(&config.gateway.data_dir, config.artifacts.bytes_max) {
        Ok(store) => store,
        // Readings do not wait for it, nor do the file's components.
        Err(error) => {
            let why = format!("artifacts cannot be kept: {}", chain(&error));
            tracing::error!(why, "components of the lattice do not run");
            return Ok(Err(why));
        }
    };
    let (desk, handle) = artifact::desk::Desk::new(store);
    tasks.thread("artifacts", Stage::Support, move |stop| desk.run(&stop))?;
    let mut registries = registry::Registries::new(config.artifacts.ca.clone());
    registries.told = told;
    for registry in &config.registries {
        if registry.scheme == RegistryScheme::Plain {
            registries.plain.insert(registry.name.clone());
        }
        if let Some(login) = &registry.credentials {
            registries.logins.insert(registry.name.clone(), login.clone());
        }
    }
    let folders = config.artifacts.folders.clone();
    Ok(Ok(artifact::obtain::Sources::new(handle, folders, registries, policy(config))))
}

/// Whose artifacts run.
fn policy(config: &Config) -> Policy {
    let unsigned = match config.artifacts.allow_unsigned {
        true => Unsigned::Allowed,
        false => Unsigned::Refused,
    };
    Policy { signers: config.signers.clone(), unsigned }
}

/// The task that owns the desired state and, unless the link is off or it is not wanted, the host of the lattice.
pub(super) fn start_control(
    tasks: &mut Tasks,
    config: &Config,
    kit: Kit,
    filed: Vec<Arc<View>>,
    (link, clock): (&LinkHandle, &WallClock),
) -> Result<(ControlHandle, HostSource), ThreadError> {
    let (told, told_in) = watch::channel(registry::Told::new());
    let sources = start_artifacts(tasks, config, told_in)?;
    let (events, events_in) = mpsc::channel(EVENTS_MAX);
    let wanted = &config.lattice.host;
    let (ways, ends) = match wanted.shape {
        LatticeShape::Own => (None, None),
        LatticeShape::Shared => {
            let (ways, ends) = shared::ways(&wanted.lattice);
            (Some(ways), Some(ends))
        }
    };
    let (control, handle) = Control::new(control::Setup {
        file: of_the_file(config),
        filed,
        surroundings: Surroundings {
            has_mqtt: config.broker.is_some() || !config.site.listeners.is_empty(),
            devices: config.devices.iter().map(|device| device.name.clone()).collect(),
            http_addresses: config.lattice.host.http_addresses.clone(),
            taken: taken_sockets(config),
            policy: policy(config),
            secrets: config.secrets.clone(),
        },
        artifacts: Artifacts::new(sources, link.clone(), clock.clone()),
        told,
        keeper: kit.keeper.clone(),
        probation: config.lattice.host.probation,
        kit,
        clock: clock.clone(),
        events,
        shared: ways,
    });
    tasks.essential("control", Stage::Source, |stop| control.run(stop));
    let url = match &config.lattice.mode {
        LatticeMode::Off => return Ok((handle, HostSource::Off)),
        LatticeMode::Leaf(leaf) => format!("nats://{}", leaf.listen),
        LatticeMode::Direct(direct) => direct.url.clone(),
    };
    if !wanted.serve {
        return Ok((handle, HostSource::Off));
    }
    let id = match Identity::keep(&config.gateway.data_dir) {
        Ok(identity) => identity.id(),
        // Readings do not wait for it, nor do components that run here already.
        Err(error) => {
            let why = chain(&error).to_string();
            tracing::error!(why, "the gateway is no host of its lattice");
            return Ok((handle, HostSource::Refused(why)));
        }
    };
    let settings = Settings {
        prefix: wanted.prefix.clone(),
        lattice: wanted.lattice.clone(),
        heartbeat: wanted.heartbeat,
        auctions: if wanted.auctions { Auctions::On } else { Auctions::Off },
        friendly_name: wanted.friendly_name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        url: Some(url),
        js_domain: config.lattice.jetstream_domain.clone(),
    };
    let groups = match ends {
        None => Groups::Own,
        Some(ends) => {
            let (shared, joined) = Shared::new(wanted.lattice.clone(), link.clone(), handle.clone(), ends);
            tasks.essential("shared lattice", Stage::Source, |stop| shared.run(stop));
            Groups::Shared { joined, reader: Reader::new(link.clone(), wanted.lattice.clone()) }
        }
    };
    let (host, account) =
        Host::new((settings, groups), id.clone(), handle.clone(), link.clone(), events_in, clock.clone());
    tasks.essential("lattice host", Stage::Source, |stop| host.run(stop));
    Ok((handle, HostSource::On(HostView { id, lattice: wanted.lattice.clone(), account })))
}

/// What the file says of components and labels, and what the machine is.
fn of_the_file(config: &Config) -> OfTheFile {
    let machine = [
        ("arch", std::env::consts::ARCH),
        ("os", std::env::consts::OS),
        ("osfamily", std::env::consts::FAMILY),
    ];
    let machine = machine.map(|(key, value)| (format!("hostcore.{key}"), value.to_owned()));
    let components = config.components.iter().chain(config.workloads.iter().map(|all| &all.component));
    let filed = |component: &crate::config::Component| {
        let file = config.component_files.get(&component.name);
        // Where that cannot be told, an operator will look for the file and see.
        let is_of_the_image = file.is_some_and(|file| disk::is_read_only(file).unwrap_or(false));
        let origin = if is_of_the_image { Origin::Image } else { Origin::LocalFile };
        (component.name.clone(), Filed { path: component.path.display().to_string(), origin })
    };
    OfTheFile {
        components: components.map(filed).collect::<BTreeMap<_, _>>(),
        workloads: config.workloads.len(),
        labels: config.lattice.host.labels.clone().into_iter().chain(machine).collect(),
    }
}
