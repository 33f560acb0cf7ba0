//! A lattice that is shared: the copy of the hub's word, what is pending, and the way to the task that speaks with the hub.
//!
//! ```text
//!            Begin                 Complete, scope as it is            a component comes: scope is another
//!   Away ────────────▶ Reading ────────────────────────────▶ Held ◀──────────────────────────┐
//!    ▲                    │                                  │  └─▶ plans wait ──Complete─────┘
//!    └──────── Away ──────┴──────────────────────────────────┘
//! ```
//! While the hub is away or is being read, a change made on site is made here at once and is pending; one that came over the
//! lattice is refused. While it is held, every change goes to the hub first, as an [`Errand`], and comes back as
//! [`Word::Done`]. The rule by which both are joined again is [`crate::control::merge`].
//!
//! Power: a change on site and its mark of being pending are one transaction, and so are the end of that mark and what the
//! history says of it; to come into a lattice, or to leave it with what it had, is one, too. A cut between the hub's
//! acknowledgement and our knowing of it leaves an item pending that the hub has: both say the same, and it is settled.
//! When full: words wait for the budget of changes, the newest of each entry only: at most one of each entry in scope.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::copy::{Errand, Stage, Word};
use super::{Control, Request};
use crate::control::apply::{Decision, apply};
use crate::control::command::{Command, Origin, Refusal};
use crate::control::desired::{Change, Key};
use crate::control::merge::{self, EntryKey, Offer, Pending, Scope, Turn};
use crate::control::pending::{self, Kept};
use crate::control::record;
use crate::platform::clock;

/// Longest time that a change may take at the hub: a reading, and a few writes if others write too, on a slow link. The
/// local socket has patience for a second more.
const ERRAND_PATIENCE: Duration = Duration::from_secs(4);
/// Before words that the budget did not let through are tried again.
const AGAIN: Duration = Duration::from_secs(2);

// === impl Control ===

impl Control {
    /// When words that wait are tried again.
    pub(super) fn settle_at(&self) -> Option<Instant> {
        self.copy.as_ref().and_then(|copy| copy.again)
    }

    /// From rows, once what is desired is restored: what is pending. To come into a lattice or to leave it is one transaction,
    /// told in the history; if it cannot be kept it is tried again at the next start.
    pub(super) async fn restore_copy(&mut self, kept: Kept) {
        let Kept { pending: before, lattice, left, unread, .. } = kept;
        if unread > 0 {
            warn!(rows = unread, "changes made on site cannot be read and will not reach the lattice");
        }
        let revision = self.desired.revision + 1;
        let (pending, membership, text) = match (&mut self.copy, lattice) {
            (Some(copy), Some(lattice)) if copy.lattice == lattice => {
                copy.pending = before;
                return;
            }
            (Some(copy), _) => {
                let is_back = left.as_deref() == Some(copy.lattice.as_str());
                let bases = if is_back { before.clone() } else { Pending::new() };
                copy.pending = merge::join(&self.desired, &bases);
                let text = format!(
                    "the gateway is in the shared lattice {}; {} links and configurations are brought along",
                    copy.lattice,
                    copy.pending.len()
                );
                (copy.pending.clone(), pending::join(&copy.lattice, revision), text)
            }
            (None, Some(lattice)) => {
                let text = "the lattice is the gateway's own again".to_owned();
                (merge::bases(&self.desired, &before), pending::leave(&lattice, revision), text)
            }
            (None, None) => return,
        };
        let keys: BTreeSet<&Key> = before.keys().chain(pending.keys()).collect();
        let marks = keys.into_iter().map(|key| pending::write(key, pending.get(key), revision));
        let writes = marks.chain(membership).collect();
        let _ = self.keep_with(&[], Origin::LocalFile, record::cut(text), writes).await;
    }

    /// Whether what is held may lack what the hub has for a component: plans wait until it has been read.
    pub(super) fn is_behind(&self) -> bool {
        self.copy.as_ref().is_some_and(|copy| {
            copy.stage == Stage::Held
                && copy.read.as_ref() != Some(&merge::scope(&self.desired, copy.pending.keys()))
        })
    }

