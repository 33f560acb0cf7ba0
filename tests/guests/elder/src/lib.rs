//! A component built for the contract's first version, 0.1.0, from a copy of it that is never edited. It uses all there was:
//! every reading goes on one higher, the reading -1 is replaced by the number of readings so far, which is its state, and 666
//! raises an alarm; the first batch registers a series and logs a line.

use std::cell::Cell;

mod bindings {
    wit_bindgen::generate!({
        path: "wit/frond-telemetry-0.1.0.wit",
        world: "stateful",
    });
    use super::Component;
    export!(Component);
}

use bindings::exports::frond::telemetry::processor::{Batch, Output, Series};
use bindings::exports::frond::telemetry::{processor, state};
use bindings::frond::telemetry::types::{Alarm, Edge, Readings};
use bindings::frond::telemetry::{log, registry};

struct Component;

thread_local! {
    static READINGS: Cell<u64> = const { Cell::new(0) };
    static ANNOUNCED: Cell<usize> = const { Cell::new(0) };
}

impl processor::Guest for Component {
    fn configure(options: Vec<(String, String)>) -> Result<(), String> {
        match &options[..] {
            [(name, _)] if name == "refuse" => Err("as it was told".to_owned()),
            _ => Ok(()),
        }
    }

    fn announce(series: Vec<Series>) {
        ANNOUNCED.set(ANNOUNCED.get() + series.len());
    }

    fn process(mut batch: Batch) -> Output {
        let (mut alarms, mut so_far) = (Vec::new(), READINGS.get());
        assert!(ANNOUNCED.get() > 0, "series are announced first");
        if so_far == 0 {
            log::write(log::Level::Info, "the first batch");
            let id = registry::register("of-an-elder", "K").expect("there is room");
            (batch.series.push(id), batch.times.push(batch.times[0]), batch.values.push(0.0));
        }
        for row in 0..batch.values.len() {
            let (series, time, value) = (batch.series[row], batch.times[row], batch.values[row]);
            so_far += 1;
            batch.values[row] = if value == -1.0 { so_far as f64 } else { value + 1.0 };
            if value == 666.0 {
                let (name, message) = ("high".to_owned(), "666".to_owned());
                alarms.push(Alarm { series, time, edge: Edge::Raised, name, message, value });
            }
        }
        READINGS.set(so_far);
        Output { readings: Readings::Replaced(batch), alarms }
    }
}

impl state::Guest for Component {
    fn snapshot() -> Vec<u8> {
        READINGS.get().to_le_bytes().to_vec()
    }

    fn restore(snapshot: Vec<u8>) -> Result<(), String> {
        READINGS.set(u64::from_le_bytes(snapshot.try_into().map_err(|_| "no eight bytes")?));
        Ok(())
    }
}
