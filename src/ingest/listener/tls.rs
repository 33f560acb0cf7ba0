//! TLS of a listener: certificates from files, read again when they change, and the names in clients' certificates.
//!
//! ```text
//!               files changed, and they are good
//!   serving ────────────────────────────────────▶ serving the new ones; connections made before keep the old
//!      │  ▲
//!      │  └─ files mended
//!      └──── files changed, and they are not good: the old ones stay, and the log says why, once for each change
//! ```
//! Files that are not good at the start leave the listener's connections closed at once until they are mended: there is a
//! buffer to drain, and plain text is no stand-in.
//!
//! What for: certificates are renewed every few weeks or months, and a gateway must not drop its sensors for that.
//! State: [`Renewal`], a task, owns what was read; acceptors look at a `watch` for each new connection. Nothing is kept
//! across power loss, nothing is dropped. Bounds: [`FILE_BYTES_MAX`], one look every [`LOOK_EVERY`].

use std::convert::Infallible;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::config::{ClientCertificates, Listener, ListenerTls};
use crate::platform::log::chain;

/// How often the files are looked at: three calls of stat(2) each time.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Largest file read: a bundle of a hundred roots has 200 KiB.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file has no certificate or key in it.
    #[error("{path} holds no {wanted} in PEM")]
    Empty {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// A file is not PEM.
    #[error("{path} is not PEM")]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: rustls::pki_types::pem::Error,
    },
    /// A root cannot vouch for clients.
    #[error("a certificate in {path} cannot be used as a root")]
    Root {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// No verifier can be made of the roots.
    #[error("clients cannot be verified with {path}")]
    Verifier {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: rustls::server::VerifierBuilderError,
    },
    /// Certificate and key do not go together, or are of a kind that is not supported.
    #[error("{certificate} and {key} cannot be used together")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

/// What acceptors look at: the configuration for the next connection; `None` while there is none that can be used.
pub type Current = watch::Receiver<Option<Arc<ServerConfig>>>;

/// Reads certificates again when their files change.
#[derive(Debug)]
pub struct Renewal {
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    listener: String,
    tls: ListenerTls,
    seen: Vec<Stamp>,
    current: watch::Sender<Option<Arc<ServerConfig>>>,
}

/// What tells that a file is another than before, without reading it. `None`: it cannot be looked at.
type Stamp = Option<(u64, u64, i64, i64)>;

/// Reads the files and makes of them what connections are accepted with.
pub fn load(tls: &ListenerTls) -> Result<ServerConfig, TlsError> {
    let chain = certificates(&tls.certificate)?;
    let key_bytes = read(&tls.key)?;
    let key = PrivateKeyDer::from_pem_slice(&key_bytes).map_err(|source| match source {
        rustls::pki_types::pem::Error::NoItemsFound => {
            TlsError::Empty { path: tls.key.clone(), wanted: "private key" }
        }
        source => TlsError::Pem { path: tls.key.clone(), source },
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for every default version");
    let builder = match &tls.clients {
        ClientCertificates::None => builder.with_no_client_auth(),
        ClientCertificates::Optional(path) | ClientCertificates::Required(path) => {
            let roots = Arc::new(roots(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = match tls.clients {
                ClientCertificates::Required(_) => verifier,
                _ => verifier.allow_unauthenticated(),
            };
            let verifier =
                verifier.build().map_err(|source| TlsError::Verifier { path: path.clone(), source })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    builder.with_single_cert(chain, key).map_err(|source| TlsError::Pair {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        source,
    })
}

/// The names a verified client certificate stands for: common names of its subject and its DNS names.
pub fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    let common = common_names(parsed.subject());
    common.into_iter().chain(parsed.valid_dns_names().map(str::to_owned)).collect()
}

// === impl Renewal ===

impl Renewal {
    /// Reads the certificates of every listener that has any. Returns, beside the task, what each listener accepts with,
    /// in the order of `listeners`; `None` is one without TLS.
    pub fn new(listeners: &[Listener]) -> (Renewal, Vec<Option<Current>>) {
        let mut renewal = Renewal { watched: Vec::new() };
        let mut currents = Vec::new();
        for listener in listeners {
            let Some(tls) = &listener.tls else {
                currents.push(None);
                continue;
            };
            // Stamps first: what changes while it is read is read again.
            let seen = stamps(tls);
            let first = match load(tls) {
                Ok(config) => Some(Arc::new(config)),
                Err(err) => {
                    error!(
                        listener = listener.name,
                        error = %chain(&err),
                        advice = "mend the files; they are looked at every few seconds",
                        "certificates cannot be used; nobody can connect to this listener"
                    );
                    None
                }
            };
            let (current, view) = watch::channel(first);
            renewal.watched.push(Watched {
                listener: listener.name.clone(),
                tls: tls.clone(),
                seen,
                current,
            });
            currents.push(Some(view));
        }
        (renewal, currents)
    }

    /// Looks at the files now and then, until stopped.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        loop {
            // Cancel-safe: a sleep holds nothing.
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => self.look(),
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Reads what has changed. Files of a few KiB, a few times a year: not worth a thread.
    fn look(&mut self) {
        for watched in &mut self.watched {
            let stamps = stamps(&watched.tls);
            if stamps == watched.seen {
                continue;
            }
            watched.seen = stamps;
            match load(&watched.tls) {
                Ok(config) => {
                    watched.current.send_replace(Some(Arc::new(config)));
                    info!(
                        listener = watched.listener,
                        "certificates are read again; new connections get the new ones"
                    );
                }
                Err(err) => error!(
                    listener = watched.listener,
                    error = %chain(&err),
                    advice = "mend the files; the certificates read before stay in use until then",
                    "changed certificates cannot be used"
                ),
            }
        }
    }
}

fn stamps(tls: &ListenerTls) -> Vec<Stamp> {
    let roots = match &tls.clients {
        ClientCertificates::None => None,
        ClientCertificates::Optional(path) | ClientCertificates::Required(path) => Some(path),
    };
    [Some(&tls.certificate), Some(&tls.key), roots].into_iter().flatten().map(|path| stamp(path)).collect()
}

/// See [`Stamp`]; links are followed, so that a link that is moved to another file counts.
pub(super) fn stamp(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

/// Reads a small file.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(bytes)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    read_bounded(path, FILE_BYTES_MAX).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|source| TlsError::Pem { path: path.to_owned(), source })?;
    if found.is_empty() {
        return Err(TlsError::Empty { path: path.to_owned(), wanted: "certificate" });
    }
    Ok(found)
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Root { path: path.to_owned(), source })?;
    }
    Ok(roots)
}

/// DER: 2.5.4.3, `id-at-commonName`.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// String types whose bytes are ASCII or UTF-8: UTF8String, PrintableString, IA5String.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];

/// The common names in the contents of an X.501 name: a sequence of sets of (type, value).
fn common_names(name: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    for (_, set) in items(name).filter(|(tag, _)| *tag == SET) {
        for (_, pair) in items(set).filter(|(tag, _)| *tag == SEQUENCE) {
            let mut parts = items(pair);
            if parts.next() != Some((OBJECT_IDENTIFIER, &COMMON_NAME)) {
                continue;
            }
            if let Some((tag, text)) = parts.next()
                && TEXTS.contains(&tag)
                && let Ok(text) = std::str::from_utf8(text)
            {
                names.push(text.to_owned());
            }
        }
    }
    names
}

/// The elements of DER contents, each with its tag; ends at whatever is malformed. One-byte tags and lengths up to 65,535
/// are all that occurs in names.
fn items(mut contents: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, rest) = contents.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81 => (usize::from(*rest.first()?), &rest[1..]),
            0x82 => (usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?)), &rest[2..]),
            _ => return None,
        };
        let (item, further) = rest.split_at_checked(length)?;
        contents = further;
        Some((*tag, item))
    })
}

#[cfg(test)]
mod tests;
