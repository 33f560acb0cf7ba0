//! The status: one snapshot of everything the gateway knows about itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::host::HostSource;
use crate::cli::render::bytes;
use crate::control::ControlHandle;
use crate::device::{self, DeviceStatus};
use crate::ingest::account::Specimen;
use crate::ingest::listener::entrance::EntranceHandle;
use crate::ingest::listener::{Account, ListenerStats};
use crate::ingest::{DOWN_ADVICE, DoorState, DoorView, Reason, session_suffix};
use crate::lattice::{LinkState, wasmbus};
use crate::platform::clock::{self, WallClock};
use crate::platform::process;
use crate::runtime::{ComponentStats, PipelineStats, Standing};
use crate::sample::{Nanos, SECOND};
use crate::store::StoreStats;
use crate::uplink::{self, Mode, SLOW_ADVICE};
use crate::workload::{Aside, WorkloadStatus};

/// The rate of wear is an average over ten minutes; it says little before they are over.
pub(super) const WEAR_SETTLED: Nanos = 600 * SECOND;

/// What there is to complain of after damage to the log of `state.db`, until the next start.
const LOST_NEWEST: &str = "state.db was damaged: the newest changes of components, links and configurations, and the newest \
     values that components kept, are lost; see `frond history`, and put again what is missing";

/// Where the status is read from. Each source belongs to a task, which publishes snapshots of it.
#[derive(Debug)]
pub struct Sources {
    /// The gateway's name.
    pub name: String,
    /// When the process started, on the boot's clock.
    pub started: Nanos,
    /// The clock.
    pub clock: WallClock,
    /// The doors.
    pub doors: Vec<DoorView>,
    /// The listener's clients, if there is a listener.
    pub listener: Option<(Arc<Account>, EntranceHandle)>,
    /// The store.
    pub store: watch::Receiver<StoreStats>,
    /// The pipeline.
    pub pipeline: watch::Receiver<PipelineStats>,
    /// What is desired, with the views of components for wasmCloud.
    pub control: ControlHandle,
    /// The host of the lattice.
    pub host: HostSource,
    /// Devices.
    pub devices: Vec<device::View>,
    /// The link.
    pub link: watch::Receiver<LinkState>,
    /// The uplink.
    pub uplink: watch::Receiver<uplink::Status>,
    /// A broker or a listener is configured.
    pub has_door: bool,
    /// Listeners that nobody can enter, by name.
    pub shut_doors: Vec<String>,
    /// A link is configured.
    pub wants_link: bool,
}

/// The snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The gateway's name.
    pub gateway: String,
    /// The program's version.
    pub version: String,
    /// Seconds since the process started.
    pub uptime_seconds: u64,
    /// Whether the wall clock is trusted.
    pub clock_trusted: bool,
    /// Proportional set size of the process, bytes; 0 when the system does not say.
    pub memory_bytes: u64,
    /// What somebody should look at, in sentences.
    pub complaints: Vec<String>,
    /// The doors.
    pub doors: Vec<DoorStatus>,
    /// The listener's clients.
    #[serde(default)]
    pub listener: Option<ListenerStats>,
    /// The store.
    pub store: StoreStats,
    /// The pipeline.
    pub pipeline: PipelineStats,
    /// Components for wasmCloud, by name.
    #[serde(default)]
    pub workloads: BTreeMap<String, WorkloadStatus>,
    /// Devices, by name.
    #[serde(default)]
    pub devices: BTreeMap<String, DeviceStatus>,
    /// The host of a wasmCloud lattice, if the gateway is one.
    #[serde(default)]
    pub host: Option<wasmbus::Standing>,
    /// The link.
    pub link: LinkStatus,
    /// The uplink.
    pub uplink: UplinkStatus,
}

/// One door.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DoorStatus {
    /// Which: the durability of its streams; or `listener`.
    pub door: String,
    /// `connecting`, `connected`, `refused` or `down`; of the listener `open`.
    pub state: String,
    /// Why it is not connected, and what to do.
    pub reason: Option<String>,
    /// Copies recognised and not counted again.
    pub redelivered: u64,
    /// Messages that belong to no stream.
    pub unrouted: u64,
    /// Those of them that were kept to be looked at, oldest first; at most eight.
    #[serde(default)]
    pub unrouted_specimens: Vec<SpecimenStatus>,
    /// Connections lost, and attempts that failed.
    pub disconnects: u64,
    /// Its streams.
    pub streams: BTreeMap<String, StreamStatus>,
}

