//! Whose artifacts run on this gateway, and what they may use. Pure; decided here and now, so that it holds offline.
//!
//! ```text
//!  claims, signature ─┬─ wrong ───────────────────────────────────────▶ refused, whatever else is allowed
//!                     ├─ of a signer that is trusted ─┬─ time is up ──▶ refused
//!                     │                               ├─ uses too much ▶ refused
//!                     │                               └───────────────▶ Trusted
//!                     └─ of nobody, or nobody known ──┬─ allow_unsigned ▶ Unsigned, with a warning
//!                                                     └───────────────▶ refused
//! ```
//! A gateway that does not know the time cannot say whether a signature is past its time: it then takes the signer's word,
//! since it must start after years in a cupboard.

use super::claims::{Claims, ClaimsError};
use super::detached::{Detached, DetachedError};
use crate::config::{Signer, is_listed};

/// The site's word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Who is trusted.
    pub signers: Vec<Signer>,
    /// Whether what nobody has signed runs, too.
    pub unsigned: Unsigned,
}

/// What becomes of artifacts without a signature that counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unsigned {
    /// They do not run.
    #[default]
    Refused,
    /// They run, and a warning is given.
    Allowed,
}

/// What an artifact brings along.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Embedded claims, if there are any.
    pub claims: Option<Result<Claims, ClaimsError>>,
    /// A signature beside it, if there is one.
    pub detached: Option<Result<Detached, DetachedError>>,
    /// Interfaces that it imports, without versions.
    pub imports: Vec<String>,
}

/// Why it may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// This signer vouches for it.
    Trusted(String),
    /// Nobody does, and that is allowed.
    Unsigned,
}

/// Why it may not. These texts are told to whoever asked for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error("its claims are worth nothing: {0}")]
    Claims(ClaimsError),
    #[error("the signature beside it is worth nothing: {0}")]
    Detached(DetachedError),
    #[error(
        "nobody has signed it; sign it with the key of a [[signer]], or set artifacts.allow_unsigned = true"
    )]
    Unsigned,
    #[error(
        "{key} has signed it, who is no signer of this gateway; a [[signer]] with key = {key:?} would be"
    )]
    Unknown { key: String },
    #[error("the signature of {signer} holds from {from} on, in seconds since 1970")]
    Early { signer: String, from: u64 },
    #[error("the signature of {signer} held until {until}, in seconds since 1970; have it signed again")]
    Expired { signer: String, until: u64 },
    #[error(
        "it imports {import}, which components of {signer} may not; {import:?} in interfaces of [[signer]] {signer:?} would \
         allow it"
    )]
    Interface { signer: String, import: String },
}

// === impl Policy ===

impl Policy {
    /// Whether an artifact may run. `now` is in seconds since 1970, if the gateway knows it.
    pub fn judge(&self, evidence: &Evidence, now: Option<u64>) -> Result<Trust, Refusal> {
        let claims = evidence.claims.clone().transpose().map_err(Refusal::Claims)?;
        let detached = evidence.detached.clone().transpose().map_err(Refusal::Detached)?;
        let keys = claims.iter().map(|claims| &claims.issuer).chain(detached.iter().map(|one| &one.key));
        let keys: Vec<&String> = keys.collect();
        let Some(signer) = keys.iter().find_map(|key| self.signers.iter().find(|one| one.key == **key))
        else {
            return match (self.unsigned, keys.first()) {
                (Unsigned::Allowed, _) => Ok(Trust::Unsigned),
                (Unsigned::Refused, None) => Err(Refusal::Unsigned),
                (Unsigned::Refused, Some(key)) => Err(Refusal::Unknown { key: (*key).clone() }),
            };
        };
        if let Some(claims) = claims.filter(|claims| claims.issuer == signer.key) {
            in_time(signer, &claims, now)?;
        }
        let may = |import: &String| signer.interfaces.as_ref().is_none_or(|list| is_listed(list, import));
        match evidence.imports.iter().find(|import| !may(import)) {
            Some(import) => Err(Refusal::Interface { signer: signer.name.clone(), import: import.clone() }),
            None => Ok(Trust::Trusted(signer.name.clone())),
        }
    }

    /// The signer who vouches for an artifact; `None` when nobody does.
    pub fn signer(&self, trust: &Trust) -> Option<&Signer> {
        match trust {
            Trust::Trusted(name) => self.signers.iter().find(|signer| signer.name == *name),
            Trust::Unsigned => None,
        }
    }
}

