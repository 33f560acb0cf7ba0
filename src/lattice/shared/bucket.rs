//! One of the lattice's buckets at the hub: a stream that keeps the newest message of each subject. As plain requests of
//! JetStream's API, like the rest of the link, so that each has an inbox and an end of its own.

use async_nats::header::{HeaderMap, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_SEQUENCE};
use async_nats::{Message, Request, StatusCode};
use bytes::Bytes;
use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::json;

use super::entry::Which;
use crate::lattice::api::{Api, ApiError, answered};

/// Numbers of JetStream's refusals.
const NOT_FOUND: u16 = 10_059;
const IN_USE: u16 = 10_058;
const NO_MESSAGE: u16 = 10_037;
const WRONG_SEQUENCE: [u16; 2] = [10_071, 10_164];

const OPERATION: &str = "KV-Operation";
const MARKER: &str = "Nats-Marker-Reason";
const ROLLUP: &str = "Nats-Rollup";

/// A bucket of one lattice.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    pub api: Api,
    pub which: Which,
    pub name: String,
    /// Whether a message can be had as it is; otherwise as JSON.
    is_direct: bool,
}

/// Both buckets, open.
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    pub lattice: Bucket,
    pub config: Bucket,
}

/// What is under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// Number of the write, also of a deletion; 0 if there never was one.
    pub revision: u64,
    /// Nothing when it was deleted.
    pub value: Option<Bytes>,
}

/// Why a write is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PutError {
    /// Somebody else has written meanwhile.
    #[error("somebody else has written meanwhile")]
    Conflict,
    /// See [`ApiError`].
    #[error(transparent)]
    Api(#[from] ApiError),
}

#[derive(Deserialize)]
struct Info {
    config: Config,
    state: State,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    allow_direct: bool,
}

#[derive(Deserialize)]
struct State {
    last_seq: u64,
}

#[derive(Deserialize)]
struct Ack {
    seq: u64,
}

#[derive(Deserialize)]
struct Got {
    message: GotMessage,
}

#[derive(Deserialize)]
struct GotMessage {
    seq: u64,
    #[serde(default)]
    data: String,
    #[serde(default)]
    hdrs: String,
}

// === impl Bucket ===

impl Bucket {
    /// Opens the bucket of a lattice, with wasmCloud's settings if it is not there.
    pub async fn open(api: Api, which: Which, lattice: &str) -> Result<Bucket, ApiError> {
        let name = match which {
            Which::Lattice => format!("LATTICEDATA_{lattice}"),
            Which::Config => format!("CONFIGDATA_{lattice}"),
        };
        let mut bucket = Bucket { api, which, name, is_direct: false };
        let info = match bucket.info().await {
            Err(ApiError::Refused { err_code: NOT_FOUND, .. }) => bucket.create().await?,
            info => info?,
        };
        bucket.is_direct = info.config.allow_direct;
        Ok(bucket)
    }

    /// Number of the newest write.
    pub async fn newest(&self) -> Result<u64, ApiError> {
        Ok(self.info().await?.state.last_seq)
    }

    /// The stream behind it.
    pub fn stream(&self) -> String {
        format!("KV_{}", self.name)
    }

