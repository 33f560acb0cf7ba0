//! The memory of one instance: all its linear memories and tables together, against one grant.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use crate::runtime::counters::{Counters, bump};

/// What a table's element costs the host.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Instances, memories and tables within one component; those of the large toolchains have ten.
const PARTS_MAX: usize = 100;

/// The memory granted and taken.
pub(crate) struct Meter {
    left: usize,
    /// What was granted last, in case the system does not give it.
    granted: usize,
    refused: bool,
    counters: Arc<Counters>,
}

// === impl Meter ===

impl Meter {
    pub(crate) fn new(bytes: usize, counters: Arc<Counters>) -> Meter {
        Meter { left: bytes, granted: 0, refused: false, counters }
    }

    /// Forgets what was refused before.
    pub(crate) fn begin_call(&mut self) {
        self.refused = false;
    }

    /// Whether memory was refused in this call.
    pub(crate) fn has_refused(&self) -> bool {
        self.refused
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let more = desired.saturating_sub(current);
        match self.left.checked_sub(more) {
            Some(left) => {
                (self.left, self.granted) = (left, more);
                true
            }
            None => {
                self.refuse();
                false
            }
        }
    }

    fn give_back(&mut self) {
        self.left += std::mem::take(&mut self.granted);
        self.refuse();
    }

    fn refuse(&mut self) {
        self.refused = true;
        bump(&self.counters.memory_refusals);
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.give_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self
            .grow(current.saturating_mul(TABLE_ELEMENT_BYTES), desired.saturating_mul(TABLE_ELEMENT_BYTES)))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.give_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_over_all_memories_and_refused_beyond_the_grant() {
        // Goal: the sum counts, a refusal takes nothing. Method: two memories and a table that share a grant.
        let mut meter = Meter::new(1000, Arc::default());
        assert!(meter.memory_growing(0, 400, None).unwrap());
        assert!(meter.memory_growing(0, 400, None).unwrap());
        assert!(!meter.has_refused());
        assert!(!meter.memory_growing(400, 601, None).unwrap());
        assert!(meter.has_refused());
        assert!(meter.table_growing(0, 25, None).unwrap());
        assert!(!meter.table_growing(25, 26, None).unwrap());
        assert!(!meter.table_growing(25, usize::MAX, None).unwrap());
        assert_eq!(meter.left, 0);
        meter.table_grow_failed(wasmtime::Error::msg("no memory left")).unwrap();
        assert_eq!(meter.left, 200);
    }
}
