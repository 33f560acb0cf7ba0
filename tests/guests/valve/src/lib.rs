//! It closes a valve: for every reading above 80 it gives the command "close" and the reading's value, to the topic of option
//! `topic` (default `own/valve/set`), `times` times (default 1). What it is told when that is refused it says in an alarm
//! "refused". A reading of 666 makes it trap afterwards. With option `configure` it gives a command when it is configured,
//! and refuses its options with what it is told. With option `tick-at` it gives the command "tick" in the tick of that number;
//! the number of ticks is its state, with so many bytes behind it as option `state` says.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit/frond-telemetry.wit",
        world: "commanding",
    });
    use super::Component;
    export!(Component);
}

use bindings::exports::frond::telemetry::processor::{Batch, Output, Series};
use bindings::exports::frond::telemetry::{processor, state, timer};
use bindings::frond::telemetry::commands;
use bindings::frond::telemetry::types::{Alarm, Edge, Readings};

struct Component;

thread_local! {
    static OPTIONS: RefCell<BTreeMap<String, String>> = RefCell::default();
    static TICKS: Cell<u64> = const { Cell::new(0) };
}

fn option(name: &str, default: &str) -> String {
    OPTIONS.with_borrow(|options| options.get(name).cloned().unwrap_or_else(|| default.to_owned()))
}

impl processor::Guest for Component {
    fn configure(options: Vec<(String, String)>) -> Result<(), String> {
        OPTIONS.set(options.into_iter().collect());
        match option("configure", "").as_str() {
            "" => Ok(()),
            payload => commands::give("own/valve/set", payload.as_bytes()),
        }
    }

    fn announce(_series: Vec<Series>) {}

    fn process(batch: Batch) -> Output {
        let mut alarms = Vec::new();
        let times = option("times", "1").parse().expect("a number");
        for row in 0..batch.values.len() {
            let (series, time, value) = (batch.series[row], batch.times[row], batch.values[row]);
            if value <= 80.0 {
                continue;
            }
            let topic = option("topic", "own/valve/set");
            for _ in 0..times {
                if let Err(message) = commands::give(&topic, format!("close {value}").as_bytes()) {
                    let name = "refused".to_owned();
                    alarms.push(Alarm { series, time, edge: Edge::Raised, name, message, value });
                }
            }
            assert_ne!(value, 666.0, "it was told to");
        }
        Output { readings: Readings::Unchanged, alarms }
    }
}

impl timer::Guest for Component {
    fn tick(_now: i64) -> Output {
        let number = TICKS.get() + 1;
        TICKS.set(number);
        if option("tick-at", "") == number.to_string() {
            commands::give(&option("topic", "own/valve/set"), b"tick").expect("a tick may");
        }
        Output { readings: Readings::Unchanged, alarms: Vec::new() }
    }
}

impl state::Guest for Component {
    fn snapshot() -> Vec<u8> {
        let mut bytes = TICKS.get().to_le_bytes().to_vec();
        bytes.resize(bytes.len() + option("state", "0").parse::<usize>().expect("a number"), 0);
        bytes
    }

    fn restore(snapshot: Vec<u8>) -> Result<(), String> {
        let ticks = snapshot.first_chunk().ok_or("less than eight bytes")?;
        TICKS.set(u64::from_le_bytes(*ticks));
        Ok(())
    }
}
