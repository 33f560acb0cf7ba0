//! The binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    frond::cli::main().into()
}
