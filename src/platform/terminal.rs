//! Reading a secret from a terminal without showing it.

use std::io::{self, BufRead, IsTerminal, Write};
use std::os::fd::AsFd;

use nix::sys::termios::{self, LocalFlags, SetArg, Termios};

/// Longest line read.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Puts the terminal's settings back, however the reading ends.
struct Restore<'a> {
    input: io::StdinLock<'a>,
    before: Termios,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        // If the terminal has gone there is nothing to put back.
        let _ = termios::tcsetattr(self.input.as_fd(), SetArg::TCSANOW, &self.before);
    }
}

/// Whether standard input is a terminal, where a person types.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal()
}

/// Asks for a line on the terminal and reads it without echo.
pub fn ask_secret(question: &str) -> io::Result<String> {
    let input = io::stdin().lock();
    let before = termios::tcgetattr(input.as_fd())?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    silent.local_flags.insert(LocalFlags::ECHONL);
    termios::tcsetattr(input.as_fd(), SetArg::TCSANOW, &silent)?;
    let mut restore = Restore { input, before };
    let mut output = io::stderr();
    write!(output, "{question}: ")?;
    output.flush()?;
    line(&mut restore.input)
}

/// Reads one line of standard input, whatever it is.
pub fn read_line() -> io::Result<String> {
    line(&mut io::stdin().lock())
}

fn line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    io::Read::take(input, LINE_BYTES_MAX).read_line(&mut line)?;
    Ok(line
        .strip_suffix('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .unwrap_or(&line)
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_without_its_end() {
        // Goal: what a pipe adds is not part of a password, and blanks are. Method: each kind of ending.
        for (text, expected) in
            [("secret\n", "secret"), ("s\r\n", "s"), ("s", "s"), (" s \nmore\n", " s "), ("", "")]
        {
            assert_eq!(line(&mut text.as_bytes()).unwrap(), expected);
        }
        assert_eq!(line(&mut "x".repeat(100_000).as_bytes()).unwrap().len(), 65_536);
    }
}
