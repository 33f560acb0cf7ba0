//! Whether a new version is sound, by what was counted of it and of the old one on the same batches. Pure.
//!
//! A fault always counts against it. Time beyond its share, and results that the contract or the limits forbid, count when
//! the old version had fewer of them: what both do is the input's doing, or the limits'.

use std::ops::{AddAssign, Sub};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::runtime::Counters;

/// What counts against a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::runtime) struct Tally {
    /// Traps, deadlines, memory.
    faults: u64,
    /// Snapshots too large to be kept.
    large: u64,
    /// Readings that it had no time for.
    over_share: u64,
    /// Rows and alarms that did not hold, or were too many.
    refused: u64,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::runtime) enum Wrong {
    /// It has failed; the processor knows why.
    Fault,
    /// Its state cannot be kept.
    Large,
    /// It takes too much time.
    Share,
    /// It breaks the contract, or exceeds its limits.
    Contract,
}

// === impl Tally ===

impl Tally {
    /// What has been counted so far.
    pub(in crate::runtime) fn of(counters: &Counters) -> Tally {
        let read = |counters: &[&AtomicU64]| counters.iter().map(|one| one.load(Ordering::Relaxed)).sum();
        Tally {
            faults: read(&[
                &counters.traps,
                &counters.deadlines,
                &counters.memory_faults,
                &counters.restart_failures,
                &counters.restores_failed,
            ]),
            large: read(&[&counters.snapshots_rejected]),
            over_share: read(&[&counters.over_share]),
            refused: read(&[
                &counters.rows_rejected,
                &counters.alarms_rejected,
                &counters.readings_over,
                &counters.alarms_over,
            ]),
        }
    }

    /// What is wrong with a version of which this was counted, compared with the old one, if that is there.
    pub(in crate::runtime) fn judge(self, old: Option<Tally>) -> Option<Wrong> {
        let worse = |of: fn(&Tally) -> u64| old.is_some_and(|old| of(&self) > of(&old));
        if self.faults > 0 {
            Some(Wrong::Fault)
        } else if worse(|tally| tally.large) {
            Some(Wrong::Large)
        } else if worse(|tally| tally.over_share) {
            Some(Wrong::Share)
        } else if worse(|tally| tally.refused) {
            Some(Wrong::Contract)
        } else {
            None
        }
    }
}

impl Sub for Tally {
    type Output = Tally;

    fn sub(self, before: Tally) -> Tally {
        Tally {
            faults: self.faults.saturating_sub(before.faults),
            large: self.large.saturating_sub(before.large),
            over_share: self.over_share.saturating_sub(before.over_share),
            refused: self.refused.saturating_sub(before.refused),
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Tally) {
        self.faults += more.faults;
        self.large += more.large;
        self.over_share += more.over_share;
        self.refused += more.refused;
    }
}

// === impl Wrong ===

impl Wrong {
    /// In words; `fault` is what the processor says of its last failure.
    pub(in crate::runtime) fn told(self, fault: &str) -> String {
        match self {
            Wrong::Fault if fault.is_empty() => "it does not take its own state back".to_owned(),
            Wrong::Fault => fault.to_owned(),
            Wrong::Large => "its state is larger than state_bytes_max".to_owned(),
            Wrong::Share => {
                "it takes more time than cpu_share_percent allows, which the old version does not".to_owned()
            }
            Wrong::Contract => {
                "more of what it gives does not hold, or is beyond its limits, than of the old version"
                    .to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::counters::{add, bump};

    fn tally(count: impl FnOnce(&Counters)) -> Tally {
        let counters = Counters::default();
        count(&counters);
        Tally::of(&counters)
    }

    #[test]
    fn a_fault_always_counts_and_the_rest_if_the_old_version_is_better() {
        // Goal: input that is beyond both is not held against the new one. Method: each counter, with and without an old
        // version, and with one that does the same.
        let sound = Tally::default();
        let trap = tally(|counters| bump(&counters.traps));
        assert_eq!((trap.judge(None), trap.judge(Some(trap))), (Some(Wrong::Fault), Some(Wrong::Fault)));
        for (worse, wrong) in [
            (tally(|counters| bump(&counters.snapshots_rejected)), Wrong::Large),
            (tally(|counters| add(&counters.over_share, 100)), Wrong::Share),
            (tally(|counters| bump(&counters.rows_rejected)), Wrong::Contract),
            (tally(|counters| bump(&counters.alarms_over)), Wrong::Contract),
        ] {
            assert_eq!(worse.judge(Some(sound)), Some(wrong));
            assert_eq!((worse.judge(Some(worse)), worse.judge(None)), (None, None), "{wrong:?}");
            assert_eq!((worse - worse).judge(Some(sound)), None, "what was before does not count");
        }
        let mut sum = sound;
        sum += trap;
        assert_eq!(sum, trap);
        assert_eq!(sound.judge(Some(sound)), None);
    }
}