    /// A command about an item of the lattice's: to the hub, or made here, or refused.
    pub(super) async fn obey_shared(&mut self, request: Request) {
        let Request { command, by, reply } = request;
        let Some(copy) = &mut self.copy else { return };
        let Some(key) = command.entry() else { return };
        if !key.is_possible() {
            let (EntryKey::Links(name) | EntryKey::Config(name)) = key;
            let name = name.chars().take(80).collect();
            return drop(reply.send(Err(Refusal::EntryKey { name })));
        }
        let is_ours = by == Origin::Site || copy.read.as_ref().is_some_and(|scope| scope.contains(&key));
        // What other hosts need is written to no flash here.
        if is_ours && !self.budget.take(clock::boottime()) {
            return drop(reply.send(Err(Refusal::TooFast)));
        }
        if copy.stage == Stage::Held {
            let deadline = Instant::now() + ERRAND_PATIENCE;
            let errand = Errand { command, by, deadline, reply };
            if let Err(error) = copy.errands.try_send(errand) {
                let (mpsc::error::TrySendError::Full(errand) | mpsc::error::TrySendError::Closed(errand)) =
                    error;
                drop(errand.reply.send(Err(Refusal::HubAway)));
            }
            return;
        }
        let answer = match by {
            Origin::Site => self.change_on_site(&command).await,
            Origin::Lattice | Origin::LocalFile | Origin::Image => Err(Refusal::HubAway),
        };
        drop(reply.send(answer));
    }

    /// Made here at once, and pending. It is told to the lattice when the lattice has it.
    async fn change_on_site(&mut self, command: &Command) -> Result<String, Refusal> {
        let decision = apply(&self.desired, &self.file, command);
        let answer = decision.answer?;
        if decision.changes.is_empty() {
            // Only what was put on site or is needed here is in the copy: the lattice may well have it.
            let is_removal = matches!(command, Command::DeleteLink { .. } | Command::DeleteConfig { .. });
            return if is_removal { Err(Refusal::NotInCopy) } else { Ok(answer) };
        }
        let Some(copy) = &self.copy else { return Ok(answer) };
        let marks = merge::mark(&self.desired, &copy.pending, &decision.changes)?;
        let revision = self.desired.revision + 1;
        let writes = marks.iter().map(|(key, base)| pending::write(key, base.as_ref(), revision)).collect();
        self.keep_with(&decision.changes, Origin::Site, record::line(command), writes).await?;
        if let Some(copy) = &mut self.copy {
            for (key, base) in marks {
                match base {
                    Some(base) => drop(copy.pending.insert(key, base)),
                    None => drop(copy.pending.remove(&key)),
                }
            }
        }
        Ok(format!("{answer}; the lattice has it once its hub can be reached"))
    }

    pub(super) async fn hear(&mut self, word: Word) {
        let Some(copy) = &mut self.copy else { return };
        match word {
            Word::Begin => {
                copy.stage = Stage::Reading;
                copy.known.clear();
                copy.waiting.clear();
            }
            Word::Entries(entries) => {
                for entry in entries {
                    copy.put_aside(entry);
                }
                // Until all has been read nothing is judged: links name configurations that come later.
                if copy.stage == Stage::Held && !self.is_behind() {
                    self.settle_soon().await;
                }
            }
            Word::Complete { scope, offers } => self.complete(scope, offers).await,
            Word::Away => {
                copy.stage = Stage::Away;
                copy.waiting.clear();
                copy.again = None;
                self.is_due = true;
            }
            Word::Done { errand, decision, revision } => self.done(errand, *decision, revision).await,
            Word::Failed { errand, refusal } => self.failed(errand, refusal).await,
        }
    }

    /// Everything in scope has been told.
    async fn complete(&mut self, scope: Scope, offers: oneshot::Sender<Vec<Offer>>) {
        self.settle().await;
        let Some(copy) = &mut self.copy else { return };
        copy.stage = Stage::Held;
        copy.passed_over.retain(|key, _| scope.contains(key));
        copy.read = Some(scope);
        self.is_due = true;
        let changes = merge::prune(&self.desired, &copy.pending);
        if !changes.is_empty() {
            let text =
                format!("{} links and configurations that nothing here needs are let go", changes.len());
            // What cannot be written now is in nobody's way, and goes another time.
            let _ = self.keep(&changes, Origin::Lattice, text).await;
        }
        let Some(copy) = &self.copy else { return };
        let _ = offers.send(merge::offers(&self.desired, &copy.pending));
    }

