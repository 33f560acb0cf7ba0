//! A connection to a host: its name looked up, TCP, and TLS with the roots that count.
//!
//! Owns the TLS set-up of one link, read anew every [`ROOTS_LAST`]. Names are looked up by the system's resolver, which
//! blocks, and may for half a minute: so on threads of their own, of which a component has [`LOOKUPS_MAX`].

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::Error;

use super::gate;
use crate::config::{HttpHost, HttpScheme};

/// Names that a component has looked up at a time, each in a thread of the runtime for calls that block. One that is not
/// waited for any more counts until the resolver is done.
pub const LOOKUPS_MAX: usize = 2;
/// Addresses of one name that are tried, one after the other.
const ADDRESSES_MAX: usize = 4;
/// How long roots are used before they are read again: a file that was replaced counts by then.
const ROOTS_LAST: Duration = Duration::from_secs(600);

/// Bytes both ways.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl Wire for TcpStream {}
impl Wire for tokio_rustls::client::TlsStream<TcpStream> {}

/// Whom a link believes.
#[derive(Debug)]
pub(super) struct Trust {
    ca: Option<PathBuf>,
    kept: Mutex<Option<(Instant, Arc<ClientConfig>)>>,
}

/// Why there are no roots. Its text is for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum RootsError {
    #[error("{path} holds no certificates that can be read")]
    File { path: PathBuf },
    #[error("this machine has no root certificates")]
    None,
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// What a connection is made from.
pub(super) struct Dial {
    pub host: HttpHost,
    pub trust: Arc<Trust>,
    pub lookups: Arc<Semaphore>,
}

// === impl Dial ===

impl Dial {
    /// Connects, within this time.
    ///
    /// Cancel-safe: what was begun is dropped; a lookup goes on, and counts, until the resolver gives up.
    pub async fn connect(&self, time_max: Duration) -> Result<Box<dyn Wire>, Error> {
        timeout(time_max, self.try_all(time_max)).await.unwrap_or(Err(Error::ConnectionTimeout))
    }

    async fn try_all(&self, time_max: Duration) -> Result<Box<dyn Wire>, Error> {
        let addresses = self.look_up().await?;
        // A site whose IPv6 leads nowhere, which is not rare, must not cost all of the time.
        let share = time_max / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut failed = Error::DestinationNotFound;
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return self.speak(stream).await,
                Ok(Err(error)) => failed = unreachable(&error),
                Err(_) => failed = Error::ConnectionTimeout,
            }
        }
        Err(failed)
    }

    async fn look_up(&self) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(ip) = self.host.name.parse() {
            return Ok(vec![SocketAddr::new(ip, self.host.port)]);
        }
        let permit = Arc::clone(&self.lookups).acquire_owned().await;
        let (name, port) = (self.host.name.clone(), self.host.port);
        let found = tokio::task::spawn_blocking(move || {
            let _held = permit;
            let all = (name.as_str(), port).to_socket_addrs()?;
            let good = all.filter(|address| gate::may_stand_for(&name, address.ip()));
            io::Result::Ok(good.take(ADDRESSES_MAX).collect::<Vec<_>>())
        });
        match found.await {
            // The resolver finds one address at least, or fails.
            Ok(Ok(addresses)) if addresses.is_empty() => Err(Error::DestinationIpProhibited),
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(_)) | Err(_) => {
                Err(Error::DnsError { rcode: Some("name cannot be resolved".to_owned()), info_code: None })
            }
        }
    }

    async fn speak(&self, stream: TcpStream) -> Result<Box<dyn Wire>, Error> {
        // It only makes small requests faster.
        let _ = stream.set_nodelay(true);
        if self.host.scheme == HttpScheme::Http {
            return Ok(Box::new(stream));
        }
        let config =
            self.trust.config().await.map_err(|error| {
                Error::InternalError(Some(crate::platform::log::chain(&error).to_string()))
            })?;
        let name = ServerName::try_from(self.host.name.clone()).map_err(|_| Error::HttpRequestUriInvalid)?;
        match TlsConnector::from(config).connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(distrusted(&error)),
        }
    }
}

// === impl Trust ===

impl Trust {
    pub fn new(ca: Option<PathBuf>) -> Trust {
        Trust { ca, kept: Mutex::new(None) }
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, RootsError> {
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

fn unreachable(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Error::DestinationIpUnroutable,
        _ => Error::DestinationUnavailable,
    }
}

fn distrusted(error: &io::Error) -> Error {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(_) => Error::TlsProtocolError,
        None => Error::ConnectionTerminated,
    }
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
        let trust = Trust::new(Some(path.clone()));
        let first = trust.config().await.unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(Arc::ptr_eq(&first, &trust.config().await.unwrap()), "they are kept for a while");
    }
}
