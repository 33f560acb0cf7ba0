//! The rules at work: what becomes of each series, and of a batch of readings.

use crate::rules::{Rules, Treatment};

/// No series has this place in [`Calibrator::series`].
const NOWHERE: u32 = u32::MAX;

/// Everything the component knows.
#[derive(Debug)]
pub struct Calibrator {
    rules: Rules,
    /// Place in `series` by number; numbers are counted up, so this is short.
    places: Vec<u32>,
    series: Vec<Treated>,
}

/// Columns of readings, as they come and as they go; all of one length.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// Numbers of series.
    pub series: Vec<u32>,
    /// Values.
    pub values: Vec<f64>,
}

/// What a batch came to.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// All its readings pass as they came.
    Unchanged,
    /// They became others.
    Changed {
        /// All readings, row by row.
        rows: Rows,
        /// The rows that changed, ascending.
        changed: Vec<u32>,
    },
}

#[derive(Debug)]
struct Treated {
    treatment: Treatment,
    /// The series they go on under.
    target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// Their own.
    Own,
    /// One that is registered with the first reading.
    Unregistered,
    /// One that was registered.
    Other(u32),
    /// One that the gateway gives no number for: they pass as they came.
    Refused,
}

// === impl Calibrator ===

impl Calibrator {
    /// Begins with no series.
    pub fn new(rules: Rules) -> Calibrator {
        Calibrator { rules, places: Vec::new(), series: Vec::new() }
    }

    /// A series that will have readings. The error says why it passes as it comes although an option fits it.
    pub fn announce(&mut self, id: u32, name: &str, unit: &str) -> Result<(), String> {
        let Some(treatment) = self.rules.treatment(name, unit)? else { return Ok(()) };
        let at = id as usize;
        if self.places.len() <= at {
            self.places.resize(at + 1, NOWHERE);
        }
        self.places[at] = self.series.len() as u32;
        let target = if treatment.other.is_some() { Target::Unregistered } else { Target::Own };
        self.series.push(Treated { treatment, target });
        Ok(())
    }

    /// Works on a batch. `register` gives the number of a series by name and unit.
    pub fn calibrate(
        &mut self,
        batch: &Rows,
        mut register: impl FnMut(&str, &str) -> Option<u32>,
    ) -> Verdict {
        let mut verdict = Verdict::Unchanged;
        for (row, (&id, &value)) in batch.series.iter().zip(&batch.values).enumerate() {
            let place = self.places.get(id as usize).copied().unwrap_or(NOWHERE);
            let Some(series) = self.series.get_mut(place as usize) else { continue };
            let Some(target) = series.target(id, &mut register) else { continue };
            if verdict == Verdict::Unchanged {
                let changed = Vec::with_capacity(batch.values.len());
                verdict = Verdict::Changed { rows: batch.clone(), changed };
            }
            let Verdict::Changed { rows, changed } = &mut verdict else { continue };
            rows.series[row] = target;
            rows.values[row] = series.treatment.apply(value);
            changed.push(row as u32);
        }
        verdict
    }
}

// === impl Treated ===

impl Treated {
    /// The number its readings go on under.
    fn target(&mut self, own: u32, register: &mut impl FnMut(&str, &str) -> Option<u32>) -> Option<u32> {
        if self.target == Target::Unregistered
            && let Some((name, unit)) = &self.treatment.other
        {
            self.target = register(name, unit).map_or(Target::Refused, Target::Other);
        }
        match self.target {
            Target::Own => Some(own),
            Target::Other(id) => Some(id),
            Target::Unregistered | Target::Refused => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibrator(options: &[(&str, &str)]) -> Calibrator {
        let options: Vec<_> = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Calibrator::new(Rules::parse(&options).unwrap())
    }

    fn rows(rows: &[(u32, f64)]) -> Rows {
        Rows {
            series: rows.iter().map(|row| row.0).collect(),
            values: rows.iter().map(|row| row.1).collect(),
        }
    }

    #[test]
    fn only_the_series_named_change_and_a_batch_without_them_passes() {
        // Goal: nothing else is touched, and nothing is copied for nothing. Method: series that stay, change in place, and
        // change their series, mixed.
        let mut calibrator = calibrator(&[("linear", "raw: scale 2"), ("convert", "f: °F to °C")]);
        for (id, name) in [(1, "other"), (2, "raw"), (3, "f")] {
            calibrator.announce(id, name, "").unwrap();
        }
        let mut asked = Vec::new();
        let mut register = |name: &str, unit: &str| {
            asked.push((name.to_owned(), unit.to_owned()));
            Some(9)
        };
        assert_eq!(calibrator.calibrate(&rows(&[(1, 5.0), (7, 1.0)]), &mut register), Verdict::Unchanged);
        let batch = rows(&[(1, 5.0), (2, 5.0), (3, 212.0), (7, 1.0), (3, 32.0)]);
        let expected = rows(&[(1, 5.0), (2, 10.0), (9, 100.0), (7, 1.0), (9, 0.0)]);
        let changed = Verdict::Changed { rows: expected, changed: vec![1, 2, 4] };
        assert_eq!(calibrator.calibrate(&batch, &mut register), changed);
        assert_eq!(calibrator.calibrate(&batch, &mut register), changed);
        assert_eq!(asked, [("f/calibrated".to_owned(), "°C".to_owned())]);
    }

    #[test]
    fn without_a_number_readings_pass_as_they_came() {
        // Goal: no value stands under a unit that is not its own, and none is lost. Method: a gateway that refuses, asked once.
        let mut calibrator = calibrator(&[("convert", "f: °F to °C")]);
        calibrator.announce(3, "f", "").unwrap();
        let mut asked = 0;
        for _ in 0..2 {
            let refuse = |_: &str, _: &str| {
                asked += 1;
                None
            };
            assert_eq!(calibrator.calibrate(&rows(&[(3, 212.0)]), refuse), Verdict::Unchanged);
        }
        assert_eq!(asked, 1);
    }
}
