//! From a reference to a file that may be run: found or fetched, read, and judged, every time.
//!
//! Nothing is remembered of an earlier judgement: the site's policy may have changed, and so may the bytes on flash. One
//! artifact is fetched at a time; what is kept is to be had meanwhile.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tokio::sync::Semaphore;

use super::claims::Claims;
use super::desk::{DeskError, DeskHandle};
use super::detached::{self, SIGNATURE_BYTES_MAX};
use super::examine::ExamineError;
use super::object::{self, ObjectError};
use super::reference::{Place, Reference, ReferenceError};
use super::registry::{Image, Registries, RegistryError};
use super::store::{Kept, StoreError};
use super::trust::{Evidence, Policy, Refusal, Trust};
use crate::lattice::Api;
use crate::platform::log::chain;
use crate::runtime::Digest;

/// Attempts at one artifact that follow each other at once: an artifact of 32 MiB in pieces of half a MiB. Then whoever wants
/// it waits, as after an attempt that brought nothing.
const ATTEMPTS_MAX: usize = 64;

/// Where artifacts come from.
#[derive(Debug)]
pub struct Sources {
    /// What is kept.
    desk: DeskHandle,
    /// `file://` references lead into one of them.
    folders: Vec<PathBuf>,
    /// Registries.
    registries: Registries,
    /// The site's word on whose artifacts run.
    policy: Policy,
    /// There is one part on flash.
    fetching: Semaphore,
}

/// What the gateway has of the world while it looks.
#[derive(Debug, Clone)]
pub struct Present {
    /// The link to the hub, when it is there.
    pub api: Option<Api>,
    /// Seconds since 1970, when they are known.
    pub now: Option<u64>,
    /// References whose artifacts must stay, whatever room the new one takes.
    pub needed: BTreeSet<String>,
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
    #[error(
        "{reference} is outside of the folders that this gateway takes components from, artifacts.folders"
    )]
    Outside { reference: Reference },
    #[error("{reference} cannot be read")]
    Read { reference: Reference, source: std::io::Error },
    #[error(
        "the signature beside {reference} has {bytes} bytes, more than the {SIGNATURE_BYTES_MAX} one may have"
    )]
    Signature { reference: Reference, bytes: u64 },
    #[error("{reference} is not kept here, and there is no link to fetch it by")]
    Offline { reference: Reference },
    #[error("{reference} was not fetched from the object store")]
    Object { reference: Reference, source: ObjectError },
    #[error("{reference} was not fetched from its registry")]
    Registry { reference: Reference, source: RegistryError },
    #[error("{reference} cannot be had from what is kept")]
    Desk { reference: Reference, source: DeskError },
    #[error("{reference} cannot be used")]
    Examine { reference: Reference, source: ExamineError },
    #[error("{reference} may not run here")]
    Refused { reference: Reference, source: Refusal },
}

// === impl Sources ===

impl Sources {
    /// All that there are.
    pub fn new(desk: DeskHandle, folders: Vec<PathBuf>, registries: Registries, policy: Policy) -> Sources {
        Sources { desk, folders, registries, policy, fetching: Semaphore::new(1) }
    }

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
        let desk = |source| ObtainError::Desk { reference: reference.clone(), source };
        let examined = self.desk.examine(path.clone()).await.map_err(desk)?;
        let examined =
            examined.map_err(|source| ObtainError::Examine { reference: reference.clone(), source })?;
        let digest = examined.digest;
        let claims = examined.claims.clone().and_then(Result::ok);
        let evidence = Evidence {
            claims: examined.claims,
            detached: signature.map(|text| detached::verify(&text, &digest)),
            imports: examined.imports.into_iter().collect(),
        };
        match self.policy.judge(&evidence, present.now) {
            Ok(trust) => {
                if trust == Trust::Unsigned {
                    tracing::warn!(%reference, "nobody who is trusted has signed this artifact; it runs since artifacts.allow_unsigned says so");
                }
                Ok(Obtained { path, digest, trust, claims })
            }
            Err(source) => Err(ObtainError::Refused { reference, source }),
        }
    }

    /// What is kept beyond its bound goes, but nothing that these references led to.
    pub async fn sweep(&self, needed: BTreeSet<String>) -> Result<(), DeskError> {
        self.desk.sweep(needed).await
    }

    /// A reference may mean another content from now on: see [`Store::give_up`].
    ///
    /// [`Store::give_up`]: super::store::Store::give_up
    pub async fn give_up(&self, reference: &str) -> Result<bool, DeskError> {
        self.desk.give_up(reference.to_owned()).await
    }

    /// A file of the site's, and the signature beside it.
    async fn local(
        &self,
        reference: &Reference,
        path: &Path,
    ) -> Result<(PathBuf, Option<String>), ObtainError> {
        let read = |source| ObtainError::Read { reference: reference.clone(), source };
        // Both without symbolic links: one in a folder must not lead out of it.
        let path = tokio::fs::canonicalize(path).await.map_err(read)?;
        let mut is_inside = false;
        for folder in &self.folders {
            // One that is not there has nothing in it.
            let folder = tokio::fs::canonicalize(folder).await;
            is_inside |= folder.is_ok_and(|folder| path.starts_with(&folder) && path != folder);
        }
        if !is_inside {
            return Err(ObtainError::Outside { reference: reference.clone() });
        }
        let mut beside = path.clone().into_os_string();
        beside.push(".sig");
        let bytes = tokio::fs::metadata(&beside).await.map_or(0, |file| file.len());
        if bytes > SIGNATURE_BYTES_MAX as u64 {
            return Err(ObtainError::Signature { reference: reference.clone(), bytes });
        }
        Ok((path, tokio::fs::read_to_string(&beside).await.ok()))
    }

    async fn kept(&self, reference: &Reference, present: &Present) -> Result<(Kept, PathBuf), ObtainError> {
        let find = || self.desk.find(reference.as_str().to_owned());
        let desk = |source| ObtainError::Desk { reference: reference.clone(), source };
        match find().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            // It was thrown away; what the reference means is known, and nothing else is fetched.
            Err(DeskError::Store(error @ StoreError::Damaged { .. })) => {
                tracing::error!(%reference, %error, "an artifact was damaged on flash and is not run; fetching the same again");
            }
            Err(error) => return Err(desk(error)),
        }
        let _alone = self.fetching.acquire().await.expect("it is never closed");
        // Whoever was before may have fetched the same.
        if let Some(found) = find().await.map_err(desk)? {
            return Ok(found);
        }
        self.fetch_all(reference, present).await?;
        find().await.map_err(desk)?.ok_or_else(|| ObtainError::Offline { reference: reference.clone() })
    }

    /// Fetches, and goes on after an interruption as long as every attempt brings the end nearer.
    async fn fetch_all(&self, reference: &Reference, present: &Present) -> Result<Kept, ObtainError> {
        let mut there = 0;
        for _ in 1..ATTEMPTS_MAX {
            let error = match self.fetch(reference, present).await {
                Ok(kept) => return Ok(kept),
                Err(error) => error,
            };
            let desk = |source| ObtainError::Desk { reference: reference.clone(), source };
            let before = std::mem::replace(&mut there, self.desk.under_way().await.map_err(desk)?);
            if there <= before {
                return Err(error);
            }
            tracing::info!(%reference, there, reason = %chain(&error), "a fetch was interrupted and goes on");
        }
        self.fetch(reference, present).await
    }

    async fn fetch(&self, reference: &Reference, present: &Present) -> Result<Kept, ObtainError> {
        let text = reference.as_str();
        let mut needed = present.needed.clone();
        needed.insert(text.to_owned());
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