fn in_time(signer: &Signer, claims: &Claims, now: Option<u64>) -> Result<(), Refusal> {
    let Some(now) = now else { return Ok(()) };
    match (claims.not_before, claims.expires) {
        (Some(from), _) if now < from => Err(Refusal::Early { signer: signer.name.clone(), from }),
        (_, Some(until)) if now > until => Err(Refusal::Expired { signer: signer.name.clone(), until }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(issuer: &str) -> Claims {
        Claims {
            issuer: issuer.into(),
            subject: "M".into(),
            name: None,
            revision: None,
            version: None,
            call_alias: None,
            tags: vec![],
            not_before: None,
            expires: None,
        }
    }

    fn policy(unsigned: Unsigned) -> Policy {
        let signer = |name: &str, key: &str, interfaces: Option<&[&str]>| Signer {
            name: name.into(),
            key: key.into(),
            components: None,
            interfaces: interfaces.map(|all| all.iter().map(|one| (*one).to_owned()).collect()),
            providers: None,
            device_write: vec![],
        };
        Policy {
            signers: vec![
                signer("works", "AWORKS", None),
                signer("vendor", "AVENDOR", Some(&["wasi:keyvalue/*", "wasi:logging/logging"])),
            ],
            unsigned,
        }
    }

    fn of(issuer: &str) -> Evidence {
        Evidence { claims: Some(Ok(claims(issuer))), ..Evidence::default() }
    }

    #[test]
    fn only_what_a_trusted_key_has_signed_runs() {
        // Goal: the arrows of the picture. Method: each, under both settings.
        for unsigned in [Unsigned::Refused, Unsigned::Allowed] {
            let policy = policy(unsigned);
            let beside = |key: &str| Some(Ok(Detached { key: key.into() }));
            assert_eq!(policy.judge(&of("AWORKS"), Some(1)), Ok(Trust::Trusted("works".into())));
            let both = Evidence { detached: beside("AWORKS"), ..of("ASTRANGER") };
            assert_eq!(policy.judge(&both, Some(1)), Ok(Trust::Trusted("works".into())));
            let changed = ClaimsError::Changed { issuer: "AWORKS".into() };
            let wrong =
                Evidence { claims: Some(Err(changed.clone())), detached: beside("AWORKS"), imports: vec![] };
            assert_eq!(policy.judge(&wrong, Some(1)), Err(Refusal::Claims(changed)));
            let forged = Evidence { detached: Some(Err(DetachedError::Signature)), ..of("AWORKS") };
            assert_eq!(policy.judge(&forged, Some(1)), Err(Refusal::Detached(DetachedError::Signature)));
        }
        let nothing = Evidence::default();
        assert_eq!(policy(Unsigned::Refused).judge(&nothing, None), Err(Refusal::Unsigned));
        assert_eq!(policy(Unsigned::Allowed).judge(&nothing, None), Ok(Trust::Unsigned));
        let stranger = Refusal::Unknown { key: "ASTRANGER".into() };
        assert_eq!(policy(Unsigned::Refused).judge(&of("ASTRANGER"), None), Err(stranger));
        assert_eq!(policy(Unsigned::Allowed).judge(&of("ASTRANGER"), None), Ok(Trust::Unsigned));
    }

    #[test]
    fn a_signature_counts_in_its_time_as_far_as_the_time_is_known() {
        // Goal: early and late are refused, and a gateway without a clock starts. Method: before, within, after, unknown.
        let claims = Claims { not_before: Some(10), expires: Some(20), ..claims("AWORKS") };
        let evidence = Evidence { claims: Some(Ok(claims)), ..Evidence::default() };
        let judge = |now| policy(Unsigned::Refused).judge(&evidence, now);
        assert_eq!(judge(Some(9)), Err(Refusal::Early { signer: "works".into(), from: 10 }));
        assert_eq!(judge(Some(21)), Err(Refusal::Expired { signer: "works".into(), until: 20 }));
        for now in [Some(10), Some(20), None] {
            assert_eq!(judge(now), Ok(Trust::Trusted("works".into())));
        }
    }

    #[test]
    fn a_signer_vouches_for_the_interfaces_it_is_trusted_with() {
        // Goal: a vendor's component cannot get at what the site did not mean for it, whatever links say. Method: imports
        // within, and one beyond.
        let with = |imports: &[&str]| Evidence {
            imports: imports.iter().map(|one| (*one).to_owned()).collect(),
            ..of("AVENDOR")
        };
        let judge = |imports: &[&str]| policy(Unsigned::Refused).judge(&with(imports), None);
        let trusted = Ok(Trust::Trusted("vendor".into()));
        assert_eq!(judge(&["wasi:keyvalue/store", "wasi:keyvalue/atomics", "wasi:logging/logging"]), trusted);
        let refused =
            Refusal::Interface { signer: "vendor".into(), import: "wasi:http/outgoing-handler".into() };
        assert_eq!(judge(&["wasi:keyvalue/store", "wasi:http/outgoing-handler"]), Err(refused));
    }
}
