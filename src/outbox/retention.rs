//! Which outputs must go, and who must wait, when the outbox is fuller than allowed. Pure.

use crate::config::FullPolicy;

use super::SubjectKey;

/// Below this part of a cap, per cent, senders that were refused may send again: without the distance, every
/// acknowledgement from the hub would open and close the door once.
const RESUME_PERCENT: u64 = 90;

/// How full one subject is, and what its stream wants done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Which.
    pub key: SubjectKey,
    /// Bytes in the outbox.
    pub bytes: u64,
    /// Cap of its stream, if it has one of its own.
    pub cap: Option<u64>,
    /// What to do at the cap.
    pub full: FullPolicy,
}

/// What follows from the fill.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Drop the oldest outputs of these until they have lost so many bytes.
    pub drop_own: Vec<(SubjectKey, u64)>,
    /// Drop the oldest outputs of all droppable subjects until so many bytes are gone, data lane first.
    pub drop_any: u64,
    /// Stop taking messages: a stream that rejects when full is full.
    pub reject: bool,
}

/// Judges the outbox. `rejecting` is the verdict before, for the distance between stopping and resuming.
pub fn judge(fills: &[Fill], bytes_max: u64, rejecting: bool) -> Verdict {
    let mut verdict = Verdict::default();
    let mut total = 0;
    let limit = |cap: u64| if rejecting { cap / 100 * RESUME_PERCENT } else { cap };
    for fill in fills {
        total += fill.bytes;
        let Some(cap) = fill.cap else { continue };
        match fill.full {
            FullPolicy::DropOldest if fill.bytes > cap => {
                verdict.drop_own.push((fill.key, fill.bytes - cap));
                total -= fill.bytes - cap;
            }
            FullPolicy::Reject if fill.bytes > limit(cap) => verdict.reject = true,
            _ => {}
        }
    }
    let droppable: u64 = fills
        .iter()
        .filter(|fill| fill.full == FullPolicy::DropOldest)
        .map(|fill| fill.cap.map_or(fill.bytes, |cap| fill.bytes.min(cap)))
        .sum();
    if total > bytes_max {
        verdict.drop_any = (total - bytes_max).min(droppable);
    }
    let refusing = fills.iter().any(|fill| fill.full == FullPolicy::Reject);
    if refusing && total - verdict.drop_any > limit(bytes_max) {
        verdict.reject = true;
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Lane, StreamId};

    fn fill(stream: u32, bytes: u64, cap: Option<u64>, full: FullPolicy) -> Fill {
        Fill { key: SubjectKey { stream: StreamId(stream), lane: Lane::Data }, bytes, cap, full }
    }

    #[test]
    fn a_stream_over_its_own_cap_loses_its_own_oldest() {
        // Goal: one stream's flood costs that stream, nobody else.
        let fills =
            [fill(1, 150, Some(100), FullPolicy::DropOldest), fill(2, 500, None, FullPolicy::DropOldest)];
        let verdict = judge(&fills, 1_000, false);
        assert_eq!(verdict.drop_own, vec![(fills[0].key, 50)]);
        assert_eq!((verdict.drop_any, verdict.reject), (0, false));
    }

    #[test]
    fn the_whole_cap_drops_only_what_may_be_dropped() {
        // Goal: outputs of a stream that rejects are never dropped; once only those are left, senders wait.
        let fills = [fill(1, 100, None, FullPolicy::DropOldest), fill(2, 1_000, None, FullPolicy::Reject)];
        let verdict = judge(&fills, 900, false);
        assert_eq!((verdict.drop_any, verdict.reject), (100, true));
    }

    #[test]
    fn senders_resume_at_a_distance_below_the_cap() {
        // Goal: no opening and closing at the edge.
        let at = |bytes, rejecting| {
            judge(&[fill(1, bytes, Some(1_000), FullPolicy::Reject)], 9_999, rejecting).reject
        };
        assert!(!at(1_000, false));
        assert!(at(1_001, false));
        assert!(at(950, true));
        assert!(!at(900, true));
    }
}
