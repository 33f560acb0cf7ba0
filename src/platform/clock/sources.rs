//! Where the kernel says what time it is.

use std::path::Path;

use nix::time::{ClockId, clock_gettime};

use super::ClockError;
use super::policy::Evidence;
use crate::sample::{Nanos, SECOND};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const HARDWARE_CLOCK: &str = "/sys/class/rtc/rtc0/since_epoch";

/// Both clocks are read this many times at most, until they were read close together: being interrupted in between is
/// rare, three times in a row rarer.
const READS_MAX: usize = 3;

/// Close enough: three readings take about a microsecond on a slow board, and 10 us matter to nobody.
const READ_SPAN_MAX: Nanos = 10_000;

/// The oldest time that may be the floor: before this there was no Frond. 2026-01-01T00:00:00Z.
const EARLIEST: Nanos = 1_767_225_600 * SECOND;

/// Nanoseconds since the machine was booted, sleep included. Never goes backwards, and nobody can set it.
pub fn boottime() -> Nanos {
    read(ClockId::CLOCK_BOOTTIME)
}

/// The system clock, trusted or not: for programs that play a sensor's part, never for the gateway's own stamps.
pub fn realtime() -> Nanos {
    read(ClockId::CLOCK_REALTIME)
}

/// The kernel's identifier of this boot.
pub fn boot_id() -> Result<String, ClockError> {
    let text =
        std::fs::read_to_string(BOOT_ID).map_err(|source| ClockError::BootId { path: BOOT_ID, source })?;
    Ok(text.trim().to_owned())
}

/// Time since boot and the system clock, as of one moment.
pub(super) fn both() -> (Nanos, Nanos) {
    let look = || {
        let before = boottime();
        let realtime = read(ClockId::CLOCK_REALTIME);
        let span = boottime() - before;
        (span, before + span / 2, realtime)
    };
    let mut best = look();
    for _ in 1..READS_MAX {
        if best.0 <= READ_SPAN_MAX {
            break;
        }
        best = best.min(look());
    }
    (best.1, best.2)
}

/// What speaks for the system clock now. A few system calls on files in memory.
pub(super) fn evidence(synchronized_file: &Path) -> Evidence {
    Evidence {
        synchronized_file: synchronized_file.exists(),
        kernel_synchronised: kernel_synchronised(),
        hardware_clock: hardware_clock(),
    }
}

/// A time that is certainly over: when this program was built, or the newest time that was ever stored.
pub(super) fn floor(newest: Option<Nanos>) -> Nanos {
    EARLIEST.max(build_time().unwrap_or(EARLIEST)).max(newest.unwrap_or(EARLIEST))
}

/// When the program's file was written: packages and images keep the time of the build, or one from before.
fn build_time() -> Option<Nanos> {
    let modified = std::fs::metadata("/proc/self/exe").ok()?.modified().ok()?;
    let since_epoch = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
    Nanos::try_from(since_epoch.as_nanos()).ok()
}

/// What the clock says that runs while the machine is off, when there is one that has a time.
fn hardware_clock() -> Option<Nanos> {
    let seconds: Nanos = std::fs::read_to_string(HARDWARE_CLOCK).ok()?.trim().parse().ok()?;
    seconds.checked_mul(SECOND)
}

fn read(clock: ClockId) -> Nanos {
    let time = clock_gettime(clock).expect("every kernel that Frond runs on has this clock");
    time.tv_sec() as Nanos * SECOND + time.tv_nsec() as Nanos
}

/// Whether the kernel takes its clock for synchronised. Time daemons tell it; a service that may not ask gets no answer,
/// which is no evidence.
#[expect(unsafe_code, reason = "nix has no adjtimex")]
fn kernel_synchronised() -> bool {
    // JUSTIFICATION: the only way to ask the kernel.
    // SAFETY: timex is plain integers, for which zeros are valid; with modes = 0 the kernel only fills it in.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    state >= 0 && state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0
}
