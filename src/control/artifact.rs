//! From a reference to the file with a component's code: the narrow place where artifacts come in.
//!
//! What is found is judged every time ([`crate::artifact`]); whoever opens it compares its digest once more.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::artifact::obtain::{Obtained, Present, Sources};
use crate::lattice::LinkHandle;
use crate::platform::clock::WallClock;
use crate::platform::log::chain;
use crate::sample::SECOND;

/// Where artifacts are looked for.
#[derive(Debug)]
pub struct Artifacts {
    /// Or why there are none.
    sources: Result<Arc<Sources>, String>,
    link: LinkHandle,
    clock: WallClock,
    reaches_hub: bool,
}

/// One search. It goes on by itself.
#[derive(Debug, Clone)]
pub(super) struct Searcher {
    sources: Result<Arc<Sources>, String>,
    present: Present,
}

// === impl Artifacts ===

impl Artifacts {
    /// From these sources, or from none for a reason.
    pub fn new(sources: Result<Sources, String>, link: LinkHandle, clock: WallClock) -> Artifacts {
        Artifacts { sources: sources.map(Arc::new), link, clock, reaches_hub: false }
    }

    /// A search in the present circumstances. What the references in `needed` led to stays.
    pub(super) fn searcher(&self, needed: BTreeSet<String>) -> Searcher {
        let api = self.link.client.borrow().clone().map(|client| self.link.api(client));
        let now = self.clock.trusted_now().and_then(|now| u64::try_from(now / SECOND).ok());
        Searcher { sources: self.sources.clone(), present: Present { api, now, needed } }
    }

    /// Removes what is kept beyond its bound, but nothing that these references led to.
    pub(super) async fn sweep(&self, needed: BTreeSet<String>) {
        if let Ok(sources) = &self.sources
            && let Err(error) = sources.sweep(needed).await
        {
            tracing::warn!(reason = %chain(&error), "artifacts beyond the bound cannot be removed");
        }
    }

    /// A reference may mean another content from now on, if its artifact was damaged and its source has another. Says
    /// whether that is so.
    pub(super) async fn give_up(&self, reference: &str) -> bool {
        let Ok(sources) = &self.sources else { return false };
        sources.give_up(reference).await.unwrap_or_else(|error| {
            tracing::warn!(reference, reason = %chain(&error), "a damaged artifact cannot be given up");
            false
        })
    }

    /// Waits until the hub is reached, having been out of reach.
    ///
    /// Cancel-safe: what was seen is noted.
    pub(super) async fn reached(&mut self) {
        loop {
            if self.link.state.changed().await.is_err() {
                // The link has ended: the process is about to.
                std::future::pending::<()>().await;
            }
            let reaches_hub = self.link.state.borrow_and_update().reaches_hub();
            if reaches_hub && !std::mem::replace(&mut self.reaches_hub, reaches_hub) {
                return;
            }
            self.reaches_hub = reaches_hub;
        }
    }
}

// === impl Searcher ===

impl Searcher {
    /// Finds or fetches an artifact, or says why not.
    ///
    /// Cancel-safe: what is on flash by then is gone on with.
    pub async fn find(&self, reference: &str) -> Result<Obtained, String> {
        let sources = self.sources.as_ref().map_err(Clone::clone)?;
        let found = sources.obtain(reference, &self.present).await;
        found.map_err(|error| format!("{}{}", chain(&error), hint(reference)))
    }
}

/// What helps whoever named a file by its path alone. An image without a colon has neither tag nor digest.
fn hint(reference: &str) -> &'static str {
    let is_path =
        reference.starts_with(['/', '.']) || (reference.ends_with(".wasm") && !reference.contains(':'));
    if is_path { "; a file is named as file:///absolute/path" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::hint;

    #[test]
    fn whoever_names_a_file_by_its_path_is_told_how_a_file_is_named() {
        // Goal: a path is not taken for an image that has no tag. Method: paths; what is a file, an object, an image.
        for path in ["/a/desk.wasm", "./desk.wasm", "../desk", "desk.wasm", "a/desk.wasm"] {
            assert_eq!(hint(path), "; a file is named as file:///absolute/path", "{path}");
        }
        for other in [
            "file:///a/desk.wasm",
            "nats://parts/desk.wasm",
            "ghcr.io/plant/desk",
            "ghcr.io/plant/desk:1.wasm",
        ] {
            assert_eq!(hint(other), "", "{other}");
        }
    }
}
