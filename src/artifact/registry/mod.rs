//! Artifacts in an OCI registry: the manifest of an image, and the one layer of it that is a component.
//!
//! ```text
//!  GET /v2/NAME/manifests/VERSION ── 401 ─▶ token of the realm that it names ─▶ once more
//!       │ 200, its SHA-256 is the one asked for, if one was
//!       ▼
//!  GET /v2/NAME/blobs/DIGEST, from the byte that is missing ── 3xx ─▶ where it leads, without credentials
//!       │ 200, 206
//!       ▼
//!  pieces ─▶ desk: length and SHA-256 are those of the manifest, or nothing is kept
//! ```
//! Source: OCI distribution specification 1.1. Our own, where a library (oci-client) would do: that one takes a manifest of
//! any length into memory, and brings 45 crates along where hyper is there already.
//!
//! Owns nothing; what was fetched is on flash. Bounds: [`MANIFEST_BYTES_MAX`], [`TOKEN_BYTES_MAX`], [`REDIRECTS_MAX`], and
//! the time of every step. Credentials go to the registry that they are for and to the realm that it names, by TLS or to
//! hosts that the site has allowed without.

mod auth;
mod manifest;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use self::auth::Challenge;
use self::manifest::Layer;
use self::wire::{Answer, Url, Wire};
use super::Version;
use super::desk::{DeskError, DeskHandle};
use super::report::Report;
use super::store::{Kept, Plan, Progress};
use crate::platform::roots::Roots;
use crate::runtime::Digest;
use bytes::{Buf as _, BytesMut};
use hyper::StatusCode;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue, RANGE, WWW_AUTHENTICATE};
use tokio::sync::watch;

pub use self::manifest::ManifestError;
pub use self::wire::WireError;

/// Longest manifest taken: OCI asks registries to take up to 4 MiB, one of a component has 1 KiB.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// Longest answer of a realm; tokens have some KiB.
pub const TOKEN_BYTES_MAX: usize = 64 << 10;

/// Times that a blob may be said to be elsewhere; one is usual.
pub const REDIRECTS_MAX: usize = 5;

/// Bytes handed over at a time: one job for the thread that writes, not ten.
const PIECE_BYTES: usize = 128 << 10;

/// The registries that the site knows.
#[derive(Debug)]
pub struct Registries {
    /// Hosts, with their port if they have one, that are spoken to without TLS.
    pub plain: BTreeSet<String>,
    /// By host: user name, and the file that the password is read from whenever it is asked for.
    pub logins: BTreeMap<String, (String, PathBuf)>,
    /// By host, as the lattice has told them since the start; what the site says comes first.
    pub told: watch::Receiver<Told>,
    roots: Roots,
}

/// Credentials by host.
pub type Told = BTreeMap<String, Credentials>;

/// Who the gateway is at a registry. `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Name.
    pub username: String,
    /// Password or token.
    pub password: String,
}

/// An image.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// Host of the registry, and port if there is one.
    pub host: &'a str,
    /// Path of the repository.
    pub repository: &'a str,
    /// Which image.
    pub version: &'a Version,
}

/// Why an image was not fetched. What was there of it stays for the next attempt.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum RegistryError {
    #[error("{host} cannot be asked")]
    Wire { host: String, source: WireError },
    #[error("{host} has no {what}")]
    Missing { host: String, what: String },
    #[error("{host} lets this gateway not have {what}; set username and password_file in its [[registry]]")]
    Denied { host: String, what: String },
    #[error("the password for {host} cannot be read from {}", file.display())]
    Password { host: String, file: PathBuf, source: std::io::Error },
    #[error("{host} answers {status} for {what}")]
    Status { host: String, status: u16, what: String },
    #[error("{host} asks for credentials in a way that is not understood")]
    Challenge { host: String },
    #[error("{host} sends another manifest than the one asked for: SHA-256 {found}")]
    Lie { host: String, found: Digest },
    #[error("the image cannot be used")]
    Manifest(#[from] ManifestError),
    #[error("{host} sends {what} from the wrong place")]
    Range { host: String, what: String },
    #[error("it cannot be kept")]
    Desk(#[from] DeskError),
}

/// One conversation.
struct Visit<'a> {
    registries: &'a Registries,
    image: Image<'a>,
    authorization: Option<HeaderValue>,
}

// === impl Registries ===

