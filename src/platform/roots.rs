//! Whose certificates are believed: those of a file that the site names, or those of the system.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long roots are used before they are read again: a file that was replaced counts by then.
const ROOTS_LAST: Duration = Duration::from_secs(600);

/// Whom one side believes.
#[derive(Debug)]
pub struct Roots {
    ca: Option<PathBuf>,
    kept: Mutex<Option<(Instant, Arc<ClientConfig>)>>,
}

/// Why there are no roots. Its text is for the log.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum RootsError {
    #[error("{path} holds no certificates that can be read")]
    File { path: PathBuf },
    #[error("this machine has no root certificates")]
    None,
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

// === impl Roots ===

impl Roots {
    /// Those of this file of PEM, or of the system.
    pub fn new(ca: Option<PathBuf>) -> Roots {
        Roots { ca, kept: Mutex::new(None) }
    }

    /// What a TLS client is made with.
    pub async fn config(&self) -> Result<Arc<ClientConfig>, RootsError> {
        let mut kept = self.kept.lock().await;
        if let Some((since, config)) = &*kept
            && since.elapsed() < ROOTS_LAST
        {
            return Ok(Arc::clone(config));
        }
        let ca = self.ca.clone();
        // Some 150 files, or one: on a slow card that is not for a thread which others wait for.
        let read = tokio::task::spawn_blocking(move || client_config(ca.as_deref())).await;
        let config = read.unwrap_or(Err(RootsError::None))?;
        *kept = Some((Instant::now(), Arc::clone(&config)));
        Ok(config)
    }
}

fn client_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, RootsError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let unreadable = || RootsError::File { path: path.to_owned() };
            let found = CertificateDer::pem_file_iter(path).map_err(|_| unreadable())?;
            for certificate in found {
                let added = certificate.ok().and_then(|certificate| roots.add(certificate).ok());
                added.ok_or_else(unreadable)?;
            }
            if roots.is_empty() {
                return Err(unreadable());
            }
        }
        None => {
            // A root that cannot be read is one that nobody is believed for; the others count.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(RootsError::None);
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(RootsError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn roots_come_from_the_file_that_is_named_or_not_at_all() {
        // Goal: an operator's own roots take the place of the system's, and a file without any is said. Method: a file
        // with a certificate, one with none, and none.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots.pem");
        assert!(matches!(client_config(Some(&path)), Err(RootsError::File { .. })));
        std::fs::write(&path, "no certificate").unwrap();
        assert!(matches!(client_config(Some(&path)), Err(RootsError::File { .. })));
        let own = rcgen::generate_simple_self_signed(["meter.plant".to_owned()]).unwrap();
        std::fs::write(&path, own.cert.pem()).unwrap();
        let roots = Roots::new(Some(path.clone()));
        let first = roots.config().await.unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(Arc::ptr_eq(&first, &roots.config().await.unwrap()), "they are kept for a while");
    }
}
