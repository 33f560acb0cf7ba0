//! Children that do not outlive this process.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::Signal;

/// Has the child killed when the thread that spawns it ends, however that happens, and keeps the terminal's Ctrl-C from it.
/// To be called for children spawned on a thread that lives as long as they should, such as the main thread.
pub fn bind_to_parent(command: &mut Command) {
    command.process_group(0);
    // JUSTIFICATION: the request must be made between fork and exec, and only `pre_exec` runs there.
    // SAFETY: the closure makes one system call and touches no memory of the parent's.
    unsafe {
        command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
    }
}
