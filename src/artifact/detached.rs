//! A signature beside an artifact, for those without embedded claims: three lines of text.
//!
//! ```text
//! frond artifact signature 1
//! A…                                  public key of the account that signed, nkeys
//! base64                              Ed25519 over "frond artifact 1\n" and the 64 hexadecimal digits of the SHA-256
//! ```

use data_encoding::BASE64;
use nkeys::{KeyPair, KeyPairType};

use super::claims::public_key;
use crate::runtime::Digest;

const HEAD: &str = "frond artifact signature 1";

/// Longest signature taken; one has some 180 bytes.
pub const SIGNATURE_BYTES_MAX: usize = 1_024;

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
    #[error("it is not the three lines that a signature has")]
    Lines,
    #[error("its second line is no public key of an account")]
    Key,
    #[error("it is not of this content, or not by this key")]
    Signature,
}

/// Checks the text of a signature against the digest of what it should be of.
pub fn verify(text: &[u8], digest: &Digest) -> Result<Detached, DetachedError> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= SIGNATURE_BYTES_MAX);
    let lines: Vec<&str> = text.ok_or(DetachedError::Lines)?.lines().collect();
    let [HEAD, key, signature] = lines[..] else { return Err(DetachedError::Lines) };
    let signer = public_key(key, KeyPairType::Account, "an account").map_err(|_| DetachedError::Key)?;
    let signature = BASE64.decode(signature.as_bytes()).map_err(|_| DetachedError::Lines)?;
    match signer.verify(&signed(digest), &signature) {
        Ok(()) => Ok(Detached { key: key.to_owned() }),
        Err(_) => Err(DetachedError::Signature),
    }
}

/// The text of a signature by `key`, whose seed must be there.
pub fn sign(key: &KeyPair, digest: &Digest) -> Result<String, nkeys::error::Error> {
    let signature = key.sign(&signed(digest))?;
    Ok(format!("{HEAD}\n{}\n{}\n", key.public_key(), BASE64.encode(&signature)))
}

fn signed(digest: &Digest) -> Vec<u8> {
    format!("frond artifact 1\n{digest}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_content_by_one_key() {
        // Goal: neither can be exchanged. Method: signed and checked; other content, another key, other lines.
        let (key, other) = (KeyPair::new_account(), KeyPair::new_account());
        let digest = |digit: &str| Digest::parse(&digit.repeat(64)).unwrap();
        let text = sign(&key, &digest("a")).unwrap();
        assert_eq!(verify(text.as_bytes(), &digest("a")), Ok(Detached { key: key.public_key() }));
        assert_eq!(verify(text.as_bytes(), &digest("b")), Err(DetachedError::Signature));
        let stolen = text.replace(&key.public_key(), &other.public_key());
        assert_eq!(verify(stolen.as_bytes(), &digest("a")), Err(DetachedError::Signature));
        let server = text.replace(&key.public_key(), &KeyPair::new_server().public_key());
        assert_eq!(verify(server.as_bytes(), &digest("a")), Err(DetachedError::Key));
        for wrong in ["", "frond", &text.replace('1', "2"), &format!("{text}x"), &"x".repeat(2_000)] {
            assert!(verify(wrong.as_bytes(), &digest("a")).is_err(), "{wrong:?}");
        }
        assert_eq!(verify(&[0xff; 90], &digest("a")), Err(DetachedError::Lines));
    }
}
