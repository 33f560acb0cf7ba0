//! Every component that misbehaves beside one that behaves, in one gateway, in an address space of 1 GiB.

use std::fs::{self, File};
use std::path::Path;

use frond::runtime::{ComponentStats, Standing};
use frond::workload::WorkloadStatus;

use super::faults::guest;
use super::sensor::{Plan, publish};
use super::site::{QUICK, Site};

/// How it shows that a component has misbehaved.
#[derive(Debug, Clone, Copy)]
enum Shows {
    /// It cannot be opened, and the reason contains this.
    Absent(&'static str),
    Traps,
    Deadlines,
    Memory,
    Restores,
    Snapshots,
    Rows,
    Alarms,
    LogLines,
    Commands,
    /// It does not: it was called, and the store answered or its deadline ended the call.
    Calls,
}

/// What the guest `misbehave` does in this mode with every batch.
const MODES: [(&str, Shows); 31] = [
    ("trap", Shows::Traps),
    ("exit", Shows::Traps),
    ("recurse", Shows::Traps),
    ("sleep", Shows::Traps),
    ("many-bytes", Shows::Traps),
    ("bad-text", Shows::Traps),
    ("bad-text-in-log", Shows::Traps),
    ("bad-text-in-register", Shows::Traps),
    ("trap-in-announce", Shows::Traps),
    ("trap-in-snapshot", Shows::Traps),
    ("trap-in-configure", Shows::Absent("does not start: trap")),
    ("trap-in-restore", Shows::Restores),
    ("loop", Shows::Deadlines),
    ("loop-in-announce", Shows::Deadlines),
    ("loop-in-snapshot", Shows::Deadlines),
    ("loop-in-configure", Shows::Absent("longer than its deadline")),
    ("loop-in-restore", Shows::Restores),
    ("bad-text-in-configure", Shows::Absent("does not start: trap")),
    ("bad-text-in-restore", Shows::Restores),
    ("refuse", Shows::Absent("refuses its configuration")),
    ("grow", Shows::Memory),
    ("leak", Shows::Memory),
    ("huge-snapshot", Shows::Snapshots),
    ("not-finite", Shows::Rows),
    ("unknown-series", Shows::Rows),
    ("unequal", Shows::Rows),
    ("integers-astray", Shows::Rows),
    ("many-rows", Shows::Rows),
    ("alarm-flood", Shows::Alarms),
    ("log-flood", Shows::LogLines),
    ("register-flood", Shows::Calls),
];

/// What the guest `watchman` does whenever its timer calls it, and `valve` with every reading.
const ACTS: [(&str, Shows); 6] = [
    ("tick-trap", Shows::Traps),
    ("tick-loop", Shows::Deadlines),
    ("tick-grow", Shows::Memory),
    ("tick-bad-text", Shows::Traps),
    ("tick-alarms", Shows::Alarms),
    ("command-flood", Shows::Commands),
];

/// How a component for wasmCloud shows that it has misbehaved.
type Showing = fn(&WorkloadStatus) -> bool;

/// Components for wasmCloud: name, guest, the message that makes them misbehave.
const WORKLOADS: [(&str, &str, &str, Showing); 7] = [
    ("message-flood", "postman", "flood 5000", |stats| stats.refused > 0 && stats.log_lines_dropped > 0),
    ("key-flood", "clerk", "fill", |stats| stats.over_quota > 0),
    ("message-trap", "postman", "trap", |stats| stats.traps > 0),
    ("message-loop", "postman", "loop", |stats| stats.deadlines > 0),
    ("message-grow", "postman", "grow", |stats| stats.memory_faults > 0),
    ("message-recurse", "postman", "recurse", |stats| stats.traps > 0),
    ("message-bad-text", "postman", "bad-text", |stats| stats.traps > 0),
];

/// Files that are no processor.
const FILES: [(&str, Shows); 6] = [
    ("ungranted", Shows::Absent("imports test:ungranted/door, which is not granted")),
    ("stranger", Shows::Absent("does not fit the contract")),
    ("core-module", Shows::Absent("does not compile")),
    ("truncated", Shows::Absent("does not compile")),
    ("hundred-megabytes", Shows::Absent("more than the 33554432")),
    ("text", Shows::Absent("does not compile")),
];

/// An empty function, exported, in a core module.
const CORE_MODULE: &[u8] =
    b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x05\x01\x01f\0\0\x0a\x04\x01\x02\0\x0b";

/// The head of a section that says nothing, for the 100 MB behind it.
const SECTION_OF_100_MB: &[u8] = b"\0\x82\x80\x80\x32\x01x";

fn shows(stats: &ComponentStats, what: Shows) -> bool {
    match what {
        Shows::Absent(reason) => {
            stats.standing == Standing::Absent
                && stats.absent.as_ref().is_some_and(|why| why.contains(reason))
        }
        Shows::Traps => stats.traps > 0,
        Shows::Deadlines => stats.deadlines > 0,
        Shows::Memory => stats.memory_faults > 0,
        Shows::Restores => stats.restores_failed > 0,
        Shows::Snapshots => stats.snapshots_rejected > 0,
        Shows::Rows => stats.rows_rejected > 0,
        Shows::Alarms => stats.alarms_rejected > 0,
        Shows::LogLines => stats.log_lines_dropped > 0,
        Shows::Commands => stats.commands_refused > 0,
        Shows::Calls => stats.calls > 0,
    }
}

/// Makes the files of [`FILES`] that the guests' recipe does not.
fn make_files(folder: &Path) {
    let sound = fs::read(guest("misbehave")).unwrap();
    let file = |name: &str, bytes: &[u8]| fs::write(folder.join(name).with_extension("wasm"), bytes).unwrap();
    file("core-module", CORE_MODULE);
    file("text", b"not wasm at all");
    file("truncated", &sound[..sound.len() / 2]);
    file("hundred-megabytes", &[&sound, SECTION_OF_100_MB].concat());
    let path = folder.join("hundred-megabytes.wasm");
    File::options().write(true).open(path).unwrap().set_len(sound.len() as u64 + 7 + (100 << 20)).unwrap();
    for name in ["ungranted", "stranger"] {
        fs::copy(guest(name), folder.join(name).with_extension("wasm")).unwrap();
    }
}

/// One stream and one component for each of these, and the neighbour's.
fn configuration(folder: &Path, cases: &[(&str, Shows)]) -> String {
    let mut text = format!(
        "{QUICK}[[component]]\nname = \"neighbour\"\npath = \"{}\"\ndeadline = \"20s\"\n\
         config = {{ high = \"*: 1e18\" }}\n\
         [[stream]]\nname = \"machines\"\ntopics = [\"plant/+/state\"]\ncomponent = \"neighbour\"\n\
         time = {{ field = \"ts\", format = \"ms\" }}\nreduce = {{ window = \"1s\", lateness = \"10s\" }}\n",
        guest("limits").display()
    );
    for (name, _) in cases {
        let (path, config) = if FILES.iter().any(|(file, _)| file == name) {
            (folder.join(name).with_extension("wasm"), String::new())
        } else if let Some(what) = name.strip_prefix("tick-") {
            (guest("watchman"), format!("timer = \"500ms\"\nconfig = {{ do = \"{what}\" }}\n"))
        } else if *name == "command-flood" {
            (guest("valve"), "commands = [\"own/#\"]\nconfig = { times = \"100\" }\n".to_owned())
        } else {
            (guest("misbehave"), format!("config = {{ mode = \"{name}\", always = \"yes\" }}\n"))
        };
        text.push_str(&format!(
            "[[component]]\nname = \"{name}\"\npath = \"{}\"\ndeadline = \"250ms\"\n{config}\
             [[stream]]\nname = \"zoo-{name}\"\ntopics = [\"zoo/{name}\"]\ndecode = \"number\"\n\
             component = \"{name}\"\nseries_max = 50\n",
            path.display()
        ));
    }
    text
}

#[tokio::test]
async fn a_sound_component_misses_nothing_whatever_its_neighbours_do() {
    // Goal: during each kind of misbehaviour a component that behaves works on every one of a thousand readings a second,
    // in the address space of a small board. Method: each has its turn with readings of its own until the status says what
    // it has done, while 1,000 sensors go on; in the end the sensors' ledger, and the neighbour's own count. There are four
    // gateways, one after the other; the last has components of both kinds.
    let cases: Vec<_> = MODES.into_iter().chain(FILES).collect();
    for cases in cases.chunks(13) {
        beside(cases, &[]).await;
    }
    beside(&ACTS, &WORKLOADS).await;
}

/// A component for wasmCloud that takes its orders from `order/NAME`.
fn workload(name: &str, wasm: &str) -> String {
    let keyvalue = match wasm {
        "clerk" => {
            "[[component.link]]\ninterface = \"wasi:keyvalue\"\ntarget_config = { bytes_max = \"20KiB\", keys_max = 100 }\n"
        }
        _ => "",
    };
    format!(
        "[[component]]\nname = \"{name}\"\nkind = \"wasmcloud\"\npath = \"{}\"\ndeadline = \"3s\"\n\
         memory_bytes_max = \"8MiB\"\nmessages_out_per_second = 50\nconfig = {{ out = \"out/{name}\" }}\n\
         [[component.link]]\ninterface = \"wasmcloud:messaging/handler\"\nprovider = \"mqtt\"\n\
         source_config = {{ topics = [\"order/{name}\"] }}\n\
         [[component.link]]\ninterface = \"wasmcloud:messaging/consumer\"\nprovider = \"mqtt\"\n\
         target_config = {{ topics = [\"out/{name}\"] }}\n{keyvalue}",
        guest(wasm).display()
    )
}

async fn beside(cases: &[(&str, Shows)], workloads: &[(&str, &str, &str, Showing)]) {
    let mut site = Site::prepare("").await;
    make_files(&site.folder);
    let workloads_too: String = workloads.iter().map(|(name, wasm, ..)| workload(name, wasm)).collect();
    site.lay_over(&format!("{}{workloads_too}", configuration(&site.folder, cases)));
    site.wrapper = ["sh", "-c", "ulimit -v 1048576 && exec \"$@\"", "sh"].map(str::to_owned).into();
    let mut books = site.open().await;
    site.wait("every component", |status| status.pipeline.components.len() == cases.len() + 1).await;
    let mut sensors = Plan::new("w", 1_000, 1_000).start(site.ports.broker);
    sensors.acknowledged(1_000).await;
    for (name, what) in cases {
        for turn in 0.. {
            // With a fraction: of a whole number the exact value counts, whatever float comes back.
            let readings =
                (80..100).map(|n| (format!("zoo/{name}"), format!("{n}.5").into_bytes())).collect();
            publish(site.ports.broker, readings).await;
            sensors.acknowledged(200).await;
            let status = site.status().await.expect("the gateway answers");
            let stats = &status.pipeline.components[*name];
            if turn > 0 && shows(stats, *what) {
                break;
            }
            assert!(turn < 200, "{name} does not show {what:?}: {stats:#?}");
        }
    }
    for (name, _, order, showing) in workloads {
        for turn in 0.. {
            publish(site.ports.broker, vec![(format!("order/{name}"), order.as_bytes().to_vec())]).await;
            sensors.acknowledged(200).await;
            let status = site.status().await.expect("the gateway answers");
            let stats = &status.workloads[*name];
            if showing(stats) {
                break;
            }
            assert!(turn < 200, "{name} does not show what it does: {stats:#?}");
        }
    }
    let verdict = books.settle(&sensors.finish().await).await;
    assert_eq!(verdict.late, 0, "{verdict:?}");
    let status = site.status().await.unwrap();
    let neighbour = &status.pipeline.components["neighbour"];
    let streams = status.doors.iter().filter_map(|door| door.streams.get("machines"));
    let sent: u64 = streams.map(|stream| stream.readings).sum();
    assert_eq!((neighbour.readings_in, neighbour.readings_out), (sent, sent));
    assert_eq!((neighbour.passed_by, neighbour.restarts, neighbour.standing), (0, 0, Standing::Running));
}
