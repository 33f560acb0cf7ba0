//! The component's exports: one [`Monitor`], since the gateway makes one instance and calls it from one thread.

use std::cell::RefCell;

use crate::monitor::{Calibrated, Monitor, Rows, Verdict};
use crate::rules::Rules;
use crate::snapshot;

use self::bindings::exports::frond::telemetry::processor::{Batch, Output, Series};
use self::bindings::exports::frond::telemetry::{processor, state};
use self::bindings::frond::telemetry::types::{Alarm, Edge, Readings};

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/frond-telemetry.wit",
        world: "stateful",
    });
    use super::Component;
    export!(Component);
}

struct Component;

thread_local! {
    static MONITOR: RefCell<Monitor> = RefCell::default();
}

// === impl Component ===

impl processor::Guest for Component {
    fn configure(options: Vec<(String, String)>) -> Result<(), String> {
        let rules = Rules::parse(&options)?;
        MONITOR.set(Monitor::new(rules));
        Ok(())
    }

    fn announce(series: Vec<Series>) {
        MONITOR.with_borrow_mut(|monitor| {
            for Series { id, name, unit, .. } in series {
                monitor.announce(id, name, unit);
            }
        });
    }

    fn process(readings: Batch) -> Output {
        let rows = Rows { series: &readings.series, times: &readings.times, values: &readings.values };
        let Verdict { calibrated, events } = MONITOR.with_borrow_mut(|monitor| monitor.judge(rows));
        let alarms = events.into_iter().map(|event| Alarm {
            series: event.series,
            time: event.time,
            edge: if event.raised { Edge::Raised } else { Edge::Cleared },
            name: event.name,
            message: event.message,
            value: event.value,
        });
        let alarms = alarms.collect();
        let readings =
            calibrated.map_or(Readings::Unchanged, |new| Readings::Replaced(replace(readings, new)));
        Output { readings, alarms }
    }
}

impl state::Guest for Component {
    fn snapshot() -> Vec<u8> {
        MONITOR.with_borrow(|monitor| snapshot::encode(&monitor.state()))
    }

    fn restore(bytes: Vec<u8>) -> Result<(), String> {
        let state = snapshot::decode(&bytes)?;
        MONITOR.with_borrow_mut(|monitor| monitor.restore(state));
        Ok(())
    }
}

/// A calibrated reading is no whole number any more; the others keep their exact value.
fn replace(mut batch: Batch, new: Calibrated) -> Batch {
    if !batch.integers.is_empty() {
        let whole = |row: &u32| new.rows.binary_search(row).is_err();
        let kept = batch.integer_rows.iter().zip(&batch.integers).filter(|(row, _)| whole(row));
        (batch.integer_rows, batch.integers) = kept.unzip();
    }
    batch.values = new.values;
    batch
}
