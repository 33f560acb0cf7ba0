//! A component's lines in the gateway's log: whole lines, cut to a length, so many a second.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use bytes::Bytes;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::runtime::counters::{Counters, bump};
use crate::sample::{Nanos, SECOND};

/// Lines at once, so that a panic message with its context arrives whole; where more are allowed in a second, as many as that.
const LINES_AT_ONCE: u32 = 50;

/// Longest line; the rest is cut off. Half of what a terminal's screen shows. At ten lines a second this is 5 KiB/s: a component
/// can fill neither the journal nor the log's disk.
const LINE_BYTES_MAX: usize = 512;

/// Most bytes of one write to standard output or error.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// What a component says its lines with.
#[derive(Debug, Clone)]
pub(crate) struct Voice {
    component: Arc<str>,
    budget: Arc<Budget>,
    counters: Arc<Counters>,
}

/// How many lines may still be written. The processor refills it, whoever has a line takes from it.
#[derive(Debug)]
struct Budget {
    lines_per_second: u32,
    lines: AtomicU32,
    refilled: AtomicI64,
    hushed: AtomicBool,
}

/// Standard output or error.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    voice: Voice,
    level: Level,
}

struct Stream {
    output: Output,
    /// The line so far; never longer than [`LINE_BYTES_MAX`].
    line: Vec<u8>,
}

// === impl Voice ===

impl Voice {
    /// With so many lines a second; 0 is none at all.
    pub(crate) fn new(component: &str, lines_per_second: u32, counters: Arc<Counters>) -> Voice {
        let budget = Budget {
            lines_per_second,
            lines: AtomicU32::new(at_once(lines_per_second)),
            refilled: AtomicI64::new(i64::MIN),
            hushed: AtomicBool::new(false),
        };
        Voice { component: component.into(), budget: Arc::new(budget), counters }
    }

    /// The same for another component.
    pub(crate) fn of(&self, component: &str, counters: Arc<Counters>) -> Voice {
        Voice::new(component, self.budget.lines_per_second, counters)
    }

    /// Whose it is.
    pub(crate) fn component(&self) -> &str {
        &self.component
    }

    /// Refills the budget with what the time since the last call earned.
    pub(crate) fn refill(&self, now: Nanos) {
        let Budget { lines_per_second, lines, refilled, hushed: _ } = &*self.budget;
        let Some(line) = SECOND.checked_div(i64::from(*lines_per_second)) else { return };
        let since = refilled.load(Ordering::Relaxed);
        if since == i64::MIN {
            return refilled.store(now, Ordering::Relaxed);
        }
        let time = now.saturating_sub(since).max(0);
        let earned = u32::try_from(time / line).unwrap_or(u32::MAX);
        if earned > 0 {
            let more = lines.load(Ordering::Relaxed).saturating_add(earned).min(at_once(*lines_per_second));
            lines.store(more, Ordering::Relaxed);
            refilled.store(now - time % line, Ordering::Relaxed);
        }
    }

    /// Nothing that is said from now on is written, or all of it again. Counts for instances that run already, too.
    pub(crate) fn hush(&self, hushed: bool) {
        self.budget.hushed.store(hushed, Ordering::Relaxed);
    }

    /// Writes one line, or drops and counts it.
    pub(crate) fn say(&self, level: Level, line: &str) {
        if self.budget.hushed.load(Ordering::Relaxed) {
            return;
        }
        let take = |lines: u32| lines.checked_sub(1);
        if self.budget.lines.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            bump(&self.counters.log_lines_dropped);
            return;
        }
        bump(&self.counters.log_lines);
        // A line break or an escape sequence would let a component forge lines of others.
        let line = &line[..line.floor_char_boundary(LINE_BYTES_MAX)];
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let component = &*self.component;
        match level {
            Level::Error => tracing::error!(component, line, "component says"),
            Level::Warn => tracing::warn!(component, line, "component says"),
            Level::Info => tracing::info!(component, line, "component says"),
            Level::Debug => tracing::debug!(component, line, "component says"),
        }
    }

    /// Standard output or error at this level.
    pub(crate) fn output(&self, level: Level) -> Output {
        Output { voice: self.clone(), level }
    }
}

/// Lines at once where so many are allowed in a second.
fn at_once(lines_per_second: u32) -> u32 {
    if lines_per_second == 0 { 0 } else { lines_per_second.max(LINES_AT_ONCE) }
}

// === impl Output ===

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Stream { output: self.clone(), line: Vec::new() })
    }
}

// === impl Stream ===

impl Stream {
    fn end_line(&mut self) {
        if !self.line.is_empty() {
            self.output.voice.say(self.output.level, &String::from_utf8_lossy(&self.line));
            self.line.clear();
        }
    }
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece {
                [text @ .., b'\n'] => (text, true),
                text => (text, false),
            };
            let room = LINE_BYTES_MAX - self.line.len();
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.end_line();
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl Pollable for Stream {
    /// Always ready. Written out, since the attribute that makes it is not among our dependencies.
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(std::future::ready(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end_line();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(counters: &Counters) -> (u64, u64) {
        (counters.log_lines.load(Ordering::Relaxed), counters.log_lines_dropped.load(Ordering::Relaxed))
    }

    #[test]
    fn a_flood_of_lines_is_cut_and_counted_and_time_earns_new_ones() {
        // Goal: at most fifty at once and ten a second; of one that is allowed none, none. Method: an injected clock.
        let counters = Arc::new(Counters::default());
        let voice = Voice::new("c", 10, counters.clone());
        voice.refill(0);
        (0..100).for_each(|_| voice.say(Level::Info, "x"));
        assert_eq!(counted(&counters), (50, 50));
        voice.refill(SECOND / 20);
        voice.say(Level::Info, "x");
        assert_eq!(counted(&counters), (50, 51));
        voice.refill(SECOND);
        (0..20).for_each(|_| voice.say(Level::Info, "x"));
        assert_eq!(counted(&counters), (60, 61));
        // Time that was not a whole line yet is not lost.
        (0..20).for_each(|n| {
            voice.refill(SECOND + n * SECOND * 3 / 40);
            voice.say(Level::Info, "x");
        });
        assert_eq!(counted(&counters), (60 + 14, 61 + 6));
        let counters = Arc::new(Counters::default());
        let mute = Voice::new("c", 0, counters.clone());
        mute.refill(SECOND);
        mute.say(Level::Info, "x");
        assert_eq!(counted(&counters), (0, 1));
    }

    #[test]
    fn standard_output_becomes_whole_lines_of_bounded_length() {
        // Goal: pieces are joined, long lines cut, the last one is not lost. Method: count lines at each step.
        let counters = Arc::new(Counters::default());
        let output = Voice::new("c", 10, counters.clone()).output(Level::Info);
        let mut stream = Stream { output, line: Vec::new() };
        stream.write(Bytes::from_static(b"one\ntw")).unwrap();
        assert_eq!((counted(&counters).0, &*stream.line), (1, &b"tw"[..]));
        stream.write(Bytes::from(vec![b'o'; 5000])).unwrap();
        assert_eq!((counted(&counters).0, stream.line.len()), (1, LINE_BYTES_MAX));
        stream.write(Bytes::from_static(b"\n\n\xff")).unwrap();
        assert_eq!(counted(&counters).0, 2);
        drop(stream);
        assert_eq!(counted(&counters).0, 3);
    }
}
