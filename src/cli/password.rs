//! `frond password`: turns a password into the hash that a `[[user]]`'s file holds.
//!
//! The password comes from the terminal, twice and unseen, or, in a script, as the first line of standard input. It is
//! never an argument, which every user of the machine could read.

use std::io::Write;

use anyhow::{Context, bail};

use super::exit::Exit;
use crate::ingest::listener::password::Hash;
use crate::platform::terminal;

/// Arguments of `frond password`.
#[derive(Debug, Clone, clap::Args)]
pub struct PasswordArgs {}

/// Reads a password and prints its hash.
pub fn password(_: &PasswordArgs) -> anyhow::Result<Exit> {
    let hash = Hash::of(read()?.as_bytes())?;
    writeln!(std::io::stdout(), "{}", hash.as_str()).context("cannot write the hash")?;
    Ok(Exit::Ok)
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
