//! What a run of `frond component test` came to: counted, for people and as JSON.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::runtime::{Command, Counters, Processed};
use crate::sample::Reading;

/// The counters that a summary shows.
const COUNTED: [fn(&Counters) -> &AtomicU64; 14] = [
    |counters| &counters.traps,
    |counters| &counters.deadlines,
    |counters| &counters.memory_faults,
    |counters| &counters.restarts,
    |counters| &counters.passed_by,
    |counters| &counters.rows_rejected,
    |counters| &counters.alarms_rejected,
    |counters| &counters.snapshots_rejected,
    |counters| &counters.ticks,
    |counters| &counters.ticks_missed,
    |counters| &counters.commands,
    |counters| &counters.commands_refused,
    |counters| &counters.log_lines,
    |counters| &counters.log_lines_dropped,
];

/// Most commands that are shown.
const COMMANDS_SHOWN: usize = 20;

/// What the run came to.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) batches: u64,
    pub(super) readings_in: u64,
    pub(super) readings_out: u64,
    pub(super) raised: u64,
    pub(super) cleared: u64,
    /// The first commands: topic and payload.
    pub(super) commands: Vec<(String, String)>,
    /// Ticks that were due in long gaps and not made.
    pub(super) ticks_left_out: u64,
    pub(super) spent: Duration,
    pub(super) restart: Option<Restart>,
}

/// What a restart did.
pub(super) struct Restart {
    pub(super) after: u64,
    pub(super) snapshot_bytes: Option<usize>,
    pub(super) set_aside: Option<String>,
    /// The first difference to the run without.
    pub(super) difference: Option<String>,
}

/// The end of a run.
pub(super) struct Summary<'a> {
    pub(super) tally: &'a Tally,
    pub(super) counters: &'a Counters,
    pub(super) snapshot_bytes: Option<usize>,
    pub(super) announced: usize,
    pub(super) registered: usize,
}

// === impl Tally ===

impl Tally {
    pub(super) fn count(&mut self, batch: &[Reading], processed: &Processed<'_>) {
        self.batches += 1;
        self.readings_in += batch.len() as u64;
        self.readings_out += processed.readings.len() as u64;
        let raised = processed.alarms.iter().filter(|alarm| alarm.active).count();
        self.raised += raised as u64;
        self.cleared += (processed.alarms.len() - raised) as u64;
        let room = COMMANDS_SHOWN - self.commands.len();
        let said = |command: &Command| {
            let payload = String::from_utf8_lossy(&command.payload);
            (command.topic.escape_debug().to_string(), payload.escape_debug().to_string())
        };
        self.commands.extend(processed.commands.iter().take(room).map(said));
    }
}

// === impl Summary ===

