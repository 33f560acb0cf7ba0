//! `frond component new`: a folder with a component that builds, tests itself, and runs on a gateway.
//!
//! The template is Rust, since that is what every tool here is built with; `components/examples` has other languages. It
//! stands on the contract alone: nothing of this repository is needed to build it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::cli::exit::Exit;
use crate::cli::output;

/// What the folder holds. `{name}` is the component's, in the file's text.
const FILES: [(&str, &str); 7] = [
    ("Cargo.toml", include_str!("template/manifest.toml")),
    (".cargo/config.toml", include_str!("template/config.toml")),
    (".gitignore", "/target\n"),
    ("README.md", include_str!("template/README.md")),
    ("readings.csv", include_str!("template/readings.csv")),
    ("src/lib.rs", include_str!("template/lib.txt")),
    ("src/guest.rs", include_str!("template/guest.txt")),
];

/// The contract, which stands beside them.
const CONTRACT: (&str, &str) = ("wit/frond-telemetry.wit", include_str!("../../../wit/frond-telemetry.wit"));

/// Longest name: that of a `[[component]]`.
const NAME_BYTES_MAX: usize = 64;

/// Arguments of `frond component new`.
#[derive(Debug, Clone, clap::Args)]
pub struct NewArgs {
    /// Name of the component: small letters, digits, `-` and `_`
    #[arg(value_name = "NAME")]
    name: String,
    /// Where its folder goes; it must not be there yet
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    path: PathBuf,
}

/// Writes the template.
pub fn new(args: &NewArgs) -> anyhow::Result<Exit> {
    check(&args.name)?;
    let folder = args.path.join(&args.name);
    if folder.exists() {
        bail!("{} is there already, and nothing of it is overwritten; choose another name", folder.display());
    }
    for (file, text) in FILES.into_iter().chain([CONTRACT]) {
        write(&folder.join(file), &text.replace("{name}", &args.name))?;
    }
    output::line(format_args!(
        "{} is ready; next:\n  cd {}\n  cargo test\n  frond component build",
        folder.display(),
        folder.display()
    ));
    Ok(Exit::Ok)
}

fn check(name: &str) -> anyhow::Result<()> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase())
        || !name.chars().all(allowed)
        || name.len() > NAME_BYTES_MAX
    {
        bail!(
            "{name:?} is no name of a component: it begins with a small letter and has up to {NAME_BYTES_MAX} small letters, digits, `-` and `_`"
        );
    }
    // What cargo would refuse later.
    if ["test", "core", "std", "alloc", "proc-macro", "build"].contains(&name) {
        bail!("{name:?} is a name that cargo has for itself; choose another");
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(path, text)).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_written_once_and_names_itself() {
        // Goal: no file of anybody's is overwritten, and nothing is left to fill in. Method: twice, then all that was written.
        let dir = tempfile::tempdir().unwrap();
        let args = NewArgs { name: "spike-filter".to_owned(), path: dir.path().to_owned() };
        assert_eq!(new(&args).unwrap(), Exit::Ok);
        let refused = new(&args).unwrap_err().to_string();
        assert!(refused.contains("is there already"), "{refused}");
        for (file, _) in FILES.into_iter().chain([CONTRACT]) {
            let text = fs::read_to_string(dir.path().join("spike-filter").join(file)).unwrap();
            assert!(!text.contains("{name}"), "{file}");
        }
        let manifest = fs::read_to_string(dir.path().join("spike-filter/Cargo.toml")).unwrap();
        assert!(manifest.contains("name = \"spike-filter\""), "{manifest}");
    }

    #[test]
    fn a_name_that_cargo_or_a_gateway_refuses_is_refused_here() {
        // Goal: what `new` takes builds. Method: names at the edges.
        for name in ["a", "spike-filter", "a_1"] {
            assert!(check(name).is_ok(), "{name}");
        }
        let long = "a".repeat(65);
        for name in ["", "1a", "-a", "A", "ä", "a b", "../a", "a/b", "test", &long] {
            assert!(check(name).is_err(), "{name}");
        }
    }
}