impl Registries {
    /// Registries without credentials, believed by the roots of `ca` or of the system.
    pub fn new(ca: Option<PathBuf>) -> Registries {
        let (_, told) = watch::channel(Told::new());
        Registries { plain: BTreeSet::new(), logins: BTreeMap::new(), told, roots: Roots::new(ca) }
    }

    async fn credentials(&self, host: &str) -> Result<Option<Credentials>, RegistryError> {
        let Some((username, file)) = self.logins.get(host) else {
            return Ok(self.told.borrow().get(host).cloned());
        };
        let password = |source| RegistryError::Password { host: host.to_owned(), file: file.clone(), source };
        let text = tokio::fs::read_to_string(file).await.map_err(password)?;
        Ok(Some(Credentials { username: username.clone(), password: text.trim_end().to_owned() }))
    }

    /// Fetches the component of an image and keeps it under `reference`. `needed` stays whatever room it takes.
    ///
    /// Cancel-safe: what is on flash by then is gone on with.
    pub async fn fetch(
        &self,
        image: Image<'_>,
        reference: &str,
        desk: &DeskHandle,
        needed: BTreeSet<String>,
    ) -> Result<Kept, RegistryError> {
        let mut visit = Visit { registries: self, image, authorization: None };
        let layer = visit.layer().await?;
        let plan = Plan {
            reference: reference.to_owned(),
            source: format!("sha256:{}", layer.digest),
            bytes: layer.bytes,
            digest: Some(layer.digest.clone()),
            signature: layer.signature.clone(),
        };
        let progress = desk.begin(plan, needed).await?;
        if progress.bytes < layer.bytes {
            visit.blob(&layer, progress, (reference, desk)).await?;
        }
        Ok(desk.finish().await?)
    }
}

// === impl Visit ===

