//! The two slots a gateway's system lives in: which is booted, which is confirmed, and how a trial is confirmed.
//!
//! ```text
//!             install, armed                restart                 healthy for `confirm_after`
//!  Confirmed(A) ───────────▶ Confirmed(A) ───────────▶ Trial(B) ─────────────────────────────▶ Confirmed(B)
//!       ▲                                                 │
//!       └─────────── restart: crash, watchdog, end of the trial's time ──────────┘
//! ```
//! What for: an update stays only if the gateway still does its work. RAUC writes slots and firmware variables; frond
//! decides. Nothing else marks a slot as good.
//! Owns: the [`Record`], one small file in the data folder. The confirmation task writes it, and the initramfs and the
//! starter of the image read it: firmware variables may be lost, and must not change the version.
//! Power loss: RAUC's mark comes first, then the record; a cut in between leaves a trial, which is confirmed again.
//! Dropped when full: nothing is queued.
//!
//! On a machine without slots (no `/run/frond-boot`) all of this is absent.

mod confirm;
mod rauc;
mod record;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

pub use confirm::{Confirmation, Step, step};
pub use rauc::{Installer, Progress, RaucError, SlotState};
pub use record::{Record, RecordError};

/// Written by the initramfs: `FROND_SLOT=a`.
const BOOTED: &str = "/run/frond-boot/slot";

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The one a new card starts with.
    A,
    /// The other.
    B,
}

/// How the running system stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The booted slot is the confirmed one.
    Confirmed(Slot),
    /// It is not, yet.
    Trial(Slot),
}

/// Which slot is booted; none on a machine without slots.
pub fn booted() -> Option<Slot> {
    booted_by(&std::fs::read_to_string(Path::new(BOOTED)).ok()?)
}

fn booted_by(text: &str) -> Option<Slot> {
    text.lines().find_map(|line| line.strip_prefix("FROND_SLOT=")).and_then(Slot::parse)
}

// === impl Slot ===

impl Slot {
    /// Reads `a` or `b`.
    pub fn parse(text: &str) -> Option<Slot> {
        match text.trim() {
            "a" => Some(Slot::A),
            "b" => Some(Slot::B),
            _ => None,
        }
    }

    /// The one that is not this.
    pub fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    /// What RAUC calls its root, in the image's `system.conf`.
    pub(crate) fn rauc_name(self) -> &'static str {
        match self {
            Slot::A => "root.0",
            Slot::B => "root.1",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Slot::A => "a",
            Slot::B => "b",
        })
    }
}

// === impl Standing ===

impl Standing {
    /// From what is booted and what is on record. With nothing on record, as on a new card, everything is a trial.
    pub fn of(booted: Slot, record: Option<Record>) -> Standing {
        match record {
            Some(record) if record.confirmed == booted => Standing::Confirmed(booted),
            _ => Standing::Trial(booted),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Confirmed(slot) => write!(f, "slot {slot}, confirmed"),
            Standing::Trial(slot) => write!(f, "slot {slot}, on trial"),
        }
    }
}
