//! A word for whoever waits: nothing within the first second, then a line every few.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// What is over by then needs no word.
const FIRST: Duration = Duration::from_secs(1);

/// After that, so often.
const AGAIN: Duration = Duration::from_secs(5);

/// Speaks on standard error until it is dropped.
pub(super) struct Progress {
    /// Its end is the sign to stop.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

// === impl Progress ===

impl Progress {
    /// `what` goes on, as in "compiling limits.wasm".
    pub(super) fn of(what: String) -> Progress {
        let (stop, stopped) = mpsc::channel();
        let speak = move || {
            let started = Instant::now();
            let mut pause = FIRST;
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{what} … {} s", started.elapsed().as_secs());
                pause = AGAIN;
            }
        };
        // Where no thread can be started there is no word.
        let thread = thread::Builder::new().name("frond-progress".into()).spawn(speak).ok();
        Progress { stop: Some(stop), thread }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked, and if it had there would be nothing to do about it here.
            let _ = thread.join();
        }
    }
}
