//! Artifacts in a JetStream object store, over the link that is there anyway: no registry is needed.
//!
//! An object is a stream's messages: `$O.BUCKET.M.NAME` says how long it is and what its digest is, `$O.BUCKET.C.NUID` are
//! its pieces, 128 KiB each as the usual tools cut them. Source: ADR-20 of NATS. Pieces are asked for one by one, by "the
//! next after this sequence", so that a fetch goes on after any cut with what is missing, and alarms find their place
//! between two pieces. The bucket must allow direct gets, which it does unless somebody has said otherwise.

use std::collections::BTreeSet;
use std::time::Duration;

use data_encoding::{BASE64URL, HEXLOWER};
use serde::{Deserialize, Serialize};

use super::desk::{DeskError, DeskHandle};
use super::detached::SIGNATURE_BYTES_MAX;
use super::report::Report;
use super::store::{Kept, Plan};
use crate::lattice::{Api, ApiError};
use crate::runtime::Digest;

/// Longest wait for a piece: 128 KiB take half of it at 35 kbit/s.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why an object was not fetched. What was there of it stays for the next attempt.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ObjectError {
    #[error("the hub has no object store {bucket}")]
    NoBucket { bucket: String },
    #[error("the object store {bucket} has no object {object}")]
    Missing { bucket: String, object: String },
    #[error("what the object store says of it cannot be read: {0}")]
    Garbled(&'static str),
    #[error("the hub was not to be asked")]
    Link(#[source] ApiError),
    #[error("the object is gone or was replaced while it was fetched")]
    Gone,
    #[error("its signature, {object}, has {bytes} bytes, more than the {SIGNATURE_BYTES_MAX} one may have")]
    Signature { object: String, bytes: u64 },
    #[error("it cannot be kept")]
    Desk(#[from] DeskError),
}

/// What the store says of an object; there is more that is of no interest.
#[derive(Deserialize)]
struct About {
    nuid: String,
    size: u64,
    digest: Option<String>,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    options: Option<Options>,
}

#[derive(Deserialize)]
struct Options {
    link: Option<serde::de::IgnoredAny>,
}

#[derive(Serialize)]
struct Last<'a> {
    last_by_subj: &'a str,
}

#[derive(Serialize)]
struct Next<'a> {
    seq: u64,
    next_by_subj: &'a str,
}

/// Fetches an object and keeps it under `reference`. `needed` stays whatever room it takes.
///
/// Cancel-safe: what is on flash by then is gone on with.
pub async fn fetch(
    api: &Api,
    (bucket, object): (&str, &str),
    reference: &str,
    desk: &DeskHandle,
    needed: BTreeSet<String>,
) -> Result<Kept, ObjectError> {
    let verb = format!("DIRECT.GET.OBJ_{bucket}");
    is_there(api, bucket).await?;
    let about = about(api, &verb, bucket, object).await?;
    let plan = Plan {
        reference: reference.to_owned(),
        source: about.nuid.clone(),
        bytes: about.size,
        digest: Some(digest(about.digest.as_deref())?),
        signature: signature(api, &verb, bucket, object).await?,
    };
    let pieces = format!("$O.{bucket}.C.{}", about.nuid);
    let mut progress = desk.begin(plan, needed).await?;
    let mut report = Report::begin(reference, about.size, progress.bytes);
    while progress.bytes < about.size {
        let next = Next { seq: progress.mark + 1, next_by_subj: &pieces };
        let piece = api.get(&verb, &next, PIECE_TIMEOUT).await.map_err(|error| match error {
            ApiError::Refused { code: 404, .. } => ObjectError::Gone,
            other => ObjectError::Link(other),
        })?;
        let sequence = piece.headers.as_ref().and_then(|headers| headers.get("Nats-Sequence"));
        let sequence = sequence.and_then(|text| text.as_str().parse().ok());
        let sequence = sequence.ok_or(ObjectError::Garbled("a piece without its sequence"))?;
        if piece.payload.is_empty() || sequence <= progress.mark {
            return Err(ObjectError::Garbled("a piece that leads nowhere"));
        }
        progress = desk.append(piece.payload, sequence).await?;
        report.at(progress.bytes);
    }
    Ok(desk.finish().await?)
}

/// Whether there is such a bucket: nobody answers a direct get from one that is not, and silence means a bad link.
async fn is_there(api: &Api, bucket: &str) -> Result<(), ObjectError> {
    // No subject of a bucket is like this: the answer stays short.
    let info = api.stream_info(&format!("OBJ_{bucket}"), "$O").await;
    info.map(drop).map_err(|error| match error {
        ApiError::Refused { code: 404, .. } => ObjectError::NoBucket { bucket: bucket.to_owned() },
        other => ObjectError::Link(other),
    })
}

/// The object beside it that ends in `.sig`, if there is one: a piece of its own.
async fn signature(api: &Api, verb: &str, bucket: &str, object: &str) -> Result<Option<String>, ObjectError> {
    let object = format!("{object}.sig");
    let about = match about(api, verb, bucket, &object).await {
        Ok(about) if about.size <= SIGNATURE_BYTES_MAX as u64 => about,
        Ok(about) => return Err(ObjectError::Signature { object, bytes: about.size }),
        Err(ObjectError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let pieces = format!("$O.{bucket}.C.{}", about.nuid);
    let only = api.get(verb, &Last { last_by_subj: &pieces }, PIECE_TIMEOUT).await;
    let only = only.map_err(ObjectError::Link)?;
    Ok(Some(String::from_utf8_lossy(&only.payload).into_owned()))
}

async fn about(api: &Api, verb: &str, bucket: &str, object: &str) -> Result<About, ObjectError> {
    let missing = || ObjectError::Missing { bucket: bucket.to_owned(), object: object.to_owned() };
    let subject = format!("$O.{bucket}.M.{}", BASE64URL.encode(object.as_bytes()));
    let found = api.get(verb, &Last { last_by_subj: &subject }, PIECE_TIMEOUT).await;
    let message = found.map_err(|error| match error {
        ApiError::Refused { code: 404, .. } => missing(),
        other => ObjectError::Link(other),
    })?;
    let about: About = serde_json::from_slice(&message.payload)
        .map_err(|_| ObjectError::Garbled("not JSON, or not of an object"))?;
    if about.deleted {
        return Err(missing());
    }
    if about.options.as_ref().is_some_and(|options| options.link.is_some()) {
        return Err(ObjectError::Garbled("it is a link to another object; refer to that"));
    }
    // It becomes part of a subject.
    if about.nuid.is_empty() || !about.nuid.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(ObjectError::Garbled("its number"));
    }
    Ok(about)
}

/// `SHA-256=` and base64.
fn digest(text: Option<&str>) -> Result<Digest, ObjectError> {
    let sum = text.and_then(|text| text.strip_prefix("SHA-256="));
    let sum = sum.and_then(|sum| BASE64URL.decode(sum.as_bytes()).ok());
    let digest = sum.and_then(|sum| Digest::parse(&HEXLOWER.encode(&sum)));
    digest.ok_or(ObjectError::Garbled("its digest"))
}
