//! Named places where a crash test has the process killed, as a power cut would end it: no destructor, no flush.
//!
//! `FROND_FAULT=journal.before_commit` kills at the first passage of that point, `FROND_FAULT=journal.before_commit:7` at
//! the seventh. It is read once. In builds without debug assertions, and without the feature `fault`, a point is nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The variable of the environment.
pub const VARIABLE: &str = "FROND_FAULT";

/// Every point there is, in the order of a reading's way. The crash tests pass through each of them.
pub const POINTS: [&str; 11] = [
    "ingest.before_journal",
    "ingest.before_ack",
    "journal.before_transaction",
    "journal.before_commit",
    "journal.after_commit",
    "pipeline.before_checkpoint",
    "pipeline.after_checkpoint",
    "uplink.before_publish",
    "uplink.after_publish",
    "uplink.before_settle",
    "uplink.after_settle",
];

/// Those on an artifact's way into its folder and out of it. The tests of that folder pass through each of them.
pub const ARTIFACT_POINTS: [&str; 7] = [
    "artifact.piece_written",
    "artifact.piece_synced",
    "artifact.piece_noted",
    "artifact.whole",
    "artifact.named",
    "artifact.noted",
    "artifact.removed",
];

const ARMED: bool = cfg!(any(debug_assertions, feature = "fault"));

#[derive(Debug)]
struct Plan {
    name: String,
    /// Passages until the deadly one.
    left: AtomicU64,
}

/// Dies here, if a crash test wants it so.
#[inline]
pub fn point(name: &'static str) {
    if ARMED && plan().is_some_and(|plan| plan.passes(name)) {
        die();
    }
}

fn plan() -> Option<&'static Plan> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    // A plan that cannot be read would let a crash test pass without a crash.
    let read =
        |text: String| Plan::parse(&text).expect("FROND_FAULT is name or name:n, as the crash tests set it");
    PLAN.get_or_init(|| std::env::var(VARIABLE).ok().map(read)).as_ref()
}

fn die() -> ! {
    kill(Pid::this(), Signal::SIGKILL).expect("a process may kill itself");
    loop {
        // The signal arrives before the call returns, as a rule.
        std::thread::park();
    }
}

// === impl Plan ===

impl Plan {
    fn parse(text: &str) -> Option<Self> {
        let (name, nth) = match text.split_once(':') {
            Some((name, nth)) => (name, nth.parse().ok()?),
            None => (text, 1),
        };
        (!name.is_empty() && nth > 0).then(|| Self { name: name.to_owned(), left: AtomicU64::new(nth) })
    }

    /// Counts a passage; whether it is the deadly one.
    fn passes(&self, name: &str) -> bool {
        self.name == name && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;
    use crate::platform::child;

    #[test]
    fn a_plan_is_a_name_and_a_passage() {
        // Goal: the syntax. Method: good and bad texts.
        for (text, expected) in [("a.b", Some(1)), ("a.b:1", Some(1)), ("a.b:7", Some(7))] {
            let plan = Plan::parse(text);
            assert_eq!(
                plan.map(|plan| (plan.name, plan.left.into_inner())),
                expected.map(|n| ("a.b".to_owned(), n))
            );
        }
        for text in ["", ":", ":3", "a:", "a:0", "a:x", "a:-1", "a:1:2"] {
            assert!(Plan::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_process_dies_at_the_passage_that_was_asked_for() {
        // Goal: killed there, not before, not elsewhere. Method: this test's own program as a child, that passes two points
        // five times each and prints a line in between.
        for (plan, lines, signal) in
            [("test.one", 0, Some(9)), ("test.two:3", 3, Some(9)), ("test.two:6", 5, None), ("test", 5, None)]
        {
            let output = child::run("platform::fault::tests::passing_points", &[(VARIABLE, plan)]);
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(text.matches("gone by").count(), lines, "{plan}: {text}");
            assert_eq!(output.status.signal(), signal, "{plan}");
        }
    }

    #[test]
    fn passing_points() {
        // Goal: none of its own; the child of the test above. Method: points of names that nobody else uses.
        for _ in 0..5 {
            point("test.one");
            println!("gone by");
            point("test.two");
        }
    }
}
