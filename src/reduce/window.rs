//! One open window: everything its row needs, without its readings.

use std::cmp::Ordering;

use super::{Grid, TIMES_MAX, TIMES_TOTAL_MAX, Tally};
use crate::block::WindowRow;
use crate::sample::{Nanos, Reading, SeriesId, Value};

/// An open window, of at least one reading.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Window {
    pub(super) index: i64,
    /// Last instant of the window.
    pub(super) end: Nanos,
    pub(super) count: u32,
    pub(super) min: Value,
    pub(super) max: Value,
    pub(super) first: Value,
    pub(super) last: Value,
    pub(super) first_time: Nanos,
    pub(super) last_time: Nanos,
    pub(super) sum: Sum,
    pub(super) spread: Spread,
    /// Times taken, ascending: all of them, or as many as may be remembered. Empty where duplicates are not looked for.
    pub(super) times: Vec<Nanos>,
}

/// A sum that loses nothing: exact for integers, compensated (Neumaier) for floats.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Sum {
    pub(super) ints: i128,
    /// The float next to the sum of the floats, so that a sum of decimals is a decimal and small in a snapshot …
    pub(super) floats: f64,
    /// … and what is missing from it.
    pub(super) lost: f64,
    pub(super) has_floats: bool,
}

/// Welford's running variance in the form of Youngs and Cramer, which takes the sum in place of the mean; of distances
/// from the first value taken, so that counters near 2^60 keep theirs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) origin: Value,
    pub(super) squares: f64,
}

/// Whether a reading on a sensor's timeline is new to its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Novelty {
    New,
    Duplicate,
    /// Not known: the window does not remember all its times.
    Unchecked,
}

/// The order of minimum and maximum, total so that it does not matter in which order readings come: by value, exactly;
/// of equals, integers first.
pub(super) fn order(a: Value, b: Value) -> Ordering {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(&b),
        (Value::Float(a), Value::Float(b)) => a.total_cmp(&b),
        (Value::Int(a), Value::Float(b)) => order_mixed(a, b),
        (Value::Float(a), Value::Int(b)) => order_mixed(b, a).reverse(),
    }
}

fn order_mixed(int: i64, float: f64) -> Ordering {
    // Outside of this range, whose bounds are exact, a float is beyond every integer. NaN is not, but no decoder lets
    // it in; it is taken as large.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if float < -BEYOND {
        return Ordering::Greater;
    }
    if float < BEYOND {
        let whole = float.trunc();
        let by_whole = int.cmp(&(whole as i64));
        let by_rest = 0.0.partial_cmp(&(float - whole)).unwrap_or(Ordering::Equal);
        return by_whole.then(by_rest).then(Ordering::Less);
    }
    Ordering::Less
}

/// Kept apart: inlined, this slow conversion would be computed for every reading and thrown away.
#[cold]
#[inline(never)]
fn wide_as_f64(int: i128) -> f64 {
    int as f64
}

// === impl Window ===

impl Window {
    pub(super) fn new(grid: &Grid, index: i64, reading: &Reading) -> Window {
        let value = reading.value;
        let mut sum = Sum::default();
        sum.add(value);
        Window {
            index,
            end: grid.span(index).1,
            count: 1,
            min: value,
            max: value,
            first: value,
            last: value,
            first_time: reading.time,
            last_time: reading.time,
            sum,
            spread: Spread { origin: value, squares: 0.0 },
            times: Vec::new(),
        }
    }

    /// Whether `time`, of a sensor, has been taken already. What is later than everything taken is new without a search.
    pub(super) fn novelty(&self, time: Nanos) -> Novelty {
        match time.cmp(&self.last_time) {
            Ordering::Greater => Novelty::New,
            Ordering::Equal => Novelty::Duplicate,
            Ordering::Less => match self.times.binary_search(&time) {
                Ok(_) => Novelty::Duplicate,
                Err(_) if self.times.len() == self.count as usize => Novelty::New,
                Err(_) => Novelty::Unchecked,
            },
        }
    }

    /// Remembers a time that [`Window::novelty`] found new, if there is room.
    #[inline]
    pub(super) fn remember(&mut self, time: Nanos, tally: &mut Tally) {
        if self.times.len() >= TIMES_MAX || tally.remembered >= TIMES_TOTAL_MAX {
            return;
        }
        tally.remembered += 1;
        match self.times.last() {
            Some(&last) if last > time => {
                let at = self.times.partition_point(|&taken| taken < time);
                self.times.insert(at, time);
            }
            _ => self.times.push(time),
        }
    }

