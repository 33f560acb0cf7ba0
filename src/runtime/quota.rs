//! What a component may take of what all share, as rates: time of the pipeline's thread, readings, alarms. Pure.
//!
//! Five buckets, refilled by the passing of time, each full at [`BURST`] worth of its rate. What goes beyond:
//! ```text
//! time in calls    ─▶ the next batch falls back, as if the component had failed
//! readings in      ─▶ likewise
//! readings out     ─▶ those beyond are dropped
//! alarms           ─▶ likewise
//! commands         ─▶ refused when they are given
//! ```
//! Time is that on the clock and not the processor's: it is what other streams wait for.

use std::time::Duration;

use crate::sample::{Nanos, SECOND};

/// What a rate may be ahead of itself: ten seconds' worth. A link that was away for some seconds delivers them at once, and
/// so does a replay after a crash.
const BURST: i64 = 10;

/// Highest rate of a bucket: a burst of it, in billionths, is still a number of 64 bits. What is configured beyond it, no
/// component comes near.
const RATE_MAX: i64 = i64::MAX / SECOND / BURST;

/// Nanoseconds in a token of time, so that all the time there is stays below [`RATE_MAX`].
const TIME_TOKEN: Nanos = 10;

/// Rates, each a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rates {
    /// Share of the time that calls may take, per cent.
    pub(crate) share_percent: u8,
    /// Readings given to it.
    pub(crate) readings_in: u32,
    /// Readings it gives back beyond as many as it was given.
    pub(crate) readings_out: u32,
    /// Alarms it raises or clears.
    pub(crate) alarms: u32,
    /// Commands it gives.
    pub(crate) commands: u32,
}

/// The buckets of one component.
#[derive(Debug, Clone)]
pub(crate) struct Quota {
    time: Bucket,
    readings_in: Bucket,
    readings_out: Bucket,
    alarms: Bucket,
    commands: Bucket,
    /// The clock as of the last refill.
    now: Option<Nanos>,
}

/// What is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    /// Time in calls.
    Share,
    /// Readings.
    Rate,
}

#[derive(Debug, Clone)]
struct Bucket {
    /// Billionths of a token; below zero it is in debt.
    level: i64,
    /// Tokens a second, which are billionths a nanosecond.
    rate: i64,
}

// === impl Rates ===

impl Rates {
    /// Nothing at all.
    pub(crate) const NONE: Rates =
        Rates { share_percent: 0, readings_in: 0, readings_out: 0, alarms: 0, commands: 0 };
}

// === impl Quota ===

impl Quota {
    /// Full buckets.
    pub(crate) fn new(rates: Rates) -> Quota {
        let share = i64::from(rates.share_percent) * (SECOND / TIME_TOKEN) / 100;
        Quota {
            time: Bucket::full(share),
            readings_in: Bucket::full(rates.readings_in.into()),
            readings_out: Bucket::full(rates.readings_out.into()),
            alarms: Bucket::full(rates.alarms.into()),
            commands: Bucket::full(rates.commands.into()),
            now: None,
        }
    }

    /// Adds what the time since the last call has earned. A clock that goes back earns nothing.
    pub(crate) fn refill(&mut self, now: Nanos) {
        let since = now.saturating_sub(self.now.unwrap_or(now)).max(0);
        self.now = Some(now);
        let Quota { time, readings_in, readings_out, alarms, commands, .. } = self;
        for bucket in [time, readings_in, readings_out, alarms, commands] {
            bucket.earn(since);
        }
    }

    /// Whether the component may be called, and with how many readings is not asked: the batch that empties a bucket is
    /// worked on, and paid for by those after it.
    pub(crate) fn admits(&self) -> Result<(), Excess> {
        match (self.time.has_any(), self.readings_in.has_any()) {
            (false, _) => Err(Excess::Share),
            (_, false) => Err(Excess::Rate),
            (true, true) => Ok(()),
        }
    }

    /// It is given readings, and may give back as many.
    pub(crate) fn give(&mut self, readings: usize) {
        self.readings_in.charge(tokens(readings));
        // Of these it may use all, however many came at once; the next refill takes back what is beyond the burst.
        self.readings_out.charge(-tokens(readings));
    }

    /// It has taken time.
    pub(crate) fn spend(&mut self, time: Duration) {
        let nanos = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        self.time.charge(nanos.saturating_mul(SECOND / TIME_TOKEN));
    }

    /// How many of the readings it gives back are taken.
    pub(crate) fn take_readings(&mut self, readings: usize) -> usize {
        self.readings_out.take(readings)
    }

    /// How many commands it may give now.
    pub(crate) fn commands(&self) -> usize {
        self.commands.whole()
    }

    /// It has given so many.
    pub(crate) fn take_commands(&mut self, commands: usize) {
        self.commands.take(commands);
    }

    /// How many of its alarms are taken.
    pub(crate) fn take_alarms(&mut self, alarms: usize) -> usize {
        self.alarms.take(alarms)
    }
}