    /// Keeps what waits if the budget allows, and sees to it that it is tried again if not.
    pub(super) async fn settle_soon(&mut self) {
        let Some(copy) = &mut self.copy else { return };
        copy.again = None;
        let is_news = !merge::merge(&self.desired, &copy.pending, &copy.entries()).turns.is_empty();
        if is_news && !self.budget.take(clock::boottime()) {
            copy.again = Some(Instant::now() + AGAIN);
            return;
        }
        self.settle().await;
    }

    /// Keeps what waits.
    async fn settle(&mut self) {
        let Some(copy) = &mut self.copy else { return };
        let entries = copy.entries();
        let merged = merge::merge(&self.desired, &copy.pending, &entries);
        copy.waiting.clear();
        for (key, why) in merged.passed_over {
            copy.pass_over(key, why);
        }
        // What is passed over is shown, too.
        self.is_due = true;
        for turn in merged.turns {
            if let Err(refusal) = self.take(turn).await {
                // The next word about it, or the next time the hub comes, brings it again.
                error!(%refusal, "the lattice's word cannot be kept");
                break;
            }
        }
    }

    async fn take(&mut self, turn: Turn) -> Result<(), Refusal> {
        let Turn { changes, settled, text, origin, event } = turn;
        info!(what = text, "shared lattice");
        let writes = settled.iter().map(|key| pending::write(key, None, 0)).collect();
        self.keep_with(&changes, origin, record::cut(text), writes).await?;
        if let Some(copy) = &mut self.copy {
            settled.iter().for_each(|key| drop(copy.pending.remove(key)));
        }
        event.into_iter().for_each(|event| self.send(event));
        Ok(())
    }

    /// The buckets have what was asked for: then the copy, then the answer, then the events.
    async fn done(&mut self, errand: Errand, decision: Decision, revision: Option<u64>) {
        let Errand { command, by, reply, .. } = errand;
        let Decision { answer, changes, events, .. } = decision;
        if let (Some(copy), Some(key)) = (&mut self.copy, command.entry()) {
            let is_newest = revision.is_none_or(|revision| copy.know(&key, revision));
            let is_held = by == Origin::Site || copy.read.as_ref().is_some_and(|scope| scope.contains(&key));
            // Put on site is held here, also if the lattice has it already.
            let put = command.put().filter(|_| by == Origin::Site && answer.is_ok());
            let wanted = put.map_or(changes, |put| vec![put]);
            let news: Vec<Change> =
                wanted.into_iter().filter(|change| merge::is_news(&self.desired, change, by)).collect();
            let settled: Vec<Key> =
                news.iter().map(key_of).filter(|key| copy.pending.contains_key(key)).cloned().collect();
            if is_held && is_newest && !news.is_empty() {
                let turn =
                    Turn { changes: news, settled, text: record::line(&command), origin: by, event: None };
                if let Err(refusal) = self.take(turn).await {
                    // The hub has it, and the hub brings it again.
                    error!(%refusal, "a change that the hub has taken cannot be kept here");
                }
            }
        }
        if self.is_due {
            self.publish();
        }
        drop(reply.send(answer));
        events.into_iter().for_each(|event| self.send(event));
    }

    /// The hub did not get it, or did not say so. On site it is made here, and the rule decides later.
    async fn failed(&mut self, errand: Errand, refusal: Refusal) {
        let Errand { command, by, reply, .. } = errand;
        let is_away = matches!(refusal, Refusal::HubAway | Refusal::NotAcknowledged);
        let answer = match by {
            Origin::Site if is_away => self.change_on_site(&command).await,
            _ => Err(refusal),
        };
        if self.is_due {
            self.publish();
        }
        drop(reply.send(answer));
    }
}

fn key_of(change: &Change) -> &Key {
    let (Change::Put(key, _) | Change::Remove(key)) = change;
    key
}