    /// Takes a further reading.
    #[inline]
    pub(super) fn take(&mut self, reading: &Reading) {
        let value = reading.value;
        self.count = self.count.saturating_add(1);
        match (value, self.min, self.max) {
            // Strictly between two floats: nothing to decide, and no signed zero to tell apart.
            (Value::Float(value), Value::Float(min), Value::Float(max)) if value > min && value < max => {}
            _ => self.widen(value),
        }
        // Of equal times, the first taken is the first and the last taken is the last.
        if reading.time >= self.last_time {
            (self.last_time, self.last) = (reading.time, value);
        } else if reading.time < self.first_time {
            (self.first_time, self.first) = (reading.time, value);
        }
        self.sum.add(value);
        self.spread.add(value, self.count, &self.sum);
    }

    fn widen(&mut self, value: Value) {
        if order(value, self.min) == Ordering::Less {
            self.min = value;
        }
        if order(value, self.max) == Ordering::Greater {
            self.max = value;
        }
    }

    /// The row, but for what the series knows: late readings, duplicates, gap.
    pub(super) fn row(&self, grid: &Grid, series: SeriesId) -> WindowRow {
        WindowRow {
            series,
            start: grid.span(self.index).0,
            count: self.count,
            min: self.min,
            max: self.max,
            first: self.first,
            last: self.last,
            sum: self.sum.value(),
            std_dev: self.spread.std_dev(self.count),
            late: 0,
            duplicates: 0,
            gap: 0,
        }
    }
}

// === impl Sum ===

impl Sum {
    #[inline]
    fn add(&mut self, value: Value) {
        match value {
            // 2^32 readings of 2^63 are far from the bounds of an i128.
            Value::Int(int) => self.ints += i128::from(int),
            Value::Float(float) => {
                self.has_floats = true;
                let sum = self.floats + float;
                let lost = if self.floats.abs() >= float.abs() {
                    (self.floats - sum) + float
                } else {
                    (float - sum) + self.floats
                };
                let lost = self.lost + lost;
                let total = sum + lost;
                // Beyond the largest float there is nothing to compensate: the sum stays there.
                (self.floats, self.lost) = if total.is_finite() {
                    (total, (sum - total) + lost)
                } else {
                    (f64::MAX.copysign(sum), 0.0)
                };
            }
        }
    }

    /// The sum of the distances from `origin` of all `count` values.
    #[inline]
    fn distances_from(&self, origin: Value, count: u32) -> f64 {
        match origin {
            Value::Int(origin) if !self.has_floats => {
                let distance = self.ints - i128::from(origin) * i128::from(count);
                i64::try_from(distance).map_or_else(|_| wide_as_f64(distance), |distance| distance as f64)
            }
            origin => {
                let ints = if self.ints == 0 { 0.0 } else { wide_as_f64(self.ints) };
                (self.floats - origin.as_f64() * f64::from(count)) + ints + self.lost
            }
        }
    }

    /// An integer when all values are and it fits. A sum beyond the largest float is that float.
    fn value(&self) -> Value {
        if !self.has_floats {
            return i64::try_from(self.ints).map_or(Value::Float(self.ints as f64), Value::Int);
        }
        Value::Float((self.ints as f64 + self.floats + self.lost).clamp(f64::MIN, f64::MAX))
    }
}

// === impl Spread ===

impl Spread {
    #[inline]
    fn add(&mut self, value: Value, count: u32, sum: &Sum) {
        let distance = match (value, self.origin) {
            (Value::Int(value), Value::Int(origin)) => match value.checked_sub(origin) {
                Some(distance) => distance as f64,
                None => value as f64 - origin as f64,
            },
            (value, origin) => value.as_f64() - origin.as_f64(),
        };
        let apart = f64::from(count) * distance - sum.distances_from(self.origin, count);
        self.squares += apart * apart / (f64::from(count) * f64::from(count - 1));
    }

    /// Population standard deviation. Beyond the largest single it is that.
    fn std_dev(&self, count: u32) -> f32 {
        let std_dev = (self.squares / f64::from(count)).sqrt() as f32;
        if std_dev.is_finite() { std_dev } else { f32::MAX }
    }
}
