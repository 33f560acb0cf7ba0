//! Keys of those who sign: all of them are Ed25519, and are written down in one of two ways. Pure.
//!
//! As nkeys, which wash and nsc make: `A…`, an account's public key, and `SA…`, its seed. As openssl makes them: the one
//! line between the dashes of a public key, and a private key as PEM. Inside of frond a public key is always the first.

use data_encoding::{BASE32_NOPAD, BASE64};
use nkeys::{KeyPair, KeyPairType};

/// What a public key of openssl's begins with: RFC 8410, section 4.
const PUBLIC_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What a private key begins with: RFC 8410, section 7, without attributes, as openssl writes it.
const PRIVATE_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The public key that a text stands for, as nkeys have it: `A…`.
pub fn account(text: &str) -> Option<String> {
    let text = text.trim();
    if text.starts_with('A') {
        let key = KeyPair::from_public_key(text).ok()?;
        return (key.key_pair_type() == KeyPairType::Account).then(|| text.to_owned());
    }
    let bytes = BASE64.decode(text.as_bytes()).ok()?;
    Some(of_raw(bytes.strip_prefix(&PUBLIC_HEAD)?.try_into().ok()?))
}

/// The private key in a file: a line with a seed `SA…`, or PEM.
pub fn private(text: &str) -> Option<KeyPair> {
    if let Some(seed) = text.lines().map(str::trim).find(|line| line.starts_with("SA")) {
        let key = KeyPair::from_seed(seed).ok()?;
        return (key.key_pair_type() == KeyPairType::Account).then_some(key);
    }
    let body = text.split_once("-----BEGIN PRIVATE KEY-----")?.1.split_once("-----END PRIVATE KEY-----")?.0;
    let body: String = body.split_whitespace().collect();
    let bytes = BASE64.decode(body.as_bytes()).ok()?;
    let seed: [u8; 32] = bytes.strip_prefix(&PRIVATE_HEAD)?.try_into().ok()?;
    KeyPair::new_from_raw(KeyPairType::Account, seed).ok()
}

/// Base32 of a byte for the kind, 0 for accounts, the key, and a check sum of both.
fn of_raw(key: [u8; 32]) -> String {
    let mut bytes = vec![0];
    bytes.extend(key);
    let sum = crc16(&bytes);
    bytes.extend(sum.to_le_bytes());
    BASE32_NOPAD.encode(&bytes)
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| match sum & 0x8000 {
            0 => sum << 1,
            _ => sum << 1 ^ 0x1021,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_in_both_ways_of_writing_it() {
        // Goal: whoever has openssl needs no other tool. Method: keys of nkeys, written anew as openssl writes them, and one
        // pair that openssl made.
        for _ in 0..20 {
            let key = KeyPair::new_account();
            let (_, raw) = nkeys::from_public_key(&key.public_key()).unwrap();
            assert_eq!(of_raw(raw), key.public_key());
            assert_eq!(account(&key.public_key()), Some(key.public_key()));
            let line = BASE64.encode(&[&PUBLIC_HEAD[..], &raw].concat());
            assert!(line.starts_with("MCowBQYDK2VwAyEA"), "{line}");
            assert_eq!(account(&line), Some(key.public_key()));
            let seed = key.seed().unwrap();
            assert_eq!(private(&format!("# works\n{seed}\n")).unwrap().public_key(), key.public_key());
            let (_, raw) = nkeys::decode_seed(&seed).unwrap();
            let body = BASE64.encode(&[&PRIVATE_HEAD[..], &raw].concat());
            let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
            assert_eq!(private(&pem).unwrap().public_key(), key.public_key());
        }
        // RFC 8410, section 10: the example of a private key and its public key.
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                   -----END PRIVATE KEY-----\n";
        let public = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
        assert_eq!(Some(private(pem).unwrap().public_key()), account(public));
    }

    #[test]
    fn what_is_no_key_of_a_signer_is_none() {
        // Goal: neither a slip nor a key of another kind is taken. Method: one of each.
        let (server, account_key) = (KeyPair::new_server(), KeyPair::new_account());
        let seed = account_key.seed().unwrap();
        for text in ["", "A", "MCow", &server.public_key(), &seed, &account_key.public_key()[1..]] {
            assert_eq!(account(text), None, "{text}");
        }
        for text in ["", "SA", &server.seed().unwrap(), "-----BEGIN PRIVATE KEY-----\nMC4C\n"] {
            assert!(private(text).is_none(), "{text}");
        }
    }
}
