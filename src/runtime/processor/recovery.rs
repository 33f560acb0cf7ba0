//! From a fault to a new instance: what is kept, what is made anew, and when.

use std::time::Instant;

use super::{Part, Processor};
use crate::config::Fallback;
use crate::runtime::counters::bump;
use crate::runtime::instance::{Fault, Instance, Unmade};
use crate::runtime::outcome::{Reason, Restored};

// === impl Processor ===

impl Processor {
    /// The state to store with a checkpoint: that of the instance, or, while there is none, the one that the next will be
    /// given. `None` when the component has no state.
    pub fn snapshot(&mut self) -> Option<Vec<u8>> {
        let begun = Instant::now();
        let number = self.instance.as_ref().map(Instance::number);
        let taken = self.instance.as_mut().map(Instance::snapshot);
        self.spend(begun.elapsed());
        self.stored = None;
        match taken {
            Some(Ok(Some(snapshot))) if snapshot.len() <= self.state_bytes_max => {
                bump(&self.grant.counters.snapshots);
                self.snapshot = Some(snapshot);
                self.stored = number;
            }
            Some(Ok(Some(snapshot))) => {
                bump(&self.grant.counters.snapshots_rejected);
                tracing::warn!(
                    component = self.name,
                    bytes = snapshot.len(),
                    bytes_max = self.state_bytes_max,
                    "snapshot is too large, the one before is kept"
                );
            }
            Some(Err(fault)) => drop(self.discard(&fault)),
            Some(Ok(None)) => self.stored = number,
            None => {}
        }
        self.snapshot.clone()
    }

    /// Begins anew from a stored state. To be called before the first batch.
    pub fn restore_from(&mut self, snapshot: Vec<u8>) -> Restored {
        self.begin_with(Some(snapshot))
    }

    /// Begins anew, with a new instance, from a state or without one.
    pub(in crate::runtime) fn begin_with(&mut self, snapshot: Option<Vec<u8>>) -> Restored {
        self.snapshot = snapshot;
        self.instance = None;
        match self.rebuild() {
            Ok(restored) => {
                self.life.worked(self.now);
                restored
            }
            Err(fault) => {
                let _ = self.discard(&fault);
                Restored::SetAside(fault.to_string())
            }
        }
    }

    /// Makes a new instance when it is time.
    pub(super) fn restart(&mut self) -> Result<(), Reason> {
        if self.is_quarantined() {
            return Err(Reason::Quarantined);
        }
        if !self.life.is_due(self.now) {
            return Err(Reason::BackingOff);
        }
        match self.rebuild() {
            Ok(_) => {
                bump(&self.grant.counters.restarts);
                self.life.worked(self.now);
                tracing::info!(component = self.name, "component restarted");
                Ok(())
            }
            Err(fault) => {
                bump(&self.grant.counters.restart_failures);
                Err(self.discard(&fault))
            }
        }
    }

    /// Makes an instance from the snapshot, or, when it does not take that, without state.
    fn rebuild(&mut self) -> Result<Restored, Fault> {
        let make = |this: &Self| match Instance::make(&this.exports, &this.grant, &this.options) {
            Ok(instance) => Ok(instance),
            Err(Unmade::Fault(fault)) => Err(fault),
            // It took the same options before.
            Err(Unmade::Refused(reason)) => Err(Fault::Trap(reason)),
        };
        let mut instance = make(self)?;
        let mut restored = Restored::Taken;
        if let Some(snapshot) = &self.snapshot {
            let refused = match instance.restore(snapshot) {
                Ok(Ok(())) => None,
                Ok(Err(reason)) => Some(reason),
                Err(fault) => Some(fault.to_string()),
            };
            if let Some(reason) = refused {
                bump(&self.grant.counters.restores_failed);
                if self.part == Part::Lead {
                    tracing::error!(
                        component = self.name,
                        reason,
                        "component does not take its state and starts without"
                    );
                }
                // A snapshot that was refused once is not tried again, and an instance that refused one not used.
                self.snapshot = None;
                instance = make(self)?;
                restored = Restored::SetAside(reason);
            }
        }
        self.instance = Some(instance);
        Ok(restored)
    }

    pub(super) fn discard(&mut self, fault: &Fault) -> Reason {
        self.instance = None;
        self.life.failed(self.now);
        self.last_fault = fault.to_string();
        let counters = &self.grant.counters;
        let (counter, reason) = match fault {
            Fault::Trap(_) => (&counters.traps, Reason::Trap),
            Fault::Deadline => (&counters.deadlines, Reason::Deadline),
            Fault::Memory => (&counters.memory_faults, Reason::Memory),
        };
        bump(counter);
        let what = match (self.part, self.fallback) {
            (Part::Trial | Part::Probation, _) => "new version of a component discarded",
            (Part::Background, _) => "component discarded in the background, as it would be at work",
            (Part::Lead, Fallback::Pass) => "component discarded, its readings pass through",
            (Part::Lead, Fallback::Drop) => "component discarded, its readings are dropped",
            (Part::Lead, Fallback::Hold) => "component discarded, its readings wait",
        };
        tracing::warn!(component = self.name, reason = %fault, "{what}");
        if self.is_quarantined() {
            bump(&counters.quarantines);
            if self.part != Part::Lead {
                return reason;
            }
            tracing::error!(
                component = self.name,
                reason = %fault,
                "component has failed too often and is quarantined; put a sound file in its place, or release it with frond component release"
            );
        }
        reason
    }
}
