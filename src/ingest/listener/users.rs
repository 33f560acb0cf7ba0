//! Who may enter, and what they may do then: users, their proofs, and topic rules with placeholders.
//!
//! ```text
//!  CONNECT ──▶ admit ──┬─ a certificate of a user ───────────────▶ granted
//!                      ├─ a password proven before, same hash ───▶ granted
//!                      ├─ name and password ─▶ to be checked ──┬─▶ granted
//!                      │                                       └─▶ refused, counted by the limiter
//!                      ├─ no name, and the listener allows it ───▶ granted (anonymous)
//!                      └─ anything else, or too many failures ───▶ refused
//! ```
//! Pure: hashing is done by whoever owns this, see [`super::entrance`]. Nothing is kept across power loss.
//!
//! Checking a password is slow on purpose. So that a thousand sensors can come back within seconds, a password that was
//! proven is remembered as a digest keyed with a random number of this process, one for each user, until its hash
//! changes. An unknown name is checked against a hash that nobody has, so that time does not tell which names exist.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::limiter::Limiter;
use super::password::Hash;
use crate::config::{Anonymous, TopicRules};
use crate::ingest::topic;

/// Hashes of one user: the present one and, while a password is being changed, the next.
pub const HASHES_MAX: usize = 2;

/// What a client shows when it connects.
#[derive(Clone)]
pub struct Credentials {
    /// Where it connects from.
    pub address: IpAddr,
    /// What the listener says about clients without a name.
    pub anonymous: Anonymous,
    /// Client identifier, the one it was given if it came without.
    pub client: String,
    /// User name.
    pub name: Option<String>,
    /// Password.
    pub password: Option<Vec<u8>>,
    /// Names in its certificate, which was verified; empty without one.
    pub certificate: Vec<String>,
}

/// A user who may enter.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name.
    pub name: Arc<str>,
    /// Hashes of its passwords; empty when it has none, or none could be read.
    pub hashes: Vec<Hash>,
    /// The name in its certificate.
    pub certificate: Option<String>,
    /// What it may do.
    pub rules: TopicRules,
}

/// What a client that has entered may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// Which user it is; `None` is anonymous. Sessions belong to user and client identifier.
    pub user: Option<Arc<str>>,
    /// Its rules.
    pub permissions: Permissions,
}

/// Topic rules with their placeholders filled in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permissions {
    publish: Vec<Box<str>>,
    subscribe: Vec<Box<str>>,
}

/// Why a client may not enter. MQTT tells it little; logs and counters tell the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Wrong password, unknown user, or no proof at all: which of them is not said.
    #[error("user name and password are not those of a user")]
    Proof,
    /// Anonymous clients may not come here, or from there.
    #[error("anonymous clients are not let in from there")]
    Anonymous,
    /// The certificate stands for another user than the one that is named.
    #[error("the certificate stands for another user")]
    OtherUser,
    /// Too many failures.
    #[error("too many failed logins")]
    Limited,
    /// Too many passwords wait to be checked.
    #[error("too many logins at a time")]
    Busy,
}

/// What is to be done with a client.
#[derive(Debug)]
pub enum Admission {
    /// It is in.
    Granted(Pass),
    /// It is out.
    Refused(Refusal),
    /// Its password must be checked, and the answer given to [`Users::checked`].
    Check(Check),
}

/// A password to be checked against the hashes of a user.
pub struct Check {
    credentials: Credentials,
    account: Option<usize>,
    generation: u64,
    hashes: Vec<Hash>,
}

/// Everybody who may enter.
#[derive(Debug)]
pub struct Users {
    accounts: Vec<Account>,
    by_name: HashMap<Arc<str>, usize>,
    by_certificate: HashMap<String, usize>,
    anonymous: TopicRules,
    limiter: Limiter,
    /// By account: the digest of a password that was proven.
    proven: Vec<Option<[u8; 32]>>,
    secret: [u8; 32],
    nobody: Hash,
    /// Counts changes of the accounts: a check that was begun before is worth nothing.
    generation: u64,
}

// === impl Credentials ===

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("address", &self.address)
            .field("client", &self.client)
            .field("name", &self.name)
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

// === impl Check ===

impl Check {
    /// Whether the password is right. Slow: to be called where nothing waits.
    pub fn run(&self) -> bool {
        let password = self.credentials.password.as_deref().unwrap_or_default();
        self.hashes.iter().any(|hash| hash.is_of(password))
    }
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

// === impl Users ===

impl Users {
    /// Everybody of the configuration. `secret` is random, of this process.
    pub fn new(accounts: Vec<Account>, anonymous: TopicRules, secret: [u8; 32]) -> Users {
        let mut users = Users {
            accounts: Vec::new(),
            by_name: HashMap::new(),
            by_certificate: HashMap::new(),
            anonymous,
            limiter: Limiter::default(),
            proven: Vec::new(),
            secret,
            nobody: Hash::of_nobody(),
            generation: 0,
        };
        users.replace(accounts);
        users
    }

    fn replace(&mut self, accounts: Vec<Account>) {
        self.by_name = accounts.iter().enumerate().map(|(n, account)| (account.name.clone(), n)).collect();
        let certificate = |(n, account): (usize, &Account)| Some((account.certificate.clone()?, n));
        self.by_certificate = accounts.iter().enumerate().filter_map(certificate).collect();
        self.proven = vec![None; accounts.len()];
        self.accounts = accounts;
        self.generation += 1;
    }

