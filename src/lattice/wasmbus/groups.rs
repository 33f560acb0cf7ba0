//! Which subjects the host hears: those that every host hears, and those that one of all hears for the lattice.

use async_nats::{Client, Subscriber};
use futures_util::stream::{SelectAll, select_all};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use super::host::{AGAIN, Host};
use super::subject::Subscription;
use crate::lattice::shared::Reader;

/// Who answers for links, configuration and claims of the lattice.
#[derive(Debug)]
pub enum Groups {
    /// This host, always.
    Own,
    /// Whichever host is asked, this one while it is joined.
    Shared {
        /// Whether it is.
        joined: watch::Receiver<bool>,
        /// Answers questions about the whole lattice.
        reader: Reader,
    },
}

// === impl Host ===

impl Host {
    /// Joins the groups of those who answer for the lattice, or leaves them: what was in our hands by then is still answered.
    /// Says whether that worked.
    pub(super) async fn join_or_leave(
        &mut self,
        client: &Client,
        grouped: &mut SelectAll<Subscriber>,
    ) -> bool {
        if *self.joined.borrow_and_update() {
            return match self.subscribe(client, self.desk.address().grouped()).await {
                Ok(more) => {
                    grouped.extend(more);
                    true
                }
                Err(error) => {
                    warn!(%error, "the groups that answer for the lattice cannot be joined; trying again");
                    false
                }
            };
        }
        for subscriber in grouped.iter_mut() {
            // Without a connection there is nothing to leave.
            let _ = subscriber.drain().await;
        }
        true
    }

    pub(super) async fn subscribe(
        &self,
        client: &Client,
        wanted: Vec<Subscription>,
    ) -> Result<SelectAll<Subscriber>, async_nats::Error> {
        let mut subscribers = Vec::new();
        for wanted in wanted {
            subscribers.push(match wanted.group {
                Some(group) => client.queue_subscribe(wanted.subject, group).await?,
                None => client.subscribe(wanted.subject).await?,
            });
        }
        // Whoever hears that the host is there may ask it.
        timeout(AGAIN, client.flush()).await??;
        Ok(select_all(subscribers))
    }
}
