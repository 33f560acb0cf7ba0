//! Who this host is on a lattice: an nkeys server key, made at the first start and kept for life.
//!
//! The seed is one line in `<data>/identity/host.seed`, mode 0600. It appears whole or not at all: written beside, synced,
//! renamed, and the folder synced. Controllers know a host by its public key and place work on it, so a file that cannot
//! be used is an error for a human, never a reason to become somebody else.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nkeys::{KeyPair, KeyPairType};

/// A seed has 58 characters; more than that is something else.
const FILE_BYTES_MAX: u64 = 256;

/// The key. `Debug` shows its public half.
pub struct Identity {
    key: KeyPair,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum IdentityError {
    #[error("cannot make the folder {path} of the host's identity")]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("cannot read the host's identity {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write the host's identity {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error(
        "the host's identity {path} is damaged; restore it from a backup, or remove it to have frond begin with a new one, \
         which controllers take for another host"
    )]
    Damaged { path: PathBuf },
    #[error("cannot encode a new identity")]
    Encode { source: nkeys::error::Error },
}

// === impl Identity ===

impl Identity {
    /// The one that is kept below `data_dir`, or a new one that is kept from now on.
    pub fn keep(data_dir: &Path) -> Result<Identity, IdentityError> {
        let path = data_dir.join("identity/host.seed");
        match read(&path)? {
            Some(text) => Identity::parse(&text).ok_or(IdentityError::Damaged { path }),
            None => {
                let identity = Identity { key: KeyPair::new_server() };
                let seed = identity.key.seed().map_err(|source| IdentityError::Encode { source })?;
                write(&path, &seed)?;
                tracing::info!(host = identity.id(), "this host has a new identity");
                Ok(identity)
            }
        }
    }

    /// The public key, `N…`, 56 characters.
    pub fn id(&self) -> String {
        self.key.public_key()
    }

    fn parse(text: &str) -> Option<Identity> {
        let key = KeyPair::from_seed(text.strip_suffix('\n')?).ok()?;
        matches!(key.key_pair_type(), KeyPairType::Server).then_some(Identity { key })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.id()).finish()
    }
}

fn read(path: &Path) -> Result<Option<String>, IdentityError> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)) {
        // What is no text is no seed.
        Ok(_) => Ok(Some(String::from_utf8(bytes).unwrap_or_default())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::Read { path: path.to_owned(), source }),
    }
}

fn write(path: &Path, seed: &str) -> Result<(), IdentityError> {
    let folder = path.parent().expect("the path was joined from a folder and a file");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| IdentityError::Folder { path: folder.to_owned(), source })?;
    let written = || -> std::io::Result<()> {
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        writeln!(file, "{seed}")?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(folder)?.sync_all()?;
        // The folder itself is new, too.
        folder.parent().map_or(Ok(()), |above| File::open(above)?.sync_all())
    };
    written().map_err(|source| IdentityError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_identity_is_made_once_and_kept() {
        // Goal: the same host after every start, its seed for nobody else. Method: three starts, the middle one after a cut
        // that left a half-written file beside; the file's mode; the shape that control clients demand.
        let data = tempfile::tempdir().unwrap();
        let first = Identity::keep(data.path()).unwrap().id();
        assert!(first.starts_with('N') && first.len() == 56, "{first}");
        fs::write(data.path().join("identity/host.new"), "SN").unwrap();
        assert_eq!(Identity::keep(data.path()).unwrap().id(), first);
        assert_eq!(Identity::keep(data.path()).unwrap().id(), first);
        let mode = fs::metadata(data.path().join("identity/host.seed")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(Identity::keep(other.path()).unwrap().id(), first);
    }

    #[test]
    fn a_damaged_identity_is_an_error_that_says_what_to_do() {
        // Goal: never silently somebody else. Method: empty, cut short, one letter wrong, a user's key, no text; the file
        // stays as it is, and the seed is not in the message.
        let data = tempfile::tempdir().unwrap();
        Identity::keep(data.path()).unwrap();
        let path = data.path().join("identity/host.seed");
        let good = fs::read_to_string(&path).unwrap();
        let flipped = good.replacen(&good[20..21], if &good[20..21] == "A" { "B" } else { "A" }, 1);
        let user = format!("{}\n", KeyPair::new_user().seed().unwrap());
        for bad in
            [b"".as_slice(), &good.as_bytes()[..30], flipped.as_bytes(), user.as_bytes(), b"\xff\xfe\n"]
        {
            fs::write(&path, bad).unwrap();
            let error = Identity::keep(data.path()).unwrap_err().to_string();
            assert!(error.contains("is damaged; restore it"), "{error}");
            assert!(!error.contains(&good[..10]));
            assert_eq!(fs::read(&path).unwrap(), bad);
        }
        fs::write(&path, &good).unwrap();
        assert!(Identity::keep(data.path()).is_ok());
    }
}
