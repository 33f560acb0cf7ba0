//! `[[component]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{FileKind, FilePlace, Judge};
use crate::config::fault::{Doubt, Fault};
use crate::config::raw::{self, Kind};
use crate::config::tree::KeyPath;
use crate::config::{Component, Config, FilterFault, Stream, TimeSource, Workload, names};
use crate::ingest::topic;

/// Most components: at the least memory of 1 MiB each they would fill the smallest board.
const COMPONENTS_MAX: usize = 64;
/// Most settings of a component, and the longest.
const SETTINGS_MAX: usize = 32;
const SETTING_CHARS_MAX: usize = 64 * 1024;

/// Most readings held back: 32 MiB of memory, and some 4 MiB of every checkpoint.
const HOLD_READINGS_MAX: usize = 1 << 20;
/// Highest rates: what the largest gateway could not do either, and no alarms at all.
const READINGS_PER_SECOND_MAX: u32 = 100_000_000;
const ALARMS_PER_SECOND_MAX: u32 = 10_000;
const COMMANDS_PER_SECOND_MAX: u32 = 1_000;
/// Most lines: 512 KB/s of log.
const LOG_LINES_PER_SECOND_MAX: u32 = 1_000;
/// Largest snapshot: one is written with each checkpoint, and 1 MiB a minute is 1.5 GB a day, all of the wear budget.
const STATE_BYTES_MAX: u64 = 1 << 20;
/// Most batches of a trial: an hour of 250 a second.
const TRIAL_BATCHES_MAX: u32 = 1_000_000;
/// Most failures looked back on.
const QUARANTINE_FAILURES_MAX: usize = 100;

