//! The state of a reducer as bytes: it is written with every checkpoint, so it is laid down in columns like a block.
//!
//! ```text
//! body = postcard of length, lateness and counts | columns of series | columns of windows | remembered times
//! ```
//! Monotonic time does not outlive the process: a restored series has been idle since its restoration. Counters do not
//! either; late readings and duplicates that wait for a row do.

use serde::{Deserialize, Serialize};

use super::series::Series;
use super::window::{Spread, Sum, Window};
use super::{Grid, Reducer, TIMES_MAX, TIMES_TOTAL_MAX};
use crate::block::cursor::Cursor;
use crate::block::frame::{self, Kind};
use crate::block::ints::{put_grouped, put_ints, take_grouped, take_ints};
use crate::block::values::{put_floats, put_values, take_floats, take_values};
use crate::block::{DecodeError, ROWS_MAX};
use crate::sample::{BootId, Nanos, SeriesId, Timeline, Value};

/// Most open windows: a gigabyte in memory, which no gateway has for them.
const WINDOWS_MAX: usize = 1 << 22;

/// Values of a window that are laid down together.
const TOGETHER: usize = 5;

/// Postcard knows fields by their place: append only.
#[derive(Serialize, Deserialize)]
struct Head {
    length: Nanos,
    lateness: Nanos,
    series: u64,
    windows: u64,
    times: u64,
}

// === impl Reducer ===

impl Reducer {
    /// The state, but for the rows that wait in [`Reducer::take_closed`]: take them first.
    ///
    /// # Panics
    /// If there are more than 2^22 open windows, or [`ROWS_MAX`] series.
    pub fn snapshot(&self) -> Vec<u8> {
        debug_assert!(self.tally.closed.is_empty(), "rows were not taken before the snapshot");
        let windows: Vec<&Window> = self.series.iter().flat_map(|series| &series.open).collect();
        assert!(self.series.len() <= ROWS_MAX, "a snapshot has at most ROWS_MAX series");
        assert!(windows.len() <= WINDOWS_MAX, "a snapshot has at most WINDOWS_MAX windows");
        let head = Head {
            length: self.grid.length,
            lateness: self.grid.lateness,
            series: self.series.len() as u64,
            windows: windows.len() as u64,
            times: self.tally.remembered as u64,
        };
        let mut block = frame::open(Kind::Reducer);
        block.extend(postcard::to_stdvec(&head).expect("a head in memory can be written to memory"));
        put_series(&mut block, &self.series);
        put_windows(&mut block, &self.series, &windows, &self.grid);
        frame::seal(block)
    }

    /// The reducer that [`Reducer::snapshot`] was taken of, as far as rows are concerned, at monotonic time `now`.
    pub fn restore(bytes: &[u8], now: Nanos) -> Result<Reducer, DecodeError> {
        let mut cursor = frame::body(bytes, Kind::Reducer)?;
        let (head, rest) = postcard::take_from_bytes::<Head>(cursor.rest).map_err(DecodeError::Header)?;
        cursor.rest = rest;
        if head.length <= 0 || head.lateness < 0 {
            return Err(DecodeError::Invalid { what: "length of windows" });
        }
        let mut reducer = Reducer::new(head.length, head.lateness);
        let counts = [
            bounded("series", head.series, ROWS_MAX)?,
            bounded("windows", head.windows, WINDOWS_MAX)?,
            bounded("remembered times", head.times, TIMES_TOTAL_MAX)?,
        ];
        let (mut series, open) = take_series(&mut cursor, counts[0], counts[1])?;
        let windows = take_windows(&mut cursor, &open, counts[2], &reducer.grid)?;
        cursor.end()?;
        let mut windows = windows.into_iter();
        for (series, open) in series.iter_mut().zip(open) {
            series.open = windows.by_ref().take(open).collect();
            if let Some(last) = series.open.last() {
                // The newest time was stored as its distance from the newest one taken, which mostly it is.
                series.newest = series.newest.wrapping_add(last.last_time);
            }
            series.taken_at = now;
            series.set_due(&reducer.grid);
        }
        for series in series {
            if !sound(&series, &reducer.grid) || reducer.slots.contains_key(&series.id) {
                return Err(DecodeError::Invalid { what: "state of a series" });
            }
            reducer.tally.remembered += series.open.iter().map(|window| window.times.len()).sum::<usize>();
            reducer.add_series(series);
        }
        Ok(reducer)
    }
}

