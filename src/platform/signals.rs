//! SIGTERM and SIGINT ask the process to stop. Owns the two handlers; drops nothing: further signals are logged, and the
//! deadlines of the stop bound how long it may take.

use std::convert::Infallible;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Why signals cannot be heard.
#[derive(Debug, thiserror::Error)]
#[error("the handler for {name} cannot be installed")]
pub struct SignalsError {
    name: &'static str,
    #[source]
    source: std::io::Error,
}

/// Waits for signals.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    asked: CancellationToken,
}

// === impl Signals ===

impl Signals {
    /// Listens from now on; a signal cancels `asked`. Needs a tokio runtime with I/O.
    pub fn listen(asked: CancellationToken) -> Result<Self, SignalsError> {
        let handler = |kind, name| signal(kind).map_err(|source| SignalsError { name, source });
        Ok(Self {
            terminate: handler(SignalKind::terminate(), "SIGTERM")?,
            interrupt: handler(SignalKind::interrupt(), "SIGINT")?,
            asked,
        })
    }

    /// Takes signals until stopped.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        loop {
            // Cancel-safe: a signal that is not taken here stays pending for the next call.
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                () = stop.cancelled() => return Ok(()),
            };
            info!(signal = name, "asked to stop");
            self.asked.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::signal::{self, kill};
    use nix::unistd::Pid;

    use super::*;
    use crate::platform::child;

    #[test]
    fn either_signal_asks_to_stop_and_a_second_one_does_not_kill() {
        // Goal: both signals, more than once. Method: a child that sends them to itself, because handlers are for good and
        // for the whole process.
        let output =
            child::run("platform::signals::tests::a_process_with_handlers", &[("FROND_TEST_SIGNALS", "yes")]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("stopped"), "{text}");
    }

    #[tokio::test]
    async fn a_process_with_handlers() {
        // Goal: none of its own; the child of the test above, and nothing without it.
        if std::env::var_os("FROND_TEST_SIGNALS").is_none() {
            return;
        }
        for sent in [signal::SIGTERM, signal::SIGINT] {
            let (asked, stop) = (CancellationToken::new(), CancellationToken::new());
            let signals = Signals::listen(asked.clone()).unwrap();
            let story = async {
                kill(Pid::this(), sent).unwrap();
                tokio::time::timeout(Duration::from_secs(10), asked.cancelled()).await.unwrap();
                kill(Pid::this(), sent).unwrap();
                tokio::task::yield_now().await;
                stop.cancel();
            };
            let (ended, ()) = tokio::join!(signals.run(stop.clone()), story);
            ended.unwrap();
        }
        println!("stopped");
    }
}
