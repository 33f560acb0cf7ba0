//! The reducer against a model that keeps every reading.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::window::order;
use super::*;

/// What happens to a reducer.
#[derive(Debug, Clone, Copy)]
enum Event {
    Push(Timeline, Reading),
    /// Monotonic time passes.
    Pass(Nanos),
    Flush,
}

/// Keeps every reading and decides from the definitions, in arithmetic that cannot overflow.
struct Model {
    length: i128,
    lateness: i128,
    series: Vec<ModelSeries>,
    now: i128,
    closed: Vec<(Timeline, WindowRow)>,
}

struct ModelSeries {
    id: SeriesId,
    timeline: Timeline,
    newest: i128,
    taken_at: i128,
    shut: Vec<i128>,
    /// In the order they were taken.
    kept: Vec<Reading>,
    previous: Option<i128>,
    late: u32,
    duplicates: u32,
}

impl Model {
    fn apply(&mut self, event: Event) {
        match event {
            Event::Push(timeline, reading) => self.push(timeline, reading),
            Event::Pass(time) => {
                self.now += i128::from(time);
                for at in 0..self.series.len() {
                    if self.now - self.series[at].taken_at >= self.length + self.lateness {
                        self.close(at, |_| true);
                    }
                }
            }
            Event::Flush => (0..self.series.len()).for_each(|at| self.close(at, |_| true)),
        }
    }

    fn push(&mut self, timeline: Timeline, reading: Reading) {
        let time = i128::from(reading.time);
        let at = self.series.iter().position(|series| series.id == reading.series).unwrap_or_else(|| {
            self.series.push(ModelSeries {
                id: reading.series,
                timeline,
                newest: time,
                taken_at: self.now,
                shut: vec![],
                kept: vec![],
                previous: None,
                late: 0,
                duplicates: 0,
            });
            self.series.len() - 1
        });
        if self.series[at].timeline != timeline {
            self.close(at, |_| true);
            let series = &mut self.series[at];
            (series.timeline, series.newest, series.shut, series.previous) = (timeline, time, vec![], None);
        }
        let index = time.div_euclid(self.length);
        let passed =
            |newest: i128, index: i128, model: &Model| newest >= (index + 1) * model.length + model.lateness;
        let series = &self.series[at];
        if passed(series.newest, index, self) || series.shut.iter().any(|&shut| shut >= index) {
            self.series[at].late += 1;
            return;
        }
        if timeline == Timeline::Sensor && series.kept.iter().any(|kept| kept.time == reading.time) {
            self.series[at].duplicates += 1;
            return;
        }
        let newest = series.newest.max(time);
        let series = &mut self.series[at];
        (series.newest, series.taken_at) = (newest, self.now);
        series.kept.push(reading);
        let (length, lateness) = (self.length, self.lateness);
        self.close(at, |index| newest >= (index + 1) * length + lateness);
    }

    fn close(&mut self, at: usize, due: impl Fn(i128) -> bool) {
        let length = self.length;
        let series = &mut self.series[at];
        let window = |reading: &Reading| i128::from(reading.time).div_euclid(length);
        let mut indices: Vec<i128> = series.kept.iter().map(window).filter(|&index| due(index)).collect();
        indices.sort_unstable();
        indices.dedup();
        for index in indices {
            let (mut own, rest) =
                std::mem::take(&mut series.kept).into_iter().partition(|r| window(r) == index);
            series.kept = rest;
            series.shut.push(index);
            let gap = series.previous.map_or(0, |previous| (index - previous - 1) as u32);
            series.previous = Some(index);
            let late = std::mem::take(&mut series.late);
            let duplicates = std::mem::take(&mut series.duplicates);
            let row = naive_row(&mut own, index * length);
            self.closed.push((series.timeline, WindowRow { late, duplicates, gap, ..row }));
        }
    }
}

