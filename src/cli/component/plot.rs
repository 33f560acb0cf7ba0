//! Charts of a run: on a terminal with dots of braille, in a file as SVG. Own code, since a chart of at most
//! [`COLUMNS_MAX`] columns needs no more: each column keeps the smallest and the largest value that fell into it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::roster::Roster;
use crate::block::Alarm;
use crate::cli::rows::rfc3339;
use crate::sample::{Nanos, Reading, SeriesId};

/// Series that are drawn; the others are named.
const SERIES_MAX: usize = 12;

/// Points that are kept of a series; beyond, every second one is let go, and so on: 64 KiB a series.
const POINTS_MAX: usize = 4096;

/// Width and height of a chart on a terminal, in letters; a letter is two dots wide and four high.
const WIDTH: usize = 72;
const HEIGHT: usize = 6;

/// Width and height of a chart in a file, and the room around it, in pixels.
const SVG_WIDTH: f64 = 900.0;
const SVG_HEIGHT: f64 = 160.0;
const SVG_MARGIN: f64 = 28.0;

/// What is drawn.
#[derive(Debug, Default)]
pub(super) struct Plot {
    came: BTreeMap<SeriesId, Points>,
    went: BTreeMap<SeriesId, Points>,
    /// Series, time, whether raised.
    alarms: Vec<(SeriesId, Nanos, bool)>,
}

/// The readings of one series, thinned when there are too many.
#[derive(Debug, Default)]
struct Points {
    points: Vec<(Nanos, f64)>,
    /// One in so many is kept, as a power of two.
    stride: u32,
    seen: u64,
    count: u64,
}

/// What a chart shows of time and values.
#[derive(Debug, Clone, Copy)]
struct Frame {
    from: Nanos,
    to: Nanos,
    low: f64,
    high: f64,
}

// === impl Points ===

impl Points {
    fn push(&mut self, time: Nanos, value: f64) {
        self.count += 1;
        if self.seen.is_multiple_of(1 << self.stride) {
            self.points.push((time, value));
        }
        self.seen += 1;
        if self.points.len() == POINTS_MAX {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
            self.stride += 1;
        }
    }
}

// === impl Plot ===

impl Plot {
    /// What went in and came out.
    pub(super) fn take(&mut self, came: &[Reading], went: &[Reading], alarms: &[Alarm]) {
        for (side, readings) in [(&mut self.came, came), (&mut self.went, went)] {
            for reading in readings {
                side.entry(reading.series).or_default().push(reading.time, reading.value.as_f64());
            }
        }
        let alarms = alarms.iter().map(|alarm| (alarm.series, alarm.time, alarm.active));
        self.alarms.extend(alarms.take(POINTS_MAX.saturating_sub(self.alarms.len())));
    }

    /// Charts of what came out, for a terminal.
    pub(super) fn text(&self, roster: &Roster) -> String {
        let mut text = String::new();
        for (id, points) in self.went.iter().take(SERIES_MAX) {
            let frame = self.frame(points.points.iter());
            let (name, unit) = roster.named(*id);
            // Writing to a string does not fail, here and below.
            let _ =
                writeln!(text, "\n{name} {unit}: {} readings, {} to {}", points.count, frame.low, frame.high);
            for line in braille(&points.points, frame) {
                let _ = writeln!(text, "  {line}");
            }
            let marks = self.marks(*id, frame);
            if !marks.trim().is_empty() {
                let _ = writeln!(text, "  {marks}  ^ alarm raised, v cleared");
            }
        }
        self.end(&mut text);
        text
    }

    fn end(&self, text: &mut String) {
        let all = self.frame(self.went.values().flat_map(|points| &points.points));
        let left_out = self.went.len().saturating_sub(SERIES_MAX);
        if !self.went.is_empty() {
            let _ = writeln!(text, "  {} to {}", rfc3339(all.from), rfc3339(all.to));
        }
        if left_out > 0 {
            let _ = writeln!(text, "  {left_out} more series are not drawn");
        }
    }

