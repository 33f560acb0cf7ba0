//! `frond password`: turns a password into the hash that a `[[user]]`'s file holds.
//!
//! The password comes from the terminal, twice and unseen, or, in a script, as the first line of standard input. It is
//! never an argument, which every user of the machine could read.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::exit::Exit;
use crate::ingest::listener::password::Hash;
use crate::platform::terminal;

/// Arguments of `frond password`.
#[derive(Debug, Clone, clap::Args)]
pub struct PasswordArgs {
    /// Write the hash to this file, which its owner alone may read, instead of printing it
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Reads a password, and prints or writes its hash.
pub fn password(args: &PasswordArgs) -> anyhow::Result<Exit> {
    let hash = Hash::of(read()?.as_bytes())?;
    match &args.output {
        None => writeln!(std::io::stdout(), "{}", hash.as_str()).context("cannot write the hash")?,
        Some(file) => {
            write(file, hash.as_str()).with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    Ok(Exit::Ok)
}

/// Puts a complete file in the place of an old one: a running gateway may read it at any time.
fn write(file: &Path, hash: &str) -> io::Result<()> {
    let mut name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = file.with_file_name(name);
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written =
        writeln!(to, "{hash}").and_then(|()| to.sync_all()).and_then(|()| std::fs::rename(&new, file));
    if written.is_err() {
        // What could not be written is no use; that it cannot be removed is no worse.
        let _ = std::fs::remove_file(&new);
    }
    written
}

fn read() -> anyhow::Result<String> {
    let unread = "cannot read the password";
    if !terminal::is_interactive() {
        return terminal::read_line().context(unread);
    }
    let first = terminal::ask_secret("Password").context(unread)?;
    if first != terminal::ask_secret("Again").context(unread)? {
        bail!("the two are not the same");
    }
    Ok(first)
}
