//! The part of JetStream's API that frond uses on a gateway, as plain requests.
//!
//! Each request has an inbox of its own instead of async-nats' shared one: there, a request whose answer never comes
//! leaves its entry behind for the life of the connection, and a gateway that probes a dead link every second for years
//! would fill its memory with them. Owns nothing; bounded by [`ANSWER_TIMEOUT`] and by what a page may hold.

use std::time::Duration;

use async_nats::header::NATS_EXPECTED_STREAM;
use async_nats::{Client, HeaderMap, Message, Request, RequestErrorKind, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest time to wait for an answer: a second of round trip and two of queueing on a slow link, doubled.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(6);

/// What requests begin with for the domain that one is connected to.
const OWN_DOMAIN: &str = "$JS.API";

/// The name of no stream: a name has no spaces.
const NO_STREAM: &str = "no stream";

/// Why a request brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// Nobody listens for it: no JetStream in reach.
    #[error("nobody answers for JetStream")]
    NoResponders,
    /// No answer in time.
    #[error("no answer in time")]
    Silent,
    /// The connection has ended.
    #[error("the connection to the server has ended")]
    Disconnected,
    /// JetStream says no.
    #[error("JetStream refuses: {description} ({code}/{err_code})")]
    Refused {
        /// As in HTTP.
        code: u16,
        /// JetStream's own number.
        err_code: u16,
        /// JetStream's words.
        description: String,
    },
    /// The answer is not what the API promises.
    #[error("an answer that cannot be read: {0}")]
    Garbled(&'static str),
}

/// Requests to the JetStream API of one domain.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    prefix: String,
}

/// What frond wants to know of a stream.
#[derive(Debug, Clone, Deserialize)]
pub struct StreamInfo {
    /// When it was made, as the hub writes it; another text means another stream of the same name.
    pub created: String,
    /// Its contents.
    pub state: StreamContents,
}

/// Contents of a stream.
#[derive(Debug, Clone, Deserialize)]
pub struct StreamContents {
    /// Sequence of the oldest message.
    pub first_seq: u64,
    /// Sequence of the newest message there ever was.
    pub last_seq: u64,
    /// Messages by subject, of those asked for.
    #[serde(default)]
    pub subjects: Option<std::collections::BTreeMap<String, u64>>,
}

#[derive(Deserialize)]
struct StreamNames {
    #[serde(default)]
    streams: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Refusal {
    error: RefusalBody,
}

#[derive(Deserialize)]
struct RefusalBody {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    err_code: u16,
    #[serde(default)]
    description: String,
}

#[derive(Serialize)]
struct SubjectFilter<'a> {
    subject: &'a str,
}

#[derive(Serialize)]
struct InfoFilter<'a> {
    subjects_filter: &'a str,
}

// === impl Api ===

impl Api {
    /// The API of `domain`, or of the domain the client is connected to.
    pub fn new(client: Client, domain: Option<&str>) -> Api {
        let prefix = match domain {
            Some(domain) => format!("$JS.{domain}.API"),
            None => OWN_DOMAIN.to_owned(),
        };
        Api { client, prefix }
    }

    /// The connection it uses.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The subject of an API call.
    pub fn subject(&self, verb: &str) -> String {
        format!("{}.{verb}", self.prefix)
    }

    /// Streams with a subject that `subject` may match.
    pub async fn stream_names(&self, subject: &str) -> Result<Vec<String>, ApiError> {
        let names: StreamNames = self.ask("STREAM.NAMES", &SubjectFilter { subject }).await?;
        Ok(names.streams.unwrap_or_default())
    }

    /// State of a stream, with message counts of the subjects that match `subjects_filter`.
    pub async fn stream_info(&self, stream: &str, subjects_filter: &str) -> Result<StreamInfo, ApiError> {
        self.ask(&format!("STREAM.INFO.{stream}"), &InfoFilter { subjects_filter }).await
    }

    /// Any call. Cancel-safe: a request that is dropped leaves nothing behind but an answer nobody hears.
    pub async fn ask<T: DeserializeOwned>(&self, verb: &str, body: &impl Serialize) -> Result<T, ApiError> {
        let body = serde_json::to_vec(body).expect("requests are plain structs of text and numbers");
        answered(&self.request(self.subject(verb), body).await?)
    }

    /// Whether it is the API of a domain that was named.
    pub(super) fn has_domain(&self) -> bool {
        self.prefix != OWN_DOMAIN
    }

    /// Returns once the stream that takes `subject` has dealt with everything that this connection has sent before. It
    /// sends a message for a stream that does not exist, which is refused in the order of arrival, by the stream itself:
    /// answers of the API come from elsewhere and may overtake rows.
    pub async fn wait_behind_rows(&self, subject: &str) -> Result<(), ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_STREAM, NO_STREAM);
        let request = Request::new().headers(headers);
        self.exchange(subject.to_owned(), request).await.map(drop)
    }

    /// Any call whose answer is a stored message; it may be large, so whoever calls says how long it may take.
    pub async fn get(
        &self,
        verb: &str,
        body: &impl Serialize,
        patience: Duration,
    ) -> Result<Message, ApiError> {
        let body = serde_json::to_vec(body).expect("requests are plain structs of text and numbers");
        let message =
            self.send_for(self.subject(verb), Request::new().payload(body.into()), patience).await?;
        match message.status {
            None | Some(StatusCode::OK) => Ok(message),
            Some(StatusCode::NO_RESPONDERS) => Err(ApiError::NoResponders),
            Some(status) => Err(ApiError::Refused {
                code: status.into(),
                err_code: 0,
                description: message.description.unwrap_or_default().to_string(),
            }),
        }
    }

    async fn request(&self, subject: String, body: Vec<u8>) -> Result<Message, ApiError> {
        self.exchange(subject, Request::new().payload(body.into())).await
    }

    /// Any request, with its answer as it comes.
    pub(super) async fn exchange(&self, subject: String, request: Request) -> Result<Message, ApiError> {
        self.send_for(subject, request, ANSWER_TIMEOUT).await
    }

    async fn send_for(
        &self,
        subject: String,
        request: Request,
        patience: Duration,
    ) -> Result<Message, ApiError> {
        let request = request.inbox(self.client.new_inbox()).timeout(Some(patience));
        // The outer timeout also covers a connection whose command queue has stopped moving.
        match tokio::time::timeout(patience, self.client.send_request(subject, request)).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => Err(ApiError::NoResponders),
            Ok(Err(error)) if error.kind() == RequestErrorKind::TimedOut => Err(ApiError::Silent),
            Ok(Err(_)) => Err(ApiError::Disconnected),
            Err(_) => Err(ApiError::Silent),
        }
    }
}

/// What an answer says.
pub(super) fn answered<T: DeserializeOwned>(message: &Message) -> Result<T, ApiError> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(ApiError::NoResponders);
    }
    if let Ok(Refusal { error }) = serde_json::from_slice(&message.payload) {
        let RefusalBody { code, err_code, description } = error;
        return Err(ApiError::Refused { code, err_code, description });
    }
    serde_json::from_slice(&message.payload).map_err(|_| ApiError::Garbled("not the JSON that was expected"))
}
