//! Tests whose subject is the whole process (its end, its environment) run one of their own tests as a child process.

use std::ffi::OsStr;
use std::process::{Command, Output};

/// Runs the test of this name alone in a process of its own, with these variables, and waits for its end. A test waits for
/// facts with a deadline, and so does its child.
pub(super) fn run<V: AsRef<OsStr>>(test: &str, variables: &[(&str, V)]) -> Output {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    variables.iter().for_each(|(name, value)| _ = command.env(name, value));
    command.output().unwrap()
}
