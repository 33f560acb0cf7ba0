//! Standard output of the commands that print what somebody asked for.
//!
//! A reader that goes away (`frond status | head`) ends the command without a word, as it ends `cat`.
//! Whoever has children to stop or files to remove does so before.

use std::fmt;
use std::io::{ErrorKind, Write};
use std::process;

use super::exit::Exit;

/// Prints a line.
pub(super) fn line(text: impl fmt::Display) {
    lines(format_args!("{text}\n"));
}

/// Prints text that ends its lines itself.
pub(super) fn lines(text: impl fmt::Display) {
    let mut out = std::io::stdout().lock();
    let Err(error) = write!(out, "{text}").and_then(|()| out.flush()) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        process::exit(Exit::Ok as i32);
    }
    eprintln!("frond: standard output cannot be written: {error}");
    process::exit(Exit::Failure as i32);
}
