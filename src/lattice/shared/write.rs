//! A change of the hub's buckets: read, judge, write by compare-and-set, and again if somebody else was faster.
//!
//! What is asked for is judged by [`apply`], the same rule that a lattice of the gateway's own has, against what the buckets
//! hold at that moment. Of several who change one entry each writes on what it has read, so none is lost.

use tokio::time::timeout_at;

use super::bucket::{Buckets, Held, PutError};
use super::entry::{self, Which};
use crate::control::merge::{Content, Entry, EntryKey, Offer, Verdict, judge};
use crate::control::{Change, Command, Decision, Errand, Key, Link, OfTheFile, Refusal, Spec, Word, apply};
use crate::lattice::api::ApiError;

/// Attempts when others write the same entry: each fails only because one of them got through.
const ATTEMPTS_MAX: usize = 8;

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// The hub cannot have it.
    No,
    /// It may.
    Perhaps,
}

/// What an offer leads to.
#[derive(Debug, PartialEq)]
pub(super) enum Offered {
    /// The entry is like this now, and control draws its conclusions.
    Entry(Entry),
    /// The hub will not have it, for this reason; it stays pending.
    Refused(String),
}

/// Runs an errand, until its deadline at the latest.
pub(super) async fn run(buckets: Buckets, errand: Errand) -> Word {
    let mut sent = Sent::No;
    let ended = timeout_at(errand.deadline, change(&buckets, &errand.command, &mut sent)).await;
    match ended {
        Ok(Ok((decision, revision))) => Word::Done { errand, decision: Box::new(decision), revision },
        Ok(Err(refusal)) => Word::Failed { errand, refusal },
        Err(_) => {
            let refusal = if sent == Sent::No { Refusal::HubAway } else { Refusal::NotAcknowledged };
            Word::Failed { errand, refusal }
        }
    }
}

async fn change(
    buckets: &Buckets,
    command: &Command,
    sent: &mut Sent,
) -> Result<(Decision, Option<u64>), Refusal> {
    let Some(key) = command.entry() else { return Err(Refusal::HubAway) };
    let configs = match command {
        Command::PutLink { link } => named(buckets, link).await?,
        _ => Vec::new(),
    };
    for _ in 0..ATTEMPTS_MAX {
        let (held, entry) = buckets.entry(&key).await.map_err(away)?;
        if let (EntryKey::Links(_), Content::Unreadable(_)) = (&key, &entry.content) {
            return Err(Refusal::EntryUnreadable { entry: entry::place(&key).1 });
        }
        let desired = entry::desired(&entry, configs.iter().cloned());
        let decision = apply(&desired, &OfTheFile::default(), command);
        if decision.changes.is_empty() {
            return Ok((decision, None));
        }
        *sent = Sent::Perhaps;
        match write(buckets, &key, &held, &decision.changes).await? {
            Some(revision) => return Ok((decision, Some(revision))),
            None => *sent = Sent::No,
        }
    }
    Err(Refusal::Contended)
}

/// Configurations that a link names and that there are.
async fn named(buckets: &Buckets, link: &Link) -> Result<Vec<String>, Refusal> {
    let mut there = Vec::new();
    for name in link.source_config.iter().chain(&link.target_config) {
        let key = EntryKey::Config(name.clone());
        if there.contains(name) || !key.is_possible() {
            continue;
        }
        let (held, _) = buckets.entry(&key).await.map_err(away)?;
        if held.value.is_some() {
            there.push(name.clone());
        }
    }
    Ok(there)
}

/// Writes, unless somebody else was faster.
async fn write(
    buckets: &Buckets,
    key: &EntryKey,
    held: &Held,
    changes: &[Change],
) -> Result<Option<u64>, Refusal> {
    let (which, name) = entry::place(key);
    let value = entry::render(held.value.as_deref(), changes)
        .map_err(|_| Refusal::EntryUnreadable { entry: name.clone() })?;
    match buckets.of(which).write(&name, value, held.revision).await {
        Ok(revision) => Ok(Some(revision)),
        Err(PutError::Conflict) => Ok(None),
        Err(PutError::Api(ApiError::NoResponders)) => Err(Refusal::HubAway),
        Err(PutError::Api(ApiError::Refused { description, .. })) => Err(Refusal::HubRefuses(description)),
        Err(PutError::Api(_)) => Err(Refusal::NotAcknowledged),
    }
}

fn away(error: ApiError) -> Refusal {
    match error {
        ApiError::Refused { description, .. } => Refusal::HubRefuses(description),
        _ => Refusal::HubAway,
    }
}

/// Writes what was changed on site while the hub was away, if the hub still has what it had.
pub(super) async fn offer(buckets: &Buckets, offer: &Offer) -> Result<Offered, ApiError> {
    let Some(key) = EntryKey::of(&offer.key).filter(EntryKey::is_possible) else {
        return Ok(Offered::Refused("its name cannot be a key of a bucket".to_owned()));
    };
    for _ in 0..ATTEMPTS_MAX {
        let (held, entry) = buckets.entry(&key).await?;
        let theirs = match item(&entry, &offer.key) {
            Ok(theirs) => theirs,
            Err(why) => return Ok(Offered::Refused(why.to_owned())),
        };
        if judge(&offer.base, offer.ours.as_ref(), theirs.as_ref()) != Verdict::Ours {
            return Ok(Offered::Entry(entry));
        }
        let change = match &offer.ours {
            Some(spec) => Change::Put(offer.key.clone(), spec.clone()),
            None => Change::Remove(offer.key.clone()),
        };
        match write(buckets, &key, &held, std::slice::from_ref(&change)).await {
            // What is there now says the rest, in the next round.
            Ok(_) => {}
            Err(Refusal::HubAway | Refusal::NotAcknowledged) => return Err(ApiError::Silent),
            Err(refusal) => return Ok(Offered::Refused(refusal.to_string())),
        }
    }
    Ok(Offered::Refused(Refusal::Contended.to_string()))
}

/// What an entry says of an item.
fn item(entry: &Entry, key: &Key) -> Result<Option<Spec>, &'static str> {
    match (&entry.content, key) {
        (Content::Unreadable(why), _) => Err(why),
        (Content::Links(links), Key::Link(key)) => {
            Ok(links.iter().find(|link| link.key() == *key).cloned().map(Spec::Link))
        }
        (Content::Config(values), Key::Config(_)) => Ok(Some(Spec::Config(values.clone()))),
        _ => Ok(None),
    }
}

// === impl Buckets ===

impl Buckets {
    /// What an entry is now.
    async fn entry(&self, key: &EntryKey) -> Result<(Held, Entry), ApiError> {
        let (which, name): (Which, String) = entry::place(key);
        let held = self.of(which).read(&name).await?;
        let entry = entry::read(key.clone(), held.revision, held.value.as_deref());
        Ok((held, entry))
    }
}
