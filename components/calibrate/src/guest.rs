//! The component's exports: one [`Calibrator`], since the gateway makes one instance and calls it from one thread.

use std::cell::RefCell;

use crate::calibrator::{Calibrator, Rows, Verdict};
use crate::rules::Rules;

use self::bindings::exports::frond::telemetry::processor::{self, Batch, Output, Series};
use self::bindings::frond::telemetry::log::{self, Level};
use self::bindings::frond::telemetry::registry;
use self::bindings::frond::telemetry::types::Readings;

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/frond-telemetry.wit",
        world: "stateless",
    });
    use super::Component;
    export!(Component);
}

struct Component;

thread_local! {
    static CALIBRATOR: RefCell<Option<Calibrator>> = const { RefCell::new(None) };
}

fn with<T>(work: impl FnOnce(&mut Calibrator) -> T) -> T {
    CALIBRATOR.with_borrow_mut(|calibrator| {
        work(calibrator.as_mut().expect("the gateway configures before anything else"))
    })
}

// === impl Component ===

impl processor::Guest for Component {
    fn configure(options: Vec<(String, String)>) -> Result<(), String> {
        CALIBRATOR.set(Some(Calibrator::new(Rules::parse(&options)?)));
        Ok(())
    }

    fn announce(series: Vec<Series>) {
        for Series { id, name, unit, .. } in series {
            if let Err(why) = with(|calibrator| calibrator.announce(id, &name, &unit)) {
                log::write(Level::Warn, &format!("{name} passes as it comes: {why}"));
            }
        }
    }

    fn process(mut batch: Batch) -> Output {
        let rows = Rows { series: batch.series, values: batch.values };
        let readings = match with(|calibrator| calibrator.calibrate(&rows, number)) {
            Verdict::Unchanged => Readings::Unchanged,
            Verdict::Changed { rows, changed } => {
                (batch.series, batch.values) = (rows.series, rows.values);
                // A calibrated reading is no whole number any more; the others keep their exact value.
                let whole = |row: &u32| changed.binary_search(row).is_err();
                let kept = batch.integer_rows.iter().zip(&batch.integers).filter(|(row, _)| whole(row));
                (batch.integer_rows, batch.integers) = kept.unzip();
                Readings::Replaced(batch)
            }
        };
        Output { readings, alarms: Vec::new() }
    }
}

/// The number of a series of the component's own.
fn number(name: &str, unit: &str) -> Option<u32> {
    let number = registry::register(name, unit);
    if let Err(why) = &number {
        log::write(
            Level::Warn,
            &format!("there is no series {name}, so its readings pass as they come: {why}"),
        );
    }
    number.ok()
}