/// What the rest of the module takes for granted.
fn sound(series: &Series, grid: &Grid) -> bool {
    let ascending = series.open.is_sorted_by(|a, b| a.index < b.index);
    let newest_open = series.open.last().is_none_or(|window| window.index == grid.index(series.newest));
    let windows = series.open.iter().all(|window| {
        let own = |time| grid.index(time) == window.index;
        let times = window.times.len() <= TIMES_MAX.min(window.count as usize);
        let ascending = window.times.is_sorted_by(|a, b| a < b);
        // Sums of so many integers cannot run over.
        let sum = window.sum.ints.unsigned_abs() <= u128::from(window.count) << 63;
        window.count > 0 && own(window.first_time) && own(window.last_time) && times && ascending && sum
    });
    ascending && newest_open && windows
}

fn put_series(out: &mut Vec<u8>, series: &[Series]) {
    let column = |field: fn(&Series) -> i64| series.iter().map(field).collect::<Vec<i64>>();
    put_ints(out, &column(|series| i64::from(series.id.0)));
    put_ints(out, &column(|series| timeline_code(series.timeline)));
    put_ints(out, &column(|series| series.open.len() as i64));
    put_ints(
        out,
        &column(|series| series.newest.wrapping_sub(series.open.last().map_or(0, |window| window.last_time))),
    );
    for option in [|series: &Series| series.closed_to, |series: &Series| series.previous] {
        put_ints(out, &series.iter().map(|series| i64::from(option(series).is_some())).collect::<Vec<_>>());
        put_ints(out, &series.iter().filter_map(option).collect::<Vec<_>>());
    }
    put_ints(out, &column(|series| i64::from(series.late)));
    put_ints(out, &column(|series| i64::from(series.duplicates)));
}

/// Series without their windows, and how many each has.
fn take_series(
    cursor: &mut Cursor<'_>,
    count: usize,
    windows: usize,
) -> Result<(Vec<Series>, Vec<usize>), DecodeError> {
    let ids = take_counters(cursor, count)?;
    let timelines = take_ints(cursor, count)?;
    let open = take_lengths(cursor, count, windows)?;
    let newest = take_ints(cursor, count)?;
    let closed_to = take_options(cursor, count)?;
    let previous = take_options(cursor, count)?;
    let late = take_counters(cursor, count)?;
    let duplicates = take_counters(cursor, count)?;
    let mut series = Vec::with_capacity(count);
    for index in 0..count {
        let timeline = timeline_of(timelines[index])?;
        series.push(Series {
            closed_to: closed_to[index],
            previous: previous[index],
            late: late[index],
            duplicates: duplicates[index],
            ..Series::new(SeriesId(ids[index]), timeline, newest[index])
        });
    }
    Ok((series, open))
}

