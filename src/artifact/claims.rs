//! Claims that wash embeds into a component when it signs one: who vouches for these bytes, as what.
//!
//! A JSON web token (`{"typ":"jwt","alg":"Ed25519"}`) in a custom section `wasmcloud_jwt`, formerly `jwt`. Its `iss` is the
//! public key of an account (nkeys, `A…`) that has signed it, its `sub` that of the component (`M…`), `wascap.hash` the
//! SHA-256 of the component without that section. Source: wascap 0.16, which wash and the reference host use; the hash is
//! of the sections written anew, each with the shortest length field, which is what is done here too.
//!
//! Stricter than there: one token, at the top level; tokens before revision 3, whose hash nobody checks, vouch for nothing.

use data_encoding::{BASE64URL_NOPAD, HEXUPPER};
use nkeys::{KeyPair, KeyPairType};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wasmparser::{Encoding, Parser, Payload};

/// Names of the section.
const SECTIONS: [&str; 2] = ["wasmcloud_jwt", "jwt"];

/// Longest token; one is some 800 bytes.
const TOKEN_BYTES_MAX: usize = 64 << 10;

/// The first revision of tokens whose hash counts.
const REVISION_LEAST: u32 = 3;

/// Id of the section of a component that holds a core module.
const CORE_MODULE: u8 = 1;

/// Id of the section of a component that holds a component.
const COMPONENT: u8 = 4;

/// What a signer says of a component. Signature and hash were found right; whether the signer is to be trusted, and
/// whether the time is right, is for others to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Public key of whoever signed it, `A…`.
    pub issuer: String,
    /// Public key of the component, `M…`.
    pub subject: String,
    /// Its name.
    pub name: Option<String>,
    /// Counts up.
    pub revision: Option<i32>,
    /// For people.
    pub version: Option<String>,
    /// Another name.
    pub call_alias: Option<String>,
    /// Words for people.
    pub tags: Vec<String>,
    /// Seconds since 1970 from which on they hold.
    pub not_before: Option<u64>,
    /// Seconds since 1970 until which they hold.
    pub expires: Option<u64>,
}

/// Why claims are worth nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ClaimsError {
    #[error("it is no WebAssembly: {0}")]
    Wasm(String),
    #[error("it has {0} tokens, where one would do")]
    Several(usize),
    #[error("its token has {bytes} bytes, more than {TOKEN_BYTES_MAX}")]
    Long { bytes: usize },
    #[error("its token cannot be read: {0}")]
    Token(&'static str),
    #[error("{key} is no public key of {of}")]
    Key { key: String, of: &'static str },
    #[error("the signature is not that of {issuer}")]
    Signature { issuer: String },
    #[error("its content was changed after {issuer} signed it")]
    Changed { issuer: String },
    #[error(
        "its token is of revision {found}, and what came before {REVISION_LEAST} says nothing of the content; sign it again"
    )]
    Revision { found: u32 },
}

#[derive(Deserialize)]
struct Header {
    typ: String,
    alg: String,
}

#[derive(Deserialize)]
struct Body {
    iss: String,
    sub: String,
    nbf: Option<u64>,
    exp: Option<u64>,
    wascap: Component,
    wascap_revision: Option<u32>,
}

#[derive(Deserialize)]
struct Component {
    hash: String,
    name: Option<String>,
    rev: Option<i32>,
    ver: Option<String>,
    call_alias: Option<String>,
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// The claims embedded in a component; `None` when there are none.
pub fn embedded(wasm: &[u8]) -> Result<Option<Claims>, ClaimsError> {
    let Stripped { bytes, tokens } = strip(wasm).map_err(|error| ClaimsError::Wasm(error.to_string()))?;
    let token = match tokens[..] {
        [] => return Ok(None),
        [token] => token,
        _ => return Err(ClaimsError::Several(tokens.len())),
    };
    let (header_and_body, signature) = split(token)?;
    let body = verify(header_and_body, &signature)?;
    if body.wascap_revision.unwrap_or(0) < REVISION_LEAST {
        return Err(ClaimsError::Revision { found: body.wascap_revision.unwrap_or(0) });
    }
    if HEXUPPER.encode(&Sha256::digest(&bytes)) != body.wascap.hash {
        return Err(ClaimsError::Changed { issuer: body.iss });
    }
    Ok(Some(Claims {
        issuer: body.iss,
        subject: body.sub,
        name: body.wascap.name,
        revision: body.wascap.rev,
        version: body.wascap.ver,
        call_alias: body.wascap.call_alias,
        tags: body.wascap.tags.unwrap_or_default(),
        not_before: body.nbf,
        expires: body.exp,
    }))
}

/// What is signed, and the signature.
fn split(token: &[u8]) -> Result<(&str, Vec<u8>), ClaimsError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(ClaimsError::Long { bytes: token.len() });
    }
    let token = std::str::from_utf8(token).map_err(|_| ClaimsError::Token("it is no text"))?;
    let parts = token.rsplit_once('.').filter(|(signed, _)| signed.matches('.').count() == 1);
    let (signed, signature) = parts.ok_or(ClaimsError::Token("it has other than three parts"))?;
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes());
    Ok((signed, signature.map_err(|_| ClaimsError::Token("its signature is no base64"))?))
}

