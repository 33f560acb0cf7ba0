//! The rules at work: what is known of each series, and what a batch of readings does to it.

use std::collections::VecDeque;

use kit::linear::Linear;

use crate::rules::{Limit, Measure, Rules, Side};

/// No series has this place in [`Monitor::series`].
const NOWHERE: u32 = u32::MAX;

/// Earlier readings kept for each change that is watched: spaced by this part of its time, so that the one compared with is
/// between one and one and a quarter times as old, or the last before that.
const STEPS: i64 = 4;

/// Most of them: the steps, the one before, and one for rounding.
const PAST_MAX: usize = STEPS as usize + 2;

/// Everything the component knows.
#[derive(Debug, Default)]
pub struct Monitor {
    rules: Rules,
    /// Place in `series` by number; numbers are counted up, so this is short.
    places: Vec<u32>,
    series: Vec<Watched>,
    /// What a snapshot said, sorted by number. Of series announced since then the newest time is `i64::MIN` here.
    kept: Vec<Kept>,
}

/// What outlives an instance, of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Number of the series.
    pub id: u32,
    /// Time of the newest reading judged.
    pub newest: i64,
    /// Names of the active alarms, in the order of the rules.
    pub active: Vec<String>,
    /// What changes are compared with: name of the alarm, and readings from old to new.
    pub past: Vec<(String, Vec<Reading>)>,
}

/// A reading of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// When.
    pub time: i64,
    /// Calibrated.
    pub value: f64,
}

/// Columns of readings; all of one length.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Numbers of series.
    pub series: &'a [u32],
    /// Times.
    pub times: &'a [i64],
    /// Values.
    pub values: &'a [f64],
}

/// What a batch came to.
#[derive(Debug, Default, PartialEq)]
pub struct Verdict {
    /// `None` when no row was calibrated.
    pub calibrated: Option<Calibrated>,
    /// Alarms, in the order of the rows.
    pub events: Vec<Event>,
}

/// A batch of which rows were calibrated.
#[derive(Debug, PartialEq)]
pub struct Calibrated {
    /// All values.
    pub values: Vec<f64>,
    /// The rows that were calibrated, ascending.
    pub rows: Vec<u32>,
}

/// An alarm comes or goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Number of the series.
    pub series: u32,
    /// Time of the reading.
    pub time: i64,
    /// Whether it comes.
    pub raised: bool,
    /// Name of the alarm.
    pub name: String,
    /// For people.
    pub message: String,
    /// The calibrated value.
    pub value: f64,
}

#[derive(Debug)]
struct Watched {
    name: String,
    unit: String,
    calibration: Option<Linear>,
    newest: i64,
    watches: Vec<Watch>,
    /// Alarms that a snapshot holds active and no rule knows any more.
    orphans: Vec<String>,
}

#[derive(Debug)]
struct Watch {
    /// Place in [`Rules::alarms`].
    rule: usize,
    limit: Limit,
    active: bool,
    /// Of a change: earlier readings, from old to new.
    past: VecDeque<Reading>,
}

// === impl Monitor ===

impl Monitor {
    /// Begins with no state.
    pub fn new(rules: Rules) -> Monitor {
        Monitor { rules, ..Monitor::default() }
    }

    /// Takes the state of an earlier instance. Before the first series is announced.
    pub fn restore(&mut self, mut kept: Vec<Kept>) {
        kept.sort_unstable_by_key(|kept| kept.id);
        self.kept = kept;
    }

    /// The state: of the series at work, and of those that have not come back yet.
    pub fn state(&self) -> Vec<Kept> {
        let mut state: Vec<Kept> = self.kept.iter().filter(|kept| kept.newest != i64::MIN).cloned().collect();
        let placed = self.places.iter().enumerate().filter(|(_, place)| **place != NOWHERE);
        for (id, place) in placed {
            let series = &self.series[*place as usize];
            if series.newest == i64::MIN {
                continue;
            }
            let active = series.watches.iter().filter(|watch| watch.active);
            let names = active.map(|watch| self.rules.alarms[watch.rule].name.clone());
            let active = names.chain(series.orphans.iter().cloned()).collect();
            let remembering = series.watches.iter().filter(|watch| !watch.past.is_empty());
            let past = remembering.map(|watch| {
                (self.rules.alarms[watch.rule].name.clone(), watch.past.iter().copied().collect())
            });
            state.push(Kept { id: id as u32, newest: series.newest, active, past: past.collect() });
        }
        state
    }