/// One stream at its door.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Messages.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Readings passed on.
    pub readings: u64,
    /// What was rejected, by reason; reasons that never occurred are left out.
    pub rejected: BTreeMap<String, u64>,
    /// The last payloads rejected, oldest first; at most eight.
    #[serde(default)]
    pub specimens: Vec<SpecimenStatus>,
}

/// A rejected payload, or the beginning of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpecimenStatus {
    /// Its topic.
    pub topic: String,
    /// Why; the first of several reasons.
    pub reason: String,
    /// When it came, nanoseconds since 1970 by the gateway's clock.
    pub time_ns: Nanos,
    /// At most 256 bytes of it; what is not UTF-8 is replaced.
    pub payload: String,
    /// Bytes of the whole payload.
    pub payload_bytes: usize,
}

/// The link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// `off`, `connecting`, `local-only`, `up` or `refused`.
    pub state: String,
    /// Why it is not up.
    pub reason: Option<String>,
    /// What to do about it.
    pub advice: Option<String>,
}

/// The uplink; counters since the process started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UplinkStatus {
    /// What it is doing.
    pub mode: String,
    /// Why the hub does not take a row, and what to do.
    pub refusal: Option<String>,
    /// Most bytes in flight at present.
    pub window_bytes: u64,
    /// Outputs in flight.
    pub inflight_rows: u64,
    /// Outputs the hub has acknowledged.
    pub acked_rows: u64,
    /// Their bytes.
    pub acked_bytes: u64,
    /// Outputs sent again.
    pub resent_rows: u64,
    /// Outputs that the hub turned out to hold already.
    pub found_rows: u64,
    /// Times that acknowledgements did not come.
    pub doubts: u64,
    /// Outputs larger than the hub takes.
    pub oversized_rows: u64,
    /// Milliseconds since the last acknowledgement.
    pub last_ack_ms: Option<u64>,
    /// Milliseconds it took.
    pub ack_latency_ms: Option<f64>,
}

// === impl Sources ===

impl Sources {
    /// Takes the snapshot.
    pub fn status(&self) -> Status {
        let doors: Vec<DoorStatus> = self.doors.iter().map(door).collect();
        let store = self.store.borrow().clone();
        let link = link(&self.link.borrow());
        let pipeline = self.pipeline.borrow().clone();
        let uplink = UplinkStatus::of(&self.uplink.borrow());
        let shown = self.control.shown.borrow().clone();
        let workloads: BTreeMap<String, WorkloadStatus> =
            shown.views().map(|view| (view.name().to_owned(), view.status())).collect();
        let mut complaints = self.complaints(&doors, &store, &link, &pipeline, &uplink);
        complaints.extend(self.control.damage().aside.as_ref().map(set_aside));
        complaints.extend(self.control.damage().has_lost_newest.then(|| LOST_NEWEST.to_owned()));
        complaints.extend(self.host.complaint());
        complaints.extend(shown.complaint());
        complaints.extend(shown.absences());
        complaints.extend(workloads.iter().filter_map(|(name, status)| status.complaint(name)));
        let devices: BTreeMap<String, DeviceStatus> =
            self.devices.iter().map(|view| (view.name().to_owned(), view.status())).collect();
        complaints.extend(devices.iter().filter_map(|(name, status)| status.complaint(name)));
        Status {
            gateway: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: u64::try_from((clock::boottime() - self.started) / SECOND).unwrap_or(0),
            clock_trusted: self.clock.trusted_now().is_some(),
            memory_bytes: process::pss_bytes().unwrap_or(0),
            complaints,
            doors,
            listener: self.listener.as_ref().map(|(account, entrance)| account.stats(entrance.logins())),
            store,
            pipeline,
            workloads,
            host: self.host.standing(),
            devices,
            link,
            uplink,
        }
    }

