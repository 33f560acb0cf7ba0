//! From a reference to a file that may be run: found or fetched, read, and judged, every time.
//!
//! Nothing is remembered of an earlier judgement: the site's policy may have changed, and so may the bytes on flash.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::claims::{self, Claims};
use super::desk::{DeskError, DeskHandle};
use super::detached::{self, SIGNATURE_BYTES_MAX};
use super::imports::{self, ImportsError};
use super::object::{self, ObjectError};
use super::reference::{Place, Reference, ReferenceError};
use super::registry::{Image, Registries, RegistryError};
use super::store::{Kept, StoreError};
use super::trust::{Evidence, Policy, Refusal, Trust};
use crate::lattice::Api;
use crate::runtime::{Digest, WASM_BYTES_MAX};

/// Where artifacts come from.
#[derive(Debug)]
pub struct Sources {
    /// What is kept.
    pub desk: DeskHandle,
    /// `file://` references lead into it.
    pub folder: PathBuf,
    /// Registries.
    pub registries: Registries,
    /// The site's word on whose artifacts run.
    pub policy: Policy,
}

/// What the gateway has of the world while it looks.
#[derive(Debug, Clone)]
pub struct Present {
    /// The link to the hub, when it is there.
    pub api: Option<Api>,
    /// Seconds since 1970, when they are known.
    pub now: Option<u64>,
    /// What must stay, whatever room the new one takes.
    pub needed: BTreeSet<Digest>,
}

/// An artifact that may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obtained {
    /// Its file.
    pub path: PathBuf,
    /// Of what was judged. Whoever opens the file later compares it.
    pub digest: Digest,
    /// Why it may.
    pub trust: Trust,
    /// What its signer says of it.
    pub claims: Option<Claims>,
}

/// Why there is none. These texts are told to whoever asked for it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ObtainError {
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error("{reference} is outside of the folder that this gateway takes components from, artifacts.folder")]
    Outside { reference: Reference },
    #[error("{reference} cannot be read")]
    Read { reference: Reference, source: std::io::Error },
    #[error("{reference} has {bytes} bytes, more than the {WASM_BYTES_MAX} a component may have")]
    TooLarge { reference: Reference, bytes: u64 },
    #[error("{reference} is not kept here, and there is no link to fetch it by")]
    Offline { reference: Reference },
    #[error("{reference} was not fetched from the object store")]
    Object { reference: Reference, source: ObjectError },
    #[error("{reference} was not fetched from its registry")]
    Registry { reference: Reference, source: RegistryError },
    #[error("{reference} cannot be had from what is kept")]
    Desk { reference: Reference, source: DeskError },
    #[error("{reference} cannot be used")]
    Imports { reference: Reference, source: ImportsError },
    #[error("{reference} may not run here")]
    Refused { reference: Reference, source: Refusal },
}

// === impl Sources ===

impl Sources {
    /// Finds or fetches an artifact.
    ///
    /// Cancel-safe: what is on flash by then is gone on with.
    pub async fn obtain(&self, text: &str, present: &Present) -> Result<Obtained, ObtainError> {
        let reference = Reference::parse(text)?;
        let (path, signature) = match reference.place() {
            Place::File(path) => self.local(&reference, path).await?,
            Place::Object { .. } | Place::Registry { .. } => {
                let (kept, path) = self.kept(&reference, present).await?;
                (path, kept.signature)
            }
        };
        let bytes = read(&reference, &path).await?;
        let digest = Digest::of(&bytes);
        let claims = claims::embedded(&bytes).transpose();
        let imports = imports::of(&bytes)
            .map_err(|source| ObtainError::Imports { reference: reference.clone(), source })?;
        let evidence = Evidence {
            claims: claims.clone(),
            detached: signature.map(|text| detached::verify(&text, &digest)),
            imports: imports.into_iter().collect(),
        };
        match self.policy.judge(&evidence, present.now) {
            Ok(trust) => {
                if trust == Trust::Unsigned {
                    tracing::warn!(%reference, "nobody who is trusted has signed this artifact; it runs since artifacts.allow_unsigned says so");
                }
                Ok(Obtained { path, digest, trust, claims: claims.and_then(Result::ok) })
            }
            Err(source) => Err(ObtainError::Refused { reference, source }),
        }
    }

    /// A file of the site's, and the signature beside it.
    async fn local(
        &self,
        reference: &Reference,
        path: &Path,
    ) -> Result<(PathBuf, Option<String>), ObtainError> {
        let read = |source| ObtainError::Read { reference: reference.clone(), source };
        // Both without symbolic links: one in the folder must not lead out of it.
        let path = tokio::fs::canonicalize(path).await.map_err(read)?;
        let folder = tokio::fs::canonicalize(&self.folder).await.map_err(read)?;
        if !path.starts_with(&folder) || path == folder {
            return Err(ObtainError::Outside { reference: reference.clone() });
        }
        let mut beside = path.clone().into_os_string();
        beside.push(".sig");
        let small =
            tokio::fs::metadata(&beside).await.is_ok_and(|file| file.len() <= SIGNATURE_BYTES_MAX as u64);
        let signature = if small { tokio::fs::read_to_string(&beside).await.ok() } else { None };
        Ok((path, signature))
    }

    async fn kept(&self, reference: &Reference, present: &Present) -> Result<(Kept, PathBuf), ObtainError> {
        let find = || self.desk.find(reference.as_str().to_owned());
        let desk = |source| ObtainError::Desk { reference: reference.clone(), source };
        match find().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            // It was thrown away, and is fetched like one that was never there.
            Err(DeskError::Store(error @ StoreError::Damaged { .. })) => {
                tracing::error!(%reference, %error, "an artifact was damaged on flash, fetching it again");
            }
            Err(error) => return Err(desk(error)),
        }
        self.fetch(reference, present).await?;
        find().await.map_err(desk)?.ok_or_else(|| ObtainError::Offline { reference: reference.clone() })
    }

    async fn fetch(&self, reference: &Reference, present: &Present) -> Result<Kept, ObtainError> {
        let (text, needed) = (reference.as_str(), present.needed.clone());
        match (reference.place(), &present.api) {
            (Place::Object { bucket, object }, Some(api)) => {
                let fetched = object::fetch(api, (bucket, object), text, &self.desk, needed).await;
                fetched.map_err(|source| ObtainError::Object { reference: reference.clone(), source })
            }
            (Place::Registry { host, repository, version }, _) => {
                let image = Image { host, repository, version };
                let fetched = self.registries.fetch(image, text, &self.desk, needed).await;
                fetched.map_err(|source| ObtainError::Registry { reference: reference.clone(), source })
            }
            (Place::Object { .. } | Place::File(_), _) => {
                Err(ObtainError::Offline { reference: reference.clone() })
            }
        }
    }
}

async fn read(reference: &Reference, path: &Path) -> Result<Vec<u8>, ObtainError> {
    let failed = |source| ObtainError::Read { reference: reference.clone(), source };
    let bytes = tokio::fs::metadata(path).await.map_err(failed)?.len();
    if bytes > WASM_BYTES_MAX {
        return Err(ObtainError::TooLarge { reference: reference.clone(), bytes });
    }
    tokio::fs::read(path).await.map_err(failed)
}
