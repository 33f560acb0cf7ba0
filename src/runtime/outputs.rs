//! One stream's way from readings to outputs: its reducer, or the readings themselves, and its alarms.

use std::collections::BTreeMap;

use crate::block::DecodeError;
use crate::block::{self, Alarm, Envelope, Rows, SeriesEntry, WindowRow, WireClock};
use crate::config::{self, Reduce};
use crate::journal::RawBlock;
use crate::outbox::Output;
use crate::reduce::{Closed, Reducer};
use crate::sample::{BootId, Durability, Lane, Nanos, Reading, SeriesId, StreamId, Timeline};
use crate::store::Known;

use super::desk::described;

/// Windows in one output: 1,024 rows of some 20 bytes are 20 KiB, which a link of 1 Mbit/s carries in a sixth of a second:
/// an alarm never waits longer behind one message.
const WINDOWS_PER_OUTPUT: usize = 1_024;
/// Forwarded readings in one output, for the same reason.
const READINGS_PER_OUTPUT: usize = 8_192;
/// Readings in one block of the raw ring: what a recall sends as one message.
const READINGS_PER_RAW_BLOCK: usize = 32_768;

/// A stream's part of the pipeline.
#[derive(Debug)]
pub struct Line {
    name: String,
    /// `None` for a stream that is no longer configured but had something open.
    stream: Option<config::Stream>,
    reducer: Option<Reducer>,
    /// Closed windows, with the length they had.
    closed: Vec<(Nanos, Closed)>,
    forwarded: BTreeMap<Timeline, Vec<Reading>>,
    alarms: BTreeMap<Timeline, Vec<Alarm>>,
    windows: u64,
}

/// What a line has counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Windows closed.
    pub windows: u64,
    /// Late readings.
    pub late: u64,
    /// Repeated readings.
    pub duplicates: u64,
}

// === impl Line ===

impl Line {
    /// The line of a configured stream.
    pub fn new(stream: config::Stream) -> Line {
        let reducer = match &stream.reduce {
            Reduce::None => None,
            Reduce::Window { length, lateness } => Some(Reducer::new(nanos(*length), nanos(*lateness))),
        };
        Line { reducer, ..Line::retired(stream.name.clone()) }.with(stream)
    }

    /// The line of a stream that is no longer configured: what was open is closed and sent, readings still in the
    /// journal go to the ring only.
    pub fn retired(name: String) -> Line {
        Line {
            name,
            stream: None,
            reducer: None,
            closed: Vec::new(),
            forwarded: BTreeMap::new(),
            alarms: BTreeMap::new(),
            windows: 0,
        }
    }

    fn with(mut self, stream: config::Stream) -> Line {
        self.stream = Some(stream);
        self
    }

    /// Takes up the windows that were open at the checkpoint. If the stream has other windows now, they are closed as
    /// they are.
    pub fn restore(&mut self, snapshot: &[u8], now: Nanos) -> Result<(), DecodeError> {
        let mut before = Reducer::restore(snapshot, now)?;
        match &mut self.reducer {
            Some(reducer)
                if (reducer.length(), reducer.lateness()) == (before.length(), before.lateness()) =>
            {
                *reducer = before;
            }
            _ => {
                before.flush();
                let length = before.length();
                self.closed.extend(before.take_closed().into_iter().map(|closed| (length, closed)));
            }
        }
        Ok(())
    }

    /// When the stream's readings are on flash.
    pub fn durability(&self) -> Durability {
        self.stream.as_ref().map_or(Durability::Reading, |stream| stream.durability)
    }

    /// Name of the stream's component.
    pub fn component(&self) -> Option<&str> {
        self.stream.as_ref()?.component.as_deref()
    }

    /// Takes readings.
    pub fn push(&mut self, timeline: Timeline, readings: &[Reading], now: Nanos) {
        match &mut self.reducer {
            Some(reducer) => {
                for reading in readings {
                    reducer.push(timeline, *reading, now);
                }
                self.collect();
            }
            None if self.stream.is_some() => {
                self.forwarded.entry(timeline).or_default().extend_from_slice(readings);
            }
            None => {}
        }
    }

    /// Takes alarms of the stream's component.
    pub fn push_alarms(&mut self, timeline: Timeline, alarms: Vec<Alarm>) {
        self.alarms.entry(timeline).or_default().extend(alarms);
    }

    /// Closes windows of series that have fallen silent. Tells whether any closed.
    pub fn advance(&mut self, now: Nanos) -> bool {
        let Some(reducer) = &mut self.reducer else { return false };
        reducer.advance(now);
        self.collect()
    }

    /// Whether there is anything to send.
    pub fn has_outputs(&self) -> bool {
        !(self.closed.is_empty() && self.forwarded.is_empty() && self.alarms.is_empty())
    }

