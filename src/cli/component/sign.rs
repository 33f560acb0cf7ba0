//! `frond component sign`: a signature beside a component, for gateways that trust the key.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nkeys::KeyPair;
use serde_json::json;

use crate::artifact::{detached, imports, keys};
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::runtime::{Digest, WASM_BYTES_MAX};

/// Largest file of a key; a seed is 58 bytes, a PEM 119.
const KEY_BYTES_MAX: u64 = 16 << 10;

/// Arguments of `frond component sign`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "The signature goes beside the component: into the same folder, into the object store as NAME.sig, or into the \
    annotation frond.artifact.signature of an image's manifest.\nExit codes: 1 when the component or the key is none or cannot be read."
)]
pub struct SignArgs {
    /// The component
    file: PathBuf,
    /// File with the private key: an nkeys seed of an account (SA…), or a PEM of `openssl genpkey -algorithm ed25519`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the signature goes [default: the component's name with .sig behind it]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Signs a component.
pub fn sign(args: &SignArgs) -> anyhow::Result<Exit> {
    let key = private_key(&args.key)?;
    let digest = digest(&args.file)?;
    let signature = detached::sign(&key, &digest).context("the key does not sign")?;
    let out = args.output.clone().unwrap_or_else(|| beside(&args.file));
    fs::write(&out, &signature).with_context(|| format!("cannot write {}", out.display()))?;
    let signer = key.public_key();
    if args.json {
        let report =
            json!({ "file": args.file, "sha256": digest.to_string(), "key": signer, "signature": out });
        output::line(format_args!("{report:#}"));
    } else {
        output::line(format_args!("{}: sha256:{digest}", args.file.display()));
        output::line(format_args!("signed by {signer} in {}", out.display()));
    }
    Ok(Exit::Ok)
}

/// The signature's usual place.
pub(super) fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

fn private_key(path: &Path) -> anyhow::Result<KeyPair> {
    let cannot = || format!("cannot read the key {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    if file.metadata().with_context(cannot)?.mode() & 0o077 != 0 {
        bail!("the key {} is open to others than its owner; chmod go-rwx it", path.display());
    }
    let mut text = String::new();
    file.take(KEY_BYTES_MAX).read_to_string(&mut text).with_context(cannot)?;
    let key = keys::private(&text);
    // What is in it is not repeated.
    key.with_context(|| {
        format!("{} holds neither an nkeys seed of an account nor a PEM of an Ed25519 key", path.display())
    })
}

fn digest(path: &Path) -> anyhow::Result<Digest> {
    let cannot = || format!("cannot read {}", path.display());
    let bytes = fs::metadata(path).with_context(cannot)?.len();
    if bytes > WASM_BYTES_MAX {
        bail!("{} has {bytes} bytes, more than the {WASM_BYTES_MAX} a component may have", path.display());
    }
    let wasm = fs::read(path).with_context(cannot)?;
    // As a gateway does: what it does not run is not signed.
    if let Err(error) = imports::of(&wasm) {
        bail!("{} is not signed: {error}", path.display());
    }
    Ok(Digest::of(&wasm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_is_not_signed() {
        // Goal: nobody vouches for half a file. Method: an empty component; one cut off in its first section; a core module;
        // no WebAssembly.
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.wasm");
        let component = b"\0asm\x0d\0\x01\0";
        fs::write(&file, component).unwrap();
        assert_eq!(digest(&file).unwrap(), Digest::of(component));
        let cut = [&component[..], &[7, 0x30], &[0; 20]].concat();
        for none in [&cut[..], b"\0asm\x01\0\0\0", b"noise", b""] {
            fs::write(&file, none).unwrap();
            let error = digest(&file).unwrap_err().to_string();
            assert!(error.contains("it is no WebAssembly component"), "{none:?}: {error}");
        }
    }
}