    /// A user's hashes have changed: what was proven with the old ones is forgotten.
    pub fn set_hashes(&mut self, name: &str, hashes: Vec<Hash>) {
        let Some(n) = self.by_name.get(name).copied() else { return };
        if self.accounts[n].hashes != hashes {
            self.accounts[n].hashes = hashes;
            self.proven[n] = None;
            self.generation += 1;
        }
    }

    /// Looks at what a client shows.
    pub fn admit(&mut self, credentials: Credentials, now: Instant) -> Admission {
        let shown = credentials.certificate.iter().find_map(|name| self.by_certificate.get(name)).copied();
        match (shown, &credentials.name) {
            (Some(n), Some(name)) if **name != *self.accounts[n].name => {
                return Admission::Refused(Refusal::OtherUser);
            }
            (Some(n), _) => return Admission::Granted(self.pass(Some(n), &credentials.client)),
            (None, None) => return self.nameless(&credentials),
            // Where there are no users a name proves nothing, and is not looked at.
            (None, Some(_)) if self.accounts.is_empty() => return self.nameless(&credentials),
            (None, Some(_)) => {}
        }
        let name = credentials.name.as_deref().unwrap_or_default();
        let account = self.by_name.get(name).copied();
        let password = credentials.password.as_deref().unwrap_or_default();
        if let Some(n) =
            account.filter(|n| self.proven[*n].is_some_and(|d| same(&d, &self.digest(*n, password))))
        {
            return Admission::Granted(self.pass(Some(n), &credentials.client));
        }
        if !self.limiter.allows(credentials.address, name, now) {
            return Admission::Refused(Refusal::Limited);
        }
        // Paid in advance, so that attempts side by side do not all pass before the first has failed.
        self.limiter.spend(credentials.address, name, now);
        let hashes = account.map(|n| self.accounts[n].hashes.clone()).filter(|hashes| !hashes.is_empty());
        let hashes = hashes.unwrap_or_else(|| vec![self.nobody.clone()]);
        Admission::Check(Check { credentials, account, generation: self.generation, hashes })
    }

    fn nameless(&self, credentials: &Credentials) -> Admission {
        let here = match credentials.anonymous {
            Anonymous::Never => false,
            Anonymous::Loopback => credentials.address.to_canonical().is_loopback(),
            Anonymous::Always => true,
        };
        match here {
            true => Admission::Granted(self.pass(None, &credentials.client)),
            false => Admission::Refused(Refusal::Anonymous),
        }
    }

    /// What became of a check.
    pub fn checked(&mut self, check: Check, right: bool, now: Instant) -> Result<Pass, Refusal> {
        let Check { credentials, account, generation, .. } = check;
        let name = credentials.name.as_deref().unwrap_or_default();
        let Some(n) = account.filter(|_| right && generation == self.generation) else {
            return Err(Refusal::Proof);
        };
        self.limiter.give_back(credentials.address, name, now);
        let password = credentials.password.as_deref().unwrap_or_default();
        self.proven[n] = Some(self.digest(n, password));
        Ok(self.pass(Some(n), &credentials.client))
    }

    /// A check could not be run: nobody has failed.
    pub fn unchecked(&mut self, check: &Check, now: Instant) {
        let name = check.credentials.name.as_deref().unwrap_or_default();
        self.limiter.give_back(check.credentials.address, name, now);
    }

    fn pass(&self, account: Option<usize>, client: &str) -> Pass {
        let (user, rules) = match account {
            Some(n) => (Some(self.accounts[n].name.clone()), &self.accounts[n].rules),
            None => (None, &self.anonymous),
        };
        Pass { permissions: Permissions::fill(rules, user.as_deref(), client), user }
    }

    fn digest(&self, account: usize, password: &[u8]) -> [u8; 32] {
        let account = (account as u64).to_le_bytes();
        Sha256::new().chain_update(self.secret).chain_update(account).chain_update(password).finalize().into()
    }
}

/// Whether two digests are the same, in a time that does not tell where they differ.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b))) == 0
}

// === impl Permissions ===

impl Permissions {
    /// Fills the placeholders of rules. A rule is left out when what it would be filled with is empty or could change
    /// its meaning: a client identifier is chosen by the client.
    pub fn fill(rules: &TopicRules, user: Option<&str>, client: &str) -> Permissions {
        let filled = |rules: &[String]| rules.iter().filter_map(|rule| filled(rule, user, client)).collect();
        Permissions { publish: filled(&rules.publish), subscribe: filled(&rules.subscribe) }
    }

    /// Whether it may publish to a topic.
    pub fn may_publish(&self, topic: &str) -> bool {
        self.publish.iter().any(|rule| topic::matches(rule, topic))
    }

    /// Whether it may subscribe to a filter, `$share/group/` apart: a rule must cover all of it.
    pub fn may_subscribe(&self, filter: &str) -> bool {
        self.subscribe.iter().any(|rule| topic::covers(rule, filter))
    }
}

fn filled(rule: &str, user: Option<&str>, client: &str) -> Option<Box<str>> {
    let mut text = rule.to_owned();
    for (placeholder, value) in [("{user}", user.unwrap_or_default()), ("{client}", client)] {
        if rule.contains(placeholder) {
            let wild = value.is_empty() || value.contains(['/', '+', '#', '\0', '{', '}']);
            let reserved = rule.starts_with(placeholder) && value.starts_with('$');
            text = (!wild && !reserved).then(|| text.replace(placeholder, value))?;
        }
    }
    topic::validate_filter(&text).is_ok().then(|| text.into())
}

#[cfg(test)]
mod tests;