fn put_windows(out: &mut Vec<u8>, series: &[Series], windows: &[&Window], grid: &Grid) {
    let open: Vec<usize> = series.iter().map(|series| series.open.len()).collect();
    let column =
        |field: &dyn Fn(&Window) -> i64| windows.iter().map(|window| field(window)).collect::<Vec<i64>>();
    put_grouped(out, &open, &column(&|window| window.index));
    put_grouped(out, &open, &column(&|window| i64::from(window.count)));
    put_ints(out, &column(&|window| window.first_time.wrapping_sub(grid.span(window.index).0)));
    put_times(out, windows);
    put_ints(out, &column(&|window| window.last_time.wrapping_sub(last_known(window))));
    let together =
        |window: &&Window| [window.min, window.first, window.spread.origin, window.last, window.max];
    let fivefold: Vec<usize> = open.iter().map(|open| open * TOGETHER).collect();
    put_values(out, &fivefold, windows.iter().map(together).collect::<Vec<_>>().as_flattened());

    put_ints(out, &column(&|window| window.sum.ints as i64));
    put_ints(out, &column(&|window| (window.sum.ints >> 64) as i64));
    put_ints(out, &column(&|window| i64::from(window.sum.has_floats)));
    let floats: Vec<&Sum> = windows.iter().map(|window| &window.sum).filter(|sum| sum.has_floats).collect();
    put_values(
        out,
        &vec![1; floats.len()],
        &floats.iter().map(|sum| Value::Float(sum.floats)).collect::<Vec<_>>(),
    );
    put_short_floats(out, &floats.iter().map(|sum| sum.lost).collect::<Vec<_>>());
    let several = windows.iter().filter(|window| window.count > 1);
    put_floats(out, &several.map(|window| window.spread.squares).collect::<Vec<_>>());
}

/// Remembered times, as distances from the first time of their window.
fn put_times(out: &mut Vec<u8>, windows: &[&Window]) {
    let lengths: Vec<usize> = windows.iter().map(|window| window.times.len()).collect();
    let mut offsets = Vec::with_capacity(lengths.iter().sum());
    for window in windows {
        offsets.extend(window.times.iter().map(|time| time.wrapping_sub(window.first_time)));
    }
    put_ints(out, &lengths.iter().map(|length| *length as i64).collect::<Vec<_>>());
    put_grouped(out, &lengths, &offsets);
}

/// The last time of a window, mostly.
fn last_known(window: &Window) -> Nanos {
    window.times.last().copied().unwrap_or(window.first_time)
}

fn take_windows(
    cursor: &mut Cursor<'_>,
    open: &[usize],
    times: usize,
    grid: &Grid,
) -> Result<Vec<Window>, DecodeError> {
    let count = open.iter().sum();
    let indices = take_grouped(cursor, open)?;
    let counts: Result<Vec<u32>, _> = take_grouped(cursor, open)?.into_iter().map(u32::try_from).collect();
    let counts = counts.map_err(|_| DecodeError::Invalid { what: "counter" })?;
    let first_times = take_ints(cursor, count)?;
    let lengths = take_lengths(cursor, count, times)?;
    let mut offsets = take_grouped(cursor, &lengths)?.into_iter();
    let last_times = take_ints(cursor, count)?;
    let fivefold: Vec<usize> = open.iter().map(|open| open * TOGETHER).collect();
    let together = take_values(cursor, &fivefold)?;
    let sums = take_sums(cursor, count)?;
    let several = counts.iter().filter(|&&count| count > 1).count();
    let mut squares = take_floats(cursor, several)?.into_iter();

    let mut windows = Vec::with_capacity(count);
    let (together, _) = together.as_chunks::<TOGETHER>();
    for (at, (&[min, first, origin, last, max], sum)) in together.iter().zip(sums).enumerate() {
        let (start, end) = grid.span(indices[at]);
        let first_time = start.wrapping_add(first_times[at]);
        let offsets = offsets.by_ref().take(lengths[at]);
        let squares = if counts[at] > 1 { squares.next().ok_or(DecodeError::Truncated)? } else { 0.0 };
        let mut window = Window {
            index: indices[at],
            end,
            count: counts[at],
            min,
            max,
            first,
            last,
            first_time,
            last_time: 0,
            sum,
            spread: Spread { origin, squares },
            times: offsets.map(|offset| first_time.wrapping_add(offset)).collect(),
        };
        window.last_time = last_known(&window).wrapping_add(last_times[at]);
        windows.push(window);
    }
    Ok(windows)
}

