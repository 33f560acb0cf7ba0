//! `frond leaf-conf`: writes the configuration of the nats-server beside frond.
//!
//! The file is replaced as a whole, by renaming, so that a nats-server that starts meanwhile reads the old one or the new
//! one. It is not synced: it lies in `/run` and is written at every start.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write};
use std::path::{Path, PathBuf};

use super::check::load_or_explain;
use super::exit::Exit;
use crate::lattice::leaf_conf::{LeafConfError, MARK, render};

/// Arguments of `frond leaf-conf`.
#[derive(Debug, Clone, clap::Args)]
pub struct LeafConfArgs {
    /// Configuration file; the conf.d beside it is read, too [default: /etc/frond/frond.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write to this file instead of standard output; a file that something else has written is left alone
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    pub out: Option<PathBuf>,
    /// Write nothing: only say by the exit code whether this gateway has a leaf node (0: yes, 3: no)
    #[arg(long)]
    pub check: bool,
}

/// Renders the configuration and writes it where it is wanted.
pub fn leaf_conf(args: &LeafConfArgs) -> Exit {
    let config = match load_or_explain(args.config.as_deref(), &mut std::io::stderr()) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let text = match render(&config) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("frond: {error}");
            return match error {
                LeafConfError::NoLeaf { .. } => Exit::NotApplicable,
                LeafConfError::Unwritable { .. } => Exit::Config,
            };
        }
    };
    let written = match (&args.out, args.check) {
        (_, true) => Ok(()),
        (Some(file), false) => replace(file, &text),
        (None, false) => std::io::stdout().write_all(text.as_bytes()),
    };
    match (written, &args.out) {
        (Ok(()), _) => Exit::Ok,
        (Err(error), Some(file)) => {
            eprintln!("frond: cannot write {}: {error}", file.display());
            Exit::Failure
        }
        // Whoever read standard output has gone; there is nobody left to tell.
        (Err(_), None) => Exit::Failure,
    }
}

/// Puts `text` in the place of `file`.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    // A device or pipe is written to; renaming would put a file in its place.
    if std::fs::metadata(file).is_ok_and(|found| !found.is_file()) {
        return std::fs::write(file, text);
    }
    if !is_ours(file)? {
        return Err(std::io::Error::new(
            ErrorKind::AlreadyExists,
            "it was not written by frond leaf-conf; move it away",
        ));
    }
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, file)
}

/// Whether a file is missing, empty, or begins as we begin ours.
fn is_ours(file: &Path) -> std::io::Result<bool> {
    let mut beginning = Vec::new();
    match File::open(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        opened => opened?.take(MARK.len() as u64).read_to_end(&mut beginning)?,
    };
    Ok(beginning.is_empty() || beginning == MARK.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(folder: &Path, text: &str, out: Option<PathBuf>) -> LeafConfArgs {
        let config = folder.join("frond.toml");
        std::fs::write(&config, text).expect("a folder of the test's own");
        LeafConfArgs { config: Some(config), out, check: false }
    }

    #[test]
    fn the_file_is_replaced_as_a_whole() {
        // Goal: a longer old file leaves no rest, and nothing else stays behind. Method: write twice into a folder.
        let folder = tempfile::tempdir().expect("a folder for the test");
        let out = folder.path().join("leaf.conf");
        std::fs::write(&out, format!("{MARK}{}", "x".repeat(100_000))).expect("a folder of the test's own");
        assert_eq!(leaf_conf(&args(folder.path(), "gateway.name = \"gw-1\"", Some(out.clone()))), Exit::Ok);
        let text = std::fs::read_to_string(&out).expect("just written");
        assert!(text.contains("server_name: \"gw-1\"\n") && !text.contains("xxx"), "{text}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("the test's folder").count(), 2);
    }

    #[test]
    fn a_file_of_somebody_else_is_left_alone() {
        // Goal: a slip of the pen costs nobody his own nats-server.conf. Method: one, and an empty file.
        let folder = tempfile::tempdir().expect("a folder for the test");
        let out = folder.path().join("leaf.conf");
        std::fs::write(&out, "port: 4222").expect("a folder of the test's own");
        assert_eq!(leaf_conf(&args(folder.path(), "", Some(out.clone()))), Exit::Failure);
        assert_eq!(std::fs::read(&out).expect("it is there"), b"port: 4222");
        std::fs::write(&out, "").expect("a folder of the test's own");
        assert_eq!(leaf_conf(&args(folder.path(), "", Some(out))), Exit::Ok);
    }

    #[test]
    fn exit_codes_say_whether_there_is_a_leaf() {
        // Goal: the service can tell "none wanted" from "broken". Method: each outcome once.
        let folder = tempfile::tempdir().expect("a folder for the test");
        let exit = |text: &str| leaf_conf(&LeafConfArgs { check: true, ..args(folder.path(), text, None) });
        assert_eq!(exit(""), Exit::Ok);
        assert_eq!(exit("lattice.mode = \"off\""), Exit::NotApplicable);
        assert_eq!(exit("lattice.mode = \"of\""), Exit::Config);
        let nowhere = Some(folder.path().join("missing/leaf.conf"));
        assert_eq!(leaf_conf(&args(folder.path(), "", nowhere)), Exit::Failure);
        let device = Some(PathBuf::from("/dev/null"));
        assert_eq!(leaf_conf(&args(folder.path(), "", device)), Exit::Ok);
        assert!(!std::fs::metadata("/dev/null").expect("every machine has it").is_file());
    }

    #[test]
    fn its_arguments_are_consistent() {
        // Goal: no conflict among the arguments is found only when somebody uses them. Method: clap's own examination.
        <LeafConfArgs as clap::Args>::augment_args(clap::Command::new("frond")).debug_assert();
    }
}
