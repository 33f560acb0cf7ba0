//! How long to wait before a task is started again. Pure.

use std::time::Duration;

/// Pauses that double from `first` to `max`, and begin again once the task has run for longer than `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first end.
    pub first: Duration,
    /// The longest pause.
    pub max: Duration,
}

/// The pauses of one task.
#[derive(Debug)]
pub(super) struct Pauses {
    backoff: Backoff,
    next: Duration,
}

// === impl Backoff ===

impl Backoff {
    /// For what fails for local reasons: from 100 ms, which a person does not notice, to 30 s, which costs nothing.
    pub const LOCAL: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(30) };

    pub(super) fn pauses(self) -> Pauses {
        Pauses { backoff: self, next: self.first }
    }
}

// === impl Pauses ===

impl Pauses {
    /// The pause after a task has run for so long.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran > self.backoff.max {
            self.next = self.backoff.first;
        }
        let pause = self.next;
        self.next = (pause * 2).min(self.backoff.max);
        pause
    }
}
