//! What comes out of a component, as a table or as JSON lines.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use serde_json::json;

use super::roster::Roster;
use crate::block::Alarm;
use crate::cli::exit::Exit;
use crate::cli::rows::{quoted, rfc3339};
use crate::sample::{Reading, Value};

/// The first line of a table.
const HEADING: &str = "time,time_ns,series,value,unit,alarm,message";

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A table: readings, and alarms as rows with a name and a message.
    Csv,
    /// A JSON object for each row, as `frond tail --json` gives them.
    Json,
}

/// Rows on their way out.
pub(super) struct Rows {
    form: Form,
    out: Box<dyn Write>,
}

// === impl Rows ===

impl Rows {
    /// To a file, or to standard output.
    pub(super) fn to(path: Option<&Path>, form: Form) -> anyhow::Result<Rows> {
        let out: Box<dyn Write> = match path {
            Some(path) => {
                Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?)
            }
            None => Box::new(io::stdout().lock()),
        };
        let mut rows = Rows { form, out: Box::new(BufWriter::new(out)) };
        if form == Form::Csv {
            rows.line(HEADING)?;
        }
        Ok(rows)
    }

    /// What a batch came to: its readings, then its alarms.
    pub(super) fn write(
        &mut self,
        readings: &[Reading],
        alarms: &[Alarm],
        roster: &Roster,
    ) -> anyhow::Result<()> {
        for reading in readings {
            let row = self.reading(reading, roster);
            self.line(&row)?;
        }
        for alarm in alarms {
            let row = self.alarm(alarm, roster);
            self.line(&row)?;
        }
        Ok(())
    }

    /// Whatever is still held back goes out.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.out.flush().or_else(gone).context("cannot write what came out")
    }

    fn reading(&self, reading: &Reading, roster: &Roster) -> String {
        let (name, unit) = roster.named(reading.series);
        let time = rfc3339(reading.time);
        match self.form {
            Form::Csv => {
                format!("{time},{},{},{},{},,", reading.time, quoted(name), reading.value, quoted(unit))
            }
            Form::Json => {
                let value = match reading.value {
                    Value::Float(float) => json!(float),
                    Value::Int(int) => json!(int),
                };
                let mut row = json!({
                    "kind": "reading", "series": name, "time": time, "time_ns": reading.time, "value": value,
                });
                if !unit.is_empty() {
                    row["unit"] = unit.into();
                }
                row.to_string()
            }
        }
    }

    fn alarm(&self, alarm: &Alarm, roster: &Roster) -> String {
        let (name, unit) = roster.named(alarm.series);
        let time = rfc3339(alarm.time);
        match self.form {
            Form::Csv => {
                let edge = if alarm.active { "raised" } else { "cleared" };
                format!(
                    "{time},{},{},{},{},{},{}",
                    alarm.time,
                    quoted(name),
                    alarm.value,
                    quoted(unit),
                    quoted(&format!("{} {edge}", alarm.name)),
                    quoted(&alarm.message)
                )
            }
            Form::Json => json!({
                "kind": "alarm", "series": name, "time": time, "time_ns": alarm.time, "active": alarm.active,
                "name": alarm.name, "message": alarm.message, "value": alarm.value,
            })
            .to_string(),
        }
    }

    fn line(&mut self, text: &str) -> anyhow::Result<()> {
        writeln!(self.out, "{text}").or_else(gone).context("cannot write what came out")
    }
}

/// A reader that goes away (`… | head`) ends the command without a word.
fn gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(Exit::Ok as i32);
    }
    Err(error)
}
