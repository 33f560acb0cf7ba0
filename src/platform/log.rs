//! Where log lines go: to journald with their fields, or to stderr as text.
//!
//! journald is used when the service manager has connected stderr to it, which `JOURNAL_STREAM` says with the device and
//! inode of stderr: a shell started from a service inherits the variable, but not the stream. Lines are written on the
//! thread that logs, without a queue: what is logged before a crash is out. A journald that cannot be reached at the start
//! (containers, early boot) leaves stderr. Nothing is kept, nothing is counted.
//!
//! Frond's own lines are filtered by the configured level, those of libraries by `warn`.

use std::error::Error;
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{fmt as text, registry};

use crate::config::LogLevel;

/// Before the names of our fields in the journal, so that they meet no others.
const JOURNAL_PREFIX: &str = "FROND";

/// Why nothing can be logged.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Called twice.
    #[error("logging is set up already")]
    Twice(#[source] TryInitError),
}

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// journald, with fields.
    Journal,
    /// Text on stderr.
    Stderr,
}

/// An error with everything that caused it, see [`chain`].
#[derive(Clone, Copy)]
pub struct Chain<'a>(&'a (dyn Error + 'a));

/// Starts logging, for the whole process, once.
pub fn init(level: LogLevel) -> Result<Output, LogError> {
    let filtered = registry().with(targets(level));
    let journal = if stderr_is_the_journal() { tracing_journald::layer().ok() } else { None };
    match journal {
        Some(layer) => {
            let layer = layer
                .with_field_prefix(Some(JOURNAL_PREFIX.to_owned()))
                .with_syslog_identifier("frond".to_owned());
            filtered.with(layer).try_init().map_err(LogError::Twice)?;
            Ok(Output::Journal)
        }
        None => {
            filtered.with(text::layer().with_writer(io::stderr)).try_init().map_err(LogError::Twice)?;
            Ok(Output::Stderr)
        }
    }
}

/// Prints an error and its sources, joined by `: `. A source whose text the error already ends with is left out: not every
/// library keeps the two apart.
pub fn chain<'a>(error: &'a (dyn Error + 'a)) -> Chain<'a> {
    Chain(error)
}

fn targets(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // The Modbus library tells each byte of noise on a line; what there is to know of that is counted (`device::Account`). The
    // one of HTTP warns of what a component does wrong, once for each time: the component would write the log full by it.
    Targets::new()
        .with_default(LevelFilter::WARN.min(ours))
        .with_target("frond", ours)
        .with_target("tokio_modbus", LevelFilter::OFF)
        .with_target("wasmtime_wasi_http", LevelFilter::ERROR)
}

fn stderr_is_the_journal() -> bool {
    // Through the link, so that it is the socket's own device and inode.
    let stderr = std::fs::metadata("/proc/self/fd/2");
    let stream = std::env::var("JOURNAL_STREAM");
    stream.is_ok_and(|stream| stderr.is_ok_and(|stderr| is_stream(&stream, &stderr)))
}

fn is_stream(stream: &str, file: &Metadata) -> bool {
    stream == format!("{}:{}", file.dev(), file.ino())
}

// === impl Chain ===

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut next = self.0.source();
        while let Some(source) = next {
            let text = source.to_string();
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
            next = source.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;
    use crate::platform::child;

    /// A stream that is not stderr's.
    const ANOTHER: &str = "8:123456";

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        source: Option<Box<Layer>>,
    }

    fn layers(texts: &[&'static str]) -> Option<Box<Layer>> {
        let (text, rest) = texts.split_first()?;
        Some(Box::new(Layer { text, source: layers(rest) }))
    }

    #[test]
    fn a_chain_says_every_layer_once() {
        // Goal: what a log line shows of an error. Method: layers that keep apart, and one that repeats its source.
        let error = layers(&["journal cannot be opened", "table is missing", "io"]).unwrap();
        assert_eq!(chain(&*error).to_string(), "journal cannot be opened: table is missing: io");
        let error = layers(&["link is down", "connect: refused", "refused"]).unwrap();
        assert_eq!(chain(&*error).to_string(), "link is down: connect: refused");
        assert_eq!(chain(&io::Error::from(io::ErrorKind::NotFound)).to_string(), "entity not found");
    }

    #[test]
    fn libraries_are_quieter_than_frond() {
        // Goal: the filter. Method: ask it.
        for (level, frond, library) in
            [(LogLevel::Trace, Level::TRACE, Level::WARN), (LogLevel::Error, Level::ERROR, Level::ERROR)]
        {
            let targets = targets(level);
            assert!(targets.would_enable("frond::journal", &frond));
            assert!(targets.would_enable("async_nats", &library));
            let more = if library == Level::WARN { Level::INFO } else { Level::WARN };
            assert!(!targets.would_enable("async_nats", &more));
        }
    }

    #[test]
    fn a_stream_is_known_by_device_and_inode() {
        // Goal: the variable's format. Method: a file's own numbers, and those numbers the wrong way round.
        let file = std::fs::metadata("/proc/self/exe").unwrap();
        assert!(is_stream(&format!("{}:{}", file.dev(), file.ino()), &file));
        assert!(!is_stream(&format!("{}:{}", file.ino(), file.dev()), &file) && !is_stream("", &file));
    }

    #[test]
    fn lines_are_plain_text_on_stderr_unless_stderr_is_the_journal() {
        // Goal: a process without a service manager, or with somebody else's variable. Method: this test's own program as
        // a child whose stderr is a pipe; the second time with the variable of another stream.
        for stream in ["", ANOTHER] {
            let output =
                child::run("platform::log::tests::a_process_that_logs", &[("JOURNAL_STREAM", stream)]);
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(String::from_utf8(output.stdout).unwrap().contains("logged"));
            assert!(text.contains("INFO frond") && text.contains("slot marked good slot=\"A\""), "{text}");
            assert!(!text.contains("noise") && !text.contains('\u{1b}'), "{text}");
            assert!(output.status.success());
        }
    }

    #[test]
    fn a_process_that_logs() {
        // Goal: none of its own; the child of the test above, and nothing without it, since logging is set up once.
        if std::env::var_os("JOURNAL_STREAM").is_none_or(|stream| !stream.is_empty() && stream != ANOTHER) {
            return;
        }
        assert_eq!(init(LogLevel::Info).unwrap(), Output::Stderr);
        assert!(matches!(init(LogLevel::Info), Err(LogError::Twice(_))));
        tracing::info!(slot = "A", "slot marked good");
        tracing::debug!("noise of ours");
        tracing::info!(target: "library", "noise of a library");
        println!("logged");
    }
}
