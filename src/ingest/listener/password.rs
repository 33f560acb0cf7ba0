//! Hashes of passwords: argon2 in PHC text, made by `frond password`, checked at login.
//!
//! Pure, and slow on purpose: a check takes some tens of milliseconds and [`MEMORY_KIB`] of memory, so that whoever reads
//! a hash cannot try many passwords. Callers bound how many run at a time, see [`super::entrance`]. Hashes of other tools
//! are taken as long as they cost no more than a gateway has.

use std::fmt;

use argon2::{ThreadMode, Variant, Version};

/// Memory of one check, 7 MiB, and passes over it: of the settings that OWASP lists as equally strong the one with the
/// least memory. 35 ms on the machine this was written on, about 150 ms on a Cortex-A53.
pub const MEMORY_KIB: u32 = 7168;
const PASSES: u32 = 5;

/// What a hash may cost at most: a file of somebody else's must not take the gateway's memory or its day.
const MEMORY_KIB_MAX: u32 = 65_536;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 4;
/// Longest hash; ours have 97 characters.
const HASH_CHARS_MAX: usize = 512;
/// Longest password. MQTT allows 65,535 bytes; hashing is linear in it, and nobody types more.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Bytes of salt, as RFC 9106 recommends.
const SALT_BYTES: usize = 16;

/// A hash that has been looked at: it is argon2 and costs no more than it may.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(String);

/// Why a text is not taken as a hash, or a password not hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Not PHC text with salt and hash.
    #[error("is not the hash of a password; `frond password` makes one")]
    Form,
    /// Another algorithm.
    #[error("is not an argon2 hash; `frond password` makes one")]
    Algorithm,
    /// It costs too much.
    #[error("takes more than {MEMORY_KIB_MAX} KiB, {PASSES_MAX} passes or {LANES_MAX} lanes to check")]
    Cost,
    /// The password is empty or too long.
    #[error("a password has 1 to {PASSWORD_BYTES_MAX} bytes")]
    Password,
    /// The system gave no random salt.
    #[error("the system has no random numbers")]
    Random,
}

// === impl Hash ===

impl Hash {
    /// Looks at a text: `$argon2id$v=19$m=7168,t=5,p=1$salt$hash`.
    pub fn parse(text: &str) -> Result<Hash, HashError> {
        if text.len() > HASH_CHARS_MAX {
            return Err(HashError::Form);
        }
        let parts: Vec<&str> = text.split('$').collect();
        let ["", algorithm, version, costs, salt, hash] = parts[..] else { return Err(HashError::Form) };
        if !["argon2id", "argon2i", "argon2d"].contains(&algorithm) {
            return Err(HashError::Algorithm);
        }
        let is_base64 = |text: &str, least: usize| {
            text.len() >= least && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
        };
        if version != "v=19" || !is_base64(salt, 11) || !is_base64(hash, 22) {
            return Err(HashError::Form);
        }
        let [memory, passes, lanes] = costs_of(costs).ok_or(HashError::Form)?;
        if memory > MEMORY_KIB_MAX || passes > PASSES_MAX || lanes > LANES_MAX {
            return Err(HashError::Cost);
        }
        Ok(Hash(text.to_owned()))
    }

    /// Hashes a password.
    pub fn of(password: &[u8]) -> Result<Hash, HashError> {
        let mut salt = [0; SALT_BYTES];
        let random = rustls::crypto::ring::default_provider().secure_random;
        random.fill(&mut salt).map_err(|_| HashError::Random)?;
        Hash::with_salt(password, &salt)
    }

