//! What the process says when it ends. Stable: scripts and service managers rely on the numbers.

use std::process::ExitCode;

/// How a command ended. Append only, never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked to.
    Ok = 0,
    /// It could not; the last lines of standard error say why.
    Failure = 1,
    /// The command line was not understood. The number that clap uses.
    Usage = 2,
    /// There is nothing to do here: the configuration does without what was asked for.
    NotApplicable = 3,
    /// The gateway works, but something wants somebody's attention; what, was printed.
    Degraded = 4,
    /// Ended by a signal before it was done.
    Interrupted = 130,
    /// The configuration is refused: `EX_CONFIG` of sysexits(3). Starting again does not help before it is mended.
    Config = 78,
}

// === impl Exit ===

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
