//! What an artifact is asked for by.

use std::fmt;
use std::path::PathBuf;

/// Longest reference; a registry's host, path and digest are a third of it.
pub const REFERENCE_BYTES_MAX: usize = 1_024;

/// Where an artifact is. `Display` gives the text that it was made from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    text: String,
    place: Place,
}

/// The kinds of places.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// `file:///…`: a file on the gateway.
    File(PathBuf),
    /// `nats://BUCKET/OBJECT`: in a JetStream object store.
    Object {
        /// The store.
        bucket: String,
        /// Its name there, which may contain `/`.
        object: String,
    },
    /// `oci://HOST/PATH:TAG`, `HOST/PATH@sha256:…` and the like: in a registry.
    Registry {
        /// Host, and port if there is one.
        host: String,
        /// Path of the repository.
        repository: String,
        /// Which of its images.
        version: Version,
    },
}

/// Which image of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// By a name that somebody may give to another one.
    Tag(String),
    /// `sha256:` and what follows: this manifest and no other.
    Digest(String),
}

/// Why a text is no reference. These texts are told to whoever asked for the artifact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ReferenceError {
    #[error("a reference has up to {REFERENCE_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong { bytes: usize },
    #[error("{text}: a file is referred to by its absolute path, as in file:///usr/share/frond/a.wasm")]
    Path { text: String },
    #[error("{text}: an object is referred to as nats://BUCKET/OBJECT")]
    Object { text: String },
    #[error("{text}: an image is referred to as HOST/PATH:TAG or HOST/PATH@sha256:…")]
    Image { text: String },
    #[error(
        "{text}: an image needs a tag other than latest, or a digest: what it means must not change by itself"
    )]
    Latest { text: String },
}

// === impl Reference ===

impl Reference {
    /// Reads a reference. One without a scheme is of a registry, as wash and wadm write it.
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(ReferenceError::TooLong { bytes: text.len() });
        }
        let place = match text.split_once("://") {
            Some(("file", path)) => file(text, path)?,
            Some(("nats", rest)) => object(text, rest)?,
            Some(("oci" | "https" | "http", rest)) => image(text, rest)?,
            Some(_) => return Err(ReferenceError::Image { text: text.to_owned() }),
            None => image(text, text)?,
        };
        Ok(Reference { text: text.to_owned(), place })
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The text that it was made from.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn file(text: &str, path: &str) -> Result<Place, ReferenceError> {
    let path = PathBuf::from(path);
    let steps_back = path.components().any(|part| part == std::path::Component::ParentDir);
    match path.is_absolute() && !steps_back {
        true => Ok(Place::File(path)),
        false => Err(ReferenceError::Path { text: text.to_owned() }),
    }
}

fn object(text: &str, rest: &str) -> Result<Place, ReferenceError> {
    let error = || ReferenceError::Object { text: text.to_owned() };
    let (bucket, object) = rest.split_once('/').ok_or_else(error)?;
    // Names of buckets are part of subjects and of streams' names.
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let sound = !bucket.is_empty() && bucket.chars().all(plain) && !object.is_empty();
    match sound && !object.contains(char::is_control) {
        true => Ok(Place::Object { bucket: bucket.to_owned(), object: object.to_owned() }),
        false => Err(error()),
    }
}

