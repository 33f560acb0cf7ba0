//! What is configured of a component, with the defaults of its keys: no layer lies below it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A WebAssembly component that processes readings.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// The name streams refer to.
    pub name: String,
    /// The `.wasm` file.
    pub path: PathBuf,
    /// SHA-256 that the file must have whenever it is opened, in hexadecimal digits; `None` where it may be replaced: the
    /// file's own components.
    pub digest: Option<String>,
    /// Linear memory, tables and everything else it may have, 1 MiB to 1 GiB. Default 16 MiB.
    pub memory_bytes_max: u64,
    /// Longest time one call may take, 1 ms to 60 s. Default 500 ms.
    pub deadline: Duration,
    /// Share of the time that its calls may take, per cent, 1 to 100. Default 25.
    pub cpu_share_percent: u8,
    /// Readings a second that it is given. Default 500,000.
    pub readings_in_per_second: u32,
    /// Readings a second that it may give back beyond those it is given. Default 10,000.
    pub readings_out_per_second: u32,
    /// Alarms a second. Default 100.
    pub alarms_per_second: u32,
    /// Topic filters of what it may command by MQTT. Default none.
    pub commands: Vec<String>,
    /// Commands a second. Default 10.
    pub commands_per_second: u32,
    /// Lines a second that it may write to the log. Default 10.
    pub log_lines_per_second: u32,
    /// Largest snapshot, 1 KiB to 1 MiB, the default, which is what the contract promises.
    pub state_bytes_max: usize,
    /// What becomes of readings that it does not work on.
    pub fallback: Fallback,
    /// Most readings that `hold` keeps back. Default 65,536.
    pub hold_readings_max: usize,
    /// So many failures within [`Component::quarantine_within`], and it is not started again; 0 for never. Default 10.
    pub quarantine_failures: usize,
    /// See [`Component::quarantine_failures`]. Default 10 minutes.
    pub quarantine_within: Duration,
    /// Longest that a new version is tried beside the old one, 1 s to 1 h. Default 30 s.
    pub trial: Duration,
    /// Batches after which the trial is over sooner. Default 100.
    pub trial_batches: u32,
    /// How long the old version goes on beside the new one, 1 s to 7 days. Default 10 minutes.
    pub probation: Duration,
    /// How often it is called if it exports a timer, 500 ms to 24 h. Default 1 s.
    pub timer: Duration,
    /// Passed to the component as it is.
    pub config: BTreeMap<String, String>,
}

/// What becomes of readings that their component does not work on: because it failed, is being restarted, is quarantined,
/// cannot be opened, or has used up what it may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// They go on as they came.
    #[default]
    Pass,
    /// They do not go on; the raw ring has them.
    Drop,
    /// They wait until the component works again.
    Hold,
}

// === impl Component ===

impl Component {
    /// A component with the default of every other key.
    ///
    /// A failure within ten minutes of nine others: that is a component which fails whenever it is started, after four
    /// minutes of pauses that double, or one which fails once a minute. One that fails every other minute goes on for
    /// ever, and loses a minute of work in an hour by its pauses.
    ///
    /// A quarter of the time: four components that take all they can get leave nothing to each other, and the shipped ones
    /// take a thousandth of it for a thousand readings a second. 500,000 readings a second are more than a core takes in:
    /// the rate is there to be set. 10,000 more out are a spectrum of a thousand lines, ten times a second. A hundred
    /// alarms a second, and a thousand at once, are more than anybody reads.
    ///
    /// 65,536 readings held are 2 MiB of memory for each component that holds, a minute of a thousand readings a second;
    /// of flash they take some 4 B each with every checkpoint.
    ///
    /// Half a minute of trial is thirty batches or more of a stream with readings, a hundred are enough of a fast one; ten
    /// minutes of probation have ten windows of a minute in them, and cost the component's time twice.
    pub fn of(name: String, path: PathBuf) -> Component {
        Component {
            name,
            path,
            digest: None,
            memory_bytes_max: 16 << 20,
            deadline: Duration::from_millis(500),
            cpu_share_percent: 25,
            readings_in_per_second: 500_000,
            readings_out_per_second: 10_000,
            alarms_per_second: 100,
            commands: Vec::new(),
            commands_per_second: 10,
            log_lines_per_second: 10,
            state_bytes_max: 1 << 20,
            fallback: Fallback::Pass,
            hold_readings_max: 65_536,
            quarantine_failures: 10,
            quarantine_within: Duration::from_secs(600),
            trial: Duration::from_secs(30),
            trial_batches: 100,
            probation: Duration::from_secs(600),
            timer: Duration::from_secs(1),
            config: BTreeMap::new(),
        }
    }
}
