//! From a reference to the file with a component's code: the narrow place where artifacts come in.
//!
//! Today a reference names a file in a folder of the gateway's. Whatever else there will be (a registry, an object store, a
//! store of its own) comes in here: [`Artifacts::find`] may take its time, and what it returns is a file that stays.

use std::path::{Path, PathBuf};

/// Where artifacts are looked for. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Artifacts {
    /// `file://` references lead into it.
    folder: PathBuf,
}

/// Why an artifact is not to be had. These texts are told to whoever asked for the component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ArtifactError {
    #[error("{reference}: this gateway takes file:// references only")]
    Scheme { reference: String },
    #[error("{reference} is no file of an absolute path")]
    Path { reference: String },
    #[error(
        "{reference} is outside of the folder that this gateway takes components from, lattice.host.component_dir"
    )]
    Outside { reference: String },
    #[error("{reference} cannot be read: {why}")]
    Missing { reference: String, why: String },
}

// === impl Artifacts ===

impl Artifacts {
    /// Files below `folder`.
    pub fn new(folder: PathBuf) -> Artifacts {
        Artifacts { folder }
    }

    /// Finds the file.
    ///
    /// Cancel-safe: it only looks.
    pub async fn find(&self, reference: &str) -> Result<PathBuf, ArtifactError> {
        let path = path_of(reference)?;
        let missing = |error: std::io::Error| ArtifactError::Missing {
            reference: reference.to_owned(),
            why: error.to_string(),
        };
        // Both without symbolic links and `..`: a link in the folder must not lead out of it.
        let path = tokio::fs::canonicalize(path).await.map_err(missing)?;
        let folder = tokio::fs::canonicalize(&self.folder).await.map_err(missing)?;
        match path.starts_with(&folder) && path != folder {
            true => Ok(path),
            false => Err(ArtifactError::Outside { reference: reference.to_owned() }),
        }
    }
}

fn path_of(reference: &str) -> Result<&Path, ArtifactError> {
    let owned = || reference.to_owned();
    let path =
        reference.strip_prefix("file://").ok_or_else(|| ArtifactError::Scheme { reference: owned() })?;
    match path.starts_with('/') {
        true => Ok(Path::new(path)),
        false => Err(ArtifactError::Path { reference: owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reference_finds_a_file_in_the_folder_and_nothing_outside_of_it() {
        // Goal: whoever may start components may not have any file of the machine looked at. Method: a file, a link to one
        // within, a link out of it, `..`, another scheme, nothing.
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("components");
        std::fs::create_dir(&inside).unwrap();
        for name in ["components/a.wasm", "secret"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink(inside.join("a.wasm"), inside.join("same.wasm")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret"), inside.join("out.wasm")).unwrap();
        let artifacts = Artifacts::new(inside.clone());
        let find =
            async |name: &str| artifacts.find(&format!("file://{}", inside.join(name).display())).await;
        let good = inside.join("a.wasm").canonicalize().unwrap();
        assert_eq!(find("a.wasm").await, Ok(good.clone()));
        assert_eq!(find("same.wasm").await, Ok(good));
        for outside in ["out.wasm", "../secret", "."] {
            let error = find(outside).await.unwrap_err();
            assert!(matches!(error, ArtifactError::Outside { .. }), "{error}");
        }
        assert!(matches!(find("none.wasm").await, Err(ArtifactError::Missing { .. })));
        let scheme = artifacts.find("ghcr.io/a/b:1").await.unwrap_err().to_string();
        assert_eq!(scheme, "ghcr.io/a/b:1: this gateway takes file:// references only");
        assert!(matches!(artifacts.find("file://a.wasm").await, Err(ArtifactError::Path { .. })));
    }
}