    /// A series that will have readings.
    pub fn announce(&mut self, id: u32, name: String, unit: String) {
        let (newest, mut orphans, mut past) = match self.kept.binary_search_by_key(&id, |kept| kept.id) {
            Ok(at) => {
                let kept = &mut self.kept[at];
                let newest = std::mem::replace(&mut kept.newest, i64::MIN);
                (newest, std::mem::take(&mut kept.active), std::mem::take(&mut kept.past))
            }
            Err(_) => (i64::MIN, Vec::new(), Vec::new()),
        };
        let mut watches = Vec::new();
        for (rule, alarm) in self.rules.alarms.iter().enumerate() {
            if let Some(limit) = alarm.limit(&name) {
                let before = orphans.len();
                orphans.retain(|active| *active != alarm.name);
                let known = past.iter_mut().find(|(name, _)| *name == alarm.name);
                let past = match limit.of {
                    Measure::Value => VecDeque::new(),
                    Measure::Change { .. } => {
                        known.map(|(_, past)| std::mem::take(past)).unwrap_or_default().into()
                    }
                };
                watches.push(Watch { rule, limit, active: orphans.len() < before, past });
            }
        }
        let calibration = self.rules.calibration(&name);
        let at = id as usize;
        if self.places.len() <= at {
            self.places.resize(at + 1, NOWHERE);
        }
        self.places[at] = self.series.len() as u32;
        self.series.push(Watched { name, unit, calibration, newest, watches, orphans });
    }

    /// Works on a batch.
    pub fn judge(&mut self, rows: Rows<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        let columns = rows.series.iter().zip(rows.times).zip(rows.values).enumerate();
        for (row, ((&id, &time), &raw)) in columns {
            let place = self.places.get(id as usize).copied().unwrap_or(NOWHERE);
            let Some(series) = self.series.get_mut(place as usize) else { continue };
            let mut value = raw;
            if let Some(linear) = series.calibration {
                value = linear.apply(raw);
                let calibrated = verdict.calibrated.get_or_insert_with(|| Calibrated {
                    values: rows.values.to_vec(),
                    rows: Vec::with_capacity(rows.values.len()),
                });
                calibrated.values[row] = value;
                calibrated.rows.push(row as u32);
            }
            if series.has_limits() && time >= series.newest && value.is_finite() {
                series.newest = time;
                series.hold_against(&self.rules, Sample { id, time, value }, &mut verdict.events);
            }
        }
        verdict
    }
}

/// One reading, calibrated.
#[derive(Clone, Copy)]
struct Sample {
    id: u32,
    time: i64,
    value: f64,
}

// === impl Watched ===

impl Watched {
    fn has_limits(&self) -> bool {
        !(self.watches.is_empty() && self.orphans.is_empty())
    }

    fn hold_against(&mut self, rules: &Rules, sample: Sample, events: &mut Vec<Event>) {
        let Sample { id, time, value } = sample;
        let (series, unit) = (&self.name, &self.unit);
        let space = if unit.is_empty() { "" } else { " " };
        for name in self.orphans.drain(..) {
            let message = format!("{series} has no limit {name:?} any more");
            events.push(Event { series: id, time, raised: false, name, message, value });
        }
        for watch in &mut self.watches {
            let rule = &rules.alarms[watch.rule];
            let Some(measured) = watch.measure(Reading { time, value }) else { continue };
            let Some(raised) = watch.limit.judge(rule.side, watch.active, measured) else { continue };
            watch.active = raised;
            let relation = match (raised, rule.side) {
                (true, Side::High) => format!("above {}", watch.limit.at),
                (true, Side::Low) => format!("below {}", watch.limit.at),
                (false, Side::High) => format!("not above {} any more", watch.limit.back_at(rule.side)),
                (false, Side::Low) => format!("not below {} any more", watch.limit.back_at(rule.side)),
            };
            let message = match watch.limit.of {
                Measure::Value => format!("{series} is {value}{space}{unit}, {relation}"),
                Measure::Change { over } => {
                    let seconds = over as f64 / 1e9;
                    format!("{series} changes by {measured}{space}{unit} in {seconds} s, {relation}")
                }
            };
            events.push(Event { series: id, time, raised, name: rule.name.clone(), message, value });
        }
    }
}

// === impl Watch ===