// === impl Bucket ===

impl Bucket {
    fn full(rate: i64) -> Bucket {
        let rate = rate.min(RATE_MAX);
        Bucket { level: rate * SECOND * BURST, rate }
    }

    fn earn(&mut self, since: Nanos) {
        let earned = self.rate.saturating_mul(since);
        self.level = self.level.saturating_add(earned).min(self.rate * SECOND * BURST);
    }

    fn has_any(&self) -> bool {
        self.level > 0
    }

    fn charge(&mut self, billionths: i64) {
        self.level = self.level.saturating_sub(billionths);
    }

    fn whole(&self) -> usize {
        usize::try_from(self.level.max(0) / SECOND).unwrap_or(usize::MAX)
    }

    /// As many of `count` as there are tokens for.
    fn take(&mut self, count: usize) -> usize {
        let taken = count.min(self.whole());
        self.charge(tokens(taken));
        taken
    }
}

/// So many tokens in billionths. Of what is in memory there are never more than fit.
fn tokens(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates =
        Rates { share_percent: 25, readings_in: 1_000, readings_out: 100, alarms: 10, commands: 1 };

    fn quota() -> Quota {
        let mut quota = Quota::new(RATES);
        quota.refill(0);
        quota
    }

    #[test]
    fn a_component_that_takes_all_the_time_gets_its_share_of_it() {
        // Goal: over a minute, a quarter of the time and the burst. Method: it is called whenever it may be, 100 ms each time.
        let mut quota = quota();
        let (mut now, mut spent) = (0, Duration::ZERO);
        let call = Duration::from_millis(100);
        while now < 60 * SECOND {
            quota.refill(now);
            if quota.admits().is_ok() {
                quota.spend(call);
                spent += call;
            } else {
                assert_eq!(quota.admits(), Err(Excess::Share));
            }
            now += SECOND / 10;
        }
        let expected = Duration::from_millis(60_000 / 4 + 10_000 / 4);
        assert!(spent.abs_diff(expected) <= 2 * call, "{spent:?}");
    }

    #[test]
    fn readings_in_beyond_the_rate_are_not_admitted_until_time_has_paid_for_them() {
        // Goal: the burst, then the rate. Method: 30,000 at once are 20,000 more than the burst: twenty seconds.
        let mut quota = quota();
        assert_eq!(quota.admits(), Ok(()));
        quota.give(30_000);
        assert_eq!(quota.admits(), Err(Excess::Rate));
        quota.refill(20 * SECOND);
        assert_eq!(quota.admits(), Err(Excess::Rate));
        quota.refill(20 * SECOND + 1);
        assert_eq!(quota.admits(), Ok(()));
        quota.refill(1_000 * SECOND);
        quota.give(10_000);
        assert_eq!(quota.admits(), Err(Excess::Rate), "no more than the burst is saved up");
    }

    #[test]
    fn readings_out_are_as_many_as_were_given_and_some_more() {
        // Goal: a component that gives back what it was given, or saves it up, is not cut; one that multiplies is. Method:
        // ten seconds of each.
        let mut quota = quota();
        assert_eq!(quota.take_readings(1_000), 1_000);
        assert_eq!(quota.take_readings(1), 0);
        quota.give(8_000);
        assert_eq!(quota.take_readings(10_000), 8_000);
        for second in 1..=10 {
            quota.refill(second * SECOND);
            quota.give(100);
            assert_eq!(quota.take_readings(400), 200, "100 given, 100 more");
        }
    }

    #[test]
    fn alarms_beyond_the_rate_are_not_taken() {
        // Goal: a storm of a hundred at once is told, and ten a second after that.
        let mut quota = quota();
        assert_eq!(quota.take_alarms(150), 100);
        quota.refill(SECOND / 2);
        assert_eq!(quota.take_alarms(150), 5);
    }

    #[test]
    fn commands_are_as_many_as_the_rate_has_paid_for() {
        // Goal: ten at once, then one a second.
        let mut quota = quota();
        assert_eq!(quota.commands(), 10);
        quota.take_commands(10);
        assert_eq!(quota.commands(), 0);
        quota.refill(SECOND);
        assert_eq!(quota.commands(), 1);
    }

    #[test]
    fn a_clock_at_its_ends_does_no_harm() {
        // Goal: no overflow, and nothing earned by going back. Method: both ends, and the longest call.
        let mut quota = Quota::new(Rates {
            share_percent: 100,
            readings_in: u32::MAX,
            readings_out: u32::MAX,
            alarms: 0,
            commands: 0,
        });
        for now in [i64::MAX, i64::MIN, i64::MAX, 0] {
            quota.refill(now);
            quota.spend(Duration::MAX);
            quota.give(usize::MAX);
        }
        assert_eq!(quota.take_alarms(1), 0);
        assert_eq!(quota.admits(), Err(Excess::Share));
    }
}