    /// The open windows.
    pub fn snapshot(&self) -> Option<Vec<u8>> {
        self.reducer.as_ref().map(Reducer::snapshot)
    }

    /// What the line has counted.
    pub fn counts(&self) -> Counts {
        let counters = self.reducer.as_ref().map(Reducer::counters).unwrap_or_default();
        Counts { windows: self.windows, late: counters.late, duplicates: counters.duplicates }
    }

    /// Everything there is to send, encoded.
    pub fn take_outputs(
        &mut self,
        stream: StreamId,
        series: &BTreeMap<SeriesId, Known>,
        boots: &BTreeMap<BootId, String>,
    ) -> Vec<Output> {
        let name = self.name.clone();
        let lane = self.stream.as_ref().map_or(Lane::Data, |stream| stream.lane);
        let mut outputs = Vec::new();
        let mut put = |lane, timeline, series, rows_in: usize, rows| {
            let envelope =
                Envelope { stream: name.clone(), clock: wire_clock(timeline, boots), series, rows };
            outputs.push(Output {
                stream,
                lane,
                boot: boot_of(timeline),
                rows: u32::try_from(rows_in).unwrap_or(u32::MAX),
                body: block::encode_envelope(&envelope),
            });
        };
        for (timeline, alarms) in std::mem::take(&mut self.alarms) {
            let entries = dictionary(alarms.iter().map(|alarm| alarm.series), series);
            put(Lane::Alarm, timeline, entries, alarms.len(), Rows::Alarms(alarms));
        }
        for ((length, timeline), mut rows) in by_shape(std::mem::take(&mut self.closed)) {
            rows.sort_by_key(|row| (row.series, row.start));
            for chunk in rows.chunks(WINDOWS_PER_OUTPUT) {
                let entries = dictionary(chunk.iter().map(|row| row.series), series);
                put(lane, timeline, entries, chunk.len(), Rows::Windows { length, rows: chunk.to_vec() });
            }
        }
        for (timeline, mut readings) in std::mem::take(&mut self.forwarded) {
            readings.sort_by_key(|reading| (reading.series, reading.time));
            for chunk in readings.chunks(READINGS_PER_OUTPUT) {
                let entries = dictionary(chunk.iter().map(|reading| reading.series), series);
                put(lane, timeline, entries, chunk.len(), Rows::Raw(chunk.to_vec()));
            }
        }
        outputs
    }

    /// Takes over what the reducer has closed. Tells whether there was anything.
    fn collect(&mut self) -> bool {
        let Some(reducer) = &mut self.reducer else { return false };
        let length = reducer.length();
        let before = self.closed.len();
        self.closed.extend(reducer.take_closed().into_iter().map(|closed| (length, closed)));
        self.windows += (self.closed.len() - before) as u64;
        self.closed.len() > before
    }
}

/// Raw readings as blocks for the ring.
pub fn raw_blocks((stream, timeline): (StreamId, Timeline), mut readings: Vec<Reading>) -> Vec<RawBlock> {
    readings.sort_by_key(|reading| (reading.series, reading.time));
    let block = |chunk: &[Reading]| {
        let (from, to) = chunk.iter().fold((Nanos::MAX, Nanos::MIN), |(from, to), reading| {
            (from.min(reading.time), to.max(reading.time))
        });
        let readings = u32::try_from(chunk.len()).expect("a chunk is far smaller");
        RawBlock { stream, timeline, from, to, readings, block: block::encode_readings(chunk) }
    };
    readings.chunks(READINGS_PER_RAW_BLOCK).map(block).collect()
}

/// An entry for every series in `rows`.
fn dictionary(
    rows: impl Iterator<Item = SeriesId>,
    series: &BTreeMap<SeriesId, Known>,
) -> BTreeMap<SeriesId, SeriesEntry> {
    let mut entries = BTreeMap::new();
    for id in rows {
        entries.entry(id).or_insert_with(|| described(series, id));
    }
    entries
}

fn by_shape(closed: Vec<(Nanos, Closed)>) -> BTreeMap<(Nanos, Timeline), Vec<WindowRow>> {
    let mut shapes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (length, closed) in closed {
        shapes.entry((length, closed.timeline)).or_default().push(closed.row);
    }
    shapes
}

fn boot_of(timeline: Timeline) -> Option<BootId> {
    match timeline {
        Timeline::Boot(boot) => Some(boot),
        Timeline::Sensor | Timeline::Arrival => None,
    }
}

fn wire_clock(timeline: Timeline, boots: &BTreeMap<BootId, String>) -> WireClock {
    match timeline {
        Timeline::Sensor => WireClock::Sensor,
        Timeline::Arrival => WireClock::Arrival,
        Timeline::Boot(boot) => WireClock::Estimated { boot: boots.get(&boot).cloned().unwrap_or_default() },
    }
}

fn nanos(duration: std::time::Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}