impl Summary<'_> {
    fn of(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        counter(self.counters).load(Ordering::Relaxed)
    }

    /// Calls that failed.
    fn faults(&self) -> u64 {
        self.of(|c| &c.traps) + self.of(|c| &c.deadlines) + self.of(|c| &c.memory_faults)
    }

    /// What did not hold.
    fn rejected(&self) -> u64 {
        self.of(|c| &c.rows_rejected) + self.of(|c| &c.alarms_rejected) + self.of(|c| &c.snapshots_rejected)
    }

    pub(super) fn is_sound(&self) -> bool {
        let same = |restart: &Restart| restart.difference.is_none() && restart.set_aside.is_none();
        self.faults() == 0 && self.rejected() == 0 && self.tally.restart.as_ref().is_none_or(same)
    }

    pub(super) fn text(&self) -> String {
        let Tally {
            batches,
            readings_in,
            readings_out,
            raised,
            cleared,
            commands,
            ticks_left_out,
            spent,
            restart,
        } = self.tally;
        let mut lines = vec![format!(
            "{readings_in} readings of {} series in {batches} batches, {readings_out} readings out, {} series registered",
            self.announced, self.registered
        )];
        lines.push(format!("alarms: {raised} raised, {cleared} cleared"));
        if self.of(|c| &c.commands) + self.of(|c| &c.commands_refused) > 0 {
            let (given, refused) = (self.of(|c| &c.commands), self.of(|c| &c.commands_refused));
            lines.push(format!("commands: {given} given, {refused} refused; none is sent from here"));
            lines.extend(commands.iter().map(|(topic, payload)| format!("  {topic} {payload}")));
            if given > commands.len() as u64 {
                lines.push(format!("  and {} more", given - commands.len() as u64));
            }
        }
        if self.of(|c| &c.ticks) > 0 {
            let left_out = match ticks_left_out {
                0 => String::new(),
                count => format!(", {count} more left out in long gaps"),
            };
            lines.push(format!("timer: {} ticks{left_out}", self.of(|c| &c.ticks)));
        }
        lines.push(match self.faults() {
            0 => "faults: none".to_owned(),
            _ => format!(
                "faults: {} traps, {} deadlines, {} out of memory; {} restarts, {} readings passed by",
                self.of(|c| &c.traps),
                self.of(|c| &c.deadlines),
                self.of(|c| &c.memory_faults),
                self.of(|c| &c.restarts),
                self.of(|c| &c.passed_by)
            ),
        });
        if self.rejected() > 0 {
            lines.push(format!(
                "did not hold and were dropped: {} rows, {} alarms, {} snapshots",
                self.of(|c| &c.rows_rejected),
                self.of(|c| &c.alarms_rejected),
                self.of(|c| &c.snapshots_rejected)
            ));
        }
        lines.push(format!(
            "log: {} lines, {} dropped",
            self.of(|c| &c.log_lines),
            self.of(|c| &c.log_lines_dropped)
        ));
        lines.push(match self.snapshot_bytes {
            Some(bytes) => format!("snapshot: {bytes} bytes"),
            None => "snapshot: none, the component has no state".to_owned(),
        });
        let spent_us = spent.as_secs_f64() * 1e6;
        lines.push(format!(
            "time: {:.1} us a batch, {:.2} us a reading",
            spent_us / (*batches).max(1) as f64,
            spent_us / (*readings_in).max(1) as f64
        ));
        lines.extend(restart.as_ref().map(Restart::text));
        lines.join("\n") + "\n"
    }

    pub(super) fn json(&self) -> Json {
        let Tally {
            batches,
            readings_in,
            readings_out,
            raised,
            cleared,
            commands,
            ticks_left_out,
            spent,
            restart,
        } = self.tally;
        json!({
            "kind": "summary", "batches": batches, "readings_in": readings_in, "readings_out": readings_out,
            "series": self.announced, "series_registered": self.registered,
            "commands": self.of(|c| &c.commands), "commands_refused": self.of(|c| &c.commands_refused),
            "first_commands": commands.iter().map(|(topic, payload)| json!({ "topic": topic, "payload": payload }))
                .collect::<Vec<_>>(),
            "ticks": self.of(|c| &c.ticks), "ticks_left_out": ticks_left_out,
            "alarms_raised": raised, "alarms_cleared": cleared,
            "traps": self.of(|c| &c.traps), "deadlines": self.of(|c| &c.deadlines),
            "memory_faults": self.of(|c| &c.memory_faults), "restarts": self.of(|c| &c.restarts),
            "passed_by": self.of(|c| &c.passed_by), "rows_rejected": self.of(|c| &c.rows_rejected),
            "alarms_rejected": self.of(|c| &c.alarms_rejected),
            "snapshots_rejected": self.of(|c| &c.snapshots_rejected),
            "log_lines": self.of(|c| &c.log_lines), "log_lines_dropped": self.of(|c| &c.log_lines_dropped),
            "snapshot_bytes": self.snapshot_bytes, "spent_us": spent.as_micros() as u64,
            "restart": restart.as_ref().map(|restart| json!({
                "after": restart.after, "snapshot_bytes": restart.snapshot_bytes,
                "set_aside": restart.set_aside, "difference": restart.difference,
            })),
            "sound": self.is_sound(),
        })
    }
}

// === impl Restart ===

impl Restart {
    pub(super) fn text(&self) -> String {
        let state = match self.snapshot_bytes {
            Some(bytes) => format!("with a snapshot of {bytes} bytes"),
            None => "without a snapshot".to_owned(),
        };
        let begun = format!("restart after {} readings, {state}", self.after);
        match (&self.set_aside, &self.difference) {
            (Some(why), _) => format!("{begun}: the component did not take it back: {why}"),
            (None, Some(difference)) => format!("{begun}: DIFFERS {difference}"),
            (None, None) => format!("{begun}: the same readings and alarms as without"),
        }
    }
}

/// What was counted before a restart counts on.
pub(super) fn carry(before: &Counters, after: &Counters) {
    for of in COUNTED {
        of(after).fetch_add(of(before).load(Ordering::Relaxed), Ordering::Relaxed);
    }
}
