//! A connection to a host: its name looked up, TCP, and TLS with the roots that count.
//!
//! Names are looked up by the system's resolver, which
//! blocks, and may for half a minute: so on threads of their own, of which a component has [`LOOKUPS_MAX`].

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::Error;

use super::gate;
use crate::config::{HttpHost, HttpScheme};
use crate::platform::roots::Roots;

/// Names that a component has looked up at a time, each in a thread of the runtime for calls that block. One that is not
/// waited for any more counts until the resolver is done.
pub const LOOKUPS_MAX: usize = 2;
/// Addresses of one name that are tried, one after the other.
const ADDRESSES_MAX: usize = 4;

/// Bytes both ways.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl Wire for TcpStream {}
impl Wire for tokio_rustls::client::TlsStream<TcpStream> {}

/// What a connection is made from.
pub(super) struct Dial {
    pub host: HttpHost,
    pub trust: Arc<Roots>,
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
