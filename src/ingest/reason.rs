//! Why a payload, or a part of it, did not become readings.

use serde::{Deserialize, Serialize};

/// Why a payload, or a part of it, did not become readings. The names are stable: counters and dashboards use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The payload breaks the rules of its format. All of it is rejected.
    Malformed,
    /// More bytes than `payload_bytes_max`, or a packet larger than `packet_bytes_max`. All of it is rejected.
    TooLarge,
    /// Nested deeper than `depth_max`. All of it is rejected.
    TooDeep,
    /// More readings than `samples_max`. All of it is rejected.
    TooManySamples,
    /// Nothing in it that could be a reading: no bytes, no fields, nulls only.
    Empty,
    /// A value that is NaN, infinite, or beyond what a double can hold.
    NotFinite,
    /// An integer beyond 64 bits with sign.
    IntegerOutOfRange,
    /// A field that holds text, or bytes.
    Text,
    /// The configured time field is not there.
    TimeMissing,
    /// The time field does not hold what its format says.
    TimeMalformed,
    /// Before 1970, after 2199, or more than a day ahead of a clock that is trusted.
    TimeOutOfRange,
    /// The series has no valid name: too long, empty, a control character, or the topic lacks a level.
    SeriesName,
    /// The stream has its `series_max` series, and this is another.
    TooManySeries,
    /// The topic is not one: not UTF-8, empty, or with a wildcard.
    InvalidTopic,
    /// No stream's filters match the topic: a subscription that the broker remembers from an earlier configuration.
    Unrouted,
    /// A copy of an old message that the broker keeps for new subscribers. It is sent again at every connection.
    Retained,
}

// === impl Reason ===

impl Reason {
    /// How many there are.
    pub const COUNT: usize = Reason::ALL.len();

    /// All, in the order of their numbers.
    pub const ALL: [Reason; 16] = [
        Reason::Malformed,
        Reason::TooLarge,
        Reason::TooDeep,
        Reason::TooManySamples,
        Reason::Empty,
        Reason::NotFinite,
        Reason::IntegerOutOfRange,
        Reason::Text,
        Reason::TimeMissing,
        Reason::TimeMalformed,
        Reason::TimeOutOfRange,
        Reason::SeriesName,
        Reason::TooManySeries,
        Reason::InvalidTopic,
        Reason::Unrouted,
        Reason::Retained,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::TooLarge => "too_large",
            Reason::TooDeep => "too_deep",
            Reason::TooManySamples => "too_many_samples",
            Reason::Empty => "empty",
            Reason::NotFinite => "not_finite",
            Reason::IntegerOutOfRange => "integer_out_of_range",
            Reason::Text => "text",
            Reason::TimeMissing => "time_missing",
            Reason::TimeMalformed => "time_malformed",
            Reason::TimeOutOfRange => "time_out_of_range",
            Reason::SeriesName => "series_name",
            Reason::TooManySeries => "too_many_series",
            Reason::InvalidTopic => "invalid_topic",
            Reason::Unrouted => "unrouted",
            Reason::Retained => "retained",
        }
    }

    /// Whether the payload that caused it is worth keeping for the operator. Text beside numbers is usual, and retained
    /// copies are nobody's fault.
    pub fn is_noteworthy(self) -> bool {
        !matches!(self, Reason::Text | Reason::Retained)
    }
}

/// How often each reason occurred within one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally([u32; Reason::COUNT]);

// === impl Tally ===

impl Default for Tally {
    fn default() -> Tally {
        Tally([0; Reason::COUNT])
    }
}

impl Tally {
    /// Adds `count` to a reason.
    pub fn add(&mut self, reason: Reason, count: usize) {
        let slot = &mut self.0[reason as usize];
        *slot = slot.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// How often a reason occurred.
    pub fn of(&self, reason: Reason) -> u32 {
        self.0[reason as usize]
    }

    /// Nothing occurred.
    pub fn is_clean(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }

    /// Reasons that occurred, with how often.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u32)> + '_ {
        Reason::ALL.into_iter().map(|reason| (reason, self.of(reason))).filter(|(_, count)| *count > 0)
    }

    /// Back to nothing.
    pub fn clear(&mut self) {
        *self = Tally::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_named_alike_everywhere() {
        // Goal: position in ALL, `name()` and serde's name agree.
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
    }
}
