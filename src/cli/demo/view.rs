//! The live view: a few lines, redrawn in place on a terminal, one line every few seconds elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::time::Instant;

use crate::cli::render::bytes;

/// On a terminal.
const REDRAW: Duration = Duration::from_millis(500);
/// Into a pipe or a file.
const RELOG: Duration = Duration::from_secs(5);
/// Width of the bar of progress.
const BAR: usize = 40;

/// What is shown.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// Since the start, and how long it will take.
    pub elapsed: Duration,
    /// How long it takes in all.
    pub total: Duration,
    /// Readings the machines have had acknowledged.
    pub sent: u64,
    /// Windows at the hub.
    pub windows: u64,
    /// Bytes the machines published.
    pub raw_bytes: u64,
    /// Bytes that reached the hub.
    pub cloud_bytes: u64,
    /// Bytes waiting on the gateway, and its bytes written per reading; `None` while it does not answer.
    pub gateway: Option<Gateway>,
    /// Whether the wire to the hub is whole.
    pub wire: bool,
    /// What is happening.
    pub phase: &'static str,
}

/// What the gateway says of itself.
#[derive(Debug, Clone, Default)]
pub struct Gateway {
    /// Bytes in its outbox.
    pub buffered_bytes: u64,
    /// State of its link.
    pub link: String,
    /// Bytes written to its database.
    pub written_bytes: u64,
    /// Readings it has committed.
    pub readings: u64,
}

/// Draws frames.
#[derive(Debug)]
pub struct View {
    terminal: bool,
    drawn: usize,
    last: Option<(Instant, Frame)>,
}

// === impl View ===

impl View {
    /// Draws on the standard output.
    pub fn new() -> View {
        View { terminal: std::io::stdout().is_terminal(), drawn: 0, last: None }
    }

    /// How long until the next frame.
    pub fn pause(&self) -> Duration {
        if self.terminal { REDRAW } else { RELOG }
    }

    /// Draws one frame.
    pub fn draw(&mut self, frame: Frame) {
        let now = Instant::now();
        let (rate_in, rate_out) = match &self.last {
            Some((then, before)) => {
                let seconds = now.duration_since(*then).as_secs_f64().max(1e-3);
                (
                    frame.sent.saturating_sub(before.sent) as f64 / seconds,
                    frame.windows.saturating_sub(before.windows) as f64 / seconds,
                )
            }
            None => (0.0, 0.0),
        };
        let lines = if self.terminal {
            rows(&frame, rate_in, rate_out)
        } else {
            vec![line(&frame, rate_in, rate_out)]
        };
        let mut out = std::io::stdout().lock();
        // A view that cannot be written is not worth failing for: the verdict at the end is.
        if self.terminal && self.drawn > 0 {
            let _ = write!(out, "\x1b[{}A", self.drawn);
        }
        for text in &lines {
            let _ = writeln!(out, "{}{text}", if self.terminal { "\x1b[2K" } else { "" });
        }
        let _ = out.flush();
        self.drawn = lines.len();
        self.last = Some((now, frame));
    }
}

fn rows(frame: &Frame, rate_in: f64, rate_out: f64) -> Vec<String> {
    let part = frame.elapsed.as_secs_f64() / frame.total.as_secs_f64().max(1e-3);
    let full = ((part.min(1.0)) * BAR as f64) as usize;
    let wire = if frame.wire { "══════" } else { "═╳  ╳═" };
    let (buffered, link, wear) = match &frame.gateway {
        Some(g) => (
            bytes(g.buffered_bytes),
            g.link.clone(),
            format!("{:.1} B written per reading", g.written_bytes as f64 / g.readings.max(1) as f64),
        ),
        None => ("?".to_owned(), "gateway is down".to_owned(), String::new()),
    };
    vec![
        String::new(),
        format!("  machines ──MQTT──▶ gateway ──leaf {wire} hub        {}", frame.phase),
        String::new(),
        format!(
            "  in      {rate_in:>9.0} readings/s   {:>12} readings   {:>10}",
            frame.sent,
            bytes(frame.raw_bytes)
        ),
        format!(
            "  out     {rate_out:>9.0} windows/s    {:>12} windows    {:>10}",
            frame.windows,
            bytes(frame.cloud_bytes)
        ),
        format!("  buffer  {buffered:>12}   link {link:<28} {wear}"),
        format!("  ratio   {}", ratio(frame)),
        format!("  [{}{}] {:>3.0} s", "#".repeat(full), "·".repeat(BAR - full), frame.elapsed.as_secs_f64()),
    ]
}

fn line(frame: &Frame, rate_in: f64, rate_out: f64) -> String {
    let (buffered, link) = match &frame.gateway {
        Some(g) => (bytes(g.buffered_bytes), g.link.as_str()),
        None => ("?".to_owned(), "gateway is down"),
    };
    format!(
        "{:>4.0} s  in {rate_in:.0} readings/s  out {rate_out:.0} windows/s  buffered {buffered}  link {link}  {}  {}",
        frame.elapsed.as_secs_f64(),
        ratio(frame),
        frame.phase
    )
}

fn ratio(frame: &Frame) -> String {
    if frame.cloud_bytes == 0 {
        return "nothing at the hub yet".to_owned();
    }
    format!("1/{:.0} of the raw bytes to the cloud", frame.raw_bytes as f64 / frame.cloud_bytes as f64)
}