    fn complaints(
        &self,
        doors: &[DoorStatus],
        store: &StoreStats,
        link: &LinkStatus,
        pipeline: &PipelineStats,
        uplink: &UplinkStatus,
    ) -> Vec<String> {
        let mut complaints = Vec::new();
        if !self.has_door {
            complaints
                .push("no sensor can reach this gateway: no listener and no mqtt.broker.url".to_owned());
        }
        for name in &self.shut_doors {
            complaints.push(format!("nobody can enter listener {name}: there is no [[user]] yet"));
        }
        for door in doors.iter().filter(|door| door.state != "connected" && door.state != "open") {
            let reason = door.reason.as_deref().unwrap_or("not connected yet");
            complaints.push(format!("door {}: {reason}", door.door));
        }
        let untrusted = self.clock.trusted_now().is_none();
        if untrusted && clock::boottime() - self.started >= clock::PATIENCE {
            complaints.push(format!("clock: {}", clock::ADVICE));
        }
        if let Some(stalled) = &store.stalled {
            complaints.push(format!("database cannot be written: {}; {}", stalled.reason, stalled.advice));
        }
        if store.rejecting {
            complaints
                .push("buffer is full and a stream rejects when full: messages are not taken".to_owned());
        }
        if let Some(path) = &store.set_aside {
            complaints.push(format!("an unusable database was set aside as {path}"));
        }
        if store.damaged > 0 {
            complaints.push(format!(
                "{} blocks of the database could not be read; the log names them",
                store.damaged
            ));
        }
        if self.wants_link && link.state != "up" {
            let reason = link.reason.as_deref().unwrap_or("not connected yet");
            let advice = link.advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
            complaints.push(format!("link: {reason}{advice}"));
        }
        if uplink.mode == Mode::Slow.to_string() {
            complaints.push(format!("uplink: {SLOW_ADVICE}"));
        }
        if let Some(refusal) = &uplink.refusal {
            complaints.push(format!("hub: {refusal}"));
        }
        // Before that the average stands on little more than the first start.
        let settled = clock::boottime() - self.started > WEAR_SETTLED;
        if settled
            && store.wear_budget_per_day > 0
            && store.written_per_day > store.wear_budget_per_day as f64
        {
            complaints.push(format!(
                "more is written to flash than the wear budget allows: {} a day at this rate, of {}; the commit interval is {} ms",
                bytes(store.written_per_day as u64),
                bytes(store.wear_budget_per_day),
                store.commit_interval_ms
            ));
        }
        for (count, what) in [
            (
                pipeline.commands_dropped,
                "were dropped: too many waited, or what gave them failed, was rolled back, or had a state that is not taken",
            ),
            (
                pipeline.commands_late,
                "came too late and were dropped: MQTT was away, or what they were given on had waited",
            ),
            (pipeline.commands_refused, "were refused by whoever has MQTT, or too large for it"),
            (
                pipeline.commands_unsure,
                "were sent when the connection broke; nobody knows whether they arrived",
            ),
        ] {
            if count > 0 {
                complaints.push(format!("{count} commands of components {what}"));
            }
        }
        complaints.extend(pipeline.components.iter().filter_map(|(name, stats)| component(name, stats)));
        complaints.extend(pipeline.components.iter().filter_map(|(name, stats)| refusals(name, stats)));
        complaints
    }
}

/// What there is to complain of a damaged `state.db` that lies aside.
fn set_aside(aside: &Aside) -> String {
    let since = Timestamp::from_nanosecond(i128::from(aside.since));
    let since = since.map_or(String::new(), |at| format!(" since {at:.0}"));
    format!(
        "state.db was damaged and is set aside{since} as {}: components, links and configurations that were put here, and values \
         that components kept, are lost; put again what is missing, then take that file away and restart frond",
        aside.path.display()
    )
}

/// What there is to complain of a component.
fn component(name: &str, stats: &ComponentStats) -> Option<String> {
    let fault = stats.last_fault.as_deref().unwrap_or("unknown reason");
    let mut away = Vec::new();
    for (count, what) in [
        (stats.passed_by, "readings have passed it by"),
        (stats.dropped, "readings were dropped"),
        (stats.held, "readings wait for it"),
        (stats.hold_dropped, "readings that waited were dropped"),
        (stats.over_share, "of these came when its cpu_share_percent was used up"),
        (stats.over_rate, "of these were beyond readings_in_per_second"),
        (stats.readings_over, "of its readings were beyond readings_out_per_second and dropped"),
        (stats.alarms_over, "of its alarms were beyond alarms_per_second and dropped"),
        (stats.snapshots_rejected, "of its snapshots were beyond state_bytes_max and not taken"),
        (stats.ticks_missed, "ticks of its timer were missed"),
    ] {
        if count > 0 {
            away.push(format!("{count} {what}"));
        }
    }
    let readings = if away.is_empty() { "no reading has missed it".to_owned() } else { away.join(", ") };
    match stats.standing {
        Standing::Absent => {
            let why = stats.absent.as_deref().unwrap_or("unknown reason");
            Some(format!(
                "component {name} does not run, {readings}: {why}; mend that, it is tried again by itself"
            ))
        }
        Standing::Quarantined => Some(format!(
            "component {name} is quarantined, {readings}: {fault}; put a sound file in its place, or frond component release {name}"
        )),
        Standing::Running | Standing::Restarting if away.is_empty() => None,
        Standing::Running if stats.last_fault.is_none() => {
            Some(format!("component {name} is beyond its limits: {readings}"))
        }
        Standing::Running | Standing::Restarting => {
            Some(format!("component {name} failed: {readings}; {fault}"))
        }
    }
}

