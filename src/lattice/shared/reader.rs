//! Questions about the whole lattice, answered from the hub's buckets: of the lattice the gateway itself holds only what
//! concerns it.
//!
//! Nothing is kept. An answer that would not fit into a message is refused with a sentence, and what was read of it is
//! dropped; [`READERS_MAX`] questions are worked on at a time, the rest waits for its turn: 2 MiB at most.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::bucket::Bucket;
use super::entry::{self, Which};
use super::watch::Watch;
use crate::control::merge::{Content, EntryKey};
use crate::control::{Link, Pairs};
use crate::lattice::LinkHandle;
use crate::lattice::api::ApiError;

/// Questions that are read for at a time.
const READERS_MAX: usize = 2;
/// Bytes of an answer that is collected; a message has as many.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Longest time to read a whole bucket. Clients wait for 2 to 5 s.
const PATIENCE: Duration = Duration::from_secs(10);
/// Heartbeats while a bucket is read: silence for two and a half of them ends it.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// Answers questions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    link: LinkHandle,
    lattice: String,
    turns: Arc<Semaphore>,
}

/// Why there is no answer. Told to whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ReadError {
    #[error("the lattice's buckets at the hub cannot be reached from this gateway now")]
    Away,
    #[error("the lattice's buckets cannot be read: {0}")]
    Api(String),
    #[error("the lattice has more of it than fits into a message")]
    TooMuch,
    #[error("configuration {0} cannot be read")]
    Unreadable(String),
}

// === impl Reader ===

impl Reader {
    /// Of this lattice.
    pub fn new(link: LinkHandle, lattice: String) -> Reader {
        Reader { link, lattice, turns: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    /// All links.
    pub async fn links(&self) -> Result<Vec<Link>, ReadError> {
        let mut links = Vec::new();
        self.each("COMPONENT_", |key, bytes| {
            // An entry that cannot be read has no links that anybody could use.
            if let Some(key) = entry::key(Which::Lattice, key)
                && let Content::Links(more) = entry::read(key, 0, Some(bytes)).content
            {
                let size = more.iter().map(size).sum();
                links.extend(more);
                return size;
            }
            0
        })
        .await?;
        Ok(links)
    }

    /// All claims.
    pub async fn claims(&self) -> Result<Vec<BTreeMap<String, String>>, ReadError> {
        let mut all = Vec::new();
        self.each("CLAIMS_", |key, bytes| match entry::claims(key, bytes) {
            Some(claims) => {
                let size = size(&claims);
                all.push(claims);
                size
            }
            None => 0,
        })
        .await?;
        Ok(all)
    }

    /// One configuration, if it is there.
    pub async fn config(&self, name: &str) -> Result<Option<Pairs>, ReadError> {
        let key = EntryKey::Config(name.to_owned());
        if !key.is_possible() {
            return Ok(None);
        }
        let _turn = self.turns.acquire().await.map_err(|_| ReadError::Away)?;
        let bucket = self.bucket(Which::Config).await?;
        let held = bucket.read(name).await.map_err(told)?;
        let Some(bytes) = held.value else { return Ok(None) };
        // As large as others wrote it: it is passed on, not kept.
        serde_json::from_slice(&bytes).map(Some).map_err(|_| ReadError::Unreadable(name.to_owned()))
    }

    async fn bucket(&self, which: Which) -> Result<Bucket, ReadError> {
        let client = self.link.client.borrow().clone().ok_or(ReadError::Away)?;
        Bucket::open(self.link.api(client), which, &self.lattice).await.map_err(told)
    }

    /// Goes through entries whose keys have this beginning; `each` says how much of it is kept.
    async fn each(
        &self,
        beginning: &str,
        mut each: impl FnMut(&str, &[u8]) -> usize,
    ) -> Result<(), ReadError> {
        let _turn = self.turns.acquire().await.map_err(|_| ReadError::Away)?;
        let bucket = self.bucket(Which::Lattice).await?;
        // A wildcard is a whole token, so the bucket is read as a whole and picked from here.
        let patterns = [bucket.subject(">")];
        let mut watch = Watch::open(bucket, &patterns, HEARTBEAT).await.map_err(told)?;
        let mut bytes = 0;
        let reading = async {
            while !watch.is_caught_up() {
                let told_of = watch.next().await.map_err(told)?;
                let is_meant = told_of.key.starts_with(beginning);
                if let Some(value) = told_of.value.filter(|_| is_meant) {
                    bytes += each(&told_of.key, &value);
                }
                if bytes > ANSWER_BYTES_MAX {
                    return Err(ReadError::TooMuch);
                }
            }
            Ok(())
        };
        let read = timeout(PATIENCE, reading).await.unwrap_or(Err(ReadError::Away));
        watch.close().await;
        read
    }
}

fn told(error: ApiError) -> ReadError {
    match error {
        ApiError::NoResponders | ApiError::Silent | ApiError::Disconnected => ReadError::Away,
        error => ReadError::Api(error.to_string()),
    }
}

fn size(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |json| json.len())
}
