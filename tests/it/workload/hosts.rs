//! Hosts that components ask by HTTP, and a client that asks components.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use wasmtime_wasi_http::io::TokioIo;

use super::PATIENCE;

/// A host. Its paths: `/hello`, `/to/URL` (elsewhere), `/never`, `/drip` (a byte, and no more), `/large` and `/long`
/// (100,000 bytes, said beforehand or not), `/head` (a head without end), `/slow` (after a moment), `/held` (when the test
/// lets one go).
pub struct Host {
    pub port: u16,
    pub visitors: Arc<Visitors>,
    /// What proves who it is, if it speaks TLS.
    pub certificate: String,
    _task: JoinSet<()>,
}

/// How many have come.
#[derive(Debug, Default)]
pub struct Visitors {
    now: AtomicUsize,
    /// At a time.
    pub most: AtomicUsize,
    pub all: AtomicUsize,
    /// Lets one go that is held.
    pub let_go: Notify,
}

impl Host {
    pub async fn plain() -> Host {
        Host::start(None, String::new()).await
    }

    /// By the name `localhost`, with a certificate of its own.
    pub async fn tls() -> Host {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        Host::start(Some(TlsAcceptor::from(Arc::new(config))), own.cert.pem()).await
    }

    async fn start(tls: Option<TlsAcceptor>, certificate: String) -> Host {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let visitors = Arc::new(Visitors::default());
        let counted = Arc::clone(&visitors);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                // Cancel-safe both.
                tokio::select! {
                    accepted = listener.accept() => {
                        let (stream, _) = accepted.unwrap();
                        let (tls, visitors) = (tls.clone(), Arc::clone(&counted));
                        serving.spawn(async move {
                            match tls {
                                None => serve(stream, &visitors).await,
                                Some(tls) => if let Ok(stream) = tls.accept(stream).await { serve(stream, &visitors).await },
                            }
                        });
                    }
                    Some(_) = serving.join_next() => {}
                }
            }
        });
        Host { port, visitors, certificate, _task: task }
    }
}

/// One request; the connection ends with the answer, or with the client.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, visitors: &Visitors) {
    visitors.all.fetch_add(1, Ordering::Relaxed);
    let now = 1 + visitors.now.fetch_add(1, Ordering::Relaxed);
    visitors.most.fetch_max(now, Ordering::Relaxed);
    let answered = answer(&mut stream, visitors).await;
    // Before the answer is out: the next one comes as soon as it is.
    visitors.now.fetch_sub(1, Ordering::Relaxed);
    let Some((answer, more)) = answered else { return };
    // Whoever asked may have gone.
    let _ = stream.write_all(answer.as_bytes()).await;
    match more {
        None => {
            let _ = stream.shutdown().await;
        }
        Some("") => {
            // Until the client goes.
            let _ = stream.read_u8().await;
        }
        Some(line) => while stream.write_all(line.as_bytes()).await.is_ok() {},
    }
}

/// What is said to a request, and said again and again after it.
async fn answer(
    stream: &mut (impl AsyncRead + Unpin),
    visitors: &Visitors,
) -> Option<(String, Option<&'static str>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return None,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let text = |text: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    Some(match path.strip_prefix("/to/") {
        Some(url) => (format!("HTTP/1.1 302 Found\r\nlocation: {url}\r\ncontent-length: 0\r\n\r\n"), None),
        None => match path.as_str() {
            "/hello" => (text("hello"), None),
            "/large" => (text(&"x".repeat(100_000)), None),
            "/long" => (format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(100_000)), None),
            "/slow" => {
                sleep(Duration::from_millis(300)).await;
                (text("slow"), None)
            }
            "/held" => {
                visitors.let_go.notified().await;
                (text("held"), None)
            }
            "/never" => (String::new(), Some("")),
            "/drip" => ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx".to_owned(), Some("")),
            "/head" => ("HTTP/1.1 200 OK\r\n".to_owned(), Some("x-more: of the same\r\n")),
            _ => ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(), None),
        },
    })
}

/// Asks a component that listens on the port: status and text, or why there was none.
pub async fn fetch(port: u16, path: &str, body: &str) -> Result<(u16, Bytes), String> {
    let request = Request::builder()
        .method(if body.is_empty() { "GET" } else { "POST" })
        .uri(path)
        .header("host", "dashboard.plant")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .unwrap();
    let exchange = async {
        let stream = connect(port).await;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let answer = async move {
            let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = answer.status().as_u16();
            let text = answer.into_body().collect().await.map_err(|error| error.to_string())?;
            Ok((status, text.to_bytes()))
        };
        // What is wrong with the connection shows in the answer.
        let (answer, _) = tokio::join!(answer, connection);
        answer
    };
    timeout(PATIENCE, exchange).await.expect("an answer or an error")
}

/// The status alone, 0 for none.
pub async fn status_of(port: u16, path: &str) -> u16 {
    fetch(port, path, "").await.map_or(0, |(status, _)| status)
}

/// Connects, as soon as somebody listens.
pub async fn connect(port: u16) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Sends bytes and hears everything until the other side ends it.
pub async fn send_raw(port: u16, bytes: &[u8]) -> String {
    let mut stream = connect(port).await;
    let mut heard = Vec::new();
    // It may be ended before everything is sent.
    let _ = stream.write_all(bytes).await;
    let _ = timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("an end");
    String::from_utf8_lossy(&heard).into_owned()
}