    /// The subject of a key, as its stream has it.
    pub fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    /// The key of a subject.
    pub fn key<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix("$KV.")?.strip_prefix(self.name.as_str())?.strip_prefix('.')
    }

    /// What is under a key now.
    pub async fn read(&self, key: &str) -> Result<Held, ApiError> {
        if !self.is_direct {
            return self.read_as_json(key).await;
        }
        let verb = format!("DIRECT.GET.{}.{}", self.stream(), self.subject(key));
        let message = self.api.exchange(self.api.subject(&verb), Request::new()).await?;
        match message.status {
            Some(StatusCode::NOT_FOUND) => Ok(Held { revision: 0, value: None }),
            Some(StatusCode::NO_RESPONDERS) => Err(ApiError::NoResponders),
            Some(_) => Err(ApiError::Garbled("a status instead of a value")),
            None => {
                let headers = message.headers.as_ref();
                let number = headers.and_then(|headers| headers.get(NATS_SEQUENCE)?.as_str().parse().ok());
                let revision = number.ok_or(ApiError::Garbled("a value without its number"))?;
                Ok(Held { revision, value: value(&message) })
            }
        }
    }

    async fn read_as_json(&self, key: &str) -> Result<Held, ApiError> {
        let asked = json!({ "last_by_subj": self.subject(key) });
        let got: Got = match self.api.ask(&format!("STREAM.MSG.GET.{}", self.stream()), &asked).await {
            Err(ApiError::Refused { err_code: NO_MESSAGE, .. }) => {
                return Ok(Held { revision: 0, value: None });
            }
            got => got?,
        };
        let garbled = |_| ApiError::Garbled("a value that is not base64");
        let data = BASE64.decode(got.message.data.as_bytes()).map_err(garbled)?;
        let headers = BASE64.decode(got.message.hdrs.as_bytes()).map_err(garbled)?;
        let headers = String::from_utf8_lossy(&headers);
        let is_gone = headers
            .lines()
            .any(|line| line.starts_with(MARKER) || (line.starts_with(OPERATION) && !line.ends_with("PUT")));
        Ok(Held { revision: got.message.seq, value: (!is_gone).then(|| data.into()) })
    }

    /// Writes a value, or deletes the entry, if its newest write is still `revision`. Returns the number of the write.
    pub async fn write(&self, key: &str, value: Option<Vec<u8>>, revision: u64) -> Result<u64, PutError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string().as_str());
        if value.is_none() {
            headers.insert(OPERATION, "PURGE");
            headers.insert(ROLLUP, "sub");
        }
        let request = Request::new().headers(headers).payload(value.unwrap_or_default().into());
        // A leaf with a JetStream of its own may have a bucket of this name, too: the domain tells them apart.
        let subject = match self.api.has_domain() {
            true => self.api.subject(&self.subject(key)),
            false => self.subject(key),
        };
        match answered::<Ack>(&self.api.exchange(subject, request).await?) {
            Ok(ack) => Ok(ack.seq),
            Err(ApiError::Refused { err_code, .. }) if WRONG_SEQUENCE.contains(&err_code) => {
                Err(PutError::Conflict)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn info(&self) -> Result<Info, ApiError> {
        self.api.ask(&format!("STREAM.INFO.{}", self.stream()), &json!({})).await
    }

    /// As wasmCloud's hosts make it: one replica, in files, the newest value of each key.
    async fn create(&self) -> Result<Info, ApiError> {
        let stream = self.stream();
        let config = json!({
            "name": stream, "description": "", "subjects": [self.subject(">")], "retention": "limits",
            "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_msgs_per_subject": 1,
            "max_msg_size": -1, "discard": "new", "storage": "file", "num_replicas": 1,
            "allow_rollup_hdrs": true, "deny_delete": true, "allow_direct": true,
        });
        match self.api.ask(&format!("STREAM.CREATE.{stream}"), &config).await {
            // Another host was faster, and its settings are not ours.
            Err(ApiError::Refused { err_code: IN_USE, .. }) => self.info().await,
            created => created,
        }
    }
}

// === impl Buckets ===

impl Buckets {
    /// Opens both.
    pub async fn open(api: Api, lattice: &str) -> Result<Buckets, ApiError> {
        Ok(Buckets {
            lattice: Bucket::open(api.clone(), Which::Lattice, lattice).await?,
            config: Bucket::open(api, Which::Config, lattice).await?,
        })
    }

    /// One of them.
    pub fn of(&self, which: Which) -> &Bucket {
        match which {
            Which::Lattice => &self.lattice,
            Which::Config => &self.config,
        }
    }
}

/// The value that a message sets its key to; nothing if it deletes it.
pub(super) fn value(message: &Message) -> Option<Bytes> {
    let headers = message.headers.as_ref();
    let is_gone = headers.is_some_and(|headers| {
        headers.get(MARKER).is_some()
            || headers.get(OPERATION).is_some_and(|operation| operation.as_str() != "PUT")
    });
    (!is_gone).then(|| message.payload.clone())
}
