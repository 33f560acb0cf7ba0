//! It has a timer, and looks after the series of its streams: one that had no reading between two ticks, `silent` times in
//! a row (default 2), raises an alarm "silent", which its next reading clears.
//!
//! Option `beat` names a series of its streams of which it gives a reading with every tick: the number of ticks, earlier
//! instances' among them, which are its state. With option `trap-at` the tick of that number traps. With option
//! `register` every tick tries to register a series, and says in an alarm "register" what it is told. With option `do` every
//! tick misbehaves: `trap`, `loop`, `grow`, `bad-text`, or `alarms`, of which it raises a thousand.

use std::cell::RefCell;
use std::collections::BTreeMap;

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit/frond-telemetry.wit",
        world: "timed",
    });
    use super::Component;
    export!(Component);
}

use bindings::exports::frond::telemetry::processor::{Batch, Output, Series};
use bindings::exports::frond::telemetry::{processor, state, timer};
use bindings::frond::telemetry::registry;
use bindings::frond::telemetry::types::{Alarm, Edge, Readings};

struct Component;

#[derive(Default)]
struct State {
    options: BTreeMap<String, String>,
    ticks: u64,
    /// By number: its name, and the ticks since its last reading.
    series: BTreeMap<u32, (String, u64)>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

impl State {
    fn option<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.options.get(name)?.parse().ok()
    }

    fn silent(&self) -> u64 {
        self.option("silent").unwrap_or(2)
    }
}

fn alarm(series: u32, time: i64, edge: Edge, name: &str, message: String) -> Alarm {
    Alarm { series, time, edge, name: name.to_owned(), message, value: 0.0 }
}

/// What no text may be.
fn bad_text() -> String {
    // SAFETY: nothing here looks at it; it goes out as it is, which is what the test is for.
    unsafe { String::from_utf8_unchecked(vec![0xff, 0xfe]) }
}

impl processor::Guest for Component {
    fn configure(options: Vec<(String, String)>) -> Result<(), String> {
        STATE.with_borrow_mut(|state| state.options = options.into_iter().collect());
        Ok(())
    }

    fn announce(series: Vec<Series>) {
        STATE.with_borrow_mut(|state| {
            state.series.extend(series.into_iter().map(|series| (series.id, (series.name, 0))));
        });
    }

    fn process(batch: Batch) -> Output {
        let mut alarms = Vec::new();
        STATE.with_borrow_mut(|state| {
            let silent = state.silent();
            for (id, time) in batch.series.iter().zip(&batch.times) {
                let (name, ticks) = state.series.get_mut(id).expect("every series is announced");
                if std::mem::take(ticks) >= silent {
                    alarms.push(alarm(*id, *time, Edge::Cleared, "silent", format!("{name} is back")));
                }
            }
        });
        Output { readings: Readings::Unchanged, alarms }
    }
}

impl timer::Guest for Component {
    fn tick(now: i64) -> Output {
        STATE.with_borrow_mut(|state| {
            state.ticks += 1;
            assert_ne!(state.option("trap-at"), Some(state.ticks), "the tick to trap at");
            let silent = state.silent();
            let mut alarms = Vec::new();
            let id = state.series.keys().next().copied().unwrap_or(0);
            match state.options.get("do").map_or("", String::as_str) {
                "trap" => panic!("as it was told"),
                "loop" => loop {
                    std::hint::black_box(&mut alarms);
                },
                "grow" => loop {
                    std::mem::forget(std::hint::black_box(vec![1_u8; 1 << 20]));
                },
                "bad-text" => alarms.push(alarm(id, now, Edge::Raised, "bad", bad_text())),
                "alarms" => {
                    let more = (0..1_000).map(|n| alarm(id, now, Edge::Raised, "flood", n.to_string()));
                    alarms.extend(more);
                }
                _ => {}
            }
            for (id, (name, ticks)) in &mut state.series {
                *ticks += 1;
                if *ticks == silent {
                    alarms.push(alarm(*id, now, Edge::Raised, "silent", format!("{name} is silent")));
                }
            }
            let first = state.series.keys().next().copied();
            if let Some(id) = first.filter(|_| state.options.contains_key("register")) {
                let told = registry::register("of-a-tick", "").map_or_else(|why| why, |id| id.to_string());
                alarms.push(alarm(id, now, Edge::Raised, "register", told));
            }
            let beat = state.options.get("beat");
            let beat = beat.and_then(|beat| state.series.iter().find(|(_, (name, _))| name == beat));
            let readings = beat.map_or(Readings::Unchanged, |(id, _)| {
                Readings::Replaced(Batch {
                    series: vec![*id],
                    times: vec![now],
                    values: vec![state.ticks as f64],
                    integer_rows: vec![],
                    integers: vec![],
                })
            });
            Output { readings, alarms }
        })
    }
}

impl state::Guest for Component {
    fn snapshot() -> Vec<u8> {
        STATE.with_borrow(|state| state.ticks.to_le_bytes().to_vec())
    }

    fn restore(bytes: Vec<u8>) -> Result<(), String> {
        let ticks = bytes.try_into().map_err(|_| "no eight bytes".to_owned())?;
        STATE.with_borrow_mut(|state| state.ticks = u64::from_le_bytes(ticks));
        Ok(())
    }
}
