//! Standard output of the commands that print what somebody asked for.
//!
//! A reader that goes away (`frond status | head`) ends the command without a word, as it ends `cat`.
//! Whoever has children to stop or files to remove does so before.
//!
//! Names and texts come from sensors, sites and lattices: what would command the terminal is shown, not obeyed. What a list
//! shows of a lattice is shown so wherever it goes, and none of it begins a line: it could pass for another entry.

use std::fmt::{self, Write as _};
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::process;

use super::exit::Exit;

/// What lays out text.
const LAYOUT: [char; 2] = ['\n', '\t'];

/// Prints a line.
pub(super) fn line(text: impl fmt::Display) {
    lines(format_args!("{text}\n"));
}

/// Prints a line of names and values that may be anybody's, for people.
pub(super) fn entry(text: impl fmt::Display) {
    line(written_out(&text.to_string(), &[]));
}

/// Prints text that ends its lines itself.
pub(super) fn lines(text: impl fmt::Display) {
    let mut out = std::io::stdout().lock();
    let text = text.to_string();
    // Who reads it by a program gets it as it is.
    let text = if out.is_terminal() { written_out(&text, &LAYOUT) } else { text };
    let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        process::exit(Exit::Ok as i32);
    }
    eprintln!("frond: standard output cannot be written: {error}");
    process::exit(Exit::Failure as i32);
}

/// The same text with its control characters written out, but these.
fn written_out(text: &str, kept: &[char]) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && !kept.contains(&character) {
            // Writing to a string does not fail.
            let _ = write!(shown, "{}", character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_command_the_terminal_is_shown() {
        // Goal: nobody repaints an operator's screen by a name. Method: an escape sequence, a bell, a return, a C1 control; and
        // text in lines and columns that stays as it is.
        assert_eq!(written_out("a\u{1b}[2Jb\u{7}\r\u{9b}31m", &LAYOUT), "a\\u{1b}[2Jb\\u{7}\\r\\u{9b}31m");
        assert_eq!(written_out("größe\t1\n▁▂█\n", &LAYOUT), "größe\t1\n▁▂█\n");
    }

    #[test]
    fn a_value_stays_on_the_line_of_its_entry() {
        // Goal: nobody forges an entry of a list by a value. Method: line breaks, tabs and an escape sequence within one.
        assert_eq!(
            written_out("  k = v\u{1b}[31m\nsite = evil\t(local file)\r", &[]),
            "  k = v\\u{1b}[31m\\nsite = evil\\t(local file)\\r"
        );
    }
}