fn naive_row(own: &mut [Reading], start: i128) -> WindowRow {
    own.sort_by_key(|reading| reading.time);
    let mut values: Vec<Value> = own.iter().map(|reading| reading.value).collect();
    let (first, last) = (values[0], values[values.len() - 1]);
    values.sort_by(|a, b| order(*a, *b));
    let count = values.len() as f64;
    let ints: i128 =
        values.iter().map(|value| if let Value::Int(int) = value { i128::from(*int) } else { 0 }).sum();
    let floats: Vec<f64> =
        values.iter().filter_map(|value| if let Value::Float(f) = value { Some(*f) } else { None }).collect();
    let sum = if floats.is_empty() {
        Value::Int(i64::try_from(ints).unwrap())
    } else {
        // Eighths below 2^40 add up exactly.
        Value::Float(ints as f64 + floats.iter().sum::<f64>())
    };
    let mean = sum.as_f64() / count;
    let squares: f64 = values.iter().map(|value| (value.as_f64() - mean).powi(2)).sum();
    WindowRow {
        series: own[0].series,
        start: start as Nanos,
        count: values.len() as u32,
        min: values[0],
        max: values[values.len() - 1],
        first,
        last,
        sum,
        std_dev: (squares / count).sqrt() as f32,
        late: 0,
        duplicates: 0,
        gap: 0,
    }
}

/// Equal in all, but for the deviation: two ways of computing it agree to five digits.
fn agree(a: WindowRow, b: WindowRow) -> bool {
    let apart = (f64::from(a.std_dev) - f64::from(b.std_dev)).abs();
    apart <= 1e-5 * f64::from(a.std_dev.max(1.0)) && WindowRow { std_dev: b.std_dev, ..a } == b
}

fn eighths() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-8_000i64..8_000).prop_map(|eighths| Value::Float(eighths as f64 / 8.0)),
        (-1_000i64..1_000).prop_map(Value::Int),
    ]
}

fn timelines() -> impl Strategy<Value = Timeline> {
    prop_oneof![
        12 => Just(Timeline::Sensor),
        1 => Just(Timeline::Arrival),
        1 => Just(Timeline::Boot(BootId(1))),
    ]
}

/// Readings of three series whose times mostly advance, with steps back and leaps, on a grid coarse enough to repeat.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let step = prop_oneof![8 => 0i64..4, 4 => -12i64..6, 1 => 10i64..100];
    let push = (0u32..3, timelines(), step, eighths());
    let event = prop_oneof![
        20 => push.prop_map(Some),
        1 => Just(None),
    ];
    (vec((event, 0i64..12), 0..200), -20i64..20).prop_map(|(steps, start)| {
        let mut clock = [start; 3];
        let mut events = Vec::new();
        for (step, pass) in steps {
            match step {
                Some((series, timeline, step, value)) => {
                    let time = clock[series as usize] + step;
                    clock[series as usize] = time;
                    events.push(Event::Push(timeline, Reading { series: SeriesId(series), time, value }));
                    if pass == 1 {
                        events.push(Event::Pass(pass + step.abs()));
                    }
                }
                None if pass == 0 => events.push(Event::Flush),
                None => events.push(Event::Pass(pass)),
            }
        }
        events
    })
}