impl Judge<'_> {
    pub(super) fn components(&mut self, raw: &[raw::Component]) -> (Vec<Component>, Vec<Workload>) {
        let table = KeyPath::of("component");
        self.count(&table, raw.len(), COMPONENTS_MAX);
        let (mut components, mut workloads) = (Vec::new(), Vec::new());
        for (n, raw) in raw.iter().enumerate() {
            let table = table.item(n);
            let component = self.component(&table, raw);
            if raw.kind == Some(Kind::Wasmcloud) {
                workloads.push(self.workload(&table, raw, component));
            } else {
                self.no_workload(&table, raw);
                components.push(component);
            }
        }
        (components, workloads)
    }

    /// What can only be told of the whole configuration.
    pub(super) fn components_whole(&mut self, raw: &[raw::Component], config: &Config) {
        let is_shut = config.broker.is_none() && config.site.listeners.is_empty();
        let processors = raw.iter().enumerate().filter(|(_, raw)| raw.kind != Some(Kind::Wasmcloud));
        for ((n, _), component) in processors.zip(&config.components) {
            let table = KeyPath::of("component").item(n);
            if !config.streams.iter().any(|stream| stream.component.as_ref() == Some(&component.name)) {
                self.doubt(&table, Doubt::UnusedComponent);
            }
            if component.commands.is_empty() {
                continue;
            }
            let path = table.key("commands");
            if is_shut {
                self.doubt(&path, Doubt::CommandsNowhere);
            }
            for filter in &component.commands {
                let takes = |stream: &Stream| {
                    let by = stream.topics.iter().find(|by| topic::overlap(by, filter))?;
                    Some((stream.name.clone(), by.clone()))
                };
                if let Some((stream, by)) = config.streams.iter().find_map(takes) {
                    self.doubt(&path, Doubt::CommandsBack { filter: filter.clone(), stream, by });
                }
            }
            let is_ageless = |stream: &&Stream| {
                stream.component.as_ref() == Some(&component.name) && stream.time == TimeSource::Arrival
            };
            if let Some(stream) = config.streams.iter().find(is_ageless) {
                self.doubt(&path, Doubt::CommandsLate { stream: stream.name.clone() });
            }
        }
    }

    /// Lists are laid over each other as a whole: all components stand in one file.
    pub(super) fn component_files(
        &self,
        components: &[Component],
        workloads: &[Workload],
    ) -> BTreeMap<String, PathBuf> {
        let Some(file) = self.tree.origin(&KeyPath::of("component")) else { return BTreeMap::new() };
        let all = components.iter().chain(workloads.iter().map(|workload| &workload.component));
        all.map(|component| (component.name.clone(), PathBuf::from(file))).collect()
    }

    fn component(&mut self, table: &KeyPath, raw: &raw::Component) -> Component {
        let key = |key: &str| table.key(key);
        let path = match &raw.path {
            Some(path) => {
                let path = self.path(&key("path"), path);
                self.name_file(&key("path"), &path, FileKind::Component, FilePlace::Known);
                path
            }
            None => {
                self.missing(table, "path");
                PathBuf::new()
            }
        };
        self.count(&key("config"), raw.config.len(), SETTINGS_MAX);
        for (name, setting) in &raw.config {
            if setting.chars().count() > SETTING_CHARS_MAX {
                self.refuse(&key("config").key(name), Fault::Text { chars_max: SETTING_CHARS_MAX });
            }
        }
        let mut component = Component::of(self.element_name(table, raw.name.as_deref()), path);
        component.config = raw.config.clone();
        self.limits(table, raw, &mut component);
        component.fallback = raw.fallback.unwrap_or(component.fallback);
        if let Some(readings) = raw.hold_readings_max {
            let at = key("hold_readings_max");
            component.hold_readings_max = self.whole_number(&at, readings, 1, HOLD_READINGS_MAX);
        }
        if let Some(failures) = raw.quarantine_failures {
            let at = key("quarantine_failures");
            component.quarantine_failures = self.whole_number(&at, failures, 0, QUARANTINE_FAILURES_MAX);
        }
        if let Some(within) = raw.quarantine_within {
            let (least, most) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
            component.quarantine_within = self.duration(&key("quarantine_within"), within, least, most);
        }
        if let Some(timer) = raw.timer {
            let (least, most) = (Duration::from_millis(500), Duration::from_secs(24 * 3600));
            component.timer = self.duration(&key("timer"), timer, least, most);
        }
        self.deployment(table, raw, &mut component);
        component
    }

    /// How a new version is tried.
    fn deployment(&mut self, table: &KeyPath, raw: &raw::Component, component: &mut Component) {
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        if let Some(trial) = raw.trial {
            component.trial = self.duration(&table.key("trial"), trial, second, hour);
        }
        if let Some(batches) = raw.trial_batches {
            component.trial_batches =
                self.whole_number(&table.key("trial_batches"), batches, 1, TRIAL_BATCHES_MAX);
        }
        if let Some(probation) = raw.probation {
            component.probation = self.duration(&table.key("probation"), probation, second, 7 * 24 * hour);
        }
    }

    /// What it may take.
    fn limits(&mut self, table: &KeyPath, raw: &raw::Component, component: &mut Component) {
        let key = |key: &str| table.key(key);
        if let Some(bytes) = &raw.memory_bytes_max {
            component.memory_bytes_max = self.bytes(&key("memory_bytes_max"), bytes.0, 1 << 20, 1 << 30);
        }
        if let Some(deadline) = raw.deadline {
            let (least, most) = (Duration::from_millis(1), Duration::from_secs(60));
            component.deadline = self.duration(&key("deadline"), deadline, least, most);
        }
        if let Some(share) = raw.cpu_share_percent {
            component.cpu_share_percent = self.whole_number(&key("cpu_share_percent"), share, 1, 100);
        }
        for (name, said, rate, least, most) in [
            (
                "readings_in_per_second",
                raw.readings_in_per_second,
                &mut component.readings_in_per_second,
                1,
                READINGS_PER_SECOND_MAX,
            ),
            (
                "readings_out_per_second",
                raw.readings_out_per_second,
                &mut component.readings_out_per_second,
                0,
                READINGS_PER_SECOND_MAX,
            ),
            (
                "alarms_per_second",
                raw.alarms_per_second,
                &mut component.alarms_per_second,
                0,
                ALARMS_PER_SECOND_MAX,
            ),
            (
                "commands_per_second",
                raw.commands_per_second,
                &mut component.commands_per_second,
                0,
                COMMANDS_PER_SECOND_MAX,
            ),
            (
                "log_lines_per_second",
                raw.log_lines_per_second,
                &mut component.log_lines_per_second,
                0,
                LOG_LINES_PER_SECOND_MAX,
            ),
        ] {
            if let Some(said) = said {
                *rate = self.whole_number(&key(name), said, least, most);
            }
        }
        component.commands = self.filters(&key("commands"), &raw.commands);
        for (n, filter) in raw.commands.iter().enumerate() {
            if filter.starts_with('$') && names::topic_filter(filter).is_ok() {
                let fault = FilterFault::Dollar;
                self.refuse(&key("commands").item(n), Fault::Filter { filter: filter.clone(), fault });
            }
        }
        if let Some(bytes) = &raw.state_bytes_max {
            let bytes = self.bytes(&key("state_bytes_max"), bytes.0, 1 << 10, STATE_BYTES_MAX);
            component.state_bytes_max = usize::try_from(bytes).unwrap_or(usize::MAX);
        }
    }
}
