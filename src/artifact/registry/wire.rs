//! One question to a host and its answer, frame by frame; a connection for each.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_RANGE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::io::TokioIo;

use crate::platform::roots::{Roots, RootsError};

/// Longest time for name, TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time until an answer begins, and between two frames of it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Why there is no answer, or no more of it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum WireError {
    #[error("{url} is no address that can be asked")]
    Url { url: String },
    #[error("{host} is only to be had without TLS, which plain = true in its [[registry]] would allow")]
    Plain { host: String },
    #[error("cannot connect to {host}")]
    Connect { host: String, source: io::Error },
    #[error("there is nobody to believe")]
    Roots(#[source] RootsError),
    #[error("it does not answer in time")]
    Silent,
    #[error("the connection ended")]
    Ended(#[source] hyper::Error),
    #[error("the answer ended early")]
    Short,
    #[error("the answer has more than {bytes_max} bytes")]
    Long { bytes_max: usize },
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    scheme: Scheme,
    /// Host, and port if one is given.
    authority: String,
    host: String,
    port: u16,
    /// Path and query.
    path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// How to ask.
pub(super) struct Wire<'a> {
    pub(super) roots: &'a Roots,
}

/// An answer whose body is still to come.
pub(super) struct Answer {
    response: Response<Incoming>,
    /// It moves only while it is polled.
    connection: Option<Connection>,
}

type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

// === impl Url ===

impl Url {
    /// Reads an absolute address. Without TLS only the hosts in `plain` are asked.
    pub(super) fn parse(text: &str, plain: &BTreeSet<String>) -> Result<Url, WireError> {
        let error = || WireError::Url { url: text.chars().take(200).collect() };
        let uri: Uri = text.parse().map_err(|_| error())?;
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            _ => return Err(error()),
        };
        let authority =
            uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(error)?;
        if scheme == Scheme::Http && !plain.contains(authority.as_str()) {
            return Err(WireError::Plain { host: authority.to_string() });
        }
        let port = match scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Url {
            scheme,
            authority: authority.to_string(),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(port),
            path: path.to_owned(),
        })
    }

    /// Where a `Location` leads from here.
    pub(super) fn join(&self, location: &str, plain: &BTreeSet<String>) -> Result<Url, WireError> {
        match location.starts_with('/') && !location.starts_with("//") {
            true => Ok(Url { path: location.to_owned(), ..self.clone() }),
            false => Url::parse(location, plain),
        }
    }

    /// Host, and port if one is given.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }
}

// === impl Wire ===

impl Wire<'_> {
    /// Asks. Cancel-safe: a question that is dropped ends its connection.
    pub(super) async fn get(
        &self,
        url: &Url,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<Answer, WireError> {
        let connect = timeout(CONNECT_TIMEOUT, self.connect(url)).await;
        let stream = connect.map_err(|_| WireError::Silent)??;
        let mut request = Request::get(&url.path).header(HOST, &url.authority);
        request = request.header(USER_AGENT, concat!("frond/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let error = |_| WireError::Url { url: url.path.clone() };
        let request = request.body(Empty::<Bytes>::new()).map_err(error)?;
        let made = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = made.map_err(WireError::Ended)?;
        let mut connection: Option<Connection> = Some(Box::pin(connection));
        let sent = timeout(ANSWER_TIMEOUT, sender.send_request(request));
        let response = along(&mut connection, sent).await.map_err(|_| WireError::Silent)?;
        Ok(Answer { response: response.map_err(WireError::Ended)?, connection })
    }

    async fn connect(&self, url: &Url) -> Result<Box<dyn Stream>, WireError> {
        let failed = |source| WireError::Connect { host: url.authority.clone(), source };
        let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(failed)?;
        if url.scheme == Scheme::Http {
            return Ok(Box::new(stream));
        }
        let config = self.roots.config().await.map_err(WireError::Roots)?;
        let name = ServerName::try_from(url.host.clone());
        let name = name.map_err(|_| WireError::Url { url: url.authority.clone() })?;
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(failed)?;
        Ok(Box::new(stream))
    }
}

// === impl Answer ===

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Where it says that what was asked for is.
    pub(super) fn location(&self) -> Option<String> {
        let text = self.headers().get(LOCATION).filter(|_| self.status().is_redirection())?;
        Some(text.to_str().ok()?.to_owned())
    }

    /// The byte that a part of something begins with.
    pub(super) fn starts_at(&self) -> Option<u64> {
        let range = self.headers().get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
        range.split_once('-')?.0.trim().parse().ok()
    }

    /// The next piece; `None` at the end.
    pub(super) async fn frame(&mut self) -> Result<Option<Bytes>, WireError> {
        loop {
            let next = timeout(ANSWER_TIMEOUT, self.response.body_mut().frame());
            let Some(frame) = along(&mut self.connection, next).await.map_err(|_| WireError::Silent)? else {
                return Ok(None);
            };
            // What is no data comes at the end and is of no interest.
            if let Ok(data) = frame.map_err(WireError::Ended)?.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

/// Waits, while the connection goes on.
async fn along<T>(connection: &mut Option<Connection>, what: impl Future<Output = T>) -> T {
    let mut what = std::pin::pin!(what);
    if let Some(open) = connection {
        tokio::select! {
            biased;
            done = &mut what => return done,
            // What went wrong with it shows in what is waited for.
            _ = open => *connection = None,
        }
    }
    what.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_of_the_list_are_asked_without_tls() {
        // Goal: neither a reference, a realm nor a redirect gets around TLS. Method: each way, with one host allowed.
        let plain = BTreeSet::from(["127.0.0.1:5000".to_owned()]);
        let url = |text: &str| Url::parse(text, &plain);
        let tls = url("https://ghcr.io/v2/a?b=c").unwrap();
        assert_eq!((tls.authority(), tls.port, tls.path.as_str()), ("ghcr.io", 443, "/v2/a?b=c"));
        assert_eq!(url("http://127.0.0.1:5000/x").unwrap().port, 5000);
        assert_eq!(url("https://[::1]:5000/x").unwrap().host, "::1");
        assert!(matches!(url("http://ghcr.io/v2/"), Err(WireError::Plain { .. })));
        assert!(matches!(tls.join("http://evil/x", &plain), Err(WireError::Plain { .. })));
        assert_eq!(tls.join("/y", &plain).unwrap().path, "/y");
        for text in ["", "ghcr.io/v2", "ftp://a/b", "https://u:p@a/b", "//a/b"] {
            assert!(matches!(url(text), Err(WireError::Url { .. })), "{text}");
        }
        assert!(tls.join("//evil/x", &plain).is_err());
    }
}
