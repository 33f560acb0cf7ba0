//! Asking a running gateway.

use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::{ANSWER_BYTES_MAX, PATIENCE, Request};
use crate::runtime::Order;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum AskError {
    #[error(
        "no gateway answers at {path}: is frond running, with this configuration, and may you use its socket?"
    )]
    Connect { path: PathBuf, source: std::io::Error },
    #[error("the gateway at {path} did not answer in time; what it was told may still be done")]
    Slow { path: PathBuf },
    #[error("the connection to {path} broke")]
    Broken { path: PathBuf, source: std::io::Error },
    #[error(
        "the gateway at {path} answered something this program does not understand; are both the same version?"
    )]
    Answer { path: PathBuf, source: serde_json::Error },
}

/// Asks the gateway at `path` and returns its answer.
pub async fn ask<T: serde::de::DeserializeOwned>(path: &Path, request: Request) -> Result<T, AskError> {
    let slow = || AskError::Slow { path: path.to_owned() };
    let line = tokio::time::timeout(PATIENCE * 2, exchange(path, request)).await.map_err(|_| slow())??;
    serde_json::from_slice(&line).map_err(|source| AskError::Answer { path: path.to_owned(), source })
}

async fn exchange(path: &Path, request: Request) -> Result<Vec<u8>, AskError> {
    let broken = |source| AskError::Broken { path: path.to_owned(), source };
    let mut stream = UnixStream::connect(path)
        .await
        .map_err(|source| AskError::Connect { path: path.to_owned(), source })?;
    let mut line = serde_json::to_vec(&request).expect("requests are plain enums");
    line.push(b'\n');
    stream.write_all(&line).await.map_err(broken)?;
    if let Request::Component { order: Order::Deploy { artifact, .. } } = &request {
        // One that refuses at once need not read it; its answer says why.
        let _ = stream.write_all(&artifact.0).await;
    }
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.map_err(broken)?;
    Ok(answer)
}