    /// Charts of what went in, grey, and came out, blue; alarms as lines.
    pub(super) fn svg(&self, roster: &Roster) -> String {
        let mut ids: Vec<SeriesId> = self.went.keys().chain(self.came.keys()).copied().collect();
        ids.sort();
        ids.dedup();
        ids.truncate(SERIES_MAX);
        let height = (SVG_HEIGHT + SVG_MARGIN) * ids.len() as f64 + SVG_MARGIN;
        let width = SVG_WIDTH + 2.0 * SVG_MARGIN;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        for (at, id) in ids.iter().enumerate() {
            let top = SVG_MARGIN + at as f64 * (SVG_HEIGHT + SVG_MARGIN);
            self.chart(&mut svg, *id, top, roster);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn chart(&self, svg: &mut String, id: SeriesId, top: f64, roster: &Roster) {
        let of = |side: &BTreeMap<SeriesId, Points>| side.get(&id).map(|points| points.points.clone());
        let (came, went) = (of(&self.came).unwrap_or_default(), of(&self.went).unwrap_or_default());
        let frame = self.frame(came.iter().chain(&went));
        let (name, unit) = roster.named(id);
        let place = |time: Nanos, value: f64| {
            (SVG_MARGIN + SVG_WIDTH * frame.across(time), top + SVG_HEIGHT * (1.0 - frame.up(value)))
        };
        let title = escaped(&format!("{name} {unit}: {} to {}", frame.low, frame.high));
        let _ = writeln!(svg, "<text x=\"{SVG_MARGIN}\" y=\"{:.1}\">{title}</text>", top - 6.0);
        let _ = writeln!(
            svg,
            "<rect x=\"{SVG_MARGIN}\" y=\"{top}\" width=\"{SVG_WIDTH}\" height=\"{SVG_HEIGHT}\" fill=\"none\" stroke=\"#ddd\"/>"
        );
        for (points, colour, width) in [(&came, "#bbb", 2.0), (&went, "#1660b0", 1.0)] {
            let line: String = points.iter().fold(String::new(), |mut line, (time, value)| {
                let (x, y) = place(*time, *value);
                let _ = write!(line, "{x:.1},{y:.1} ");
                line
            });
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" points=\"{}\"/>",
                line.trim_end()
            );
        }
        for (_, time, raised) in self.alarms.iter().filter(|alarm| alarm.0 == id) {
            let (x, _) = place(*time, frame.low);
            let colour = if *raised { "#c22" } else { "#2a2" };
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
                top + SVG_HEIGHT
            );
        }
    }

    /// All of the run's time, and the values given.
    fn frame<'a>(&self, points: impl Iterator<Item = &'a (Nanos, f64)>) -> Frame {
        let sides = self.came.values().chain(self.went.values());
        let times = sides.flat_map(|points| points.points.iter().map(|point| point.0));
        let (from, to) =
            times.fold((Nanos::MAX, Nanos::MIN), |(from, to), time| (from.min(time), to.max(time)));
        let (low, high) =
            points.fold((f64::MAX, f64::MIN), |(low, high), point| (low.min(point.1), high.max(point.1)));
        Frame { from, to, low, high }
    }

    fn marks(&self, id: SeriesId, frame: Frame) -> String {
        let mut marks = [' '; WIDTH];
        for (_, time, raised) in self.alarms.iter().filter(|alarm| alarm.0 == id) {
            let column = (frame.across(*time) * (WIDTH - 1) as f64) as usize;
            marks[column.min(WIDTH - 1)] = if *raised { '^' } else { 'v' };
        }
        marks.iter().collect()
    }
}

// === impl Frame ===

impl Frame {
    /// From 0 at the left to 1 at the right.
    fn across(self, time: Nanos) -> f64 {
        let width = self.to.saturating_sub(self.from);
        if width <= 0 { 0.5 } else { (time.saturating_sub(self.from) as f64 / width as f64).clamp(0.0, 1.0) }
    }

    /// From 0 at the bottom to 1 at the top. Halves, since the difference of two values may be beyond the largest.
    fn up(self, value: f64) -> f64 {
        let height = self.high / 2.0 - self.low / 2.0;
        if height > 0.0 { ((value / 2.0 - self.low / 2.0) / height).clamp(0.0, 1.0) } else { 0.5 }
    }
}

