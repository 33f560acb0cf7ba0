//! The status as text for people.

use std::fmt;

use crate::cli::render::bytes;
use crate::runtime::{ComponentStats, DeploymentStats, How, PipelineStats, Stage, Standing};
use crate::sample::SECOND;

use super::status::{LinkStatus, SpecimenStatus, Status, UplinkStatus, WEAR_SETTLED};

/// Digits of a version that are shown.
const DIGITS_SHOWN: usize = 12;
/// Characters of a rejected payload that are shown.
const SPECIMEN_CHARS_SHOWN: usize = 60;

impl fmt::Display for SpecimenStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Escaped: a payload is a stranger's, and this goes to a terminal.
        let payload: String = self.payload.chars().take(SPECIMEN_CHARS_SHOWN).collect();
        write!(f, "{:?} {}: {payload:?}, {} bytes", self.topic, self.reason, self.payload_bytes)
    }
}

impl fmt::Display for UplinkStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} outputs acknowledged ({}), {} in flight, {} sent again",
            self.mode,
            self.acked_rows,
            bytes(self.acked_bytes),
            self.inflight_rows,
            self.resent_rows
        )
    }
}

impl fmt::Display for ComponentStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let standing = match self.standing {
            Standing::Running => "running",
            Standing::Restarting => "failed, being restarted",
            Standing::Quarantined => "quarantined",
            Standing::Absent => "not there",
        };
        write!(
            f,
            "{standing}, {} readings in, {} out, {} ms in {} calls, {} of state",
            self.readings_in,
            self.readings_out,
            self.call_ms,
            self.calls,
            bytes(self.state_bytes)
        )?;
        for (count, what) in [
            (self.traps + self.deadlines + self.memory_faults, "failures"),
            (self.restarts, "restarts"),
            (self.passed_by, "passed it by"),
            (self.dropped, "dropped"),
            (self.held, "waiting"),
            (self.hold_dropped, "dropped while waiting"),
            (self.over_share, "over its share of time"),
            (self.over_rate, "over its rate in"),
            (self.readings_over, "dropped over its rate out"),
            (self.alarms_over, "alarms dropped over their rate"),
            (self.ticks, "ticks"),
            (self.ticks_missed, "ticks missed"),
            (self.commands, "commands"),
            (self.commands_refused, "commands refused"),
            (self.rows_rejected, "rows refused"),
            (self.alarms_rejected, "alarms refused"),
            (self.snapshots_rejected, "snapshots too large"),
            (self.restores_failed, "states not taken back"),
            (self.log_lines_dropped, "log lines dropped"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        match &self.deployment {
            Some(deployment) => write!(f, "; {deployment}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for DeploymentStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |digest: &Option<String>| {
            digest.as_ref().map_or("unknown".to_owned(), |digest| digest.chars().take(DIGITS_SHOWN).collect())
        };
        let (at_work, beside) = (short(&self.at_work), short(&self.beside));
        let origin = if self.deployed { "deployed" } else { "as configured" };
        write!(f, "version {at_work}, {origin}")?;
        let left = self.left_s.unwrap_or(0);
        match self.stage {
            Stage::Current => {}
            Stage::Opening => write!(f, ", a new one is being opened")?,
            Stage::Trial => {
                write!(f, ", {beside} on trial for {left} s more, {} batches so far", self.batches)?
            }
            Stage::Probation => {
                write!(
                    f,
                    ", on probation for {left} s more, {} batches so far, before it {beside}",
                    self.batches
                )?;
            }
        }
        let Some(last) = self.last else { return Ok(()) };
        let what = match last {
            How::Confirmed => "confirmed",
            How::Refused => "refused",
            How::RolledBack => "taken back",
            How::Superseded => "replaced by the configuration's",
        };
        let why = self.last_why.as_deref().unwrap_or("unknown reason");
        write!(
            f,
            "; {} deployments, {} confirmed, {} refused, {} taken back; the last, {}, was {what}: {why}",
            self.begun,
            self.confirmed,
            self.refused,
            self.rolled_back,
            short(&self.last_digest)
        )
    }
}

impl Status {
    /// The part about the buffer.
    pub fn buffer(&self) -> String {
        let store = &self.store;
        let settled = i128::from(self.uptime_seconds) * i128::from(SECOND) >= i128::from(WEAR_SETTLED);
        let per_reading = store.written_bytes as f64 / store.readings.max(1) as f64;
        let budget = match store.wear_budget_per_day {
            0 => "no budget".to_owned(),
            budget => format!("of {} allowed", bytes(budget)),
        };
        let mut text = String::new();
        let mut line = |name: &str, what: String| text.push_str(&format!("{name:<10} {what}\n"));
        line(
            "outbox",
            format!(
                "{} outputs, {}; {} dropped by caps in all",
                store.outbox_rows,
                bytes(store.outbox_bytes),
                store.outbox_dropped
            ),
        );
        line(
            "raw ring",
            format!(
                "{} readings in {}; {} dropped to make room since the start",
                store.ring_readings,
                bytes(store.ring_bytes),
                store.ring_dropped
            ),
        );
        line(
            "journal",
            format!(
                "{} readings in {} groups, every {} ms; last commit {:.1} ms, slowest {:.1} ms",
                store.readings, store.commits, store.commit_interval_ms, store.commit_ms, store.commit_ms_max
            ),
        );
        line(
            "flash",
            match settled {
                true => format!(
                    "{} written, {per_reading:.1} bytes per reading; {} a day at this rate, {budget}",
                    bytes(store.written_bytes),
                    bytes(store.written_per_day as u64),
                ),
                // The journal is filled ahead at each start, which would be told as a rate.
                false => format!(
                    "{} written since the start; what it comes to in a day can be told after {} min",
                    bytes(store.written_bytes),
                    WEAR_SETTLED / SECOND / 60,
                ),
            },
        );
        text
    }
}

impl fmt::Display for LinkStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.state)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = if self.clock_trusted { "clock trusted" } else { "clock not trusted yet" };
        writeln!(
            f,
            "{:<10} frond {}, up {} s, {} of memory, {clock}",
            self.gateway,
            self.version,
            self.uptime_seconds,
            bytes(self.memory_bytes)
        )?;
        for door in &self.doors {
            writeln!(
                f,
                "{:<10} {} ({} streams), {} copies recognised",
                "door", door.state, door.door, door.redelivered
            )?;
            for (name, stream) in &door.streams {
                let rejected: Vec<String> =
                    stream.rejected.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
                let rejected = if rejected.is_empty() {
                    String::new()
                } else {
                    format!("; rejected: {}", rejected.join(", "))
                };
                writeln!(
                    f,
                    "{:<10}   {name}: {} messages, {} readings{rejected}",
                    "", stream.messages, stream.readings
                )?;
                if let Some(last) = stream.specimens.last() {
                    writeln!(f, "{:<10}   last rejected: {last}", "")?;
                }
            }
            if door.unrouted > 0 {
                writeln!(f, "{:<10}   of no stream: {} messages", "", door.unrouted)?;
            }
            if let Some(last) = door.unrouted_specimens.last() {
                writeln!(f, "{:<10}   last of these: {last}", "")?;
            }
        }
        if let Some(clients) = &self.listener {
            writeln!(
                f,
                "{:<10} {} connected, {} not let in, {} failed logins",
                "clients", clients.connected, clients.refused, clients.logins.failed
            )?;
        }
        writeln!(
            f,
            "{:<10} {} readings, {} windows closed, {} late, {} repeats, {} alarms",
            "pipeline",
            self.pipeline.readings,
            self.pipeline.windows,
            self.pipeline.late,
            self.pipeline.duplicates,
            self.pipeline.alarms
        )?;
        let PipelineStats {
            commands_left,
            commands_dropped,
            commands_late,
            commands_refused,
            commands_unsure,
            ..
        } = self.pipeline;
        if commands_left + commands_dropped + commands_late + commands_refused + commands_unsure > 0 {
            writeln!(
                f,
                "{:<10} {commands_left} left, {commands_unsure} perhaps; {commands_dropped} dropped, {commands_late} late, \
                 {commands_refused} refused",
                "commands"
            )?;
        }
        for (name, component) in &self.pipeline.components {
            writeln!(f, "{:<10} {name}: {component}", "component")?;
        }
        for (name, workload) in &self.workloads {
            writeln!(f, "{:<10} {name}: {workload}", "component")?;
        }
        if let Some(host) = &self.host {
            writeln!(
                f,
                "{:<10} {} of the lattice {}: {} requests, {} dropped, {} events, {} dropped",
                "host",
                host.host,
                host.lattice,
                host.requests,
                host.dropped,
                host.events,
                host.events_dropped
            )?;
        }
        for (name, device) in &self.devices {
            writeln!(f, "{:<10} {name}: {device}", "device")?;
        }
        f.write_str(&self.buffer())?;
        writeln!(f, "{:<10} {}; {}", "link", self.link, self.uplink)?;
        for complaint in &self.complaints {
            writeln!(f, "{:<10} {complaint}", "LOOK")?;
        }
        Ok(())
    }
}