impl Watch {
    /// What is held against the limit; `None` until there is something to compare with.
    fn measure(&mut self, now: Reading) -> Option<f64> {
        let Measure::Change { over } = self.limit.of else { return Some(now.value) };
        let old_enough = |reading: &Reading| now.time.saturating_sub(reading.time) >= over;
        while self.past.get(1).is_some_and(old_enough) {
            self.past.pop_front();
        }
        let change = self.past.front().filter(|reading| old_enough(reading)).map(|then| {
            // After a gap the one compared with is older than wanted.
            (now.value - then.value) * (over as f64 / now.time.saturating_sub(then.time) as f64)
        });
        let due = self.past.back().is_none_or(|last| now.time.saturating_sub(last.time) >= over / STEPS);
        if due && self.past.len() < PAST_MAX {
            self.past.push_back(now);
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn monitor(options: &[(&str, &str)]) -> Monitor {
        let options: Vec<_> = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Monitor::new(Rules::parse(&options).unwrap())
    }

    fn judge(monitor: &mut Monitor, rows: &[(u32, i64, f64)]) -> Verdict {
        let series: Vec<u32> = rows.iter().map(|row| row.0).collect();
        let times: Vec<i64> = rows.iter().map(|row| row.1).collect();
        let values: Vec<f64> = rows.iter().map(|row| row.2).collect();
        monitor.judge(Rows { series: &series, times: &times, values: &values })
    }

    fn edges(verdict: &Verdict) -> Vec<(u32, i64, bool, &str)> {
        verdict.events.iter().map(|e| (e.series, e.time, e.raised, e.name.as_str())).collect()
    }

    #[test]
    fn an_alarm_comes_once_and_goes_once() {
        // Goal: one event for each crossing, with hysteresis. Method: up, hover, down, up.
        let mut monitor = monitor(&[("high", "t: 80, hysteresis 2")]);
        monitor.announce(7, "t".into(), "°C".into());
        let verdict = judge(
            &mut monitor,
            &[(7, 1, 79.0), (7, 2, 80.5), (7, 3, 79.0), (7, 4, 81.0), (7, 5, 78.0), (7, 6, 90.0)],
        );
        assert_eq!(verdict.calibrated, None);
        assert_eq!(edges(&verdict), [(7, 2, true, "high"), (7, 5, false, "high"), (7, 6, true, "high")]);
        assert_eq!(verdict.events[0].message, "t is 80.5 °C, above 80");
        assert_eq!(verdict.events[1].message, "t is 78 °C, not above 78 any more");
    }

    #[test]
    fn limits_are_in_calibrated_units_and_other_series_stay_as_they_are() {
        // Goal: calibration comes first and touches only its series. Method: two series in one batch.
        let mut monitor = monitor(&[("calibrate", "raw: scale 0.1, offset -40"), ("low", "raw: 0")]);
        monitor.announce(1, "raw".into(), String::new());
        monitor.announce(2, "other".into(), String::new());
        let verdict = judge(&mut monitor, &[(2, 1, 5.0), (1, 1, 500.0), (1, 2, 390.0)]);
        let calibrated = verdict.calibrated.as_ref().unwrap();
        assert_eq!(calibrated.rows, [1, 2]);
        assert_eq!(calibrated.values, [5.0, 500.0 * 0.1 - 40.0, 390.0 * 0.1 - 40.0]);
        assert_eq!(edges(&verdict), [(1, 2, true, "low")]);
    }

    #[test]
    fn a_late_reading_raises_and_clears_nothing() {
        // Goal: alarms do not go back in time. Method: a reading older than the newest one, beyond the limit.
        let mut monitor = monitor(&[("high", "*: 10")]);
        monitor.announce(1, "t".into(), String::new());
        assert_eq!(edges(&judge(&mut monitor, &[(1, 100, 5.0), (1, 50, 99.0)])), []);
        assert_eq!(edges(&judge(&mut monitor, &[(1, 100, 11.0)])), [(1, 100, true, "high")]);
    }

    #[test]
    fn state_survives_and_alarms_without_a_rule_are_cleared() {
        // Goal: a restored monitor goes on where the old one stopped; an alarm whose rule has gone ends. Method: restore
        // under the same rules and under others; in between the state of an unannounced series is kept.
        let mut first = monitor(&[("high", "*: 10, hysteresis 1"), ("high.hot", "*: 20")]);
        first.announce(3, "t".into(), String::new());
        judge(&mut first, &[(3, 1, 25.0)]);
        let state = first.state();
        let active = vec!["high".into(), "high.hot".into()];
        assert_eq!(state, [Kept { id: 3, newest: 1, active, past: vec![] }]);

        let mut same = monitor(&[("high", "*: 10, hysteresis 1"), ("high.hot", "*: 20")]);
        same.restore(state.clone());
        assert_eq!(same.state(), state);
        same.announce(3, "t".into(), String::new());
        assert_eq!(same.state(), state);
        assert_eq!(edges(&judge(&mut same, &[(3, 2, 25.0), (3, 3, 15.0)])), [(3, 3, false, "high.hot")]);

        let mut other = monitor(&[("high", "*: 10, hysteresis 1")]);
        other.restore(state);
        other.announce(3, "t".into(), String::new());
        assert_eq!(
            edges(&judge(&mut other, &[(3, 2, 25.0), (3, 3, 9.0)])),
            [(3, 2, false, "high.hot"), (3, 3, false, "high")]
        );
    }

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn a_jump_is_seen_within_its_time_and_a_slow_rise_is_not() {
        // Goal: the rate counts, not the value, however often the sensor speaks. Method: a ramp of 1 a second for a minute,
        // then 20 within 2 s, then rest; ten readings a second, and one every 2 s.
        for spacing in [SECOND / 10, 2 * SECOND] {
            let mut monitor = monitor(&[("rise", "t: 15 per 10s, hysteresis 5")]);
            monitor.announce(1, "t".into(), "K".into());
            let value = |time: i64| {
                let t = time as f64 / 1e9;
                match time / SECOND {
                    0..60 => t,
                    60..62 => 60.0 + 10.0 * (t - 60.0),
                    _ => 80.0,
                }
            };
            let times = (0..).map(|n| n * spacing).take_while(|time| *time < 120 * SECOND);
            let rows: Vec<_> = times.map(|time| (1, time, value(time))).collect();
            let verdict = judge(&mut monitor, &rows);
            let [raised, cleared] = &verdict.events[..] else { panic!("{spacing}: {:?}", verdict.events) };
            assert!(raised.raised && (60 * SECOND..=62 * SECOND).contains(&raised.time), "{raised:?}");
            assert!(!cleared.raised && (70 * SECOND..=75 * SECOND).contains(&cleared.time), "{cleared:?}");
            assert!(
                raised.message.starts_with("t changes by ")
                    && raised.message.ends_with(" K in 10 s, above 15"),
                "{}",
                raised.message
            );
        }
    }

    #[test]
    fn a_fall_over_a_gap_is_spread_over_the_gap() {
        // Goal: a sensor that was silent for a minute has not fallen within a second. Method: 30 less after 60 s, with a limit
        // of 10 in 10 s; then 30 less in 10 s.
        let mut monitor = monitor(&[("fall", "*: 10 per 10s")]);
        monitor.announce(1, "t".into(), String::new());
        let rows = [(1, 0, 100.0), (1, 60 * SECOND, 70.0), (1, 70 * SECOND, 40.0)];
        assert_eq!(edges(&judge(&mut monitor, &rows)), [(1, 70 * SECOND, true, "fall")]);
    }

    #[test]
    fn what_a_change_is_compared_with_survives() {
        // Goal: a restored monitor says what the old one would have said, and memory stays bounded. Method: a thousand
        // readings in two monitors, one of them replaced by its own state after each.
        let options = [("fall", "*: 3 per 1s, hysteresis 1"), ("rise", "*: 3 per 1s, hysteresis 1")];
        let mut whole = monitor(&options);
        whole.announce(1, "t".into(), String::new());
        let mut seen = 0;
        let mut state = Vec::new();
        for n in 0..1_000_i64 {
            let row = (1, n * 37_000_000, ((n * n) % 23) as f64 * 0.7);
            let expected = judge(&mut whole, &[row]);
            let mut piece = monitor(&options);
            piece.restore(state);
            piece.announce(1, "t".into(), String::new());
            assert_eq!(judge(&mut piece, &[row]), expected, "reading {n}");
            state = piece.state();
            assert_eq!(state, whole.state());
            assert!(state[0].past.iter().all(|(_, past)| past.len() <= PAST_MAX));
            seen += expected.events.len();
        }
        assert!(seen > 10, "the series was meant to be restless: {seen} events");
    }
}