/// Points as dots, eight to a letter: those of a column are joined from the lowest to the highest.
fn braille(points: &[(Nanos, f64)], frame: Frame) -> Vec<String> {
    /// The bit of each dot of a letter, by column and row from the top.
    const DOTS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
    const DOTS_ACROSS: usize = 2 * WIDTH;
    const DOTS_UP: usize = 4 * HEIGHT;
    let mut columns: Vec<Option<(usize, usize)>> = vec![None; DOTS_ACROSS];
    for (time, value) in points {
        let column = (frame.across(*time) * (DOTS_ACROSS - 1) as f64).round() as usize;
        let row = (frame.up(*value) * (DOTS_UP - 1) as f64).round() as usize;
        let (low, high) = columns[column].unwrap_or((row, row));
        columns[column] = Some((low.min(row), high.max(row)));
    }
    let mut letters = [[0_u8; WIDTH]; HEIGHT];
    for (column, span) in columns.iter().enumerate() {
        let Some((low, high)) = span else { continue };
        for row in *low..=*high {
            let from_top = DOTS_UP - 1 - row;
            letters[from_top / 4][column / 2] |= DOTS[column % 2][from_top % 4];
        }
    }
    let letter = |dots: &u8| char::from_u32(0x2800 + u32::from(*dots)).unwrap_or(' ');
    letters.iter().map(|line| line.iter().map(letter).collect()).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Value;

    fn plot(values: impl Iterator<Item = f64>) -> (Plot, Roster) {
        let mut roster = Roster::default();
        let series = roster.number("a<b", "°C").unwrap();
        let row = |(n, value)| Reading { series, time: n, value: Value::Float(value) };
        let readings: Vec<Reading> = (0..).zip(values).map(row).collect();
        let alarm = |time, active| Alarm {
            series,
            time,
            active,
            name: "high".into(),
            message: String::new(),
            value: 1.0,
        };
        let alarms = [alarm(0, true), alarm(readings.len() as i64 - 1, false)];
        let mut plot = Plot::default();
        plot.take(&readings, &readings, &alarms);
        (plot, roster)
    }

    #[test]
    fn a_ramp_goes_from_the_lower_left_to_the_upper_right() {
        // Goal: charts are the right way round, with their bounds and alarms. Method: a ramp, and where its ends are.
        let (plot, roster) = plot((0..1000).map(f64::from));
        let text = plot.text(&roster);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "a<b °C: 1000 readings, 0 to 999");
        let (top, bottom) = (lines[2].trim_start(), lines[1 + HEIGHT].trim_start());
        assert!(top.ends_with(|c| c != '\u{2800}') && top.starts_with('\u{2800}'), "{text}");
        assert!(bottom.starts_with(|c| c != '\u{2800}') && bottom.ends_with('\u{2800}'), "{text}");
        assert!(lines[2 + HEIGHT].starts_with("  ^") && lines[2 + HEIGHT].contains("v  ^ alarm"), "{text}");
        let svg = plot.svg(&roster);
        assert!(svg.contains("a&lt;b °C: 0 to 999") && svg.contains("points=\"28.0,188.0 "), "{svg}");
        assert!(svg.contains("928.0,28.0\"") && svg.contains("#c22") && svg.ends_with("</svg>\n"), "{svg}");
    }

    #[test]
    fn many_readings_are_thinned_and_odd_ones_do_no_harm() {
        // Goal: memory is bounded, and the ends of all numbers can be drawn. Method: a million; one; the largest floats.
        let (many, _) = plot((0..1_000_000).map(f64::from));
        let points = many.went.values().next().unwrap();
        assert!((POINTS_MAX / 2..POINTS_MAX).contains(&points.points.len()) && points.count == 1_000_000);
        for values in [vec![7.0], vec![f64::MAX, f64::MIN], vec![]] {
            let (few, roster) = plot(values.into_iter());
            assert!(few.svg(&roster).ends_with("</svg>\n"));
            let _ = few.text(&roster);
        }
    }
}