    fn with_salt(password: &[u8], salt: &[u8]) -> Result<Hash, HashError> {
        if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
            return Err(HashError::Password);
        }
        let config = argon2::Config {
            variant: Variant::Argon2id,
            version: Version::Version13,
            mem_cost: MEMORY_KIB,
            time_cost: PASSES,
            lanes: 1,
            hash_length: 32,
            thread_mode: ThreadMode::Sequential,
            secret: &[],
            ad: &[],
        };
        let hash = argon2::hash_encoded(password, salt, &config).map_err(|_| HashError::Password)?;
        Ok(Hash(hash))
    }

    /// A hash that no password has: checking against it takes as long as against any other.
    pub fn of_nobody() -> Hash {
        let hash =
            Hash::with_salt(b"nobody", &[0; SALT_BYTES]).expect("the constants are within their bounds");
        // Another salt, so that the password above is not the one either.
        let text = hash.0.replacen("AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAQ", 1);
        debug_assert_ne!(text, hash.0);
        Hash(text)
    }

    /// Whether it is of this password. Slow.
    pub fn is_of(&self, password: &[u8]) -> bool {
        password.len() <= PASSWORD_BYTES_MAX && argon2::verify_encoded(&self.0, password).unwrap_or(false)
    }

    /// The PHC text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `m=7168,t=5,p=1`: memory, passes, lanes.
fn costs_of(text: &str) -> Option<[u32; 3]> {
    let mut costs =
        text.split(',').zip(["m=", "t=", "p="]).map(|(cost, name)| cost.strip_prefix(name)?.parse().ok());
    let found = [costs.next()??, costs.next()??, costs.next()??];
    (text.split(',').count() == 3).then_some(found)
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_and_its_hash_know_each_other() {
        // Goal: what `frond password` prints lets in whoever has the password, nobody else. Method: there and back.
        let hash = Hash::of(b"correct horse").unwrap();
        let read = Hash::parse(hash.as_str()).unwrap();
        assert!(read.is_of(b"correct horse"));
        assert!(!read.is_of(b"correct horse ") && !read.is_of(b"") && !read.is_of(&[b'x'; 70_000]));
        assert_ne!(Hash::of(b"correct horse").unwrap(), hash, "each has a salt of its own");
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=7168,t=5,p=1$"));
        assert!(!format!("{hash:?}").contains("argon2"), "a log never shows it");
    }

    #[test]
    fn hashes_of_the_reference_implementation_are_taken() {
        // Goal: other tools' hashes work. Method: RFC 9106's algorithm by way of a hash known from the reference tool:
        // `echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -e`.
        let known = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(Hash::parse(known).unwrap().is_of(b"password"));
    }

    #[test]
    fn what_is_no_hash_or_costs_too_much_is_refused() {
        // Goal: a slip in the file is noticed when it is read. Method: each kind once.
        let hash = Hash::of(b"x").unwrap().0;
        for text in [
            "",
            "secret",
            "$argon2id$v=19$m=7168,t=5,p=1",
            "$argon2id$v=19$m=7168,t=5,p=1$c2FsdHNhbHQ",
            "$argon2id$v=19$m=7168,t=5$c2FsdHNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=7168,t=5,p=1,x=1$c2FsdHNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=7168,t=5,p=1$c2F=dHNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        ] {
            assert_eq!(Hash::parse(text), Err(HashError::Form), "{text}");
        }
        assert_eq!(Hash::parse(&hash.replace("argon2id", "bcrypt")), Err(HashError::Algorithm));
        for costly in ["m=65537,t=5,p=1", "m=7168,t=17,p=1", "m=7168,t=5,p=5"] {
            assert_eq!(
                Hash::parse(&hash.replace("m=7168,t=5,p=1", costly)),
                Err(HashError::Cost),
                "{costly}"
            );
        }
        assert_eq!(Hash::parse(&format!("{hash}{}", "A".repeat(600))), Err(HashError::Form));
        assert_eq!(Hash::of(b""), Err(HashError::Password));
        assert_eq!(Hash::of(&[b'x'; PASSWORD_BYTES_MAX + 1]), Err(HashError::Password));
    }

    #[test]
    fn nobodys_hash_lets_nobody_in() {
        // Goal: the stand-in for unknown users is one. Method: the password it was made from.
        let nobody = Hash::of_nobody();
        assert!(Hash::parse(nobody.as_str()).is_ok());
        assert!(!nobody.is_of(b"nobody") && !nobody.is_of(b""));
    }
}
