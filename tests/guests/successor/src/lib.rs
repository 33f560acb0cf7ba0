//! A later version of `misbehave`: it takes its state and adds 2 to every value instead of 1.
//!
//! Options are those of the component, so that it has names of its own for what the older version must not hear: when a
//! batch contains the value of option `successor-trigger` (default 777), or once an instance has worked on
//! `successor-after` batches, it does what option `successor` says. Some modes show elsewhere than in `process`. A batch with
//! the value of option `count-at` (default -1) has that value replaced by the number of batches, the older version's among
//! them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit/frond-telemetry.wit",
        world: "stateful",
    });
    use super::Component;
    export!(Component);
}

use bindings::exports::frond::telemetry::processor::{Batch, Output, Series};
use bindings::exports::frond::telemetry::{processor, state};
use bindings::frond::telemetry::registry;
use bindings::frond::telemetry::types::Readings;

struct Component;

#[derive(Default)]
struct State {
    options: BTreeMap<String, String>,
    batches: u64,
    /// Of this instance.
    worked: u64,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

fn option(name: &str, default: &str) -> String {
    STATE.with_borrow(|state| state.options.get(name).cloned().unwrap_or_else(|| default.to_owned()))
}

fn number(name: &str, default: f64) -> f64 {
    option(name, "").parse().unwrap_or(default)
}

fn mode() -> String {
    option("successor", "")
}

impl processor::Guest for Component {
    fn configure(options: Vec<(String, String)>) -> Result<(), String> {
        STATE.with_borrow_mut(|state| state.options = options.into_iter().collect());
        match mode().as_str() {
            "refuse" => Err("option \"successor\" is \"refuse\", which is refused".into()),
            _ => Ok(()),
        }
    }

    fn announce(_series: Vec<Series>) {}

    fn process(mut batch: Batch) -> Output {
        let (batches, worked) = STATE.with_borrow_mut(|state| {
            state.batches += 1;
            state.worked += 1;
            (state.batches, state.worked)
        });
        let count_at = number("count-at", -1.0);
        let told = batch.values.contains(&number("successor-trigger", 777.0));
        let mut outcome = Ok(());
        if told || worked as f64 > number("successor-after", f64::INFINITY) {
            outcome = misbehave(&mut batch);
        }
        for value in &mut batch.values {
            *value = if *value == count_at { batches as f64 } else { *value + 2.0 };
        }
        if let Err(value) = outcome {
            batch.values[0] = value;
        }
        (batch.integer_rows, batch.integers) = (Vec::new(), Vec::new());
        Output { readings: Readings::Replaced(batch), alarms: Vec::new() }
    }
}

impl state::Guest for Component {
    fn snapshot() -> Vec<u8> {
        match mode().as_str() {
            "huge-snapshot" => vec![7; 2 << 20],
            "trap-in-snapshot" => panic!("asked to panic in snapshot"),
            _ => STATE.with_borrow(|state| state.batches.to_le_bytes().to_vec()),
        }
    }

    fn restore(snapshot: Vec<u8>) -> Result<(), String> {
        match mode().as_str() {
            "trap-in-restore" => panic!("asked to panic in restore"),
            "loop-in-restore" => endless(),
            "refuse-state" => return Err("this version does not know such a state".into()),
            _ => {}
        }
        // Another component's state is taken for none.
        let batches = snapshot.try_into().map_or(0, u64::from_le_bytes);
        STATE.with_borrow_mut(|state| state.batches = batches);
        Ok(())
    }
}

/// Most modes do not come back from here; an error is a value to be given back.
fn misbehave(batch: &mut Batch) -> Result<(), f64> {
    match mode().as_str() {
        "loop" => endless(),
        "grow" => {
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            loop {
                hoard.push(black_box(vec![1; 1 << 20]));
            }
        }
        "not-finite" => Err(f64::NAN),
        "derive" => {
            for row in 0..batch.series.len() {
                if let Ok(id) = registry::register(&format!("made/{}", batch.series[row]), "") {
                    batch.series[row] = id;
                }
            }
            Ok(())
        }
        "" | "trap" => panic!("asked to panic"),
        // These misbehave elsewhere.
        _ => Ok(()),
    }
}

fn endless() -> ! {
    loop {
        black_box(0);
    }
}
