//! What is kept of deployments across a restart, as part of the checkpoint. Everything here is in its golden files: append
//! to enums, never renumber; a field more is a new version of the state.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::runtime::order::Inheritance;

/// Digits of a digest.
const DIGITS: usize = 64;

/// Longest reason kept.
const WHY_BYTES_MAX: usize = 512;

/// SHA-256 of a `.wasm`, in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

/// Which file a component's code is from: one that was deployed or, `None`, the one that the configuration names.
pub type Version = Option<Digest>;

/// The deployments of one component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Name of the component.
    pub component: String,
    /// The file that the configuration named when the version was deployed; `None` when it could not be read. When the
    /// configuration names another one, that is the newer word.
    pub configured: Option<Digest>,
    /// What is at work.
    pub version: Version,
    /// What is under way.
    pub saved: Saved,
    /// What was.
    pub history: History,
}

/// A phase that outlives the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Saved {
    /// Nothing is under way.
    Current,
    /// A version is to be tried, from the beginning.
    Begun {
        /// Which.
        digest: Digest,
        /// What it begins with.
        inheritance: Inheritance,
    },
    /// The version at work is on probation.
    Probation {
        /// What was at work before.
        before: Version,
        /// Nanoseconds that are left.
        left: u64,
        /// Batches that the new one has worked on.
        batches: u32,
        /// State of the old one at the checkpoint's position.
        snapshot: Option<Vec<u8>>,
    },
}

/// What became of deployments so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Begun.
    pub begun: u32,
    /// Confirmed after their probation.
    pub confirmed: u32,
    /// Refused before they were at work.
    pub refused: u32,
    /// Taken back.
    pub rolled_back: u32,
    /// One has begun and not ended.
    pub open: bool,
    /// The end of the last one.
    pub last: Option<Ending>,
}

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// In which way.
    pub how: How,
    /// Which version it was about; `None` when its file could not be kept.
    pub digest: Option<Digest>,
    /// Why, in words.
    pub why: String,
}

/// In which way a deployment ended. Kept on flash and shown by the status: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The new version stays.
    Confirmed,
    /// It never was at work.
    Refused,
    /// The old version is back.
    RolledBack,
    /// The configuration names another file, which counts more.
    Superseded,
}

// === impl Digest ===

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::finish(Sha256::new_with_prefix(bytes))
    }

    /// Of what a hasher was given.
    pub fn finish(hasher: Sha256) -> Digest {
        Digest(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// From 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Digest> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == DIGITS && text.bytes().all(digit)).then(|| Digest(text.to_owned()))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As much as people compare.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Record ===

impl Record {
    /// Whether it says more than what was.
    pub(in crate::runtime) fn is_active(&self) -> bool {
        self.version.is_some() || self.saved != Saved::Current
    }

    /// Every file it refers to.
    pub(in crate::runtime) fn files(&self) -> impl Iterator<Item = &Digest> {
        let other = match &self.saved {
            Saved::Current => None,
            Saved::Begun { digest, .. } => Some(digest),
            Saved::Probation { before, .. } => before.as_ref(),
        };
        self.version.iter().chain(other)
    }
}

// === impl History ===

impl History {
    /// One has begun.
    pub(in crate::runtime) fn begin(&mut self) {
        self.begun = self.begun.saturating_add(1);
        self.open = true;
    }

    /// One has ended.
    pub(in crate::runtime) fn end(&mut self, how: How, digest: Option<Digest>, mut why: String) {
        why.truncate(why.floor_char_boundary(WHY_BYTES_MAX));
        match how {
            How::Confirmed => self.confirmed = self.confirmed.saturating_add(1),
            How::Refused => self.refused = self.refused.saturating_add(1),
            How::RolledBack => self.rolled_back = self.rolled_back.saturating_add(1),
            How::Superseded => {}
        }
        self.open = false;
        self.last = Some(Ending { how, digest, why });
    }
}