fn take_sums(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<Sum>, DecodeError> {
    let low = take_ints(cursor, count)?;
    let high = take_ints(cursor, count)?;
    let has_floats = take_ints(cursor, count)?;
    let with_floats = has_floats.iter().filter(|&&flag| flag != 0).count();
    let mut floats = take_values(cursor, &vec![1; with_floats])?.into_iter();
    let mut lost = take_short_floats(cursor, with_floats)?.into_iter();
    let mut sums = Vec::with_capacity(count);
    for index in 0..count {
        let ints = i128::from(high[index]) << 64 | i128::from(low[index] as u64);
        let mut sum = Sum { ints, ..Sum::default() };
        if has_floats[index] != 0 {
            sum.has_floats = true;
            sum.floats = floats.next().ok_or(DecodeError::Truncated)?.as_f64();
            sum.lost = lost.next().ok_or(DecodeError::Truncated)?;
        }
        sums.push(sum);
    }
    Ok(sums)
}

/// Bits of the fraction of a double.
const FRACTION_BITS: u32 = 52;

/// Writes floats of which only the upper bits are set, as what rounding leaves over has: turned round, they are small.
fn put_short_floats(out: &mut Vec<u8>, floats: &[f64]) {
    let heads = |float: &f64| (float.to_bits() >> FRACTION_BITS) as i64;
    let turned = |float: &f64| (float.to_bits() << (64 - FRACTION_BITS)).reverse_bits() as i64;
    put_ints(out, &floats.iter().map(heads).collect::<Vec<_>>());
    put_ints(out, &floats.iter().map(turned).collect::<Vec<_>>());
}

fn take_short_floats(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<f64>, DecodeError> {
    let heads = take_ints(cursor, count)?;
    let turned = take_ints(cursor, count)?;
    let whole = |(head, turned): (i64, i64)| {
        let fraction = (turned as u64).reverse_bits() >> (64 - FRACTION_BITS);
        f64::from_bits((head as u64) << FRACTION_BITS | fraction)
    };
    Ok(heads.into_iter().zip(turned).map(whole).collect())
}

fn take_counters(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<u32>, DecodeError> {
    let counters: Result<Vec<u32>, _> = take_ints(cursor, count)?.into_iter().map(u32::try_from).collect();
    counters.map_err(|_| DecodeError::Invalid { what: "counter" })
}

fn take_options(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<Option<i64>>, DecodeError> {
    let flags = take_ints(cursor, count)?;
    let mut present = take_ints(cursor, flags.iter().filter(|&&flag| flag != 0).count())?.into_iter();
    Ok(flags.into_iter().map(|flag| if flag == 0 { None } else { present.next() }).collect())
}

/// Lengths of groups that hold `total` together.
fn take_lengths(cursor: &mut Cursor<'_>, count: usize, total: usize) -> Result<Vec<usize>, DecodeError> {
    let mut rest = total;
    let mut lengths = Vec::with_capacity(count);
    for length in take_ints(cursor, count)? {
        let length = usize::try_from(length).ok().filter(|&length| length <= rest);
        let length = length.ok_or(DecodeError::Invalid { what: "length of a group" })?;
        rest -= length;
        lengths.push(length);
    }
    if rest == 0 { Ok(lengths) } else { Err(DecodeError::Invalid { what: "length of a group" }) }
}

fn bounded(what: &'static str, claimed: u64, limit: usize) -> Result<usize, DecodeError> {
    match usize::try_from(claimed) {
        Ok(count) if count <= limit => Ok(count),
        _ => Err(DecodeError::TooMany { what, claimed, limit }),
    }
}

fn timeline_code(timeline: Timeline) -> i64 {
    match timeline {
        Timeline::Sensor => 0,
        Timeline::Arrival => 1,
        Timeline::Boot(boot) => 2 + i64::from(boot.0),
    }
}

fn timeline_of(code: i64) -> Result<Timeline, DecodeError> {
    match code {
        0 => Ok(Timeline::Sensor),
        1 => Ok(Timeline::Arrival),
        _ => match code.checked_sub(2).map(u32::try_from) {
            Some(Ok(boot)) => Ok(Timeline::Boot(BootId(boot))),
            _ => Err(DecodeError::Invalid { what: "timeline" }),
        },
    }
}
