//! Points with straight lines between them.

use kit::options::number;

/// Most points of one table. Certificates of sensors have ten to thirty.
const POINTS_MAX: usize = 256;

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// What is read and what it means, by what is read. At least two.
    points: Vec<(f64, f64)>,
    /// What becomes of readings beyond the ends.
    pub beyond: Beyond,
}

/// What becomes of readings beyond the ends of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// The first and the last line go on.
    Extends,
    /// The values at the ends stay.
    Holds,
}

// === impl Table ===

impl Table {
    /// Takes points in any order.
    pub fn new(mut points: Vec<(f64, f64)>) -> Result<Table, String> {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if !(2..=POINTS_MAX).contains(&points.len()) {
            return Err(format!("a table has 2 to {POINTS_MAX} points, this one has {}", points.len()));
        }
        if let Some(at) = points.windows(2).position(|pair| pair[0].0 == pair[1].0) {
            // By its place: code that writes floats would be a tenth of the component.
            return Err(format!("points {} and {} are for the same reading", at + 1, at + 2));
        }
        Ok(Table { points, beyond: Beyond::Extends })
    }

    /// What a reading means.
    pub fn look_up(&self, raw: f64) -> f64 {
        let last = self.points.len() - 1;
        let right = self.points.partition_point(|point| point.0 < raw);
        if self.beyond == Beyond::Holds && (right == 0 || right > last) {
            return self.points[right.min(last)].1;
        }
        // On a point the value is the point's, without the rounding of the line that ends there.
        if let Some(point) = self.points.get(right).filter(|point| point.0 == raw) {
            return point.1;
        }
        let right = right.clamp(1, last);
        let ((x0, y0), (x1, y1)) = (self.points[right - 1], self.points[right]);
        y0 + (raw - x0) * ((y1 - y0) / (x1 - x0))
    }
}

/// One point, `RAW = VALUE`.
pub fn point(text: &str) -> Result<(f64, f64), String> {
    let (raw, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not `RAW = VALUE`"))?;
    Ok((number(raw)?, number(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_points_lines_are_straight_and_beyond_they_go_on_or_hold() {
        // Goal: what the documentation says, at, between, and beyond the points. Method: a bent table given in disorder.
        let mut table = Table::new(vec![(20.0, 4.0), (4.0, 0.0), (12.0, 1.0)]).unwrap();
        let expected = [(4.0, 0.0), (8.0, 0.5), (12.0, 1.0), (16.0, 2.5), (20.0, 4.0)];
        let beyond = [(0.0, -0.5, 0.0), (24.0, 5.5, 4.0)];
        for (raw, value) in expected {
            assert_eq!(table.look_up(raw), value, "{raw}");
        }
        for (raw, extended, _) in beyond {
            assert_eq!(table.look_up(raw), extended, "{raw}");
        }
        table.beyond = Beyond::Holds;
        for (raw, value) in expected.into_iter().chain(beyond.map(|(raw, _, held)| (raw, held))) {
            assert_eq!(table.look_up(raw), value, "{raw}");
        }
    }

    #[test]
    fn a_point_keeps_its_value_to_the_last_digit() {
        // Goal: a certificate's values come back as they stand there. Method: points that a line would round.
        let points: Vec<_> = (0..30).map(|n| (f64::from(n) / 3.0, 0.1 + f64::from(n * n) / 7.0)).collect();
        let table = Table::new(points.clone()).unwrap();
        for (raw, value) in points {
            assert_eq!(table.look_up(raw), value, "{raw}");
        }
    }

    #[test]
    fn a_table_that_says_two_things_or_too_little_is_refused() {
        // Goal: no guess is made. Method: none, one, one twice, too many.
        for (points, said) in [
            (vec![], "this one has 0"),
            (vec![(1.0, 1.0)], "this one has 1"),
            (vec![(1.0, 1.0), (2.0, 0.0), (1.0, 2.0)], "points 1 and 2 are for the same reading"),
            ((0..257).map(|n| (f64::from(n), 0.0)).collect(), "this one has 257"),
        ] {
            let error = Table::new(points).unwrap_err();
            assert!(error.contains(said), "{error:?} does not say {said:?}");
        }
        assert!(point("4").unwrap_err().contains("RAW = VALUE"));
        assert!(point("4 = warm").unwrap_err().contains("not a number"));
        assert_eq!(point("4=-1e3"), Ok((4.0, -1000.0)));
    }
}
