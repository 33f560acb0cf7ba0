//! A signature beside an artifact, for those without embedded claims: one line of text.
//!
//! ```text
//! frond-artifact-1 A… BASE64
//!                  │  └─ Ed25519 over "frond-artifact-1 " and the 64 hexadecimal digits of the artifact's SHA-256
//!                  └──── public key of the account that signed, nkeys
//! ```
//! It stands in a file or an object named as the artifact with `.sig` behind it, or, in a registry, in the annotation
//! [`ANNOTATION`] of the manifest.

use data_encoding::BASE64;
use nkeys::{KeyPair, KeyPairType};

use super::claims::public_key;
use crate::runtime::Digest;

/// Begins every signature, and everything that is signed.
const HEAD: &str = "frond-artifact-1";

/// Longest signature taken; one has 165 bytes.
pub const SIGNATURE_BYTES_MAX: usize = 1_024;

/// Where a manifest has it.
pub const ANNOTATION: &str = "frond.artifact.signature";

/// A signature that was found right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detached {
    /// Public key of whoever signed, `A…`.
    pub key: String,
}

/// Why it is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum DetachedError {
    #[error("it is not the one line that a signature is")]
    Line,
    #[error("it names no public key of an account")]
    Key,
    #[error("it is not of this content, or not by this key")]
    Signature,
}

/// Checks a signature against the digest of what it should be of.
pub fn verify(text: &str, digest: &Digest) -> Result<Detached, DetachedError> {
    let line = Some(text.trim_end()).filter(|line| line.len() <= SIGNATURE_BYTES_MAX);
    let words: Vec<&str> = line.ok_or(DetachedError::Line)?.split(' ').collect();
    let [HEAD, key, signature] = words[..] else { return Err(DetachedError::Line) };
    let signer = public_key(key, KeyPairType::Account, "an account").map_err(|_| DetachedError::Key)?;
    let signature = BASE64.decode(signature.as_bytes()).map_err(|_| DetachedError::Line)?;
    match signer.verify(&signed(digest), &signature) {
        Ok(()) => Ok(Detached { key: key.to_owned() }),
        Err(_) => Err(DetachedError::Signature),
    }
}

/// A signature by `key`, whose seed must be there.
pub fn sign(key: &KeyPair, digest: &Digest) -> Result<String, nkeys::error::Error> {
    let signature = key.sign(&signed(digest))?;
    Ok(format!("{HEAD} {} {}\n", key.public_key(), BASE64.encode(&signature)))
}

fn signed(digest: &Digest) -> Vec<u8> {
    format!("{HEAD} {digest}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_content_by_one_key() {
        // Goal: neither can be exchanged. Method: signed and checked; other content, another key, other words.
        let (key, other) = (KeyPair::new_account(), KeyPair::new_account());
        let digest = |digit: &str| Digest::parse(&digit.repeat(64)).unwrap();
        let text = sign(&key, &digest("a")).unwrap();
        assert_eq!(verify(&text, &digest("a")), Ok(Detached { key: key.public_key() }));
        assert_eq!(verify(&text, &digest("b")), Err(DetachedError::Signature));
        let stolen = text.replace(&key.public_key(), &other.public_key());
        assert_eq!(verify(&stolen, &digest("a")), Err(DetachedError::Signature));
        let server = text.replace(&key.public_key(), &KeyPair::new_server().public_key());
        assert_eq!(verify(&server, &digest("a")), Err(DetachedError::Key));
        let later = text.replace("artifact-1", "artifact-2");
        for wrong in ["", "frond", &later, &format!("{text}x"), &"x".repeat(2_000), &text.replace(' ', "\n")]
        {
            assert_eq!(verify(wrong, &digest("a")), Err(DetachedError::Line), "{wrong:?}");
        }
    }
}