/// What there is to complain of a component's commands.
fn refusals(name: &str, stats: &ComponentStats) -> Option<String> {
    let last = stats.last_refusal.as_ref().map_or(String::new(), |why| format!("; the last one: {why}"));
    (stats.commands_refused > 0)
        .then(|| format!("component {name} was refused {} commands{last}", stats.commands_refused))
}

fn door(view: &DoorView) -> DoorStatus {
    let (state, reason) = match &*view.state.borrow() {
        DoorState::Connecting => ("connecting", None),
        DoorState::Connected { .. } => ("connected", None),
        DoorState::Open => ("open", None),
        DoorState::Refused { reason, remedy } => ("refused", Some(format!("{reason}; {remedy}"))),
        DoorState::Down { reason } => ("down", Some(format!("{reason}; {DOWN_ADVICE}"))),
    };
    let counters = &view.counters;
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let specimens = view.specimens.borrow();
    let kept = |at| specimens.of(at).map(SpecimenStatus::of).collect();
    let streams = counters.streams.iter().enumerate().map(|(at, stream)| {
        let rejected = Reason::ALL
            .into_iter()
            .map(|reason| (reason.name().to_owned(), stream.rejected(reason)))
            .filter(|(_, count)| *count > 0)
            .collect();
        let status = StreamStatus {
            messages: read(&stream.messages),
            bytes: read(&stream.bytes),
            readings: read(&stream.readings),
            rejected,
            specimens: kept(Some(at)),
        };
        (stream.stream.clone(), status)
    });
    DoorStatus {
        door: session_suffix(view.door).to_owned(),
        state: state.to_owned(),
        reason,
        redelivered: read(&counters.redelivered),
        unrouted: read(&counters.unrouted.messages),
        unrouted_specimens: kept(None),
        disconnects: read(&counters.disconnects),
        streams: streams.filter(|(_, status)| *status != StreamStatus::default()).collect(),
    }
}

fn link(state: &LinkState) -> LinkStatus {
    let (state, trouble) = match state {
        LinkState::Off => ("off", None),
        LinkState::Connecting => ("connecting", None),
        LinkState::Retrying(trouble) => ("connecting", Some(trouble)),
        LinkState::LocalOnly { reason, .. } => ("local-only", Some(reason)),
        LinkState::Up { .. } => ("up", None),
        LinkState::Refused(trouble) => ("refused", Some(trouble)),
    };
    LinkStatus {
        state: state.to_owned(),
        reason: trouble.map(ToString::to_string),
        advice: trouble.map(|trouble| trouble.advice().to_owned()),
    }
}

// === impl SpecimenStatus ===

impl SpecimenStatus {
    fn of(specimen: &Specimen) -> SpecimenStatus {
        SpecimenStatus {
            topic: specimen.topic.clone(),
            reason: specimen.reason.name().to_owned(),
            time_ns: specimen.time,
            payload: String::from_utf8_lossy(&specimen.payload).into_owned(),
            payload_bytes: specimen.payload_bytes,
        }
    }
}

// === impl UplinkStatus ===

impl UplinkStatus {
    fn of(status: &uplink::Status) -> UplinkStatus {
        UplinkStatus {
            mode: status.mode.to_string(),
            refusal: status.refusal.as_ref().map(|refusal| format!("{refusal}; {}", refusal.advice())),
            window_bytes: status.window_bytes,
            inflight_rows: status.inflight_rows,
            acked_rows: status.acked_rows,
            acked_bytes: status.acked_bytes,
            resent_rows: status.resent_rows,
            found_rows: status.found_rows,
            doubts: status.doubts,
            oversized_rows: status.oversized_rows,
            last_ack_ms: status.last_ack.map(|at| at.elapsed().as_millis() as u64),
            ack_latency_ms: status.ack_latency.map(|latency| latency.as_secs_f64() * 1e3),
        }
    }
}

// === impl DoorStatus ===

impl DoorStatus {
    /// Whether messages come in by it.
    pub fn is_open(&self) -> bool {
        self.state == "connected" || self.state == "open"
    }
}