fn image(text: &str, rest: &str) -> Result<Place, ReferenceError> {
    let error = || ReferenceError::Image { text: text.to_owned() };
    let (host, path) = rest.split_once('/').ok_or_else(error)?;
    let (repository, version) = match path.split_once('@') {
        Some((repository, digest)) => {
            let sum = digest.strip_prefix("sha256:").unwrap_or_default();
            if sum.len() != 64 || !sum.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(error());
            }
            // A tag beside a digest says nothing more.
            let repository = repository.split_once(':').map_or(repository, |(repository, _)| repository);
            (repository, Version::Digest(digest.to_owned()))
        }
        None => match path.rsplit_once(':') {
            None | Some((_, "latest")) => return Err(ReferenceError::Latest { text: text.to_owned() }),
            Some((repository, tag)) => (repository, Version::Tag(tag.to_owned())),
        },
    };
    let host_sound =
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c));
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
    let step = |step: &str| !step.is_empty() && step != "." && step != "..";
    let path_sound = repository.split('/').all(step) && repository.chars().all(lower);
    let tag_sound = match &version {
        Version::Tag(tag) => {
            (1..=128).contains(&tag.len())
                && tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
                && !tag.starts_with(['.', '-'])
        }
        Version::Digest(_) => true,
    };
    match host_sound && path_sound && tag_sound {
        true => Ok(Place::Registry { host: host.to_owned(), repository: repository.to_owned(), version }),
        false => Err(error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<Place, ReferenceError> {
        Reference::parse(text).map(|reference| reference.place)
    }

    fn tag(host: &str, repository: &str, tag: &str) -> Result<Place, ReferenceError> {
        let version = Version::Tag(tag.to_owned());
        Ok(Place::Registry { host: host.to_owned(), repository: repository.to_owned(), version })
    }

    #[test]
    fn references_as_people_write_them_are_understood() {
        // Goal: every form of the documentation leads to its place. Method: one of each.
        assert_eq!(place("file:///a/b.wasm"), Ok(Place::File("/a/b.wasm".into())));
        let object = Place::Object { bucket: "parts".into(), object: "press/limits.wasm".into() };
        assert_eq!(place("nats://parts/press/limits.wasm"), Ok(object));
        assert_eq!(place("oci://ghcr.io/plant/limits:1.2.0"), tag("ghcr.io", "plant/limits", "1.2.0"));
        assert_eq!(place("ghcr.io/plant/limits:1.2.0"), tag("ghcr.io", "plant/limits", "1.2.0"));
        assert_eq!(place("127.0.0.1:5000/limits:1"), tag("127.0.0.1:5000", "limits", "1"));
        let sum = format!("sha256:{}", "0a".repeat(32));
        let pinned = Place::Registry {
            host: "ghcr.io".into(),
            repository: "plant/limits".into(),
            version: Version::Digest(sum.clone()),
        };
        assert_eq!(place(&format!("ghcr.io/plant/limits@{sum}")), Ok(pinned.clone()));
        assert_eq!(place(&format!("ghcr.io/plant/limits:1@{sum}")), Ok(pinned));
        assert_eq!(Reference::parse("ghcr.io/plant/limits:1").unwrap().to_string(), "ghcr.io/plant/limits:1");
    }

    #[test]
    fn what_leads_nowhere_or_somewhere_else_is_refused() {
        // Goal: no reference steps out of its place, and none changes its meaning by itself. Method: one of each kind.
        for text in ["file://a.wasm", "file:///a/../b"] {
            assert!(matches!(place(text), Err(ReferenceError::Path { .. })), "{text}");
        }
        for text in ["nats://parts", "nats:///x", "nats://a.b/x", "nats://a/", "nats://a/x\n"] {
            assert!(matches!(place(text), Err(ReferenceError::Object { .. })), "{text}");
        }
        for text in ["ghcr.io/plant/limits", "ghcr.io/plant/limits:latest"] {
            assert!(matches!(place(text), Err(ReferenceError::Latest { .. })), "{text}");
        }
        for text in [
            "",
            "limits:1",
            "ftp://a/b:1",
            "a/../b:1",
            "a/B:1",
            "a//b:1",
            "a b/c:1",
            "a/b:",
            "a/b:-x",
            "a/b@sha256:12",
        ] {
            assert!(matches!(place(text), Err(ReferenceError::Image { .. })), "{text}");
        }
        let long = format!("a/b:{}", "1".repeat(REFERENCE_BYTES_MAX));
        assert!(matches!(place(&long), Err(ReferenceError::TooLong { .. })));
    }
}
