//! Components that could not be opened: their fallback takes their readings, and opening is tried again.
//!
//! Owned by the pipeline. What stops a component at the start may pass by itself (a full or unwritable cache) or be mended
//! by somebody (a file that was not there), so it is tried again, in half a minute and then in twice the time, up to ten
//! minutes. Until then its last snapshot is kept and goes into every checkpoint: a start with a full disk costs the
//! readings that passed by, not the state.

use std::collections::BTreeMap;

use crate::sample::{Nanos, SECOND};

/// First and longest pause between two attempts.
const PAUSE: Nanos = 30 * SECOND;
const PAUSE_MAX: Nanos = 600 * SECOND;

/// The components that are not there.
#[derive(Debug, Default)]
pub(super) struct Absent(BTreeMap<String, Absence>);

/// One of them.
#[derive(Debug)]
pub(super) struct Absence {
    /// Readings that passed it by.
    pub passed_by: u64,
    /// Readings that were dropped meanwhile.
    pub dropped: u64,
    /// Why it could not be opened, the last time.
    pub why: String,
    /// The state of the last checkpoint.
    pub snapshot: Option<Vec<u8>>,
    again_at: Nanos,
    pause: Nanos,
}

// === impl Absent ===

impl Absent {
    /// A component could not be opened at `now`.
    pub fn note(&mut self, name: &str, why: String, now: Nanos) {
        let absence = self.0.entry(name.to_owned()).or_insert_with(|| Absence {
            passed_by: 0,
            dropped: 0,
            why: String::new(),
            snapshot: None,
            again_at: 0,
            pause: PAUSE / 2,
        });
        absence.why = why;
        absence.pause = (2 * absence.pause).min(PAUSE_MAX);
        absence.again_at = now + absence.pause;
    }

    /// Keeps the state of the last checkpoint for a component that is not there; gives it back when it is.
    pub fn keep(&mut self, name: &str, snapshot: Vec<u8>) -> Option<Vec<u8>> {
        match self.0.get_mut(name) {
            Some(absence) => {
                absence.snapshot = Some(snapshot);
                None
            }
            None => Some(snapshot),
        }
    }

    /// Readings pass a component by.
    pub fn pass_by(&mut self, name: &str, readings: usize) {
        if let Some(absence) = self.0.get_mut(name) {
            absence.passed_by += readings as u64;
        }
    }

    /// Readings are dropped because it is not there.
    pub fn drop(&mut self, name: &str, readings: usize) {
        if let Some(absence) = self.0.get_mut(name) {
            absence.dropped += readings as u64;
        }
    }

    /// A component whose time to be tried again has come.
    pub fn due(&self, now: Nanos) -> Option<String> {
        self.0.iter().find(|(_, absence)| absence.again_at <= now).map(|(name, _)| name.clone())
    }

    /// It is there. Returns what was kept for it.
    pub fn found(&mut self, name: &str) -> Option<Absence> {
        self.0.remove(name)
    }

    /// The states kept.
    pub fn snapshots(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        self.0.iter().filter_map(|(name, absence)| Some((name.clone(), absence.snapshot.clone()?)))
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<&Absence> {
        self.0.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tried_again_more_and_more_rarely_and_its_state_is_kept() {
        // Goal: what was not there at the start comes back with its state. Method: the times of ten failures; then it is there.
        let mut absent = Absent::default();
        absent.note("limits", "no space".into(), 0);
        assert_eq!(absent.keep("limits", vec![7]), None);
        assert_eq!(absent.keep("other", vec![8]), Some(vec![8]), "that one was opened");
        absent.pass_by("limits", 5);
        let (mut now, mut pauses) = (0, Vec::new());
        for _ in 0..7 {
            let begun = now;
            while absent.due(now).is_none() {
                now += SECOND;
            }
            pauses.push((now - begun) / SECOND);
            absent.note("limits", "still none".into(), now);
        }
        assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
        assert_eq!(absent.snapshots().collect::<Vec<_>>(), [("limits".to_owned(), vec![7])]);
        absent.drop("limits", 3);
        let found = absent.found("limits").unwrap();
        assert_eq!((found.snapshot, found.passed_by, found.dropped), (Some(vec![7]), 5, 3));
        assert!(absent.get("limits").is_none() && absent.due(i64::MAX).is_none());
    }
}
