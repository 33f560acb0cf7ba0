//! The senders' ledger against what the hub holds. Pure.
//!
//! The senders note every reading their broker has acknowledged. The hub's windows say how many readings they hold, how
//! many came late and how many repeated a time. For every series the sums must agree: a window with fewer readings than
//! were sent is a loss unless the series reports so many late ones; a window with more was counted twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::sample::Nanos;

/// The senders' side of the account.
#[derive(Debug, Default)]
pub struct Ledger {
    sent: HashMap<String, BTreeSet<Nanos>>,
    repeats: u64,
    closed_at: HashMap<String, Nanos>,
}

/// The hub's side: windows by series and start.
#[derive(Debug, Default)]
pub struct Holdings(HashMap<String, BTreeMap<Nanos, Window>>);

/// What the hub says of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Length, nanoseconds.
    pub length: Nanos,
    /// Readings in it.
    pub count: u64,
    /// Late readings reported with it.
    pub late: u64,
    /// Repeats reported with it.
    pub duplicates: u64,
}

/// The comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// Readings acknowledged to the senders, repeats apart.
    pub sent: u64,
    /// Messages' readings sent twice on purpose and acknowledged.
    pub repeated: u64,
    /// Readings in the hub's windows.
    pub arrived: u64,
    /// Readings reported as late: in the raw ring on the gateway, in no window.
    pub late: u64,
    /// Repeats recognised by the gateway.
    pub recognised: u64,
    /// Windows at the hub.
    pub windows: u64,
    /// Acknowledged readings that nobody accounts for.
    pub lost: u64,
    /// Readings counted more than once.
    pub counted_twice: u64,
}

// === impl Ledger ===

impl Ledger {
    /// A reading was acknowledged to its sender.
    pub fn acknowledge(&mut self, series: &str, time: Nanos) {
        let fresh = match self.sent.get_mut(series) {
            Some(times) => times.insert(time),
            None => self.sent.entry(series.to_owned()).or_default().insert(time),
        };
        self.repeats += u64::from(!fresh);
    }

    /// A series ends: the window that holds this time, and later ones, are in no account.
    pub fn close(&mut self, series: &str, time: Nanos) {
        self.closed_at.insert(series.to_owned(), time);
    }

    /// Compares.
    pub fn compare(&self, holdings: &Holdings) -> Verdict {
        let mut verdict = Verdict { repeated: self.repeats, ..Verdict::default() };
        let nothing = BTreeMap::new();
        for (series, times) in &self.sent {
            let windows = holdings.0.get(series).unwrap_or(&nothing);
            let mut missing = times.len() as u64;
            let end = self.closed_at.get(series).copied().unwrap_or(Nanos::MAX);
            for (start, window) in
                windows.iter().filter(|(start, window)| start.saturating_add(window.length) <= end)
            {
                let expected = times.range(*start..start.saturating_add(window.length)).count() as u64;
                missing -= expected.min(window.count);
                verdict.counted_twice += window.count.saturating_sub(expected);
            }
            let late: u64 = windows.values().map(|w| w.late).sum();
            verdict.sent += times.len() as u64;
            verdict.lost += missing.saturating_sub(late);
        }
        for window in holdings.0.values().flat_map(BTreeMap::values) {
            verdict.windows += 1;
            verdict.arrived += window.count;
            verdict.late += window.late;
            verdict.recognised += window.duplicates;
        }
        for (series, windows) in &holdings.0 {
            if !self.sent.contains_key(series) {
                verdict.counted_twice += windows.values().map(|w| w.count).sum::<u64>();
            }
        }
        verdict
    }
}

// === impl Holdings ===

impl Holdings {
    /// The hub holds a window. A window of a series that comes in parts (the gateway restarted it) adds up.
    pub fn hold(&mut self, series: &str, start: Nanos, window: Window) {
        let windows = self.0.entry(series.to_owned()).or_default();
        let known = windows.entry(start).or_insert(Window { count: 0, late: 0, duplicates: 0, ..window });
        known.count += window.count;
        known.late += window.late;
        known.duplicates += window.duplicates;
    }

    /// How many windows there are.
    pub fn windows(&self) -> u64 {
        self.0.values().map(|windows| windows.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(count: u64, late: u64) -> Window {
        Window { length: 10, count, late, duplicates: 0 }
    }

    fn holdings(windows: &[(&str, Nanos, Window)]) -> Holdings {
        let mut holdings = Holdings::default();
        windows.iter().for_each(|(series, start, window)| holdings.hold(series, *start, *window));
        holdings
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        (0..20).for_each(|time| ledger.acknowledge("a", time));
        ledger
    }

    #[test]
    fn equal_sides_agree() {
        // Goal: full windows, one repeat: nothing lost, nothing twice.
        let mut ledger = ledger();
        ledger.acknowledge("a", 3);
        let verdict = ledger.compare(&holdings(&[("a", 0, window(10, 0)), ("a", 10, window(10, 0))]));
        assert_eq!((verdict.lost, verdict.counted_twice, verdict.repeated), (0, 0, 1));
    }

    #[test]
    fn a_missing_reading_is_lost_unless_it_was_late() {
        // Goal: a short window is a loss; the same window with a late one reported is not.
        let lost =
            |late| ledger().compare(&holdings(&[("a", 0, window(9, 0)), ("a", 10, window(10, late))])).lost;
        assert_eq!((lost(0), lost(1)), (1, 0));
    }

    #[test]
    fn a_window_delivered_twice_is_noticed() {
        // Goal: the same window twice, and a window of a series nobody sent, are counted as twice.
        let full = [("a", 0, window(10, 0)), ("a", 0, window(10, 0)), ("a", 10, window(10, 0))];
        assert_eq!(ledger().compare(&holdings(&full)).counted_twice, 10);
        assert_eq!(ledger().compare(&holdings(&[("b", 0, window(1, 0))])).counted_twice, 1);
    }

    #[test]
    fn nothing_at_the_hub_is_all_lost() {
        // Goal: silence is not success.
        assert_eq!(ledger().compare(&Holdings::default()).lost, 20);
    }
}