fn apply(reducer: &mut Reducer, event: Event, now: &mut Nanos) {
    match event {
        Event::Push(timeline, reading) => reducer.push(timeline, reading, *now),
        Event::Pass(time) => {
            *now += time;
            reducer.advance(*now);
        }
        Event::Flush => reducer.flush(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn rows_are_those_of_a_model_that_keeps_everything(events in events(), length in 1i64..20, lateness in 0i64..30) {
        // Pushes in and out of order, duplicates, idle time and flushes on small windows; rows and their order agree.
        let mut reducer = Reducer::new(length, lateness);
        let mut model = Model {
            length: length.into(),
            lateness: lateness.into(),
            series: vec![],
            now: 0,
            closed: vec![],
        };
        let mut now = 0;
        for event in events.into_iter().chain([Event::Flush]) {
            apply(&mut reducer, event, &mut now);
            model.apply(event);
        }
        let closed = reducer.take_closed();
        prop_assert_eq!(closed.len(), model.closed.len());
        for (closed, (timeline, row)) in closed.into_iter().zip(model.closed) {
            prop_assert_eq!(closed.timeline, timeline);
            prop_assert!(agree(closed.row, row), "{:?} instead of {:?}", closed.row, row);
        }
    }

    #[test]
    fn order_within_lateness_does_not_matter(
        values in vec(eighths(), 1..200),
        shifts in vec(0i64..10, 200),
        length in 5i64..30,
    ) {
        // The same readings in order, and each delayed by less than the lateness.
        let lateness = 10;
        let reading = |(time, &value)| Reading { series: SeriesId(1), time, value };
        let sorted: Vec<Reading> = (0..).zip(&values).map(reading).collect();
        let mut delayed: Vec<(i64, Reading)> =
            sorted.iter().zip(&shifts).map(|(reading, shift)| (reading.time + shift, *reading)).collect();
        delayed.sort_by_key(|(arrival, _)| *arrival);
        let all = |readings: Vec<Reading>| {
            let mut reducer = Reducer::new(length, lateness);
            let mut rows = rows_of(&mut reducer, readings);
            rows.extend(flushed(&mut reducer));
            rows
        };
        let (in_order, disturbed) = (all(sorted), all(delayed.into_iter().map(|(_, reading)| reading).collect()));
        prop_assert_eq!(in_order.len(), disturbed.len());
        for (row, other) in in_order.into_iter().zip(disturbed) {
            prop_assert!(agree(row, other), "{row:?} instead of {other:?}");
        }
    }

    #[test]
    fn a_snapshot_anywhere_changes_nothing(
        events in events(),
        cuts in vec(any::<prop::sample::Index>(), 1..4),
        length in 1i64..20,
        lateness in 0i64..30,
    ) {
        // One reducer runs through, the other is written and read back at some places; rows agree to the bit. Idle time
        // begins anew with a restoration, so that monotonic time stands still here.
        let (mut through, mut cut) = (Reducer::new(length, lateness), Reducer::new(length, lateness));
        let cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.index(events.len() + 1)).collect();
        let mut rows = Vec::new();
        for (at, event) in events.into_iter().chain([Event::Flush]).enumerate() {
            if cuts.contains(&at) {
                rows.append(&mut cut.take_closed());
                let bytes = cut.snapshot();
                cut = Reducer::restore(&bytes, 0).unwrap();
                prop_assert_eq!(cut.snapshot(), bytes);
            }
            if !matches!(event, Event::Pass(_)) {
                apply(&mut through, event, &mut 0);
                apply(&mut cut, event, &mut 0);
            }
        }
        rows.append(&mut cut.take_closed());
        prop_assert_eq!(rows, through.take_closed());
    }

    #[test]
    fn a_damaged_snapshot_never_panics(
        events in events(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        // Bytes changed or cut off under a mended check sum; whatever is restored takes readings and closes.
        let mut reducer = Reducer::new(7, 9);
        for event in events.iter().filter(|event| !matches!(event, Event::Flush)) {
            apply(&mut reducer, *event, &mut 0);
        }
        reducer.take_closed();
        let mut bytes = reducer.snapshot();
        for (at, byte) in damage {
            let at = 6 + at.index(bytes.len() - 6);
            bytes[at] = byte;
        }
        if cut.index(4) == 0 {
            bytes.truncate(6 + cut.index(bytes.len() - 6));
        }
        let sum = crc32fast::hash(&bytes[6..]).to_le_bytes();
        bytes[2..6].copy_from_slice(&sum);
        if let Ok(mut reducer) = Reducer::restore(&bytes, 0) {
            for event in events {
                apply(&mut reducer, event, &mut 0);
            }
        }
    }
}
