//! Another version of a component is on probation: the one before it is kept, and is back when it fails. Pure.
//!
//! ```text
//!            another reference is asked for                it has worked for `probation`, on something
//!   Settled ─────────────────────────────▶ On probation ─────────────────────────────────────────────▶ Settled
//!      ▲        the former one is kept        │    ▲ │
//!      │                                      │    └─┘ yet another one: the former one stays who it was
//!      └── the former one is desired again ◀──┘ it cannot be opened, or traps, or lacks a link all the while
//! ```
//! The former version is a row of `state.db`, written in the same transaction as the change: a cut of power neither forgets
//! it nor lets a version pass that has not been seen to work. After a restart a probation begins anew.

use std::time::Duration;

use super::desired::{Change, Component, Desired, Item, Key, Spec};
use crate::workload::WorkloadStatus;

/// Between two looks at those on probation.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Calls that took too long before that is held against a version: it may have waited for somebody.
const DEADLINES_MAX: u64 = 3;

/// What is known of a component on probation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Wait,
    /// It is kept.
    Passed,
    /// The former one is to be back, for this reason.
    Failed(String),
}

/// What a change of a component does to the version that is kept before it. `sound` is what is desired of it now, unless that
/// is known not to work.
pub(super) fn former(
    desired: &Desired,
    changes: &[Change],
    sound: Option<&Item<Component>>,
) -> Option<Change> {
    changes.iter().find_map(|change| match change {
        Change::Put(Key::Component(id), Spec::Component(after)) => {
            let key = || Key::Former(id.clone());
            match (desired.formers.get(id), sound) {
                (Some(kept), _) if kept.spec.reference == after.reference => Some(Change::Remove(key())),
                (None, Some(before)) if before.spec.reference != after.reference => {
                    Some(Change::Put(key(), Spec::Former(before.spec.clone())))
                }
                _ => None,
            }
        }
        Change::Remove(Key::Component(id)) if desired.formers.contains_key(id) => {
            Some(Change::Remove(Key::Former(id.clone())))
        }
        _ => None,
    })
}

/// Judges a version that was opened and is there for `lasted`. One that was never called proves nothing.
pub(super) fn judge(status: &WorkloadStatus, lasted: Duration, least: Duration) -> Verdict {
    let ended = status.traps + status.memory_faults;
    let why = || status.reason.clone().unwrap_or_else(|| "it was ended, and works again".to_owned());
    match status.state.as_str() {
        "quarantined" => Verdict::Failed(why()),
        _ if ended > 0 || status.deadlines >= DEADLINES_MAX => Verdict::Failed(why()),
        "ready" if status.handled > 0 && lasted >= least => Verdict::Passed,
        // What it lacks may come after it, as links do; but the one before lacked nothing.
        "absent" if lasted >= least => Verdict::Failed(why()),
        _ => Verdict::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Origin;

    fn component(reference: &str) -> Component {
        Component { reference: reference.into(), limit: 1, ..Component::default() }
    }

    fn put(reference: &str) -> Change {
        Change::Put(Key::Component("press".into()), Spec::Component(component(reference)))
    }

    #[test]
    fn the_version_that_is_kept_is_the_last_that_was_seen_to_work() {
        // Goal: whatever is asked for in a row, what comes back is proven. Method: each arrow of the drawing, and changes
        // that are no other version.
        let mut desired = Desired::default();
        let step = |desired: &mut Desired, change: Change, is_sound: bool| {
            let sound = desired.components.get("press").filter(|_| is_sound).cloned();
            let kept = former(desired, std::slice::from_ref(&change), sound.as_ref());
            for change in kept.into_iter().chain([change]) {
                desired.make(&change, 1, Origin::Lattice);
            }
            desired.formers.get("press").map(|item| item.spec.reference.clone())
        };
        assert_eq!(step(&mut desired, put("a"), true), None, "the first");
        let more = Component { limit: 5, ..component("a") };
        let scaled = Change::Put(Key::Component("press".into()), Spec::Component(more));
        assert_eq!(step(&mut desired, scaled, true), None, "the same version");
        assert_eq!(step(&mut desired, put("b"), true).as_deref(), Some("a"));
        assert_eq!(step(&mut desired, put("c"), true).as_deref(), Some("a"), "b has not passed");
        assert_eq!(step(&mut desired, put("a"), true), None, "it is itself again");
        assert_eq!(step(&mut desired, put("b"), false), None, "what does not work is not kept");
        assert_eq!(step(&mut desired, put("c"), true).as_deref(), Some("b"));
        assert_eq!(step(&mut desired, Change::Remove(Key::Component("press".into())), true), None);
        assert!(desired.components.is_empty());
    }

    #[test]
    fn a_version_passes_by_work_and_time_and_fails_at_once() {
        // Goal: neither time alone nor work alone is enough. Method: each, and both; one that waits for a link, for a while and
        // all the while; one that trapped and works again, one that was slow now and then, and too often, and one that is quarantined.
        let least = Duration::from_secs(10);
        let status = |state: &str, handled| WorkloadStatus {
            state: state.into(),
            handled,
            reason: (state != "ready").then(|| "a reason".into()),
            ..WorkloadStatus::default()
        };
        let after = |status: &WorkloadStatus, seconds| judge(status, Duration::from_secs(seconds), least);
        assert_eq!(after(&status("ready", 0), 11), Verdict::Wait);
        assert_eq!(after(&status("ready", 1), 9), Verdict::Wait);
        assert_eq!(after(&status("ready", 1), 10), Verdict::Passed);
        assert_eq!(after(&status("absent", 0), 9), Verdict::Wait);
        assert_eq!(after(&status("absent", 0), 10), Verdict::Failed("a reason".into()));
        let trapped = WorkloadStatus { traps: 1, ..status("ready", 9) };
        assert_eq!(after(&trapped, 1), Verdict::Failed("it was ended, and works again".into()));
        let slow = |deadlines| WorkloadStatus { deadlines, ..status("discarded", 9) };
        assert_eq!(
            (after(&slow(2), 11), after(&slow(3), 1)),
            (Verdict::Wait, Verdict::Failed("a reason".into()))
        );
        assert_eq!(after(&status("quarantined", 9), 11), Verdict::Failed("a reason".into()));
    }
}