impl Visit<'_> {
    async fn layer(&mut self) -> Result<Layer, RegistryError> {
        let version = match self.image.version {
            Version::Tag(tag) => tag,
            Version::Digest(digest) => digest,
        };
        let what = format!("manifest {version} of {}", self.image.repository);
        let path = format!("/v2/{}/manifests/{version}", self.image.repository);
        let answer = self.get(self.url(&path)?, None, &what).await?;
        let body = self.whole(answer, MANIFEST_BYTES_MAX).await?;
        let found = Digest::of(&body);
        match self.image.version {
            Version::Digest(wanted) if *wanted != format!("sha256:{found}") => {
                Err(RegistryError::Lie { host: self.image.host.to_owned(), found })
            }
            _ => Ok(manifest::layer(&body)?),
        }
    }

    async fn blob(
        &mut self,
        layer: &Layer,
        from: Progress,
        (reference, desk): (&str, &DeskHandle),
    ) -> Result<(), RegistryError> {
        let what = format!("layer {} of {}", layer.digest.short(), self.image.repository);
        let path = format!("/v2/{}/blobs/sha256:{}", self.image.repository, layer.digest);
        let mut answer = self.get(self.url(&path)?, Some(from.bytes), &what).await?;
        // A registry that knows no ranges sends what is there already, too.
        let mut skip = match answer.status() {
            StatusCode::PARTIAL_CONTENT if answer.starts_at() != Some(from.bytes) => {
                return Err(RegistryError::Range { host: self.image.host.to_owned(), what });
            }
            StatusCode::PARTIAL_CONTENT => 0,
            _ => from.bytes,
        };
        let mut gathered = BytesMut::with_capacity(PIECE_BYTES);
        let mut there = from.bytes;
        let mut report = Report::begin(reference, layer.bytes, from.bytes);
        let ended = loop {
            let mut frame = match answer.frame().await {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(source) => break Err(self.wire(source)),
            };
            let over = usize::try_from(skip).unwrap_or(usize::MAX).min(frame.len());
            skip -= over as u64;
            frame.advance(over);
            gathered.extend_from_slice(&frame);
            if gathered.len() >= PIECE_BYTES {
                there = desk.append(gathered.split().freeze(), 0).await?.bytes;
                report.at(there);
            }
        };
        if !gathered.is_empty() {
            there = desk.append(gathered.freeze(), 0).await?.bytes;
        }
        ended?;
        // What is there stays for the next attempt.
        if there < layer.bytes { Err(self.wire(WireError::Short)) } else { Ok(()) }
    }

    /// Asks, with credentials once they are asked for, wherever it leads.
    async fn get(&mut self, url: Url, from: Option<u64>, what: &str) -> Result<Answer, RegistryError> {
        let mut answer = self.ask(&url, from, self.authorization.clone()).await?;
        if answer.status() == StatusCode::UNAUTHORIZED && self.authorization.is_none() {
            let challenge = challenge(&answer);
            drop(answer);
            self.authorization = Some(self.authorize(challenge, what).await?);
            answer = self.ask(&url, from, self.authorization.clone()).await?;
        }
        let mut at = url;
        for _ in 0..REDIRECTS_MAX {
            let Some(location) = answer.location() else { break };
            let next = at.join(&location, &self.registries.plain).map_err(|source| self.wire(source))?;
            // Credentials are for the registry, not for where it stores its blobs.
            let same = next.authority() == at.authority();
            answer = self.ask(&next, from, self.authorization.clone().filter(|_| same)).await?;
            at = next;
        }
        let (host, what) = (self.image.host.to_owned(), what.to_owned());
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(answer),
            StatusCode::NOT_FOUND => Err(RegistryError::Missing { host, what }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(RegistryError::Denied { host, what }),
            status => Err(RegistryError::Status { host, status: status.as_u16(), what }),
        }
    }

    async fn ask(
        &self,
        url: &Url,
        from: Option<u64>,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, RegistryError> {
        let mut headers = Vec::new();
        match from {
            Some(0) => {}
            Some(from) => {
                headers.push((RANGE, HeaderValue::from_str(&format!("bytes={from}-")).expect("digits")))
            }
            None => headers.push((ACCEPT, HeaderValue::from_static(manifest::ACCEPTED))),
        }
        headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
        let wire = Wire { roots: &self.registries.roots };
        wire.get(url, headers).await.map_err(|source| self.wire(source))
    }

    /// What the registry wants to hear, by its challenge.
    async fn authorize(
        &self,
        challenge: Option<Challenge>,
        what: &str,
    ) -> Result<HeaderValue, RegistryError> {
        let host = || self.image.host.to_owned();
        let credentials = self.registries.credentials(self.image.host).await?;
        match (challenge, credentials) {
            (None, _) => Err(RegistryError::Challenge { host: host() }),
            (Some(Challenge::Basic), None) => {
                Err(RegistryError::Denied { host: host(), what: what.to_owned() })
            }
            (Some(Challenge::Basic), Some(credentials)) => Ok(auth::basic(&credentials)),
            (Some(Challenge::Bearer(realm)), credentials) => {
                let url = realm.url(self.image.repository);
                let url = Url::parse(&url, &self.registries.plain).map_err(|source| self.wire(source))?;
                let answer = self.ask(&url, Some(0), credentials.as_ref().map(auth::basic)).await?;
                if answer.status() != StatusCode::OK {
                    return Err(RegistryError::Denied { host: host(), what: what.to_owned() });
                }
                let body = self.whole(answer, TOKEN_BYTES_MAX).await?;
                auth::bearer(&body).ok_or_else(|| RegistryError::Challenge { host: host() })
            }
        }
    }

    async fn whole(&self, mut answer: Answer, bytes_max: usize) -> Result<Vec<u8>, RegistryError> {
        let mut whole = Vec::new();
        while let Some(frame) = answer.frame().await.map_err(|source| self.wire(source))? {
            if whole.len() + frame.len() > bytes_max {
                return Err(self.wire(WireError::Long { bytes_max }));
            }
            whole.extend_from_slice(&frame);
        }
        Ok(whole)
    }

    fn url(&self, path: &str) -> Result<Url, RegistryError> {
        let plain = self.registries.plain.contains(self.image.host);
        let scheme = if plain { "http" } else { "https" };
        Url::parse(&format!("{scheme}://{}{path}", self.image.host), &self.registries.plain)
            .map_err(|source| self.wire(source))
    }

    fn wire(&self, source: WireError) -> RegistryError {
        RegistryError::Wire { host: self.image.host.to_owned(), source }
    }
}

/// How a registry that refuses asks who is there.
fn challenge(refused: &Answer) -> Option<Challenge> {
    let challenges = refused.headers().get_all(WWW_AUTHENTICATE);
    challenges.iter().filter_map(|value| value.to_str().ok()).filter_map(Challenge::parse).next()
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}