fn verify(signed: &str, signature: &[u8]) -> Result<Body, ClaimsError> {
    let (header, body) = signed.split_once('.').ok_or(ClaimsError::Token("it has other than three parts"))?;
    let header: Header = part(header)?;
    if (header.typ.as_str(), header.alg.as_str()) != ("jwt", "Ed25519") {
        return Err(ClaimsError::Token("it is signed by other means than Ed25519"));
    }
    let body: Body = part(body)?;
    public_key(&body.sub, KeyPairType::Module, "a component")?;
    let issuer = public_key(&body.iss, KeyPairType::Account, "an account")?;
    match issuer.verify(signed.as_bytes(), signature) {
        Ok(()) => Ok(body),
        Err(_) => Err(ClaimsError::Signature { issuer: body.iss }),
    }
}

/// The public key of an account or a component.
pub(super) fn public_key(text: &str, kind: KeyPairType, of: &'static str) -> Result<KeyPair, ClaimsError> {
    let key = KeyPair::from_public_key(text).ok().filter(|key| key.key_pair_type() == kind);
    key.ok_or_else(|| ClaimsError::Key { key: text.chars().take(64).collect(), of })
}

fn part<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, ClaimsError> {
    let json = BASE64URL_NOPAD.decode(text.as_bytes());
    let json = json.map_err(|_| ClaimsError::Token("a part of it is no base64"))?;
    serde_json::from_slice(&json).map_err(|_| ClaimsError::Token("a part of it is not what it should be"))
}

struct Stripped<'a> {
    /// Everything but the tokens.
    bytes: Vec<u8>,
    /// Those of the top level.
    tokens: Vec<&'a [u8]>,
}

/// Writes all sections anew, but for those with a token, at whatever level.
fn strip(wasm: &[u8]) -> wasmparser::Result<Stripped<'_>> {
    let mut tokens = Vec::new();
    // What is being written, the outermost first, each with the id that it will have in the one around it.
    let mut levels: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut id = COMPONENT;
    let mut whole = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        match &payload {
            Payload::Version { encoding, num, .. } => {
                let layer: u16 = match encoding {
                    Encoding::Module => 0,
                    Encoding::Component => 1,
                };
                let [version, layer] = [num.to_le_bytes(), layer.to_le_bytes()];
                levels.push((id, [&b"\0asm"[..], &version, &layer].concat()));
            }
            Payload::ModuleSection { .. } => id = CORE_MODULE,
            Payload::ComponentSection { .. } => id = COMPONENT,
            Payload::End(_) => {
                let Some((id, bytes)) = levels.pop() else { break };
                match levels.last_mut() {
                    Some((_, around)) => section(around, id, &bytes),
                    None => whole = bytes,
                }
            }
            Payload::CustomSection(custom) if SECTIONS.contains(&custom.name()) => {
                if levels.len() == 1 {
                    tokens.push(custom.data());
                }
            }
            other => {
                if let (Some((id, range)), Some((_, bytes))) = (other.as_section(), levels.last_mut()) {
                    section(bytes, id, wasm.get(range).unwrap_or_default());
                }
            }
        }
    }
    Ok(Stripped { bytes: whole, tokens })
}

/// Appends a section: its id, the length of what it holds in LEB128, and that.
fn section(out: &mut Vec<u8>, id: u8, bytes: &[u8]) {
    out.push(id);
    let mut left = bytes.len();
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
pub(super) mod tests;
